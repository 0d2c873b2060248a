"""Stored blocks of every quantised type, and what the gguf package reads in them."""
from pathlib import Path

import gguf
import numpy as np

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q4_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # others: [0]
BLOCKS = 6


def make(folder: Path) -> None:
    """Any bytes but for the halves, which are finite: drawn, negative, subnormal and zero ones."""
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(5)
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        stored = draw.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
        for at in HALVES.get(name, [0]):
            halves = draw.normal(0, 0.5, BLOCKS).astype(np.float16)
            halves[0], halves[1], halves[2] = 0, 3e-7, -1
            stored[:, at:at + 2] = halves.view(np.uint8).reshape(BLOCKS, 2)
        values = gguf.quants.dequantize(stored, kind)
        (folder / f"{name}.bin").write_bytes(stored.tobytes())
        (folder / f"{name}.f32").write_bytes(values.astype("<f4").tobytes())
