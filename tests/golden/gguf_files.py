"""Writes a tiny Llama as a GGUF file, the way converters do: q and k reordered for neighbours."""
from pathlib import Path

import gguf
import numpy as np
import torch

from tiny import SPECIALS, TEMPLATE, make_tokenizer

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[module]}.{kind}"


def reorder(tensor: np.ndarray, heads: int) -> np.ndarray:
    """Rows i and i + head_dim / 2 of each head become neighbours."""
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def quantise(model, kind: str) -> dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]]:
    """Stored arrays by GGUF name; the model's weights become what the stored ones stand for."""
    config, stored = model.config, {}
    for name, parameter in model.named_parameters():
        values = parameter.data.numpy()
        matrix = values.ndim == 2
        # The embedding of the 4-bit file is Q8_0, as in the files that people use.
        wanted = "Q8_0" if kind.startswith("Q4") and "embed_tokens" in name else kind
        type_ = gguf.GGMLQuantizationType[wanted if matrix else "F32"]
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        count = next((heads[key] for key in heads if key in name), None)
        ordered = values if count is None else reorder(values, count)
        packed = gguf.quants.quantize(np.ascontiguousarray(ordered), type_)
        restored = gguf.quants.dequantize(packed, type_).reshape(ordered.shape)
        if count is not None:
            restored = restore_order(restored, count)
        parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(restored)))
        stored[gguf_name(name)] = (packed, type_)
    return stored


def restore_order(tensor: np.ndarray, heads: int) -> np.ndarray:
    pairs = tensor.reshape(heads, tensor.shape[0] // heads // 2, 2, *tensor.shape[1:])
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def llama3_divisors(model) -> np.ndarray:
    config = model.config
    dim = config.head_dim
    plain = config.rope_parameters["rope_theta"] ** (-np.arange(0, dim, 2) / dim)
    return (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)


def add_metadata(writer: gguf.GGUFWriter, model) -> None:
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_license("cc0-1.0")
    if config.rope_parameters["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def add_tokenizer(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    import json
    data = json.loads(make_tokenizer().to_str())["model"]
    ids = {token: index for token, index in data["vocab"].items()}
    tokens = sorted(ids, key=ids.get)
    types = [gguf.TokenType.CONTROL if t in SPECIALS else gguf.TokenType.NORMAL for t in tokens]
    for index in range(len(tokens), vocab_size):
        tokens.append(f"[PAD{index}]")
        types.append(gguf.TokenType.UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def write_gguf(path: Path, model, kind: str, version: int) -> None:
    """Afterwards the model's weights are the dequantised ones of the file."""
    divisors = llama3_divisors(model)
    writer = gguf.GGUFWriter(path, "llama")
    add_metadata(writer, model)
    add_tokenizer(writer, model.config.vocab_size)
    if model.config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", divisors)
    for name, (packed, type_) in quantise(model, kind).items():
        writer.add_tensor(name, packed, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with path.open("r+b") as file:  # versions 2 and 3 differ in this number only
        file.seek(4)
        file.write(version.to_bytes(4, "little"))
