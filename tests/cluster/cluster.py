"""Starts router and workers as they are run in earnest, and talks to them as a client would."""

import dataclasses
import http.client
import json
import os
import signal
import subprocess
import tempfile
import time

import grpc
from google.rpc import error_details_pb2, status_pb2
from tandem.inference.v1 import inference_pb2 as pb
from tandem.inference.v1.inference_pb2_grpc import InferenceServiceStub

BIN = os.environ["TANDEM_BIN"]
SMOLLM2 = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "tandem",
                       "SmolLM2-135M-Instruct.Q4_1.gguf")
# A build with sanitizers is slower by about as much.
PATIENCE = float(os.environ.get("TANDEM_PATIENCE", "1"))
START_SECONDS = 60 * PATIENCE
CALL_SECONDS = 120 * PATIENCE


def await_true(what, condition, seconds):
    """Asks until `condition` holds; returns how long that took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)
    return time.monotonic() - start


class Process:
    """One server process; its log is shown where it fails."""

    def __init__(self, program, name, folder, settings):
        self.name = name
        self.program = program
        self.settings = settings
        self.ready_file = os.path.join(folder, name + ".json")
        self.log = os.path.join(folder, name + ".log")
        self.store = os.path.join(folder, name + ".db")  # a router's
        self.addresses = {}
        self.begin(settings)

    def begin(self, settings):
        command = [os.path.join(BIN, self.program), "--ready-file", self.ready_file]
        if self.program == "tandem-router":
            command += ["--set", f"store.sqlite_file={self.store}"]
        for setting in settings:
            command += ["--set", setting]
        with open(self.log, "a", encoding="utf-8") as log:
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=subprocess.STDOUT)

    def restart(self, *settings):
        """Once it has ended: again, under the same addresses; returns at once."""
        assert self.popen.poll() is not None
        os.remove(self.ready_file)
        listen = {"server.listen": "grpc", "kv.transfer_listen": "kv",
                  "observability.listen": "metrics"}
        own = [f"{key}={self.addresses[name]}" for key, name in listen.items()
               if name in self.addresses]
        kept = [s for s in self.settings if s.partition("=")[0] not in listen]
        self.begin([*kept, *own, *settings])

    def await_ready(self):
        def ready():
            if self.popen.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}:\n"
                                     + self.logged())
            return os.path.exists(self.ready_file)

        await_true(f"{self.name} is ready", ready, START_SECONDS)
        with open(self.ready_file, encoding="utf-8") as f:
            self.addresses = json.load(f)

    def logged(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def metrics(self):
        """{name{labels}: value} of a scrape."""
        connection = http.client.HTTPConnection(self.addresses["metrics"], timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines if name}

    def metric(self, name, **labels):
        """The sum of all series of `name` that have these labels."""
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(value for series, value in self.metrics().items()
                   if series.partition("{")[0] == name and all(w in series for w in wanted))

    def resident_bytes(self):
        with open(f"/proc/{self.popen.pid}/statm", encoding="utf-8") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def stop(self):
        """SIGTERM; returns the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout=30 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop:\n{self.logged()}") from None


@dataclasses.dataclass
class Answer:
    """All messages of one request, joined."""

    token_ids: list = dataclasses.field(default_factory=list)
    text: str = ""
    logprobs: list = dataclasses.field(default_factory=list)  # of TokenLogprob tuples, top last
    prompt_logprobs: list = dataclasses.field(default_factory=list)
    finish: int = 0
    start: pb.ResponseStart = None
    end: pb.ResponseEnd = None
    others: dict = dataclasses.field(default_factory=dict)  # Answers by output index, from 1

    def add(self, message):
        if message.HasField("start"):
            self.start = message.start
            self.prompt_logprobs = [flat(p) for p in message.start.prompt_logprobs]
        for delta in message.outputs:
            self.output(delta.index).append(delta)
        if message.HasField("end"):
            self.end = message.end

    def append(self, delta):
        self.token_ids += delta.token_ids
        self.text += delta.text
        self.logprobs += [flat(p) for p in delta.logprobs]
        if delta.HasField("finish"):
            self.finish = delta.finish.reason

    def output(self, index):
        return self if index == 0 else self.others.setdefault(index, Answer())

    def said(self):
        """What must not depend on who computed it."""
        return (self.token_ids, self.text, self.logprobs, self.prompt_logprobs, self.finish,
                [self.others[i].said() for i in sorted(self.others)])


def flat(position):
    """PositionLogprobs as a tuple that compares to the last bit."""
    tokens = [position.token, *position.top]
    return tuple((t.token_id, t.logprob, t.rank) for t in tokens)


def connect(router, *options, credentials=None):
    options = [("grpc.enable_http_proxy", 0), *options]
    if credentials:
        return grpc.secure_channel(router.addresses["grpc"], credentials, options)
    return grpc.insecure_channel(router.addresses["grpc"], options)


class Cluster:
    """A router and workers on loopback; a context manager.

    roles: of the workers. worker, router: settings, "path=value". A worker's role prefixes a
    setting that is its alone, as in "decode:engine.threads=1". credentials: of the client.
    """

    def __init__(self, model, roles=("prefill", "decode"), worker=(), router=(), credentials=None):
        self.credentials = credentials
        self.folder = tempfile.TemporaryDirectory(prefix="tandem-cluster.")
        self.workers = []
        for i, role in enumerate(roles):
            own = [s.rpartition(role + ":")[2] for s in worker if ":" not in s.partition("=")[0]
                   or s.startswith(role + ":")]
            self.workers.append(Process("tandem-worker", f"{role}{i}", self.folder.name, [
                f"role={role}", f"model.path={model}", "server.listen=127.0.0.1:0",
                "kv.transfer_listen=127.0.0.1:0", f"kv.shm_directory={self.folder.name}",
                "observability.listen=127.0.0.1:0", *own]))
        self.router_settings = router
        self.router = None
        self.stub = None

    def __enter__(self):
        try:
            for worker in self.workers:
                worker.await_ready()
            addresses = ", ".join(w.addresses["grpc"] for w in self.workers)
            self.router = Process("tandem-router", "router", self.folder.name, [
                "server.listen=127.0.0.1:0", "observability.listen=127.0.0.1:0",
                f"workers=[{addresses}]", *self.router_settings])
            self.router.await_ready()
            self.channel = self.connect()
            self.stub = InferenceServiceStub(self.channel)
            await_true("the router knows its workers",
                       lambda: self.linked() == len(self.workers), START_SECONDS)
        except BaseException:
            self.__exit__(True, None, None)
            raise
        return self

    def connect(self, *options):
        return connect(self.router, *options, credentials=self.credentials)

    def linked(self):
        models = self.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
        return sum(m.prefill_workers + m.decode_workers + m.unified_workers for m in models)

    def processes(self):
        return ([self.router] if self.router else []) + self.workers

    def __exit__(self, kind, value, traceback):
        if self.stub:
            self.channel.close()
        try:
            for process in self.processes():
                if process.popen.poll() is not None:
                    continue
                status = process.stop()
                if not kind and status != 0:
                    raise AssertionError(f"{process.name} stopped with {status}:\n"
                                         + process.logged())
        finally:
            if kind:
                for process in self.processes():
                    print(f"--- {process.name}\n{process.logged()[-4000:]}")
            for process in self.processes():
                process.kill()
            self.folder.cleanup()

    def generate(self, request):
        answer = Answer()
        for message in self.stub.Generate(request, timeout=CALL_SECONDS):
            answer.add(message)
        return answer

    def generate_all(self, requests):
        """Every request at once: they share batches."""
        calls = [self.stub.Generate(r, timeout=CALL_SECONDS) for r in requests]
        answers = [Answer() for _ in calls]
        for answer, call in zip(answers, calls):
            for message in call:
                answer.add(message)
        return answers

    def failure(self, request):
        """The error that `request` ends with."""
        try:
            answer = self.generate(request)
        except grpc.RpcError as error:
            return error
        raise AssertionError(f"no error, but {answer}")

    def blocks(self, state):
        return sum(w.metric("tandem_worker_kv_blocks", state=state) for w in self.workers
                   if w.popen.poll() is None)

    def all_blocks_free(self):
        """In nobody's use; what the prefix cache keeps is there for who needs it."""
        running = [w for w in self.workers if w.popen.poll() is None]
        return (self.blocks("filling") == 0 and self.blocks("free") + self.blocks("ready") > 0 and
                all(w.metric("tandem_worker_kv_cache_usage_ratio") == 0 for w in running))


def details(error, kind):
    """The details of this message type in an RPC's error."""
    found = []
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                message = kind()
                if detail.Unpack(message):
                    found.append(message)
    return found


def error_info(error):
    """ErrorInfo of an RPC's error, which always has one."""
    found = details(error, error_details_pb2.ErrorInfo)
    assert len(found) == 1, f"{len(found)} ErrorInfo in {error}"
    return found[0]


def wrong_fields(error):
    """The fields that an error names."""
    return {v.field for d in details(error, error_details_pb2.BadRequest)
            for v in d.field_violations}


def ids_request(ids, max_tokens, temperature=0.0, **fields):
    request = pb.GenerateRequest(**fields)
    request.token_ids.ids.extend(ids)
    request.sampling.temperature = temperature
    request.stopping.max_tokens = max_tokens
    request.response.token_ids = True
    return request


def text_request(text, max_tokens, **fields):
    request = ids_request([], max_tokens, **fields)
    request.text = text
    return request
