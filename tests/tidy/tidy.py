"""Style as a test: prints file:line, the rule and the fix for everything that breaks one.

    python3 tests/tidy/tidy.py [ROOT]
"""

import os
import re
import shutil
import subprocess
import sys

import rules
from tree import CPP, Finding, read_tree


def clang_format(root, files):
    """Every C++ file is as clang-format-19 writes it; left out where that is not installed."""
    binary = shutil.which("clang-format-19")
    paths = [f.path for f in files if f.suffix in CPP]
    if not binary or not paths:
        return
    result = subprocess.run([binary, "--dry-run", *paths], cwd=root, capture_output=True, text=True)
    seen = set()
    for match in re.finditer(r"^(.+?):(\d+):\d+: warning:", result.stderr, re.MULTILINE):
        path, line = match.groups()
        if path not in seen:
            seen.add(path)
            yield Finding(path, int(line), "format", f"run clang-format-19 -i {path}")
    if result.returncode != 0 and not seen:
        yield Finding(".clang-format", 1, "format", result.stderr.strip())


def check(root):
    files = read_tree(root)
    findings = [finding for rule in rules.RULES for finding in rule(files)]
    findings.extend(clang_format(root, files))
    return len(files), sorted(findings, key=lambda f: (f.path, f.line, f.rule))


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    count, findings = check(os.path.abspath(root))
    for finding in findings:
        print(finding)
    print(f"tidy: {count} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
