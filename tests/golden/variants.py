"""The tiny models: one a config option, each with the mutations that it must expose."""
from dataclasses import dataclass, field

LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


@dataclass
class Variant:
    name: str
    family: str = "llama"
    dtype: str = "float16"  # of the stored weights; logits are float32 over their values
    config: dict = field(default_factory=dict)  # over BASE
    shard_size: str | None = None
    # A GGUF file of this ggml type instead of a folder; Q4_K_M is the usual mix of Q4_K and Q6_K.
    gguf_type: str | None = None
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


def yarn(**changes):
    scaling = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "beta_fast": 2.0,
               "beta_slow": 0.25, "original_max_position_embeddings": 64}
    return {"rope_parameters": {**scaling, **changes}}


def windows(**changes):
    return {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1,
            "num_hidden_layers": 3, **changes}


YARN_MUTATIONS = [
    rope(rope_theta=100.0), yarn(factor=2.0), yarn(original_max_position_embeddings=32),
    yarn(beta_fast=1.0), yarn(beta_slow=0.5), yarn(attention_factor=1.0), yarn(truncate=False)]
FULL, SLIDING = "full_attention", "sliding_attention"
K_QUANT = dict(hidden_size=256, intermediate_size=256, num_attention_heads=8, head_dim=32)

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
    Variant("gguf_q4_k_m", gguf_type="Q4_K_M", config=K_QUANT),
    Variant("gguf_q5_k", gguf_type="Q5_K", config=K_QUANT),
    Variant("gguf_q6_k", gguf_type="Q6_K", config=K_QUANT),
    Variant("qwen2", family="qwen2", dtype="bfloat16"),
    Variant("qwen2_tied", family="qwen2", config=dict(tie_word_embeddings=True, head_dim=24)),
    Variant("qwen2_yarn", family="qwen2", config=yarn(), mutations=YARN_MUTATIONS),
    Variant("qwen2_window", family="qwen2", config=windows(),
            mutations=[windows(use_sliding_window=False), windows(sliding_window=8),
                       windows(max_window_layers=2)]),
    Variant("qwen2_layers", family="qwen2",
            config=windows(sliding_window=20, layer_types=[SLIDING, FULL, SLIDING]),
            mutations=[windows(sliding_window=20, layer_types=[FULL, FULL, SLIDING]),
                       windows(sliding_window=20, layer_types=[SLIDING] * 3)]),
    Variant("gguf_qwen2", family="qwen2", gguf_type="F16",
            config=yarn(beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=1024),
            mutations=[rope(rope_theta=100.0)]),
    Variant("qwen3", family="qwen3", dtype="bfloat16", config=dict(head_dim=24)),
    Variant("qwen3_biases", family="qwen3",
            config=dict(head_dim=16, attention_bias=True, tie_word_embeddings=True),
            mutations=[dict(attention_bias=False)]),
    Variant("qwen3_eps", family="qwen3", config=dict(head_dim=16, rms_norm_eps=0.0123),
            mutations=[dict(rms_norm_eps=1e-5)]),
    Variant("qwen3_window", family="qwen3", config=dict(head_dim=16, **windows(sliding_window=17)),
            mutations=[windows(sliding_window=16)]),
    Variant("qwen3_yarn", family="qwen3",
            config=dict(head_dim=16, **yarn(attention_factor=1.4, mscale=0.5, mscale_all_dim=1.5)),
            mutations=[yarn(mscale=0.5, mscale_all_dim=1.5), yarn()]),
    Variant("qwen3_mscale", family="qwen3",
            config=dict(head_dim=16, **yarn(mscale=1.5, mscale_all_dim=0.5, truncate=False)),
            mutations=[yarn(mscale=1.5, mscale_all_dim=0.5), yarn(truncate=False)]),
    Variant("gguf_qwen3", family="qwen3", gguf_type="Q8_0", config=dict(head_dim=32)),
]
