"""From a route to a connected server: one connect after another, until one comes through or none is left.

Connects are non-blocking and have a timeout.  A server with several addresses has failed when all of them
have.  An error of our own side says nothing about a server: that connect is put aside and tried again soon.

Everything here happens after a batch of events, never within (see loop).

Not here: which server comes next (selection), what happens once connected (tcp).
"""

import errno
import os
import socket
from _socket import socket as RawSocket
from collections.abc import Callable

from penlib import clock
from penlib.address import Place
from penlib.balancer.connection import Connection
from penlib.balancer.relay import Relay
from penlib.balancer.settings import Settings
from penlib.capabilities import make_transparent
from penlib.loop import ERROR, WRITE, Loop, Timer
from penlib.report import Reporter
from penlib.servers import Server

OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
OUR_FAULTS = OUT_OF_DESCRIPTORS | {
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EADDRNOTAVAIL,
    errno.EAGAIN,
    errno.EPERM,
    errno.EADDRINUSE,
}
"""Errors of a connect that say nothing about the server: it is tried again until the connect timeout.
(EAGAIN is a Unix socket's full backlog, EPERM a packet filter's refusal.)"""

STALL = 0.1
"""Seconds until a connect that failed through our own fault is tried again, if nothing ends before."""

STREAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

IP_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)
"""ip(7): bind to an address now and let connect choose the port, so that ports are not used up."""


class Dialler:
    """All connects of one pen.

    `connected` is called with a connection whose server has answered (`up` is its descriptor), `failed` with
    one for which no server is left, `freed` whenever fewer connects are pending than before.
    """

    def __init__(
        self,
        loop: Loop,
        relay: Relay,
        settings: Settings,
        reporter: Reporter,
        *,
        connected: Callable[[Connection], None],
        failed: Callable[[Connection], None],
        freed: Callable[[], None],
    ) -> None:
        self.spare: Callable[[Connection], int] = lambda connection: -1
        """Gives a descriptor that is connected to the connection's server already, or -1."""
        self.starved = False
        """A connect waits for a descriptor: there is no point in accepting."""
        self._loop = loop
        self._relay = relay
        self._settings = settings
        self._reporter = reporter
        self._when_connected = connected
        self._when_failed = failed
        self._when_freed = freed
        self._pending: dict[int, Connection] = {}
        """Connects under way by descriptor, the earliest deadline first."""
        self._stalled: dict[Connection, int] = {}
        """Connects put aside, and the errno why."""
        self._timer: Timer | None = None
        self._stall_timer: Timer | None = None
        self._ask_always = loop.mechanism == "select"  # which does not show errors

    @property
    def pending(self) -> int:
        """Connects under way or put aside."""
        return len(self._pending) + len(self._stalled)

    def dial(self, connection: Connection) -> None:
        """Try the servers of its route until a connect is under way; with none left it has `failed`."""
        route = connection.route
        assert route
        while (server := route.next(clock.monotonic())) is not None:
            connection.server = server
            connection.place = 0
            connection.deadline = 0.0
            server.connections += 1
            if self._try_places(connection):
                return
        self._reporter.debug(1, f"connection {connection.number}: no server left")
        self._when_failed(connection)

    def cancel(self, connection: Connection) -> None:
        """The connection ends before it is connected."""
        self._pending.pop(connection.up, None)
        self._stalled.pop(connection, None)
        if connection.up >= 0:
            self._hang_up(connection)

    def nudge(self) -> None:
        """Something has ended: what was put aside may work now."""
        if self._stalled:
            if self._stall_timer:
                self._stall_timer.cancel()
            self._stall_timer = self._loop.after(0, self._unstall)

    def _try_places(self, connection: Connection, error: int = errno.EHOSTUNREACH) -> bool:
        """Try the places of the server that were not tried yet.  Answers whether one may yet answer; else
        the server has failed, with the last `error`."""
        server = connection.server
        assert server
        if self._settings.idlers and connection.place == 0 and (fd := self.spare(connection)) >= 0:
            connection.up, connection.place = fd, 1
            self._connected(connection, server)
            return True
        while connection.place < len(server.places):
            place = server.places[(server.first_place + connection.place) % len(server.places)]
            error = self._connect(connection, place)
            if error in OUR_FAULTS:
                self._stall(connection, error)
                return True
            connection.place += 1
            if error == errno.EINPROGRESS:
                self._await(connection)
                return True
            if error == 0:
                self._connected(connection, server)
                return True
        self._server_failed(connection, error)
        return False

    def _connect(self, connection: Connection, place: Place) -> int:
        """Begin to connect.  Answers an errno: 0 when connected, EINPROGRESS when under way."""
        try:
            sock = RawSocket(place.family, STREAM, 0)
        except OSError as exc:
            return exc.errno or errno.EINVAL
        try:
            if place.family != socket.AF_UNIX:
                self._set_options(sock, place, connection)
            error = sock.connect_ex(place.sockaddr)
        except OSError as exc:
            error = exc.errno or errno.EINVAL
        if error and error != errno.EINPROGRESS:
            sock.close()
            return error
        connection.up = sock.detach()
        self._relay.add(connection.up, place.family)
        return error

    def _set_options(self, sock: RawSocket, place: Place, connection: Connection) -> None:
        settings = self._settings
        if settings.tcp_nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings.keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if settings.source or settings.transparent:
            bind_source(sock, place, connection, settings)

    # Pending connects

    def _await(self, connection: Connection) -> None:
        connection.deadline = clock.monotonic() + self._settings.timeout
        self._pending[connection.up] = connection
        if not self._timer:
            self._timer = self._loop.after(self._settings.timeout, self._time_out)
        self._loop.watch(connection.up, WRITE, self._ready)

    def _ready(self, fd: int, mask: int) -> None:
        """A pending connect has come through or failed."""
        connection = self._pending.pop(fd)
        error = 0
        if mask & ERROR or self._ask_always:
            error = self._relay.sock(fd).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._go_on_later(connection, error)
        else:
            assert connection.server
            self._connected(connection, connection.server)
        self._when_freed()

    def _time_out(self) -> None:
        """Give up the connects whose time is over."""
        self._timer = None
        now = clock.monotonic()
        for fd, connection in list(self._pending.items()):
            if connection.deadline > now:
                self._timer = self._loop.after(connection.deadline - now, self._time_out)
                break
            del self._pending[fd]
            self._go_on_later(connection, errno.ETIMEDOUT)
        self._when_freed()

    def _go_on_later(self, connection: Connection, error: int) -> None:
        self._hang_up(connection)
        self._loop.later(lambda: self._go_on(connection, error))

    def _go_on(self, connection: Connection, error: int) -> None:
        """A connect failed: the server's other places, then other servers."""
        if connection.server and not self._try_places(connection, error):
            self.dial(connection)

    def _hang_up(self, connection: Connection) -> None:
        self._relay.close(connection.up)
        connection.up = -1

    # How it ends

    def _connected(self, connection: Connection, server: Server) -> None:
        server_answered(connection, server, self._reporter)
        connection.route = None
        self._when_connected(connection)

    def _server_failed(self, connection: Connection, error: int) -> None:
        server = connection.server
        assert server
        server.connections -= 1
        connection.server = None
        why = os.strerror(error)
        server_failed(server, why, self._settings.blacklist, self._reporter)
        self._reporter.debug(1, f"connection {connection.number}: server {server.title}: {why}")

    # Our own faults

    def _stall(self, connection: Connection, error: int) -> None:
        """A connect failed through no fault of the server: put it aside."""
        if error in OUT_OF_DESCRIPTORS:
            self._relay.pipes.shrink()
            self.starved = True
            connection.deadline = float("inf")
        elif not connection.deadline:
            connection.deadline = clock.monotonic() + self._settings.timeout
        self._reporter.debug(1, f"connection {connection.number}: {os.strerror(error)}, tried again soon")
        self._stalled[connection] = error
        if not self._stall_timer:
            self._stall_timer = self._loop.after(STALL, self._unstall)

    def _unstall(self) -> None:
        self._stall_timer = None
        self.starved = False
        stalled, self._stalled = self._stalled, {}
        now = clock.monotonic()
        for connection, error in stalled.items():
            if connection.deadline > now:
                self._go_on(connection, errno.EHOSTUNREACH)
            elif error == errno.EAGAIN:  # a backlog that stays full is a server that does not answer
                self._server_failed(connection, errno.ETIMEDOUT)
                self.dial(connection)
            else:
                self._when_failed(connection)
        self._when_freed()


def bind_source(sock: RawSocket, place: Place, connection: Connection, settings: Settings) -> None:
    """Let the server see the address that `transparent` or `source` say, if there is one of its family."""
    source = settings.source
    if settings.transparent and (own := _own_place(connection)) and own.family == place.family:
        make_transparent(sock, own.family)
        source = own
    if source and source.family == place.family:
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind(source.sockaddr)


def _own_place(connection: Connection) -> Place | None:
    """The client's address, if it is one that a server could answer to."""
    if connection.family == socket.AF_UNIX:
        return None
    host = connection.address.decode()
    if ":" not in host:
        return Place(socket.AF_INET, (host, 0))
    return None if "%" in host or host.startswith("fe80:") else Place(socket.AF_INET6, (host, 0, 0, 0))


def server_answered(connection: Connection, server: Server, reporter: Reporter) -> None:
    """The place that was tried last has answered: what pen held against the server is forgotten, the client
    belongs to it."""
    server.first_place = (server.first_place + connection.place - 1) % len(server.places)
    if server.index >= 0:
        server.succeed()
        connection.client.server = server.index
    if server.is_down:
        server.is_down = False
        reporter.warn(f"server {server.title}: answers again")


def server_failed(server: Server, why: str, seconds: float, reporter: Reporter) -> None:
    """None of its places answers: the server is out for `seconds`, which is said when it begins."""
    if server.index >= 0:
        server.fail(clock.monotonic(), seconds)
    if not server.is_down:
        server.is_down = True
        reporter.warn(f"server {server.title}: {why}")
