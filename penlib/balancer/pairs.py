"""What is known of the descriptors between which the relay moves bytes: whose peer each is, how it stands.

What the hot copy needs lives in two lists indexed by descriptor, `peer` and `moved`; everything else about a
side is in its `Side`, and is looked at only when something out of the ordinary happens.

Not here: what moves the bytes (relay, bulk, backlog), and how a pair ends (endings).
"""

import os
import socket
import sys
from _socket import socket as RawSocket
from typing import Protocol

from penlib.balancer.pipes import Pipe
from penlib.loop import Handler, Loop

ALL = sys.maxsize
"""No limit, in `Tap.unseen`."""

CHUNK = 64 * 1024
"""Bytes read at once.  Over 128 KiB malloc would map memory for every small message."""

RECORD = 16 * 1024
"""The most that one TLS record holds, RFC 8446 section 5.1."""


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

    def read(self, room: memoryview) -> int:
        """Read into `room`, of RECORD bytes; answers how many came, 0 at the end.  Raises as os.read."""

    def more(self, size: int) -> bool:
        """To be asked after one or more reads, which brought `size` bytes.  Answers whether more has come
        that only reading on, and no poller, would find."""

    def write(self, data: bytes | memoryview) -> int:
        """As os.write; what it did not take must come again first."""

    def end(self) -> bytes:
        """What tells the other side that nothing more comes; `write` then passes bytes as they are."""


class Owner(Protocol):
    """Who joined a pair."""

    def ended(self) -> None:
        """Both descriptors are closed."""


class Side:
    """What is known of one descriptor beyond the hot lists.

    Slots, because there are two of these a connection: defaults in the class would make one faster, but an
    idle connection half a kilobyte larger.
    """

    __slots__ = (
        "broken", "ended", "family", "leaving", "out", "owner", "paused", "pipe", "reader", "shut", "tap",
        "tls",
    )  # fmt: skip

    def __init__(self, family: int) -> None:
        self.family = family
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
        self.leaving = False
        """It or its peer was reset: nothing more is read, and both close once the other one has its due."""
        self.paused = False
        """Its tap does not want more just now."""


class Handle(RawSocket):
    """The methods of a socket, for whatever descriptor has its number now.

    It owns nothing, so it can stay for the next one that gets the number: making one costs more than most
    system calls, and asks the kernel for the address (getsockname), though nobody wants to know it.
    """

    __slots__ = ()

    def __del__(self) -> None:
        """Other than a socket, close nothing."""


NOBODY = Side(socket.AF_UNSPEC)
"""The side of a descriptor that is not ours."""


class Pairs:
    """All descriptors of one loop's relay."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.peer: list[int] = []
        self.moved: list[int] = []
        """Bytes read from each descriptor."""
        self.sides: list[Side] = []
        self._handles: dict[int, Handle] = {}
        """Made when first needed, and kept."""
        self.flusher: Handler
        """Handler of a side to which something waits to be written (backlog)."""

    def add(self, fd: int, family: int) -> None:
        """Take charge of a connected or connecting descriptor."""
        if fd >= len(self.peer):
            room = 2 * fd + 64 - len(self.peer)
            self.peer += [-1] * room
            self.moved += [0] * room
            self.sides += [NOBODY] * room
        self.peer[fd] = -1
        self.moved[fd] = 0
        self.sides[fd] = Side(family)

    def secure(self, fd: int, channel: Channel) -> None:
        """From now on read and write `fd`, which is not joined yet, through TLS."""
        self.sides[fd].tls = channel

    def sock(self, fd: int) -> RawSocket:
        """A socket object for the calls on `fd` that need one."""
        handle = self._handles.get(fd)
        if handle is None:
            handle = self._handles[fd] = Handle(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        return handle

    def owner(self, fd: int) -> Owner | None:
        """Who joined `fd`."""
        return self.sides[fd].owner

    def waiting(self, fd: int) -> int:
        """Bytes that wait to be written to `fd`."""
        side = self.sides[fd] if 0 <= fd < len(self.sides) else NOBODY
        if side is NOBODY:
            return 0
        feeder = self.sides[self.peer[fd]] if self.peer[fd] >= 0 else None
        return (len(side.out) if side.out else 0) + (feeder.pipe.held if feeder and feeder.pipe else 0)

    def is_secure(self, fd: int) -> bool:
        """Whether what `fd` sends must be encrypted or decrypted."""
        return bool(self.sides[fd].tls or self.sides[self.peer[fd]].tls)

    def read_with(self, fd: int, reader: Handler) -> None:
        """Change how `fd` is read, from the next time on."""
        side = self.sides[fd]
        side.reader = reader
        if self.loop.handlers[fd] != self.flusher:
            self.loop.handlers[fd] = reader

    def close_both(self, fd: int) -> None:
        """Close the pair of `fd`, or `fd` alone if it is not joined, and tell the owner."""
        side, to = self.sides[fd], self.peer[fd]
        if to >= 0:
            self.close_one(to)
        self.close_one(fd)
        if side.owner:
            side.owner.ended()

    def close_one(self, fd: int) -> None:
        """Close `fd`, but not its peer."""
        side = self.sides[fd]
        if side.pipe:
            side.pipe.close()
        self.sides[fd] = NOBODY
        self.loop.closing(fd)
        if side.tls:
            side.tls.sock.close()
        else:
            os.close(fd)
