"""Accepting clients, as many as there is room for; past that the listeners are left alone and clients wait in
the backlog.

Accepting happens after a batch of events, never within (see loop).

Not here: what becomes of an accepted client (tcp).
"""

import os
import socket
from collections.abc import Callable
from typing import Any

from penlib.balancer.dial import OUR_FAULTS
from penlib.balancer.settings import Settings
from penlib.loop import READ, Loop
from penlib.report import Reporter

RETRY = 1.0
"""Seconds until accepting is tried again after running out of descriptors, if nothing ends before."""


class Listener:
    """A listening socket, and how clients are accepted from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.family = int(sock.family)
        self.accept: Callable[[], tuple[int, Any]] = getattr(sock, "_accept", self._accept)
        """Answers a client's descriptor and address.  Raises BlockingIOError if nobody waits, OSError.

        Without the wrapper object, where Python has this: that costs more than the system call."""

    def _accept(self) -> tuple[int, Any]:
        sock, sockaddr = self.sock.accept()
        return sock.detach(), sockaddr


class Acceptor:
    """The listeners of one pen.

    `room` answers how many more clients may come now.  `admit` takes a descriptor, its family and the
    client's address, and answers whether there are descriptors for another one.  `short` is called when there
    are none.
    """

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        reporter: Reporter,
        *,
        room: Callable[[], int],
        admit: Callable[[int, int, Any], bool],
        short: Callable[[], None],
    ) -> None:
        self.paused = False
        """Nobody is accepted until `resume`."""
        self._loop = loop
        self._settings = settings
        self._reporter = reporter
        self._room = room
        self._admit = admit
        self._when_short = short
        self._listeners: dict[int, Listener] = {}
        self._ready: list[int] = []
        self._failed = False
        """The last accept failed: for saying so once."""

    def listen(self, sockets: list[socket.socket]) -> None:
        """Accept from these listening sockets instead of those before, which are closed."""
        for fd, old in self._listeners.items():
            self._loop.forget(fd)
            old.sock.close()
        self._listeners = {sock.fileno(): Listener(sock) for sock in sockets}
        self._ready.clear()
        for fd in self._listeners:
            self._loop.watch(fd, 0 if self.paused else READ, self._listener_ready)

    def resume(self) -> None:
        """Accept again, if there is room."""
        if self.paused and self._room() > 0:
            self.paused = False
            for fd in self._listeners:
                self._loop.want(fd, READ)

    def _listener_ready(self, fd: int, mask: int) -> None:
        if not self._ready:
            self._loop.later(self._accept_all)
        self._ready.append(fd)

    def _accept_all(self) -> None:
        ready, self._ready = self._ready, []
        for fd in ready:
            listener = self._listeners.get(fd)
            if listener:
                self._accept_from(listener)
        if self._room() <= 0:
            self._pause()

    def _accept_from(self, listener: Listener) -> None:
        for _ in range(min(self._settings.multi_accept, self._room())):
            try:
                fd, sockaddr = listener.accept()
            except BlockingIOError:
                self._failed = False  # nobody waits any more: the next failure is news again
                return
            except OSError as exc:
                if exc.errno in OUR_FAULTS:
                    self._fails(exc)
                    return
                continue  # that one client is gone (ECONNABORTED and the like, accept(2))
            os.set_blocking(fd, False)
            if not self._admit(fd, listener.family, sockaddr):
                return

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            for fd in self._listeners:
                self._loop.want(fd, 0)

    def _fails(self, exc: OSError) -> None:
        self._pause()
        self._when_short()
        if not self._failed:
            self._failed = True
            self._reporter.warn(f"accept: {exc.strerror}; clients wait until a connection ends")
        self._loop.after(RETRY, self.resume)
