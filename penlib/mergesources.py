"""The logs that mergelogs reads, a chunk at a time: pen's into records, the servers' into lines.

Each knows how far in time it has been read.  Not here: how far it ought to be, which is for who reads several
side by side (mergelogs).
"""

import sys
from collections.abc import Callable

from penlib import address
from penlib.accesslog import canonical, epoch, match_line, match_simple, utc
from penlib.inputs import Input, Unreadable
from penlib.records import FILE_LIMIT, split_file_line
from penlib.rounds import Entry, Server

SAMPLE = 9
"""Lines at the end of a chunk that tell how far a log has been read: one odd time must not count."""

MOST_IN_SECOND = 20_000
"""Lines of one second: more, and the time that they seem to wait for is a mistake."""

NEVER = sys.maxsize
"""A time after all others."""


def server_key(text: str) -> bytes:
    """The form in which a server's name is looked up: addresses in their shortest form, IPv4 as such."""
    shortest = address.unpack(address.pack(text)) if address.is_numeric(text) else text
    return shortest.encode("utf-8", "surrogateescape")


class PenLog:
    """One log of pen, read into the servers' records."""

    def __init__(self, name: str, ahead: int) -> None:
        self.input = Input(name)
        self.last = -NEVER
        self.bad = 0
        self._ahead = ahead
        self._second = -NEVER
        self._in_second: list[tuple[Server | None, bytes, bytes]] = []

    def read(self, servers: dict[bytes, Server | None]) -> int:
        """Take in some more; answers the number of lines.  Raises Unreadable."""
        try:
            lines = self.input.lines()
        except Unreadable:
            self._end_second()
            raise
        times = []
        for line in lines:
            record = split_file_line(line)
            if record is None:
                self.bad += bool(line.rstrip(b"\r"))
                continue
            client, epoch, name, request = record
            times.append(epoch - self._ahead)
            if name not in servers:
                servers[name] = servers.get(server_key(name.decode("ascii")))
            if epoch != self._second:
                self._end_second()
                self._second = epoch
            self._in_second.append((servers[name], request[:FILE_LIMIT], client))
        if self.input.done:
            self._end_second()
        self.last = NEVER if self.input.done else _reached(self.last, times)
        return len(lines)

    def _end_second(self) -> None:
        """All records of a second are there.  They are taken to be spread evenly over it, which tells more of
        their distance than the second alone."""
        epoch, count = self._second - self._ahead, len(self._in_second)
        for at, (server, request, client) in enumerate(self._in_second):
            if server:
                server.add(request, (epoch, client, epoch + (at + 0.5) / count))
        self._in_second.clear()


class AccessLog:
    """One access log: lines by the second in which they are to be written, and those not yet matched."""

    def __init__(
        self, server: Server, name: str, jitter: int, keep_zone: bool, reject: Callable[[bytes], None]
    ) -> None:
        """`jitter`: seconds by which lines may be out of order; `reject` gets what is no line."""
        self.input = Input(name)
        self.server = server
        self.last = -NEVER
        self.newest = -NEVER
        self.late = 0
        self.seconds: dict[int, list[Entry]] = {}
        self._fresh: list[Entry] = []
        self._in_second: list[Entry] = []
        self._jitter = jitter
        self._keep_zone = keep_zone
        self._reject = reject

    def read(self) -> int:
        """Take in some more; answers the number of lines.  Raises Unreadable."""
        try:
            lines = self.input.lines()
        except Unreadable:
            self._end_second()
            raise
        times: list[int] = []
        add, same, when, as_is = self._add, b"", None, True
        for line in lines:
            simple = match_simple(line)
            match = simple or match_line(line)
            if match is None:
                self._reject(line)
                continue
            own, time, request, referer, agent = match.groups(b"")
            if time != same:  # most often it is
                same, when = time, epoch(time)
                as_is = self._keep_zone or time.endswith(b"+0000")
            if when is None:
                self._reject(line)
                continue
            if as_is:
                rest = line[len(own) :]
            else:
                rest = line[len(own) : match.start(2)] + utc(time) + line[match.end(2) :]
            if simple is None:
                request = canonical(request)
            times.append(when)
            add(Entry(rest, when, own, request[:FILE_LIMIT], referer, agent))
        if self.input.done:
            self._end_second()
        self.last = NEVER if self.input.done else _reached(self.last, times)
        return len(lines)

    def _end_second(self) -> None:
        """All lines written in a second are there, whatever times they name: spread evenly over it, too."""
        count = len(self._in_second)
        for at, entry in enumerate(self._in_second):
            entry.done = self.newest + (at + 0.5) / count
        self._in_second.clear()

    def _add(self, entry: Entry) -> None:
        when = entry.time
        if when > self.newest:
            self._end_second()
            self.newest = when
        elif when < self.newest - self._jitter:
            when = self.newest - self._jitter - 1
            self.late += 1
        self._in_second.append(entry)
        if len(self._in_second) > MOST_IN_SECOND:
            self._end_second()
        self._fresh.append(entry)
        if when in self.seconds:
            self.seconds[when].append(entry)
        else:
            self.seconds[when] = [entry]

    def take_fresh(self, until: int) -> list[Entry]:
        """The lines up to that time that have not been taken yet."""
        fresh, self._fresh = self._fresh, []
        taken: list[Entry] = []
        for entry in fresh:
            (taken if entry.time <= until else self._fresh).append(entry)
        return taken


def _reached(before: int, times: list[int]) -> int:
    """How far a log that ends with these times, until now, has been read; never less than before."""
    last = sorted(times[-SAMPLE:])
    return max(before, last[len(last) // 2]) if last else before
