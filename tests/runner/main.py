"""tests/run after the set-up: chooses the steps, runs them, sums them up."""

import re
import sys
import time

import steps
from counts import Counts, failure

# The order is by how soon a step tells something.
ALL = {
    "lint": steps.lint,
    "asan": steps.asan,
    "fuzz": steps.fuzz,
    "tsan": steps.tsan,
}


def choose(tier, pattern):
    """[(name, callable)] for the tier and the filter."""
    dev = ("dev", lambda: steps.dev(tier, None))
    if not pattern:
        return [dev] + (list(ALL.items()) if tier == "all" else [])
    named = [(n, f) for n, f in [dev, *ALL.items()] if re.fullmatch(pattern, n)]
    return named or [("dev", lambda: steps.dev(tier, pattern))]


def main(arguments):
    tier = arguments.pop(0) if arguments and arguments[0] in ("fast", "all") else "all"
    if len(arguments) > 1:
        sys.exit("tests/run [fast|all] [FILTER]: too many arguments")
    total = Counts()
    for name, step in choose(tier, arguments[0] if arguments else None):
        start = time.monotonic()
        steps.say(f"==> {name}")
        try:
            found = step()
        except Exception as error:  # pylint: disable=broad-except
            found = failure(f"{name}: {type(error).__name__}: {error}")
        steps.say(f"==> {name}: {found} in {time.monotonic() - start:.0f} s")
        total.add(found)
    if not total.passed and not total.failed:
        total.add(failure("no test ran"))
    for problem in total.problems:
        steps.say(f"FAILED {problem}")
    steps.say(str(total))
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
