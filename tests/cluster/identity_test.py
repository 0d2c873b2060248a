"""One answer: split over two processes or computed by one, a request gets the same tokens,
log-probabilities and text, to the last bit."""

import os
import random
import tempfile
import unittest

import tiny_model
from cluster import SMOLLM2, Cluster, ids_request, text_request

PROMPTS = int(os.environ.get("TANDEM_PROMPTS", "100"))
AT_ONCE = 16
# Neither threads nor the sizes of batches and chunks may show in an answer, so they differ too.
UNIFIED = dict(roles=("unified",),
               worker=("engine.threads=2", "engine.max_batch_tokens=512"))
SPLIT = dict(roles=("prefill", "decode"),
             worker=("prefill:engine.threads=1", "prefill:engine.max_batch_tokens=64",
                     "prefill:engine.max_sequences=16", "decode:engine.threads=2"))
SUBJECTS = ("The capital of France", "A good recipe for soup", "My favourite number",
            "The theory of relativity", "Once upon a time there", "def quicksort(values):",
            "In 1969, astronauts", "Große Städte in Österreich", "東京の天気は", "The moon")
GOES_ON = ("is", "was never", "and the old house by the river", "because nobody asked why",
           "\n\n1. First,", "(see chapter 7)", "that she had written down", "= 3.14159;", "🙂 but")


def text_prompts(random_source):
    for i in range(PROMPTS):
        words = [SUBJECTS[i % len(SUBJECTS)]]
        words += random_source.choices(GOES_ON, k=random_source.randrange(0, 24))
        yield " ".join(words)


def with_variety(request, i):
    """Fields that widen what is compared, in some of the requests."""
    request.sampling.seed = 1000 + i
    request.response.logprobs = i % 4
    if i % 10 == 0:
        request.response.prompt_logprobs = 2
    if i % 3 == 0:
        request.stopping.ignore_eos = True
    if request.sampling.temperature > 0 and i % 2:
        request.sampling.top_p = 0.9
        request.sampling.top_k = 40
        request.sampling.min_p = 0.02
    return request


def smollm2_requests(temperature):
    prompts = text_prompts(random.Random(7))
    return [with_variety(text_request(p, 12, temperature=temperature), i)
            for i, p in enumerate(prompts)]


def tiny_requests(temperature):
    source = random.Random(8)
    return [with_variety(ids_request(source.choices(range(256), k=source.randrange(1, 400)), 40,
                                     temperature=temperature), i)
            for i in range(PROMPTS)]


class IdentityTest(unittest.TestCase):

    def answers(self, model, requests, layout):
        with Cluster(model, **layout) as cluster:
            answers = []
            for first in range(0, len(requests), AT_ONCE):
                answers += cluster.generate_all(requests[first:first + AT_ONCE])
            self.assertEqual(cluster.router.metric("tandem_token_conflicts_total"), 0)
        return answers

    def compare(self, model, requests):
        unified = self.answers(model, requests, UNIFIED)
        split = self.answers(model, requests, SPLIT)
        for i, (one, two) in enumerate(zip(unified, split)):
            self.assertEqual(one.said(), two.said(), f"request {i}")
            self.assertGreater(len(one.token_ids), 0)
            self.assertEqual(len(one.logprobs), len(one.token_ids))
            served, handed = one.end.serving, two.end.serving
            self.assertEqual(served.prefill_worker, served.decode_worker)
            self.assertNotEqual(handed.prefill_worker, handed.decode_worker)
            self.assertEqual(served.kv_bytes, 0)
            self.assertEqual(handed.attempts, 1)
        # Where the first token ends the output there is nothing to hand over for.
        handed_over = [a for a in split if len(a.token_ids) > 1]
        self.assertTrue(all(a.end.serving.kv_bytes > 0 for a in handed_over))
        # The comparison saw something: prompts differ in their answers.
        self.assertGreater(len({tuple(a.token_ids) for a in unified}), len(requests) // 2)

    def tiny(self, temperature):
        with tempfile.TemporaryDirectory() as folder:
            self.compare(tiny_model.write(folder), tiny_requests(temperature))

    def test_tiny_random_model_greedy(self):
        self.tiny(0.0)

    def test_tiny_random_model_at_temperature_1(self):
        self.tiny(1.0)

    def test_smollm2_greedy(self):
        self.compare(SMOLLM2, smollm2_requests(0.0))

    def test_smollm2_at_temperature_1(self):
        self.compare(SMOLLM2, smollm2_requests(1.0))

    def test_one_request_alone_equals_itself_in_a_batch(self):
        with tempfile.TemporaryDirectory() as folder:
            requests = tiny_requests(1.0)[:AT_ONCE]
            with Cluster(tiny_model.write(folder), **UNIFIED) as cluster:
                together = cluster.generate_all(requests)
                for i, request in enumerate(requests):
                    self.assertEqual(cluster.generate(request).said(), together[i].said(), i)


if __name__ == "__main__":
    unittest.main()
