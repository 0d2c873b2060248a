"""Streams that end early, are read slowly, or lose a worker: nothing leaks, nobody else suffers."""

import os
import signal
import subprocess
import tempfile
import time
import unittest

import grpc
import tiny_model
from cluster import BIN, PATIENCE, Cluster, await_true, error_info, ids_request
from tandem.inference.v1.inference_pb2_grpc import InferenceServiceStub

CONTEXT = 1 << 18
LONG = 200_000  # tokens: far more than any machine computes within the limits below
ONCE = ("failover.max_attempts=1",)  # failover_test.py has what comes after the first attempt
SMALL_STEPS = ("engine.max_sequences=4", "engine.max_batch_tokens=20")


def endless(**fields):
    request = ids_request(range(200), LONG, **fields)
    request.stopping.ignore_eos = True
    return request


class StreamsTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = tiny_model.write(cls.folder.name, max_position_embeddings=CONTEXT)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def layouts(self):
        for roles in (("prefill", "decode"), ("unified",)):
            with self.subTest(roles=roles):
                yield roles

    def begin(self, cluster, request, messages=5):
        """A stream of which some messages have been read."""
        call = cluster.stub.Generate(request, timeout=120 * PATIENCE)
        for _ in range(messages):
            next(call)
        return call

    def await_blocks_in_use(self, cluster):
        """The gauges follow the engine with a delay of their own."""
        await_true("blocks are in use", lambda: not cluster.all_blocks_free(), 1 * PATIENCE)

    def test_a_cancelled_request_frees_every_block_within_a_second(self):
        for roles in self.layouts():
            with Cluster(self.model, roles) as cluster:
                calls = [self.begin(cluster, endless()) for _ in range(4)]
                self.await_blocks_in_use(cluster)
                for call in calls:
                    call.cancel()
                await_true("blocks are free", cluster.all_blocks_free, 1 * PATIENCE)

    def test_a_client_that_is_killed_frees_every_block_within_a_second(self):
        with Cluster(self.model) as cluster:
            client = subprocess.Popen(
                [os.path.join(BIN, "tandem"), "generate", "--endpoint",
                 cluster.router.addresses["grpc"], "--token-ids", "1,2,3", "--ignore-eos",
                 "--max-tokens", str(LONG)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            client.stdout.read(1)
            self.await_blocks_in_use(cluster)
            client.kill()
            client.communicate()
            await_true("blocks are free", cluster.all_blocks_free, 1 * PATIENCE)

    def test_a_deadline_ends_the_request_everywhere(self):
        for roles in self.layouts():
            with Cluster(self.model, roles) as cluster:
                with self.assertRaises(grpc.RpcError) as raised:
                    for _ in cluster.stub.Generate(endless(), timeout=0.5 * PATIENCE):
                        pass
                self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
                await_true("blocks are free", cluster.all_blocks_free, 1 * PATIENCE)

    def test_a_slow_reader_slows_its_own_stream_only_and_loses_nothing(self):
        request = endless(temperature=1.0)
        request.stopping.max_tokens = 6000
        request.sampling.seed = 5
        request.response.logprobs = 20
        quick = ids_request(range(50), 50)
        with Cluster(self.model) as cluster:
            expected = cluster.generate(request)
            before = cluster.router.resident_bytes()
            # A window of 64 KiB that does not grow: what the client's own library holds is little.
            channel = cluster.connect(("grpc.http2.bdp_probe", 0))
            slow = InferenceServiceStub(channel).Generate(request, timeout=120 * PATIENCE)
            next(slow)
            await_true("the slow reader's request is paused",
                       lambda: cluster.router.metric("tandem_client_pauses_total") >= 1,
                       60 * PATIENCE)
            for _ in range(5):
                self.assertEqual(len(cluster.generate(quick).token_ids), 50)
            self.assertLess(cluster.router.resident_bytes() - before, 32 << 20)
            rest = [t for m in slow for d in m.outputs for t in d.token_ids]
            self.assertEqual(rest, expected.token_ids[len(expected.token_ids) - len(rest):])
            self.assertGreater(len(rest), 5000)
            channel.close()

    def test_a_decode_worker_killed_midway_ends_its_streams_with_a_typed_error(self):
        with Cluster(self.model, router=ONCE) as cluster:
            call = self.begin(cluster, endless())
            start = time.monotonic()
            cluster.workers[1].kill()
            with self.assertRaises(grpc.RpcError) as raised:
                for _ in call:
                    pass
            self.assertLess(time.monotonic() - start, 5 * PATIENCE)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(error_info(raised.exception).reason, "WORKER_LOST")
            await_true("the prefill worker's blocks are free", cluster.all_blocks_free,
                       3 * PATIENCE)
            self.assertIsNone(cluster.router.popen.poll())

    def test_a_killed_router_frees_every_block_within_a_second(self):
        for roles in self.layouts():
            with Cluster(self.model, roles) as cluster:
                calls = [self.begin(cluster, endless()) for _ in range(4)]
                self.await_blocks_in_use(cluster)
                cluster.router.kill()
                await_true("blocks are free", cluster.all_blocks_free, 1 * PATIENCE)
                for call in calls:
                    with self.assertRaises(grpc.RpcError) as raised:
                        for _ in call:
                            pass
                    self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def test_a_router_that_stands_still_frees_every_block_within_five_seconds(self):
        for roles in self.layouts():
            with Cluster(self.model, roles, router=ONCE) as cluster:
                calls = [self.begin(cluster, endless()) for _ in range(4)]
                self.await_blocks_in_use(cluster)
                # Like a machine without power: its connections stay open.
                cluster.router.popen.send_signal(signal.SIGSTOP)
                try:
                    await_true("blocks are free", cluster.all_blocks_free, 5 * PATIENCE)
                finally:
                    cluster.router.popen.send_signal(signal.SIGCONT)
                for call in calls:
                    with self.assertRaises(grpc.RpcError) as raised:
                        for _ in call:
                            pass
                    self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
                    self.assertEqual(error_info(raised.exception).reason, "WORKER_LOST")
                await_true("the router has its workers again",
                           lambda: cluster.linked() == len(roles), 10 * PATIENCE)
                answer = cluster.generate(ids_request(range(50), 20))
                self.assertEqual(len(answer.token_ids), 20)

    def test_a_worker_whose_steps_take_too_long_is_not_ready_and_loses_its_requests(self):
        # Steps of some ten milliseconds, and a limit that makes each of them a stuck one.
        settings = ("heartbeat.stuck_after=2ms",)
        with Cluster(self.model, ("unified",), worker=settings,
                     router=(*settings, *ONCE)) as cluster:
            reasons = set()

            def stuck_for_router_and_worker():
                try:
                    cluster.generate(ids_request([1] * 16000, 10))
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                    reasons.add(error_info(error).reason)
                return ("WORKER_STUCK" in reasons
                        and "the engine is stuck" in cluster.workers[0].logged())

            await_true("both found it stuck", stuck_for_router_and_worker, 60 * PATIENCE)
            await_true("the router has its worker again", lambda: cluster.linked() == 1,
                       10 * PATIENCE)
            await_true("blocks are free", cluster.all_blocks_free, 5 * PATIENCE)

    def test_a_prefill_worker_killed_midway_frees_what_was_reserved_for_it(self):
        with Cluster(self.model, worker=SMALL_STEPS, router=ONCE) as cluster:
            call = cluster.stub.Generate(ids_request([1] * 16000, 10), timeout=120 * PATIENCE)
            await_true("the prefill worker computes",
                       lambda: cluster.workers[0].metric("tandem_worker_tokens_total") > 0,
                       10 * PATIENCE)
            cluster.workers[0].kill()
            with self.assertRaises(grpc.RpcError) as raised:
                for _ in call:
                    pass
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
            await_true("the decode worker's blocks are free", cluster.all_blocks_free,
                       5 * PATIENCE)


if __name__ == "__main__":
    unittest.main()
