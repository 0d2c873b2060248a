"""Clients that nobody here wrote: Python's grpcio and grpcurl, against the public API."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import tiny_model
from cluster import PATIENCE, Cluster, ids_request, pb, text_request
from tandem.inference.v1 import sampling_pb2

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GRPCURL = shutil.which("grpcurl") or shutil.which(
    "grpcurl", path=os.path.join(ROOT, "build", "tools", "bin"))


class ClientsTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.cluster = Cluster(tiny_model.write(os.path.join(cls.folder.name, "tiny")))
        cls.cluster.__enter__()
        cls.stub = cls.cluster.stub

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)
        cls.folder.cleanup()

    def test_models_are_listed_with_what_serves_them(self):
        models = self.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
        self.assertEqual([m.name for m in models], ["tiny"])
        model = self.stub.GetModel(pb.GetModelRequest(model="tiny"), timeout=10).model
        self.assertEqual(model.architecture, "LlamaForCausalLM")
        self.assertEqual((model.prefill_workers, model.decode_workers), (1, 1))
        self.assertEqual(model.max_context, 16384)
        self.assertEqual(model.vocabulary, 300)
        self.assertEqual(list(model.eos_token_ids), [258])
        self.assertTrue(model.has_chat_template)

    def test_text_and_tokens_round_trip(self):
        text = "Grüße, 世界! <|im_end|>\n"
        tokens = self.stub.Tokenize(pb.TokenizeRequest(model="tiny", text=text), timeout=10)
        self.assertEqual(b"".join(tokens.tokens).decode(), text)
        self.assertNotIn(258, tokens.token_ids)  # a look-alike in text stays text
        back = self.stub.Detokenize(
            pb.DetokenizeRequest(model="tiny", token_ids=tokens.token_ids), timeout=10)
        self.assertEqual(back.text, text)

    def test_chat_is_rendered_by_the_models_template(self):
        request = pb.TokenizeRequest(model="tiny")
        request.chat.messages.add(role="user", content="Hi <|im_end|>")
        rendered = self.stub.Tokenize(request, timeout=10)
        self.assertEqual(list(rendered.token_ids).count(258), 1)
        self.assertEqual(list(rendered.token_ids).count(257), 2)

    def test_an_answer_in_one_piece_equals_the_stream(self):
        request = text_request("Once upon", 30, temperature=1.0)
        request.sampling.seed = 3
        request.response.logprobs = 2
        streamed = self.cluster.generate(request)
        once = self.stub.GenerateOnce(request, timeout=60 * PATIENCE)
        self.assertEqual(len(once.outputs), 1)
        self.assertEqual(once.outputs[0].text, streamed.text)
        self.assertEqual(list(once.outputs[0].token_ids), streamed.token_ids)
        self.assertEqual(once.end.usage.completion_tokens, len(streamed.token_ids))

    def test_the_stream_has_its_parts_in_order(self):
        messages = list(self.stub.Generate(ids_request([1, 2, 3], 20), timeout=60 * PATIENCE))
        self.assertTrue(messages[0].HasField("start"))
        self.assertEqual(messages[0].start.prompt_tokens, 3)
        self.assertEqual([m.HasField("end") for m in messages],
                         [False] * (len(messages) - 1) + [True])
        usage = messages[-1].end.usage
        self.assertEqual((usage.prompt_tokens, usage.completion_tokens), (3, 20))

    def test_a_seed_that_was_drawn_is_told_and_gives_the_answer_again(self):
        request = ids_request([9, 8, 7], 30, temperature=1.0)
        first = self.cluster.generate(request)
        request.sampling.seed = first.start.seed
        self.assertEqual(self.cluster.generate(request).said(), first.said())

    def test_a_stop_string_ends_the_text_before_itself(self):
        request = text_request("abc", 200, temperature=1.0)
        request.sampling.seed = 11
        whole = self.cluster.generate(request).text
        stop = whole[10:12]
        request.stopping.stop.append(stop)
        answer = self.cluster.generate(request)
        self.assertEqual(answer.text, whole[:whole.index(stop)])
        self.assertEqual(answer.finish, sampling_pb2.FINISH_REASON_STOP)

    def test_metrics_count_what_was_served(self):
        router = self.cluster.router
        before = router.metric("tandem_requests_total", code="OK")
        tokens = router.metric("tandem_tokens_total", type="output")
        self.cluster.generate(ids_request([1, 2], 7))
        self.assertEqual(router.metric("tandem_requests_total", code="OK") - before, 1)
        self.assertEqual(router.metric("tandem_tokens_total", type="output") - tokens, 7)
        prefill, decode = self.cluster.workers
        self.assertGreater(prefill.metric("tandem_handoff_bytes_total", direction="sent"), 0)
        self.assertEqual(prefill.metric("tandem_handoff_bytes_total", direction="sent"),
                         decode.metric("tandem_handoff_bytes_total", direction="received"))

    def grpcurl(self, *arguments):
        if not GRPCURL:
            self.skipTest("grpcurl is not there; tests/run all builds it where Go is")
        command = [GRPCURL, "-plaintext", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE,
                                check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_grpcurl_finds_the_services_by_reflection(self):
        services = self.grpcurl(self.cluster.router.addresses["grpc"], "list").split()
        self.assertIn("tandem.inference.v1.InferenceService", services)
        self.assertIn("grpc.health.v1.Health", services)

    def test_grpcurl_asks_for_health(self):
        answer = json.loads(self.grpcurl(self.cluster.router.addresses["grpc"],
                                         "grpc.health.v1.Health/Check"))
        self.assertEqual(answer["status"], "SERVING")

    def test_grpcurl_streams_an_answer(self):
        request = json.dumps({"text": "hello", "stopping": {"max_tokens": 5, "ignore_eos": True},
                              "sampling": {"temperature": 0}})
        out = self.grpcurl("-d", request, self.cluster.router.addresses["grpc"],
                           "tandem.inference.v1.InferenceService/Generate")
        expected = text_request("hello", 5)
        expected.stopping.ignore_eos = True
        decoder, texts, at = json.JSONDecoder(), [], 0
        while at < len(out.rstrip()):
            message, end = decoder.raw_decode(out, at)
            texts += [d.get("text", "") for d in message.get("outputs", [])]
            at = end + len(out[end:]) - len(out[end:].lstrip())
        self.assertEqual("".join(texts), self.cluster.generate(expected).text)


if __name__ == "__main__":
    unittest.main()
