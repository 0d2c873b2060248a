"""Router, workers and clients that know each other by certificates."""

import os
import socket
import ssl
import subprocess
import tempfile
import unittest

import grpc
import tiny_model
from authority import Authority
from cluster import BIN, PATIENCE, Cluster, await_true, ids_request

SETTINGS = ("engine.max_sequences=4", "engine.max_batch_tokens=64", "kv.shm=false")
PROMPT = [(7 * i) % 256 for i in range(500)]
WORKER, ROUTER, CLIENT = "worker.test", "router.test", "spiffe://test/client"


def read(path):
    with open(path, "rb") as f:
        return f.read()


class TlsTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.model = tiny_model.write(os.path.join(folder, "tiny"))
        cls.authority = Authority(os.path.join(folder, "pki"))
        cls.router = cls.authority.issue("router", f"DNS:{ROUTER},IP:127.0.0.1")
        cls.worker = cls.authority.issue("worker", f"DNS:{WORKER}")
        cls.client = cls.authority.issue("client", f"URI:{CLIENT}")
        cls.stranger = Authority(os.path.join(folder, "strange")).issue(
            "client", f"URI:{CLIENT}")
        cls.cluster = Cluster(cls.model, worker=cls.worker_settings(), router=cls.router_settings(),
                              credentials=cls.credentials(cls.client))
        cls.enterClassContext(cls.cluster)

    @classmethod
    def server(cls, own, *client_names):
        return (f"server.tls.cert_file={own[0]}", f"server.tls.key_file={own[1]}",
                f"server.tls.client_ca_file={cls.authority.ca}",
                f"server.tls.client_names=[{', '.join(client_names)}]")

    @classmethod
    def caller(cls, section, own):
        return (f"{section}.ca_file={cls.authority.ca}", f"{section}.cert_file={own[0]}",
                f"{section}.key_file={own[1]}", f"{section}.server_names=[{WORKER}]")

    @classmethod
    def worker_settings(cls):
        return (*SETTINGS, *cls.server(cls.worker, WORKER, ROUTER),
                *cls.caller("peer_tls", cls.worker))

    @classmethod
    def router_settings(cls):
        return (*cls.server(cls.router, f'"{CLIENT}"'), *cls.caller("worker_tls", cls.router))

    @classmethod
    def credentials(cls, own):
        return grpc.ssl_channel_credentials(read(cls.authority.ca), read(own[1]), read(own[0]))

    def generate(self, *flags):
        """What `tandem generate` ends with."""
        return subprocess.run(
            [os.path.join(BIN, "tandem"), "generate", "--endpoint",
             self.cluster.router.addresses["grpc"], *flags, "--max-tokens", "3", "hello"],
            capture_output=True, text=True, timeout=60 * PATIENCE, check=False)

    def test_tokens_are_those_of_a_cluster_without_tls(self):
        request = ids_request(PROMPT, 32)
        by_tls = self.cluster.generate(request).said()
        prefill = self.cluster.workers[0]
        self.assertGreaterEqual(prefill.metric("tandem_handoff_bytes_total", direction="sent"),
                                len(PROMPT) * 1024)
        self.assertIn("transport=tcp", prefill.logged())
        with Cluster(self.model, worker=SETTINGS) as plain:
            self.assertEqual(plain.generate(request).said(), by_tls)

    def test_kv_is_taken_over_tls_only(self):
        host, _, port = self.cluster.workers[1].addresses["kv"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30 * PATIENCE) as plain:
            plain.sendall(b"TDKF" + bytes(44))
            self.assertEqual(plain.recv(1), b"\x15")  # a TLS alert

    def test_clients_that_the_router_does_not_know_are_told(self):
        ca = ("--ca-file", self.authority.ca)
        said = self.generate(*ca, "--cert-file", self.client[0], "--key-file", self.client[1])
        self.assertEqual(said.returncode, 0, said.stderr)
        said = self.generate()
        self.assertEqual(said.returncode, 1)
        self.assertIn("speaks TLS: name a file with the authority", said.stderr)
        for own in ((), self.stranger, self.worker):
            files = ("--cert-file", own[0], "--key-file", own[1]) if own else ()
            said = self.generate(*ca, *files)
            self.assertEqual(said.returncode, 1, own)
            self.assertIn("it may ask for a certificate", said.stderr)

    def test_a_client_does_not_reach_a_worker(self):
        address = self.cluster.workers[0].addresses["grpc"]
        options = [("grpc.ssl_target_name_override", WORKER), ("grpc.enable_http_proxy", 0)]

        def ready(own):
            with grpc.secure_channel(address, self.credentials(own), options) as channel:
                try:
                    grpc.channel_ready_future(channel).result(timeout=5 * PATIENCE)
                except grpc.FutureTimeoutError:
                    return False
                return True

        self.assertTrue(ready(self.router))
        self.assertFalse(ready(self.client))

    def certificate_of_router(self):
        context = ssl.create_default_context(cafile=self.authority.ca)
        context.load_cert_chain(*self.client)
        context.set_alpn_protocols(["h2"])
        host, _, port = self.cluster.router.addresses["grpc"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30 * PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname=ROUTER) as secure:
                return secure.getpeercert(binary_form=True)

    def test_new_certificates_need_no_restart_and_running_requests_go_on(self):
        before = self.certificate_of_router()
        call = self.cluster.stub.Generate(ids_request(PROMPT, 400), timeout=120 * PATIENCE)
        next(call)
        self.authority.issue("router", f"DNS:{ROUTER},IP:127.0.0.1")
        self.authority.issue("worker", f"DNS:{WORKER}")
        await_true("the router shows the new certificate",
                   lambda: self.certificate_of_router() != before, 30 * PATIENCE)
        self.assertTrue([m for m in call if m.HasField("end")])
        self.assertIn("tls files are reloaded", self.cluster.router.logged())
        self.assertTrue(self.cluster.generate(ids_request(PROMPT, 8)).token_ids)


class StartTest(unittest.TestCase):

    def test_files_that_do_not_fit_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(folder)
            cert, _ = authority.issue("a", "DNS:a")
            _, key = authority.issue("b", "DNS:b")
            said = subprocess.run(
                [os.path.join(BIN, "tandem-router"), "--set", "workers=[127.0.0.1:1]", "--set",
                 "server.listen=127.0.0.1:0", "--set", "observability.listen=127.0.0.1:0", "--set",
                 f"server.tls.cert_file={cert}", "--set", f"server.tls.key_file={key}"],
                capture_output=True, text=True, timeout=60 * PATIENCE, check=False, cwd=folder)
            self.assertEqual(said.returncode, 1)
            self.assertIn(f"server.tls.key_file: {key} is not the key of the certificate in {cert}",
                          said.stderr)


if __name__ == "__main__":
    unittest.main()
