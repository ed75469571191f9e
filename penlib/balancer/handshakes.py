"""TLS handshakes: from an accepted client to one that can be dialled for.

A server hears of a client only when its handshake is done.  One that stalls or breaks costs its own
connection and nobody else's, and ends when the time of a connect is over.  Then, too, ends a client whose
handshake failed: it gets until then to read why, for a close with unread input would destroy the alert.

Not here: certificates (tls), what follows (tcp).
"""

import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

from penlib import clienthello, clock
from penlib.balancer.connection import Connection
from penlib.balancer.pairs import Channel
from penlib.balancer.relay import Relay
from penlib.balancer.settings import Settings
from penlib.loop import READ, Loop, Timer
from penlib.report import Reporter

HELLO_PAUSE = 0.005
"""Seconds until a hello that came in part is looked at again: it stays in the kernel, which goes on saying
that there is something to read.  A third of the time that it has taken already comes on top: the first looks
are soon, and many clients that say no more cost little."""


class Handshake(Channel, Protocol):
    """A channel that is being set up."""

    def handshake(self) -> int:
        """Go on; answers what it waits for, READ or WRITE, or 0 once done.  Raises OSError."""


class Identities(Protocol):
    """What pen can be towards clients."""

    @property
    def by_name(self) -> bool:
        """Whether that depends on the name that the client asks for."""

    def channel(self, fd: int, family: int, name: str) -> Handshake:
        """TLS over `fd` as the host called `name`.  Raises OSError."""


class Handshakes:
    """All handshakes of one pen.

    `done` is called, within the batch of events, with a connection whose handshake is; `failed` with one
    that is to be closed.
    """

    def __init__(
        self,
        loop: Loop,
        relay: Relay,
        settings: Settings,
        reporter: Reporter,
        identities: Identities,
        *,
        done: Callable[[Connection], None],
        failed: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._relay = relay
        self._settings = settings
        self._reporter = reporter
        self._identities = identities
        self._when_done = done
        self._when_failed = failed
        self._pending: dict[int, tuple[Connection, float]] = {}
        """Connections and their deadlines by descriptor, the earliest first."""
        self._channels: dict[int, Handshake] = {}
        self._timer: Timer | None = None

    def begin(self, connection: Connection) -> None:
        """Wait for the client to begin."""
        fd = connection.down
        self._pending[fd] = connection, clock.monotonic() + self._settings.timeout
        if not self._timer:
            self._timer = self._loop.after(self._settings.timeout, self._time_out)
        self._loop.watch(fd, READ, self._hello)

    def forget(self, connection: Connection) -> None:
        """The connection is about to be closed."""
        pending = self._pending.get(connection.down)
        if pending and pending[0] is connection:
            del self._pending[connection.down]
            self._channels.pop(connection.down, None)

    def _hello(self, fd: int, mask: int) -> None:
        """The client has begun."""
        name = ""
        if self._identities.by_name:
            asked = self._name(fd)
            if asked is None:
                self._look_again(fd)
                return
            name = asked
        connection, _ = self._pending[fd]
        try:
            channel = self._identities.channel(fd, connection.family, name)
        except OSError as exc:
            self._fail(fd, exc)
            return
        self._relay.secure(fd, channel)
        self._channels[fd] = channel
        self._loop.watch(fd, READ, self._shake)
        self._shake(fd, mask)

    def _name(self, fd: int) -> str | None:
        """The name in a hello that is left where it is; None if more must come."""
        try:
            data = self._relay.sock(fd).recv(clienthello.LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return ""  # the handshake will find out
        return clienthello.server_name(data) if data else ""

    def _look_again(self, fd: int) -> None:
        self._loop.want(fd, 0)
        connection, deadline = self._pending[fd]
        taken = self._settings.timeout - (deadline - clock.monotonic())

        def look() -> None:
            pending = self._pending.get(fd)
            if pending and pending[0] is connection:
                self._loop.watch(fd, READ, self._hello)

        self._loop.after(HELLO_PAUSE + max(0.0, taken) / 3, look)

    def _shake(self, fd: int, mask: int) -> None:
        try:
            waits_for = self._channels[fd].handshake()
        except OSError as exc:
            self._fail(fd, exc)
            return
        self._loop.want(fd, waits_for)
        if not waits_for:
            del self._channels[fd]
            connection, _ = self._pending.pop(fd)
            self._when_done(connection)

    def _fail(self, fd: int, exc: OSError) -> None:
        connection, _ = self._pending[fd]
        self._channels.pop(fd, None)
        self._reporter.debug(1, f"connection {connection.number}: TLS: {exc}")
        self._relay.dismiss(fd, partial(self._when_failed, connection))

    def _time_out(self) -> None:
        """Give up those whose time is over."""
        self._timer = None
        now = clock.monotonic()
        for connection, deadline in list(self._pending.values()):
            if deadline > now:
                self._timer = self._loop.after(deadline - now, self._time_out)
                break
            self._reporter.debug(1, f"connection {connection.number}: TLS: no handshake in time")
            self._when_failed(connection)
