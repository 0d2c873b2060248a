"""The oracle of the default model: float32 logits over its dequantised weights."""
import json
import os
from pathlib import Path

import numpy as np
import torch
import transformers

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
TOP = 64
SUBSET = 256
GREEDY_TOKENS = 64
POSITIONS = 4  # of each prompt: the last, and others drawn

CHATS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain in two sentences why the sky is blue.",
    "List three fruits that are red.",
    "What is 17 plus 25?",
    "Translate 'good morning' into Spanish.",
    "Who wrote Romeo and Juliet?",
    "Give me a short recipe for pancakes.",
    "What does HTTP stand for?",
    "Schreibe einen Satz über den Winter in Berlin.",
]
TEXTS = [
    "Once upon a time",
    "The three laws of motion are",
    "def fibonacci(n):\n    ",
    "import numpy as np\n\n",
    "In 1969, humans first",
    "Q: How many legs does a spider have?\nA:",
    "{\"name\": \"Alice\", \"age\":",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e",
]
LONG = ("The river had been rising since noon, and by evening the lower fields were a mirror. "
        "Marta counted the sacks of grain again, wrote the number in the margin of the ledger, "
        "and went to see whether the boat was still tied to the willow. ")


def prompts_of(tokenizer) -> list[dict]:
    """Ten chats, eight plain texts, a long text and a lone token."""
    prompts = []
    for chat in CHATS:
        text = tokenizer.apply_chat_template([{"role": "user", "content": chat}], tokenize=False,
                                             add_generation_prompt=True)
        prompts.append({"about": chat, "text": text})
    prompts += [{"about": text, "text": text} for text in TEXTS]
    prompts.append({"about": "a long text", "text": LONG * 8})
    prompts.append({"about": "one token", "text": "Hello"})
    for prompt in prompts:
        prompt["ids"] = tokenizer(prompt["text"], add_special_tokens=False)["input_ids"]
    return prompts


@torch.no_grad()
def greedy(model, ids: list[int]) -> tuple[list[int], list[float]]:
    tokens, gaps, cache = [], [], None
    step = torch.tensor([ids])
    for _ in range(GREEDY_TOKENS):
        output = model(step, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        values, indices = output.logits[0, -1].topk(2)
        tokens.append(int(indices[0]))
        gaps.append(round(float(values[0] - values[1]), 6))
        step = indices[:1].reshape(1, 1)
    return tokens, gaps


def record(logits: np.ndarray, subset: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The highest ids, and [largest magnitude, logsumexp, their logits, the subset's logits]."""
    top = np.argsort(-logits, kind="stable")[:TOP]
    wide = logits.astype(np.float64)
    lse = float(np.log(np.exp(wide - wide.max()).sum()) + wide.max())
    head = np.array([np.abs(logits).max(), lse])
    return top.tolist(), np.concatenate([head, logits[top], logits[subset]]).astype("<f4")


def make(folder: Path) -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        cache, gguf_file=FILE, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(cache, gguf_file=FILE)
    draw = np.random.default_rng(7)
    subset = np.sort(draw.choice(model.config.vocab_size, SUBSET, replace=False))
    prompts, rows = prompts_of(tokenizer), []
    for prompt in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([prompt["ids"]])).logits[0].numpy()
        last = len(prompt["ids"]) - 1
        others = draw.choice(last, min(last, POSITIONS - 1), replace=False) if last else []
        prompt["positions"] = sorted(int(p) for p in [*others, last])
        prompt["top"] = []
        for position in prompt["positions"]:
            top, row = record(logits[position], subset)
            prompt["top"].append(top)
            rows.append(row)
        prompt["greedy"], prompt["gaps"] = greedy(model, prompt["ids"])
        print(prompt["about"][:40], "->", repr(tokenizer.decode(prompt["greedy"]))[:100],
              "least gap", min(prompt["gaps"]))
    folder.mkdir(exist_ok=True)
    facts = {"file": FILE, "subset": subset.tolist(), "prompts": prompts}
    (folder / "oracle.json").write_text(json.dumps(facts) + "\n")
    (folder / "oracle.f32").write_bytes(np.stack(rows).tobytes())
