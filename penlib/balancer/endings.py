"""How a pair ends: an end is passed on as a shutdown, a reset as a reset; both sides are closed together.

A reset destroys what is in the send queue, so the peer of a side that was reset is given time to take that
first.  A side that can no longer be written to may still have something to say (a server that refuses an
upload answers before it closes): that is read and delivered before the pair is closed.

Not here: what waits to be written (backlog).
"""

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable

from penlib.balancer.pairs import CHUNK, Channel, Pairs, Side
from penlib.balancer.pipes import Pipe
from penlib.loop import READ, WRITE

SIOCOUTQ = 0x5411
"""ioctl, tcp(7): bytes in the send queue that the peer has not acknowledged."""

RESET_LOOKS = (0.01, 0.05, 0.2, 1.0)
"""Seconds between looks at what the peer of a reset side has still to take; the last one repeats, and who has
taken nothing since the last one is reset."""

DISCARD_READS = 64
"""Chunks of unwanted input that are read away before a close: one who sends faster gets the reset."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER, socket(7): with a linger time of 0 close sends a reset."""


class Endings:
    """Ends pairs.  `fastclose` answers for a side that has ended whether that ends the pair."""

    def __init__(self, pairs: Pairs, fastclose: Callable[[int], bool]) -> None:
        self._fastclose = fastclose
        self._pairs = pairs
        self._peer, self._sides, self._loop = pairs.peer, pairs.sides, pairs.loop

    def end(self, fd: int) -> None:
        """`fd` has sent its last byte."""
        side = self._sides[fd]
        if side.broken:  # it was a reset, met first when writing
            self.reset(fd)
            return
        side.ended = True
        if side.tap:
            side.tap.finish()
        if self.settle(fd):
            self._loop.want(fd, self._loop.wanted(fd) & ~READ)

    def settle(self, fd: int) -> bool:
        """Close the pair if it is over, else pass ends on.  Answers whether it lives.

        It is over when nothing waits, and both have ended or one is enough.
        """
        to = self._peer[fd]
        side, other = self._sides[fd], self._sides[to]
        idle, other_idle = not (side.out or other.pipe), not (other.out or side.pipe)
        if idle and other_idle and self._is_enough(fd, side, to, other):
            if side.tls:
                self._shut(fd)
            if other.tls:
                self._shut(to)
            if side.out or other.out:
                return True  # the last word of TLS has still to go
            self.close(fd)
            return False
        if side.ended and other_idle:
            self._shut(to)
        if other.ended and idle:
            self._shut(fd)
        return True

    def _is_enough(self, fd: int, side: Side, to: int, other: Side) -> bool:
        if side.ended and other.ended:
            return True
        return (side.ended and self._fastclose(fd)) or (other.ended and self._fastclose(to))

    def _shut(self, fd: int) -> None:
        """Tell `fd` that its peer has ended."""
        side = self._sides[fd]
        if side.shut or (side.tls and not self._say_end(fd, side, side.tls)):
            return
        side.shut = True
        try:  # `suppress` would cost as much as a wait for events, with every connection
            self._pairs.sock(fd).shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone altogether: that is met when reading

    def _say_end(self, fd: int, side: Side, tls: Channel) -> bool:
        """End TLS towards `fd`.  Answers whether that is said; else it waits to be written, like data."""
        word = tls.end()
        try:
            written = os.write(fd, word) if word else 0
        except BlockingIOError:
            written = 0
        except OSError:
            return True
        if written == len(word):
            return True
        side.out = memoryview(word)[written:]
        self._loop.watch(fd, self._loop.wanted(fd) | WRITE, self._pairs.flusher)
        return False

    def break_off(self, fd: int) -> None:
        """Writing to `fd` failed: it was reset.  What it sent before that is still read and passed on."""
        side, other = self._sides[fd], self._peer[fd]
        side.broken = True
        self._drop_waiting(fd)
        self._loop.want(other, self._loop.wanted(other) & ~READ)
        if side.ended or side.leaving:
            self.reset(fd)
            return
        assert side.reader
        if self._pairs.waiting(other):
            self._loop.watch(fd, 0, side.reader)
            self.expel(other, self._sides[other])
        else:
            self._loop.watch(fd, READ, side.reader)

    def part(self, fd: int) -> bytes:
        """Close a joined `fd`, whose peer stays open and is no longer ours to read and write.  Answers what
        waited to be written to the peer; what waited for `fd` is lost."""
        side, to = self._sides[fd], self._peer[fd]
        other = self._sides[to]
        waiting = bytes(other.out or b"") + bytes((side.pipe and _contents(side.pipe)) or b"")
        self._drop_waiting(fd)
        side.pipe = other.out = other.owner = None
        self._pairs.close_one(fd)
        self._peer[to] = -1
        self._loop.want(to, 0)
        return waiting

    def _drop_waiting(self, fd: int) -> None:
        self._sides[fd].out = None
        feeder = self._sides[self._peer[fd]]
        if feeder.pipe:
            feeder.pipe.close()
            feeder.pipe = None

    def reset(self, fd: int) -> None:
        """`fd` was reset: reset its peer, too, as soon as that has got all that was sent to it.

        Until then `fd` stays open: the owner counts by its number, which nobody else must be given before.
        """
        side, to = self._sides[fd], self._peer[fd]
        if side.leaving:
            self._pairs.close_both(fd)
            return
        other = self._sides[to]
        side.leaving = other.leaving = True
        if side.tap:
            side.tap.finish()
        self._drop_waiting(fd)
        self._loop.watch(fd, 0, _deaf)
        with contextlib.suppress(OSError):  # a reset socket is closed already, one that broke TLS is not
            self._pairs.sock(fd).shutdown(socket.SHUT_RDWR)
        if self._pairs.waiting(to):
            self._loop.watch(to, WRITE, self._pairs.flusher)
        else:
            self._loop.watch(to, 0, _deaf)
        self.expel(to, other)

    def expel(self, fd: int, side: Side, look: int = 0, before: int = 0) -> None:
        """Reset `fd`, whose peer was reset, once it has taken what was sent to it: a reset destroys what is
        in the send queue.  `before` is what was left at the last look."""
        if self._sides[fd] is not side:
            return  # closed meanwhile, and the number may be somebody else's
        left = self._pairs.waiting(fd) + (0 if side.family == socket.AF_UNIX else _unsent(fd))
        if left and (look < len(RESET_LOOKS) or left < before):
            pause = RESET_LOOKS[min(look, len(RESET_LOOKS) - 1)]
            self._loop.after(pause, lambda: self.expel(fd, side, look + 1, left))
            return
        if side.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                self._pairs.sock(fd).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._pairs.close_both(fd)

    def close(self, fd: int) -> None:
        """Close the pair of `fd`, or `fd` alone if it is not joined, whatever still waits."""
        to = self._peer[fd]
        if to >= 0:
            self._take_leave(to)
        self._take_leave(fd)
        self._pairs.close_both(fd)

    def _take_leave(self, fd: int) -> None:
        """What is due before `fd` is closed."""
        side = self._sides[fd]
        if side.tls and not side.out:
            self._shut(fd)
        if not side.ended:
            _discard_input(fd)
        if side.tap:
            side.tap.finish()


def _deaf(fd: int, mask: int) -> None:
    """Handler of a side that is not read again, for an event that the present batch may still have: who wrote
    to its peer, or read it, would take the reset for another one, and close without waiting."""


def _unsent(fd: int) -> int:
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, SIOCOUTQ, b"\0\0\0\0"))[0])
    except OSError:
        return 0


def _contents(pipe: Pipe) -> memoryview | None:
    """Take what is in a pipe into memory: its feeder is about to be closed."""
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < pipe.held:
            data += os.read(pipe.readable, pipe.held - len(data))
    pipe.close()
    return memoryview(data) if data else None


def _discard_input(fd: int) -> None:
    """Read what is there: closing with unread input sends a reset, which destroys what is on its way out."""
    with contextlib.suppress(OSError):
        for _ in range(DISCARD_READS):
            if len(os.read(fd, CHUNK)) < CHUNK:
                return
