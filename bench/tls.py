"""TLS towards clients: the certificate that all peers show, and the clients' side of it."""

import socket
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

from bench.process import PATIENCE, find
from penlib.errors import PenError


def certificate(directory: Path) -> Path:
    """A certificate of RSA 2048, still the commonest, and its key in one file.  Raises PenError."""
    both = directory / "bench.pem"
    typed = "req -x509 -newkey rsa:2048 -nodes -subj /CN=bench -days 30 -keyout key.pem -out crt.pem"
    done = subprocess.run([find("openssl"), *typed.split()], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise PenError(f"openssl: {done.stderr.strip()}")
    both.write_bytes((directory / "key.pem").read_bytes() + (directory / "crt.pem").read_bytes())
    return both


def connected(port: int, tls: bool) -> socket.socket:
    """A client's connection to a port of 127.0.0.1; with `tls` it believes anybody."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    return _client().wrap_socket(sock) if tls else sock


def end(sock: socket.socket) -> None:
    """Say that nothing more is sent."""
    if isinstance(sock, ssl.SSLSocket):
        with suppress(ssl.SSLWantReadError):
            sock.unwrap()
    sock.shutdown(socket.SHUT_WR)


def _client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
