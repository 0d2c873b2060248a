"""Bad input gets an error that says what was wrong, and costs nobody else anything."""

import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
import unittest

import grpc
import tiny_model
from cluster import (BIN, PATIENCE, Answer, Cluster, Process, await_true, connect, details,
                     ids_request, pb, text_request, wrong_fields)
from google.rpc import error_details_pb2
from tandem.inference.v1.inference_pb2_grpc import InferenceServiceStub

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


def good():
    return ids_request([1, 2, 3], 4)


class RequestsTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        model = tiny_model.write(os.path.join(cls.folder.name, "tiny"),
                                 max_position_embeddings=256)
        cls.cluster = Cluster(model)
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)
        cls.folder.cleanup()

    def tearDown(self):
        # Whatever was refused: the next request is answered, and no block is held.
        self.assertEqual(len(self.cluster.generate(good()).token_ids), 4)
        await_true("blocks are free", self.cluster.all_blocks_free, 2 * PATIENCE)

    def refused(self, request, code, *words):
        error = self.cluster.failure(request)
        self.assertEqual(error.code(), code, error.details())
        for word in words:
            self.assertIn(word, error.details())
        self.assertEqual(len(details(error, error_details_pb2.ErrorInfo)), 1)
        return error

    def test_an_unknown_model_is_named(self):
        request = good()
        request.model = "gpt-9"
        self.refused(request, grpc.StatusCode.NOT_FOUND, "gpt-9")

    def test_an_empty_prompt(self):
        self.refused(ids_request([], 4), INVALID, "token_ids", "empty")
        self.refused(text_request("", 4), INVALID, "empty")

    def test_no_input_at_all(self):
        self.refused(pb.GenerateRequest(), INVALID, "input")

    def test_a_prompt_that_is_too_long_names_length_and_limit(self):
        self.refused(ids_request([1] * 300, 4), INVALID, "300", "256")

    def test_token_ids_out_of_range_are_named(self):
        for bad in (-1, 300, 2**31 - 1):
            self.refused(ids_request([1, bad], 4), INVALID, str(bad))

    def test_each_wrong_sampling_field_is_named_not_only_the_first(self):
        request = good()
        request.sampling.temperature = -1
        request.sampling.top_p = 0
        request.sampling.min_p = 2
        error = self.refused(request, INVALID)
        self.assertEqual(wrong_fields(error),
                         {"sampling.temperature", "sampling.top_p", "sampling.min_p"})

    def test_not_a_number_is_no_temperature(self):
        for value in (float("nan"), float("inf")):
            self.refused(ids_request([1], 4, temperature=value), INVALID, "sampling.temperature")

    def test_max_tokens_of_zero(self):
        error = self.refused(ids_request([1], 0), INVALID)
        self.assertEqual(wrong_fields(error), {"stopping.max_tokens"})

    def test_fields_that_are_not_honoured_yet_are_refused_by_name(self):
        cases = {
            "lora_name": lambda r: setattr(r, "lora_name", "x"),
        }
        for name, change in cases.items():
            with self.subTest(field=name):
                request = good()
                change(request)
                self.refused(request, UNIMPLEMENTED, name)

    def test_a_neutral_value_of_such_a_field_is_fine(self):
        request = good()
        request.sampling.n = 1
        request.sampling.repetition_penalty = 1
        request.stopping.min_tokens = 0
        self.assertEqual(len(self.cluster.generate(request).token_ids), 4)

    def test_embeddings_are_not_there_yet(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.cluster.stub.Embed(pb.EmbedRequest(texts=["x"]), timeout=10)
        self.assertEqual(raised.exception.code(), UNIMPLEMENTED)


class CapacityTest(unittest.TestCase):

    def test_a_need_that_can_never_fit_names_both_numbers(self):
        with tempfile.TemporaryDirectory() as folder:
            model = tiny_model.write(folder)
            with Cluster(model, worker=("kv.blocks=8",)) as cluster:
                error = cluster.failure(ids_request([1] * 100, 100))
                self.assertEqual(error.code(), INVALID, error.details())
                self.assertIn("200 tokens", error.details())
                self.assertIn("128", error.details())  # 8 blocks of 16 tokens
                self.assertEqual(len(cluster.generate(ids_request([1] * 64, 64)).token_ids), 64)

    def test_what_does_not_fit_now_waits_its_turn(self):
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(tiny_model.write(folder), ("unified",), ("kv.blocks=8",)) as cluster:
                answers = cluster.generate_all([ids_request([i] * 60, 60) for i in range(12)])
                self.assertEqual([len(a.token_ids) for a in answers], [60] * 12)

    def test_a_full_queue_refuses_with_a_time_to_try_again(self):
        with tempfile.TemporaryDirectory() as folder:
            with Cluster(tiny_model.write(folder), ("unified",),
                         ("kv.blocks=520", "engine.max_queue=1",
                          "engine.max_sequences=1")) as cluster:
                request = ids_request([1], 8000)
                request.stopping.ignore_eos = True
                calls = [cluster.stub.Generate(request, timeout=60 * PATIENCE) for _ in range(8)]
                refused = []
                for call in calls[1:]:
                    await_true("some request ends", lambda: any(c.done() for c in calls), 10)
                    refused += [c for c in calls if c.done() and c not in refused]
                self.assertGreaterEqual(len(refused), 1)
                for call in refused:
                    self.assertEqual(call.code(), grpc.StatusCode.UNAVAILABLE)
                    retry = details(call, error_details_pb2.RetryInfo)
                    self.assertEqual(len(retry), 1)
                for call in calls:
                    call.cancel()

    def small_decode_worker(self, folder, *settings):
        """With one place, and room for a request that outlasts every test."""
        small = ("decode:kv.blocks=13000", "decode:engine.max_sequences=1")
        model = tiny_model.write(folder, max_position_embeddings=1 << 18)
        return Cluster(model, worker=(*small, *settings), router=("failover.max_attempts=1",))

    def fill(self, cluster):
        """A stream that has the decode worker's only place."""
        request = ids_request([1], 200_000)
        request.stopping.ignore_eos = True
        call = cluster.stub.Generate(request, timeout=60 * PATIENCE)
        await_true("the decode worker runs it", lambda: cluster.workers[1].metric(
            "tandem_worker_requests_running") == 1, 10 * PATIENCE)
        return call

    def test_a_handoff_waits_for_as_long_as_the_decode_worker_is_full(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.small_decode_worker(folder) as cluster:
                first = self.fill(cluster)
                waiting = ids_request([2] * 50, 400)
                waiting.stopping.ignore_eos = True
                second = cluster.stub.Generate(waiting, timeout=60 * PATIENCE)
                decode = cluster.workers[1]
                await_true("it waits at the decode worker", lambda: decode.metric(
                    "tandem_worker_requests_waiting") == 1, 10 * PATIENCE)
                since = time.monotonic()
                # Longer than an unannounced reservation is kept.
                await_true("2 s have passed", lambda: time.monotonic() - since > 2, 10)
                self.assertFalse(first.done(), "it was to hold its place meanwhile")
                self.assertFalse(second.done())
                first.cancel()
                answer = Answer()
                for message in second:
                    answer.add(message)
                self.assertEqual(len(answer.token_ids), 400)
                await_true("blocks are free", cluster.all_blocks_free, 1 * PATIENCE)

    def test_a_decode_worker_that_stays_full_is_unavailable_with_a_time_to_try_again(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.small_decode_worker(folder, "decode:engine.queue_timeout=300ms") as cluster:
                first = self.fill(cluster)
                error = cluster.failure(ids_request([2] * 50, 400))
                self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error.details())
                self.assertIn("none of the running requests ended within 300ms", error.details())
                self.assertEqual(len(details(error, error_details_pb2.RetryInfo)), 1)
                self.assertFalse(first.done(), "it was to hold its place meanwhile")
                prefill = cluster.workers[0]
                await_true("nobody uses the prefill worker's blocks", lambda: prefill.metric(
                    "tandem_worker_kv_cache_usage_ratio") == 0, 1 * PATIENCE)
                first.cancel()

    def test_a_worker_that_is_not_there_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            router = Process("tandem-router", "router", folder, [
                "server.listen=127.0.0.1:0", "observability.listen=127.0.0.1:0",
                "workers=[127.0.0.1:1]"])
            try:
                router.await_ready()
                channel = connect(router)
                stub = InferenceServiceStub(channel)
                with self.assertRaises(grpc.RpcError) as raised:
                    stub.GenerateOnce(good(), timeout=10)
                self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
                self.assertIn("127.0.0.1:1", raised.exception.details())
                channel.close()
            finally:
                router.kill()


class StartTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.model = tiny_model.write(os.path.join(self.folder.name, "model"))
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.model, name)

    def config(self, **changes):
        with open(self.path("config.json"), "w", encoding="utf-8") as f:
            json.dump({**tiny_model.SHAPE, **changes}, f)

    def ends(self, program, *arguments):
        result = subprocess.run([os.path.join(BIN, program), *arguments], capture_output=True,
                                text=True, stdin=subprocess.DEVNULL, timeout=30 * PATIENCE,
                                check=False, cwd=self.folder.name)
        self.assertGreater(result.returncode, 0, result.stderr)  # and by no signal
        return result.stderr + result.stdout

    def worker_says(self, *words, path=None):
        said = self.ends("tandem-worker", "--set", f"model.path={path or self.model}", "--set",
                         "server.listen=127.0.0.1:0", "--set", "kv.transfer_listen=127.0.0.1:0",
                         "--set", "observability.listen=127.0.0.1:0")
        for word in words:
            self.assertIn(word, said)

    def test_a_path_that_is_not_there(self):
        self.worker_says("/nowhere/at-all", path="/nowhere/at-all")

    def test_a_folder_without_a_config(self):
        os.remove(self.path("config.json"))
        self.worker_says("config.json")

    def test_an_architecture_that_is_not_supported_lists_those_that_are(self):
        self.config(architectures=["MambaForCausalLM"])
        self.worker_says("MambaForCausalLM", "LlamaForCausalLM")

    def test_truncated_weights(self):
        with open(self.path("model.safetensors"), "r+b") as f:
            f.truncate(100_000)
        self.worker_says("model.safetensors")

    def test_a_header_longer_than_the_file(self):
        with open(self.path("model.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", 2**62) + b"{}")
        self.worker_says("model.safetensors")

    def test_a_weight_of_the_wrong_shape_is_named(self):
        self.config(intermediate_size=96)
        self.worker_says("model.layers.0.mlp")

    def test_a_missing_weight_is_named(self):
        self.config(num_hidden_layers=5)
        self.worker_says("model.layers.4.")

    def test_a_tokenizer_that_is_larger_than_the_vocabulary(self):
        shutil.rmtree(self.model)
        tiny_model.write(self.model, vocab_size=200, bos_token_id=0, eos_token_id=1)
        self.worker_says("tokenizer", "259", "200")

    def test_gguf_that_is_none(self):
        path = os.path.join(self.folder.name, "model.gguf")
        with open(path, "wb") as f:
            f.write(b"GGML" + bytes(100))
        self.worker_says("model.gguf", path=path)

    def test_an_address_off_loopback_needs_tls_or_a_word(self):
        said = self.ends("tandem-router", "--set", "server.listen=0.0.0.0:0", "--set",
                         "workers=[127.0.0.1:1]")
        self.assertIn("insecure", said)
        said = self.ends("tandem-router", "--set", "workers=[10.0.0.1:9100]")
        self.assertIn("worker_tls.ca_file", said)

    def test_a_misspelt_setting_is_named_with_the_nearest(self):
        said = self.ends("tandem-worker", "--set", "engine.thread=2", "--check-config")
        self.assertIn("threads", said)


if __name__ == "__main__":
    unittest.main()
