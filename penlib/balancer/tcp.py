"""TCP (and Unix stream) connections from accept to close: admitting, joining, counting, ending.

One connection's life: accepted -> its route names a server -> a connect is pending -> joined to the server
by the relay -> ended.  While a connect is pending nothing is read from the client; what it sends waits in
the kernel.  No more than `pending_max` connects are pending and no more than `conn_max` connections exist:
past that nobody is accepted (acceptor).

Accepting and dialling happen after a batch of events, never within (see loop).

Not here: accepting (acceptor), which server (selection), reaching it (dial), the bytes (relay).
"""

import socket
from collections import deque
from typing import Any

from penlib import address, clock, records
from penlib.balancer.acceptor import Acceptor
from penlib.balancer.connection import JOINED, Connection, Table
from penlib.balancer.dial import Dialler
from penlib.balancer.dump import DUMP_LEVEL, DumpTap, Taps
from penlib.balancer.handshakes import Handshakes, Identities
from penlib.balancer.idlers import Idlers
from penlib.balancer.journal import Journal, RequestTap
from penlib.balancer.pairs import Tap
from penlib.balancer.relay import Relay
from penlib.balancer.rewrite import Doubtful, Requests, Rewriter
from penlib.balancer.settings import Settings
from penlib.balancer.solo import Solo, WebServer
from penlib.clients import Clients
from penlib.forwarded import Forwarded
from penlib.loop import READ, Loop, Timer
from penlib.report import Reporter
from penlib.selection import Route, Selection
from penlib.servers import Server

Looking = tuple[Tap | None, Tap | None]
"""The taps of a client and of its server."""


class Tcp:
    """All connections of one pen."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        selection: Selection,
        clients: Clients,
        journal: Journal,
        reporter: Reporter,
    ) -> None:
        self.loop = loop
        self.relay = Relay(loop, self._fastclose)
        self._dialler = Dialler(
            loop,
            self.relay,
            settings,
            reporter,
            connected=self._connected,
            failed=self._failed,
            freed=self._freed,
        )
        self.connections = Table(clients, reporter)
        self._handshakes: Handshakes | None = None
        """None without TLS."""
        self.idlers = Idlers(loop, self.relay, settings, selection, self._dialler.dial)
        self._dialler.spare = self.idlers.take
        self._settings = settings
        self._selection = selection
        self._clients = clients
        self._journal = journal
        self._reporter = reporter
        self._acceptor = Acceptor(
            loop, settings, reporter, room=self._room, admit=self._admit, short=self.relay.pipes.shrink
        )
        self._idle_timer: Timer | None = None
        self._then = self.forget
        """One for all: a method looked up anew is an object, and each connection would keep its own."""
        self._due: deque[Connection] = deque()
        """Connections whose client has spoken, or has done its handshake, and that wait to be dialled."""

    def secure(self, identities: Identities) -> None:
        """Speak TLS with all clients."""
        self._handshakes = Handshakes(
            self.loop,
            self.relay,
            self._settings,
            self._reporter,
            identities,
            done=self._begin,
            failed=self.end,
        )

    # Admitting

    def listen(self, sockets: list[socket.socket]) -> None:
        """Accept from these listening sockets instead of those before, which are closed."""
        self._acceptor.listen(sockets)

    def close(self) -> None:
        """Close the listeners and every connection."""
        self.listen([])
        for connection in self.connections:
            self.end(connection)

    def _room(self) -> int:
        """How many more clients may come now."""
        if self._dialler.starved:
            return 0
        settings = self._settings
        return min(settings.conn_max - len(self.connections), settings.pending_max - self._dialler.pending)

    def _freed(self) -> None:
        """There may be room now."""
        if self._acceptor.paused or self._due:
            self.loop.later(self.resume)

    def resume(self) -> None:
        """Accept, and dial for those who have spoken, again if there is room."""
        self._acceptor.resume()
        if self._due:
            self.loop.later(self._dial_due)

    def _admit(self, fd: int, family: int, sockaddr: Any) -> bool:
        """Make a connection of an accepted descriptor and dial.  Answers whether there are descriptors for
        another one."""
        if family == socket.AF_INET:
            text, port = sockaddr
            packed = socket.inet_aton(text)
        elif family == socket.AF_UNIX:
            packed, port, text = b"", 0, address.UNIX_CLIENT
        else:
            text, port = address.unmap(sockaddr[0]), sockaddr[1]
            packed = address.pack(text)
        now = clock.monotonic()
        client = self._clients.arrive(packed, now)
        connection = Connection(fd, family, client, text.encode(), self._then)
        connection.client_port = port
        self.connections.add(connection)
        self.relay.add(fd, family)
        connection.active = now
        if self._handshakes:
            self._handshakes.begin(connection)
        else:
            self._begin(connection)
        return not self._dialler.starved

    def _begin(self, connection: Connection) -> None:
        """What comes after the accept, and the handshake of TLS: usually to dial."""
        if self._settings.dummy:
            if self._selection.admits(connection.client):
                WebServer(self.loop, self.relay, connection, self.end).listen()
            else:
                self.end(connection)
        elif self._settings.peek:
            self.loop.watch(connection.down, READ, lambda fd, mask: self._peek(connection))
        elif self._handshakes:
            self._dial_soon(connection)
        else:
            self._dial(connection)

    def _dial(self, connection: Connection) -> None:
        connection.route = Route(
            self._selection, connection.client, connection.client_port, clock.monotonic()
        )
        self._dialler.dial(connection)

    def _dial_soon(self, connection: Connection) -> None:
        self._due.append(connection)
        self.loop.later(self._dial_due)

    # Clients that must speak first (`peek`)

    def _peek(self, connection: Connection) -> None:
        """The client has sent its first bytes, which stay where they are, or has ended."""
        self.loop.want(connection.down, 0)
        try:
            spoke = bool(self.relay.sock(connection.down).recv(1, socket.MSG_PEEK))
        except OSError:
            spoke = False
        if spoke:
            self._dial_soon(connection)
        else:
            self.end(connection)

    def _dial_due(self) -> None:
        """Dial for those that wait for it, as far as connects may be pending."""
        while self._due and self._dialler.pending < self._settings.pending_max:
            connection = self._due.popleft()
            if self._is_live(connection):
                self._dial(connection)

    def _failed(self, connection: Connection) -> None:
        """No server is left."""
        if connection.down < 0:
            self.idlers.failed(connection)
        else:
            self.end(connection)

    def _connected(self, connection: Connection) -> None:
        """The server has answered: relay."""
        if connection.down < 0:
            self.idlers.ready(connection)
            return
        server = connection.server
        assert server
        connection.active = clock.monotonic()
        if self._settings.tcp_nodelay or self._settings.keepalive:
            self._set_client_options(connection)
        if self._reporter.level:
            self._reporter.debug(1, f"connection {connection.number}: server {server.title}")
        taps = self._taps(connection, server)
        if self._settings.http:
            taps = self._rewriting(connection, taps)
        self.relay.join(connection.down, connection.up, connection, taps)

    def _set_client_options(self, connection: Connection) -> None:
        settings = self._settings
        if connection.family != socket.AF_UNIX:
            sock = self.relay.sock(connection.down)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, settings.tcp_nodelay)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, settings.keepalive)

    def _taps(self, connection: Connection, server: Server) -> Looking:
        """Who looks at what passes: the log at what the client sends, a debug dump at everything."""
        journal: Tap | None = None
        if self._journal.on:
            journal = self._logging(connection, server)
        if not self._reporter.wants(DUMP_LEVEL):
            return journal, None
        dumps = [
            DumpTap(self._reporter, self._settings, f"connection {connection.number} {way}")
            for way in ("up", "down")
        ]
        return (Taps(journal, dumps[0]) if journal else dumps[0]), dumps[1]

    def _logging(self, connection: Connection, server: Server) -> RequestTap:
        connection.logged = True
        return RequestTap(self._journal, connection.address, records.field(server.name))

    def log_all(self) -> None:
        """There is a log now: connections that have a server get into it with what their clients say next."""
        for connection in self.connections:
            if connection.server and connection.state == JOINED and not connection.logged:
                self._log_late(connection, connection.server)

    def _log_late(self, connection: Connection, server: Server) -> None:
        present = self.relay.tap_of(connection.down)
        if isinstance(present, Requests | Doubtful):
            present.look(self._logging_late(connection, server))
        elif not self.relay.is_bulk(connection.down):  # else nobody knows where that ends
            log = self._logging_late(connection, server)
            self.relay.tap(connection.down, Taps(log, present) if present else log)

    def _logging_late(self, connection: Connection, server: Server) -> RequestTap:
        log = self._logging(connection, server)
        log.answered()  # it may have been
        return log

    def _rewriting(self, connection: Connection, lookers: Looking) -> Looking:
        """The taps of -H."""
        client = b"" if connection.family == socket.AF_UNIX else connection.address
        forwarded = Forwarded(client, b"https" if self._handshakes else b"http")
        rewriter = Rewriter(self.relay, connection, forwarded, lookers, self._refuse, self.loop.later)
        return rewriter.requests, rewriter.replies

    # Ending

    def _refuse(self, connection: Connection, why: str, last: bytes) -> None:
        """Close the server's side; the client gets what it has still to get, then `last`, and is left."""
        self._reporter.debug(1, f"connection {connection.number}: refused: {why}")
        self.count(connection)
        waiting = self.relay.part(connection.up)
        connection.up = -1
        self._leave_server(connection)
        Solo(self.loop, self.relay, connection, self.end).say(waiting + last, last=True)

    def end(self, connection: Connection) -> None:
        """Close a connection in whatever state it is, if it is still there."""
        if not self._is_live(connection):
            return
        if connection.route or connection.up < 0:
            if self._handshakes:
                self._handshakes.forget(connection)
            self._dialler.cancel(connection)
            self.relay.close(connection.down)
            self.forget(connection)
        else:
            self.relay.close(connection.down)

    def _is_live(self, connection: Connection) -> bool:
        return self.connections.find(connection.number) is connection

    @staticmethod
    def _leave_server(connection: Connection) -> None:
        if connection.server:
            connection.server.connections -= 1
            connection.server = None

    def forget(self, connection: Connection) -> None:
        """Both sides are closed: count what passed and free the number."""
        self.count(connection)
        self._leave_server(connection)
        self.connections.remove(connection)
        self._dialler.nudge()
        self._freed()

    def count(self, connection: Connection) -> None:
        """Add what passed since the last time to the counters of the client and the server."""
        if connection.up < 0 or connection.server is None:
            return
        down = self.relay.moved[connection.down] - connection.counted_down
        up = self.relay.moved[connection.up] - connection.counted_up
        connection.counted_down += down
        connection.counted_up += up
        connection.client.received += down
        connection.client.sent += up
        connection.server.sent += down
        connection.server.received += up

    def count_all(self) -> None:
        """Bring all counters up to date."""
        for connection in self.connections:
            self.count(connection)

    def waiting(self, connection: Connection) -> tuple[int, int]:
        """Bytes that wait to be written to the client and to the server."""
        return self.relay.waiting(connection.down), self.relay.waiting(connection.up)

    def _fastclose(self, fd: int) -> bool:
        """Whether the end of one side ends the pair (`tcp_fastclose`)."""
        which = self._settings.fastclose
        if which in ("off", "both"):
            return which == "both"
        owner = self.relay.owner(fd)
        return isinstance(owner, Connection) and fd == (owner.up if which == "up" else owner.down)

    # Idle connections

    def watch_idle(self) -> None:
        """Begin to look for idle connections, if there is an idle timeout."""
        if self._settings.idle_timeout and not self._idle_timer:
            self._idle_timer = self.loop.after(1, self._sweep)

    def _sweep(self) -> None:
        """Once a second: nothing on the data path keeps time, so activity is a counter that has changed."""
        self._idle_timer = None
        now = clock.monotonic()
        for connection in self.connections:
            if connection.route:
                continue
            before = connection.counted_down + connection.counted_up
            self.count(connection)
            if connection.counted_down + connection.counted_up != before:
                connection.active = now
            elif 0 < self._settings.idle_timeout <= now - connection.active:
                self._reporter.debug(1, f"connection {connection.number}: idle")
                self.end(connection)
        self.watch_idle()
