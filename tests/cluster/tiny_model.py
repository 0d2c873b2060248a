"""A small Llama model with random weights as a Hugging Face folder: made, not stored."""

import array
import json
import os
import random
import struct

SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 300,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16384,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "bos_token_id": 256, "eos_token_id": 258, "torch_dtype": "float32",
}
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def byte_alphabet():
    """The printable stand-in for each byte, as byte-level BPE has it."""
    following = iter(range(256, 512))
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return [chr(b if b in printable else next(following)) for b in range(256)]


def tokenizer():
    special = ["<s>", "<|im_start|>", "<|im_end|>"]
    vocab = {c: i for i, c in enumerate(byte_alphabet())}
    added = [{"id": 256 + i, "content": s, "special": True, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False} for i, s in enumerate(special)]
    bytes_apart = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                   "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "post_processor": None, "added_tokens": added, "pre_tokenizer": bytes_apart,
        "decoder": bytes_apart,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocab, "merges": [],
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False},
    }


def shapes(config):
    dim, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = dim // config["num_attention_heads"]
    kv = head * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (vocab, dim)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in (("self_attn.q_proj", (dim, dim)), ("self_attn.k_proj", (kv, dim)),
                            ("self_attn.v_proj", (kv, dim)), ("self_attn.o_proj", (dim, dim)),
                            ("mlp.gate_proj", (ffn, dim)), ("mlp.up_proj", (ffn, dim)),
                            ("mlp.down_proj", (dim, ffn)), ("input_layernorm", (dim,)),
                            ("post_attention_layernorm", (dim,))):
            yield f"{layer}{name}.weight", shape
    yield "model.norm.weight", (dim,)
    yield "lm_head.weight", (vocab, dim)


def safetensors(config, seed):
    """Weights whose outputs have about unit variance, and norms around 1, as a file's bytes."""
    draw = random.Random(seed).gauss
    header, data = {}, bytearray()
    for name, shape in shapes(config):
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        scale = shape[-1] ** -0.5 if len(shape) == 2 else 0.2
        if name == "lm_head.weight":
            scale *= 3  # some tokens are much likelier than others
        mean = 1.0 if len(shape) == 1 else 0.0
        values = array.array("f", (draw(mean, scale) for _ in range(count)))
        begin = len(data)
        data += values.tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def write(folder, seed=1, **changes):
    """Writes the model into `folder` and returns the folder; `changes` replace fields of SHAPE."""
    config = {**SHAPE, **changes}
    os.makedirs(folder, exist_ok=True)
    for name, content in (
            ("config.json", config), ("tokenizer.json", tokenizer()),
            ("generation_config.json", {"eos_token_id": config["eos_token_id"]}),
            ("tokenizer_config.json", {"chat_template": CHAT_TEMPLATE, "bos_token": "<s>",
                                       "eos_token": "<|im_end|>"})):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(content, f)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(safetensors(config, seed))
    return folder
