"""Certificates, made by openssl: authorities, what they issue, and staples for it."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificate(NamedTuple):
    """Its files, in PEM; `both` holds the certificate and the key."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """A CA of that name, with its files in `directory`."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.cert, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        self.issued = 0
        run("req", "-x509", *NEW_KEY, "-keyout", self.key, "-out", self.cert, "-days", "30",
            "-subj", f"/CN={name}", "-addext", "keyUsage=keyCertSign,digitalSignature")  # fmt: skip

    def issue(self, name: str, *extensions: str) -> Certificate:
        """A certificate for a host or a person."""
        self.issued += 1
        base = self.directory / f"{self.name}-{self.issued}"
        made = Certificate(*(base.with_suffix(ending) for ending in (".crt", ".key", ".both")))
        more = [word for extension in extensions for word in ("-addext", extension)]
        run("req", "-x509", *NEW_KEY, "-keyout", made.key, "-out", made.cert, "-days", "30",
            "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
            "-addext", "basicConstraints=critical,CA:FALSE", *more,
            "-CA", self.cert, "-CAkey", self.key)  # fmt: skip
        made.both.write_bytes(made.cert.read_bytes() + made.key.read_bytes())
        return made

    def index(self, *certificates: Certificate) -> Path:
        """What `openssl ocsp -index` reads: these are good."""
        expiry = (datetime.now(UTC) + timedelta(days=30)).strftime("%y%m%d%H%M%SZ")
        path = self.directory / f"{self.name}.index"
        serials = [self._serial(one) for one in certificates]
        path.write_text("".join(f"V\t{expiry}\t\t{serial}\tunknown\t/CN=x\n" for serial in serials))
        return path

    @staticmethod
    def _serial(certificate: Certificate) -> str:
        return run("x509", "-in", certificate.cert, "-noout", "-serial").strip().partition("=")[2]

    def responder(self, *certificates: Certificate) -> list[str]:
        """The words of an OCSP responder, but for where it gets requests."""
        words = ["openssl", "ocsp", "-index", self.index(*certificates), "-CA", self.cert, "-ndays", "3"]
        return [*map(str, words), "-rsigner", str(self.cert), "-rkey", str(self.key)]

    def staple(self, certificate: Certificate) -> bytes:
        """An OCSP response: it is good."""
        request, response = self.directory / "request.der", self.directory / "response.der"
        run("ocsp", "-issuer", self.cert, "-cert", certificate.cert, "-no_nonce", "-reqout", request)
        run(*self.responder(certificate)[1:], "-reqin", request, "-respout", response)
        return response.read_bytes()


def run(*words: object) -> str:
    typed = ["openssl", *map(str, words)]
    done = subprocess.run(typed, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert not done.returncode, done.stderr.decode()
    return done.stdout.decode()
