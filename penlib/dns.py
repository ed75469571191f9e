"""Names looked up in the background, so that no loop ever waits for a name server.

The system's resolver only knows how to block, so it does that in a thread of its own; the answer comes back
through a pipe that the loop watches.
"""

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable

from penlib.address import Endpoint, Place, is_numeric
from penlib.errors import PenError
from penlib.loop import READ, Loop
from penlib.sockets import look_up

Answer = list[Place] | PenError
LOOKUPS_AT_ONCE = 64
"""Threads that may wait for a name server; further lookups wait for one of these."""


class Lookups:
    """Looks endpoints up for a loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pipe: tuple[int, int] | None = None
        self._answers: deque[tuple[Callable[[Answer], None], Answer]] = deque()
        self._waiting: deque[tuple[Endpoint, int, Callable[[Answer], None]]] = deque()
        self._running = 0

    def lookup(
        self, endpoint: Endpoint, then: Callable[[Answer], None], kind: int = socket.SOCK_STREAM
    ) -> None:
        """Call `then` with the places of `endpoint`, or with the PenError that says why there are none.

        What needs no looking up is answered at once, before this returns.
        """
        if endpoint.path or not endpoint.host or is_numeric(endpoint.host):
            then(_answer(endpoint, kind))
            return
        self._waiting.append((endpoint, kind, then))
        self._start_next()

    def _start_next(self) -> None:
        import threading  # only who looks names up at run time pays for it

        if self._pipe is None:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._loop.watch(self._pipe[0], READ, self._ready)
        while self._waiting and self._running < LOOKUPS_AT_ONCE:
            endpoint, kind, then = self._waiting.popleft()
            try:
                threading.Thread(target=self._work, args=(endpoint, kind, then), daemon=True).start()
                self._running += 1
            except RuntimeError as exc:  # there is no thread to be had
                then(PenError(f"{endpoint.host}: {exc}"))

    def _work(self, endpoint: Endpoint, kind: int, then: Callable[[Answer], None]) -> None:
        self._answers.append((then, _answer(endpoint, kind)))
        assert self._pipe
        with contextlib.suppress(BlockingIOError):  # full: the loop is about to come by anyway
            os.write(self._pipe[1], b".")

    def _ready(self, fd: int, mask: int) -> None:
        os.read(fd, 4096)
        while self._answers:
            then, answer = self._answers.popleft()
            self._running -= 1
            then(answer)
        self._start_next()


def _answer(endpoint: Endpoint, kind: int) -> Answer:
    try:
        return look_up(endpoint, kind)
    except PenError as exc:
        return exc
