"""Lines of standard input, each sent as one datagram to a penlogd: what penlog does.

A web server writes its log into our pipe and waits when the pipe is full.  So reading comes first: nothing
that goes wrong with sending holds it up for longer than `PAUSE` seconds.  Names are looked up in the
background, and what is read before the first answer is kept, up to a limit.  UDP tells of failures late and
seldom; what it tells is reported at most once a minute, and the next line is tried again.

Not here: what is in a line.
"""

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable

from penlib import address, clock, process
from penlib.address import Endpoint, Place
from penlib.dns import Answer, Lookups
from penlib.errors import PenError, UsageError, failed, reason
from penlib.loop import MECHANISMS, READ, Loop
from penlib.report import Reporter

LARGEST = 65_507
"""Bytes in the largest UDP datagram over IPv4: 65,535 less the headers of IP and UDP."""

CHUNK = 1 << 16
"""Bytes read at once: a pipe holds no more."""

KEPT = 1000
"""Lines kept until the name of the penlogd is resolved."""

PAUSE = 0.1
"""Seconds to wait for room in the send buffer before lines are given up, until there is room again."""

REPORT_EVERY = 60.0
"""Seconds between reports, so that a web server's error log stays readable."""

LOOK_UP_EVERY = 60.0
LOOK_UP_AGAIN = 2.0
"""Seconds between lookups of a penlogd that does not answer, and of a name that did not resolve."""

LINGER = 10.0
"""Seconds to wait, at the end, for the name to be resolved."""

LAST_READS = 64
"""Chunks still read after a TERM: more than a pipe can hold."""


class Lines:
    """Cuts a stream of bytes into datagrams, one a line, each ending in a newline.

    A line too long for a datagram loses its end and is counted in `cut`.
    """

    def __init__(self) -> None:
        self.cut = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LARGEST]
        return [self._datagram(line) for line in lines]

    def finish(self) -> list[bytes]:
        """The last line, if it lacked its newline."""
        rest, self._rest = self._rest, b""
        return [self._datagram(rest)] if rest else []

    def _datagram(self, line: bytes) -> bytes:
        if len(line) >= LARGEST:
            self.cut += 1
            line = line[: LARGEST - 1]
        return line + b"\n"


class Complaints:
    """Says what goes wrong, at once and then at most once every REPORT_EVERY seconds."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._latest = ""
        self._said = -REPORT_EVERY
        self._lost = 0

    def add(self, what: str, lost: int = 0) -> None:
        """`what` went wrong just now, and that many lines are `lost` by it."""
        self._latest = what
        self._lost += lost
        self.say_if_due()

    def say_if_due(self) -> None:
        """Say what has not been said, unless something was said less than REPORT_EVERY seconds ago."""
        if clock.monotonic() - self._said >= REPORT_EVERY:
            self.say()

    def say(self) -> None:
        """Say what has not been said."""
        if self._latest:
            lost = f", lines lost: {self._lost}" if self._lost else ""
            self._reporter.warn(self._latest + lost)
            self._said = clock.monotonic()
            self._latest, self._lost = "", 0


class Sender:
    """Sends datagrams to a penlogd, whose name may have several addresses or, for now, none."""

    def __init__(self, endpoint: Endpoint, my_ip: str, lookups: Lookups, complaints: Complaints) -> None:
        """Send to `endpoint`, from the local address `my_ip` unless that is empty.  Raises PenError if there
        is no such local address."""
        self._endpoint = endpoint
        self._my_ip = my_ip
        self._lookups = lookups
        self._complaints = complaints
        self._places: deque[Place] = deque()
        self._socket: socket.socket | None = None
        self._kept: list[bytes] = []
        self._stuck = False
        self._looking_up = False
        self._looked_up = 0.0
        self._finished: Callable[[], None] | None = None
        if my_ip:
            self._check_my_ip()
        self._look_up()

    def _check_my_ip(self) -> None:
        try:
            self._open(_family(self._my_ip)).close()
        except OSError as exc:
            raise failed(f"send from {self._my_ip}", exc) from exc

    def send(self, datagram: bytes) -> None:
        """Send one datagram, or keep it until the name is resolved, or lose it."""
        if not self._places:
            self._keep(datagram)
            self._look_up_after(LOOK_UP_AGAIN)
            return
        why = ""
        for _ in range(len(self._places) + 1):
            try:
                self._put(datagram)
                return
            except ConnectionRefusedError as exc:  # tells of the datagram before: this one was not sent
                self._complain(reason(exc), lost=1)
            except OSError as exc:
                why = reason(exc)
            self._next_place()
        self._complain(why, lost=1)

    def finish(self, then: Callable[[], None]) -> None:
        """Call `then` when nothing is left to be sent, or the name turns out not to resolve."""
        self._finished = then
        if not self._kept:
            then()
        else:
            self._look_up_after(0)

    def close(self) -> None:
        """Give up what is kept."""
        if self._kept:
            self._complain("name not resolved", lost=len(self._kept))
        self._complaints.say_if_due()

    def _complain(self, why: str, lost: int = 0) -> None:
        self._complaints.add(f"{self._endpoint}: {why}", lost)
        self._look_up_after(LOOK_UP_EVERY)

    def _put(self, datagram: bytes) -> None:
        if self._socket is None:
            self._socket = self._open(self._places[0].family)
            self._socket.connect(self._places[0].sockaddr)
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            if self._stuck or not self._wait_for_room(self._socket):
                self._stuck = True
                raise
            self._socket.send(datagram)
        self._stuck = False

    @staticmethod
    def _wait_for_room(sock: socket.socket) -> bool:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return bool(poll.poll(PAUSE * 1000))

    def _open(self, family: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if self._my_ip:
                sock.bind((self._my_ip, 0))
        except OSError:
            sock.close()
            raise
        return sock

    def _next_place(self) -> None:
        """Try the next address of the name; if it has only one, the same, with the same socket."""
        if len(self._places) > 1:
            self._places.rotate(-1)
            self._disconnect()

    def _disconnect(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _keep(self, datagram: bytes) -> None:
        if len(self._kept) < KEPT:
            self._kept.append(datagram)
        else:
            self._complain("name not resolved", lost=1)

    def _look_up_after(self, seconds: float) -> None:
        if not self._looking_up and clock.monotonic() - self._looked_up >= seconds:
            self._look_up()

    def _look_up(self) -> None:
        self._looking_up = True
        self._looked_up = clock.monotonic()
        self._lookups.lookup(self._endpoint, self._resolved, socket.SOCK_DGRAM)

    def _resolved(self, answer: Answer) -> None:
        self._looking_up = False
        if isinstance(answer, PenError):
            self._complaints.add(str(answer))
        else:
            self._move([place for place in answer if not self._my_ip or self._my_ip_reaches(place)])
        if self._finished:
            self._finished()

    def _my_ip_reaches(self, place: Place) -> bool:
        return place.family == _family(self._my_ip)

    def _move(self, places: list[Place]) -> None:
        """Send to `places` from now on, and first what was kept."""
        if not places:
            self._complaints.add(f"{self._endpoint}: no address that {self._my_ip} can send to")
            return
        if list(self._places) != places:
            self._places = deque(places)
            self._disconnect()
        kept, self._kept = self._kept, []
        for datagram in kept:
            self.send(datagram)


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Feed:
    """Moves standard input to a sender until it ends, or a TERM says that there is no more to come."""

    def __init__(self, sender: Sender, complaints: Complaints, loop: Loop) -> None:
        """`complaints` are about lines that had to be cut."""
        self.status = 0
        self._sender = sender
        self._complaints = complaints
        self._loop = loop
        self._lines = Lines()
        self._cut = 0

    def run(self) -> int:
        """Move all there is; the exit status."""
        process.Signals(self._loop, {signal.SIGTERM: self.handle_term})
        self._loop.watch(0, READ, self._readable)
        self._loop.run()
        self._sender.close()
        self._complaints.say()
        return self.status

    def _readable(self, fd: int, mask: int) -> None:
        data = _read(fd)
        if data is None:
            return
        if data:
            self._send(self._lines.feed(data))
        else:
            self._finish()

    def _send(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self._sender.send(datagram)
        if self._lines.cut > self._cut:
            self._cut = self._lines.cut
            self._complaints.add(f"lines of more than {LARGEST - 1} bytes cut so far: {self._cut}")

    def _finish(self) -> None:
        self._loop.forget(0)
        self._send(self._lines.finish())
        self._loop.after(LINGER, self._loop.stop)
        self._sender.finish(self._loop.stop)

    def handle_term(self) -> None:
        """A web server that ends says so while its last lines are still in the pipe."""
        self.status = 128 + signal.SIGTERM
        poll = select.poll()
        poll.register(0, select.POLLIN)
        for _ in range(LAST_READS):
            if not poll.poll(0) or not (data := _read(0)):
                break
            self._send(self._lines.feed(data))
        self._finish()


def _read(fd: int) -> bytes | None:
    """A chunk; empty at the end; None if there is nothing just now."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
    except OSError:  # a terminal that has gone
        return b""


def destination(words: list[str]) -> tuple[Endpoint, str]:
    """Where to send and where from, of `HOST PORT [MY_IP]` or `HOST:PORT [MY_IP]`.  Raises UsageError."""
    text, *rest = words
    if len(words) == 3 or (len(words) == 2 and _are_host_and_port(*words)):
        port, *rest = rest
        text = f"[{text}]:{port}" if address.is_ipv6(text) else f"{text}:{port}"
    endpoint = address.target(text, "udp")
    my_ip = address.unmap(rest[0]) if rest else ""
    if rest and not address.is_numeric(my_ip):
        raise UsageError(f"bad address '{my_ip}': a numeric address of this machine expected")
    if rest and address.is_numeric(endpoint.host) and _family(my_ip) != _family(endpoint.host):
        raise UsageError(f"bad address '{my_ip}': nothing goes from it to {endpoint.host}")
    return endpoint, my_ip


def _are_host_and_port(first: str, second: str) -> bool:
    """Rather than a host with its port, and an address of ours."""
    return ":" not in first or address.is_ipv6(first) or (second.isascii() and second.isdigit())


def send_stdin(tool: str, endpoint: Endpoint, my_ip: str = "") -> int:
    """Send standard input to the penlogd at `endpoint`, from the address `my_ip` if that is not empty.

    Answers the exit status.  Raises PenError if there is no such local address.
    """
    loop = Loop("poll" if "poll" in MECHANISMS else "select")  # standard input may be a file: no epoll
    reporter = Reporter(tool)
    sender = Sender(endpoint, my_ip, Lookups(loop), Complaints(reporter))
    return Feed(sender, Complaints(reporter), loop).run()
