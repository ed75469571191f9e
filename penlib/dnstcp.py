"""One question to a name server by TCP (RFC 7766), for answers that are too long for UDP.

Not here: when that is, and how many at a time (resolver).
"""

import contextlib
import os
import socket
from collections.abc import Callable

from penlib import dnswire
from penlib.address import Place
from penlib.dnswire import Message
from penlib.loop import READ, WRITE, Loop

CHUNK = 1 << 16

Done = Callable[[Message | None], None]


def ask(loop: Loop, place: Place, asked: bytes, seconds: float, done: Done) -> None:
    """Ask a server a question section; `done` gets its answer, or None after `seconds` or a failure.

    Raises OSError if no socket can be made.
    """
    _Connection(loop, place, asked, seconds, done)


class _Connection:
    def __init__(self, loop: Loop, place: Place, asked: bytes, seconds: float, done: Done) -> None:
        self._loop, self._asked, self._done = loop, asked, done
        self._sock = socket.socket(place.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._id = int.from_bytes(os.urandom(2), "big")
        self._data = b""
        self._limit = loop.after(seconds, self._over)
        self._sock.connect_ex(place.sockaddr)  # a refusal shows when something is sent
        loop.watch(self._sock.fileno(), WRITE, self._send)

    def _send(self, fd: int, mask: int) -> None:
        query = dnswire.query(self._id, self._asked)
        try:
            self._sock.send(len(query).to_bytes(2, "big") + query)
        except OSError:
            self._end(None)
            return
        self._loop.watch(fd, READ, self._read)

    def _read(self, fd: int, mask: int) -> None:
        try:
            more = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        self._data += more
        size = int.from_bytes(self._data[:2], "big")
        if len(self._data) >= 2 + size and len(self._data) > 2:
            self._end(self._answer(self._data[2 : 2 + size]))
        elif not more:
            self._end(None)

    def _answer(self, data: bytes) -> Message | None:
        with contextlib.suppress(ValueError):
            message = dnswire.parse(data)
            if message.id == self._id and dnswire.is_answer(message, self._asked):
                return message
        return None

    def _over(self) -> None:
        self._end(None)

    def _end(self, message: Message | None) -> None:
        self._limit.cancel()
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._done(message)
