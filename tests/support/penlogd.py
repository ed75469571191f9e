"""penlogd under test, in the foreground, and the machines that send to it."""

import socket
from collections.abc import Sequence
from pathlib import Path

from support.lab import Lab
from support.ports import free_port
from support.process import Process
from support.programs import tool
from support.waiting import wait_until

TIME = b"10/Oct/2000:13:55:36 +0000"


class Penlogd:
    """`penlogd -f -l access.log WORDS PORT`, listening; `send` plays pen and the web servers."""

    def __init__(
        self, lab: Lab, *words: object, address: str = "", program: Sequence[str] = (), stdout: bool = False
    ) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        self.file = lab.directory / f"access{len(lab.processes)}.log"
        log = [] if stdout else ["-f", "-l", str(self.file)]
        where = f"{address}:{self.port}" if address else str(self.port)
        argv = [*(program or tool("penlogd")), *log, *map(str, words), where]
        self.process: Process = lab.spawn(argv, f"penlogd{len(lab.processes)}")
        self._lab = lab
        self._senders: dict[str, socket.socket] = {}
        self.wait_listening()

    def wait_listening(self) -> None:
        wait_until(
            lambda: not self.process.alive or udp_sockets(self.process.pid, self.port), "penlogd listens"
        )
        assert self.process.alive, self.process.err

    def send(self, source: str, *datagrams: bytes) -> None:
        """Send datagrams from one of our addresses."""
        if source not in self._senders:
            family = socket.AF_INET6 if ":" in source else socket.AF_INET
            sender = self._lab.closing(socket.socket(family, socket.SOCK_DGRAM))
            sender.bind((source, 0))
            sender.connect(("::1" if ":" in source else "127.0.0.1", self.port))
            self._senders[source] = sender
        for datagram in datagrams:
            self._senders[source].send(datagram)

    @property
    def log(self) -> bytes:
        return self.file.read_bytes() if self.file.exists() else b""

    @property
    def lines(self) -> list[bytes]:
        return self.log.splitlines(keepends=True)

    @property
    def clients(self) -> list[str]:
        """The client of each line."""
        return [line.partition(b" ")[0].decode() for line in self.lines]

    def wait(self, count: int) -> list[bytes]:
        """The lines, once there are `count`."""
        wait_until(lambda: len(self.lines) >= count, f"{count} lines in {self.file.name}")
        return self.lines

    def dropped(self) -> int:
        """Datagrams that the kernel dropped because the receive buffer was full."""
        return sum(drops for _, drops in udp_sockets(self.process.pid, self.port))


def udp_sockets(pid: int, port: int) -> list[tuple[str, int]]:
    """The UDP sockets bound to `port`, as process `pid` sees the network: table and datagrams dropped."""
    found = []
    for table in ("udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                found.append((table, int(fields[-1])))
    return found


def record(client: str, server: str, request: str = "GET / HTTP/1.1") -> bytes:
    """A pen's datagram."""
    return f"+ {client} {server} {request}\n".encode()


def line(request: str = "GET / HTTP/1.1", client: str = "127.0.0.1", agent: str = "", size: int = 5) -> bytes:
    """A web server's."""
    tail = f' "-" "{agent}"' if agent else ""
    return b"%b - - [%b] %b\n" % (client.encode(), TIME, f'"{request}" 200 {size}{tail}'.encode())
