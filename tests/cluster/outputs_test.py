"""Several outputs of one prompt: the prompt is computed once, and each output is what it would be
however many others there are, and wherever it was computed."""

import json
import os
import random
import tempfile
import unittest

import tiny_model
from cluster import SMOLLM2, Cluster, await_true, ids_request, text_request

PROMPTS = int(os.environ.get("TANDEM_PROMPTS", "100")) // 5
AT_ONCE = 8
UNIFIED = dict(roles=("unified",), worker=("engine.threads=2",))
SPLIT = dict(roles=("prefill", "decode"),
             worker=("prefill:engine.threads=1", "prefill:engine.max_batch_tokens=64",
                     "prefill:engine.max_sequences=16", "decode:engine.threads=2"))


def several(i, source, n, **fields):
    request = ids_request(source.choices(range(256), k=source.randrange(1, 200)), 24,
                          temperature=1.0, **fields)
    request.sampling.n = n
    request.sampling.seed = 100 + i
    request.response.logprobs = 1
    request.response.prompt_logprobs = 1
    request.stopping.ignore_eos = i % 2 == 0
    return request


def requests(n):
    source = random.Random(11)
    return [several(i, source, n) for i in range(PROMPTS)]


def answers(cluster, all_requests):
    out = []
    for first in range(0, len(all_requests), AT_ONCE):
        out += cluster.generate_all(all_requests[first:first + AT_ONCE])
    return out


class OutputsTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = tiny_model.write(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_four_outputs_are_the_same_split_and_unified_and_the_first_is_what_it_is_alone(self):
        with Cluster(self.model, **UNIFIED) as cluster:
            alone, unified = answers(cluster, requests(1)), answers(cluster, requests(4))
        with Cluster(self.model, **SPLIT) as cluster:
            split = answers(cluster, requests(4))
            self.assertEqual(cluster.router.metric("tandem_token_conflicts_total"), 0)
            await_true("blocks come back", cluster.all_blocks_free, 10)
        for i, (one, four, handed) in enumerate(zip(alone, unified, split)):
            with self.subTest(request=i):
                self.assertEqual(sorted(four.others), [1, 2, 3])
                self.assertEqual(four.said(), handed.said())
                self.assertEqual(one.said()[:5], four.said()[:5])
                self.assertGreater(len({tuple(four.output(k).token_ids) for k in range(4)}), 1)
                tokens = sum(len(four.output(k).token_ids) for k in range(4))
                self.assertEqual(four.end.usage.completion_tokens, tokens)
                self.assertEqual(four.end.usage.prompt_tokens, one.end.usage.prompt_tokens)
                for k in range(4):
                    self.assertEqual(len(four.output(k).logprobs), len(four.output(k).token_ids))

    def test_the_prompt_is_computed_once(self):
        request = ids_request(range(100), 8)
        request.sampling.n = 8
        request.sampling.temperature = 1
        request.stopping.ignore_eos = True
        for layout in (UNIFIED, SPLIT):
            with self.subTest(layout=layout), Cluster(self.model, **layout) as cluster:
                cluster.generate(request)
                prompt = [w.metric("tandem_worker_tokens_total", type="prompt")
                          for w in cluster.workers]
                generated = [w.metric("tandem_worker_tokens_total", type="generated")
                             for w in cluster.workers]
                self.assertEqual(prompt[0], 100)
                self.assertEqual(sum(prompt), 100)
                self.assertEqual(sum(generated), 64)
                self.assertEqual(cluster.router.metric("tandem_tokens_total", type="output"), 64)
                await_true("blocks come back", cluster.all_blocks_free, 10)

    def test_a_stop_string_ends_its_output_alone(self):
        def request(stop=None):
            r = several(4, random.Random(3), 4)
            r.stopping.max_tokens = 200
            r.stopping.stop.extend([stop] if stop else [])
            return r

        with Cluster(self.model, **SPLIT) as cluster:
            free = cluster.generate(request())
            stop = next(c for c in free.output(2).text[20:] if c.isalnum())
            held = cluster.generate(request(stop))
            tokens = 0
            for k in range(4):
                before, found, _ = free.output(k).text.partition(stop)
                self.assertEqual(held.output(k).text, before)
                self.assertEqual(held.output(k).finish, 1 if found else free.output(k).finish)
                tokens += len(held.output(k).token_ids)
            self.assertEqual(held.end.usage.completion_tokens, tokens)
            await_true("blocks come back", cluster.all_blocks_free, 10)

    def test_greedy_outputs_are_all_equal(self):
        request = text_request("Once upon", 12)
        request.sampling.n = 3
        with Cluster(SMOLLM2, **UNIFIED) as cluster:
            answer = cluster.generate(request)
        self.assertEqual([answer.output(k).token_ids for k in (1, 2)], [answer.token_ids] * 2)

    def test_each_guided_output_is_a_sentence(self):
        request = ids_request(range(40), 300, temperature=1.0)
        request.sampling.n = 4
        request.sampling.seed = 5
        request.guided.json_schema = json.dumps(
            {"type": "array", "items": {"enum": ["one", "two", 3]}, "minItems": 1, "maxItems": 4})
        said = []
        for layout in (UNIFIED, SPLIT):
            with Cluster(self.model, **layout) as cluster:
                answer = cluster.generate(request)
                said.append(answer.said())
                for k in range(4):
                    values = json.loads(answer.output(k).text)
                    self.assertTrue(set(values) <= {"one", "two", 3})
        self.assertEqual(said[0], said[1])

    def test_a_client_that_leaves_takes_all_outputs_along(self):
        request = several(0, random.Random(9), 8)
        request.stopping.max_tokens = 3000
        with Cluster(self.model, **SPLIT) as cluster:
            call = cluster.stub.Generate(request, timeout=60)
            next(call)
            call.cancel()
            await_true("blocks come back", cluster.all_blocks_free, 10)


if __name__ == "__main__":
    unittest.main()
