#!/usr/bin/env python3
"""Speed of Tandem's CPU backend and of llama.cpp on the same shapes, in turn, in one run.

    compare_llama.py --bin build/release/bin [--case smollm2,bf16,q8_0] [--threads 2] [--rounds 5]

Runs under a Python with `llama-cpp-python`, built natively, `gguf` and `numpy`:

    python3 -m venv V && CMAKE_ARGS=-DGGML_NATIVE=ON \\
        V/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36 gguf numpy

smollm2 is the default model's file (--model), read by both. bf16 and q8_0 are random weights of
Qwen3-0.6B's shape: a GGUF file, written once beside --cache, for llama.cpp, and the model in memory
of tandem-engine-bench. Each round measures one after the other; the table has medians and their
ratio. Prefill is 512 tokens, decode one sequence after them.
"""
import argparse
import ctypes
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import numpy as np

PROMPT = 512
DECODE = 32
SHAPE = dict(layers=28, dim=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072, vocab=151936)


def write_random_gguf(path, kind):
    """Random weights of Qwen3-0.6B's shape; norms are ones."""
    import gguf

    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(40960)
    writer.add_embedding_length(SHAPE["dim"])
    writer.add_block_count(SHAPE["layers"])
    writer.add_feed_forward_length(SHAPE["ffn"])
    writer.add_head_count(SHAPE["heads"])
    writer.add_head_count_kv(SHAPE["kv_heads"])
    writer.add_key_length(SHAPE["head_dim"])
    writer.add_value_length(SHAPE["head_dim"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(SHAPE["vocab"])
    quant = {"bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}[kind]
    random = np.random.default_rng(1)

    def add(name, rows, cols):
        values = (random.random((rows, cols), dtype=np.float32) - 0.5) * 0.07
        writer.add_tensor(name, gguf.quants.quantize(values, quant), raw_dtype=quant)

    def add_norm(name, size):
        writer.add_tensor(name, np.ones(size, dtype=np.float32))

    q_rows, kv_rows = SHAPE["heads"] * SHAPE["head_dim"], SHAPE["kv_heads"] * SHAPE["head_dim"]
    add("token_embd.weight", SHAPE["vocab"], SHAPE["dim"])
    add_norm("output_norm.weight", SHAPE["dim"])
    for i in range(SHAPE["layers"]):
        block = f"blk.{i}."
        add_norm(block + "attn_norm.weight", SHAPE["dim"])
        add(block + "attn_q.weight", q_rows, SHAPE["dim"])
        add(block + "attn_k.weight", kv_rows, SHAPE["dim"])
        add(block + "attn_v.weight", kv_rows, SHAPE["dim"])
        add_norm(block + "attn_q_norm.weight", SHAPE["head_dim"])
        add_norm(block + "attn_k_norm.weight", SHAPE["head_dim"])
        add(block + "attn_output.weight", SHAPE["dim"], q_rows)
        add_norm(block + "ffn_norm.weight", SHAPE["dim"])
        add(block + "ffn_gate.weight", SHAPE["ffn"], SHAPE["dim"])
        add(block + "ffn_up.weight", SHAPE["ffn"], SHAPE["dim"])
        add(block + "ffn_down.weight", SHAPE["dim"], SHAPE["ffn"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Llama:
    """One model in llama.cpp, with its defaults but for the number of threads."""

    def __init__(self, path, threads):
        import llama_cpp

        self.api = llama_cpp
        silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        self.silence = silence  # kept: the library holds the pointer
        llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
        params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = PROMPT + DECODE + 64, PROMPT, PROMPT
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)

    def decode(self, tokens):
        array = (self.api.llama_token * len(tokens))(*tokens)
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(array, len(tokens))):
            sys.exit("llama_decode failed")
        self.api.llama_synchronize(self.context)

    def measure(self):
        """Tokens a second: (prefill, decode)."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        begin = time.perf_counter()
        self.decode([(i * 7919 + 13) % 40000 for i in range(PROMPT)])
        middle = time.perf_counter()
        for i in range(DECODE):
            self.decode([(i * 31 + 7) % 40000])
        return PROMPT / (middle - begin), DECODE / (time.perf_counter() - middle)


def measure_tandem(command):
    """Medians in the output of one of the benches: (prefill, decode)."""
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [float(re.search(rf"^{kind}.*?([0-9.]+) tok/s", text, re.M).group(1))
             for kind in ("prefill", "decode")]
    return found[0], found[1]


def compare(name, llama_path, command, args):
    llama = Llama(llama_path, args.threads)
    llama.measure()
    peers, ours = [], []
    for _ in range(args.rounds):
        peers.append(llama.measure())
        ours.append(measure_tandem(command))
    for index, kind in enumerate((f"prefill {PROMPT}", f"decode at {PROMPT}")):
        peer = statistics.median(one[index] for one in peers)
        our = statistics.median(one[index] for one in ours)
        print(f"{name:8} {kind:14} tandem {our:8.1f} tok/s   llama.cpp {peer:8.1f} tok/s   "
              f"{our / peer:5.2f} x", flush=True)


def main():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tandem"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--case", default="smollm2,bf16,q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--activations", default="f32", help="f32 or int8: of the shape's cases")
    parser.add_argument("--cache", type=pathlib.Path, default=cache)
    parser.add_argument("--model", type=pathlib.Path,
                        default=cache / "SmolLM2-135M-Instruct.Q4_1.gguf")
    args = parser.parse_args()
    for case in args.case.split(","):
        if case == "smollm2":
            command = [args.bin / "tandem-model-bench", args.model, "--threads", str(args.threads),
                       "--prompt", str(PROMPT), "--decode", str(DECODE), "--runs", "1"]
            compare(case, args.model, command, args)
            continue
        path = args.cache / f"random-qwen3-0.6b-{case}.gguf"
        if not path.exists():
            write_random_gguf(path, case)
        weights = {"bf16": "bf16", "q8_0": "int8"}[case]
        command = [args.bin / "tandem-engine-bench", "--weights", weights, "--threads",
                   str(args.threads), "--prefill", str(PROMPT), "--batch", "1", "--context",
                   str(PROMPT), "--runs", "1", "--activations", args.activations]
        compare(case, path, command, args)


if __name__ == "__main__":
    main()
