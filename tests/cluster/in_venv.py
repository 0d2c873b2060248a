"""Runs a test of this folder under a Python that has grpcio and the contracts' messages.

    python3 tests/cluster/in_venv.py [FILE_test.py [ARGUMENTS]]

Makes that Python first where it is missing, in build/tools: the only time that the network is
asked. Without a file it does nothing else.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TOOLS = os.path.join(ROOT, "build", "tools")
PROTOS = ("google/rpc/status.proto", "google/rpc/error_details.proto",
          "tandem/inference/v1/sampling.proto", "tandem/inference/v1/inference.proto")


def digest():
    """Of all that the environment is made from; a change makes a new one."""
    sha = hashlib.sha256(sys.version.encode())
    for path in [os.path.join(HERE, "requirements.txt")] + [
            os.path.join(ROOT, "proto", p) for p in PROTOS]:
        with open(path, "rb") as f:
            sha.update(f.read())
    return sha.hexdigest()[:12]


def make(folder):
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = os.path.join(folder, "bin", "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                    "-r", os.path.join(HERE, "requirements.txt")], check=True)
    messages = os.path.join(folder, "messages")
    os.makedirs(messages)
    subprocess.run([python, "-m", "grpc_tools.protoc", "-I", os.path.join(ROOT, "proto"),
                    f"--python_out={messages}", f"--grpc_python_out={messages}", *PROTOS],
                   check=True)


def environment():
    """The folder of the environment, made once however many tests ask for it at the same time."""
    folder = os.path.join(TOOLS, "python-" + digest())
    done = os.path.join(folder, "done")
    os.makedirs(TOOLS, exist_ok=True)
    with open(os.path.join(TOOLS, "python.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(done):
            make(folder)
            with open(done, "w", encoding="utf-8"):
                pass
    return folder


def main():
    folder = environment()
    if len(sys.argv) < 2:
        return
    python = os.path.join(folder, "bin", "python")
    os.environ["PYTHONPATH"] = os.pathsep.join([os.path.join(folder, "messages"), HERE])
    test = os.path.join(HERE, sys.argv[1])
    os.execv(python, [python, test, *sys.argv[2:]])


if __name__ == "__main__":
    main()
