"""Free ports, addresses that answer in a certain way, and who listens where."""

import contextlib
import errno
import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"  # the state column of /proc/net/tcp
ACCEPTS = 0x10000  # __SO_ACCEPTCON in the flags column of /proc/net/unix

FIRST = 10000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _own_ports() -> Iterator[int]:
    """This worker's ports, round and round, from a random one on.

    They lie below the ephemeral ones: the kernel gives those to any socket that connects, also between a
    test's choosing a port and its program's binding it.  No other worker of this run has them either.
    """
    end = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32768
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(FIRST + worker, end, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    start = random.randrange(len(ports))
    return itertools.cycle([*ports[start:], *ports[:start]])


_ports = _own_ports()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port that nobody has, on any local address, and that no test gets soon again."""
    return next(port for port in _ports if _is_free(port, kind))


def _is_free(port: int, kind: int) -> bool:
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
    return True


class Refusing:
    """An address that refuses connections for as long as this lives: bound, so nobody else gets the port."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.bind((host, 0))
        self.host, self.port = self.socket.getsockname()[:2]

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def close(self) -> None:
        self.socket.close()


class Hole(Refusing):
    """An address that never answers: its backlog is full, so the kernel drops every further SYN."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.socket.listen(0)
        self.fillers = []
        for _ in range(3):
            filler = socket.socket(self.socket.family)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            self.fillers.append(filler)

    def close(self) -> None:
        for filler in self.fillers:
            filler.close()
        super().close()


def listens(pid: int, port: int, host: str = "") -> bool:
    """Whether, as process `pid` sees the network, somebody listens on `port` (of `host`, if given)."""
    return any(listening and (not host or host == at) for at, listening in _listeners(pid, port))


def listening_hosts(pid: int, port: int) -> set[str]:
    """The local addresses on which somebody listens on `port`."""
    return {at for at, _ in _listeners(pid, port)}


def _listeners(pid: int, port: int) -> list[tuple[str, bool]]:
    found = []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            local, state = line.split()[1], line.split()[3]
            host, _, number = local.partition(":")
            if state == LISTEN and int(number, 16) == port:
                found.append((_unhex(host), True))
    return found


def _unhex(words: str) -> str:
    """The address in /proc/net/tcp: 32-bit words, each in the machine's byte order."""
    packed = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def listens_unix(pid: int, path: str) -> bool:
    """Whether somebody listens on the Unix socket that was bound as `path`."""
    table = Path(f"/proc/{pid}/net/unix")
    for line in table.read_text().splitlines()[1:] if table.exists() else []:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == path and int(fields[3], 16) & ACCEPTS:
            return True
    return False


def takes_datagrams(pid: int, port: int) -> bool:
    """Whether, as process `pid` sees the network, a UDP socket is bound to `port` and connected to nobody."""
    for table in ("udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            local, remote = line.split()[1:3]
            if int(local.rpartition(":")[2], 16) == port and not int(remote.rpartition(":")[2], 16):
                return True
    return False
