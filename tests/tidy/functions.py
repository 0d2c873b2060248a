"""Finds functions and their lengths, without a compiler."""

import ast
import re

NOT_A_FUNCTION = re.compile(
    r"\b(?:namespace|class|struct|union|enum|extern|trait|impl|mod)\b(?![^{]*\)\s*(?:const|->|$))"
    r"|^\s*(?:if|for|while|switch|do|else|catch|try|loop|match|unsafe|return)\b"
    r"|=\s*$")


def cpp_functions(code):
    """Yields (first line, lines) of each outermost function in C++ or Rust code that has its
    comments and literals blanked. A lambda counts for the function around it."""
    depth_of_function = None
    head_start = 0  # where the text before the next brace begins
    depth = 0
    first = 0
    for match in re.finditer(r"[{};]|^[ \t]*#[^\n]*(?:\\\n[^\n]*)*", code, re.MULTILINE):
        mark = match.group(0)
        if mark == "{":
            head = code[head_start:match.start()]
            if depth_of_function is None and is_function_head(head):
                depth_of_function = depth
                first = line_of(code, head_start + len(head) - len(head.lstrip()))
            depth += 1
        elif mark == "}":
            depth -= 1
            if depth == depth_of_function:
                yield first, line_of(code, match.start()) - first + 1
                depth_of_function = None
        # A semicolon inside the brackets of a `for` can't be a head's start: heads of blocks in a
        # function are never asked for.
        head_start = match.end()


def is_function_head(head):
    head = head.strip()
    return "(" in head and ")" in head and not NOT_A_FUNCTION.search(head)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def python_functions(text):
    """Yields (first line, lines) of each function in Python source."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno - node.lineno + 1
