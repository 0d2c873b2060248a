#!/usr/bin/env python3
"""Writes the seeds of the model file fuzzers: small files that are whole, one a feature."""
import json
import struct
from pathlib import Path

SEEDS = Path(__file__).resolve().parent / "seeds"
UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def number(key: str, value: int) -> bytes:
    return pair(key, UINT32, struct.pack("<I", value))


def gguf(version: int, pairs: list[bytes], tensors: list[tuple], data: int) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs)
    for name, shape, kind, offset in tensors:
        head += text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)
    return head + bytes(-len(head) % 32 + data)


def model(family: str, tokens: int) -> list[bytes]:
    names = b"".join(text(f"t{i}") for i in range(tokens))
    scores = struct.pack(f"<{tokens}f", *range(tokens))
    kinds = struct.pack(f"<{tokens}I", *[1] * tokens)
    array = struct.pack
    return [
        pair("general.architecture", STRING, text(family)), number(f"{family}.block_count", 1),
        number(f"{family}.embedding_length", 32), number(f"{family}.feed_forward_length", 32),
        number(f"{family}.context_length", 64), number(f"{family}.attention.head_count", 2),
        pair(f"{family}.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5)),
        pair("tokenizer.ggml.tokens", ARRAY, array("<IQ", STRING, tokens) + names),
        pair("tokenizer.ggml.scores", ARRAY, array("<IQ", FLOAT32, tokens) + scores),
        pair("tokenizer.ggml.token_type", ARRAY, array("<IQ", UINT32, tokens) + kinds),
        pair("tokenizer.ggml.model", STRING, text("gpt2")),
        number("tokenizer.ggml.eos_token_id", 2),
        pair("tokenizer.ggml.add_bos_token", BOOL, b"\1"),
        pair("tokenizer.chat_template", STRING, text("{{ messages }}"))]


def safetensors(header: dict, data: int) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(data)


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def main() -> None:
    files = {
        "gguf_fuzz/empty": gguf(3, [], [], 0),
        "gguf_fuzz/v2": gguf(2, [pair("u", UINT64, bytes(8))], [("v", [4], 0, 0)], 16),
        "gguf_fuzz/types": gguf(3, [number("general.alignment", 64)], [
            ("f16", [8, 2], 1, 0), ("q4_0", [32], 2, 64), ("q4_1", [32], 3, 128),
            ("q8_0", [32, 2], 8, 192), ("bf16", [2, 2, 2, 2], 30, 320)], 352),
        "gguf_fuzz/k_types": gguf(3, [], [
            ("q4_k", [256, 2], 12, 0), ("q5_k", [256], 13, 288), ("q6_k", [256], 14, 480)], 704),
        "gguf_fuzz/qwen3": gguf(3, model("qwen3", 4) + [
            pair("qwen3.rope.scaling.type", STRING, text("yarn")),
            pair("qwen3.rope.scaling.factor", FLOAT32, struct.pack("<f", 4)),
            number("qwen3.rope.scaling.original_context_length", 64)], [
                ("blk.0.attn_q.bias", [32], 0, 0)], 128),
        "gguf_fuzz/llama": gguf(3, model("llama", 4), [("rope_freqs.weight", [8], 0, 0)], 32),
        "safetensors_fuzz/empty": safetensors({}, 0),
        "safetensors_fuzz/two": safetensors({
            "__metadata__": {"format": "pt"}, "a": entry("F32", [2, 2], 0, 16),
            "b": entry("BF16", [3], 16, 22)}, 22),
        "safetensors_fuzz/scalar": safetensors({"s": entry("I64", [], 0, 8)}, 8),
    }
    for name, content in files.items():
        path = SEEDS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
