"""KV on its way from prefill to decode: through shared memory, or through a proxy that looks on or
does harm."""

import contextlib
import itertools
import os
import random
import socket
import statistics
import tempfile
import threading
import unittest

import tiny_model
from cluster import PATIENCE, SMOLLM2, Cluster, await_true, ids_request
from kinds import KINDS

# Where the decode worker tells others that it listens: the proxies are there.
IN_FRONT = "127.0.0.3"
SETTINGS = ("engine.max_sequences=4", "engine.max_batch_tokens=64")
THROUGH_PROXY = (f"decode:kv.advertise_host={IN_FRONT}", "kv.push_timeout=2s", "kv.shm=false",
                 *SETTINGS)
PROMPT = [(7 * i) % 256 for i in range(6000)]


class Proxy:
    """Carries bytes from the port of IN_FRONT that `address` names to the same of loopback, counts
    them, and may flip a bit of one, stop carrying, or hang up, when so many have passed."""

    def __init__(self, address):
        self.port = int(address.rpartition(":")[2])
        self.passed = 0
        self.harm = None  # (what, after how many bytes): "flip", "stall", "cut"
        self.sockets = []
        self.listener = socket.create_server((IN_FRONT, self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                self.sockets += [near, far]
                for source, target, counted in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self.carry, args=(source, target, counted),
                                     daemon=True).start()

    def carry(self, source, target, counted):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    data = self.harmed(data)
                    self.passed += len(data)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def harmed(self, data):
        what, after = self.harm or (None, 0)
        if what is None or self.passed + len(data) <= after:
            return data
        if what == "stall":
            threading.Event().wait()  # for ever: the thread ends with the test's process
        self.harm = None
        if what == "cut":
            raise ConnectionError
        spoilt = bytearray(data)
        spoilt[len(data) // 2] ^= 4
        return bytes(spoilt)

    def close(self):
        self.listener.close()
        for end in self.sockets:
            end.close()


class TransferTest(unittest.TestCase):

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        model = tiny_model.write(os.path.join(folder, "tiny"))
        self.cluster = self.stack.enter_context(Cluster(model, worker=THROUGH_PROXY))
        addresses = self.cluster.workers[1].addresses
        self.stack.callback(Proxy(addresses["grpc"]).close)  # of Reserve, Complete and the like
        self.proxy = Proxy(addresses["kv"])
        self.stack.callback(self.proxy.close)

    def test_most_of_the_kv_travels_while_the_prompt_is_still_computed(self):
        call = self.cluster.stub.Generate(ids_request(PROMPT, 8), timeout=120 * PATIENCE)
        while not any(delta.token_ids for delta in next(call).outputs):
            pass
        before_first_token = self.proxy.passed
        kv_bytes = [m.end.serving.kv_bytes for m in call if m.HasField("end")][0]
        self.assertGreaterEqual(kv_bytes, len(PROMPT) * 1024)
        self.assertGreaterEqual(self.proxy.passed, kv_bytes)  # all of it took this way
        self.assertGreater(before_first_token, kv_bytes / 2)
        prefill = self.cluster.workers[0]
        for phase in ("linking", "reserving", "pushing", "completing"):
            await_true(phase + " is counted", lambda one=phase: prefill.metric(
                "tandem_handoff_phase_seconds_count", phase=one) >= 1, 5 * PATIENCE)

    def goes_on(self, what, request):
        """The answer, though the connection was harmed in the midst of its handoff."""
        request.cache.bypass = True  # else the decode worker has the prompt from the first time
        expected = self.cluster.generate(request)
        self.assertEqual(expected.end.serving.attempts, 1)
        self.proxy.harm = (what, self.proxy.passed + 1_000_000)
        answer = self.cluster.generate(request)
        self.assertEqual(answer.said(), expected.said())
        self.assertEqual(answer.end.serving.attempts, 2)
        await_true("blocks are free", self.cluster.all_blocks_free, 5 * PATIENCE)
        self.proxy.harm = None
        self.assertEqual(self.cluster.generate(request).said(), expected.said())

    def test_a_flipped_bit_costs_an_attempt_and_never_changes_an_answer(self):
        self.goes_on("flip", ids_request(PROMPT, 8))

    def test_a_connection_that_is_cut_costs_an_attempt(self):
        for number, kind in enumerate(KINDS):
            with self.subTest(kind=kind.__name__):
                request = kind(number)
                request.token_ids.ids[:] = PROMPT
                self.goes_on("cut", request)

    def test_a_peer_that_takes_nothing_more_is_given_up(self):
        self.goes_on("stall", ids_request(PROMPT, 8))


class RealModelTest(unittest.TestCase):

    @unittest.skipUnless(os.path.exists(SMOLLM2), "the default model is not in the cache")
    @unittest.skipIf(PATIENCE > 1, "a long prompt through a sanitizer takes minutes")
    def test_layers_of_smollm2_travel_while_later_ones_are_computed(self):
        settings = (f"decode:kv.advertise_host={IN_FRONT}", "kv.shm=false")
        with Cluster(SMOLLM2, worker=settings) as cluster:
            prefill, decode = cluster.workers
            with contextlib.closing(Proxy(decode.addresses["grpc"])), \
                    contextlib.closing(Proxy(decode.addresses["kv"])) as proxy:
                ids = random.Random(6).choices(range(1000, 40000), k=2048)
                call = cluster.stub.Generate(ids_request(ids, 8), timeout=120)
                timeline = list(self.watch(proxy, prefill, len(ids)))
                serving = [m.end.serving for m in call if m.HasField("end")][0]
                await_true("all is confirmed", lambda: prefill.metric(
                    "tandem_handoff_phase_seconds_count", phase="completing") >= 1, 5)
                behind = prefill.metric("tandem_handoff_phase_seconds_sum", phase="completing")
        self.assertEqual(serving.attempts, 1)
        share = behind * 1e6 / serving.first_token_us
        per_token = proxy.passed / len(ids)  # with its share of the frames' heads
        steps = {}  # samples by what was computed when their step began
        for passed, computed in timeline:
            steps.setdefault(computed, []).append(passed)
        shares = []  # of each step's bytes: what had passed when half of its time was over
        for computed, end in itertools.pairwise([*steps, len(ids)]):
            middle = steps[computed][len(steps[computed]) // 2]
            shares.append((middle - computed * per_token) / ((end - computed) * per_token))
        print(f"{serving.kv_bytes / 1e6:.0f} MB of KV in {len(steps)} steps; in the middle of a "
              f"step {statistics.median(shares):.0%} of its KV had passed (median); the first "
              f"token took {serving.first_token_us / 1e6:.2f} s, and the KV was confirmed "
              f"{share:.2%} of that behind the prompt's end")
        self.assertGreater(statistics.median(shares), 0.2)

    def watch(self, proxy, prefill, prompt):
        """(bytes that have passed, prompt tokens whose step is over), until all are."""
        while True:
            passed = proxy.passed  # first: what is computed meanwhile counts against it
            computed = prefill.metric("tandem_worker_tokens_total", type="prompt")
            if computed >= prompt:
                return
            yield passed, computed


class TransportTest(unittest.TestCase):

    def handed_over(self, folder, *settings):
        """The answer to PROMPT, and what the prefill worker logged."""
        model = tiny_model.write(os.path.join(folder, "tiny"))
        with Cluster(model, worker=(*SETTINGS, *settings)) as cluster:
            answer = cluster.generate(ids_request(PROMPT, 32))
            prefill, decode = cluster.workers
            sent = prefill.metric("tandem_handoff_bytes_total", direction="sent")
            self.assertGreaterEqual(sent, len(PROMPT) * 1024)
            self.assertEqual(sent, decode.metric("tandem_handoff_bytes_total",
                                                 direction="received"))
            return answer.said(), prefill.logged()

    def test_the_way_of_the_kv_changes_no_token(self):
        with tempfile.TemporaryDirectory() as folder:
            by_tcp, log = self.handed_over(folder, "kv.shm=false")
            self.assertIn("transport=tcp", log)
            by_shm, log = self.handed_over(folder)
            self.assertIn("transport=shm", log)
            self.assertNotIn("transport=tcp", log)
            fallen_back, log = self.handed_over(folder, f"decode:kv.shm_directory={folder}/kv")
            self.assertIn("transport=tcp", log)
            self.assertEqual(log.count("kv transport does not reach the peer"), 1)
            self.assertEqual(by_shm, by_tcp)
            self.assertEqual(fallen_back, by_tcp)
            self.assertEqual(os.listdir(f"{folder}/kv"), [])  # a worker that stops leaves nothing


if __name__ == "__main__":
    unittest.main()
