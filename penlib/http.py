"""HTTP/1 request framing: where each request of a connection begins and ends.  Bytes in, events out.

`RequestParser` follows what one client sends.  Its events give back every byte, in order: the `raw` of all
events so far and what is `held` make up the input, so that an owner who forwards `raw` changes nothing.

                 +------------------------------------+
                 v                                    |
    UNDECIDED -> FIELDS -+--------------------> REQUEST_LINE     From every state of a request the way may
        |                +-> BODY ------------------->|          also lead to LOST, if the bytes break the
        v                +-> CHUNK_SIZE -> TRAILER -->|          rules, or to OPAQUE, if the client asked
      OPAQUE                  |      ^                           for another protocol and the server agreed.
                              v      |
                       CHUNK_DATA -> CHUNK_END

The first line decides whether the connection is HTTP at all, as early as its bytes allow.  If it is, the
framing is followed to the letter of RFC 9112: whatever two readers might understand differently is refused,
because a request hidden from us but seen by the server (request smuggling) escapes all we do to requests.
Verdicts do not depend on how the input was cut into pieces, only the time at which they fall does.

Lines are judged when they are complete, and an incomplete one while it is short; what has been judged is not
looked at again.  So the work per byte is bounded, and so is the memory: one head.

`RequestLines` is the reader for a log: it only wants to know what was requested, and refuses nothing.

Not done here: sockets, time, changing heads, answering, and reading what the server says.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from penlib import httphead
from penlib.httphead import JUDGED_EARLY, Head, Refused

HEAD_LIMIT = 65536
"""Bytes in a head, or in a trailer section: eight times what web servers take by default."""

CHUNK_LINE_LIMIT = 4096
"""Bytes in the line with a chunk's size: 16 would do, but extensions may hold a signature."""

# The states.  UNDECIDED, OPAQUE and LOST say so; in every other the connection is HTTP.
UNDECIDED = "undecided"
REQUEST_LINE = "request line"
FIELDS = "fields"
BODY = "body"
CHUNK_SIZE = "chunk size"
CHUNK_DATA = "chunk data"
CHUNK_END = "chunk end"
TRAILER = "trailer"
OPAQUE = "opaque"
LOST = "lost"

MOVES: dict[str, frozenset[str]] = {
    UNDECIDED: frozenset({FIELDS, OPAQUE, LOST}),
    REQUEST_LINE: frozenset({FIELDS, OPAQUE, LOST}),
    FIELDS: frozenset({REQUEST_LINE, BODY, CHUNK_SIZE, OPAQUE, LOST}),
    BODY: frozenset({REQUEST_LINE, OPAQUE}),
    CHUNK_SIZE: frozenset({CHUNK_DATA, TRAILER, OPAQUE, LOST}),
    CHUNK_DATA: frozenset({CHUNK_END, OPAQUE}),
    CHUNK_END: frozenset({CHUNK_SIZE, OPAQUE, LOST}),
    TRAILER: frozenset({REQUEST_LINE, OPAQUE, LOST}),
    OPAQUE: frozenset(),
    LOST: frozenset(),
}


class Data(NamedTuple):
    """A piece of a request's body as it travels: with chunk sizes and trailers, if there are any."""

    raw: bytes


class Opaque(NamedTuple):
    """Bytes of a connection that is not HTTP, or no longer."""

    raw: bytes


class Invalid(NamedTuple):
    """The framing is lost, for good.  `status` is what to answer (400 or 431), `raw` all that was left."""

    raw: bytes
    status: int
    why: str


Event = Head | Data | Opaque | Invalid


class IllegalMove(RuntimeError):
    """The owner asked for what the state does not allow; nothing has changed.  A bug, whatever the bytes."""


class RequestParser:
    """What one client sends on one connection.

    `state` is a key of MOVES; `held` are the bytes of an incomplete head, line or trailer section, which no
    event has given yet.
    """

    __slots__ = ("_judged", "_left", "_may_switch", "held", "lost_in", "state")

    def __init__(self) -> None:
        self.state = UNDECIDED
        self.held = b""
        self.lost_in = ""
        """The state in which the framing was lost; empty as long as it is not."""
        self._judged = 0  # bytes from the beginning of `held` that are whole, good lines
        self._left = 0  # bytes of the body, or of the chunk, still to come
        self._may_switch = False  # an Upgrade or CONNECT has been seen

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes.  Raises IllegalMove after an Invalid."""
        if self.state is LOST:
            raise IllegalMove("data after the framing was lost")
        buffer = self.held + data if self.held else data
        events = []
        pos = 0
        while pos < len(buffer):
            event = self._next(buffer, pos)
            if event is None:
                break
            self._judged = 0
            events.append(event)
            pos += len(event.raw)
        self.held = buffer[pos:]
        return events

    def plain(self, data: bytes) -> bytes | None:
        """The shortest way through `feed` for the commonest case, in one match.

        If `data` is one whole head, without a body and without a wish for another protocol, and nothing is
        held: its request line, and the state is as after `feed`.  Otherwise None, and nothing has changed.
        """
        if not self.is_between:
            return None
        head = httphead.PLAIN_HEAD.fullmatch(data)
        if head is None or len(data) > HEAD_LIMIT:
            return None
        self.state = REQUEST_LINE
        return head[1]

    @property
    def is_between(self) -> bool:
        """Whether what comes next begins a request."""
        return not self.held and (self.state is REQUEST_LINE or self.state is UNDECIDED)

    @property
    def unseen(self) -> int:
        """How many of the bytes that come next are known to be body, and no more than that."""
        return self._left if self.state is BODY or self.state is CHUNK_DATA else 0

    def skip(self, size: int) -> None:
        """So many of the `unseen` bytes came, and are not fed.  Raises IllegalMove if they are too many."""
        if size > self.unseen:
            raise IllegalMove(f"{size} bytes skipped of {self.unseen}")
        self._body_came(size)

    def became_opaque(self) -> list[Event]:
        """The server agreed to an Upgrade or CONNECT: from here on all bytes are opaque, held ones included.

        Raises IllegalMove if the client asked for neither, or the connection is opaque or lost already.
        """
        if not self._may_switch:
            raise IllegalMove("no Upgrade or CONNECT to agree to")
        self._move(OPAQUE)
        held, self.held = self.held, b""
        return [Opaque(held)] if held else []

    def is_not_http(self) -> list[Event]:
        """The owner knows better before the first line is whole: all bytes are opaque, held ones included.

        Raises IllegalMove if the first line has been read.
        """
        if self.state is not UNDECIDED:
            raise IllegalMove(f"{self.state} is not {UNDECIDED}")
        self._move(OPAQUE)
        held, self.held = self.held, b""
        return [Opaque(held)] if held else []

    def _move(self, state: str) -> None:
        if state not in MOVES[self.state]:
            raise IllegalMove(f"{self.state} -> {state}")
        self.state = state

    def _next(self, buffer: bytes, pos: int) -> Event | None:
        """The event that begins at `pos`, or None as long as its end is not there."""
        try:
            return _READERS[self.state](self, buffer, pos)
        except Refused as refusal:
            if self.state is UNDECIDED and refusal.status == httphead.BAD_REQUEST:
                self._move(OPAQUE)
                return Opaque(buffer[pos:])
            self.lost_in = self.state
            self._move(LOST)
            return Invalid(buffer[pos:], refusal.status, refusal.why)

    def _read_request_line(self, buffer: bytes, pos: int) -> Event | None:
        limit = min(len(buffer), pos + HEAD_LIMIT)
        start = _end(httphead.EMPTY_LINES, buffer, pos + self._judged, limit)
        end = buffer.find(b"\n", start, limit) + 1
        judged = min(limit, start + JUDGED_EARLY) if limit - pos < HEAD_LIMIT else limit
        if not end and httphead.LINE_SO_FAR.fullmatch(buffer, start, judged):
            self._wait(pos, start, limit)
            return None
        if not end or not httphead.OPENING.fullmatch(buffer, start, end):
            raise Refused("not a request line")
        self._move(FIELDS)
        if not httphead.STRICT_OPENING.fullmatch(buffer, pos, end):
            raise Refused("bare LF after a request line")
        self._judged = end - pos
        return self._read_fields(buffer, pos)

    def _read_fields(self, buffer: bytes, pos: int) -> Event | None:
        end = self._end_of_fields(buffer, pos)
        if end is None:
            return None
        head = httphead.parse(buffer[pos:end])
        self._may_switch = self._may_switch or head.switches
        self._left = head.length
        self._move(CHUNK_SIZE if head.chunked else BODY if head.length else REQUEST_LINE)
        return head

    def _read_data(self, buffer: bytes, pos: int) -> Event:
        raw = buffer[pos : pos + self._left]
        self._body_came(len(raw))
        return Data(raw)

    def _body_came(self, size: int) -> None:
        self._left -= size
        if size and not self._left:
            self._move(REQUEST_LINE if self.state is BODY else CHUNK_END)

    def _read_chunk_size(self, buffer: bytes, pos: int) -> Event | None:
        limit = min(len(buffer), pos + CHUNK_LINE_LIMIT)
        end = buffer.find(b"\n", pos, limit) + 1
        if not end and limit - pos < CHUNK_LINE_LIMIT:
            return None
        line = httphead.CHUNK_LINE.fullmatch(buffer, pos, end)
        if line is None:
            raise Refused("malformed chunk size")
        size = int(line[1], 16)
        if not size:
            self._move(TRAILER)
            self._judged = end - pos
            return self._read_trailer(buffer, pos)
        if buffer.startswith(b"\r\n", end + size):  # the whole chunk is here: the usual case
            return Data(buffer[pos : end + size + 2])
        self._left = size
        self._move(CHUNK_DATA)
        return Data(buffer[pos:end])

    def _read_chunk_end(self, buffer: bytes, pos: int) -> Event | None:
        raw = buffer[pos : pos + 2]
        if raw == b"\r":
            return None
        if raw != b"\r\n":
            raise Refused("chunk longer than its size")
        self._move(CHUNK_SIZE)
        return Data(raw)

    def _read_trailer(self, buffer: bytes, pos: int) -> Event | None:
        """The last chunk's line, the trailer fields, the blank line: built like a head, and read like one."""
        end = self._end_of_fields(buffer, pos)
        if end is None:
            return None
        raw = buffer[pos:end]
        httphead.check_trailer(raw)
        self._move(REQUEST_LINE)
        return Data(raw)

    def _read_opaque(self, buffer: bytes, pos: int) -> Event:
        return Opaque(buffer[pos:])

    def _end_of_fields(self, buffer: bytes, pos: int) -> int | None:
        """Where the section that begins at `pos` ends, its blank line included; None while it is not there.

        On entry the section's first line, and perhaps more, has been judged.
        """
        limit = min(len(buffer), pos + HEAD_LIMIT)
        start = pos + self._judged
        whole = buffer.rfind(b"\n", start, limit) + 1
        if whole:
            start = _end(httphead.FIELDS, buffer, start, whole)
            if buffer.startswith(b"\r\n", start, whole):
                return start + 2
        short = min(limit, start + JUDGED_EARLY)
        if start < whole or not httphead.FIELD_SO_FAR.fullmatch(buffer, start, short):
            raise Refused(httphead.complaint(buffer, start))
        self._wait(pos, start, limit)
        return None

    def _wait(self, pos: int, start: int, limit: int) -> None:
        """Ask for more of the section from `pos` to `limit`, good up to `start`, unless it is too long."""
        if limit - pos == HEAD_LIMIT:
            if self.state is TRAILER:
                raise Refused("trailer section too long")
            raise Refused("head too long", httphead.HEAD_TOO_LARGE)
        self._judged = start - pos


_READERS: dict[str, Callable[[RequestParser, bytes, int], Event | None]] = {
    UNDECIDED: RequestParser._read_request_line,
    REQUEST_LINE: RequestParser._read_request_line,
    FIELDS: RequestParser._read_fields,
    BODY: RequestParser._read_data,
    CHUNK_SIZE: RequestParser._read_chunk_size,
    CHUNK_DATA: RequestParser._read_data,
    CHUNK_END: RequestParser._read_chunk_end,
    TRAILER: RequestParser._read_trailer,
    OPAQUE: RequestParser._read_opaque,
}


def _end(pattern: re.Pattern[bytes], buffer: bytes, pos: int, limit: int) -> int:
    """Where `pattern`, one that matches nothing too, stops."""
    match = pattern.match(buffer, pos, limit)
    assert match
    return match.end()


class RequestLines:
    """What a log wants to know of one connection: each request's line, once.

    Nothing is refused.  A connection that is not HTTP, or whose framing is lost, gives every piece it was fed
    with as it is.  After an Upgrade or CONNECT what is no request belongs to the other protocol: nothing more
    is given, and `silent` is True.
    """

    __slots__ = ("_answered", "_parser", "_switching", "silent")

    def __init__(self) -> None:
        self._parser = RequestParser()
        self._answered = False
        self._switching = False  # the request before may have been the last one
        self.silent = False

    @property
    def is_http(self) -> bool:
        """Whether the requests of this connection are being followed."""
        return self._parser.state not in (UNDECIDED, OPAQUE, LOST)

    def unseen(self) -> int:
        """How many of the bytes that come next are known to be body, and so not for the log."""
        return self._parser.unseen

    def skip(self, size: int) -> None:
        """So many of those came, and are not fed; what is not HTTP may be left out as it likes."""
        if self.is_http:
            self._parser.skip(size)

    def feed(self, data: bytes) -> list[bytes]:
        """What `data` gives the log.  A request's line comes with the end of its head.

        Until the first line has shown what the connection is nothing comes; if it is not HTTP, the pieces
        until then come as one.  Once the server has spoken that is waited for only if the line begins as one
        of HTTP: where a server answers half a line, it takes that for a whole one.  The texts are neither cut
        nor cleaned.
        """
        parser = self._parser
        line = parser.plain(data)
        if line is not None:
            self._switching = False
            return [line]
        if parser.state is OPAQUE:
            return [data]
        if parser.state is LOST:
            return [] if self.silent else [data]
        texts = [text for event in parser.feed(data) for text in self._texts(event)]
        return texts + self._given_up() if self._answered else texts

    def answered(self) -> list[bytes]:
        """The server has spoken for the first time.  What that gives the log."""
        self._answered = True
        return self._given_up()

    def _given_up(self) -> list[bytes]:
        """What is held of a first line of which an end is no longer waited for."""
        parser = self._parser
        if parser.state is not UNDECIDED or httphead.may_begin_request(parser.held):
            return []
        return [text for event in parser.is_not_http() for text in self._texts(event)]

    def finish(self) -> list[bytes]:
        """What the client's last bytes give the log, if it has closed in the middle of a head."""
        parser = self._parser
        if parser.state is FIELDS:
            return self._opening(parser.held)
        if parser.state is UNDECIDED or (parser.state is REQUEST_LINE and not self._switching):
            text = parser.held.lstrip(b"\r\n")
            return [text] if text else []
        return []

    def _texts(self, event: Event) -> list[bytes]:
        if isinstance(event, Head):
            self._switching = event.switches
            return [event.line]
        if isinstance(event, Opaque):
            return [event.raw]
        if isinstance(event, Invalid):
            return self._opening(event.raw)
        return []

    def _opening(self, raw: bytes) -> list[bytes]:
        """The request line that `raw` begins with, if there is one."""
        opening = httphead.OPENING.match(raw)
        if opening:
            return [opening[1]]
        self.silent = self._switching
        return [] if self.silent else [raw]
