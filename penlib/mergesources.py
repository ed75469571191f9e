"""The logs that mergelogs reads, a chunk at a time: pen's into records, the servers' into lines.

Each knows how far in time it has been read.  Not here: how far it ought to be, which is for who reads several
side by side (mergelogs).
"""

import sys
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter

from penlib import address
from penlib.accesslog import epoch, split_lines, utc
from penlib.inputs import Input, Unreadable
from penlib.records import FILE_LIMIT, split_file_lines
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

    def __init__(self, name: str, ahead: int, servers: dict[bytes, Server | None]) -> None:
        """`ahead`: by how many seconds pen's clock is; `servers`: by the addresses that records may name, to
        which is added what they do name: None if it is of no interest."""
        self.input = Input(name)
        self.last = -NEVER
        self.bad = 0
        self._ahead = ahead
        self._servers = servers
        self._second = -NEVER
        self._in_second: list[tuple[bytes, ...]] = []

    def read(self) -> int:
        """Take in some more; answers the number of lines.  Raises Unreadable."""
        try:
            lines = split_file_lines(self.input.text())
        except Unreadable:
            self._end_second()
            raise
        times: list[int] = []
        for second, some in groupby(lines, itemgetter(1)):
            records = list(some)
            if not second:
                self.bad += sum(bool(line.rstrip(b"\r")) for *_, line in records)
                continue
            when = int(second) - self._ahead
            if when != self._second:
                self._end_second()
                self._second = when
            self._in_second += records
            times += [when] * len(records)
        if self.input.done:
            self._end_second()
        self.last = NEVER if self.input.done else _reached(self.last, times)
        return len(lines)

    def _end_second(self) -> None:
        """All records of a second are there.  They are taken to be spread evenly over it, which tells more of
        their distance than the second alone."""
        when, count = self._second, len(self._in_second)
        for at, (client, _, name, request, _) in enumerate(self._in_second):
            try:
                server = self._servers[name]
            except KeyError:
                server = self._servers[name] = self._servers.get(server_key(name.decode("ascii")))
            if server:
                server.add(request[:FILE_LIMIT], (when, client, when + (at + 0.5) / count))
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
            lines = split_lines(self.input.text())
        except Unreadable:
            self._end_second()
            raise
        times: list[int] = []
        for time, some in groupby(lines, itemgetter(2)):
            when = epoch(time)
            if when is None:
                for own, rest, *_, line in some:
                    self._reject(own + rest or line)
                continue
            entries = [
                Entry(rest, when, own, request[:FILE_LIMIT], referer, agent)
                for own, rest, _, request, referer, agent, _ in some
            ]
            if not self._keep_zone and (written := utc(time)) != time:
                for entry in entries:
                    entry.rest = entry.rest.replace(b'[%b] "' % time, b'[%b] "' % written, 1)
            self._add(when, entries)
            times += [when] * len(entries)
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

    def _add(self, when: int, entries: list[Entry]) -> None:
        """The next lines, which all name this second."""
        if when > self.newest:
            self._end_second()
            self.newest = when
        elif when < self.newest - self._jitter:
            when = self.newest - self._jitter - 1
            self.late += len(entries)
        self._in_second += entries
        if len(self._in_second) > MOST_IN_SECOND:
            self._end_second()
        self._fresh += entries
        if when in self.seconds:
            self.seconds[when] += entries
        else:
            self.seconds[when] = entries

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
