"""Clients that nobody has seen before, coming to a pen that remembers many: -c N, without -r.

The clients are addresses of 127/8.  Each asks nothing, gets a few bytes from a server, and goes.  A pen is
filled once and stays for all rounds; N are always known, so that each newcomer takes the place of the one
that was not seen for longest.
"""

import itertools
import selectors
import socket
import time
from contextlib import ExitStack
from functools import partial
from typing import Self

from bench.lab import Lab
from bench.peers import Duty, Original, Peer
from bench.process import PATIENCE, Program
from bench.sample import Entrant, Sample, Work
from penlib.errors import PenError
from penlib.sockets import close_all

GREETING = b"hello"
UNDERWAY = 50
"""Clients at once."""
GROUP = "Many clients"
MANY = 200_000
"""Beyond, the C program is not filled: it searches the whole table anyhow, filled or not."""
FEW = 300
"""Newcomers that it then gets."""
IP_BIND_ADDRESS_NO_PORT = 24
"""in.h: the port is chosen at connect, when it need be free only towards this one peer."""


class Crowd:
    """A pen that knows `known` clients, and whoever comes next."""

    def __init__(self, lab: Lab, peer: Peer, known: int, filled: bool) -> None:
        self._stack = ExitStack()
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        self._listener.setblocking(False)
        self._addresses = map(address, itertools.count())
        duty = Duty([self._listener.getsockname()[1]], clients=known)
        try:
            self.program: Program = self._stack.enter_context(lab.start(peer, duty))
            if filled:
                self.come(known)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def come(self, count: int) -> None:
        """So many new clients.  Raises PenError if one does not get what a server said."""
        here: set[socket.socket] = set()
        with selectors.DefaultSelector() as selector, ExitStack() as stack:
            stack.callback(lambda: close_all(list(here)))
            selector.register(self._listener, selectors.EVENT_READ)
            while count or here:
                while count and len(here) < UNDERWAY:
                    client = connecting(self.program.port, next(self._addresses))
                    here.add(client)
                    selector.register(client, selectors.EVENT_READ)
                    count -= 1
                ready = selector.select(PATIENCE)
                if not ready:
                    raise PenError(f"nothing for {PATIENCE:.0f} s")
                for key, _ in ready:
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is self._listener:
                        self._serve()
                    else:
                        hear(sock)
                        selector.unregister(sock)
                        here.remove(sock)
                        sock.close()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except BlockingIOError:
                return
            with connection:
                connection.send(GREETING)


def hear(client: socket.socket) -> None:
    """Raises PenError if it is not the greeting."""
    heard = client.recv(2 * len(GREETING))
    if heard != GREETING:
        raise PenError(f"a client hears {heard!r}, not {GREETING!r}")


def connecting(port: int, source: str) -> socket.socket:
    """A client that is on its way."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.connect_ex(("127.0.0.1", port))
    return client


def address(number: int) -> str:
    """Of a client: 127.1.0.0 and up."""
    number += 1 << 16
    return f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def works(lab: Lab) -> list[Work]:
    """A work for each number of clients known."""
    return [_work(lab, known) for known in lab.scale.tracked]


def _work(lab: Lab, known: int) -> Work:
    entrants = []
    for peer in lab.peers(Original):
        less = f"{FEW} clients, table not filled" if known > MANY and isinstance(peer, Original) else ""
        count = FEW if less else lab.scale.newcomers
        entrants.append(Entrant(peer.name, partial(measure, lab, peer, known, count), less))
    title = f"a new client, {known:,} known"
    return Work(f"crowd-{known // 1000}k", title, "connection", GROUP, entrants)


def measure(lab: Lab, peer: Peer, known: int, count: int) -> Sample:
    name = f"crowd {peer.name} {known}"
    crowd = lab.shared(name, lambda: Crowd(lab, peer, known, filled=count != FEW))
    before, begun = crowd.program.settled_cpu(), time.monotonic()
    crowd.come(count)
    wall = time.monotonic() - begun
    return Sample(count, crowd.program.settled_cpu() - before, wall)
