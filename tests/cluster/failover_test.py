"""A killed worker costs time, not the stream: what a client reads is, to the last bit, what it
would have read."""

import glob
import os
import signal
import tempfile
import threading
import time
import unittest
from unittest import mock

import grpc
import tiny_model
from cluster import PATIENCE, Answer, Cluster, await_true, error_info, ids_request
from kinds import KINDS, TOKENS, greedy, sampled

# How much of an answer has been read when its workers die; past the middle, too.
POSITIONS = (1, 2, 17, 300) if PATIENCE == 1 else (1, 17)
PAIR = ("prefill", "decode")


def step_to(path, offset):
    """The processes' clocks, from now on, in seconds from the true one."""
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(offset)
    os.replace(path + ".new", path)


class FailoverTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = tiny_model.write(os.path.join(cls.folder.name, "model"))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def read(self, cluster, request, tokens, harm):
        """The whole answer; `harm` is done once so many tokens of it have been read."""
        answer, done = Answer(), False
        for message in cluster.stub.Generate(request, timeout=120 * PATIENCE):
            answer.add(message)
            if not done and len(answer.token_ids) >= tokens:
                harm()
                done = True
        self.assertTrue(done, "the answer was shorter")
        return answer

    def bring_back(self, cluster):
        for worker in cluster.workers:
            if worker.popen.poll() is not None:
                worker.restart()
        for worker in cluster.workers:
            worker.await_ready()
        await_true("the router has its workers again",
                   lambda: cluster.linked() == len(cluster.workers), 20 * PATIENCE)

    def undisturbed(self, cluster, request):
        answer = cluster.generate(request)
        self.assertEqual(answer.end.serving.attempts, 1)
        return answer

    def kill_midway(self, roles, victims, resumed):
        """Kills workers by their numbers in the midst of answers of every kind."""
        with Cluster(self.model, roles) as cluster:
            retried = 0
            for number, kind in enumerate(KINDS):
                request = kind(number)
                expected = self.undisturbed(cluster, request)
                for position in POSITIONS:
                    with self.subTest(kind=kind.__name__, position=position):
                        answer = self.read(
                            cluster, request, position,
                            lambda: [cluster.workers[v].kill() for v in victims])
                        self.assertEqual(answer.said(), expected.said())
                        self.assertEqual(answer.start.seed, expected.start.seed)
                        self.assertEqual(answer.end.usage.completion_tokens,
                                         expected.end.usage.completion_tokens)
                        retried += answer.end.serving.attempts > 1
                        self.bring_back(cluster)
            if resumed:
                self.assertGreater(retried, len(KINDS))
                self.assertGreater(cluster.router.metric("tandem_resumed_requests_total"), 0)
            self.assertEqual(cluster.router.metric("tandem_token_conflicts_total"), 0)
            await_true("blocks are free", cluster.all_blocks_free, 5 * PATIENCE)

    def test_the_decode_worker_is_killed_and_the_prefill_worker_does_both_jobs(self):
        self.kill_midway(PAIR, [1], resumed=True)

    def test_the_prefill_worker_is_killed(self):
        self.kill_midway(PAIR, [0], resumed=False)

    def test_both_are_killed_and_another_pair_goes_on(self):
        # Whichever of the four the request was at.
        for victims in ([0, 1], [2, 3], [0, 3]):
            self.kill_midway((*PAIR, *PAIR), victims, resumed=False)

    def test_all_workers_are_killed_and_the_request_waits_for_one(self):
        with Cluster(self.model, PAIR) as cluster:
            request = sampled(5)
            expected = self.undisturbed(cluster, request)

            def harm():
                for worker in cluster.workers:
                    worker.kill()
                for worker in cluster.workers:
                    worker.restart()

            answer = self.read(cluster, request, 20, harm)
            self.assertEqual(answer.said(), expected.said())
            self.assertGreater(answer.end.serving.attempts, 1)
            self.assertGreaterEqual(answer.end.serving.failed_attempts[0].completion_tokens, 20)

    def test_a_prefill_worker_killed_in_the_prompt_is_replaced(self):
        small = ("prefill:engine.max_batch_tokens=64", "prefill:engine.max_sequences=4")
        with Cluster(self.model, PAIR, worker=small) as cluster:
            request = ids_request([7] * 6000, 30)
            expected = self.undisturbed(cluster, request)
            request.token_ids.ids[0] = 8  # another prompt: the cache does not have it
            call = cluster.stub.Generate(request, timeout=120 * PATIENCE)
            before = cluster.workers[0].metric("tandem_worker_tokens_total")
            await_true("the prefill worker computes",
                       lambda: cluster.workers[0].metric("tandem_worker_tokens_total") > before,
                       10 * PATIENCE)
            cluster.workers[0].kill()
            answer = Answer()
            for message in call:
                answer.add(message)
            self.assertEqual(len(answer.token_ids), len(expected.token_ids))
            self.bring_back(cluster)
            self.assertEqual(answer.said(), self.undisturbed(cluster, request).said())

    def test_a_worker_that_stands_still_for_a_moment_is_waited_for_and_for_long_is_left(self):
        with Cluster(self.model, PAIR) as cluster:
            request = sampled(6)
            expected = self.undisturbed(cluster, request)
            for seconds, attempts in ((1, 1), (8 * PATIENCE, 2)):
                with self.subTest(seconds=seconds):
                    decode = cluster.workers[1].popen
                    timer = threading.Timer(seconds, decode.send_signal, [signal.SIGCONT])

                    def harm(timer=timer):
                        decode.send_signal(signal.SIGSTOP)
                        timer.start()

                    start = time.monotonic()
                    answer = self.read(cluster, request, 5, harm)
                    self.assertEqual(answer.said(), expected.said())
                    # A machine so slow that a second is not a moment may try again, too.
                    self.assertGreaterEqual(answer.end.serving.attempts, attempts)
                    if attempts > 1:
                        self.assertLess(time.monotonic() - start, seconds)
                    timer.join()
                    await_true("the router has its workers again",
                               lambda: cluster.linked() == 2, 20 * PATIENCE)
            await_true("blocks are free", cluster.all_blocks_free, 5 * PATIENCE)

    def test_a_worker_that_comes_back_with_other_weights_gets_nothing_of_the_old_ones(self):
        other = tiny_model.write(os.path.join(self.folder.name, "other"), seed=2)
        with Cluster(self.model, ("unified",), router=("failover.wait=2s",)) as cluster:
            request = greedy(7)
            self.undisturbed(cluster, request)

            def harm():
                cluster.workers[0].kill()
                # The name stays: whoever asks for the model gets the new weights from now on.
                cluster.workers[0].restart(f"model.path={other}", "model.name=model")

            with self.assertRaises(grpc.RpcError) as raised:
                self.read(cluster, request, 5, harm)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(error_info(raised.exception).reason, "WORKER_LOST")
            cluster.workers[0].await_ready()
            await_true("the router has the new one", lambda: cluster.linked() == 1, 20 * PATIENCE)
            self.assertEqual(len(cluster.generate(request).token_ids), TOKENS)

    @unittest.skipIf(PATIENCE > 1, "sanitizers and libfaketime both want to be loaded first")
    def test_a_step_of_the_system_clock_moves_no_deadline(self):
        library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
        if not library:
            self.skipTest("libfaketime is not installed")
        offset = os.path.join(self.folder.name, "offset")
        step_to(offset, "+0")
        with mock.patch.dict(os.environ, {
                "LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": offset,
                "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}):
            cluster = Cluster(self.model, PAIR)
            cluster.__enter__()
        try:
            request = sampled(8)
            expected = self.undisturbed(cluster, request)
            for step in ("+3600", "-7200", "+0"):
                answer = self.read(cluster, request, 20, lambda to=step: step_to(offset, to))
                self.assertEqual(answer.said(), expected.said())
                self.assertEqual(answer.end.serving.attempts, 1)
                # A call that begins right after a step has its deadline, too.
                self.assertEqual(self.undisturbed(cluster, request).said(), expected.said())
                time.sleep(1.5)  # heartbeats of the new time
                self.assertEqual(cluster.linked(), 2)
                # And so has a link that is made after it: its receiver has the true time.
                cluster.workers[1].kill()
                self.bring_back(cluster)
                self.assertEqual(self.undisturbed(cluster, request).said(), expected.said())
        finally:
            cluster.__exit__(None, None, None)

    def test_a_rolling_restart_of_every_worker_under_load_fails_no_request(self):
        requests = [kind(seed) for seed in range(3) for kind in KINDS]
        with Cluster(self.model, (*PAIR, *PAIR), worker=("drain_timeout=1s",)) as cluster:
            expected = [self.undisturbed(cluster, r).said() for r in requests]
            stop, wrong, served = threading.Event(), [], []

            def client(first):
                at = first
                while not stop.is_set():
                    try:
                        said = cluster.generate(requests[at % len(requests)]).said()
                        served.append(at)
                        if said != expected[at % len(requests)]:
                            wrong.append(f"request {at} was answered differently")
                    except grpc.RpcError as error:
                        wrong.append(f"request {at}: {error}")
                    at += 1

            clients = [threading.Thread(target=client, args=[i * 5]) for i in range(4)]
            for one in clients:
                one.start()
            for worker in cluster.workers:
                self.assertEqual(worker.stop(), 0, worker.logged())
                self.bring_back(cluster)
            stop.set()
            for one in clients:
                one.join()
            self.assertEqual(wrong, [])
            self.assertGreater(len(served), 0)
            self.assertEqual(cluster.router.metric("tandem_token_conflicts_total"), 0)
            await_true("blocks are free", cluster.all_blocks_free, 5 * PATIENCE)


if __name__ == "__main__":
    unittest.main()
