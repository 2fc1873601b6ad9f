"""A certificate authority of a test's own, by the `openssl` command."""

import subprocess
from pathlib import Path

from tests.support.servers import system_tool

_NEW = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


class Authority:
    """Issues certificates for 127.0.0.1; its own is `certificate`, a file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        self._openssl("-subj", "/CN=authority", "-keyout", str(self._key), "-out", str(self.certificate))

    def issue(self, name: str, other_names: str = "IP:127.0.0.1") -> bytes:
        """A new certificate of this common name, and others of it, with its key, in PEM."""
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        own = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-subj", f"/CN={name}")
        files = ("-keyout", str(key), "-out", str(certificate))
        self._openssl(*own, "-addext", f"subjectAltName={other_names}", *files)
        return certificate.read_bytes() + key.read_bytes()

    def _openssl(self, *options: str) -> None:
        subprocess.run([system_tool("openssl"), *_NEW, *options], check=True, capture_output=True)
