"""What waits to be written: bytes that a side did not take at once, in memory or in its peer's pipe.

While something waits for a side its peer is not read (backpressure; memory is bounded by one chunk and one
pipe a direction), and its handler is `flush_and_read`.

Not here: what follows when writing fails, or when nothing waits any more and a side has ended (endings).
"""

import os

from penlib.balancer.endings import Endings
from penlib.balancer.pairs import NOBODY, Pairs, Side
from penlib.balancer.pipes import SPLICE_FLAGS, Pipes
from penlib.loop import ERROR, READ, WRITE


class Backlog:
    """All that waits."""

    def __init__(self, pairs: Pairs, endings: Endings, pipes: Pipes) -> None:
        self._pairs = pairs
        self._peer, self._sides, self._loop = pairs.peer, pairs.sides, pairs.loop
        self._endings = endings
        self._pipes = pipes
        pairs.flusher = self._flush_and_read

    def give(self, fd: int, data: bytes | memoryview) -> None:
        """Write `data` to a joined `fd` as if its peer had sent it.  A view is not kept: what it shows may
        change."""
        side = self._sides[fd]
        if side.out:
            side.out = memoryview(bytes(side.out) + data)
            return
        try:
            written = side.tls.write(data) if side.tls else os.write(fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self._endings.break_off(fd)
            return
        if written < len(data):
            kept = data if isinstance(data, bytes) else bytes(data)
            self.hold(self._peer[fd], fd, memoryview(kept)[written:])

    def drain(self, fd: int) -> bool:
        """Write to fd's peer what fd's pipe holds.  Answers whether all of it went."""
        side, to = self._sides[fd], self._peer[fd]
        pipe = side.pipe
        assert pipe
        try:
            pipe.held -= os.splice(pipe.readable, to, pipe.held, flags=SPLICE_FLAGS)
        except BlockingIOError:
            pass
        except OSError:
            self._endings.break_off(to)
            return False
        if pipe.held:
            return False
        side.pipe = None
        self._pipes.give(pipe)
        return True

    def hold(self, fd: int, to: int, data: memoryview | None) -> None:
        """`to` did not take all: `data` (or fd's pipe) waits, and `fd` is not read until it went."""
        self._loop.want(fd, self._loop.wanted(fd) & ~READ)
        self._sides[to].out = data
        self._loop.watch(to, self._loop.wanted(to) | WRITE, self._pairs.flusher)
        if self._sides[fd].broken:  # a reset side's last words: whoever does not take them is reset, too
            self._endings.expel(to, self._sides[to])

    def _flush_and_read(self, fd: int, mask: int) -> None:
        """Handler of a side to which something waits to be written."""
        if mask & (WRITE | ERROR) and not self._flush(fd):
            return
        side = self._sides[fd]
        if mask & READ and side.reader and self._loop.wanted(fd) & READ:
            side.reader(fd, mask)

    def _flush(self, fd: int) -> bool:
        """Write what waits for `fd`.  Answers whether `fd` still lives."""
        side = self._sides[fd]
        if side.out:
            try:
                written = side.tls.write(side.out) if side.tls else os.write(fd, side.out)
            except BlockingIOError:
                return True
            except OSError:
                self._endings.break_off(fd)
                return False
            side.out = side.out[written:] if written < len(side.out) else None
            if side.out:
                return True
        feeder = self._peer[fd]
        if self._sides[feeder].pipe and not self.drain(feeder):
            return self._sides[fd] is not NOBODY
        return self._flushed(fd, side, feeder)

    def _flushed(self, fd: int, side: Side, feeder: int) -> bool:
        """Nothing waits for `fd` any more: go on reading its peer, or pass on that the peer has ended."""
        if side.leaving:
            self._loop.want(fd, 0)
            self._endings.expel(fd, side)
            return False
        assert side.reader
        reads = side.tls and side.tls.stuck and not self._pairs.waiting(feeder)
        if side.tls:
            side.tls.stuck = False
        self._loop.watch(fd, self._loop.wanted(fd) & ~WRITE | (READ if reads else 0), side.reader)
        other = self._sides[feeder]
        if not other.ended and not side.broken and not other.paused:
            self._loop.want(feeder, self._loop.wanted(feeder) | READ)
        return self._endings.settle(fd)
