"""Pipes for splice: bulk data goes socket -> pipe -> socket without ever being copied into the process.

A pipe is held only while it has bytes in it; empty ones wait in a small pool.  One that met an exception is
closed, never pooled: nobody knows what is left in it.
"""

import contextlib
import fcntl
import os

SIZE = 1 << 20
"""Bytes asked for per pipe: the most that an unprivileged user may (fs.pipe-max-size)."""

POOL = 16
"""Empty pipes kept.  Users have about 64 of SIZE altogether (fs.pipe-user-pages-soft)."""

SPLICE_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)

F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)


class Pipe:
    """A pipe and what the kernel gave us for its size."""

    __slots__ = ("held", "readable", "size", "writable")

    def __init__(self) -> None:
        """Raises OSError if there are no descriptors left."""
        self.readable, self.writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        """Bytes in it."""
        try:
            self.size = fcntl.fcntl(self.writable, F_SETPIPE_SZ, SIZE)
        except OSError:
            self.size = 1 << 16  # pipe(7): the default

    def close(self) -> None:
        """Close both ends; what is in it is lost."""
        os.close(self.readable)
        os.close(self.writable)


class Pipes:
    """The pool."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []

    def take(self) -> Pipe | None:
        """An empty pipe, or None if there are no descriptors for one."""
        if self._free:
            return self._free.pop()
        with contextlib.suppress(OSError):
            return Pipe()
        return None

    def give(self, pipe: Pipe) -> None:
        """Take back an empty pipe."""
        if len(self._free) < POOL:
            self._free.append(pipe)
        else:
            pipe.close()

    def shrink(self) -> None:
        """Close the empty ones: descriptors are needed elsewhere."""
        while self._free:
            self._free.pop().close()
