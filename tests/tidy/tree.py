"""The files that tidy reads, and their text with comments and literals blanked out."""

import dataclasses
import os
import re
import subprocess

CPP = (".h", ".cc", ".cu", ".cuh")
HASH_COMMENTS = (".py", ".sh", ".cmake", ".yaml", ".yml", ".txt", ".toml")
SLASH_COMMENTS = CPP + (".rs", ".proto")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One broken rule: where, what, and what to do about it."""

    path: str
    line: int  # from 1
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


class File:
    """One text file of the tree, by its path relative to the root."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.lines = text.splitlines()
        self.suffix = os.path.splitext(path)[1]
        if not self.suffix and text.startswith("#!"):
            self.suffix = ".py" if "python" in self.lines[0] else ".sh"
        self._code = None

    @property
    def code(self):
        """The text with comments blanked, line structure kept; string literals stay."""
        if self._code is None:
            if self.suffix in SLASH_COMMENTS:
                self._code = blank(self.text, SLASH_COMMENT)
            elif self.suffix in HASH_COMMENTS:
                self._code = blank(self.text, HASH_COMMENT)
            else:
                self._code = self.text
        return self._code

    def bare_code(self):
        """As `code`, with string and character literals blanked too."""
        if self.suffix == ".rs":  # A quote may begin a lifetime, which has no end.
            return blank(self.code, STRING)
        return blank(self.code, STRING_OR_CHAR if self.suffix in SLASH_COMMENTS else PY_STRING)


RAW_STRING = r'R"(?P<tag>[^\s()\\]{0,16})\((?:.|\n)*?\)(?P=tag)"'
PLAIN_STRING = r'"(?:\\.|[^"\\\n])*"'
CHAR = r"(?<![0-9a-zA-Z_])'(?:\\[^\n]{1,8}?|[^'\\\n])'"
# Each pattern matches what must be kept first (group `keep`), so that a comment mark inside a
# literal is not one.
SLASH_COMMENT = re.compile(
    rf"(?P<keep>{RAW_STRING}|{PLAIN_STRING}|{CHAR})|//[^\n]*|/\*(?:.|\n)*?\*/")
PY_STRING = re.compile(r'"{3}(?:.|\n)*?"{3}' + rf"|'(?:\\.|[^'\\\n])*'|{PLAIN_STRING}")
HASH_COMMENT = re.compile(rf"(?P<keep>{PY_STRING.pattern})|(?:(?<=\s)|^)#[^\n]*", re.MULTILINE)
STRING = re.compile(rf"{RAW_STRING}|{PLAIN_STRING}")
STRING_OR_CHAR = re.compile(rf"{RAW_STRING}|{PLAIN_STRING}|{CHAR}")


def blank(text, pattern):
    """`text` with each match turned into spaces, newlines kept; group `keep` is left alone."""

    def spaces(match):
        if match.groupdict().get("keep") is not None:
            return match.group(0)
        return re.sub(r"[^\n]", " ", match.group(0))

    return pattern.sub(spaces, text)


def read_tree(root):
    """Every text file that is committed or could be: what .gitignore names is left out."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True).stdout
    files = []
    for path in sorted(set(listing.split("\0")) - {""}):
        full = os.path.join(root, path)
        if os.path.islink(full) or not os.path.isfile(full):
            continue
        try:
            with open(full, encoding="utf-8") as f:
                files.append(File(path, f.read()))
        except UnicodeDecodeError:
            continue  # Not text: a golden file, for one.
    return files
