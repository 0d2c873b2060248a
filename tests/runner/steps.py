"""What tests/run does, one function a step. Each returns Counts."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time

import counts as counting
from counts import Counts, failure

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(ROOT, "build")
LOGS = os.path.join(BUILD, "logs")
TOOLS = os.path.join(BUILD, "tools")
JOBS = os.cpu_count() or 2
FUZZ_SECONDS = 60
GO_TOOLS = {
    "buf": "github.com/bufbuild/buf/cmd/buf@v1.75.0",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
}


def say(text):
    print(text, flush=True)


@contextlib.contextmanager
def timed(what):
    start = time.monotonic()
    say(f"    {what} ...")
    yield
    say(f"    {what}: {time.monotonic() - start:.0f} s")


def logged(log, command, cwd=ROOT, env=None):
    """Runs `command` with its output in LOGS/log; returns its exit status and the output."""
    os.makedirs(LOGS, exist_ok=True)
    path = os.path.join(LOGS, log + ".log")
    with open(path, "w+", encoding="utf-8", errors="replace") as f:
        status = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=f,
                                stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                check=False).returncode
        f.seek(0)
        output = f.read()
    if status != 0:
        say(f"    {' '.join(command[:4])} ... ended with {status}; the end of {path}:")
        say("\n".join("      | " + line for line in output.splitlines()[-40:]))
    return status, output


def build(preset, targets=()):
    """Configures and builds; returns None, or the failure."""
    if logged(f"{preset}-configure", ["cmake", "--preset", preset])[0] != 0:
        return failure(f"{preset}: cmake failed")
    with timed(f"building {preset}"):
        command = ["ninja", "-C", os.path.join(BUILD, preset), f"-j{JOBS}", *targets]
        if logged(f"{preset}-build", command)[0] != 0:
            return failure(f"{preset}: the build failed")
    return None


def ctest(preset, name, *selection, env=None):
    report = os.path.join(LOGS, f"{preset}-{name}.xml")
    with contextlib.suppress(FileNotFoundError):
        os.remove(report)
    with timed(f"tests: {preset} {name}"):
        _, output = logged(f"{preset}-{name}", [
            "ctest", "--test-dir", os.path.join(BUILD, preset), f"-j{JOBS}", "--output-on-failure",
            "--repeat", "until-pass:2",
            "--output-junit", report, "--test-output-size-passed", "10000000",
            "--test-output-size-failed", "10000000", *selection], env=env)
    # A second try keeps one unlucky moment of a busy machine from hiding everything else; what
    # needed it is named, to be mended.
    for program in sorted(set(re.findall(r"Test +#\d+: (\S+) \.*\*+(?:Failed|Timeout)", output))):
        say(f"    {program} did not pass at its first try; see {preset}-{name}.log")
    if not os.path.exists(report):
        return failure(f"{preset}: ctest did not run")
    return counting.ctest(report)


def tests_of(preset, *selection):
    """The names of the ctest programs that `selection` chooses."""
    listing = subprocess.run(
        ["ctest", "--test-dir", os.path.join(BUILD, preset), "-N", *selection],
        capture_output=True, text=True, check=False).stdout
    return re.findall(r"^\s*Test\s+#\d+: (\S+)", listing, re.MULTILINE)


class BrokenTool(Exception):
    """A tool that can't be built although its compiler is there."""


def go_tool(name):
    """The path of a tool that is built as a Go module; None where there is no Go."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    path = os.path.join(TOOLS, "bin", name)
    stamp = os.path.join(TOOLS, f"{name}.version")
    module = GO_TOOLS[name]
    with contextlib.suppress(FileNotFoundError), open(stamp, encoding="utf-8") as f:
        if f.read() == module and os.path.exists(path):
            return path
    if not go:
        return None
    with timed(f"building {name} from its Go module"):
        status, _ = logged(f"go-{name}", [go, "install", "-trimpath", module],
                           env={"GOBIN": os.path.join(TOOLS, "bin"), "CGO_ENABLED": "0"})
    if status != 0:
        raise BrokenTool(f"{name}: go install {module} failed")
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(module)
    return path


def dev(tier, program_filter):
    """The ordinary build and its tests, the fast tier first."""
    broken = build("dev")
    if broken:
        return broken
    if tier == "all" and not go_tool("grpcurl"):
        say("    there is no go here, so no grpcurl: its tests skip themselves")
    tiers = {"fast": ["-L", "^fast$"], "slow": ["-LE", "^fast$"]}
    if tier == "fast":
        del tiers["slow"]
    total = Counts()
    cases = program_filter and not tests_of("dev", "-R", program_filter)
    for name, selection in tiers.items():
        if cases:  # No program has such a name: take it for a part of the names of test cases.
            env = {"GTEST_FILTER": f"*{program_filter}*"}
            total.add(ctest("dev", name, *selection, "-E", "tidy|cluster|runner", env=env))
        else:
            chosen = ["-R", program_filter] if program_filter else []
            if tests_of("dev", *selection, *chosen):
                total.add(ctest("dev", name, *selection, *chosen))
            elif not chosen:
                total.add(failure(f"dev: the {name} tier is empty"))
    return total


def lint():
    """buf's STANDARD rules over the contracts; proto/buf.yaml lists the exceptions."""
    buf = go_tool("buf")
    if not buf:
        say("    skipped: buf is built as a Go module, and there is no go here")
        return Counts(skipped=1)
    status, _ = logged("buf-lint", [buf, "lint"], cwd=os.path.join(ROOT, "proto"))
    return Counts(passed=1) if status == 0 else failure("buf lint")


def asan():
    """clang with -Wthread-safety -Werror, AddressSanitizer and UndefinedBehaviorSanitizer: builds
    everything, then runs what is not labelled noasan."""
    broken = build("asan")
    if broken:
        return broken
    found = ctest("asan", "tests", "-LE", "noasan", env={
        "UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_stack_use_after_return=1"})
    found.passed += 1  # the build itself: clang's warnings are errors
    return found


def fuzz():
    """Every libFuzzer target for a minute, as many at once as there are cores. What they learn
    stays in build/fuzz for the next run."""
    broken = build("asan")
    if broken:
        return broken
    folder = os.path.join(BUILD, "asan", "bin")
    names = sorted(n for n in os.listdir(folder) if n.endswith("_fuzz"))
    if not names:
        return failure("fuzz: no target was built")
    total = Counts()
    with timed(f"fuzzing {len(names)} targets for {FUZZ_SECONDS} s each"):
        for first in range(0, len(names), JOBS):
            running = [(n, start_fuzz(folder, n)) for n in names[first:first + JOBS]]
            for name, (process, log) in running:
                status = process.wait()
                if status == 0:
                    total.add(Counts(passed=1))
                else:
                    total.add(failure(f"{name} ended with {status}; see {log}"))
    return total


def start_fuzz(folder, name):
    work = os.path.join(BUILD, "fuzz", name)
    os.makedirs(os.path.join(work, "corpus"), exist_ok=True)
    seeds = os.path.join(ROOT, "tests", "fuzz", "seeds", name)
    log = os.path.join(LOGS, f"{name}.log")
    command = [os.path.join(folder, name), f"-max_total_time={FUZZ_SECONDS}", "-timeout=20",
               "-rss_limit_mb=3000", "-print_final_stats=1",
               f"-artifact_prefix={work}/", os.path.join(work, "corpus")]
    if os.path.isdir(seeds):
        command.append(seeds)
    os.makedirs(LOGS, exist_ok=True)
    with open(log, "w", encoding="utf-8") as f:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f,
                                stderr=subprocess.STDOUT), log


def tsan():
    """ThreadSanitizer over the test programs without gRPC in them (label tsan)."""
    if logged("tsan-configure", ["cmake", "--preset", "tsan"])[0] != 0:
        return failure("tsan: cmake failed")
    names = tests_of("tsan", "-L", "^tsan$")
    if not names:
        return failure("tsan: no test has the label")
    return build("tsan", names) or ctest("tsan", "tests", "-L", "^tsan$")


if __name__ == "__main__":
    sys.exit("run tests/run")
