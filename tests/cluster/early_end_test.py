"""A request that ends at the prefill worker, with a handoff open, ends with that one's word."""

import random
import unittest

import grpc
from cluster import PATIENCE, SMOLLM2, Cluster, await_true, ids_request
from tandem.inference.v1 import sampling_pb2

TRIES = 8
WORKERS = ("engine.threads=1", "engine.max_context=4096")


def request(tokens, seed, max_tokens=20):
    out = ids_request(random.Random(seed).choices(range(100, 40000), k=tokens), max_tokens)
    out.cache.bypass = True
    return out


class EarlyEndTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(SMOLLM2, worker=WORKERS)
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def tearDown(self):
        await_true("blocks are free", self.cluster.all_blocks_free, 10 * PATIENCE)

    def test_a_time_limit_during_a_long_prompt_is_one(self):
        for seed in range(TRIES):
            limited = request(3000, seed)
            limited.stopping.time_limit_ms = 300 + 20 * seed
            answer = self.cluster.generate(limited)
            self.assertEqual(answer.finish, sampling_pb2.FINISH_REASON_TIME_LIMIT)
            self.assertEqual(answer.token_ids, [])

    def test_a_conflict_that_the_first_draw_finds_is_the_requests_fault(self):
        for seed in range(TRIES):
            conflict = request(40, seed)
            conflict.guided.choice.values.extend(["yes", "no"])
            conflict.sampling.allowed_token_ids.append(3000)
            error = self.cluster.failure(conflict)
            self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT, error.details())
            self.assertIn("sampling.allowed_token_ids", error.details())


if __name__ == "__main__":
    unittest.main()
