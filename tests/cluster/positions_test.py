"""Workers are killed when a client has read so many tokens, for many numbers, with requests of
every kind under way at once; all the while another worker stands still for 30 seconds."""

import os
import signal
import tempfile
import threading
import time
import unittest

import tiny_model
from cluster import PATIENCE, Answer, Cluster, await_true
from kinds import KINDS, sampled

ROLES = ("prefill", "decode", "prefill", "decode")
STILL = 3  # the number of the worker that stands still
STILL_SECONDS = 30
POSITIONS = (0, 1, 2, 3, 5, 8, 15, 16, 17, 33, 100, 250) if PATIENCE == 1 else (0, 3, 17)
VICTIMS = ([0], [1], [0, 1])


class PositionsTest(unittest.TestCase):

    def read(self, call, answer, position, harm):
        for message in call:
            answer.add(message)
            if harm and len(answer.token_ids) >= position:
                harm()
                harm = None
        self.assertIsNone(harm, "the answer was shorter")

    def read_all(self, requests, leader, position, harm):
        """Answers to all at once; `harm` is done when the leader's has so many tokens."""
        calls = [self.cluster.stub.Generate(r, timeout=120 * PATIENCE) for r in requests]
        answers = [Answer() for _ in requests]
        if position == 0:
            harm()
        wrong = []

        def client(number):
            try:
                self.read(calls[number], answers[number], position,
                          harm if number == leader and position > 0 else None)
            except Exception as error:  # told by the thread that asserts
                wrong.append(f"request {number}: {error}")

        clients = [threading.Thread(target=client, args=[i]) for i in range(len(requests))]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        self.assertEqual(wrong, [])
        return answers

    def bring_back(self):
        for worker in self.cluster.workers:
            if worker.popen.poll() is not None:
                worker.restart()
                worker.await_ready()

    def await_linked(self, least):
        await_true("the router has its workers again",
                   lambda: self.cluster.linked() >= least, 20 * PATIENCE)

    def stop_one(self):
        """The decode worker of a request stands still from now on, and the request moves; returns
        the timer that lets it go on."""
        request = sampled(9)
        expected = self.cluster.generate(request)
        for worker in self.cluster.workers[:2]:
            worker.kill()
        await_true("two are left", lambda: self.cluster.linked() == 2, 20 * PATIENCE)
        still = self.cluster.workers[STILL].popen
        timer = threading.Timer(STILL_SECONDS, still.send_signal, [signal.SIGCONT])

        def harm():
            still.send_signal(signal.SIGSTOP)
            timer.start()

        answer = Answer()
        self.read(self.cluster.stub.Generate(request, timeout=120 * PATIENCE), answer, 5, harm)
        self.assertEqual(answer.said(), expected.said())
        self.assertGreater(answer.end.serving.attempts, 1)
        self.bring_back()
        self.await_linked(len(ROLES) - 1)
        return timer

    def test_kinds_at_once_survive_kills_at_many_positions_beside_a_worker_that_stands_still(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        model = tiny_model.write(os.path.join(folder, "model"))
        self.cluster = self.enterContext(Cluster(model, ROLES))
        requests = [kind(number) for number, kind in enumerate(KINDS)]
        expected = [self.cluster.generate(r).said() for r in requests]
        timer = self.stop_one()
        start, moved, cases = time.monotonic(), 0, 0
        for position in POSITIONS:
            for victims in VICTIMS:
                with self.subTest(position=position, victims=victims):
                    answers = self.read_all(
                        requests, cases % len(KINDS), position,
                        lambda who=victims: [self.cluster.workers[v].kill() for v in who])
                    self.assertEqual([a.said() for a in answers], expected)
                    moved += sum(a.end.serving.attempts > 1 for a in answers)
                cases += 1
                self.bring_back()
                self.await_linked(len(ROLES) - 1)
        print(f"{cases} kills in {time.monotonic() - start:.0f} s, {moved} answers moved")
        self.assertGreater(moved, 0)
        timer.join()
        self.await_linked(len(ROLES))
        await_true("blocks are free", self.cluster.all_blocks_free, 5 * PATIENCE)
        self.assertEqual([a.said() for a in self.cluster.generate_all(requests)], expected)
        self.assertEqual(self.cluster.router.metric("tandem_token_conflicts_total"), 0)


if __name__ == "__main__":
    unittest.main()
