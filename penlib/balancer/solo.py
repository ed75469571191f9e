"""A client with whom pen itself speaks, without a server: what is said to it, and how it is left.

Two have need of that: a client that is refused (rewrite), and all of them when pen plays web server
(`dummy`).

A client is left in the way that lets it read the last words: our end is told, and what the client still sends
is read away for a while.
"""

from collections.abc import Callable
from functools import partial

from penlib import clock, http, httpanswers
from penlib.balancer.connection import Connection
from penlib.balancer.relay import Relay
from penlib.http import Invalid, Opaque, RequestParser
from penlib.httphead import Head
from penlib.loop import READ, WRITE, Loop, Timer

LINGER = 5.0
"""Seconds that a client may go on sending after it was told the last word."""

PATIENCE = 1.0
"""Seconds that an answered client has to ask again: it holds a connection of -x, and one that reads until the
end, as the simplest of them do, is not left waiting."""

BETWEEN = (http.REQUEST_LINE, http.FIELDS)
"""States of a parser that is past the body of the last request."""

PAGE = b"<!DOCTYPE html>\n<title>pen</title>\n<p>pen answers this itself: it plays web server.</p>\n"
LAST = b"Connection: close\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Solo:
    """One such client; `close` closes its connection, if that is still there."""

    def __init__(
        self, loop: Loop, relay: Relay, connection: Connection, close: Callable[[Connection], None]
    ) -> None:
        self._loop = loop
        self._relay = relay
        self._connection = connection
        self._fd = connection.down
        self._close = close
        self._out = b""
        self._last = False

    def say(self, data: bytes, *, last: bool) -> None:
        """Tell the client; it is not read until it has taken all.  `last`: and then leave it."""
        self._out, self._last = self._out + data, last
        self._write()

    def hear(self, data: bytes) -> None:
        """What the client has said."""
        raise NotImplementedError

    def listen(self) -> None:
        """Wait for the client to say something."""
        self._loop.watch(self._fd, READ, self._readable)

    def _readable(self, fd: int, mask: int) -> None:
        try:
            data = self._relay.read(fd)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._relay.moved[fd] += len(data)
            self._connection.active = clock.monotonic()
            self.hear(data)
        else:
            self._close(self._connection)

    def _writable(self, fd: int, mask: int) -> None:
        self._write()

    def _write(self) -> None:
        try:
            written = self._relay.write(self._fd, self._out) if self._out else 0
        except BlockingIOError:
            written = 0
        except OSError:
            self._close(self._connection)
            return
        self._out = self._out[written:]
        if self._out:
            self._loop.watch(self._fd, WRITE, self._writable)
        elif self._last:
            self._leave()
        else:
            self.listen()

    def _leave(self) -> None:
        leave = partial(self._close, self._connection)
        self._relay.dismiss(self._fd, leave)
        self._loop.after(LINGER, leave)


class WebServer(Solo):
    """Answers every request of a client with a page: the command `dummy`."""

    def __init__(
        self, loop: Loop, relay: Relay, connection: Connection, close: Callable[[Connection], None]
    ) -> None:
        super().__init__(loop, relay, connection, close)
        self._parser = RequestParser()
        self._asked: Head | None = None
        """The request whose body is still coming."""
        self._answered = False
        """Whether it has its answer, and has asked nothing since."""
        self._pause: Timer | None = None
        """Between an answer and what is asked next."""

    def listen(self) -> None:
        super().listen()
        if self._answered:
            self._pause = self._loop.after(PATIENCE, partial(self._close, self._connection))

    def hear(self, data: bytes) -> None:
        if self._pause:
            self._pause.cancel()
        self._answered = False
        said: list[bytes] = []
        last = False
        for event in self._parser.feed(data):
            if isinstance(event, Invalid):
                said.append(httpanswers.refusal(event.status, event.why))
                last = True
            elif isinstance(event, Opaque):  # as pen 0.34.1 does: whatever it was that was asked
                said.append(_page(LAST))
                last = True
            elif isinstance(event, Head):
                last = self._answer(said)
                self._asked = event
                said += [CONTINUE] if event.waits else []
            if last:
                break
        if not last and self._parser.state in BETWEEN:
            last = self._answer(said)
        if said:
            self.say(b"".join(said), last=last)

    def _answer(self, said: list[bytes]) -> bool:
        """Answer the request that has come completely, if there is one; whether that was the last."""
        head, self._asked = self._asked, None
        if head is None:
            return False
        old = head.line.endswith(b"HTTP/1.0")
        last = b"close" in head.connection or head.connect or (old and b"keep-alive" not in head.connection)
        answer = _page(LAST if last else b"Connection: keep-alive\r\n" if old else b"")
        self._answered = True
        said.append(answer[: -len(PAGE)] if head.line.startswith(b"HEAD ") else answer)
        return last


def _page(field: bytes) -> bytes:
    return httpanswers.page(b"200 OK", PAGE, b"text/html", field)
