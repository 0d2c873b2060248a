"""The `tandem` command: a whole cluster in one process tree, and clients of it."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import unittest

import tiny_model
from cluster import BIN, PATIENCE, START_SECONDS, await_true

TANDEM = os.path.join(BIN, "tandem")


def run(*arguments, stdin="", status=0):
    result = subprocess.run([TANDEM, *arguments], capture_output=True, text=True, input=stdin,
                            timeout=60 * PATIENCE, check=False)
    if result.returncode != status:
        raise AssertionError(f"{arguments} ended with {result.returncode}:\n{result.stderr}")
    return result


def certificate(folder):
    """A self-signed certificate for 127.0.0.1 and its key, as files."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key],
                   check=True, capture_output=True)
    return cert, key


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Served:
    """A running `tandem serve`."""

    def __init__(self, folder, *flags):
        self.ready_file = os.path.join(folder, "ready.json")
        self.model = tiny_model.write(os.path.join(folder, "tiny"))
        self.log = os.path.join(folder, "serve.log")
        with open(self.log, "w", encoding="utf-8") as log:
            self.popen = subprocess.Popen(
                [TANDEM, "serve", "--model", self.model, "--listen", "127.0.0.1:0",
                 "--ready-file", self.ready_file, *flags], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log)
        await_true("serve is ready", self.is_ready, START_SECONDS)
        with open(self.ready_file, encoding="utf-8") as f:
            self.ready = json.load(f)

    def is_ready(self):
        if self.popen.poll() is not None:
            raise AssertionError(self.logged())
        return os.path.exists(self.ready_file)

    def logged(self):
        with open(self.log, encoding="utf-8") as f:
            return f.read()

    def pids(self):
        return [self.ready["pid"]] + [w["pid"] for w in self.ready["workers"]]

    def ended(self):
        """The exit status, once every process is gone."""
        status = self.popen.wait(timeout=30 * PATIENCE)
        await_true("no process is left", lambda: not any(map(alive, self.pids())), 5)
        return status


@contextlib.contextmanager
def served(*flags):
    with tempfile.TemporaryDirectory() as folder:
        cluster = Served(folder, *flags)
        try:
            yield cluster
        finally:
            if cluster.popen.poll() is None:
                cluster.popen.terminate()
                cluster.popen.wait(timeout=30 * PATIENCE)
            cluster.popen.stdout.close()


class ServeTest(unittest.TestCase):

    def test_a_stop_signal_ends_every_process_in_order(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number), served() as cluster:
                self.assertEqual([w["role"] for w in cluster.ready["workers"]],
                                 ["prefill", "decode"])
                self.assertTrue(all(alive(p) for p in cluster.pids()))
                cluster.popen.send_signal(number)
                self.assertEqual(cluster.ended(), 0, cluster.logged())

    def test_it_says_where_each_process_listens(self):
        with served() as cluster:
            log = cluster.logged()
            for process in (cluster.ready, *cluster.ready["workers"]):
                self.assertIn(process["grpc"], log)
                self.assertIn(process["metrics"], log)

    def test_a_worker_that_dies_ends_the_cluster_and_is_named(self):
        with served() as cluster:
            os.kill(cluster.ready["workers"][1]["pid"], signal.SIGKILL)
            self.assertEqual(cluster.ended(), 1)
            self.assertIn("the decode process", cluster.logged())
            self.assertIn("was killed by signal 9", cluster.logged())

    def test_no_process_outlives_serve(self):
        with served() as cluster:
            cluster.popen.kill()
            self.assertEqual(cluster.ended(), -signal.SIGKILL)

    def test_a_model_that_cannot_be_served_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            model = tiny_model.write(folder)
            os.remove(os.path.join(model, "config.json"))
            result = run("serve", "--model", model, "--listen", "127.0.0.1:0", status=1)
            self.assertIn("config.json", result.stderr)

    def test_an_earlier_ready_file_is_gone_before_anything_starts(self):
        with tempfile.TemporaryDirectory() as folder:
            ready_file = os.path.join(folder, "ready.json")
            with open(ready_file, "w", encoding="utf-8") as f:
                f.write("{}")
            run("serve", "--model", os.path.join(folder, "none"), "--ready-file", ready_file,
                status=2)
            self.assertFalse(os.path.exists(ready_file))

    def test_a_router_with_tls_becomes_ready(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = certificate(folder)
            with served("--listen", "0.0.0.0:0", "--set", f"router.server.tls.cert_file={cert}",
                        "--set", f"router.server.tls.key_file={key}",
                        "--set", f"router.server.tls.client_ca_file={cert}") as cluster:
                endpoint = "127.0.0.1:" + cluster.ready["grpc"].rpartition(":")[2]
                tls = ("--ca-file", cert, "--cert-file", cert, "--key-file", key)
                said = run("generate", "--endpoint", endpoint, *tls, "--max-tokens", "3", "hello")
                self.assertIn(f"router {endpoint} -> prefill", said.stderr)

    def test_settings_reach_the_process_they_name(self):
        with served("--unified", "--set", "worker.engine.max_context=32") as cluster:
            self.assertEqual([w["role"] for w in cluster.ready["workers"]], ["unified"])
            listed = run("models", "list", "--endpoint", cluster.ready["grpc"]).stdout
            self.assertIn("context 32", listed)
        with tempfile.TemporaryDirectory() as folder:
            result = run("serve", "--model", folder, "--set", "engine.threads=1", status=2)
            self.assertIn("worker.engine.threads=1", result.stderr)


class GenerateTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.context = served()
        cls.cluster = cls.context.__enter__()
        cls.endpoint = cls.cluster.ready["grpc"]

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def generate(self, *flags, **kwargs):
        return run("generate", "--endpoint", self.endpoint, *flags, **kwargs)

    def test_the_answer_is_all_that_goes_to_stdout(self):
        flags = ("--max-tokens", "20", "--temperature", "0", "--ignore-eos", "hello")
        plain = self.generate(*flags)
        whole = json.loads(self.generate("--json", *flags).stdout)
        self.assertEqual(plain.stdout, whole["text"] + "\n")
        self.assertIn("tokens/s", plain.stderr)
        self.assertIn("KV handed over", plain.stderr)
        self.assertNotIn("\033", plain.stderr + plain.stdout)

    def test_json_has_everything_that_programs_ask_for(self):
        whole = json.loads(self.generate(
            "--json", "--token-ids", "1,2,3,4,5", "--max-tokens", "6", "--temperature", "1",
            "--seed", "7", "--logprobs", "2", "--prompt-logprobs", "1", "--ignore-eos").stdout)
        self.assertEqual(len(whole["token_ids"]), 6)
        self.assertEqual([p["token_id"] for p in whole["logprobs"]], whole["token_ids"])
        self.assertEqual([len(p["top"]) for p in whole["logprobs"]], [2] * 6)
        self.assertEqual(len(whole["prompt_logprobs"]), 5)
        self.assertEqual(whole["seed"], 7)
        self.assertEqual(whole["finish_reason"], "length")
        self.assertEqual(whole["usage"]["prompt_tokens"], 5)
        workers = {w["role"]: w["grpc"] for w in self.cluster.ready["workers"]}
        self.assertEqual(whole["workers"], workers)
        self.assertEqual(whole["attempts"], 1)
        self.assertGreater(whole["kv_bytes"], 0)
        self.assertGreaterEqual(whole["e2e_ms"], whole["ttft_ms"])  # one message may have it all
        self.assertGreater(whole["ttft_ms"], 0)

    def test_several_answers_are_printed_one_after_another(self):
        flags = ("--max-tokens", "6", "--temperature", "1", "--seed", "7", "--token-ids", "1,2,3")
        lines = self.generate("--n", "3", "--json", *flags).stdout.splitlines()
        answers = [json.loads(line) for line in lines]
        self.assertEqual([a["index"] for a in answers], [0, 1, 2])
        self.assertEqual(len({tuple(a["token_ids"]) for a in answers}), 3)
        first = json.loads(self.generate("--json", *flags).stdout)
        self.assertEqual(first["token_ids"], answers[0]["token_ids"])
        self.assertEqual(self.generate("--n", "3", *flags).stdout,
                         "".join(f"--- output {i}\n{a['text']}\n" for i, a in enumerate(answers)))
        self.assertIn("sampling.n", self.generate("--n", "9", *flags, status=1).stderr)

    def test_raw_text_is_not_put_into_the_chat_template(self):
        flags = ("--json", "--max-tokens", "2", "--temperature", "0", "hi")
        raw = json.loads(self.generate("--raw", *flags).stdout)["usage"]["prompt_tokens"]
        chat = json.loads(self.generate(*flags).stdout)["usage"]["prompt_tokens"]
        self.assertEqual(raw, 2)
        self.assertGreater(chat, 2)

    def test_an_answer_is_held_to_a_language(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as schema:
            json.dump({"type": "array", "items": {"type": "boolean"}, "minItems": 2,
                       "maxItems": 2}, schema)
            schema.flush()
            flags = ("--max-tokens", "500", "--temperature", "1", "--seed", "3")
            answer = self.generate(*flags, "--json-schema", schema.name, "hi").stdout
            self.assertEqual([type(v) for v in json.loads(answer)], [bool, bool])
            both = self.generate("--regex", "a", "--json-schema", schema.name, "x", status=2)
            self.assertIn("exclude one another", both.stderr)
        self.assertIn(self.generate(*flags, "--choice", "yes,no", "hi").stdout, ("yes\n", "no\n"))
        self.assertRegex(self.generate(*flags, "--regex", "[a-c]{4}", "hi").stdout, "^[a-c]{4}\n$")
        self.assertIn("guided.regex", self.generate("--regex", "(", "x", status=1).stderr)
        self.assertIn("no-such-file", self.generate("--json-schema", "no-such-file", "x",
                                                    status=2).stderr)

    def test_a_prompt_may_come_from_stdin(self):
        flags = ("--json", "--max-tokens", "8", "--temperature", "0")
        piped = json.loads(self.generate(*flags, "-", stdin="two words").stdout)
        given = json.loads(self.generate(*flags, "two", "words").stdout)
        self.assertEqual(piped["token_ids"], given["token_ids"])

    def test_an_error_goes_to_stderr_with_the_fields_that_are_wrong(self):
        result = self.generate("--temperature", "-1", "--top-p", "7", "x", status=1)
        self.assertEqual(result.stdout, "")
        for word in ("INVALID_ARGUMENT", "sampling.temperature", "sampling.top_p"):
            self.assertIn(word, result.stderr)

    def test_mistakes_on_the_command_line_end_with_2(self):
        self.assertIn('did you mean "--max-tokens"',
                      self.generate("--max-token", "1", "x", status=2).stderr)
        self.assertIn("PROMPT is missing", self.generate(status=2).stderr)
        for flags in ((), ("--raw",)):
            self.assertIn("PROMPT is empty", self.generate(*flags, "", status=2).stderr)

    def test_logprobs_are_a_table_beside_the_answer(self):
        flags = ("--token-ids", "1,2,3,4,5", "--max-tokens", "6", "--temperature", "0",
                 "--ignore-eos", "--logprobs", "2", "--prompt-logprobs", "0")
        plain = self.generate(*flags)
        whole = json.loads(self.generate("--json", *flags).stdout)
        self.assertEqual(plain.stdout, whole["text"] + "\n")
        prompt, answer = plain.stderr.split("log-probabilities of the answer")
        self.assertIn("log-probabilities of the prompt", prompt)
        self.assertEqual([row.split()[1] for row in prompt.splitlines()[2:]],
                         ["-", "2", "3", "4", "5"])
        rows = [row.split() for row in answer.splitlines()[2:-1]]
        self.assertEqual([int(row[1]) for row in rows], whole["token_ids"])
        self.assertEqual([row[2] for row in rows],
                         [f"{p['logprob']:.4f}" for p in whole["logprobs"]])

    def test_nothing_at_the_endpoint(self):
        result = run("generate", "--endpoint", "127.0.0.1:1", "x", status=1)
        self.assertIn("nothing answers at 127.0.0.1:1", result.stderr)

    def test_a_chat_keeps_its_history_until_it_is_reset(self):
        chat = run("chat", "--endpoint", self.endpoint, "--max-tokens", "5", "--temperature", "0",
                   stdin="one\ntwo\n/reset\none\n/exit\nthree\n")
        prompts = [int(line.split(" prompt + ")[0].rsplit(" ", 1)[1])
                   for line in chat.stderr.splitlines() if " prompt + " in line]
        self.assertEqual(len(prompts), 3)
        self.assertGreater(prompts[1], prompts[0])
        self.assertEqual(prompts[2], prompts[0])

    def test_models_are_inspected_without_a_cluster(self):
        said = run("models", "inspect", self.cluster.model).stdout
        self.assertIn("LlamaForCausalLM", said)
        self.assertIn("KV", said)
        self.assertIn("with a chat template", said)

    def test_a_quantisation_is_compared_with_the_stored_weights(self):
        flags = ("models", "inspect", self.cluster.model, "--quant", "int8")
        whole = json.loads(run(*flags, "--json", "--tokens", "100").stdout)
        self.assertEqual(whole["architecture"], "LlamaForCausalLM")
        compared = whole["quantization"]
        self.assertEqual(compared["text_tokens"], 100)
        self.assertGreater(compared["kl_mean_nats"], 0)
        self.assertLess(compared["quantized_bytes"], compared["stored_bytes"])
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
            text.write("abcabc")
            text.flush()
            said = run(*flags, "--text", text.name).stdout
        self.assertIn("6 tokens of a text of 6 bytes", said)
        for wrong, message in ((("--quant", "int3"), "want int8, int4 or stored"),
                               (("--quant", "stored"), "changes none"),
                               (("--quant", "int8", "--text", "no-such-file"), "can't read"),
                               (("--quant", "int8", "--tokens", "1"), "want 2 to"),
                               (("--text", "x"), "are for --quant")):
            failed = run("models", "inspect", self.cluster.model, *wrong, status=1)
            self.assertIn(message, failed.stderr)


if __name__ == "__main__":
    unittest.main()
