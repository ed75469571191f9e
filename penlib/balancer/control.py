"""The control port: one connection, one command line, its reply, the end.

A control client costs a descriptor and nothing else until its line is complete; one that says nothing for
long is closed, and there are never more than a few.
"""

import os
import socket
from collections.abc import Callable
from typing import Any

from penlib import acl, address
from penlib.loop import READ, WRITE, Loop, Timer

LINE_LIMIT = 4096
"""Bytes of a command line."""

CLIENTS = 64
"""Control connections at a time; the oldest goes."""

PATIENCE = 60.0
"""Seconds that a control client may take."""

REST = 1.0
"""Seconds until accepting is tried again after it failed."""

MOMENT = 0.5
"""Seconds that a client which is not permitted has to say what it will not be answered."""

UNHEARD = 1 << 20
"""Bytes of what a client says behind its line that are read and forgotten, until it ends: a close with unread
input is a reset, and that would take the reply back."""

Execute = Callable[[str, Callable[[str], None]], None]
"""Carries out a line and calls back, perhaps later, with the reply."""


class Control:
    """The control port of one pen."""

    def __init__(self, loop: Loop, execute: Execute, entries: Callable[[], list[acl.Rule]]) -> None:
        self._loop = loop
        self._execute = execute
        self._entries = entries
        self._listeners: dict[int, socket.socket] = {}
        self._sessions: dict[int, _Session] = {}
        self._refused: dict[int, tuple[socket.socket, Timer]] = {}

    def listen(self, sockets: list[socket.socket]) -> None:
        """Take commands from these listening sockets."""
        for sock in sockets:
            self._listeners[sock.fileno()] = sock
            self._loop.watch(sock.fileno(), READ, self._ready)

    def close(self) -> None:
        """Close everything."""
        for fd, sock in self._listeners.items():
            self._loop.forget(fd)
            sock.close()
        self._listeners.clear()
        for session in list(self._sessions.values()):
            session.close()
        for fd in list(self._refused):
            self._end_refused(fd)

    def _ready(self, fd: int, mask: int) -> None:
        self._loop.later(lambda: self._accept(fd))

    def _accept(self, fd: int) -> None:
        listener = self._listeners.get(fd)
        if not listener:
            return
        try:
            sock, sockaddr = listener.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors: leave the listener alone for a while
            self._loop.want(fd, 0)
            self._loop.after(REST, lambda: self._resume(fd))
            return
        if not acl.permits(self._entries(), _packed(sock.family, sockaddr)):
            self._refuse(sock)
            return
        if len(self._sessions) >= CLIENTS:
            next(iter(self._sessions.values())).close()
        sock.setblocking(False)
        self._sessions[sock.fileno()] = _Session(self._loop, sock, self._execute, self._sessions)

    def _refuse(self, sock: socket.socket) -> None:
        """Close it when its command is there: a close with unread input is a reset, and an end without a
        word would be the reply to a command that was carried out."""
        fd = sock.fileno()
        if len(self._refused) >= CLIENTS:
            sock.close()
            return
        timer = self._loop.after(MOMENT, lambda: self._end_refused(fd))
        self._refused[fd] = (sock, timer)
        self._loop.watch(fd, READ, lambda fd, mask: self._end_refused(fd))

    def _end_refused(self, fd: int) -> None:
        sock, timer = self._refused.pop(fd)
        timer.cancel()
        self._loop.forget(fd)
        sock.close()

    def _resume(self, fd: int) -> None:
        if fd in self._listeners:
            self._loop.want(fd, READ)


def _packed(family: int, sockaddr: Any) -> bytes:
    return b"" if family == socket.AF_UNIX else address.pack(sockaddr[0])


class _Session:
    """One control client."""

    def __init__(
        self, loop: Loop, sock: socket.socket, execute: Execute, sessions: dict[int, "_Session"]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._execute = execute
        self._sessions = sessions
        self._input = b""
        self._output = memoryview(b"")
        self._goes_on = False
        """Whether the client says more than its line."""
        self._patience = UNHEARD
        self._timer = loop.after(PATIENCE, self.close)
        loop.watch(self._fd, READ, self._readable)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._sessions.pop(self._fd, None):
            self._timer.cancel()
            self._loop.forget(self._fd)
            self._sock.close()

    def _readable(self, fd: int, mask: int) -> None:
        try:
            data = os.read(fd, LINE_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._input += data
        line, newline, _ = self._input.partition(b"\n")
        if len(line) > LINE_LIMIT:
            self._goes_on = True
            self._reply("do_cmd: command line too long")
        elif newline or not data:
            self._loop.want(fd, 0)
            text = line.decode("utf-8", "surrogateescape")
            self._loop.later(lambda: self._execute(text, self._reply))

    def _reply(self, text: str) -> None:
        if self._fd not in self._sessions or self._sessions[self._fd] is not self:
            return
        data = text.encode("utf-8", "surrogateescape")
        self._output = memoryview(data + b"\n" if data else b"")
        self._writable(self._fd, WRITE)

    def _writable(self, fd: int, mask: int) -> None:
        try:
            while self._output:
                self._output = self._output[os.write(fd, self._output) :]
            self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self._loop.watch(fd, WRITE, self._writable)
        except OSError:
            self.close()
        else:
            self._loop.watch(fd, READ, self._forget_more)
            self._forget_more(fd, READ)

    def _forget_more(self, fd: int, mask: int) -> None:
        """Close, if the client has said its line and no more, or has ended, or does not end."""
        try:
            data = os.read(fd, UNHEARD)
        except BlockingIOError:
            if self._goes_on:
                return
            data = b""
        except OSError:
            data = b""
        self._goes_on = True
        self._patience -= len(data)
        if not data or self._patience < 0:
            self.close()
