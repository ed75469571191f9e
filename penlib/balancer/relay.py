"""The data path: bytes from one descriptor to its peer, both ways, until both have ended.

The hot part is `copy` in `Relay.__init__`: read, write, count.  What it needs lives in two lists indexed by
descriptor, `peer` and `moved`; everything else about a side is in its `Side` and is looked at only when
something out of the ordinary happens: a short write, an end, an error, bulk data.

What always holds for a joined pair A, B:
  - A is read only while nothing waits to be written to B (backpressure; memory is bounded by one chunk and
    one pipe a direction).
  - The loop's handler of A is A's `reader`, unless something waits to be written to A: then `_both`.
  - A's end is passed on to B as a shutdown once B has all that A sent; a reset as a reset, likewise.
  - Descriptors are closed here, both or (after a reset) one after the other, and the owner told once.

Not here: who is joined with whom (tcp), what the bytes mean (taps: most of them look only).
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
from _socket import socket as RawSocket
from collections.abc import Callable
from typing import Protocol

from penlib.balancer.pipes import Pipe, Pipes
from penlib.loop import ERROR, READ, WRITE, Handler, Loop

ALL = sys.maxsize
"""No limit, in `Tap.unseen`."""

CHUNK = 64 * 1024
"""Bytes read at once.  Over 128 KiB malloc would map memory for every small message."""

RECORD = 16 * 1024
"""The most that one TLS record holds, RFC 8446 section 5.1."""

BULK_LEAST = 16 * 1024
"""A splice that moves less than this was not worth it: back to plain copies."""

SPLICE_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)
NO_SPLICE = {errno.EINVAL, errno.ENOMEM, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of splice that say nothing about the socket: plain copies will do."""

SIOCOUTQ = 0x5411
"""ioctl, tcp(7): bytes in the send queue that the peer has not acknowledged."""

RESET_LOOKS = (0.01, 0.05, 0.2, 1.0)
"""Seconds between looks at what the peer of a reset side has still to take; the last one repeats, and who has
taken nothing since the last one is reset."""

DISCARD_READS = 64
"""Chunks of unwanted input that are read away before a close: one who sends faster gets the reset."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER, socket(7): with a linger time of 0 close sends a reset."""


class Tap(Protocol):
    """Something that looks at what a side sends, and may change it."""

    def feed(self, data: bytes) -> bytes:
        """Called with each chunk; answers what is passed on, which may be nothing yet."""

    def answered(self) -> None:
        """Called when the other side sends for the first time, just before that is passed on."""

    def unseen(self) -> int:
        """How many of the bytes that come next may pass without being fed, when there are many: ALL if it
        looks no longer once one of the directions moves bulk data."""

    def skip(self, size: int) -> None:
        """So many of those have passed."""

    def finish(self) -> None:
        """The side has ended."""


class Channel(Protocol):
    """TLS over a descriptor, which is then read and written through this."""

    sock: RawSocket
    """Owns the descriptor."""
    stuck: bool
    """The last read raised BlockingIOError because something must be written first; who has waited for that
    sets it to False."""

    def read(self) -> bytes:
        """As os.read; at most RECORD bytes, and nothing that could be read is left inside."""

    def write(self, data: bytes | memoryview) -> int:
        """As os.write; what it did not take must come again first."""

    def end(self) -> bytes:
        """What tells the other side that nothing more comes; `write` then passes bytes as they are."""


class Owner(Protocol):
    """Who joined a pair."""

    def ended(self) -> None:
        """Both descriptors are closed."""


class Side:
    """What is known of one descriptor beyond the hot lists."""

    __slots__ = (
        "broken",
        "ended",
        "family",
        "orphan",
        "out",
        "owner",
        "paused",
        "pipe",
        "reader",
        "shut",
        "sock",
        "tap",
        "tls",
    )

    def __init__(self, family: int, sock: RawSocket | None) -> None:
        self.family = family
        self.sock = sock
        self.tls: Channel | None = None
        self.owner: Owner | None = None
        self.reader: Handler | None = None
        self.tap: Tap | None = None
        self.out: memoryview | None = None
        """What waits to be written to it."""
        self.pipe: Pipe | None = None
        """What was read from it in bulk and waits to be written to its peer."""
        self.ended = False
        """It has sent its last byte, and that was read."""
        self.shut = False
        """It was told that its peer has ended."""
        self.broken = False
        """Nothing can be written to it any more: it was reset."""
        self.orphan = False
        """Its peer was reset and is closed."""
        self.paused = False
        """Its tap does not want more just now."""


NOBODY = Side(socket.AF_UNSPEC, None)
"""The side of a descriptor that is not ours."""


class Relay:
    """All pairs of one loop.  `fastclose` answers for a side that has ended whether that ends the pair."""

    def __init__(self, loop: Loop) -> None:
        self.peer: list[int] = []
        self.moved: list[int] = []
        """Bytes read from each descriptor."""
        self.fastclose: Callable[[int], bool] = lambda fd: False
        self.pipes = Pipes()
        self._loop = loop
        self._sides: list[Side] = []
        self._copy = self._make_copy()

    def _make_copy(self) -> Handler:
        """The hot function, as a closure: its names are found without looking into any object."""
        read, write, peer, moved = os.read, os.write, self.peer, self.moved

        def copy(fd: int, mask: int) -> None:
            try:
                data = read(fd, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self._reset(fd)
                return
            if not data:
                self._end(fd)
                return
            to = peer[fd]
            size = len(data)
            moved[fd] += size
            try:
                written = write(to, data)
            except BlockingIOError:
                written = 0
            except OSError:
                self._break(to)
                return
            if written < size:
                self._hold(fd, to, memoryview(data)[written:])
            elif size == CHUNK:
                self._go_bulk(fd)

        return copy

    # Beginning

    def add(self, fd: int, family: int, sock: RawSocket | None = None) -> None:
        """Take charge of a connected or connecting descriptor; `sock`, if there is one, owns it."""
        if fd >= len(self.peer):
            room = 2 * fd + 64 - len(self.peer)
            self.peer += [-1] * room
            self.moved += [0] * room
            self._sides += [NOBODY] * room
        self.peer[fd] = -1
        self.moved[fd] = 0
        self._sides[fd] = Side(family, sock)

    def secure(self, fd: int, channel: Channel) -> None:
        """From now on read and write `fd`, which is not joined yet, through TLS."""
        side = self._sides[fd]
        if side.sock:
            side.sock.detach()
        side.tls, side.sock = channel, channel.sock

    def read(self, fd: int) -> bytes:
        """What has come from `fd`; empty at its end.  Raises BlockingIOError, OSError."""
        tls = self._sides[fd].tls
        return tls.read() if tls else os.read(fd, CHUNK)

    def write(self, fd: int, data: bytes) -> int:
        """Write some of `data` to `fd`; answers how much.  Raises BlockingIOError, OSError."""
        tls = self._sides[fd].tls
        return tls.write(data) if tls else os.write(fd, data)

    def hang_up(self, fd: int) -> None:
        """Tell an `fd` that is not joined that nothing more comes."""
        side = self._sides[fd]
        with contextlib.suppress(OSError):
            if side.tls:
                os.write(fd, side.tls.end())
            RawSocket.shutdown(self.sock(fd), socket.SHUT_WR)

    def join(self, a: int, b: int, owner: Owner, taps: tuple[Tap | None, Tap | None] = (None, None)) -> None:
        """Relay between `a` and `b`, looked at by `taps`, until both have ended or `close`."""
        self._read_from(a, b, owner, *taps)
        self._read_from(b, a, owner, taps[1], taps[0])

    def _read_from(self, fd: int, to: int, owner: Owner, tap: Tap | None, other: Tap | None) -> None:
        self.peer[fd] = to
        side = self._sides[fd]
        side.owner = owner
        side.tap = tap
        side.reader = reader = self._copy_first if other else self._reader(fd)
        self._loop.watch(fd, READ, reader)

    def give(self, fd: int, data: bytes) -> None:
        """Write `data` to a joined `fd` as if its peer had sent it."""
        side = self._sides[fd]
        if side.out:
            side.out = memoryview(bytes(side.out) + data)
            return
        try:
            written = side.tls.write(data) if side.tls else os.write(fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self._break(fd)
            return
        if written < len(data):
            self._hold(self.peer[fd], fd, memoryview(data)[written:])

    def tap(self, fd: int, tap: Tap | None) -> None:
        """Have a joined `fd` looked at by another tap, or by none, from the next read on."""
        self._sides[fd].tap = tap
        self._read_with(fd, self._reader(fd))

    def pause(self, fd: int) -> None:
        """Read no more of a joined `fd` until `resume`."""
        self._sides[fd].paused = True
        self._loop.want(fd, self._loop.wanted(fd) & ~READ)

    def resume(self, fd: int) -> None:
        """Read a paused `fd` again, as soon as its peer takes it."""
        side = self._sides[fd]
        side.paused = False
        if not side.ended and not self.waiting(self.peer[fd]):
            self._loop.want(fd, self._loop.wanted(fd) | READ)

    def end(self, fd: int) -> None:
        """As if a joined `fd` had sent its last byte: it is not read again."""
        self._end(fd)

    def is_joined(self, fd: int, owner: Owner) -> bool:
        """Whether `fd` is one of the pair that `owner` joined, and open."""
        return self._sides[fd].owner is owner

    def part(self, fd: int) -> bytes:
        """Close a joined `fd`, whose peer stays open and is no longer ours to read and write.  Answers what
        waited to be written to the peer; what waited for `fd` is lost."""
        side, to = self._sides[fd], self.peer[fd]
        other = self._sides[to]
        waiting = bytes(other.out or b"") + bytes((side.pipe and _contents(side.pipe)) or b"")
        self._drop_waiting(fd)
        side.pipe = other.out = other.owner = None
        self._close_one(fd)
        self.peer[to] = -1
        self._loop.want(to, 0)
        return waiting

    def waiting(self, fd: int) -> int:
        """Bytes that wait to be written to `fd`."""
        side = self._sides[fd] if 0 <= fd < len(self._sides) else NOBODY
        if side is NOBODY:
            return 0
        feeder = self._sides[self.peer[fd]] if self.peer[fd] >= 0 else None
        return (len(side.out) if side.out else 0) + (feeder.pipe.held if feeder and feeder.pipe else 0)

    # Reading

    def _copy_first(self, fd: int, mask: int) -> None:
        """As the reader that follows it, for the first time that a side sends whose peer is looked at."""
        other = self._sides[self.peer[fd]].tap
        if other:
            other.answered()
        reader = self._reader(fd)
        self._read_with(fd, reader)
        reader(fd, mask)

    def _reader(self, fd: int) -> Handler:
        return self._copy_tapped if self._sides[fd].tap or self._is_secure(fd) else self._copy

    def _is_secure(self, fd: int) -> bool:
        """Whether what `fd` sends must be encrypted or decrypted."""
        return bool(self._sides[fd].tls or self._sides[self.peer[fd]].tls)

    def _copy_tapped(self, fd: int, mask: int) -> None:
        """As `copy`, for a side that is looked at, never spliced as long as the tap wants the bytes; and for
        TLS, which never is."""
        side = self._sides[fd]
        tls = side.tls
        try:
            data = tls.read() if tls else os.read(fd, CHUNK)
        except BlockingIOError:
            if tls and tls.stuck:
                self._loop.watch(fd, WRITE, self._both)
            return
        except OSError:
            self._reset(fd)
            return
        if not data:
            self._end(fd)
            return
        size = len(data)
        self.moved[fd] += size
        if side.tap:
            data = side.tap.feed(data)
        if data:
            self.give(self.peer[fd], data)
        if size == (RECORD if tls else CHUNK) and self._sides[fd] is side and not side.broken:
            self._go_bulk_tapped(fd)

    def _go_bulk(self, fd: int) -> None:
        """A read came back full: from now on `fd` is spliced, as long as that pays."""
        if SPLICE_FLAGS:
            self._read_with(fd, self._splice)
        tap = self._sides[self.peer[fd]].tap
        if tap and tap.unseen() == ALL:
            self._untap(self.peer[fd])

    def _go_bulk_tapped(self, fd: int) -> None:
        """As `_go_bulk`, as far as the tap of `fd` lets it."""
        tap = self._sides[fd].tap
        unseen = tap.unseen() if tap else 0
        if unseen == ALL:
            self._untap(fd)
        elif self._is_secure(fd):
            other = self._sides[self.peer[fd]].tap
            if other and other.unseen() == ALL:
                self._untap(self.peer[fd])
        elif unseen >= BULK_LEAST and SPLICE_FLAGS:
            self._read_with(fd, self._splice_unseen)

    def _untap(self, fd: int) -> None:
        side = self._sides[fd]
        if side.tap:
            side.tap.finish()
        side.tap = None
        self._read_with(fd, self._reader(fd))

    def _read_with(self, fd: int, reader: Handler) -> None:
        """Change how `fd` is read, from the next time on."""
        side = self._sides[fd]
        side.reader = reader
        if self._loop.handlers[fd] != self._both:
            self._loop.handlers[fd] = reader

    def _splice(self, fd: int, mask: int, most: int = ALL) -> None:
        """Move what there is, up to `most` bytes, through a pipe, without looking at it."""
        pipe = self.pipes.take()
        if pipe is None:
            self._reader(fd)(fd, mask)
            return
        try:
            size = os.splice(fd, pipe.writable, min(pipe.size, most), flags=SPLICE_FLAGS)
        except BlockingIOError:
            self.pipes.give(pipe)
            return
        except OSError as exc:
            pipe.close()
            if exc.errno in NO_SPLICE:
                self._read_with(fd, self._reader(fd))
            else:
                self._reset(fd)  # the socket tells it once: a read would find an ordinary end
            return
        if not size:
            self.pipes.give(pipe)
            self._end(fd)
            return
        self.moved[fd] += size
        pipe.held = size
        side = self._sides[fd]
        side.pipe = pipe
        if side.tap:
            side.tap.skip(size)
        if self._drain(fd) and size < BULK_LEAST:
            self._read_with(fd, self._reader(fd))

    def _splice_unseen(self, fd: int, mask: int) -> None:
        """As `_splice`, for a side that is looked at, while its tap need not see what comes."""
        tap = self._sides[fd].tap
        unseen = tap.unseen() if tap else 0
        if unseen:
            self._splice(fd, mask, unseen)
        else:
            reader = self._reader(fd)
            self._read_with(fd, reader)
            reader(fd, mask)

    def _drain(self, fd: int) -> bool:
        """Write to fd's peer what fd's pipe holds.  Answers whether all of it went."""
        side, to = self._sides[fd], self.peer[fd]
        pipe = side.pipe
        assert pipe
        try:
            pipe.held -= os.splice(pipe.readable, to, pipe.held, flags=SPLICE_FLAGS)
        except BlockingIOError:
            pass
        except OSError:
            self._break(to)
            return False
        if pipe.held:
            self._hold(fd, to, None)
            return False
        side.pipe = None
        self.pipes.give(pipe)
        return True

    # Writing later

    def _hold(self, fd: int, to: int, data: memoryview | None) -> None:
        """`to` did not take all: `data` (or fd's pipe) waits, and `fd` is not read until it went."""
        self._loop.want(fd, self._loop.wanted(fd) & ~READ)
        self._sides[to].out = data
        self._loop.watch(to, self._loop.wanted(to) | WRITE, self._both)
        if self._sides[fd].broken:  # a reset side's last words: whoever does not take them is reset, too
            self._expel(to, self._sides[to])

    def _both(self, fd: int, mask: int) -> None:
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
                self._break(fd)
                return False
            side.out = side.out[written:] if written < len(side.out) else None
            if side.out:
                return True
        feeder = self.peer[fd]
        if feeder >= 0 and self._sides[feeder].pipe and not self._drain(feeder):
            return self._sides[fd] is not NOBODY
        return self._flushed(fd, side, feeder)

    def _flushed(self, fd: int, side: Side, feeder: int) -> bool:
        """Nothing waits for `fd` any more: go on reading its peer, or pass on that the peer has ended."""
        if side.orphan:
            self._loop.want(fd, 0)
            self._expel(fd, side)
            return False
        assert side.reader
        stuck = side.tls and side.tls.stuck
        if side.tls:
            side.tls.stuck = False
        self._loop.watch(fd, self._loop.wanted(fd) & ~WRITE | (READ if stuck else 0), side.reader)
        other = self._sides[feeder]
        if not other.ended and not side.broken and not other.paused:
            self._loop.want(feeder, self._loop.wanted(feeder) | READ)
        return self._settle(fd)

    # Ending

    def _end(self, fd: int) -> None:
        """`fd` has sent its last byte."""
        side = self._sides[fd]
        if side.broken:  # it was a reset, met first when writing
            self._reset(fd)
            return
        side.ended = True
        if side.tap:
            side.tap.finish()
        if self._settle(fd):
            self._loop.want(fd, self._loop.wanted(fd) & ~READ)

    def _settle(self, fd: int) -> bool:
        """Close the pair if it is over, else pass ends on.  Answers whether it lives.

        It is over when nothing waits, and both have ended or one is enough.
        """
        to = self.peer[fd]
        side, other = self._sides[fd], self._sides[to]
        idle, other_idle = not (side.out or other.pipe), not (other.out or side.pipe)
        if (
            idle
            and other_idle
            and ((side.ended and (other.ended or self.fastclose(fd))) or (other.ended and self.fastclose(to)))
        ):
            for one in (fd, to):
                if self._sides[one].tls:
                    self._shut(one)
            if side.out or other.out:
                return True  # the last word of TLS has still to go
            self.close(fd)
            return False
        if side.ended and other_idle:
            self._shut(to)
        if other.ended and idle:
            self._shut(fd)
        return True

    def _shut(self, fd: int) -> None:
        """Tell `fd` that its peer has ended."""
        side = self._sides[fd]
        if side.shut or (side.tls and not self._say_end(fd, side, side.tls)):
            return
        side.shut = True
        with contextlib.suppress(OSError):  # it is gone altogether: that is met when reading
            RawSocket.shutdown(self.sock(fd), socket.SHUT_WR)

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
        self._loop.watch(fd, self._loop.wanted(fd) | WRITE, self._both)
        return False

    def _break(self, fd: int) -> None:
        """Writing to `fd` failed: it was reset.  What it sent before that is still read and passed on."""
        side, other = self._sides[fd], self.peer[fd]
        side.broken = True
        self._drop_waiting(fd)
        if other >= 0:
            self._loop.want(other, self._loop.wanted(other) & ~READ)
        if side.ended or side.orphan:
            self._reset(fd)
            return
        assert side.reader
        if self.waiting(other):
            self._loop.watch(fd, 0, side.reader)
            self._expel(other, self._sides[other])
        else:
            self._loop.watch(fd, READ, side.reader)

    def _drop_waiting(self, fd: int) -> None:
        self._sides[fd].out = None
        feeder = self._sides[self.peer[fd]] if self.peer[fd] >= 0 else None
        if feeder and feeder.pipe:
            feeder.pipe.close()
            feeder.pipe = None

    def _reset(self, fd: int) -> None:
        """`fd` was reset: close it, and reset its peer as soon as that has got all that was sent to it."""
        side, to = self._sides[fd], self.peer[fd]
        if side.orphan or to < 0:
            self._close_one(fd)
            self._tell(side)
            return
        if side.tap:
            side.tap.finish()
        other = self._sides[to]
        other.orphan = True
        if side.pipe:
            other.out = _contents(side.pipe)
            side.pipe = None
        if other.pipe:
            other.pipe.close()
            other.pipe = None
        self._close_one(fd)
        self.peer[to] = -1
        if other.out:
            self._loop.watch(to, WRITE, self._both)
        else:
            self._loop.want(to, 0)
        self._expel(to, other)

    def _expel(self, fd: int, side: Side, look: int = 0, before: int = 0) -> None:
        """Reset `fd`, whose peer was reset, once it has taken what was sent to it: a reset destroys what is
        in the send queue.  `before` is what was left at the last look."""
        if self._sides[fd] is not side:
            return  # closed meanwhile, and the number may be somebody else's
        left = self.waiting(fd) + (0 if side.family == socket.AF_UNIX else _unsent(fd))
        if left and (look < len(RESET_LOOKS) or left < before):
            pause = RESET_LOOKS[min(look, len(RESET_LOOKS) - 1)]
            self._loop.after(pause, lambda: self._expel(fd, side, look + 1, left))
            return
        if self.peer[fd] >= 0:
            self._close_one(self.peer[fd])
        if side.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                self.sock(fd).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._close_one(fd)
        self._tell(side)

    def close(self, fd: int) -> None:
        """Close the pair of `fd`, or `fd` alone if it is not joined, whatever still waits."""
        side, to = self._sides[fd], self.peer[fd]
        for one in (fd, to):
            if one >= 0 and self._sides[one].tls and not self._sides[one].out:
                self._shut(one)
        if to >= 0:
            other = self._sides[to]
            if not other.ended:
                _discard_input(to)
            if other.tap:
                other.tap.finish()
            self._close_one(to)
        if not side.ended:
            _discard_input(fd)
        if side.tap:
            side.tap.finish()
        self._close_one(fd)
        self._tell(side)

    def _close_one(self, fd: int) -> None:
        side = self._sides[fd]
        if side.pipe:
            side.pipe.close()
        self._sides[fd] = NOBODY
        self._loop.closing(fd)
        if side.sock:
            side.sock.close()
        else:
            os.close(fd)

    def owner(self, fd: int) -> Owner | None:
        """Who joined `fd`."""
        return self._sides[fd].owner

    @staticmethod
    def _tell(side: Side) -> None:
        if side.owner:
            side.owner.ended()

    def sock(self, fd: int) -> RawSocket:
        """A socket object for `fd`, for the calls that need one; it owns the descriptor."""
        side = self._sides[fd]
        if side.sock is None:
            side.sock = RawSocket(side.family, socket.SOCK_STREAM, 0, fileno=fd)
        return side.sock


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
