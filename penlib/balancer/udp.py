"""UDP sessions: all that one client address and port sends to one of our addresses goes to one server.

A session has a connected socket towards its server; so the kernel sorts the answers, and a refusal (ICMP
port unreachable) arrives as an error of that socket.  Its life: a datagram from nobody known -> a route names
a server -> what was sent is held until the server answers -> joined: datagrams pass both ways -> it ends when
nothing has passed for a while, or when room is needed.

What there is instead of a connect that succeeds or fails:
  - A session that expects replies counts as connected with the first one.  None within the connect timeout,
    or a refusal: the server has failed, and what got no answer is sent to the next one.
  - A server that answers others meanwhile is not to blame for what it does not answer: one client's garbage
    must not put servers out of service.
  - A joined session whose server refuses, or whose client goes on sending into silence for the connect
    timeout, is treated likewise; only its last datagram is still there to be sent again.

Nothing waits: what a socket does not take now is dropped, as networks do, and counted.

As in TCP, sockets are made only after a batch of events (see loop).  The hot path is `_make_reader` and
`_pass_answer`; a session that is looked at (log, dump) or not yet joined is not `plain` and takes the slow
one.

Not here: which server (selection), where answers leave from (datagrams).
"""

import errno
import os
import socket
from _socket import socket as RawSocket
from collections import OrderedDict
from functools import partial

from penlib import address, clock
from penlib.address import Place
from penlib.balancer.connection import Connection, Table
from penlib.balancer.datagrams import LARGEST, Key, Port
from penlib.balancer.dial import OUR_FAULTS, OUT_OF_DESCRIPTORS, server_answered, server_failed
from penlib.balancer.journal import Journal
from penlib.balancer.session import Looks, Session
from penlib.balancer.settings import Settings
from penlib.clients import Clients
from penlib.errors import reason
from penlib.loop import READ, Handler, Loop, Timer
from penlib.report import Reporter
from penlib.selection import Route, Selection
from penlib.servers import Server

IDLE = 60
"""Seconds that a session may be idle if `idle_timeout` does not say."""

SWEEP = 1.0
"""Seconds between looks at who is idle or unheard."""

HELD_DATAGRAMS, HELD_BYTES = 16, 65_536
"""What is held for a server that may have to be replaced: until one of these is reached."""

DROPPED = OUR_FAULTS | {errno.EMSGSIZE, errno.EINVAL}
"""Errors of a send that cost the datagram and say nothing about the server.  (EMSGSIZE: IPv6 carries up to
65,527 bytes, IPv4 20 fewer.)"""

NO_PLACE = "no address"
NO_REPLY = "no reply"
"""What is said of a server that has failed, where the system has no words for it."""


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
        self.connections = Table()
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
        self._unheard: dict[Session, None] = {}
        """Sessions that wait for a first reply, the earliest deadline first."""
        self._unheard_timer: Timer | None = None
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
        object.  It reads as many as there were the last times, for a read that finds nothing costs as much as
        two that do, and a look at the loop for each datagram more."""
        receive, sessions, settings = port.receive, self._ports[port], self._settings
        batch = 1

        def read(fd: int, mask: int) -> None:
            nonlocal batch
            for count in range(batch):
                try:
                    data, key = receive()
                except OSError:  # nothing left, or an error that cost one datagram
                    batch = count or 1
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
                    self._not_sent(session, exc)
            batch = min(2 * batch, settings.multi_accept)

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
            for look in session.looks_up:
                look(data)
        if session.up >= 0:
            self._send(session, data)

    def _send(self, session: Session, data: bytes) -> None:
        try:
            session.send(data)
        except OSError as exc:
            self._not_sent(session, exc)

    def _not_sent(self, session: Session, exc: OSError) -> None:
        if exc.errno in DROPPED:
            self._drop(exc.errno or errno.EINVAL)
        else:
            self._broken(session, reason(exc))

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
                self._dial(session)

    def _admit(self, port: Port, key: Key) -> Session:
        """A new session, for which a server is still to be found."""
        while self._order and len(self._order) >= self._settings.conn_max:
            self._evict()
        now = clock.monotonic()
        text, number = port.client(key)
        client = self._clients.arrive(address.pack(text), now)
        expects = self._settings.udp_replies
        session = Session(port, key, client, text.encode(), expects, self.end)
        self.connections.add(session)
        self._ports[port][key] = session
        self._order[session] = None
        session.active = now
        session.route = Route(self._selection, client, number, now)
        if self._reporter.level:
            self._reporter.debug(1, f"connection {session.number}: client {text} port {number}")
        if not self._sweep_timer:
            self._sweep_timer = self.loop.after(SWEEP, self._sweep)
        return session

    def _evict(self) -> None:
        """Make room: end the oldest session, but spare those through which more than one question and its
        answer passed, or anything since they were last spared."""
        session = next(iter(self._order))
        while session.asked + session.answered > session.mark:
            session.mark = session.asked + session.answered
            self._order.move_to_end(session)
            session = next(iter(self._order))
        self.end(session)

    def end(self, connection: Connection) -> None:
        """Forget a session in whatever state it is."""
        session = connection
        assert isinstance(session, Session)
        if session not in self._order:
            return
        if session.up >= 0:
            self._hang_up(session)
        if session.route and session.route.tried:
            self._show_held(session, session.route.tried[-1])
        self._leave(session)
        del self._ports[session.port][session.key]
        del self._order[session]
        self.connections.remove(session)
        self._clients.leave(session.client, clock.monotonic())
        if self._reporter.level:
            self._reporter.debug(1, f"connection {session.number}: ended")

    # Reaching a server

    def _dial(self, session: Session, why: str = NO_PLACE) -> None:
        """Send what is held to the next place that may answer; `why` the last one did not.  With no server
        left the session ends."""
        assert session.route
        if session.server and self._try_places(session, session.server, why):
            return
        while (server := session.route.next(clock.monotonic())) is not None:
            session.server = server
            session.place = 0
            server.connections += 1
            if self._try_places(session, server, NO_PLACE):
                return
        self._reporter.debug(1, f"connection {session.number}: no server left")
        self.end(session)

    def _try_places(self, session: Session, server: Server, why: str) -> bool:
        """Try the places of the server that were not tried yet.  Answers whether one may yet answer (or we
        ourselves can't ask any, and the session is over); else the server has failed."""
        while session.place < len(server.places):
            place = server.places[(server.first_place + session.place) % len(server.places)]
            error = self._open(session, place)
            if error in OUR_FAULTS:
                self._drop(error)
                self.end(session)
                return True
            session.place += 1
            if not error:
                self._send_held(session)
                return True
            why = os.strerror(error)
        self._fail(session, server, why)
        return False

    def _open(self, session: Session, place: Place) -> int:
        """Make the session's socket.  Answers an errno; being out of descriptors costs another session."""
        try:
            sock = self._socket(place.family)
            source = self._settings.source
            if source and source.family == place.family:
                sock.bind(source.sockaddr)
            error = sock.connect_ex(place.sockaddr)
        except OSError as exc:
            return exc.errno or errno.EINVAL
        if error:
            sock.close()
            return error
        session.sock, session.up = sock, sock.fileno()
        session.send, session.receive = sock.send, partial(sock.recv, LARGEST)
        return 0

    def _socket(self, family: int) -> RawSocket:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        try:
            return RawSocket(family, kind, 0)
        except OSError as exc:
            if exc.errno not in OUT_OF_DESCRIPTORS or len(self._order) < 2:
                raise
        self._evict()
        return RawSocket(family, kind, 0)

    def _send_held(self, session: Session) -> None:
        """The session has a new socket: send what no server has answered, and wait for the reply."""
        fd = session.up
        self.loop.watch(fd, READ, partial(self._first_answer, session))
        if session.expects:
            session.deadline = clock.monotonic() + self._settings.timeout
            self._unheard[session] = None
            if not self._unheard_timer:
                self._unheard_timer = self.loop.after(self._settings.timeout, self._time_out)
        for data in session.held:
            self._send(session, data)
            if session.up != fd:
                return  # refused already
        if not session.expects:
            if session.server and session.server.index >= 0:
                session.client.server = session.server.index
            self._join(session)

    def _join(self, session: Session) -> None:
        """From now on datagrams pass both ways."""
        assert session.server
        session.route = None
        session.silent_since = 0.0
        self._show_held(session, session.server)
        session.looks_up, session.looks_down = self._looks.at(session, session.server)
        session.plain = not session.looks_up
        self.loop.handlers[session.up] = partial(
            self._pass_answer if session.plain else self._pass_shown, session
        )

    def _time_out(self) -> None:
        """Give up waiting for the first replies whose time is over."""
        self._unheard_timer = None
        now = clock.monotonic()
        for session in list(self._unheard):
            if session.deadline > now:
                self._unheard_timer = self.loop.after(session.deadline - now, self._time_out)
                break
            self._hang_up(session)
            if session.server and session.server.answered_at > session.deadline - self._settings.timeout:
                self._leave(session)  # it answers others
            self._dial(session, NO_REPLY)

    def _broken(self, session: Session, why: str) -> None:
        """The server refused, or no longer answers: go on with another one, after this batch of events."""
        self._hang_up(session)
        if not session.route:
            assert session.server
            self._fail(session, session.server, why)
            number = session.port.client(session.key)[1]
            session.route = Route(self._selection, session.client, number, clock.monotonic())
            session.held = [] if session.last is None else [session.last]
        self.loop.later(partial(self._go_on, session, why))

    def _go_on(self, session: Session, why: str) -> None:
        if session not in self._order or session.up >= 0:
            return
        if session.held:
            self._dial(session, why)
        else:
            self.end(session)  # the client's next datagram begins a new one

    def _hang_up(self, session: Session) -> None:
        """Close the server's side."""
        assert session.sock
        self._unheard.pop(session, None)
        self.loop.closing(session.up)
        session.sock.close()
        session.up = -1
        session.plain = False

    def _fail(self, session: Session, server: Server, why: str) -> None:
        server_failed(server, why, self._settings.blacklist, self._reporter)
        self._reporter.debug(1, f"connection {session.number}: server {server.title}: {why}")
        self._leave(session)

    def _leave(self, session: Session) -> None:
        """The session is no longer its server's."""
        session.count()
        if session.server:
            session.server.connections -= 1
            session.server = None

    # Servers' datagrams

    def _first_answer(self, session: Session, fd: int, mask: int) -> None:
        """Handler of a server's side until its first datagram."""
        try:
            data = session.receive()
        except BlockingIOError:
            return
        except OSError as exc:
            self._broken(session, reason(exc))
            return
        assert session.server
        del self._unheard[session]
        session.server.answered_at = clock.monotonic()
        server_answered(session, session.server, self._reporter)
        self._join(session)
        self._deliver(session, data)

    def _pass_answer(self, session: Session, fd: int, mask: int) -> None:
        """The hot function of servers' datagrams."""
        try:
            data = session.receive()
        except BlockingIOError:
            return
        except OSError as exc:
            self._broken(session, reason(exc))
            return
        session.answered += 1
        session.received += len(data)
        session.last = None
        try:
            session.answer(data)
        except OSError as exc:
            self._drop(exc.errno or errno.EINVAL)

    def _pass_shown(self, session: Session, fd: int, mask: int) -> None:
        """As `_pass_answer`, for a session that is looked at."""
        try:
            data = session.receive()
        except BlockingIOError:
            return
        except OSError as exc:
            self._broken(session, reason(exc))
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

    def _show_held(self, session: Session, server: Server) -> None:
        """It is now known which server answered what was held, or that none did and which was the last."""
        looks, _ = self._looks.at(session, server)
        for data in session.held:
            for look in looks:
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
        self._sweep_timer = self.loop.after(SWEEP, self._sweep) if self._order else None

    def _unanswered(self, session: Session, now: float) -> None:
        """A joined session's client has sent, and its server not answered."""
        if session.route or not session.expects or not session.server:
            return
        if not session.silent_since or session.server.answered_at > session.silent_since:
            session.silent_since = now
        elif now - session.silent_since >= self._settings.timeout:
            self._broken(session, NO_REPLY)

    def _say_dropped(self) -> None:
        """Once when datagrams begin to be dropped, again only after a second without."""
        if self._dropped and not self._said_dropped:
            self._reporter.warn(f"{self._dropped} datagrams dropped: {self._why_dropped}")
        self._said_dropped = self._dropped > 0
        self._dropped = 0
