"""Requests of every kind that must go on elsewhere as if nothing had happened."""

import random

from cluster import ids_request

TOKENS = 600  # of an answer: a worker takes long enough for them to be killed midway
SCHEMA = '{"type": "array", "items": {"type": "string"}, "minItems": 40}'


def with_logprobs(request, seed):
    request.sampling.seed = seed
    request.response.logprobs = 2
    request.stopping.ignore_eos = True
    return request


def greedy(seed):
    return with_logprobs(ids_request(random.Random(seed).choices(range(256), k=90), TOKENS), seed)


def sampled(seed):
    request = with_logprobs(ids_request(random.Random(seed).choices(range(256), k=200), TOKENS,
                                        temperature=1.0), seed)
    request.sampling.presence_penalty = 0.5
    request.sampling.frequency_penalty = 0.1
    request.sampling.repetition_penalty = 1.1
    request.stopping.ignore_eos = False
    request.stopping.min_tokens = TOKENS - 5
    request.response.prompt_logprobs = 1
    return request


def guided(seed):
    request = with_logprobs(ids_request(random.Random(seed).choices(range(256), k=40), TOKENS,
                                        temperature=1.0), seed)
    request.stopping.ignore_eos = False
    request.guided.json_schema = SCHEMA
    return request


def several(seed):
    request = with_logprobs(ids_request(random.Random(seed).choices(range(256), k=70), TOKENS // 2,
                                        temperature=1.0), seed)
    request.sampling.n = 4
    request.stopping.stop.append("qz")
    return request


KINDS = (greedy, sampled, guided, several)
