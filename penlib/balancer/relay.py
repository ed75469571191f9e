"""The data path: bytes from one descriptor to its peer, both ways, until both have ended.

The hot part is `copy` in `Relay._make_copy`: read, write, count.  Everything else is done by others, when
something out of the ordinary happens: a short write, an end, an error, bulk data.

What always holds for a joined pair A, B:
  - A is read only while nothing waits to be written to B (backpressure; memory is bounded by one chunk and
    one pipe a direction).
  - The loop's handler of A is A's `reader`, unless something waits to be written to A: then `flusher`.
  - A's end is passed on to B as a shutdown once B has all that A sent; a reset as a reset, likewise.
  - Both descriptors are closed together, by `endings`; then the owner is told.

Not here: what is known of a side (pairs), how a pair ends (endings), what waits to be written (backlog), bulk
data (bulk); who is joined with whom (tcp), what the bytes mean (taps: most of them look only).
"""

import contextlib
import os
import socket
from collections.abc import Callable

from penlib.balancer.backlog import Backlog
from penlib.balancer.bulk import Bulk
from penlib.balancer.endings import Endings
from penlib.balancer.pairs import CHUNK, RECORD, Owner, Pairs, Side, Tap
from penlib.balancer.pipes import Pipes
from penlib.loop import END, READ, WRITE, Handler, Loop


class Relay(Pairs):
    """All pairs of one loop, and what moves their bytes."""

    def __init__(self, loop: Loop, fastclose: Callable[[int], bool] = lambda fd: False) -> None:
        """`fastclose` answers for a side that has ended whether that ends the pair."""
        super().__init__(loop)
        self.pipes = Pipes()
        self._endings = Endings(self, fastclose)
        self._backlog = Backlog(self, self._endings, self.pipes)
        self._bulk = Bulk(self, self._endings, self._backlog, self.pipes, self._reader)
        self._copy = self._make_copy()
        self._plain = memoryview(bytearray(CHUNK))
        """What has just been decrypted, of whichever side."""
        self._rooms = [self._plain[start : start + RECORD] for start in range(0, CHUNK, RECORD)]

    def _make_copy(self) -> Handler:
        """The hot function, as a closure: its names are found without looking into any object."""
        read, write, peer, moved = os.read, os.write, self.peer, self.moved

        def copy(fd: int, mask: int) -> None:
            try:
                data = read(fd, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self._endings.reset(fd)
                return
            if not data:
                self._endings.end(fd)
                return
            to = peer[fd]
            size = len(data)
            moved[fd] += size
            if mask & END and size < CHUNK:
                self._pass_on_last(fd, data)
                return
            try:
                written = write(to, data)
            except BlockingIOError:
                written = 0
            except OSError:
                self._endings.break_off(to)
                return
            if written < size:
                self._backlog.hold(fd, to, memoryview(data)[written:])
            elif size == CHUNK:
                self._bulk.begin(fd)

        return copy

    # Before a pair is joined, and joining it

    def read(self, fd: int) -> bytes:
        """What has come from `fd`; empty at its end.  Raises BlockingIOError, OSError."""
        tls = self.sides[fd].tls
        if not tls:
            return os.read(fd, CHUNK)
        return bytes(self._plain[: tls.read(self._rooms[0])])

    def write(self, fd: int, data: bytes) -> int:
        """Write some of `data` to `fd`; answers how much.  Raises BlockingIOError, OSError."""
        tls = self.sides[fd].tls
        return tls.write(data) if tls else os.write(fd, data)

    def dismiss(self, fd: int, gone: Callable[[], None]) -> None:
        """Tell an `fd` that is not joined that nothing more comes, and read away what it still sends: a close
        with unread input is a reset, which destroys what is on its way.  `gone` is called at its end."""
        side = self.sides[fd]
        self.loop.hides(fd, False)
        with contextlib.suppress(OSError):
            if side.tls:
                os.write(fd, side.tls.end())
            self.sock(fd).shutdown(socket.SHUT_WR)

        def read_away(fd: int, mask: int) -> None:
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                gone()

        self.loop.watch(fd, READ, read_away)

    def join(self, a: int, b: int, owner: Owner, taps: tuple[Tap | None, Tap | None] = (None, None)) -> None:
        """Relay between `a` and `b`, looked at by `taps`, until both have ended or `close`."""
        tap, other = taps
        self._read_from(a, b, owner, tap, other)
        self._read_from(b, a, owner, other, tap)

    def _read_from(self, fd: int, to: int, owner: Owner, tap: Tap | None, other: Tap | None) -> None:
        self.peer[fd] = to
        side = self.sides[fd]
        side.owner = owner
        side.tap = tap
        side.reader = reader = self._copy_first if other else self._reader(fd)
        self.loop.watch(fd, READ, reader)

    def tap_of(self, fd: int) -> Tap | None:
        """Who looks at what a joined `fd` sends."""
        return self.sides[fd].tap

    def is_bulk(self, fd: int) -> bool:
        """Whether what a joined `fd` sends is moved without being looked at, because it is much."""
        return self._bulk.carries(fd)

    def tap(self, fd: int, tap: Tap | None) -> None:
        """Have a joined `fd` looked at by another tap, or by none, from the next read on."""
        self.sides[fd].tap = tap
        self.read_with(fd, self._reader(fd))

    def pause(self, fd: int) -> None:
        """Read no more of a joined `fd` until `resume`."""
        self.sides[fd].paused = True
        self.loop.want(fd, self.loop.wanted(fd) & ~READ)

    def resume(self, fd: int) -> None:
        """Read a paused `fd` again, as soon as its peer takes it."""
        side = self.sides[fd]
        side.paused = False
        if not side.ended and not side.leaving and not self.waiting(self.peer[fd]):
            self.loop.want(fd, self.loop.wanted(fd) | READ)

    def give(self, fd: int, data: bytes) -> None:
        """Write `data` to a joined `fd` as if its peer had sent it."""
        self._backlog.give(fd, data)

    def is_joined(self, fd: int, owner: Owner) -> bool:
        """Whether `fd` is one of the pair that `owner` joined, and neither was reset."""
        return self.sides[fd].owner is owner and not self.sides[fd].leaving

    # Ending

    def end(self, fd: int) -> None:
        """As if a joined `fd` had sent its last byte: it is not read again."""
        self._endings.end(fd)

    def part(self, fd: int) -> bytes:
        """Close a joined `fd`, whose peer stays open and is no longer ours to read and write.  Answers what
        waited to be written to the peer; what waited for `fd` is lost."""
        return self._endings.part(fd)

    def close(self, fd: int) -> None:
        """Close the pair of `fd`, or `fd` alone if it is not joined, whatever still waits."""
        self._endings.close(fd)

    # Reading

    def _copy_first(self, fd: int, mask: int) -> None:
        """As the reader that follows it, for the first time that a side sends whose peer is looked at."""
        other = self.sides[self.peer[fd]].tap
        if other:
            other.answered()
        reader = self._reader(fd)
        self.read_with(fd, reader)
        reader(fd, mask)

    def _reader(self, fd: int) -> Handler:
        side = self.sides[fd]
        if side.tls:
            return self._copy_records
        return self._copy_tapped if side.tap or self.sides[self.peer[fd]].tls else self._copy

    def _pass_on_last(self, fd: int, data: bytes) -> None:
        """Pass on what `fd`, whose end is in sight, has sent.  If nothing but the end is left, it goes with
        the data in one packet: a second one would cost pen, and who gets it, as much as the data."""
        side, to = self.sides[fd], self.peer[fd]
        after: Callable[[int], object] | None = None
        flags = 0
        try:  # a short read need not have been the last one: it stops before urgent data
            if not self.sock(fd).recv(1, socket.MSG_PEEK):
                after, flags = self._endings.end, 0 if side.broken else socket.MSG_MORE
        except BlockingIOError:
            pass
        except OSError:
            after = self._endings.reset
        try:
            written = self.sock(to).send(data, flags)
        except BlockingIOError:
            written = 0
        except OSError:
            self._endings.break_off(to)
            return
        if written < len(data):
            self._backlog.hold(fd, to, memoryview(data)[written:])
        if after and self.sides[fd] is side:
            after(fd)

    def _copy_tapped(self, fd: int, mask: int) -> None:
        """As `copy`, for a side that is looked at, never spliced as long as the tap wants the bytes; and for
        one whose peer speaks TLS, which never is."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._endings.reset(fd)
            return
        if data:
            self._pass_on(fd, self.sides[fd], data)
        else:
            self._endings.end(fd)

    def _copy_records(self, fd: int, mask: int) -> None:
        """As `_copy_tapped`, for a side that speaks TLS.  After a full record there is usually more: up to a
        chunk of them goes in one write.  All are decrypted into the same place: that costs least."""
        side = self.sides[fd]
        tls = side.tls
        assert tls
        total = 0
        after: Callable[[int], object] | None = None
        try:
            for room in self._rooms:
                size = tls.read(room)
                total += size
                if size < RECORD:
                    after = None if size else self._endings.end
                    break
        except BlockingIOError:
            if tls.stuck:
                after = self._await_writable
        except OSError:
            after = self._endings.reset
        self.loop.hides(fd, tls.more(total))
        if total:
            self._pass_on(fd, side, self._plain[:total])
        if after and self.sides[fd] is side:
            after(fd)

    def _await_writable(self, fd: int) -> None:
        """TLS can't read on before it has written something, which `fd` does not take now."""
        self.loop.watch(fd, WRITE, self.flusher)

    def _pass_on(self, fd: int, side: Side, data: bytes | memoryview) -> None:
        """Pass on what `fd` has sent, as its tap wants it."""
        size = len(data)
        self.moved[fd] += size
        if side.tap:
            data = side.tap.feed(bytes(data))
        if data:
            self._backlog.give(self.peer[fd], data)
        if size == CHUNK and self.sides[fd] is side and not side.broken:
            self._bulk.begin_tapped(fd)
