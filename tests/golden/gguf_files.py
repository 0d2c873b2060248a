"""Writes a tiny model as a GGUF file, the way converters do: Llama's q and k reordered."""
from pathlib import Path

import gguf
import numpy as np
import torch

from tiny import SPECIALS, TEMPLATE, make_tokenizer

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
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


def type_of(name: str, matrix: bool, kind: str) -> gguf.GGMLQuantizationType:
    """Vectors are float32, and some matrices have more bits than the rest, as files have it."""
    wider = {"Q4_0": {"embed_tokens": "Q8_0"}, "Q4_1": {"embed_tokens": "Q8_0"},
             "Q4_K_M": {"embed_tokens": "Q6_K", "v_proj": "Q6_K", "down_proj": "Q6_K"}}
    wanted = kind.removesuffix("_M")
    for part, other in wider.get(kind, {}).items():
        wanted = other if part in name else wanted
    return gguf.GGMLQuantizationType[wanted if matrix else "F32"]


# Of a block of 256: where its halves d and (but in Q6_K) dmin are, and the bytes of a block. Codes
# and scales may be any bytes.
K_BLOCKS = {"Q4_K": ([0, 2], 144), "Q5_K": ([0, 2], 176), "Q6_K": ([208], 210)}


def random_blocks(values: np.ndarray, kind: str, draw: np.random.Generator) -> np.ndarray:
    """Blocks of a K type, which the gguf package reads but doesn't write: drawn, with scales that
    make the weights as large as `values`."""
    halves, size = K_BLOCKS[kind]
    blocks = draw.integers(0, 256, (values.shape[0], values.shape[1] // 256, size), dtype=np.uint8)
    type_ = gguf.GGMLQuantizationType[kind]
    scales = 0.75 + 0.5 * draw.random((*blocks.shape[:2], len(halves)))
    scales[..., 1:] *= 7.5 if kind == "Q4_K" else 15.5  # offsets that centre the codes
    unit = 1.0
    for _ in range(2):  # with scales of about 1 first, to see how large that is
        packed = (scales * unit).astype(np.float16).view(np.uint8).reshape(*blocks.shape[:2], -1)
        for index, at in enumerate(halves):
            blocks[..., at:at + 2] = packed[..., 2 * index:2 * index + 2]
        flat = np.ascontiguousarray(blocks.reshape(values.shape[0], -1))
        unit *= values.std() / gguf.quants.dequantize(flat, type_).std()
    return flat


def quantise(model, kind: str) -> dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]]:
    """Stored arrays by GGUF name; the model's weights become what the stored ones stand for."""
    config, stored = model.config, {}
    draw = np.random.default_rng(11)
    for name, parameter in model.named_parameters():
        values = parameter.data.numpy()
        type_ = type_of(name, values.ndim == 2, kind)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        count = next((heads[key] for key in heads if key in name), None)
        if config.model_type != "llama":
            count = None
        ordered = values if count is None else reorder(values, count)
        if type_.name in K_BLOCKS:
            packed = random_blocks(ordered, type_.name, draw)
        else:
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


def head_dim_of(config) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def llama3_divisors(model) -> np.ndarray:
    config = model.config
    dim = head_dim_of(config)
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
    writer.add_key_length(head_dim_of(config))
    writer.add_value_length(head_dim_of(config))
    writer.add_rope_dimension_count(head_dim_of(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_license("cc0-1.0")
    scaling = config.rope_parameters
    if scaling["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling["rope_type"]))
        writer.add_rope_scaling_factor(scaling["factor"])
    if scaling["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])


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
    writer = gguf.GGUFWriter(path, model.config.model_type)
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
