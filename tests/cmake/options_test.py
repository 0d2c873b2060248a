"""An option that can't be honoured stops cmake, and never becomes another build silently."""

import os
import subprocess
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


class OptionsTest(unittest.TestCase):

    def test_cuda_is_refused_until_there_is_a_backend(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja",
                                   "-DTANDEM_CUDA=ON"],
                                  capture_output=True, text=True, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no CUDA backend yet", " ".join(done.stderr.split()))


if __name__ == "__main__":
    unittest.main()
