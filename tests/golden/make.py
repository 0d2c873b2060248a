#!/usr/bin/env python3
"""Makes the golden files that tests/golden/README.md describes, with transformers on the CPU.

  python3 -m venv /tmp/golden && /tmp/golden/bin/pip install -r requirements.txt
  /tmp/golden/bin/python make.py tiny        # the tiny models: some minutes; NAMEs: only those
  /tmp/golden/bin/python make.py blocks      # stored blocks and their values
  /tmp/golden/bin/python make.py text        # real tokenizers and templates: after fetch_text.py
  /tmp/golden/bin/python make.py smollm2     # the default model's oracle: some minutes
"""
import argparse
import shutil
import zlib
from pathlib import Path

import torch

import blocks
import gguf_files
import oracle
import text
import tiny
from variants import VARIANTS, Variant

HERE = Path(__file__).resolve().parent


def make_variant(variant: Variant) -> None:
    seed = zlib.crc32(variant.name.encode())
    folder = HERE / variant.family / variant.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = tiny.build(tiny.config_of(variant))
    tiny.randomise(model, seed)
    if variant.gguf_type:
        gguf_files.write_gguf(folder / "model.gguf", model, variant.gguf_type,
                              variant.gguf_version)
    else:
        model = tiny.write_folder(folder, variant, model)
    facts, logits = tiny.expectation(model, seed)
    changes = tiny.check_mutations(variant, model, facts, logits)
    tiny.write_expectation(folder, facts, logits)
    print(f"{variant.name}: least gap {min(facts['gaps']):.3f}, mutations move the logits by",
          " ".join(f"{change:.2f}" for change in changes) or "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tiny", "blocks", "text", "smollm2"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="tiny models, instead of all")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # one order of summation, and small matrices gain nothing by more
    if asked.what == "tiny":
        for variant in VARIANTS:
            if not asked.names or variant.name in asked.names:
                make_variant(variant)
    elif asked.what == "blocks":
        blocks.make(HERE / "blocks")
    elif asked.what == "text":
        text.make()
    else:
        oracle.make(HERE / "smollm2")


if __name__ == "__main__":
    main()
