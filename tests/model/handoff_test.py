"""Checks handoff.pml with spin: the protocol holds under each fault, not without its safeguards.

  handoff_test.py [TEST...]                           as ctest runs it
  handoff_test.py --check -DP_CRASHES=1 -DLOST=1      one setting, here with two faults: minutes
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "handoff.pml")

# Two at once have millions of states: LOST + TWICE + P_CRASHES held too, 6.8 million.
FAULTS = ["LOST", "TWICE", "SWAPPED", "P_CRASHES", "D_CRASHES", "LINK_BREAKS", "LATE_WRITES",
          "DEADLINES"]

# What each mutant takes away, and the setting in which that must show.
MUTANTS = {
    "BLOCKS_UNASKED": ["-DTWO"],           # D gives blocks to whom P has not started
    "COMPLETE_ALONE": [],                  # P does not wait for D's word
    "COMPLETE_EARLY": [],                  # D does not wait for the last frame
    "NOT_REPLACED": [],                    # a newer attempt does not end the older one
    "NO_TAG": [],                          # a frame goes to whoever fills
    "CHECK_FIRST": ["-DLATE_WRITES=1"],    # the digest is taken of the window, not of the copy
    "TELL_WHILE_COPYING": [],              # D's engine has its blocks back while they are written
    "TELL_WHILE_GATHERING": [],            # P's engine has its blocks back while they are read
    "TELL_TWICE": ["-DLINK_BREAKS=1"],     # the end of a link is told of what has ended
    "NO_LEASE": ["-DP_CRASHES=1"],         # a reservation lives as long as its sender likes
}


def check(*settings):
    """(errors, states, spin's output)"""
    with tempfile.TemporaryDirectory() as folder:
        def run(*command):
            done = subprocess.run(command, cwd=folder, text=True, check=False, timeout=900,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode != 0:
                raise AssertionError(f"{command[0]} failed:\n{done.stdout[-4000:]}")
            return done.stdout
        for name in ("handoff.pml", "handoff_tables.pml"):  # spin looks for includes where it runs
            shutil.copy(os.path.join(HERE, name), folder)
        run("spin", "-a", *settings, "handoff.pml")
        run("cc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=4000", "-o", "pan", "pan.c")
        output = run("./pan", "-m1000000")
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\S+) states, stored", output)
    cut = "max search depth too small" in output or "out of memory" in output
    if not errors or not states or cut:
        raise AssertionError(f"the search was not finished:\n{output}")
    return int(errors.group(1)), int(float(states.group(1))), output


class HandoffModelTest(unittest.TestCase):

    def holds(self, *settings):
        errors, states, output = check(*settings)
        self.assertEqual(errors, 0, output)
        print(f"{' '.join(settings) or 'no fault'}: {states} states")
        return states

    def test_two_requests_complete_where_each_side_has_room_for_one(self):
        self.holds("-DTWO")

    def test_two_attempts_at_once(self):
        self.assertGreater(self.holds(), 10_000)

    def test_a_mutant_is_caught_by_an_assertion_of_the_model(self):
        for name, settings in MUTANTS.items():
            with self.subTest(name):
                errors, _, output = check(f"-DMUTANT_{name}", *settings)
                self.assertEqual(errors, 1, "nothing shows that the safeguard is gone")
                self.assertIn("assertion violated", output)

    def test_every_mutant_of_the_model_is_in_the_list(self):
        with open(MODEL, encoding="utf-8") as f:
            named = re.findall(r"\bMUTANT_([A-Z_]+)$", f.read(), re.MULTILINE)
        self.assertEqual(set(named), set(MUTANTS))


def with_fault(fault):
    def test(self):
        self.holds(f"-D{fault}=1")
    return test


for one in FAULTS:
    setattr(HandoffModelTest, f"test_one_of_{one.lower()}", with_fault(one))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        print(check(*sys.argv[2:])[2])
    else:
        unittest.main()
