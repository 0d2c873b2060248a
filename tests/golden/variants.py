"""The tiny Llama models: one a config option, each with the mutations that it must expose."""
from dataclasses import dataclass, field

LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


@dataclass
class Variant:
    name: str
    dtype: str = "float16"  # of the stored weights; logits are float32 over their values
    config: dict = field(default_factory=dict)  # over BASE
    shard_size: str | None = None
    gguf_type: str | None = None  # a GGUF file of this ggml type instead of a folder
    gguf_version: int = 3
    # Changes of the configuration that must move the logits: a model that ignores the option, or
    # reads it wrongly, cannot pass.
    mutations: list[dict] = field(default_factory=list)


BASE = dict(
    vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, hidden_act="silu",
    tie_word_embeddings=False, attention_bias=False, mlp_bias=False,
    bos_token_id=1, eos_token_id=2, pad_token_id=0)


def rope(**changes):
    return {"rope_parameters": {**BASE["rope_parameters"], **changes}}


def llama3(**changes):
    return {"rope_parameters": {**LLAMA3, **changes}}


VARIANTS = [
    Variant("gqa", dtype="float32", mutations=[rope(rope_theta=20000.0), {"hidden_act": "gelu"}]),
    Variant("mha", config=dict(num_key_value_heads=4)),
    Variant("tied", dtype="bfloat16", config=dict(tie_word_embeddings=True)),
    Variant("biases", config=dict(attention_bias=True, mlp_bias=True),
            mutations=[dict(attention_bias=False), dict(mlp_bias=False)]),
    Variant("llama3", dtype="bfloat16", config=llama3(),
            mutations=[rope(), llama3(factor=4.0), llama3(low_freq_factor=2.0),
                       llama3(high_freq_factor=8.0),
                       llama3(original_max_position_embeddings=64)]),
    Variant("linear", config=rope(rope_type="linear", factor=2.5),
            mutations=[rope(), rope(rope_type="linear", factor=2.0)]),
    Variant("head_dim", config=dict(head_dim=24)),
    Variant("sharded", dtype="bfloat16", config=dict(num_hidden_layers=3), shard_size="64KB"),
    Variant("eps", config=dict(rms_norm_eps=0.0123), mutations=[dict(rms_norm_eps=1e-5)]),
    Variant("theta", config=dict(num_key_value_heads=1, **rope(rope_theta=500000.0)),
            mutations=[rope()]),
    Variant("gguf_f32", gguf_type="F32", config=dict(attention_bias=True, mlp_bias=True)),
    Variant("gguf_f16", gguf_type="F16", config=llama3(), mutations=[rope()]),
    Variant("gguf_bf16", gguf_type="BF16", config=rope(rope_type="linear", factor=2.5),
            mutations=[rope()]),
    Variant("gguf_q8_0", gguf_type="Q8_0", config=dict(tie_word_embeddings=True)),
    Variant("gguf_q4_0", gguf_type="Q4_0", gguf_version=2),
    Variant("gguf_q4_1", gguf_type="Q4_1", config=dict(num_key_value_heads=4, head_dim=32)),
]
