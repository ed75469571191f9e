"""Messages for the administrator: stderr in the foreground, syslog in the background.

`warn` is for what someone must know (one line, when a state changes, never one per event); `debug` for what
someone looking for a fault asked for with -d.  Neither ever fails, nor does it block who has others to serve:
syslog has a non-blocking datagram socket of our own, and what it or stderr does not take is counted and said
later.
"""

import os
import select
import socket
import time

from penlib import clock
from penlib.errors import shown

STDERR = 2
SYSLOG_SOCKET = "/dev/log"
USER = 1 << 3
"""syslog facility user, syslog(3); the severities below are added to it."""
WARNING, INFO, DEBUG = 4, 6, 7


class Syslog:
    """A connection to the local syslog daemon that drops and counts rather than waits."""

    def __init__(self, name: str, path: str = SYSLOG_SOCKET) -> None:
        self.dropped = 0
        self._name = name
        self._path = path
        self._socket: socket.socket | None = None
        self._connect()

    def send(self, severity: int, text: str) -> None:
        """Send one message, `text` in one line."""
        if self.dropped and self._send(WARNING, f"{self.dropped} messages lost: syslog did not take them"):
            self.dropped = 0
        if not self._send(severity, text):
            self.dropped += 1

    def _send(self, severity: int, text: str) -> bool:
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(clock.now()))
        line = f"<{USER | severity}>{stamp} {self._name}[{os.getpid()}]: {text}"
        data = line.encode("utf-8", "backslashreplace")
        for _ in range(2):  # a restarted syslogd has a new socket behind the old name
            try:
                if self._socket:
                    self._socket.send(data)
                    return True
            except BlockingIOError:
                return False
            except OSError:
                pass
            self._connect()
        return False

    def _connect(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError:
            return
        try:
            sock.connect(self._path)
            self._socket = sock
        except OSError:
            sock.close()


class Reporter:
    """Where a tool's messages go.  `level` is the number of -d's and may change at any time.

    A filter `waits` for who reads them, as for who reads its output.
    """

    def __init__(self, name: str, level: int = 0, *, waits: bool = False) -> None:
        self.name = name
        self.level = level
        self._syslog: Syslog | None = None
        self._patience = None if waits else 0
        self._lost = 0

    def to_syslog(self, syslog: Syslog | None = None) -> None:
        """From now on send everything to syslog: the process goes into the background.

        A process that will be in a jail by then has to make its `syslog` before.
        """
        self._syslog = syslog or Syslog(self.name)

    def warn(self, text: str) -> None:
        """Say something that the administrator must know: one line `NAME: text`."""
        text = shown(text)
        if self._syslog:
            self._syslog.send(WARNING, text)
        else:
            self._write(f"{self.name}: {text}\n")

    def info(self, text: str) -> None:
        """Say something that was asked for (statistics): like `warn`, but nothing is wrong."""
        if self._syslog:
            for line in text.splitlines():
                self._syslog.send(INFO, line)
        else:
            self._write(text + "\n")

    def debug(self, level: int, text: str) -> None:
        """Say `text` if debugging is at `level` or more.  Ask `wants` first if `text` is costly to make."""
        if self.level < level:
            return
        if self._syslog:
            self._syslog.send(DEBUG, text)
        else:
            stamp = clock.date(clock.now())
            self._write(f"{stamp}: {text}\n")

    def wants(self, level: int) -> bool:
        """Whether `debug(level, ...)` would say anything."""
        return self.level >= level

    def _write(self, text: str) -> None:
        lost = f"{self.name}: {self._lost} messages lost: standard error did not take them\n"
        if self._lost and _put(lost, self._patience):
            self._lost = 0
        if not _put(text, self._patience):
            self._lost += 1


def _put(text: str, patience: int | None) -> bool:
    """Write `text` to standard error, if that takes it within so many milliseconds; answers whether it did.

    A pipe that is ready takes as much as PIPE_BUF without waiting, pipe(7).
    """
    ready = select.poll()
    ready.register(STDERR, select.POLLOUT)
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            if not ready.poll(patience):
                return False
            data = data[os.write(STDERR, data[: select.PIPE_BUF]) :]
    except BlockingIOError:
        return False
    except OSError:
        pass  # there is nobody to read it: not a reason to stop working
    return True


class Once:
    """Says a failure when it begins and its end when it ends, however often it is met in between."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._standing: set[str] = set()

    def failing(self, what: str, why: str) -> None:
        """`what` does not work now, because of `why`."""
        if what not in self._standing:
            self._standing.add(what)
            self._reporter.warn(f"{what}: {why}")

    def working(self, what: str, words: str = "works again") -> None:
        """`what` works; says so if it did not before."""
        if what in self._standing:
            self._standing.discard(what)
            self._reporter.warn(f"{what}: {words}")
