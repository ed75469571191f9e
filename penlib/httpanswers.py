"""HTTP/1 answers: which request the bytes that a server sends are the answer to.

`Answers` is told of each request that goes to a server and is shown what the server sends.  It knows then how
many requests are unanswered, and when the server has agreed to an Upgrade or CONNECT.  It changes nothing.

    HEAD -+-> BODY -----------------> HEAD      LOST: not HTTP/1, or an answer that nobody asked for;
          +-> SIZE -> CHUNK -> SIZE             nothing more is known, and no Upgrade is believed.
          |     +---> TRAILER ------> HEAD      ENDLESS: the answer ends with the connection.
          +-> ENDLESS, SWITCHED, LOST           SWITCHED: another protocol from here on.

A server is believed, and read leniently: what matters is to see where its answers end as the server does, and
never to take a part of one for the next (RFC 9112 section 6.3).  Bytes of bodies are only counted, and may be
left out if they are counted (`unseen`, `skip`).

`refusal` is the answer that pen itself gives to what is no request.
"""

import re
from collections import deque
from collections.abc import Callable

from penlib.httphead import Head

HEAD_LIMIT = 256 * 1024
"""Bytes of an answer's head, or of its trailer section: more than any server sends."""

# What of a request decides how its answer is read.
BODILESS = 1
UPGRADE = 2
TUNNEL = 4

HEAD = "head"
BODY = "body"
SIZE = "size"
CHUNK = "chunk"
TRAILER = "trailer"
ENDLESS = "endless"
SWITCHED = "switched"
LOST = "lost"

_BEGINNING = b"HTTP/1."
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9][0-9])(?![0-9])")
_END = re.compile(rb"\n\r?\n")
_FRAMING = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=[\r\n])")
"""In a head in lower case: several times faster than to ignore the case of every byte."""

_NO_FRAMING = rb"(?:(?![Cc](?i:ontent-length)|[Tt](?i:ransfer-encoding))[^\r\n]++\r\n)*"
_PLAIN_HEAD = re.compile(
    rb"HTTP/1\.[0-9] (?!204|304)[2-5][0-9][0-9](?![0-9])[^\r\n]*+\r\n" + _NO_FRAMING
    + rb"[Cc](?i:ontent-length):[ \t]*+([0-9]{1,18})\r\n" + _NO_FRAMING + rb"\r\n"
)  # fmt: skip
"""Of an answer with a body, if the request was none of the above; and how long that is."""

_LENGTH = re.compile(rb"([0-9]{1,18})(?:[ \t]*,[ \t]*\1)*")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_SIZE_LIMIT = 4096
_CHUNKED = re.compile(rb"(?:.*,)?[ \t]*chunked")
_NO_CONTENT = (b"204", b"304")


def kind(head: Head) -> int:
    """What `asked` must know of a request."""
    return (
        (BODILESS if head.line.startswith(b"HEAD ") else 0)
        | (UPGRADE if head.upgrade else 0)
        | (TUNNEL if head.connect else 0)
    )


class Answers:
    """What one server sends on one connection."""

    __slots__ = ("_asked", "_held", "_left", "state")

    def __init__(self) -> None:
        self.state = HEAD
        self._asked: deque[int] = deque()
        self._held = b""  # of an incomplete head, size or trailer section
        self._left = 0  # bytes of the body, or of the chunk and its line end, still to come

    @property
    def outstanding(self) -> int:
        """Requests whose answer has not come completely."""
        return len(self._asked)

    @property
    def at_rest(self) -> bool:
        """Whether nothing has come of the next answer."""
        return self.state is HEAD and not self._held

    @property
    def may_switch(self) -> bool:
        """Whether an Upgrade or CONNECT is unanswered, and the answer will be understood."""
        return not self.final and any(one & (UPGRADE | TUNNEL) for one in self._asked)

    def asked(self, kind: int) -> int:
        """A request goes to the server.  Answers how many are unanswered, 0 if that can't be known."""
        if self.state in _FINAL:
            return 0
        self._asked.append(kind)
        return len(self._asked)

    def retract(self) -> None:
        """The last request did not go to the server after all."""
        if not self.final:
            self._asked.pop()

    @property
    def final(self) -> bool:
        """Whether nothing more can be learnt: ENDLESS, SWITCHED or LOST."""
        return self.state in _FINAL

    @property
    def unseen(self) -> int:
        """How many of the bytes that come next are known to be body, and no more than that."""
        return self._left if self.state is BODY or self.state is CHUNK else 0

    def skip(self, size: int) -> None:
        """So many of those came, and are not shown."""
        if not self.final:
            self._count(size)

    def feed(self, data: bytes) -> None:
        """What the server sent."""
        if self.state in _FINAL:
            return
        if self.at_rest and self._asked and not self._asked[0] and _is_plain(data):
            self._answered()
            return
        buffer = self._held + data if self._held else data
        pos = 0
        while pos < len(buffer):
            end = _READERS[self.state](self, buffer, pos)
            if end is None:
                self._held = buffer[pos:]
                return
            pos = end
        self._held = b""

    def _count(self, size: int) -> None:
        self._left -= size
        if not self._left:
            if self.state is BODY:
                self._answered()
            else:
                self.state = SIZE

    def _answered(self) -> None:
        self._asked.popleft()
        self.state = HEAD

    def _read_head(self, buffer: bytes, pos: int) -> int | None:
        if not self._asked:
            return self._lose(buffer)
        found = _END.search(buffer, pos, pos + HEAD_LIMIT)
        status = _STATUS.match(buffer, pos)
        if found is None:
            begins = status or _BEGINNING.startswith(buffer[pos : pos + len(_BEGINNING)])
            begins = begins or buffer.startswith(_BEGINNING, pos)
            return None if begins and len(buffer) - pos < HEAD_LIMIT else self._lose(buffer)
        if status is None:
            return self._lose(buffer)
        end = found.end()
        self._frame(status[1], buffer[pos:end])
        return end if self.state not in _FINAL else len(buffer)

    def _frame(self, status: bytes, head: bytes) -> None:
        """What follows this head."""
        asked = self._asked[0]
        if status.startswith(b"1"):
            if status == b"101":
                self.state = SWITCHED if asked & UPGRADE else LOST
        elif asked & TUNNEL and status.startswith(b"2"):
            self.state = SWITCHED
        elif asked & BODILESS or status in _NO_CONTENT:
            self._answered()
        else:
            self._frame_body(head)

    def _frame_body(self, head: bytes) -> None:
        codings: list[bytes] = []
        lengths: list[bytes] = []
        for name, value in _FRAMING.findall(head.lower()):
            (lengths if name == b"content-length" else codings).append(value)
        if codings:
            self.state = SIZE if _CHUNKED.fullmatch(codings[-1]) else ENDLESS
            return
        length = _LENGTH.fullmatch(b",".join(lengths) if len(lengths) > 1 else lengths[0] if lengths else b"")
        if length is None:
            self.state = LOST if lengths else ENDLESS
            return
        self._left = int(length[1])
        self.state = BODY
        if not self._left:
            self._answered()

    def _read_body(self, buffer: bytes, pos: int) -> int:
        size = min(self._left, len(buffer) - pos)
        self._count(size)
        return pos + size

    def _read_size(self, buffer: bytes, pos: int) -> int | None:
        line = _SIZE.match(buffer, pos)
        if line is None:
            whole = buffer.find(b"\n", pos, pos + _SIZE_LIMIT) >= 0
            return self._lose(buffer) if whole or len(buffer) - pos >= _SIZE_LIMIT else None
        size = int(line[1], 16)
        if not size:
            self.state = TRAILER
            return line.end() - 1  # its line end begins the trailer section
        self._left = size + 2
        self.state = CHUNK
        return line.end()

    def _read_trailer(self, buffer: bytes, pos: int) -> int | None:
        end = _END.search(buffer, pos, pos + HEAD_LIMIT)
        if end is None:
            return self._lose(buffer) if len(buffer) - pos >= HEAD_LIMIT else None
        self._answered()
        return end.end()

    def _lose(self, buffer: bytes) -> int:
        self.state = LOST
        return len(buffer)


_FINAL = (ENDLESS, SWITCHED, LOST)
_READERS: dict[str, Callable[[Answers, bytes, int], int | None]] = {
    HEAD: Answers._read_head,
    BODY: Answers._read_body,
    SIZE: Answers._read_size,
    CHUNK: Answers._read_body,
    TRAILER: Answers._read_trailer,
}


def _is_plain(data: bytes) -> bool:
    """Whether this is one whole answer with a body by length, and nothing else: the commonest case, in one
    match."""
    head = _PLAIN_HEAD.match(data)
    return head is not None and head.end() + int(head[1]) == len(data)


_REASONS = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


def refusal(status: int, why: str) -> bytes:
    """The answer to what is no request, after which the connection is closed."""
    title = b"%d %b" % (status, _REASONS[status])
    return page(title, b"%b: %b\n" % (title, why.encode()), b"text/plain", b"Connection: close\r\n")


def page(title: bytes, body: bytes, form: bytes, fields: bytes = b"") -> bytes:
    """A whole answer; `title` is its status and reason, `fields` are further lines of its head."""
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        title, form, len(body), fields, body,
    )  # fmt: skip
