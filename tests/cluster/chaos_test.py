"""Workers are killed all the time, and nobody notices: no request fails, no token changes, no block
is left behind."""

import random
import tempfile
import threading
import time
import unittest

import grpc
import tiny_model
from cluster import PATIENCE, Answer, Cluster, await_true, ids_request

# At least as many of both: a fast machine asks more while the kills last.
REQUESTS, KILLS = (1000, 5) if PATIENCE == 1 else (100, 3)
AT_ONCE = 8
KILL_EVERY = 5  # seconds
DISTINCT = 25  # requests; each is asked again and again
ROLES = ("prefill", "decode", "prefill", "decode")


def requests():
    source = random.Random(3)
    for i in range(DISTINCT):
        request = ids_request(source.choices(range(256), k=source.randrange(1, 600)),
                              source.randrange(100, 900), temperature=float(i % 2))
        request.sampling.seed = i
        request.sampling.n = 4 if i % 5 == 0 else 1
        request.response.logprobs = i % 3
        request.stopping.ignore_eos = True
        yield request


class Clients:
    """Ask for everything in turn, `AT_ONCE` at a time, and note what goes wrong, until there were
    requests and kills enough."""

    def __init__(self, cluster, asked, expected):
        self.cluster, self.asked, self.expected = cluster, asked, expected
        self.lock = threading.Lock()
        self.next = self.kills = 0
        self.wrong, self.pauses = [], []
        self.threads = [threading.Thread(target=self.work) for _ in range(AT_ONCE)]
        for thread in self.threads:
            thread.start()

    def running(self):
        return any(thread.is_alive() for thread in self.threads)

    def work(self):
        while True:
            with self.lock:
                if self.next >= REQUESTS and (self.kills >= KILLS and self.pauses or self.wrong):
                    return
                number = self.next
                self.next += 1
            self.one(number)

    def one(self, number):
        request = self.asked[number % DISTINCT]
        answer, last, longest = Answer(), time.monotonic(), 0
        try:
            for message in self.cluster.stub.Generate(request, timeout=120 * PATIENCE):
                longest = max(longest, time.monotonic() - last)
                last = time.monotonic()
                answer.add(message)
        except grpc.RpcError as error:
            with self.lock:
                self.wrong.append(f"request {number} failed: {error}")
            return
        with self.lock:
            if answer.said() != self.expected[number % DISTINCT]:
                self.wrong.append(f"request {number} was answered differently")
            if answer.end.serving.attempts > 1:
                self.pauses.append(longest)


class ChaosTest(unittest.TestCase):

    def kill_and_restart(self, cluster, clients):
        """A worker every KILL_EVERY seconds, the next one when the last one is back."""
        source, at = random.Random(4), time.monotonic()
        while clients.running():
            if time.monotonic() - at < KILL_EVERY:
                time.sleep(0.05)
                continue
            at = time.monotonic()
            worker = source.choice(cluster.workers)
            worker.kill()
            worker.restart()
            worker.await_ready()
            with clients.lock:
                clients.kills += 1

    def test_with_a_kill_every_five_seconds_no_request_fails_and_no_token_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(tiny_model.write(folder), ROLES) as cluster:
                asked = list(requests())
                expected = [cluster.generate(r).said() for r in asked]
                start = time.monotonic()
                clients = Clients(cluster, asked, expected)
                self.kill_and_restart(cluster, clients)
                seconds = time.monotonic() - start
                self.assertEqual(clients.wrong, [])
                await_true("the router has its workers again",
                           lambda: cluster.linked() == len(ROLES), 20 * PATIENCE)
                await_true("blocks are free", cluster.all_blocks_free, 5 * PATIENCE)
                self.assertEqual(cluster.router.metric("tandem_token_conflicts_total"), 0)
                pauses = sorted(clients.pauses)
                p99 = pauses[min(len(pauses) - 1, int(len(pauses) * 0.99))]
                print(f"{clients.next} requests in {seconds:.0f} s, {clients.kills} kills, "
                      f"{len(pauses)} requests moved; longest pause of these: median "
                      f"{pauses[len(pauses) // 2] * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
                self.assertLessEqual(p99, 3 * PATIENCE)


if __name__ == "__main__":
    unittest.main()
