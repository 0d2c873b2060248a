"""The rules, each a function from files to findings. docs/STYLE.md says why they are there."""

import ast
import os
import re

from functions import cpp_functions, line_of, python_functions
from tree import CPP, Finding

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_WIDTH_MAX = 100
CODE = CPP + (".rs", ".proto", ".py", ".sh", ".cmake")
# Kernels may be long where a comment says why.
KERNELS = re.compile(r"^worker/backend/|\.cuh?$")
# Folders of one layer that never include one another: a call's pipeline in router/api joins them.
APART = {"router": ("auth", "limits", "license", "usage", "prompt", "placement")}


def is_code(file):
    return file.suffix in CODE or os.path.basename(file.path) == "CMakeLists.txt"


def file_size(files):
    for file in files:
        if is_code(file) and len(file.lines) > FILE_LINES_MAX:
            yield Finding(file.path, FILE_LINES_MAX + 1, "file-size",
                          f"{len(file.lines)} lines; split it, {FILE_LINES_MAX} are the most")


def function_size(files):
    for file in files:
        if KERNELS.search(file.path):
            continue
        if file.suffix in CPP + (".rs",):
            functions = cpp_functions(file.bare_code())
        elif file.suffix == ".py":
            functions = python_functions(file.text)
        else:
            continue
        for line, lines in functions:
            if lines > FUNCTION_LINES_MAX:
                yield Finding(file.path, line, "function-size",
                              f"{lines} lines; split it, {FUNCTION_LINES_MAX} are the most")


def line_width(files):
    for file in files:
        if not is_code(file):
            continue
        table = False  # one laid out by hand, whose rows stay whole
        for number, line in enumerate(file.lines, 1):
            if "// clang-format o" in line:
                table = "// clang-format off" in line
            if len(line) > LINE_WIDTH_MAX and not table:
                yield Finding(file.path, number, "line-width",
                              f"{len(line)} columns; break it, {LINE_WIDTH_MAX} are the most")


def pragma_once(files):
    for file in files:
        if file.suffix not in (".h", ".cuh"):
            continue
        first = next((line for line in file.code.splitlines() if line.strip()), "")
        if first.strip() != "#pragma once":
            yield Finding(file.path, 1, "pragma-once", "begin the header with #pragma once")


def allowed_layers(files):
    """{layer: layers it may use}, from the table that cmake refuses edges by."""
    table = next((f for f in files if f.path == "cmake/Tandem.cmake"), None)
    rows = re.findall(r'set\(TANDEM_MAY_USE_(\w+) ([\w ]+|"")\)', table.code if table else "")
    return {layer: set(uses.replace('"', "").split()) for layer, uses in rows}


def layers(files):
    allowed = allowed_layers(files)
    for file in files:
        layer, _, below = file.path.partition("/")
        if file.suffix not in CPP or layer not in allowed:
            continue
        for match in re.finditer(r'^#include "([^"/]+)/([^"/]+)/?[^"]*"', file.code, re.MULTILINE):
            to, folder = match.groups()
            to = "proto" if to in ("tandem", "google") else to
            line = line_of(file.code, match.start())
            if to in allowed and to != layer and to not in allowed[layer]:
                yield Finding(file.path, line, "layers",
                              f"{layer}/ may not include {to}/; it may use: "
                              f"{' '.join(sorted(allowed[layer])) or 'nothing'}")
            mine, apart = below.partition("/")[0], APART.get(layer, ())
            if to == layer and mine in apart and folder in apart and mine != folder:
                yield Finding(file.path, line, "layers",
                              f"{layer}/{mine} and {layer}/{folder} never include one another; "
                              f"join them in {layer}/api")


def license_spelling(files):
    wrong = re.compile(f"licen{'ce'}", re.IGNORECASE)
    for file in files:
        if wrong.search(file.path):
            yield Finding(file.path, 1, "license", "in file names it is spelt 'license'")
        if not is_code(file):
            continue
        for match in wrong.finditer(file.code):
            yield Finding(file.path, line_of(file.code, match.start()), "license",
                          "in code it is spelt 'license'")


def orphans(files):
    """Every C++ source, and every Python test, is named by a CMakeLists.txt above it."""
    lists = {os.path.dirname(f.path): f.code.replace("${CMAKE_CURRENT_SOURCE_DIR}/", " ")
             for f in files if os.path.basename(f.path) == "CMakeLists.txt"}
    shared = "\n".join(f.code for f in files if f.path.startswith("cmake/"))
    lists[""] = lists.get("", "") + shared.replace("${PROJECT_SOURCE_DIR}/", " ")
    for file in files:
        test = file.path.startswith("tests/") and file.path.endswith("_test.py")
        if file.suffix not in (".cc", ".cu") and not test:
            continue
        folder, name = os.path.split(file.path)
        while True:
            text = lists.get(folder, "")
            if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.])", text):
                break
            if not folder:
                yield Finding(file.path, 1, "orphan",
                              "no CMakeLists.txt names it, so it is never built or run; add it")
                break
            folder, last = os.path.split(folder)
            name = f"{last}/{name}"


def banned_words(files):
    banned = re.compile(rf"\b(?:TO{'DO'}|FIX{'ME'}|XX{'X'}|HA{'CK'})\b")
    for file in files:
        if file.suffix == ".lock":
            continue
        for number, line in enumerate(file.lines, 1):
            match = banned.search(line)
            if match:
                yield Finding(file.path, number, "banned-word",
                              f"{match.group(0)}: do it now, or open an issue and say nothing here")


def workplace_paths(files):
    path = re.compile(rf"(?:^|[^a-z])/(?:wo{'rk'}|fa{'rm'}|ro{'ot'})/|\.lib{'rary'}")
    for file in files:
        if file.suffix == ".lock":
            continue
        for number, line in enumerate(file.lines, 1):
            if path.search(line):
                yield Finding(file.path, number, "absolute-path",
                              "a path of one machine; make it relative, or take it from a setting")


def banned_names(files):
    vague = "util|utils|common|helper|helpers|manager|mgr"
    part = re.compile(rf"(?:^|[_./-])(?:{vague})(?=$|[_./-])")
    camel = re.compile(r"(?:Utils?|Helpers?|Manager)(?=[A-Z]|$)")
    defines = re.compile(
        r"\b(?:class|struct|namespace|enum(?: class)?|def|fn|mod|trait|package|message|service"
        r"|tandem_(?:library|binary|test|proto|fuzz)\()\s*(?:\w+\([^)]*\)\s*)?([\w.]+)")
    for file in files:
        if part.search(file.path):
            yield Finding(file.path, 1, "name", "says nothing; name what the file is about")
        if not is_code(file):
            continue
        for match in defines.finditer(file.bare_code()):
            name = match.group(1)
            if part.search(name) or camel.search(name):
                yield Finding(file.path, line_of(file.code, match.start()), "name",
                              f"'{name}' says nothing; name what it does or holds")


def python_compiles(files):
    for file in files:
        if file.suffix == ".py":
            try:
                ast.parse(file.text)
            except SyntaxError as error:
                yield Finding(file.path, error.lineno or 1, "python", error.msg)


def named_tests(files):
    """`FILE::NAME` in a page names a test, by its file under tests/: it has to be there."""
    texts = {f.path: f.text for f in files if f.path.startswith("tests/")}
    named = re.compile(r"([\w/]+\.(?:py|cc))::(\w+)")
    for file in files:
        if file.suffix != ".md":
            continue
        for number, line in enumerate(file.lines, 1):
            for path, name in named.findall(line):
                if not re.search(rf"\b{name}\b", texts.get(f"tests/{path}", "")):
                    yield Finding(file.path, number, "named-test",
                                  f"there is no {name} in tests/{path}; name the test that is")


RULES = (python_compiles, file_size, function_size, line_width, pragma_once, layers,
         license_spelling, orphans, banned_words, workplace_paths, banned_names, named_tests)
