"""The logs that mergelogs reads, a chunk at a time: pen's into records, the servers' into lines.

Each knows how far in time it has been read.  Not here: how far it ought to be, which is for who reads several
side by side (mergelogs).
"""

import sys
from collections.abc import Callable

from penlib import address
from penlib.accesslog import canonical, epoch, match_line, utc
from penlib.inputs import Input
from penlib.records import FILE_LIMIT, split_file_line
from penlib.rounds import Entry, Server

SAMPLE = 9
"""Lines at the end of a chunk that tell how far a log has been read: one odd time must not count."""

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

    def read(self, servers: dict[bytes, Server | None]) -> int:
        """Take in some more; answers the number of lines.  Raises Unreadable."""
        lines = self.input.lines()
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
            if server := servers[name]:
                server.add(request[:FILE_LIMIT], (epoch - self._ahead, client))
        self.last = NEVER if self.input.done else _reached(self.last, times)
        return len(lines)


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
        self._jitter = jitter
        self._as_written = None if keep_zone else utc
        self._reject = reject

    def read(self) -> int:
        """Take in some more; answers the number of lines.  Raises Unreadable."""
        lines = self.input.lines()
        times = []
        for line in lines:
            match = match_line(line)
            when = match and epoch(match[2])
            if match is None or when is None:
                self._reject(line)
                continue
            own, time, request, referer, agent = match.groups(b"")
            if self._as_written and not time.endswith(b"+0000"):
                rest = line[len(own) : match.start(2)] + self._as_written(time) + line[match.end(2) :]
            else:
                rest = line[len(own) :]
            times.append(when)
            self._add(Entry(rest, when, own, canonical(request)[:FILE_LIMIT], referer, agent))
        self.last = NEVER if self.input.done else _reached(self.last, times)
        return len(lines)

    def _add(self, entry: Entry) -> None:
        when = entry.time
        if when > self.newest:
            self.newest = when
        elif when < self.newest - self._jitter:
            when = self.newest - self._jitter - 1
            self.late += 1
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
