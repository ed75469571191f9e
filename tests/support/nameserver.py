"""A name server that does what it is told: it answers, late, wrongly or never; by UDP and by TCP.

Written from RFC 1035 without any of penlib's code, so that both can't share a mistake.
"""

import contextlib
import heapq
import ipaddress
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from support.ports import free_port

TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "AAAA": 28}
NAMES = {number: name for name, number in TYPES.items()}
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
RESPONSE, TRUNCATED = 0x8080, 0x0200


def wire(name: str | bytes) -> bytes:
    """A name as it travels; labels may hold any byte but a dot.  Bytes are on the wire already."""
    if isinstance(name, bytes):
        return name
    labels = [label.encode("latin-1") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


@dataclass
class Reply:
    """What is answered: records as (type, value), where a value is a name, an address or bytes."""

    records: list[tuple[str, str | bytes]] = field(default_factory=list)
    rcode: int = NOERROR
    ttl: int = 3600
    delay: float = 0.0
    silent: bool = False
    truncated: bool = False  # by UDP; by TCP all of it comes
    change: Callable[[bytes], bytes] = bytes
    """Applied to the message before it is sent."""


def named(*names: str | bytes, **more: object) -> Reply:
    """An answer with these names."""
    return Reply([("PTR", name) for name in names], **more)  # type: ignore[arg-type]


NOBODY = Reply(rcode=NXDOMAIN)


class NameServer:
    """Answers questions by `answer(name, type)`; `asked` counts them, `most` is how many waited at once.

    Without an `answer`, it looks into `zone`: (name, type) -> Reply, NXDOMAIN for everything else.
    """

    def __init__(
        self,
        answer: Callable[[str, str], Reply] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.zone: dict[tuple[str, str], Reply] = {}
        self.answer = answer or (lambda name, kind: self.zone.get((name, kind), NOBODY))
        self.asked: Counter[tuple[str, str]] = Counter()
        self.by_tcp = 0
        self.waiting = 0
        self.most = 0
        self.host, self.port = host, port or free_port(socket.SOCK_DGRAM)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.udp.bind((host, self.port))
        self.tcp = socket.socket(family)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.tcp.bind((host, self.port))
        self.tcp.listen(64)
        self.closed = False
        self.later: list[tuple[float, int, bytes, tuple]] = []
        self.turn = 0
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self._serve, self._accept)]
        for thread in self.threads:
            thread.start()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def knows(self, address: str, *names: str | bytes, **more: object) -> None:
        """The names of an address."""
        self.zone[reverse(address), "PTR"] = named(*names, **more)

    def questions(self, kind: str = "PTR") -> dict[str, int]:
        """How often each name was asked for."""
        return {name: count for (name, asked), count in self.asked.items() if asked == kind}

    def close(self) -> None:
        self.closed = True
        with contextlib.suppress(OSError):
            self.tcp.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        self.udp.close()
        self.tcp.close()

    def _serve(self) -> None:
        while not self.closed:
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                _, _, data, client = heapq.heappop(self.later)
                self.waiting -= 1
                with contextlib.suppress(OSError):
                    self.udp.sendto(data, client)
            patience = min(0.05, max(0.0, self.later[0][0] - now)) if self.later else 0.05
            if select.select([self.udp], [], [], patience)[0]:
                data, client = self.udp.recvfrom(4096)
                self._take(data, client)

    def _take(self, data: bytes, client: tuple) -> None:
        reply = self._reply(data)
        if reply is None or reply.silent:
            return
        message = self._message(data, reply, reply.truncated)
        if reply.delay:
            self.turn += 1
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            heapq.heappush(self.later, (time.monotonic() + reply.delay, self.turn, message, client))
        else:
            self.udp.sendto(message, client)

    def _accept(self) -> None:
        while not self.closed:
            try:
                conn, _ = self.tcp.accept()
            except OSError:
                return
            with conn:
                conn.settimeout(5)
                with contextlib.suppress(OSError, struct.error):
                    (size,) = struct.unpack("!H", conn.recv(2, socket.MSG_WAITALL))
                    data = conn.recv(size, socket.MSG_WAITALL)
                    self.by_tcp += 1
                    reply = self._reply(data)
                    if reply and not reply.silent:
                        message = self._message(data, reply, False)
                        conn.sendall(struct.pack("!H", len(message)) + message)

    def _reply(self, data: bytes) -> Reply | None:
        if len(data) < 17:
            return None
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
            at += 1 + data[at]
        kind = NAMES.get(struct.unpack_from("!H", data, at + 1)[0], "?")
        name = ".".join(labels).lower()
        self.asked[name, kind] += 1
        return self.answer(name, kind)

    def _message(self, data: bytes, reply: Reply, truncated: bool) -> bytes:
        end = data.index(b"\0", 12) + 5
        records = [] if truncated else reply.records
        flags = RESPONSE | 0x0100 | reply.rcode | (TRUNCATED if truncated else 0)
        message = data[:2] + struct.pack("!5H", flags, 1, len(records), 0, 0) + data[12:end]
        owner = b"\xc0\x0c"
        for kind, value in records:
            raw = (
                ipaddress.ip_address(value).packed
                if kind in ("A", "AAAA") and isinstance(value, str)
                else wire(value)
            )
            message += owner + struct.pack("!HHIH", TYPES[kind], 1, reply.ttl, len(raw)) + raw
            if kind == "CNAME":
                owner = raw  # what follows belongs to the alias
        return reply.change(message)
