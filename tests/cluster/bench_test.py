"""`tandem bench` against a real cluster: what it counts, and that the counts agree."""

import http.client
import json
import os
import signal
import subprocess
import tempfile
import unittest

from cluster import PATIENCE, START_SECONDS, await_true
from command_test import TANDEM, run, served

PERCENTILES = ("min", "p50", "p75", "p90", "p95", "p99", "max")


def write_mooncake(folder, requests):
    path = os.path.join(folder, "trace.jsonl")
    with open(path, "w", encoding="utf-8") as f:
        for at_ms, input_length, output_length, blocks in requests:
            f.write(json.dumps({"timestamp": at_ms, "input_length": input_length,
                                "output_length": output_length, "hash_ids": blocks}) + "\n")
    return path


class BenchTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.context = served()
        cls.cluster = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def bench(self, *flags, status=0):
        result = run("bench", "--ready-file", self.cluster.ready_file, "--json", "-", "--details",
                     *flags, status=status)
        return json.loads(result.stdout), result.stderr

    def requests_seen(self):
        """How many requests the router has answered, by its metrics."""
        connection = http.client.HTTPConnection(self.cluster.ready["metrics"], timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines()
                   if line.startswith("tandem_requests_total{"))

    def test_every_request_is_answered_and_counted_once(self):
        before = self.requests_seen()
        said, table = self.bench("--rate", "40", "--requests", "40", "--input-tokens", "10-60",
                                 "--output-tokens", "8", "--seed", "5", "--warm-up", "3")
        self.assertEqual(self.requests_seen() - before, 43)
        self.assertEqual(said["requests"], {"planned": 40, "sent": 40, "succeeded": 40, "failed": 0,
                                            "cancelled": 0, "short": 0})
        self.assertEqual(said["errors"], {})
        self.assertEqual(said["output_tokens"], 40 * 8)
        self.assertEqual(said["input_tokens"], sum(r["input_tokens"] for r in said["details"]))
        self.assertEqual(said["model"], "tiny")
        self.assertFalse(said["interrupted"])
        for request in said["details"]:
            self.assertEqual((request["state"], request["code"]), ("ended", "OK"))
            self.assertEqual(request["output_tokens"], request["output_wanted"])
            self.assertEqual(len(request["gaps_s"]), 7)
            self.assertLessEqual(request["due_s"], request["sent_s"])
            self.assertLess(request["sent_s"], request["first_token_s"])
            self.assertLessEqual(request["first_token_s"], request["ended_s"])
        for count, metric in ((40, "ttft_ms"), (40, "tpot_ms"), (280, "itl_ms"), (40, "e2e_ms"),
                              (40, "send_lag_ms")):
            values = [said[metric][p] for p in PERCENTILES]
            self.assertEqual(values, sorted(values), metric)
            self.assertEqual(said[metric]["count"], count)
        self.assertAlmostEqual(said["output_tokens_per_s"],
                               said["output_tokens"] / said["duration_s"])
        for word in ("TTFT", "ITL", "E2E", "throughput", said["saturation"]["sentence"]):
            self.assertIn(word, table)

    def test_one_seed_sends_the_same_at_the_same_times(self):
        flags = ("--rate", "200", "--requests", "20", "--input-tokens", "normal:30:10",
                 "--output-tokens", "2-9")
        planned = [[(r["due_s"], r["input_tokens"], r["output_wanted"]) for r in said["details"]]
                   for said, _ in (self.bench(*flags, "--seed", s) for s in ("1", "1", "2"))]
        self.assertEqual(planned[0], planned[1])
        self.assertNotEqual(planned[0], planned[2])

    def test_workers_say_how_busy_they_were(self):
        said, table = self.bench("--concurrency", "4", "--requests", "60", "--peak", "10",
                                 "--goodput", "ttft:600000,e2e:600000")
        self.assertEqual({w["metrics"] for w in said["workers"]},
                         {w["metrics"] for w in self.cluster.ready["workers"]})
        for worker in said["workers"]:
            self.assertGreater(worker["busy"], 0)
            self.assertLessEqual(worker["busy"], 1)
            self.assertGreater(worker["tokens_per_s"], 0)
        self.assertLessEqual(said["in_flight"]["max"], 4)
        self.assertEqual(said["good_requests"], 60)
        self.assertEqual(said["saturation"]["peak"]["requests"], 10)
        self.assertGreater(said["saturation"]["peak"]["share"], 0)
        self.assertIn("closed loop", table)

    def test_a_trace_is_replayed(self):
        with tempfile.TemporaryDirectory() as folder:
            trace = write_mooncake(folder, [(3000, 700, 5, [1, 2]), (0, 600, 4, [1, 3]),
                                            (4000, 20000, 3, [])])
            said, _ = self.bench("--trace", trace, "--trace-speed", "100", "--skip-long")
            self.assertEqual([(r["due_s"], r["input_tokens"], r["output_tokens"])
                              for r in said["details"]], [(0, 600, 4), (0.03, 700, 5)])
            self.assertIn("1 left out as too long", said["load"])
            cut, _ = self.bench("--trace", trace, "--trace-speed", "100", "--max-input", "50")
            self.assertEqual(cut["input_tokens"], 150)
            long = run("bench", "--ready-file", self.cluster.ready_file, "--trace", trace, status=1)
            self.assertIn("1 of 3 requests are too long", long.stderr)
            with open(trace, "a", encoding="utf-8") as f:
                f.write("{}\n")
            broken = run("bench", "--trace", trace, status=2)
            self.assertIn("trace.jsonl:4: timestamp is missing", broken.stderr)

    def test_what_a_cache_had_is_counted(self):
        said, table = self.bench("--concurrency", "1", "--requests", "5", "--input-tokens", "100",
                                 "--shared-tokens", "64", "--output-tokens", "2", "--seed", "77")
        self.assertEqual([r["cached_tokens"] for r in said["details"]], [0] + [64] * 4)
        self.assertEqual(said["cached_tokens"], 4 * 64)
        self.assertIn("256 of 500 input tokens", table)

    def test_errors_are_counted_by_code(self):
        said, table = self.bench("--rate", "inf", "--requests", "9", "--input-tokens", "9000",
                                 "--output-tokens", "4000", "--timeout", "0.01", status=1)
        self.assertEqual(said["errors"], {"DEADLINE_EXCEEDED": 9})
        self.assertEqual(said["requests"]["failed"], 9)
        self.assertEqual(said["ttft_ms"]["count"], 0)
        self.assertIn("9 x DEADLINE_EXCEEDED", table)
        self.assertIn("No request succeeded", table)

    def test_ctrl_c_prints_what_there_is(self):
        before = self.requests_seen()
        with subprocess.Popen(
                [TANDEM, "bench", "--endpoint", self.cluster.ready["grpc"], "--rate", "20",
                 "--duration", "3600", "--input-tokens", "5", "--output-tokens", "2", "--json",
                 "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
            await_true("some requests have ended", lambda: self.requests_seen() > before + 3,
                       START_SECONDS)
            bench.send_signal(signal.SIGINT)
            stdout, stderr = bench.communicate(timeout=30 * PATIENCE)
        said = json.loads(stdout)
        self.assertEqual(bench.returncode, 0, stderr)
        self.assertTrue(said["interrupted"])
        requests = said["requests"]
        self.assertGreater(requests["succeeded"], 0)
        self.assertEqual(requests["sent"], requests["succeeded"] + requests["cancelled"])
        self.assertLess(requests["sent"], requests["planned"])

    def test_mistakes_on_the_command_line_end_with_2(self):
        for flags, said in (((), "give --rate R"), (("--rate", "1", "--trace", "t"), "exclude"),
                            (("--rate", "1", "--input-tokens", "x"), "--input-tokens"),
                            (("--rates", "1"), 'did you mean "--rate"')):
            self.assertIn(said, run("bench", *flags, status=2).stderr)
        unknown = run("bench", "--endpoint", self.cluster.ready["grpc"], "--rate", "1", "--model",
                      "other", status=1)
        self.assertIn("--model: give one of tiny", unknown.stderr)


if __name__ == "__main__":
    unittest.main()
