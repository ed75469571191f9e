"""UDP peers: servers that are threads of the test's process, clients that see where an answer comes from."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from support.lab import Lab
from support.pen import Pen
from support.ports import free_port
from support.waiting import PATIENCE

LARGEST = 65_507
"""Bytes of the longest datagram that IPv4 carries."""
SPACE = 65_536

Talk = Callable[[bytes, "UdpServer"], bytes | None]
"""What a server says to a datagram; None for nothing."""


def named(data: bytes, server: "UdpServer") -> bytes:
    """The server's name."""
    return server.name.encode()


def echo(data: bytes, server: "UdpServer") -> bytes:
    return data


def silent(data: bytes, server: "UdpServer") -> None:
    """Nothing."""


class UdpServer:
    """A server; `received` has each datagram, `peers` where each came from.  `talk` may be changed."""

    def __init__(self, talk: Talk, name: str, host: str = "127.0.0.1") -> None:
        self.talk = talk
        self.name = name
        self.received: list[bytes] = []
        self.peers: list[tuple[str, int]] = []
        self.host, self.port = host, free_port(socket.SOCK_DGRAM)
        self.start()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def start(self) -> None:
        """Be there, at the same address each time."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((self.host, self.port))
        self.ending, self._end = socket.socketpair()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while self.ending not in select.select([self.socket, self.ending], [], [])[0]:
            with contextlib.suppress(ConnectionRefusedError):
                data, peer = self.socket.recvfrom(SPACE)
                self.received.append(data)
                self.peers.append(peer)
                answer = self.talk(data, self)
                if answer is not None:
                    self.socket.sendto(answer, peer)

    def stop(self) -> None:
        """Refuse from now on."""
        if self.thread.is_alive():
            self._end.close()
            self.thread.join()
            self.ending.close()
            self.socket.close()

    close = stop


class UdpClient:
    """A client of `address`, from a port of its own, and perhaps an address of its own."""

    def __init__(self, address: tuple[str, int], source: str = "") -> None:
        self.address = address
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.socket.settimeout(PATIENCE)
        self.socket.bind((source, 0))

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    def send(self, data: bytes) -> "UdpClient":
        self.socket.sendto(data, self.address)
        return self

    def receive(self) -> bytes:
        """The next datagram, which must come from where we send to."""
        data, peer = self.socket.recvfrom(SPACE)
        assert peer[:2] == self.address, f"an answer from {peer}, not from {self.address}"
        return data

    def ask(self, data: bytes = b"?") -> bytes:
        return self.send(data).receive()

    def hears_nothing(self, seconds: float = 0.3) -> bool:
        return not select.select([self.socket], [], [], seconds)[0]

    def close(self) -> None:
        self.socket.close()


class UdpPen:
    """`pen -U` and its servers and clients."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.served = 0

    def server(self, talk: Talk = named, host: str = "127.0.0.1") -> UdpServer:
        """A server; its name is s0, s1, ... in the order of making."""
        made = self.lab.closing(UdpServer(talk, f"s{self.served}", host))
        self.served += 1
        return made

    def servers(self, count: int, talk: Talk = named) -> list[UdpServer]:
        return [self.server(talk) for _ in range(count)]

    def nobody(self) -> UdpServer:
        """A server that is not there: refuses until it is started."""
        made = self.server()
        made.stop()
        return made

    def start(self, *options: str, servers: Sequence[object] = (), **more: Any) -> Pen:
        more.setdefault("listen", f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}")
        return self.lab.pen("-U", *options, servers=servers, **more)

    def client(self, address: Any, source: str = "") -> UdpClient:
        return self.lab.closing(UdpClient(address, source))

    def asks(self, pen: Pen, count: int, source: str = "") -> list[str]:
        """The servers that so many new clients get."""
        return [self.client(pen.address, source).ask().decode() for _ in range(count)]
