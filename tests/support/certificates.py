"""Certificates for tests, made by openssl: an authority, and what it has signed."""

import subprocess
from pathlib import Path

from support.programs import find


def _openssl(directory: Path, *words: str) -> None:
    subprocess.run([find("openssl") or "openssl", *words], cwd=directory, check=True, capture_output=True)


class Authority:
    """An authority in a directory of its own; `file` is its certificate."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self.name = name
        directory.mkdir(parents=True, exist_ok=True)
        self.file = directory / f"{name}.crt"
        _openssl(
            directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "30", "-subj", f"/CN={name}",
        )  # fmt: skip

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for a host name, and its key."""
        extension = self.directory / f"{name}.ext"
        extension.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl(
            self.directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        _openssl(
            self.directory, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.crt", "-CAkey",
            f"{self.name}.key", "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext",
            "-out", f"{name}.crt",
        )  # fmt: skip
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def bundle(self, name: str) -> Path:
        """A certificate, its key and the authority's certificate in one file."""
        certificate, key = self.sign(name)
        both = self.directory / f"{name}.pem"
        both.write_bytes(key.read_bytes() + certificate.read_bytes() + self.file.read_bytes())
        return both
