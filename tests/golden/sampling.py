"""Sampling, once more in numpy: what tandem.inference.v1's sampling fields say, field by field.

Nothing here is taken from worker/sampler: the two must agree because both say what the API says.
"""
import json
from pathlib import Path

import numpy as np

CASES = 160
DRAWS = 6
MARGIN = 1e-9  # a case that a rounding could tip over is drawn again
NEVER = np.float32(-np.inf)


class TooClose(Exception):
    """Rounding could decide it."""


def philox4x32(counter, key):
    """Philox4x32-10 (Salmon et al., SC 2011)."""
    c, k = [np.uint64(x) for x in counter], [np.uint64(x) for x in key]
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> shift) ^ c[1] ^ k[0], p1 & low, (p0 >> shift) ^ c[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return [int(x) for x in c]


def uniform(seed, output_index, position):
    """53 bits in [0, 1)."""
    words = philox4x32([output_index, position, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])
    return ((words[0] << 21) | (words[1] >> 11)) / 2.0**53


def adjusted(logits, spec, prompt, output, forbidden):
    """Bias, repetition, frequency, presence, then what can't be drawn; float32 throughout."""
    logits = logits.copy()
    for token, bias in spec["logit_bias"]:
        logits[token] += np.float32(bias)
    seen = np.isin(np.arange(len(logits)), prompt + output)
    penalty = np.float32(spec["repetition_penalty"])
    if penalty != 1:
        logits = np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits)
    counts = np.bincount(np.array(output, dtype=int), minlength=len(logits)).astype(np.float32)
    logits = logits - np.float32(spec["frequency_penalty"]) * counts
    logits = logits - np.float32(spec["presence_penalty"]) * (counts > 0).astype(np.float32)
    impossible = np.isin(np.arange(len(logits)), forbidden)
    if spec["allowed_ids"]:
        impossible |= ~np.isin(np.arange(len(logits)), spec["allowed_ids"])
    return np.where(impossible, NEVER, logits).astype(np.float32)


def kept(logits, spec):
    """(ids, probabilities) of what can be drawn, likeliest first."""
    order = np.lexsort((np.arange(len(logits)), -logits))  # by logit, then by id
    order = order[np.isfinite(logits[order])]
    if spec["top_k"]:
        order = order[:spec["top_k"]]
    exponents = (logits[order].astype(np.float64) - np.float64(logits[order[0]]))
    weights = np.exp(exponents / np.float64(np.float32(spec["temperature"])))
    shares = np.cumsum(weights) / weights.sum()
    top_p = np.float64(np.float32(spec["top_p"]))
    if top_p < 1:
        if np.abs(shares - top_p).min() < MARGIN:
            raise TooClose
        weights = weights[:1 + int((shares < top_p).sum())]
    min_p = np.float64(np.float32(spec["min_p"]))
    if min_p > 0:
        if np.abs(weights - min_p)[1:].min(initial=1) < MARGIN:
            raise TooClose
        weights = weights[weights >= min_p]
    return order[:len(weights)], weights / weights.sum()


def drawn(logits, spec, output_index, position):
    if spec["temperature"] == 0:
        return int(np.argmax(logits))
    ids, probabilities = kept(logits, spec)
    edges = np.cumsum(probabilities)
    u = uniform(spec["seed"], output_index, position)
    if np.abs(edges[:-1] - u).min(initial=1) < MARGIN:
        raise TooClose
    return int(ids[min(int((edges <= u).sum()), len(ids) - 1)])


def log_softmax(logits):
    wide = logits.astype(np.float64)
    return wide - (wide.max() + np.log(np.exp(wide - wide.max()).sum()))


def case(draw):
    vocab = int(draw.integers(5, 40))
    step = 1 if draw.random() < 0.3 else 512  # whole numbers make ties
    logits = (np.round(draw.normal(0, 3, vocab) * step) / step).astype(np.float32)

    def some(most, high=vocab):
        return [int(x) for x in draw.integers(0, high, draw.integers(0, most + 1))]

    def maybe(low, high, neutral):
        return float(np.float32(draw.uniform(low, high))) if draw.random() < 0.5 else neutral

    spec = {
        "temperature": 0.0 if draw.random() < 0.1 else maybe(0.2, 2, 1.0),
        "top_p": maybe(0.05, 1, 1.0),
        "top_k": int(draw.integers(1, vocab)) if draw.random() < 0.4 else 0,
        "min_p": maybe(0, 0.5, 0.0),
        "seed": int(draw.integers(0, 2**63)) * 2 + 1,
        "presence_penalty": maybe(-2, 2, 0.0),
        "frequency_penalty": maybe(-2, 2, 0.0),
        "repetition_penalty": maybe(0.2, 5, 1.0),
        "logit_bias": [(t, float(np.float32(draw.uniform(-5, 5)))) for t in sorted(set(some(3)))],
        "allowed_ids": sorted(set(some(9))) if draw.random() < 0.3 else [],
    }
    prompt, output = some(20), some(20)
    forbidden = sorted(set(some(3)) - set(spec["allowed_ids"][:1]))
    changed = adjusted(logits, spec, prompt, output, forbidden)
    if not np.isfinite(changed).any():
        raise TooClose
    logprobs = log_softmax(logits)
    likeliest = np.lexsort((np.arange(vocab), -logits))
    places = [(int(draw.integers(0, 9)), int(draw.integers(0, 5000))) for _ in range(DRAWS)]
    return {
        "logits": [float(x) for x in logits], "spec": spec,
        "prompt": prompt, "output": output, "forbidden": forbidden,
        "draws": [{"output_index": o, "position": p, "token": drawn(changed, spec, o, p)}
                  for o, p in places],
        "logprobs": [round(float(x), 9) for x in logprobs],
        "likeliest": [int(x) for x in likeliest],
    }


def make(path: Path) -> None:
    draw = np.random.default_rng(17)
    cases = []
    while len(cases) < CASES:
        try:
            cases.append(case(draw))
        except TooClose:
            continue
    path.write_text("[\n" + ",\n".join(json.dumps(one) for one in cases) + "\n]\n")


if __name__ == "__main__":
    make(Path(__file__).resolve().parent / "sampling.json")
