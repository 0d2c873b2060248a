"""What `tokenizers` and transformers make of texts and chats, with real models' files."""
import datetime as datetime_module
import hashlib
import json
from pathlib import Path

import tokenizers
from transformers.utils import chat_template_utils

import fetch_text

HERE = Path(__file__).resolve().parent / "text"
CASES = json.loads((HERE / "cases.json").read_text())  # written by hand
# Tokens that the chat templates name, by model; the packages' tokenizer_config.json say them.
NAMED_TOKENS = {
    "qwen2.5": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "qwq": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "qwen3": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "r1-distill-llama": {"bos_token": "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
                         "eos_token": "<\uff5cend\u2581of\u2581sentence\uff5c>"},
    "deepseek-v3.1": {"bos_token": "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
                      "eos_token": "<\uff5cend\u2581of\u2581sentence\uff5c>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "gpt-oss": {"bos_token": "<|startoftext|>", "eos_token": "<|return|>"},
}


class FixedClock(datetime_module.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime_module.datetime.fromtimestamp(CASES["now"], datetime_module.timezone.utc)


def random_texts() -> list[str]:
    """By Knuth's 64-bit generator, which the C++ test has too."""
    state = 2026

    def draw(limit: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % limit

    pieces = CASES["pieces"]
    return ["".join(pieces[draw(len(pieces))] for _ in range(1 + draw(CASES["pieces_max"])))
            for _ in range(CASES["random_texts"])]


def fingerprint(ids: list[int]) -> int:
    """FNV-1a, 32 bits, over the ids as little-endian int32."""
    value = 2166136261
    for byte in b"".join(token.to_bytes(4, "little") for token in ids):
        value = (value ^ byte) * 16777619 % 2**32
    return value


def rendered(template: str, context: dict, named: dict) -> str | None:
    """None where the template raises."""
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[context["messages"]], tools=context.get("tools"),
            chat_template=template,
            add_generation_prompt=context.get("add_generation_prompt", True),
            **named, **context.get("variables", {}))
        return texts[0]
    except Exception as error:  # templates raise what they like
        print("   ", context["name"], "raises", repr(error)[:100])
        return None


def render_facts(tokenizer, template: str, context: dict, named: dict) -> dict:
    text = rendered(template, context, named)
    if text is None:
        return {"error": True}
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "ids": fingerprint(ids)}


def facts_of(model: str) -> dict:
    folder = fetch_text.FOLDER / model
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = (folder / "chat_template.jinja").read_text()
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    between = "".join(f" a{token.content}b" for _, token in added)
    texts = [encode(text) for text in CASES["texts"]]
    decoded = [tokenizer.decode(ids, skip_special_tokens=False) for ids in texts]
    named = NAMED_TOKENS[model]
    return {
        "tokens": named,
        "vocab": max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,
        "with_special": tokenizer.encode("Hello", add_special_tokens=True).ids,
        "texts": texts,
        "decoded": {str(i): text for i, text in enumerate(decoded) if text != CASES["texts"][i]},
        "added": fingerprint(encode(between)),
        "random": [fingerprint(encode(text)) for text in random_texts()],
        "renders": [render_facts(tokenizer, template, context, named)
                    for context in CASES["contexts"]],
    }


def make() -> None:
    chat_template_utils.datetime = FixedClock
    for model in fetch_text.MODELS:
        print(model)
        (HERE / f"{model}.json").write_text(json.dumps(facts_of(model)) + "\n")


def show(model: str, name: str) -> str | None:
    """What transformers renders for one context."""
    chat_template_utils.datetime = FixedClock
    template = (fetch_text.FOLDER / model / "chat_template.jinja").read_text()
    context = next(context for context in CASES["contexts"] if context["name"] == name)
    return rendered(template, context, NAMED_TOKENS[model])
