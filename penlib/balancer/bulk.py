"""Bulk data: socket -> pipe -> socket by splice, as long as that pays.

Not here: when a direction goes bulk (relay), and what the peer did not take (backlog).
"""

import errno
import os
from collections.abc import Callable

from penlib.balancer.backlog import Backlog
from penlib.balancer.endings import Endings
from penlib.balancer.pairs import ALL, Pairs
from penlib.balancer.pipes import SPLICE_FLAGS, Pipes
from penlib.loop import Handler

BULK_LEAST = 16 * 1024
"""A splice that moves less than this was not worth it: back to plain copies."""

NO_SPLICE = {errno.EINVAL, errno.ENOMEM, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of splice that say nothing about the socket: plain copies will do."""


class Bulk:
    """All directions that move bulk data.  `reader` answers with what a side is read when it does not."""

    def __init__(
        self, pairs: Pairs, endings: Endings, backlog: Backlog, pipes: Pipes, reader: Callable[[int], Handler]
    ) -> None:
        self._pairs = pairs
        self._peer, self._sides = pairs.peer, pairs.sides
        self._endings = endings
        self._backlog = backlog
        self._pipes = pipes
        self._reader = reader

    def begin(self, fd: int) -> None:
        """A read came back full: from now on `fd` is spliced, as long as that pays."""
        if SPLICE_FLAGS:
            self._pairs.read_with(fd, self._splice)
        tap = self._sides[self._peer[fd]].tap
        if tap and tap.unseen() == ALL:
            self._untap(self._peer[fd])

    def begin_tapped(self, fd: int) -> None:
        """As `begin`, as far as the tap of `fd` lets it."""
        tap = self._sides[fd].tap
        unseen = tap.unseen() if tap else 0
        if unseen == ALL:
            self._untap(fd)
        elif self._pairs.is_secure(fd):
            other = self._sides[self._peer[fd]].tap
            if other and other.unseen() == ALL:
                self._untap(self._peer[fd])
        elif unseen >= BULK_LEAST and SPLICE_FLAGS:
            self._pairs.read_with(fd, self._splice_unseen)

    def carries(self, fd: int) -> bool:
        """Whether `fd` is spliced."""
        return self._sides[fd].reader in (self._splice, self._splice_unseen)

    def _untap(self, fd: int) -> None:
        side = self._sides[fd]
        if side.tap:
            side.tap.finish()
        side.tap = None
        self._pairs.read_with(fd, self._reader(fd))

    def _splice(self, fd: int, mask: int, most: int = ALL) -> None:
        """Move what there is, up to `most` bytes, through a pipe, without looking at it."""
        pipe = self._pipes.take()
        if pipe is None:
            self._reader(fd)(fd, mask)
            return
        try:
            size = os.splice(fd, pipe.writable, min(pipe.size, most), flags=SPLICE_FLAGS)
        except BlockingIOError:
            self._pipes.give(pipe)
            return
        except OSError as exc:
            pipe.close()
            if exc.errno in NO_SPLICE:
                self._pairs.read_with(fd, self._reader(fd))
            else:
                self._endings.reset(fd)  # the socket tells it once: a read would find an ordinary end
            return
        if not size:
            self._pipes.give(pipe)
            self._endings.end(fd)
            return
        self._pairs.moved[fd] += size
        pipe.held = size
        side = self._sides[fd]
        side.pipe = pipe
        if side.tap:
            side.tap.skip(size)
        if not self._backlog.drain(fd):
            if side.pipe:
                self._backlog.hold(fd, self._peer[fd], None)
        elif size < BULK_LEAST:
            self._pairs.read_with(fd, self._reader(fd))

    def _splice_unseen(self, fd: int, mask: int) -> None:
        """As `_splice`, for a side that is looked at, while its tap need not see what comes."""
        tap = self._sides[fd].tap
        unseen = tap.unseen() if tap else 0
        if unseen:
            self._splice(fd, mask, unseen)
        else:
            reader = self._reader(fd)
            self._pairs.read_with(fd, reader)
            reader(fd, mask)
