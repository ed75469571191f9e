"""pen's log: one record per request, to a file or as datagrams to a penlogd.

A target that fails never stops the traffic: a file that can't be written takes care of itself (logfile), a
penlogd whose name does not resolve is looked up again.  That is reported when it begins and when it ends,
with the number of records lost.

Not here: what a request is (http), what a record looks like (records).
"""

import contextlib
import socket
from collections import deque
from typing import Protocol

from penlib import clock, records
from penlib.address import Endpoint, Place
from penlib.balancer.endpoints import penlogd_of
from penlib.balancer.pairs import ALL
from penlib.dns import Answer, Lookups
from penlib.errors import PenError, reason
from penlib.http import RequestLines
from penlib.logfile import LogFile
from penlib.loop import Loop, Timer
from penlib.report import Reporter
from penlib.sockets import resolve

BACKLOG_DATAGRAMS = 1000
"""Records kept while penlogd's name is looked up."""

LOOKUP_RETRY = 5.0
"""Seconds between attempts to resolve penlogd's name."""

DOUBT = 2.0
"""Seconds without a refusal after which records are taken to arrive again.  The kernel of a host without a
penlogd sends no more than one refusal a second, see icmp_ratelimit in icmp(7)."""


class Target(Protocol):
    """Where records go."""

    def record(self, client: bytes, server: bytes, request: bytes) -> None:
        """Write one record; `request` is raw and of any length."""

    def reopen(self) -> None:
        """The administrator moved the file, or the name has a new address."""

    def close(self) -> None:
        """Write what can still be written, and close."""


class Journal:
    """The log and its current target; none at first."""

    def __init__(self, loop: Loop, lookups: Lookups, reporter: Reporter) -> None:
        self.name = ""
        """The target as the administrator wrote it; empty for none."""
        self._loop = loop
        self._lookups = lookups
        self._reporter = reporter
        self._target: Target | None = None
        self._known: dict[str, tuple[Endpoint, list[Place]]] = {}
        """Penlogds that were looked up beforehand."""

    @property
    def on(self) -> bool:
        """Whether anything is logged."""
        return self._target is not None

    def look_up(self, name: str) -> None:
        """Look up the penlogd that `name` may be, for its `open`: in a jail there need not be what resolvers
        read.  A failure is met again there, and said.  Raises UsageError."""
        penlogd = penlogd_of(name)
        if penlogd:
            self._known[name] = penlogd, []
            with contextlib.suppress(PenError):
                self._known[name] = penlogd, resolve(penlogd, socket.SOCK_DGRAM)

    def open(self, name: str, path: str) -> None:
        """Log to `name` from now on: HOST:PORT, or else the file at `path`.  On failure (PenError) nothing
        changes."""
        target: Target
        if name == self.name and isinstance(self._target, DatagramTarget):
            self._target.reopen()  # which keeps the address that it knows, if there is no other
            return
        known = self._known.pop(name, None)
        penlogd, places = known if known else (penlogd_of(name), [])
        if penlogd:
            target = DatagramTarget(penlogd, name, self._loop, self._lookups, self._reporter, places)
        else:
            target = FileTarget(name, path, self._loop, self._reporter)
        self.close()
        self.name, self._target = name, target

    def record(self, client: bytes, server: bytes, request: bytes) -> None:
        """Log one request."""
        if self._target:
            self._target.record(client, server, request)

    def reopen(self) -> None:
        """For HUP."""
        if self._target:
            self._target.reopen()

    def close(self) -> None:
        """Log nothing from now on."""
        if self._target:
            self._target.close()
        self.name, self._target = "", None


class FileTarget:
    """A file, appended to.  Records of one batch of events go in one write, at the end of the batch."""

    def __init__(self, name: str, path: str, loop: Loop, reporter: Reporter) -> None:
        """Raises PenError if the file can't be opened."""
        self._loop = loop
        self._file = LogFile(path, loop, reporter, name)
        self._lines: list[bytes] = []

    def record(self, client: bytes, server: bytes, request: bytes) -> None:
        if not self._lines:
            self._loop.later(self._flush)
        self._lines.append(records.file_line(client, int(clock.now()), server, request))

    def _flush(self) -> None:
        if self._lines:
            self._file.write(b"".join(self._lines))
            self._lines.clear()

    def reopen(self) -> None:
        self._flush()
        self._file.reopen()

    def close(self) -> None:
        self._flush()
        self._file.close()


class DatagramTarget:
    """A penlogd.  Records are sent at once, so that they are there before the web server's own line.

    UDP tells of a refusal late: the send after the one that was refused fails, and has sent nothing.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        loop: Loop,
        lookups: Lookups,
        reporter: Reporter,
        known: list[Place],
    ) -> None:
        """Send to `endpoint`, whose places need not be looked up if they are `known`."""
        self._endpoint = endpoint
        self._name = name
        self._loop = loop
        self._lookups = lookups
        self._reporter = reporter
        self._places: deque[Place] = deque()
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque(maxlen=BACKLOG_DATAGRAMS)
        self._failing = False
        self._lost = 0
        self._sure = False
        """Nothing was refused for DOUBT seconds."""
        self._sent_since = 0.0  # monotonic: where that is not so, since when there was no refusal
        self._unsure = 0
        """What was sent since then."""
        self._proven = False
        """Nothing was refused for as long where we send now, in the beginning."""
        self._looking_up = False
        self._retry: Timer | None = None
        self._closed = False
        if known:
            self._resolved(known)
        else:
            self.reopen()

    def reopen(self) -> None:
        if self._retry:
            self._retry.cancel()
        if not self._closed and not self._looking_up:
            self._looking_up = True
            self._lookups.lookup(self._endpoint, self._resolved, socket.SOCK_DGRAM)

    def _resolved(self, answer: Answer) -> None:
        self._looking_up = False
        if self._closed:
            return
        try:
            if not isinstance(answer, PenError):
                self._places = deque(answer)
            elif self._socket or not self._places:  # or else those may let us by now
                raise answer
            self._connect()
        except PenError as exc:
            if self._socket:
                self._reporter.warn(f"log {self._name}: {exc}; its old address stays")
            else:
                self._fail(str(exc))
                self._retry = self._loop.after(LOOKUP_RETRY, self.reopen)
            return
        while self._waiting:
            self._send(self._waiting.popleft())

    def _connect(self) -> None:
        """Have a socket to the first of the places that lets us.  Raises PenError; the old socket stays."""
        why = ""
        for place in list(self._places):
            try:
                sock = _connected(place)
            except OSError as exc:
                why = reason(exc)
                self._places.rotate(-1)
            else:
                if self._socket:
                    self._socket.close()
                self._socket = sock
                self._sure = self._proven = False
                self._unsure = 0
                return
        raise PenError(why)

    def record(self, client: bytes, server: bytes, request: bytes) -> None:
        datagram = records.datagram(client, server, request)
        if self._socket:
            self._send(datagram)
        else:
            if len(self._waiting) == BACKLOG_DATAGRAMS:
                self._lost += 1
                self._fail("its name is still being looked up, records are lost")
            self._waiting.append(datagram)

    def _send(self, datagram: bytes) -> None:
        """Send one datagram, to the next address of the name where the last one has failed; or lose it."""
        for _ in range(len(self._places) + 1):
            assert self._socket
            try:
                self._socket.send(datagram)
            except BlockingIOError as exc:
                self._doubt(reason(exc))
                break
            except OSError as exc:
                if isinstance(exc, ConnectionRefusedError):  # of what went before
                    self._lost += max(1, self._unsure)
                self._doubt(reason(exc))
                self._next_place()
            else:
                if not self._sure:
                    self._sent()
                return
        self._lost += 1

    def _next_place(self) -> None:
        """Go on with the next address of the name, unless there was a penlogd at this one: that comes back,
        and nobody else may."""
        if len(self._places) > 1 and not self._proven:
            self._places.rotate(-1)
            with contextlib.suppress(PenError):
                self._connect()

    def _doubt(self, why: str) -> None:
        """A send has failed."""
        self._fail(why)
        self._sure = False
        self._unsure = 0

    def _fail(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._reporter.warn(f"log {self._name}: {why}; traffic goes on")

    def _sent(self) -> None:
        """Sent without an error, which says little before some time has passed."""
        now = clock.monotonic()
        if not self._unsure:
            self._sent_since = now
        self._unsure += 1
        if now - self._sent_since < DOUBT:
            return
        self._sure = self._proven = True
        self._unsure = 0
        if self._failing:
            self._failing = False
            self._reporter.warn(f"log {self._name}: sent again, {self._lost} records lost")
            self._lost = 0

    def close(self) -> None:
        self._closed = True
        if self._retry:
            self._retry.cancel()
        if self._socket:
            self._socket.close()
            self._socket = None


def _connected(place: Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(place.sockaddr)
    except OSError:
        sock.close()
        raise
    return sock


class RequestTap:
    """Looks at what one client sends and logs its requests."""

    __slots__ = ("_client", "_finished", "_journal", "_lines", "_server")

    def __init__(self, journal: Journal, client: bytes, server: bytes) -> None:
        self._journal = journal
        self._client = client
        self._server = server
        self._lines = RequestLines()
        self._finished = False

    def feed(self, data: bytes) -> bytes:
        for request in self._lines.feed(data):
            self._journal.record(self._client, self._server, request)
        return data

    def answered(self) -> None:
        if self._finished:
            return
        for request in self._lines.answered():
            self._journal.record(self._client, self._server, request)

    def unseen(self) -> int:
        return self._lines.unseen() if self._lines.is_http else ALL

    def skip(self, size: int) -> None:
        self._lines.skip(size)

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            for request in self._lines.finish():
                self._journal.record(self._client, self._server, request)
