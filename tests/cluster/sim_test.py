"""Six workers that take time instead of computing: the scheduling is the real thing."""

import random
import tempfile
import unittest

import tiny_model
from cluster import Cluster, await_true, ids_request

TIMES = ("backend=sim", "sim.step=1ms", "sim.prefill_token=20us", "sim.decode_token=50us")
ROLES = ("prefill",) * 2 + ("decode",) * 4


def requests():
    source = random.Random(5)
    out = []
    for i in range(64):
        ids = source.choices(range(256), k=source.randrange(1, 200))
        request = ids_request(ids, source.randrange(1, 400), temperature=1.0)
        request.sampling.seed = i
        request.priority = source.randrange(-2, 3)
        out.append(request)
    return out


class SimTest(unittest.TestCase):

    def test_many_workers_with_little_memory_answer_as_one_with_much(self):
        with tempfile.TemporaryDirectory() as folder:
            model = tiny_model.write(folder)
            with Cluster(model, ("unified",), TIMES) as cluster:
                want = [a.token_ids for a in cluster.generate_all(requests())]
            with Cluster(model, ROLES, (*TIMES, "decode:kv.blocks=60")) as cluster:
                got = [a.token_ids for a in cluster.generate_all(requests())]
                self.assertEqual(want, got)
                self.assertEqual([len(ids) for ids in got],
                                 [r.stopping.max_tokens for r in requests()])
                self.assertEqual(cluster.router.metric("tandem_token_conflicts_total"), 0)
                await_true("blocks are free", cluster.all_blocks_free, 5)
                self.assertGreater(sum(w.metric("tandem_worker_preemptions_total")
                                       for w in cluster.workers), 0)


if __name__ == "__main__":
    unittest.main()
