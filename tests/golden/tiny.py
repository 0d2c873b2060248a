"""Tiny random models, their tokenizer, and what transformers computes with them."""
import copy
import json
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

from variants import BASE, Variant

PROMPT_TOKENS = 48
GREEDY_TOKENS = 64
GAP_MIN = 0.01  # between the two highest logits, so that rounding can't choose the greedy token
TEMPLATE = ("{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>"
            "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
SPECIALS = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
CLASSES = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
           "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
           "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM)}
transformers.utils.logging.disable_progress_bar()
CORPUS = ["the quick brown fox jumps over the lazy dog", "a model reads text and writes text",
          "pack my box with five dozen liquor jugs", "how much wood would a woodchuck chuck"]


def make_tokenizer() -> tokenizers.Tokenizer:
    """Byte-level BPE with fewer tokens than the embedding has rows, as padded models have it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def config_of(variant: Variant, **changes) -> transformers.PreTrainedConfig:
    return CLASSES[variant.family][0](**copy.deepcopy({**BASE, **variant.config, **changes}))


def build(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """A model on the eager attention path, in float32, for inference."""
    model = CLASSES[config.model_type][1]._from_config(
        config, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Everything is drawn, norms and biases too; wide enough that attention is not uniform."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            value = 1 + 0.3 * noise
        elif name.endswith(".bias"):
            value = 0.5 * noise
        elif "embed_tokens" in name:
            value = noise
        else:
            value = 1.7 * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)


@torch.no_grad()
def logits_of(model, ids: list[int]) -> np.ndarray:
    return model(torch.tensor([ids])).logits[0].float().numpy()


def greedy(model, prompt: list[int]) -> tuple[list[int], list[float]] | None:
    """Each token is chosen by a forward pass over the whole sequence: no cache to go wrong.

    None where two tokens come closer than GAP_MIN."""
    ids, gaps = list(prompt), []
    for _ in range(GREEDY_TOKENS):
        last = logits_of(model, ids)[-1]
        second, first = np.argsort(last)[-2:]
        gaps.append(float(last[first] - last[second]))
        if gaps[-1] < GAP_MIN:
            return None
        ids.append(int(first))
    return ids[len(prompt):], gaps


def expectation(model, seed: int) -> tuple[dict, np.ndarray]:
    """A prompt whose greedy continuation hangs on no rounding, and the logits over it."""
    draw = np.random.default_rng(seed)
    for _ in range(200):
        prompt = [1] + draw.integers(3, BASE["vocab_size"], PROMPT_TOKENS - 1).tolist()
        found = greedy(model, prompt)
        if found and len(set(found[0])) > 8:
            tokens, gaps = found
            facts = {"prompt": prompt, "greedy": tokens, "gaps": [round(g, 6) for g in gaps]}
            return facts, logits_of(model, prompt)
    raise SystemExit("no prompt with clear greedy choices; draw other weights")


def relative_change(logits: np.ndarray, reference: np.ndarray) -> float:
    scale = np.abs(reference).max(axis=1, keepdims=True)
    return float((np.abs(logits - reference) / scale).max())


def check_mutations(variant: Variant, model, facts: dict, logits: np.ndarray) -> list[float]:
    changes = []
    for mutation in variant.mutations:
        mutant = build(config_of(variant, **mutation))
        mutant.load_state_dict(model.state_dict(), strict=False)
        change = relative_change(logits_of(mutant, facts["prompt"]), logits)
        if change < 1e-2:
            raise SystemExit(f"{variant.name}: {mutation} moves the logits by {change} only")
        changes.append(change)
    return changes


def write_expectation(folder: Path, facts: dict, logits: np.ndarray) -> None:
    facts = {"vocab": logits.shape[1], **facts}
    (folder / "expected.json").write_text(json.dumps(facts) + "\n")
    (folder / "logits.f32").write_bytes(logits.astype("<f4").tobytes())


def write_folder(folder: Path, variant: Variant, model) -> transformers.PreTrainedModel:
    """The model of the stored weights, in float32. (The given one's rotary buffers are rounded.)"""
    model.to(getattr(torch, variant.dtype)).save_pretrained(
        folder, max_shard_size=variant.shard_size or "1GB")
    make_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>",
                "eos_token": "</s>", "unk_token": "<unk>", "chat_template": TEMPLATE,
                "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    (folder / "LICENSE").write_text("Random numbers made for tests; no rights are claimed.\n")
    return CLASSES[variant.family][1].from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
