"""UDP sessions: all that one client address and port sends to one of our addresses goes to one server.

A session has a connected socket towards its server; so the kernel sorts the answers, and a refusal (ICMP
port unreachable) arrives as an error of that socket.  Its life: a datagram from nobody known -> a route names
a server -> what was sent is held until the server answers -> joined: datagrams pass both ways -> it ends when
nothing has passed for a while, or when room is needed.

Nothing waits: what a socket does not take now is dropped, as networks do, and counted.

As in TCP, sockets are made only after a batch of events (see loop).  The hot path is `_make_reader` up and
`_pass_answer` down; what comes up for a session that is looked at (log, dump) or not yet joined, which is not
`plain` then, takes the slow one.

Not here: which server (selection), reaching it (reach), where answers leave from (datagrams).
"""

import errno
import os
import socket
from collections import OrderedDict
from functools import partial

from penlib import address, clock
from penlib.balancer.connection import Connection, Table
from penlib.balancer.datagrams import Key, Port
from penlib.balancer.journal import Journal
from penlib.balancer.reach import NO_REPLY, Reach
from penlib.balancer.session import Looks, Session
from penlib.balancer.settings import Settings
from penlib.clients import Clients
from penlib.errors import reason
from penlib.loop import READ, Handler, Loop, Timer
from penlib.report import Reporter
from penlib.selection import Route, Selection

IDLE = 60
"""Seconds that a session may be idle if `idle_timeout` does not say."""

SWEEP = 1.0
"""Seconds between looks at who is idle or unheard."""

HELD_DATAGRAMS, HELD_BYTES = 16, 65_536
"""What is held for a server that may have to be replaced: until one of these is reached."""


class Udp:
    """All sessions of one pen."""

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
        self.connections = Table(clients, reporter)
        self._settings = settings
        self._selection = selection
        self._clients = clients
        self._looks = Looks(settings, journal, reporter)
        self._reporter = reporter
        self._ports: dict[Port, dict[Key, Session]] = {}
        """The sockets that clients send to, and the sessions of those who did."""
        self._arrivals: list[tuple[Port, Key, bytes]] = []
        """Datagrams of nobody known, until the batch of events is over."""
        self._order: OrderedDict[Session, None] = OrderedDict()
        """All sessions, the oldest first, or those that were spared longest ago."""
        self._reach = Reach(
            loop,
            settings,
            selection,
            reporter,
            joined=self._join,
            failed=self.end,
            make_room=self._make_room,
            dropped=self._drop,
        )
        self._sweep_timer: Timer | None = None
        self._dropped = 0
        self._why_dropped = ""
        self._said_dropped = False

    # Clients' datagrams

    def listen(self, sockets: list[socket.socket]) -> None:
        """Serve these bound sockets instead of those before; their sessions end, for nothing else can send
        from where their clients expect the answers."""
        for port, sessions in self._ports.items():
            for session in list(sessions.values()):
                self.end(session)
            self.loop.forget(port.sock.fileno())
            port.sock.close()
        self._arrivals.clear()
        self._ports = {Port(sock): {} for sock in sockets}
        for port in self._ports:
            self.loop.watch(port.sock.fileno(), READ, self._make_reader(port))

    def close(self) -> None:
        """Close everything."""
        self.listen([])

    def _make_reader(self, port: Port) -> Handler:
        """The hot function of clients' datagrams, as a closure: its names are found without looking into any
        object.  It reads until nothing is left: one datagram a turn of the loop costs twice the CPU time."""
        receive, sessions, settings = port.receive, self._ports[port], self._settings

        def read(fd: int, mask: int) -> None:
            for _ in range(settings.multi_accept):
                try:
                    data, key = receive()
                except OSError:  # nothing left, or an error that cost one datagram
                    return
                session = sessions.get(key)
                if session is None or not session.plain:
                    self._take_unusual(port, key, session, data)
                    continue
                session.asked += 1
                session.sent += len(data)
                session.last = data
                try:
                    session.send(data)
                except OSError as exc:
                    self._reach.not_sent(session, exc)

        return read

    def _take_unusual(self, port: Port, key: Key, session: Session | None, data: bytes) -> None:
        if session:
            self._take(session, data)
            return
        if not self._arrivals:
            self.loop.later(self._admit_all)
        self._arrivals.append((port, key, data))

    def _take(self, session: Session, data: bytes) -> None:
        """A datagram of a session that is not plain."""
        session.asked += 1
        session.sent += len(data)
        session.last = data
        held = session.held
        if session.route and len(held) < HELD_DATAGRAMS and sum(map(len, held)) < HELD_BYTES:
            held.append(data)
        else:
            if session.route and session.server:  # too many are held already
                session.looks_up, _ = self._looks.at(session, session.server)
            for look in session.looks_up:
                look(data)
        if session.up >= 0:
            self._reach.send(session, data)

    def _drop(self, error: int) -> None:
        self._dropped += 1
        self._why_dropped = os.strerror(error)

    # Sessions

    def _admit_all(self) -> None:
        arrivals, self._arrivals = self._arrivals, []
        for port, key, data in arrivals:
            session = self._ports[port].get(key) or self._admit(port, key)
            self._take(session, data)
            if session.up < 0:
                self._reach.dial(session)

    def _admit(self, port: Port, key: Key) -> Session:
        """A new session, for which a server is still to be found."""
        while len(self._order) >= self._settings.conn_max and self._make_room():
            pass
        now = clock.monotonic()
        text, number = port.client(key)
        client = self._clients.arrive(address.pack(text), now)
        expects = self._settings.udp_replies
        session = Session(port, key, client, text.encode(), expects, self.end)
        session.client_port = number
        self.connections.add(session)
        self._ports[port][key] = session
        self._order[session] = None
        session.active = now
        session.route = Route(self._selection, client, number, now)
        if not self._sweep_timer:
            self._sweep_timer = self.loop.after(SWEEP, self._sweep)
        return session

    def _make_room(self, wanted_by: Session | None = None) -> bool:
        """End the oldest session, but spare those through which more than one question and its answer passed,
        or anything since they were last spared.  Answers whether there was another one than `wanted_by`."""
        if len(self._order) < (2 if wanted_by else 1):
            return False
        session = next(iter(self._order))
        while session is wanted_by or session.asked + session.answered > session.mark:
            session.mark = session.asked + session.answered
            self._order.move_to_end(session)
            session = next(iter(self._order))
        self.end(session)
        return True

    def end(self, connection: Connection) -> None:
        """Forget a session in whatever state it is."""
        session = connection
        assert isinstance(session, Session)
        if session.over:
            return
        session.over = True
        if session.up >= 0:
            self._reach.hang_up(session)
        if session.route and session.route.tried:
            session.looks_up, _ = self._looks.at(session, session.route.tried[-1])
            self._show_held(session)
        self._reach.leave(session)
        del self._ports[session.port][session.key]
        del self._order[session]
        self.connections.remove(session)

    # Servers' datagrams

    def _join(self, session: Session, data: bytes | None) -> None:
        """The session has a server, and perhaps its first reply: datagrams pass both ways."""
        assert session.server
        session.route = None
        session.silent_since = 0.0
        session.looks_up, session.looks_down = self._looks.at(session, session.server)
        self._show_held(session)
        session.plain = not session.looks_up
        self.loop.handlers[session.up] = partial(self._pass_answer, session)
        if data is not None:
            self.loop.later(partial(self._deliver, session, data))  # once the log has its line

    def _pass_answer(self, session: Session, fd: int, mask: int) -> None:
        """The hot function of servers' datagrams."""
        try:
            data = session.receive()
        except BlockingIOError:
            return
        except OSError as exc:
            self._reach.lost(session, reason(exc))
            return
        self._deliver(session, data)

    def _deliver(self, session: Session, data: bytes) -> None:
        session.answered += 1
        session.received += len(data)
        session.last = None
        for look in session.looks_down:
            look(data)
        try:
            session.answer(data)
        except OSError as exc:
            self._drop(exc.errno or errno.EINVAL)

    # Looking

    def log_all(self) -> None:
        """There is a log now: sessions that have a server get into it with their next datagram."""
        for session in self._order:
            if session.server and not session.route:
                session.looks_up, session.looks_down = self._looks.at(session, session.server)
                session.plain = not session.looks_up

    @staticmethod
    def _show_held(session: Session) -> None:
        """It is now known which server answered what was held, or that none did and which was the last."""
        for look in session.looks_up:
            for data in session.held:
                look(data)
        session.held = []

    # Counting

    def count_all(self) -> None:
        """Bring all counters up to date."""
        for session in self._order:
            session.count()

    def waiting(self, connection: Connection) -> tuple[int, int]:
        """Nothing ever waits to be written."""
        return 0, 0

    # Once a second

    def watch_idle(self) -> None:
        """Nothing to do: `_sweep` always looks."""

    def resume(self) -> None:
        """Nothing to do: nothing ever waits."""

    def _sweep(self) -> None:
        """End who was idle; find who is not heard.  Nothing on the hot path keeps time, so activity is a
        counter that has changed."""
        self._sweep_timer = None
        now = clock.monotonic()
        patience = self._settings.idle_timeout or IDLE
        for session in list(self._order):
            asked, answered = session.seen
            session.seen = session.asked, session.answered
            if session.answered != answered:
                session.active = now
                session.silent_since = 0.0
                if session.server:
                    session.server.answered_at = max(session.server.answered_at, now - SWEEP)
            elif session.asked != asked:
                session.active = now
                self._unanswered(session, now)
            elif now - session.active >= patience:
                self._reporter.debug(1, f"connection {session.number}: idle")
                self.end(session)
        self._say_dropped()
        if self._order:
            self._sweep_timer = self.loop.after(SWEEP, self._sweep)

    def _unanswered(self, session: Session, now: float) -> None:
        """A joined session's client has sent, and its server not answered."""
        if session.route or not session.expects or not session.server:
            return
        if not session.silent_since or session.server.answered_at > session.silent_since:
            session.silent_since = now
        elif now - session.silent_since >= self._settings.timeout:
            self._reach.lost(session, NO_REPLY)

    def _say_dropped(self) -> None:
        """Once when datagrams begin to be dropped, again only after a second without."""
        if self._dropped and not self._said_dropped:
            self._reporter.warn(f"{self._dropped} datagrams dropped: {self._why_dropped}")
        self._said_dropped = self._dropped > 0
        self._dropped = 0
