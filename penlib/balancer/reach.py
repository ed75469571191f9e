"""From a session to a server that answers: what dial is for TCP.

UDP has no connect that succeeds or fails.  Instead:
  - A session that expects replies counts as connected with the first one.  None within the connect timeout,
    or a refusal: the server has failed, and what got no answer is sent to the next one.
  - A server that answers others meanwhile is not to blame for what it does not answer: one client's garbage
    must not put servers out of service.
  - A joined session that has lost its server is treated likewise; only its last datagram is still there to
    be sent again.

Sockets are made only after a batch of events (see loop).

Not here: which server comes next (selection), what passes once joined (udp).
"""

import errno
import os
import socket
from _socket import socket as RawSocket
from collections.abc import Callable
from functools import partial
from itertools import takewhile

from penlib import clock
from penlib.address import Place
from penlib.balancer.datagrams import LARGEST
from penlib.balancer.dial import OUR_FAULTS, OUT_OF_DESCRIPTORS, bind_source, server_answered, server_failed
from penlib.balancer.session import Session
from penlib.balancer.settings import Settings
from penlib.errors import reason
from penlib.loop import READ, Loop, Timer
from penlib.report import Reporter
from penlib.selection import Route, Selection
from penlib.servers import Server

DROPPED = OUR_FAULTS | {errno.EMSGSIZE, errno.EINVAL}
"""Errors of a send that cost the datagram and say nothing about the server.  (EMSGSIZE: IPv6 carries up to
65,527 bytes, IPv4 20 fewer.)"""

NO_PLACE = "no address"
NO_REPLY = "no reply"
"""What is said of a server that has failed, where the system has no words for it."""


class Reach:
    """All sessions of one pen that look for a server.

    `joined` is called with a session that has one, and its first reply unless none was to be waited for;
    `failed` with one for which none is left; `make_room` is to free a descriptor for a session, and answers
    whether it could; `dropped` gets the errno of a datagram that could not be sent.
    """

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        selection: Selection,
        reporter: Reporter,
        *,
        joined: Callable[[Session, bytes | None], None],
        failed: Callable[[Session], None],
        make_room: Callable[[Session], bool],
        dropped: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._selection = selection
        self._reporter = reporter
        self._when_joined = joined
        self._when_failed = failed
        self._make_room = make_room
        self._when_dropped = dropped
        self._unheard: dict[Session, None] = {}
        """Sessions that wait for a first reply, the earliest deadline first."""
        self._timer: Timer | None = None

    def dial(self, session: Session, why: str = NO_PLACE) -> None:
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
        self._when_failed(session)

    def _try_places(self, session: Session, server: Server, why: str) -> bool:
        """Try the places of the server that were not tried yet.  Answers whether one may yet answer (or we
        ourselves can't ask any, and the session is over); else the server has failed."""
        while session.place < len(server.places):
            place = server.places[(server.first_place + session.place) % len(server.places)]
            error = self._open(session, place)
            if error in OUR_FAULTS:
                self._when_dropped(error)
                self._when_failed(session)
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
            sock = self._socket(session, place.family)
            bind_source(sock, place, session, self._settings)
            error = sock.connect_ex(place.sockaddr)
        except OSError as exc:
            return exc.errno or errno.EINVAL
        if error:
            sock.close()
            return error
        session.sock, session.up = sock, sock.fileno()
        session.send, session.receive = sock.send, partial(sock.recv, LARGEST)
        return 0

    def _socket(self, session: Session, family: int) -> RawSocket:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        try:
            return RawSocket(family, kind, 0)
        except OSError as exc:
            if exc.errno not in OUT_OF_DESCRIPTORS or not self._make_room(session):
                raise
        return RawSocket(family, kind, 0)

    def _send_held(self, session: Session) -> None:
        """The session has a new socket: send what no server has answered, and wait for the reply."""
        fd = session.up
        self._loop.watch(fd, READ, partial(self._first_answer, session))
        if session.expects:
            session.deadline = clock.monotonic() + self._settings.timeout
            self._unheard[session] = None
            self._watch_time()
        for data in session.held:
            self.send(session, data)
            if session.up != fd:
                return  # refused already
        if not session.expects:
            if session.server and session.server.index >= 0:
                session.client.server = session.server.index
            self._when_joined(session, None)

    def _time_out(self) -> None:
        """Give up waiting for the first replies whose time is over."""
        self._timer = None
        now = clock.monotonic()
        overdue = list(takewhile(lambda session: session.deadline <= now, self._unheard))
        for session in overdue:
            if session not in self._unheard:
                continue  # it had to make room for another one meanwhile
            self.hang_up(session)
            if session.server and session.server.answered_at > session.deadline - self._settings.timeout:
                self.leave(session)  # it answers others
            self.dial(session, NO_REPLY)
        self._watch_time()

    def _watch_time(self) -> None:
        if self._unheard and not self._timer:
            first = next(iter(self._unheard))
            self._timer = self._loop.after(first.deadline - clock.monotonic(), self._time_out)

    def lost(self, session: Session, why: str) -> None:
        """The server refused, or no longer answers: go on with another one, after this batch of events."""
        self.hang_up(session)
        if not session.route:
            assert session.server
            self._fail(session, session.server, why)
            session.route = Route(self._selection, session.client, session.client_port, clock.monotonic())
            session.held = [] if session.last is None else [session.last]
        self._loop.later(partial(self._go_on, session, why))

    def _go_on(self, session: Session, why: str) -> None:
        if session.over or session.up >= 0:
            return
        if session.held:
            self.dial(session, why)
        else:
            self._when_failed(session)  # the client's next datagram begins a new one

    def hang_up(self, session: Session) -> None:
        """Close the server's side."""
        assert session.sock
        self._unheard.pop(session, None)
        self._loop.closing(session.up)
        session.sock.close()
        session.up = -1
        session.plain = False

    def _fail(self, session: Session, server: Server, why: str) -> None:
        server_failed(server, why, self._settings.blacklist, self._reporter)
        self._reporter.debug(1, f"connection {session.number}: server {server.title}: {why}")
        self.leave(session)

    def leave(self, session: Session) -> None:
        """The session is no longer its server's."""
        session.count()
        if session.server:
            session.server.connections -= 1
            session.server = None

    def _first_answer(self, session: Session, fd: int, mask: int) -> None:
        """Handler of a server's side until its first datagram."""
        try:
            data = session.receive()
        except BlockingIOError:
            return
        except OSError as exc:
            self.lost(session, reason(exc))
            return
        assert session.server
        del self._unheard[session]
        session.server.answered_at = clock.monotonic()
        server_answered(session, session.server, self._reporter)
        self._when_joined(session, data)

    def send(self, session: Session, data: bytes) -> None:
        """Send one datagram to the session's server."""
        try:
            session.send(data)
        except OSError as exc:
            self.not_sent(session, exc)

    def not_sent(self, session: Session, exc: OSError) -> None:
        """A send failed: that is the datagram's fault, our own, or the server's."""
        if exc.errno in DROPPED:
            self._when_dropped(exc.errno or errno.EINVAL)
        else:
            self.lost(session, reason(exc))
