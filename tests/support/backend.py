"""The servers behind pen: threads of the test's process, so that a test can look into them and break them.

What a server says is a function `talk(conn, backend)`, run in a thread of its own for each connection; when
it returns, the connection is closed.
"""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from support.ports import free_port
from support.waiting import wait_until

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close() sends RST
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNK = 65536


class Backend:
    """A server with a name, by which clients recognise where they were sent.

    `accepted` counts connections, `peers` has the address each came from, `received` what was read by talks
    that keep it, `requests` the request lines of HTTP talks and `heard` the bytes they read.
    """

    def __init__(
        self,
        talk: "Talk",
        name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "",
        backlog: int = 1024,
    ) -> None:
        self.talk = talk
        self.name = name
        self.path = path
        self.backlog = backlog
        self.accepted = 0
        self.peers: list[str] = []
        self.received = bytearray()
        self.requests: list[bytes] = []
        self.heard = 0
        self.open: list[socket.socket] = []
        self.listener = self._listen(host, port or free_port())
        self.host, self.port = ("", 0) if path else self.listener.getsockname()[:2]
        self._serve()

    def __str__(self) -> str:
        """Its address as pen's command line wants it."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _listen(self, host: str, port: int) -> socket.socket:
        family = socket.AF_UNIX if self.path else socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.path or (host, port))
        listener.listen(self.backlog)
        return listener

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                conn, peer = listener.accept()
            except OSError:
                return  # stopped
            self.accepted += 1
            self.peers.append("unix" if self.path else peer[0])
            self.open.append(conn)
            threading.Thread(target=self._talk, args=[conn], daemon=True).start()

    def _talk(self, conn: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.talk(conn, self)
        with contextlib.suppress(OSError):
            conn.close()
        with contextlib.suppress(ValueError):
            self.open.remove(conn)

    def stop(self) -> None:
        """Refuse from now on, and reset what is open."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for conn in list(self.open):
            reset(conn)

    def start(self) -> None:
        """Be there again, at the same address."""
        self.listener = self._listen(self.host, self.port)
        self._serve()

    def wait_accepted(self, count: int) -> None:
        wait_until(lambda: self.accepted >= count, f"{self.name} has accepted {count}")

    def wait_idle(self) -> None:
        wait_until(lambda: not self.open, f"{self.name} has no connection open")


Talk = Callable[[socket.socket, Backend], None]


def reset(conn: socket.socket) -> None:
    """Close a connection the hard way."""
    with contextlib.suppress(OSError):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        conn.shutdown(socket.SHUT_RD)  # wakes a thread that sits in recv
    conn.close()


def greet(conn: socket.socket, backend: Backend) -> None:
    """Say the name, then echo."""
    conn.sendall(backend.name.encode() + b"\n")
    echo(conn, backend)


def echo(conn: socket.socket, backend: Backend) -> None:
    while data := conn.recv(CHUNK):
        conn.sendall(data)


def silent(conn: socket.socket, backend: Backend) -> None:
    """Read until the client closes, and say nothing."""
    while conn.recv(CHUNK):
        pass


def keep(conn: socket.socket, backend: Backend) -> None:
    """Keep what comes in `received`; say the name when it has all come."""
    while data := conn.recv(CHUNK):
        backend.received += data
    conn.sendall(backend.name.encode() + b"\n")


class Reader:
    """Reads a connection by lines and lengths; `count` is told how many bytes came."""

    def __init__(self, conn: socket.socket, count: Callable[[int], None]) -> None:
        self.conn = conn
        self.count = count
        self.waiting = bytearray()

    def more(self) -> None:
        data = self.conn.recv(CHUNK)
        self.count(len(data))
        if not data:
            raise EOFError
        self.waiting += data

    def until(self, end: bytes) -> bytes:
        while end not in self.waiting:
            self.more()
        found, _, self.waiting = self.waiting.partition(end)
        return bytes(found)

    def exactly(self, size: int) -> bytes:
        while len(self.waiting) < size:
            self.more()
        found = bytes(self.waiting[:size])
        del self.waiting[:size]
        return found

    def chunks(self) -> Iterator[bytes]:
        """A chunked body, its trailer read too."""
        while size := int(self.until(b"\r\n").partition(b";")[0], 16):
            yield self.exactly(size + 2)[:-2]
        while self.until(b"\r\n"):
            pass


def http(conn: socket.socket, backend: Backend) -> None:
    """Answer each HTTP/1.1 request with the name; bodies, by length or in chunks, are read and kept."""

    def count(size: int) -> None:
        backend.heard += size

    reader = Reader(conn, count)
    with contextlib.suppress(EOFError):
        while True:
            head = reader.until(b"\r\n\r\n").lstrip(b"\r\n")
            if b"transfer-encoding: chunked" in head.lower():
                for chunk in reader.chunks():
                    backend.received += chunk
            elif length := CONTENT_LENGTH.search(head):
                backend.received += reader.exactly(int(length[1]))
            backend.requests.append(head.partition(b"\r\n")[0])
            body = backend.name.encode()
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
