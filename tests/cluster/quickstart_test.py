"""deploy/quickstart where everything is built already: twice the same answer, and what it says."""

import os
import re
import subprocess
import tempfile
import unittest

import tiny_model
from cluster import BIN, PATIENCE

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUMMARY = (r"router 127\.0\.0\.1:\d+ -> prefill 127\.0\.0\.1:\d+ -> decode 127\.0\.0\.1:\d+ \| "
           r"\d+ prompt \+ \d+ completion tokens \| TTFT \d+ ms \| [\d.]+ tokens/s \| "
           r"[\d.]+ k?B of KV handed over")


def quickstart(*arguments, status=0):
    result = subprocess.run([os.path.join(ROOT, "deploy", "quickstart"), *arguments],
                            capture_output=True, text=True, timeout=300 * PATIENCE, check=False,
                            env={**os.environ, "TANDEM_BUILD": os.path.dirname(BIN)})
    if result.returncode != status:
        raise AssertionError(f"it ended with {result.returncode}:\n{result.stderr}")
    return result


class QuickstartTest(unittest.TestCase):

    def test_each_run_answers_and_ends_with_who_served_it(self):
        answers = set()
        with tempfile.TemporaryDirectory() as folder:
            model = tiny_model.write(os.path.join(folder, "tiny"))
            for _ in range(2):
                result = quickstart("--model", model, "hello")
                answers.add(result.stdout)
                *stages, last = result.stderr.splitlines()
                self.assertRegex(last, f"^{SUMMARY}$")
                for stage in ("built", "serving", "answered", "stopped"):
                    self.assertTrue(any(re.fullmatch(f"quickstart: {stage}: \\d+ ms", line)
                                        for line in stages), f"{stage} in {result.stderr}")
        self.assertEqual(len(answers), 1)

    def test_a_model_that_is_not_there_is_told_before_anything_starts(self):
        result = quickstart("--model", "/nothing/there", "hello", status=1)
        self.assertIn("there is no model at /nothing/there", result.stderr)
        self.assertNotIn("serving", result.stderr)


if __name__ == "__main__":
    unittest.main()
