"""Asking name servers: many questions in flight, each asked once unless it got lost.

A question goes to the first server by UDP.  Without an answer after a part of its time it goes to the next
one, and is given up when its time is over.  An answer cut short is asked for again by TCP.

How many are in flight follows the network, as TCP does: it grows with every answer, up to the limit given,
and halves when something was lost, because what is sent into a full buffer comes back seconds later.  Each
server gets as many sockets as are needed for all answers to find room in their receive buffers; each has a
port of its own, which also makes forged answers harder.

Not here: what a message looks like (dnswire); what is made of an answer.
"""

import errno
import os
import socket
from collections import OrderedDict, deque
from collections.abc import Callable

from penlib import clock, dnswire, sockets
from penlib.address import Endpoint, Place, is_ipv6, target
from penlib.dnswire import Message
from penlib.errors import PenError, reason
from penlib.loop import READ, WRITE, Handler, Loop

PORT = 53

RESEND = 0.4
"""After which part of its time a question is sent again: by default 2 s.  Slow answers are far more frequent
than lost ones, and a second question to a slow server makes it slower."""

FIRST_WINDOW = 128
"""Questions in flight at first: what a name server's receive buffer of default size surely holds."""

LEAST_WINDOW = 16

ANSWER_ROOM = 1280
"""Bytes that the kernel charges a receive buffer for one small datagram, at most."""

BUFFER = 1 << 20
"""Bytes of receive buffer asked for; ordinary users get about 200 kB."""

TCP_LIMIT = 100
"""Connections at a time for answers cut short: each takes a descriptor."""

UDP_SIZE = 65535

Done = Callable[[Message | None], None]


def servers_of(words: list[str], path: str = "/etc/resolv.conf") -> list[Place]:
    """Where the name servers are: as typed (`host[:port]`, `[v6]:port`, `v6`), else those of resolv.conf(5).

    Raises UsageError, PenError.
    """
    endpoints = [Endpoint(word, PORT) if is_ipv6(word) else target(word, "udp", PORT) for word in words]
    for endpoint in endpoints or _configured(path):
        if endpoint.path:
            raise PenError(f"name server {endpoint}: not an address")
    return [sockets.resolve(endpoint, socket.SOCK_DGRAM)[0] for endpoint in endpoints or _configured(path)]


def _configured(path: str) -> list[Endpoint]:
    try:
        with open(path, "rb") as file:
            words = [line.split() for line in file.read().decode("ascii", "replace").splitlines()]
    except OSError:
        words = []
    found = [Endpoint(line[1], PORT) for line in words if len(line) > 1 and line[0] == "nameserver"]
    return found or [Endpoint("127.0.0.1", PORT)]  # as resolv.conf(5) says


class _Question:
    """One question, from `ask` to its `done`."""

    __slots__ = ("asked", "begun", "done", "id", "server", "socket", "tries")

    def __init__(self, asked: bytes, done: Done) -> None:
        self.asked = asked
        self.done = done
        self.begun = 0.0
        self.tries = 0
        self.server = 0
        self.id = 0
        self.socket: _Socket | None = None


class _Socket:
    """A UDP socket connected to one server, and the questions that it waits for."""

    __slots__ = ("fd", "room", "server", "sock", "waiting")

    def __init__(self, place: Place, server: int) -> None:
        self.sock = socket.socket(place.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.room = sockets.want_receive_buffer(self.sock, BUFFER)
        self.sock.connect(place.sockaddr)
        self.fd = self.sock.fileno()
        self.server = server
        self.waiting: dict[int, _Question] = {}

    def receive_for(self, receive: "Callable[[_Socket], None]") -> Handler:
        """A handler for the loop."""
        return lambda fd, mask: receive(self)


class Resolver:
    """Asks `places`, at most `limit` questions at a time, each for at most `seconds`."""

    def __init__(self, loop: Loop, places: list[Place], limit: int, seconds: float) -> None:
        self.places = places
        self.sent = 0  # datagrams
        self.answered = 0
        self._loop = loop
        self._limit = limit
        self._seconds = seconds
        self._window = float(min(limit, FIRST_WINDOW))
        self._calm = float(limit)  # the window up to which it grows with every answer
        self._halved = 0.0
        self._first = 0  # the server to ask first
        self._queue: deque[_Question] = deque()
        self._flying: OrderedDict[_Question, float] = OrderedDict()  # -> when it was begun; oldest first
        self._resend: deque[tuple[float, _Question, int]] = deque()
        self._sockets: list[list[_Socket]] = []
        self._turn = 0
        self._tcp: set[_Connection] = set()
        self._tcp_queue: deque[_Question] = deque()
        self._ticking = False

    def ask(self, asked: bytes, done: Done) -> None:
        """Have a question section (dnswire.question) asked.  `done` gets the answer, or None in the end."""
        self._queue.append(_Question(asked, done))
        self._fill()

    def close(self) -> None:
        """Forget all."""
        for connection in list(self._tcp):
            connection.close()
        for one in self._sockets:
            for each in one:
                self._loop.forget(each.fd)
                each.sock.close()
        self._sockets = []

    def _fill(self) -> None:
        while self._queue and len(self._flying) < self._window:
            asked = self._queue.popleft()
            asked.begun = clock.monotonic()
            self._flying[asked] = asked.begun
            asked.server = self._first
            self._send(asked)
        if self._flying and not self._ticking:
            self._ticking = True
            self._loop.after(min(0.1, self._seconds / 10), self._tick)

    def _open(self) -> None:
        """Make the sockets, the first time that something is to be asked."""
        for number, place in enumerate(self.places):
            try:
                made = [_Socket(place, number)]
                share = max(1, made[0].room // ANSWER_ROOM)
                made += [_Socket(place, number) for _ in range(min(32, (self._limit - 1) // share))]
            except OSError as exc:
                raise PenError(f"name server {place}: {reason(exc)}") from exc
            self._sockets.append(made)
            for each in made:
                self._loop.watch(each.fd, READ, each.receive_for(self._receive))

    def _send(self, asked: _Question) -> None:
        if not self._sockets:
            self._open()
        group = self._sockets[asked.server]
        self._turn += 1
        through = group[self._turn % len(group)]
        while (number := int.from_bytes(os.urandom(2), "big")) in through.waiting:
            pass
        asked.id, asked.socket = number, through
        asked.tries += 1
        through.waiting[number] = asked
        self._resend.append((clock.monotonic() + RESEND * self._seconds, asked, asked.tries))
        try:
            through.sock.send(dnswire.query(number, asked.asked))
            self.sent += 1
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.ENOBUFS):
                self._loop.later(lambda: self._refused(through))

    def _receive(self, through: _Socket) -> None:
        while True:
            try:
                data = through.sock.recv(UDP_SIZE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._refused(through)
                break
            self._take(through, data)
        self._fill()

    def _take(self, through: _Socket, data: bytes) -> None:
        """One datagram; what answers no question that waits is a mistake, or a forgery."""
        try:
            message = dnswire.parse(data)
        except ValueError:
            return
        asked = through.waiting.get(message.id)
        if asked is None or not _answers(message, asked):
            return
        self.answered += 1
        growth = 1 if self._window < self._calm else 1 / self._window
        self._window = min(self._limit, self._window + growth)
        if message.truncated:
            del through.waiting[message.id]
            asked.socket = None
            self._by_tcp(asked)
        elif message.rcode in (dnswire.NOERROR, dnswire.NXDOMAIN) or not self._next_server(asked):
            self.finish(asked, message)

    def _next_server(self, asked: _Question) -> bool:
        """Ask the next server, if there is one that this question has not been to."""
        if asked.tries >= len(self.places):
            return False
        self._leave(asked)
        asked.server = (asked.server + 1) % len(self.places)
        self._send(asked)
        return True

    def _leave(self, asked: _Question) -> None:
        if asked.socket:
            asked.socket.waiting.pop(asked.id, None)
            asked.socket = None

    def finish(self, asked: _Question, message: Message | None) -> None:
        """Answer a question, once."""
        if self._flying.pop(asked, None) is not None:
            self._leave(asked)
            asked.done(message)

    def _refused(self, through: _Socket) -> None:
        """Nobody listens there: what waits for it goes to the next server, or has no answer."""
        if self._first == through.server:
            self._first = (through.server + 1) % len(self.places)
        for asked in list(through.waiting.values()):
            if not self._next_server(asked):
                self.finish(asked, None)
        self._fill()

    def _tick(self) -> None:
        """Send again what may be lost, give up what is over its time."""
        now = clock.monotonic()
        while self._resend and self._resend[0][0] <= now:
            _, asked, tries = self._resend.popleft()
            if asked in self._flying and asked.tries == tries and asked.socket:
                self._lost(asked, now)
        while self._flying and next(iter(self._flying.values())) + self._seconds <= now:
            self.finish(next(iter(self._flying)), None)
        self._ticking = False
        self._fill()

    def _lost(self, asked: _Question, now: float) -> None:
        if now - self._halved > RESEND * self._seconds:
            self._halved = now
            self._calm = self._window = max(min(LEAST_WINDOW, self._limit), self._window / 2)
            self._first = (asked.server + 1) % len(self.places)
        self._leave(asked)
        asked.server = (asked.server + 1) % len(self.places)
        self._send(asked)

    def _by_tcp(self, asked: _Question) -> None:
        self._tcp_queue.append(asked)
        self.next_connection()

    def next_connection(self, ended: "_Connection | None" = None) -> None:
        """A connection has ended, or one more is wanted."""
        if ended:
            self._tcp.discard(ended)
        while self._tcp_queue and len(self._tcp) < TCP_LIMIT:
            asked = self._tcp_queue.popleft()
            if asked in self._flying:
                try:
                    self._tcp.add(_Connection(self, self._loop, self.places[asked.server], asked))
                except OSError:
                    self.finish(asked, None)


def _answers(message: Message, asked: _Question) -> bool:
    return message.id == asked.id and message.question.lower() == asked.asked.lower()


class _Connection:
    """One question by TCP (RFC 7766), after its answer was too long for UDP."""

    def __init__(self, owner: Resolver, loop: Loop, place: Place, asked: _Question) -> None:
        self._owner, self._loop, self._asked = owner, loop, asked
        self._sock = socket.socket(place.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._data = b""
        refused = self._sock.connect_ex(place.sockaddr)
        if refused not in (0, errno.EINPROGRESS):
            self._sock.close()
            raise OSError(refused, os.strerror(refused))
        loop.watch(self._sock.fileno(), WRITE, self._connected)
        self._limit = loop.after(owner._seconds, self._over)

    def _connected(self, fd: int, mask: int) -> None:
        query = dnswire.query(self._asked.id, self._asked.asked)
        try:
            self._sock.send(len(query).to_bytes(2, "big") + query)
        except OSError:
            self._end(None)
            return
        self._loop.watch(fd, READ, self._read)

    def _read(self, fd: int, mask: int) -> None:
        try:
            more = self._sock.recv(UDP_SIZE)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        self._data += more
        size = int.from_bytes(self._data[:2], "big")
        if len(self._data) >= 2 + size and len(self._data) > 2:
            self._end(_parsed(self._data[2 : 2 + size], self._asked))
        elif not more:
            self._end(None)

    def _over(self) -> None:
        self._end(None)

    def _end(self, message: Message | None) -> None:
        self.close()
        self._owner.finish(self._asked, message)
        self._owner.next_connection(self)

    def close(self) -> None:
        self._limit.cancel()
        self._loop.forget(self._sock.fileno())
        self._sock.close()


def _parsed(data: bytes, asked: _Question) -> Message | None:
    try:
        message = dnswire.parse(data)
    except ValueError:
        return None
    return message if _answers(message, asked) else None
