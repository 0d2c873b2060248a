"""How many test cases passed, read from what the test programs print."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree


@dataclasses.dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    problems: list = dataclasses.field(default_factory=list)  # what failed, one line each

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.problems += other.problems

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def failure(what):
    return Counts(failed=1, problems=[what])


def first_int(pattern, text):
    match = re.search(pattern, text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def googletest(output):
    """None where `output` is not GoogleTest's."""
    if not re.search(r"^\[=+\] \d+ tests? from \d+ test suites? ran", output, re.MULTILINE):
        return None
    problems = re.findall(r"^\[  FAILED  \] ([\w/]+\.[\w/]+)(?:, where .*)?$", output, re.MULTILINE)
    return Counts(first_int(r"^\[  PASSED  \] (\d+) test", output),
                  first_int(r"^\[  FAILED  \] (\d+) test", output),
                  first_int(r"^\[  SKIPPED \] (\d+) test", output), sorted(set(problems)))


def unittest(output):
    """None where `output` is not that of Python's unittest."""
    match = re.search(r"^Ran (\d+) tests? in .*\n\n(?:OK|FAILED)(?: \((.*)\))?$", output,
                      re.MULTILINE)
    if not match:
        return None
    parts = dict(re.findall(r"(\w+)=(\d+)", match.group(2) or ""))
    failed = int(parts.get("failures", 0)) + int(parts.get("errors", 0))
    skipped = int(parts.get("skipped", 0))
    problems = re.findall(r"^(?:FAIL|ERROR): (.*)$", output, re.MULTILINE)
    return Counts(max(0, int(match.group(1)) - failed - skipped), failed, skipped, problems)


def ctest(report):
    """Reads the JUnit file that `ctest --output-junit` wrote. A program counts its cases, or
    itself where it has none to tell of; one that died midway counts as a failure more."""
    total = Counts()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        output = case.findtext("system-out") or ""
        if status == "disabled":
            counts = Counts(skipped=1)
        elif status == "notrun":
            counts = failure("did not run")
        else:
            counts = googletest(output) or unittest(output)
            if counts is None:
                counts = Counts(passed=1) if status == "run" else failure(name)
            elif status == "fail" and not counts.failed:
                counts.add(failure("ended badly"))
        counts.problems = [p if p == name else f"{name}: {p}" for p in counts.problems]
        total.add(counts)
    return total
