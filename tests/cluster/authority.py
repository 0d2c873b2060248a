"""A certificate authority of a test's own, made with the openssl command."""

import os
import subprocess

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """Writes PEM files into `folder`; its own certificate is in `ca`."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.ca, self.ca_key = self.path("ca.pem"), self.path("ca.key")
        openssl("req", "-x509", *NEW_KEY, "-days", "1", "-subj", "/CN=authority", "-out", self.ca,
                "-keyout", self.ca_key)

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, name, alternative_names):
        """(certificate, key) for names like "DNS:a,IP:127.0.0.1"; a second time, new ones in the
        places of the first, one after the other."""
        request, extensions = self.path(f"{name}.csr"), self.path(f"{name}.ext")
        fresh, key = self.path(f"{name}.new"), self.path(f"{name}.key")
        with open(extensions, "w", encoding="utf-8") as f:
            f.write(f"subjectAltName={alternative_names}\nbasicConstraints=CA:FALSE\n")
        openssl("req", *NEW_KEY, "-subj", f"/CN={name}", "-out", request, "-keyout", fresh)
        os.replace(fresh, key)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key,
                "-CAcreateserial", "-days", "1", "-extfile", extensions, "-out", fresh)
        os.replace(fresh, self.path(f"{name}.pem"))
        return self.path(f"{name}.pem"), key
