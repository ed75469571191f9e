"""Asking name servers: many questions in flight, each asked once unless it got lost.

A question goes to the first server by UDP.  Without an answer after a part of its time it goes to the next
one as well, and is given up when its time is over; until then an answer to any of its copies counts.  An
answer cut short is asked for again by TCP.

How many are in flight follows the network, as TCP does: what is sent into a full buffer comes back seconds
later.  Silence proves no loss, because many zones have no server that works; that a later copy is answered
while the first one is not, does.  Each server gets as many sockets as are needed for all answers to find room
in their receive buffers; each has a port of its own, which also makes forged answers harder.

Not here: what a message looks like (dnswire); the connections (dnstcp); what is made of an answer.
"""

import contextlib
import errno
import os
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

from penlib import clock, dnstcp, dnswire, sockets
from penlib.address import Endpoint, Place, is_ipv6, is_numeric, target
from penlib.dnstcp import Done
from penlib.dnswire import Message
from penlib.errors import PenError, reason
from penlib.loop import READ, Handler, Loop

PORT = 53

RESEND = 0.4
"""After which part of its time a question is sent again: by default 2 s.  Slow answers are far more frequent
than lost ones, and a second question to a slow server makes it slower."""

FIRST_WINDOW = 128
"""Questions in flight at first: what a name server's receive buffer of default size surely holds."""

LEAST_WINDOW = 16

TICKS = 250
"""Looks for what got lost, in the time of a question: by default one every 20 ms."""

BURSTS = 50
"""In how many looks all that is in flight can be sent again: what was lost together, in a full buffer, would
be lost together once more."""

ANSWER_ROOM = 1280
"""Bytes that the kernel charges a receive buffer for one small datagram, at most."""

BUFFER = 1 << 20
"""Bytes of receive buffer asked for; ordinary users get about 200 kB."""

SOCKETS = 256
"""UDP sockets at most, of all servers together: descriptors are few.  Beyond that the window must do."""

OUT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Why no socket can be made that is not the fault of a place."""

CONNECTIONS = 100
"""TCP connections at a time, for answers cut short: each takes a descriptor."""

RANDOM_BYTES = 4096
"""Taken from the kernel at once, for ids."""

UDP_SIZE = 65535


def servers_of(words: list[str], path: str = "/etc/resolv.conf") -> list[Place]:
    """Where the name servers are: as typed (`host[:port]`, `[v6]:port`, `v6`), else those of resolv.conf(5).

    Raises UsageError, PenError.
    """
    endpoints = [Endpoint(word, PORT) if is_ipv6(word) else target(word, "udp", PORT) for word in words]
    return [_place(endpoint) for endpoint in endpoints] or _configured(path)


def _place(endpoint: Endpoint) -> Place:
    return sockets.resolve(endpoint, socket.SOCK_DGRAM)[0]


def _configured(path: str) -> list[Place]:
    """Those of a resolv.conf; what is none, or on an interface that is not there, is passed over, as libc
    does."""
    try:
        with open(path, "rb") as file:
            words = [line.split() for line in file.read().decode("ascii", "replace").splitlines()]
    except OSError:
        words = []
    named = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    found = []
    for name in named:
        if is_numeric(name.partition("%")[0]):
            with contextlib.suppress(PenError):
                found.append(_place(Endpoint(name, PORT)))
    return found or [_place(Endpoint("127.0.0.1", PORT))]  # as resolv.conf(5) says


def _random_ids() -> Iterator[int]:
    """Numbers of 16 bits that nobody can guess; asking the kernel for each would take as long as sending."""
    while True:
        yield from memoryview(os.urandom(RANDOM_BYTES)).cast("H")


_ids = _random_ids()


class _Question:
    """One question, from `ask` to its `done`."""

    __slots__ = ("asked", "begun", "copies", "done", "server", "tries")

    def __init__(self, asked: bytes, done: Done) -> None:
        self.asked = asked
        self.done = done
        self.begun = 0.0
        self.tries = 0
        self.server = 0  # that was asked last
        self.copies: list[tuple[_Socket, int]] = []  # sent and not answered: through which, with what id


class _Socket:
    """A UDP socket connected to one server, and the questions that it waits for, by id."""

    __slots__ = ("fd", "room", "server", "sock", "waiting")

    def __init__(self, place: Place, server: int) -> None:
        self.sock = socket.socket(place.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.room = sockets.want_receive_buffer(self.sock, BUFFER) // ANSWER_ROOM
        self.sock.connect(place.sockaddr)
        self.fd = self.sock.fileno()
        self.server = server
        self.waiting: dict[int, _Question] = {}

    def add(self, asked: _Question) -> int:
        """Have a question wait here; its id, which nobody can guess."""
        while (number := next(_ids)) in self.waiting:
            pass
        self.waiting[number] = asked
        asked.copies.append((self, number))
        return number

    def receive_for(self, receive: "Callable[[_Socket], None]") -> Handler:
        """A handler for the loop."""
        return lambda fd, mask: receive(self)


class _Window:
    """How many questions may be in flight: more with each that ends, half after a loss, as TCP has it."""

    def __init__(self, limit: int, pause: float) -> None:
        self.size = float(min(limit, FIRST_WINDOW))
        self._limit = limit
        self._calm = float(limit)  # the size up to which it grows by one
        self._pause = pause
        self._halved = float("-inf")

    def grow(self) -> None:
        """A question has ended."""
        self.size = min(self._limit, self.size + (1 if self.size < self._calm else 1 / self.size))

    def halve(self, now: float) -> None:
        """A datagram got lost; those lost together, which show within a while, count once."""
        if now - self._halved > self._pause:
            self._halved = now
            self._calm = self.size = max(min(LEAST_WINDOW, self._limit), self.size / 2)

    def restart(self) -> None:
        """There was nothing to ask: what came to fit little by little need not fit all at once."""
        self.size = min(self.size, FIRST_WINDOW)


class Resolver:
    """Asks `places`, at most `limit` questions at a time, each for at most `seconds`."""

    def __init__(self, loop: Loop, places: list[Place], limit: int, seconds: float) -> None:
        self.places = places
        self._loop = loop
        self._limit = limit
        self._seconds = seconds
        self._patience = RESEND * seconds
        self._window = _Window(limit, self._patience)
        self._first = 0  # the server to ask first
        self._heard = [float("-inf")] * len(places)  # when each answered last
        self._queue: deque[_Question] = deque()
        self._flying: OrderedDict[_Question, float] = OrderedDict()  # -> when it was begun; oldest first
        self._sent: OrderedDict[_Question, float] = OrderedDict()  # -> when it was last sent by UDP
        self._sockets: dict[int, list[_Socket]] = {}
        self._turn = 0
        self._tcp = 0
        self._tcp_queue: deque[_Question] = deque()
        self._ticking = False

    def ask(self, asked: bytes, done: Done) -> None:
        """Have a question section (dnswire.question) asked.  `done` gets the answer, or None in the end."""
        if not self._flying and not self._queue:
            self._window.restart()
        self._queue.append(_Question(asked, done))
        self._fill()

    def _fill(self) -> None:
        """Send what the window has room for, but not more at once than fits anywhere."""
        for _ in range(min(len(self._queue), FIRST_WINDOW)):
            if len(self._flying) >= self._window.size:
                break
            asked = self._queue.popleft()
            asked.begun = clock.monotonic()
            self._flying[asked] = asked.begun
            asked.server = self._first
            self._send(asked)
        if self._flying and not self._ticking:
            self._ticking = True
            self._loop.after(self._seconds / TICKS, self._tick)

    def _group(self, server: int) -> list[_Socket]:
        """The sockets of a server, made when it is asked first; none if there is no way to it."""
        if server not in self._sockets:
            self._sockets[server] = self._open(self.places[server], server)
        return self._sockets[server]

    def _open(self, place: Place, server: int) -> list[_Socket]:
        try:
            made = [_Socket(place, server)]
            wanted = -(-self._limit // made[0].room)
            made += [_Socket(place, server) for _ in range(min(wanted, SOCKETS // len(self.places)) - 1)]
        except OSError as exc:
            if exc.errno in OUT_OF_SOMETHING:
                raise PenError(f"name server {place}: {reason(exc)}") from exc
            return []
        for each in made:
            self._loop.watch(each.fd, READ, each.receive_for(self._receive))
        return made

    def _send(self, asked: _Question) -> None:
        server, now = asked.server, clock.monotonic()
        asked.tries += 1
        self._sent[asked] = now
        self._sent.move_to_end(asked)
        group = self._group(server)
        if not group:
            self._loop.later(lambda: self._down(server, [asked]))
            return
        self._turn += 1
        through = group[self._turn % len(group)]
        try:
            through.sock.send(dnswire.query(through.add(asked), asked.asked))
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.ENOBUFS):
                self._loop.later(lambda: self._down(server, dict.fromkeys(through.waiting.values())))

    def _receive(self, through: _Socket) -> None:
        while True:
            try:
                data = through.sock.recv(UDP_SIZE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._down(through.server, dict.fromkeys(through.waiting.values()))
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
        if asked is None or not dnswire.is_answer(message, asked.asked):
            return
        now = clock.monotonic()
        first = asked.copies[0]
        if first != (through, message.id) and self._heard[first[0].server] >= asked.begun:
            self._window.halve(now)  # a server that answers others did not answer the first copy
        self._heard[through.server] = now
        if message.truncated:
            self._leave(asked)
            del self._sent[asked]
            asked.server = through.server
            self._tcp_queue.append(asked)
            self._loop.later(self._connect)
        else:
            self.settle(asked, through.server, message)

    def settle(self, asked: _Question, server: int, message: Message | None) -> None:
        """A server has said something, or (None) can't be reached.  A failure is the answer only when no
        other server knows more."""
        if message is None or message.rcode not in (dnswire.NOERROR, dnswire.NXDOMAIN):
            self._leave(asked, server)
            if asked.copies or self._next_server(asked):
                return
        self._finish(asked, message)

    def _next_server(self, asked: _Question) -> bool:
        """Ask the next server, if there is one that this question has not been to."""
        if asked not in self._flying or asked.tries >= len(self.places):
            return False
        asked.server = (asked.server + 1) % len(self.places)
        self._send(asked)
        return True

    def _leave(self, asked: _Question, server: int | None = None) -> None:
        """Wait no longer for what a server, or (None) any of them, answers."""
        kept = []
        for through, number in asked.copies:
            if server is None or through.server == server:
                del through.waiting[number]
            else:
                kept.append((through, number))
        asked.copies = kept

    def _finish(self, asked: _Question, message: Message | None) -> None:
        """Answer a question, once."""
        if self._flying.pop(asked, None) is not None:
            self._leave(asked)
            self._sent.pop(asked, None)
            if self._queue:  # else the window was not what held questions back
                self._window.grow()
            asked.done(message)

    def _down(self, server: int, waiting: Iterable[_Question]) -> None:
        """Nobody listens there: what waits for it goes to the next server, or has no answer."""
        self._avoid(server)
        for asked in waiting:
            self.settle(asked, server, None)
        self._fill()

    def _avoid(self, server: int) -> None:
        """Ask another one first from now on."""
        if self._first == server:
            self._first = (server + 1) % len(self.places)

    def _tick(self) -> None:
        """Send again what may be lost, give up what is over its time."""
        now = clock.monotonic()
        for _ in range(max(LEAST_WINDOW, self._limit // BURSTS)):
            if not self._sent or next(iter(self._sent.values())) + self._patience > now:
                break
            self._again(*next(iter(self._sent.items())))
        while self._flying and next(iter(self._flying.values())) + self._seconds <= now:
            self._finish(next(iter(self._flying)), None)
        self._ticking = False
        self._fill()

    def _again(self, asked: _Question, sent: float) -> None:
        """Send one more copy; an answer to an earlier one still counts."""
        if self._heard[asked.server] < sent:
            self._avoid(asked.server)
        asked.server = (asked.server + 1) % len(self.places)
        self._send(asked)

    def _connect(self) -> None:
        """Ask by TCP what waits for that, as far as connections may be made."""
        while self._tcp_queue and self._tcp < CONNECTIONS:
            asked = self._tcp_queue.popleft()
            left = asked.begun + self._seconds - clock.monotonic()
            if asked in self._flying and left > 0:
                self._tcp += 1
                dnstcp.ask(self._loop, self.places[asked.server], asked.asked, left, self._connected(asked))

    def _connected(self, asked: _Question) -> Done:
        return lambda message: self._connection_ended(asked, message)

    def _connection_ended(self, asked: _Question, message: Message | None) -> None:
        self._tcp -= 1
        self._loop.later(self._connect)
        self.settle(asked, asked.server, message)
        self._fill()
