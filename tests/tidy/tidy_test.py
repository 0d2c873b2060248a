"""Each rule of tidy fires on what breaks it, at the right line, and leaves its neighbour alone."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import rules
import tidy
from tree import File

CMAKE_TABLE = File("cmake/Tandem.cmake", 'set(TANDEM_MAY_USE_base proto)\n'
                   'set(TANDEM_MAY_USE_proto "")\n'
                   'set(TANDEM_MAY_USE_router base proto)\n'
                   'set(TANDEM_MAY_USE_worker base proto)\n')


def found(rule, *files):
    return [(f.path, f.line) for f in rule(files)]


def cpp(path, body):
    return File(path, "#pragma once\n" + body)


class SizeTest(unittest.TestCase):

    def test_a_file_of_501_lines_is_too_long(self):
        self.assertEqual(found(rules.file_size, File("base/a.cc", "int x;\n" * 500)), [])
        self.assertEqual(found(rules.file_size, File("base/a.cc", "int x;\n" * 501)),
                         [("base/a.cc", 501)])

    def test_a_cpp_function_of_71_lines_is_too_long(self):
        for body, fires in ((68, False), (69, True)):
            text = ("namespace a {\nclass B : public C<int(int)> {\n  int F(int x) const {\n" +
                    "    if (x) { x = '{'; }  // {\n" * body + "  }\n};\n}\n")
            self.assertEqual(found(rules.function_size, File("base/a.cc", text)),
                             [("base/a.cc", 3)] if fires else [])

    def test_a_class_or_table_may_be_longer_than_a_function(self):
        text = "struct A {\n" + "  int F() { return 1; }\n" * 80 + "};\n"
        text += "constexpr int kTable[] = {\n" + "    F(1),\n" * 80 + "};\n"
        self.assertEqual(found(rules.function_size, File("base/a.h", text)), [])

    def test_kernels_may_be_long(self):
        text = "void F(int x) {\n" + "  ++x;\n" * 80 + "}\n"
        self.assertEqual(found(rules.function_size, File("worker/backend/cpu/a.cc", text)), [])
        self.assertEqual(len(found(rules.function_size, File("worker/engine/a.cc", text))), 1)

    def test_python_and_rust_functions_are_measured(self):
        python = "def f():\n" + "    g()\n" * 70
        self.assertEqual(found(rules.function_size, File("tests/a.py", python)),
                         [("tests/a.py", 1)])
        rust = "impl A {\n    fn f<'a>(x: &'a str) {\n" + "        g();\n" * 69 + "    }\n}\n"
        self.assertEqual(found(rules.function_size, File("text/src/a.rs", rust)),
                         [("text/src/a.rs", 2)])

    def test_a_line_of_101_columns_is_too_wide(self):
        self.assertEqual(found(rules.line_width, File("a.cc", "x" * 100 + "\n" + "y" * 101)),
                         [("a.cc", 2)])

    def test_a_table_laid_out_by_hand_may_be_wide(self):
        text = "// clang-format off\n" + "x" * 120 + "\n// clang-format on\n" + "y" * 120
        self.assertEqual(found(rules.line_width, File("a.cc", text)), [("a.cc", 4)])


class IncludeTest(unittest.TestCase):

    def test_a_header_begins_with_pragma_once(self):
        self.assertEqual(found(rules.pragma_once, File("a.h", "// Why.\n#pragma once\n")), [])
        self.assertEqual(found(rules.pragma_once, File("a.h", "#include <vector>\n")), [("a.h", 1)])

    def test_an_include_that_points_up_is_refused(self):
        up = cpp("base/a.h", '#include "base/b.h"\n#include "router/c.h"\n')
        self.assertEqual(found(rules.layers, CMAKE_TABLE, up), [("base/a.h", 3)])

    def test_generated_headers_belong_to_proto(self):
        proto = cpp("proto/a.h", '#include "base/b.h"\n')
        base = cpp("base/a.h", '#include "tandem/config/v1/a.pb.h"\n')
        self.assertEqual(found(rules.layers, CMAKE_TABLE, proto, base), [("proto/a.h", 2)])

    def test_the_steps_of_the_router_never_include_one_another(self):
        bad = cpp("router/prompt/a.h", '#include "router/placement/b.h"\n')
        good = cpp("router/api/a.h", '#include "router/placement/b.h"\n')
        self.assertEqual(found(rules.layers, CMAKE_TABLE, bad, good), [("router/prompt/a.h", 2)])

    def test_an_include_in_a_comment_counts_for_nothing(self):
        text = cpp("base/a.h", '/*\n#include "router/c.h"\n*/\n')
        self.assertEqual(found(rules.layers, CMAKE_TABLE, text), [])


class OrphanTest(unittest.TestCase):
    LIST = File("tests/base/CMakeLists.txt", "tandem_test(t SRCS a_test.cc sub/b_test.cc)\n"
                "# c_test.cc\n")

    def test_a_source_that_no_target_names_is_reported(self):
        files = [File(f"tests/base/{name}", "") for name in
                 ("a_test.cc", "sub/b_test.cc", "c_test.cc", "test.cc", "d_test.py")]
        self.assertEqual(found(rules.orphans, self.LIST, *files),
                         [("tests/base/c_test.cc", 1), ("tests/base/test.cc", 1),
                          ("tests/base/d_test.py", 1)])

    def test_a_python_module_that_is_no_test_needs_no_target(self):
        self.assertEqual(found(rules.orphans, self.LIST, File("tests/base/a.py", "")), [])


class WordTest(unittest.TestCase):

    def test_banned_words_are_found_in_comments_too(self):
        for word in ("TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK"):
            self.assertEqual(found(rules.banned_words, File("a.md", f"fine\n({word}: x)\n")),
                             [("a.md", 2)], word)
        self.assertEqual(found(rules.banned_words, File("a.md", "HACKS and methods\n")), [])

    def test_license_is_spelt_one_way_in_code_and_file_names(self):
        word = "licen" "ce"
        self.assertEqual(found(rules.license_spelling, File("a.cc", f"int x;\nint {word};\n")),
                         [("a.cc", 2)])
        self.assertEqual(found(rules.license_spelling, File(f"docs/{word}.md", "")),
                         [(f"docs/{word}.md", 1)])
        prose = File("a.cc", f"int license;  // the model's {word}\n")
        self.assertEqual(found(rules.license_spelling, prose), [])

    def test_paths_of_one_machine_are_refused(self):
        for path in ("/wo" "rk/x", "/ro" "ot/.cache", "a/.lib" "rary"):
            self.assertEqual(found(rules.workplace_paths, File("a.md", f"x\nsee {path}\n")),
                             [("a.md", 2)], path)
        self.assertEqual(found(rules.workplace_paths, File("a.md", "frame" "wo" "rk/x\n")), [])

    def test_a_page_may_name_only_tests_that_are_there(self):
        test = File("tests/a/b_test.cc", "TEST(A, ThisIsSo) {}\n")
        page = File("docs/A.md", "x\n| a/b_test.cc::ThisIsSo |\n| a/b_test.cc::ThisIs |\n"
                    "| a/c_test.cc::ThisIsSo |\n")
        self.assertEqual(found(rules.named_tests, test, page), [("docs/A.md", 3), ("docs/A.md", 4)])

    def test_names_that_say_nothing_are_refused(self):
        for path in ("base/string_utils.h", "common/a.h", "tests/helpers/a.py"):
            self.assertEqual(found(rules.banned_names, File(path, "")), [(path, 1)], path)
        for line in ("class BlockManager {", "namespace utils {", "struct FooHelper;",
                     "tandem_library(base_util SRCS a.cc)"):
            self.assertEqual(found(rules.banned_names, File("base/a.cc", "\n" + line)),
                             [("base/a.cc", 2)], line)

    def test_names_that_only_resemble_them_are_not(self):
        for line in ("class CommonPrefix {}", "// a class Manager", "std::common_type_t<A> x;"):
            self.assertEqual(found(rules.banned_names, File("base/a.cc", line)), [], line)

    def test_python_that_does_not_parse_is_reported(self):
        self.assertEqual(found(rules.python_compiles, File("a.py", "x = 1\ndef\n")), [("a.py", 2)])


class CommandTest(unittest.TestCase):

    def run_on(self, path, text):
        with tempfile.TemporaryDirectory() as root:
            subprocess.run(["git", "init", "-q"], cwd=root, check=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
            out = io.StringIO()
            with mock.patch.object(sys, "argv", ["tidy", root]), contextlib.redirect_stdout(out):
                return tidy.main(), out.getvalue()

    def test_a_finding_fails_the_run_and_names_file_line_and_fix(self):
        code, out = self.run_on("a.py", "x = 1\n# TO" "DO later\n")
        self.assertEqual(code, 1)
        self.assertIn("a.py:2: [banned-word] TO" "DO: do it now", out)

    def test_a_clean_tree_passes(self):
        self.assertEqual(self.run_on("a.py", "x = 1\n")[0], 0)

    @unittest.skipUnless(tidy.shutil.which("clang-format-19"), "clang-format-19 is not installed")
    def test_a_badly_formatted_file_is_named(self):
        code, out = self.run_on("a.h", "#pragma once\nint   x ;\n")
        self.assertEqual(code, 1)
        self.assertIn("a.h:2: [format] run clang-format-19 -i a.h", out)


if __name__ == "__main__":
    unittest.main()
