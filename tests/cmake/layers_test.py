"""A dependency against the arrows of docs/ARCHITECTURE.md stops cmake, whatever comes first."""

import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(layers LANGUAGES NONE)
include(Tandem.cmake)
foreach(folder base kvstore router)
  add_subdirectory(${folder})
endforeach()
"""


class LayersTest(unittest.TestCase):

    def configure(self, **libraries):
        """Configures a project with one library without sources a folder, with these DEPS."""
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(os.path.join(ROOT, "cmake", "Tandem.cmake"), folder)
            with open(os.path.join(folder, "CMakeLists.txt"), "w", encoding="utf-8") as f:
                f.write(PROJECT)
            for name in ("base", "kvstore", "router"):
                os.mkdir(os.path.join(folder, name))
                path = os.path.join(folder, name, "CMakeLists.txt")
                with open(path, "w", encoding="utf-8") as f:
                    f.write(f"tandem_library({name}_x DEPS {libraries.get(name, '')})\n")
            done = subprocess.run(["cmake", "-G", "Ninja", "-S", folder, "-B",
                                   os.path.join(folder, "build")],
                                  capture_output=True, text=True, check=False)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def test_edges_that_point_down_pass(self):
        status, output = self.configure(kvstore="base_x", router="base_x")
        self.assertEqual(status, 0, output)

    def test_an_edge_up_to_a_folder_that_comes_later_stops_cmake(self):
        status, output = self.configure(base="router_x")
        self.assertNotEqual(status, 0)
        self.assertIn("base_x (base/) may not use router_x (router/)", output)

    def test_an_edge_across_to_a_folder_that_came_before_stops_cmake(self):
        status, output = self.configure(router="kvstore_x")
        self.assertNotEqual(status, 0)
        self.assertIn("router_x (router/) may not use kvstore_x (kvstore/)", output)


if __name__ == "__main__":
    unittest.main()
