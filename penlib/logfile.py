"""A file appended to for months: reopened when it is moved, and not given up when it can not be written.

When the disk is full or the directory gone, what is written waits, up to a limit, and is tried again every
second; whoever writes goes on undisturbed.  That is said when it begins and when it ends, with the number of
lines lost.  A file that was removed is made again.

What is written must be whole lines: only whole lines are lost, so that the file never holds a part of one.
"""

import os

from penlib.errors import failed, reason
from penlib.loop import Loop, Timer
from penlib.report import Reporter

MODE = 0o640
"""Of a new file: requests may hold what is not for everybody."""

ROOM = 8 << 20
"""Bytes that wait while the file can't be written: some seconds of a busy cluster."""

RETRY = 1.0
"""Seconds between attempts."""

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Never blocking: the file may be a FIFO that nobody reads."""


class LogFile:
    """One such file."""

    def __init__(self, path: str, loop: Loop, reporter: Reporter, name: str = "") -> None:
        """Messages call it `name`, by default its path.  Raises PenError if the file can't be opened."""
        self._path = path
        self._name = name or path
        self._loop = loop
        self._reporter = reporter
        self._waiting: list[bytes] = []
        self._size = 0  # bytes waiting
        self._lost = 0  # lines
        self._moved = False  # to be opened anew
        self._retry: Timer | None = None  # set while something does not work
        try:
            self._fd = os.open(path, FLAGS, MODE)
        except OSError as exc:
            raise failed(f"log {self._name}", exc) from exc

    def write(self, data: bytes) -> None:
        """Append `data`, whole lines, now or as soon as it can be written."""
        if self._retry and self._size + len(data) > ROOM:
            self._lost += data.count(b"\n")
            return
        self._waiting.append(data)
        self._size += len(data)
        if not self._retry:
            self._tend()

    def reopen(self) -> None:
        """The file was moved: what waits is for the old one, everything else for a new one.

        As long as there can be no new one, the old one is used.
        """
        self._tend()
        self._moved = True
        self._tend()

    def close(self) -> None:
        """Write what can still be written."""
        self._tend()
        if self._retry:
            self._retry.cancel()
        if lost := self._lost + sum(data.count(b"\n") for data in self._waiting):
            self._reporter.warn(f"log {self._name}: lines lost: {lost}")
        os.close(self._fd)

    def _tend(self) -> None:
        """Do all there is to do; what does not work is tried again later."""
        if self._retry:
            self._retry.cancel()
        removed = not os.fstat(self._fd).st_nlink
        try:
            try:
                if self._moved or removed:
                    self._replace()
                    removed = False
            finally:
                if not removed:
                    self._write()
        except OSError as exc:
            if not self._retry:
                self._reporter.warn(f"log {self._name}: {reason(exc)}; trying again, meanwhile lines wait")
            self._retry = self._loop.after(RETRY, self._tend)
        else:
            self._works()

    def _replace(self) -> None:
        fd = os.open(self._path, FLAGS, MODE)
        os.close(self._fd)
        self._fd = fd
        self._moved = False

    def _write(self) -> None:
        data = b"".join(self._waiting)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:] if written else data)
        finally:
            self._waiting = [data[written:]] if written < len(data) else []
            self._size = len(data) - written

    def _works(self) -> None:
        if self._retry:
            self._retry = None
            self._reporter.warn(f"log {self._name}: written again, lines lost: {self._lost}")
            self._lost = 0
