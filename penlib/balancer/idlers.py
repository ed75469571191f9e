"""Connections to servers that stand ready before clients come (`idlers N`).

A client whose server has one gets it and is spared the wait for a connect.  The next one goes to the server
that has the fewest, of those that are available and have room.  What a server closes is replaced with the
next look, a second later at the most; what a client takes, at once.

They are dialled like a client's connection, so a server that fails is noticed and left alone as ever.

Not here: the dialling (dial), what becomes of one that was taken (tcp).
"""

import socket
from collections.abc import Callable
from typing import NamedTuple

from penlib import clock
from penlib.address import Place
from penlib.balancer.connection import Connection
from penlib.balancer.relay import Relay
from penlib.balancer.settings import Settings
from penlib.clients import Client
from penlib.loop import READ, Loop, Timer
from penlib.selection import Direct, Selection
from penlib.servers import Server

LOOK = 1.0
"""Seconds between looks at what is missing."""


class Idler(NamedTuple):
    """One that is ready: whose it is, where it leads to and comes from."""

    server: Server
    place: Place
    source: Place | None


class Idlers:
    """All of one pen.  `dial` dials; its owner hands what comes of that to `ready` or `failed`."""

    def __init__(
        self,
        loop: Loop,
        relay: Relay,
        settings: Settings,
        selection: Selection,
        dial: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._relay = relay
        self._settings = settings
        self._selection = selection
        self._dial = dial
        self._ready: dict[int, Idler] = {}
        """By descriptor."""
        self._dialling: list[Connection] = []
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """How many are ready."""
        return len(self._ready)

    def tend(self) -> None:
        """Close those that are too many or no longer of use, open those that are missing.  Not within a batch
        of events."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        now = clock.monotonic()
        wanted = 0 if self._settings.transparent else self._settings.idlers
        for fd, idler in list(self._ready.items()):
            if len(self._ready) > wanted or not self._is_of_use(idler, now):
                self._drop(fd)
        missing = wanted - len(self._ready) - len(self._dialling)
        for _ in range(min(missing, self._settings.pending_max - len(self._dialling))):
            server = self._neediest(now)
            if server is None:
                break
            self._open(server)
        if self._settings.idlers:
            self._timer = self._loop.after(LOOK, self.tend)

    def take(self, connection: Connection) -> int:
        """A descriptor connected to the server of a client's connection, no longer ours, or -1."""
        if not self._ready or connection.down < 0:
            return -1
        for fd, idler in list(self._ready.items()):
            if idler.server is connection.server:
                if self._is_of_use(idler, clock.monotonic()) and self._lives(fd):
                    del self._ready[fd]
                    self._loop.want(fd, 0)
                    self._loop.later(self.tend)
                    return fd
                self._drop(fd)
        return -1

    def ready(self, connection: Connection) -> None:
        """One that was dialled has come through."""
        server, fd = connection.server, connection.up
        assert server
        self._dialling.remove(connection)
        server.connections -= 1  # it counts when a client has it
        self._ready[fd] = Idler(server, server.places[server.first_place], self._settings.source)
        self._loop.watch(fd, READ, self._stirs)

    def failed(self, connection: Connection) -> None:
        """One that was dialled has not."""
        self._dialling.remove(connection)

    def close(self) -> None:
        """Close all."""
        for fd in list(self._ready):
            self._drop(fd)

    def _open(self, server: Server) -> None:
        connection = Connection(-1, socket.AF_UNSPEC, Client(b""), b"", lambda connection: None)
        connection.route = Direct(server)
        self._dialling.append(connection)
        self._dial(connection)

    def _neediest(self, now: float) -> Server | None:
        """The server that should get the next one."""
        count = dict.fromkeys(self._selection.servers, 0)
        for server in [idler.server for idler in self._ready.values()]:
            count[server] += 1
        for connection in self._dialling:
            if connection.server:
                count[connection.server] += 1
        usable = [
            server
            for server, idlers in count.items()
            if server.is_available(now) and not (server.max and server.connections + idlers >= server.max)
        ]
        return min(usable, key=lambda server: count[server], default=None)

    def _is_of_use(self, idler: Idler, now: float) -> bool:
        return (
            idler.server.is_available(now)
            and idler.place in idler.server.places
            and idler.source == self._settings.source
            and not self._settings.transparent
        )

    def _lives(self, fd: int) -> bool:
        try:
            return bool(self._relay.sock(fd).recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _stirs(self, fd: int, mask: int) -> None:
        """The server says something, which waits for the client, or has closed."""
        if self._lives(fd):
            self._loop.want(fd, 0)
        else:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        del self._ready[fd]
        self._relay.close(fd)
