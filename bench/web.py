"""HTTP: nginx with a small file on two ports, and wrk, which asks for it through a proxy.

The answers to one request are all of the same size, so the bytes that wrk has read tell whether each answer
was whole; that they are the right bytes is seen from one answer before.
"""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from bench.process import PATIENCE, Program, find, free_port
from bench.proxies import TEMPORARY, nginx_command
from bench.tls import connected
from penlib.errors import PenError

SMALL = b"0123456789" * 10
"""What the file holds: small, as what is measured is the cost of a request."""
CONNECTIONS = 50
"""Connections of wrk."""
CLOSE = "Connection: close"
WRK_SCRIPT = Path(__file__).with_name("wrk.lua")
SLOW = "30s"
"""Even on a busy machine, an answer that takes longer will never come."""


class Load(NamedTuple):
    """What wrk has done: requests answered, in how many seconds."""

    requests: int
    seconds: float


class Web(Program):
    """The servers behind the proxies; they listen on `ports`."""

    def __init__(self, directory: Path) -> None:
        (directory / "small").write_bytes(SMALL)
        self.ports = [free_port(), free_port()]
        listeners = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in self.ports)
        command = nginx_command(
            directory,
            f"http {{ access_log off; keepalive_requests 1000000000; open_file_cache max=10; {TEMPORARY} "
            f"server {{ {listeners} root {directory}; "
            "location /seen { return 200 $http_x_forwarded_for; } } }",
        )
        super().__init__("nginx, the server", command, self.ports[0], directory)

    def load(self, port: int, seconds: float, keep_alive: bool, tls: bool = False) -> Load:
        """Ask through the proxy on `port`, as fast as one wrk can.  Raises PenError for a wrong answer."""
        last = fetch(port, [CLOSE], tls)
        size = len(fetch(port, ["", CLOSE], tls)) - len(last) if keep_alive else len(last)
        if body(last) != SMALL:
            raise PenError("the answer is not the file")
        words = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds:.0f}s", "--timeout", SLOW]
        words += ["-s", str(WRK_SCRIPT)] + ([] if keep_alive else ["-H", CLOSE])
        done = subprocess.run(
            [find("wrk"), *words, f"http{'s' if tls else ''}://127.0.0.1:{port}/small"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
            timeout=seconds + 2 * PATIENCE,
        )
        return checked(done.stdout.decode("utf-8", "replace"), size)


def checked(said: str, size: int) -> Load:
    """What wrk `said`, if all answers are whole ones of `size`.  Raises PenError if not."""
    result = [line.split()[1:] for line in said.splitlines() if line.startswith("RESULT ")]
    if not result:
        raise PenError(f"wrk: {said.strip()}")
    requests, read, failed, microseconds = map(int, result[0])
    if failed:
        raise PenError(f"wrk: {failed} of {requests} requests failed:\n{said}")
    begun = read - requests * size
    if not requests or not 0 <= begun <= CONNECTIONS * size:
        raise PenError(f"wrk: read {read} bytes in {requests} answers of {size}:\n{said}")
    return Load(requests, microseconds / 1e6)


def forwarded(port: int) -> bytes:
    """The client's address that a server is told by the proxy on `port`."""
    return body(fetch(port, [CLOSE], path="/seen"))


def fetch(port: int, headers: list[str], tls: bool = False, path: str = "/small") -> bytes:
    """What comes back, up to the end, for one request after another, each with that header."""
    lines = [(f"GET {path} HTTP/1.1", "Host: bench", *filter(None, [header]), "", "") for header in headers]
    requests = "".join("\r\n".join(request) for request in lines)
    with connected(port, tls) as sock:
        sock.sendall(requests.encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


def body(answer: bytes) -> bytes:
    """Of an HTTP answer."""
    return answer.partition(b"\r\n\r\n")[2]
