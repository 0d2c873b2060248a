"""The sums of tests/run: a failure can't be lost between a test program and the last line."""

import os
import tempfile
import unittest

import counts

GTEST_MIXED = """
[==========] 3 tests from 2 test suites ran. (5 ms total)
[  PASSED  ] 1 test.
[  SKIPPED ] 1 test, listed below:
[  SKIPPED ] A.C
[  FAILED  ] 1 test, listed below:
[  FAILED  ] A.B/0, where GetParam() = 4
"""


class CountsTest(unittest.TestCase):

    def test_googletest_with_every_kind_of_result(self):
        found = counts.googletest(GTEST_MIXED)
        self.assertEqual((found.passed, found.failed, found.skipped), (1, 1, 1))
        self.assertEqual(found.problems, ["A.B/0"])

    def test_unittest_with_every_kind_of_result(self):
        output = ("FAIL: test_x (a.B)\nERROR: test_y (a.B)\n" + "-" * 70 +
                  "\nRan 9 tests in 0.1s\n\nFAILED (failures=1, errors=1, skipped=2)\n")
        found = counts.unittest(output)
        self.assertEqual((found.passed, found.failed, found.skipped), (5, 2, 2))
        self.assertEqual(counts.unittest("Ran 2 tests in 0.1s\n\nOK\n").passed, 2)

    def ctest(self, body):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.xml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(f"<testsuite>{body}</testsuite>")
            return counts.ctest(path)

    def test_ctest_sums_cases_and_programs(self):
        found = self.ctest(
            f'<testcase name="a" status="fail"><system-out>{GTEST_MIXED}</system-out></testcase>'
            '<testcase name="b" status="run"><system-out>fine</system-out></testcase>'
            '<testcase name="c" status="fail"><system-out>bad</system-out></testcase>'
            '<testcase name="d" status="disabled"/>'
            '<testcase name="e" status="notrun"/>')
        self.assertEqual((found.passed, found.failed, found.skipped), (2, 3, 2))
        self.assertEqual(found.problems, ["a: A.B/0", "c", "e: did not run"])

    def test_a_program_that_passes_its_cases_and_then_dies_has_failed(self):
        passed = "[==========] 3 tests from 1 test suite ran. (5 ms total)\n[  PASSED  ] 3 tests.\n"
        found = self.ctest(
            f'<testcase name="a" status="fail"><system-out>{passed}</system-out></testcase>')
        self.assertEqual((found.passed, found.failed), (3, 1))
        self.assertEqual(found.problems, ["a: ended badly"])


if __name__ == "__main__":
    unittest.main()
