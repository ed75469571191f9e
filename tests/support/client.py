"""The clients: one TCP or Unix connection with verbs, and the short conversations tests are made of."""

import contextlib
import fcntl
import socket
import termios

from support.backend import CHUNK, reset
from support.waiting import PATIENCE, wait_until

Address = tuple[str, int] | str
"""host and port, or the path of a Unix socket."""


class Client:
    """A connection to `address`, from `source` (an address, or address and port) if that is given."""

    def __init__(
        self, address: Address, source: str | tuple[str, int] = "", seconds: float = PATIENCE
    ) -> None:
        family = _family(address)
        self.socket = socket.socket(family)
        self.socket.settimeout(seconds)
        self.buffer = b""
        try:
            if source:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.bind((source, 0) if isinstance(source, str) else source)
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    @property
    def port(self) -> int:
        """The client's own port."""
        return self.socket.getsockname()[1]

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, data: bytes) -> "Client":
        self.socket.sendall(data)
        return self

    def line(self) -> str:
        """The next line without its end; what there is if the other side closes before, perhaps nothing."""
        while b"\n" not in self.buffer:
            data = self.socket.recv(CHUNK)
            if not data:
                break
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def line_or_end(self) -> str:
        """The next line, "" too if the connection was reset."""
        try:
            return self.line()
        except ConnectionResetError:
            return ""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or as many as come before the other side closes."""
        while len(self.buffer) < size:
            data = self.socket.recv(CHUNK)
            if not data:
                break
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def rest(self) -> bytes:
        """All that comes until the other side closes."""
        parts = [self.buffer]
        self.buffer = b""
        while data := self.socket.recv(CHUNK):
            parts.append(data)
        return b"".join(parts)

    def ended(self) -> bool:
        """Wait for the other side's end; whether nothing came before it.  A reset is an end, too."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True

    def talk(self, data: bytes) -> bytes:
        """Send, and read as much again: what an echo answers."""
        self.send(data)
        return self.read(len(data))

    def get(self, target: str = "/", *, headers: bytes = b"") -> str:
        """One HTTP request on this connection; the body of the answer."""
        self.send(b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (target.encode("latin-1"), headers))
        return self.response()

    def response(self) -> str:
        """The body of the next HTTP answer."""
        length = 0
        while line := self.line().rstrip("\r"):
            if line.lower().startswith("content-length:"):
                length = int(line.partition(":")[2])
        return self.read(length).decode()

    def shut(self) -> "Client":
        """Close our direction only."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        reset(self.socket)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


def ask(address: Address, source: str | tuple[str, int] = "", seconds: float = PATIENCE) -> str:
    """The name of the server that a new connection reaches; "" if it is closed without one."""
    with Client(address, source, seconds) as client:
        return client.line_or_end()


def read_by_peer(conn, seconds=1.0):
    """Whether all that was sent on a Unix socket gets read within that time."""
    try:
        wait_until(lambda: fcntl.ioctl(conn, termios.TIOCOUTQ, bytes(4)) == bytes(4), "all is read", seconds)
    except AssertionError:
        return False
    return True


def _family(address: Address) -> socket.AddressFamily:
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET
