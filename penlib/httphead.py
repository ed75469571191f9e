"""One HTTP/1 request head: the grammar of its lines, and what its fields say about framing.

The grammar is that of RFC 9112 sections 3 (request line), 5 (fields) and 7.1 (chunks) and RFC 9110 section
5.6 (tokens), without what those allow a lenient reader: no obsolete folding, no blank before a colon, no line
end but CRLF.  A target may hold bytes beyond ASCII, as browsers send and servers take.

Each run of bytes is matched possessively and no line can be matched in two ways: matching takes time in
proportion to the bytes, whatever they are.  (Groups are not possessive: before Python 3.11.5 such a group
may end in the middle of its last round.)  `..._SO_FAR` match what may yet become such a line.

How a connection is made up of heads and bodies, whose pieces come as they come, is not known here: see http.
"""

import re
from typing import NamedTuple

from penlib.forwarded import is_forwarded_field

JUDGED_EARLY = 4096
"""Of an incomplete line only so much is judged, again with each piece: who sends single bytes must not
make us look at 64 KiB for every one of them."""

BAD_REQUEST = 400
HEAD_TOO_LARGE = 431

_SIGN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TOKEN = _SIGN + b"++"
_METHOD = _SIGN + b"{1,4096}+"  # the limit tells a method from a long line of something that is not HTTP
_TARGET = rb"[\x21-\x7e\x80-\xff]++"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_LINE = _METHOD + b" " + _TARGET + rb" HTTP/1\.[0-9]"
_FIELD = _TOKEN + b":" + _VALUE + rb"\r\n"
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + b"|" + _QUOTED + b"))?"


def _beginning(*parts: bytes) -> bytes:
    """A pattern for any beginning of the sequence `parts`, the empty one included."""
    pattern = b""
    for part in reversed(parts):
        pattern = b"(?:" + part + pattern + b")?"
    return pattern


_VERSION = [re.escape(bytes([byte])) for byte in b"HTTP/1."]
EMPTY_LINES = re.compile(rb"(?:\r?\n)*")
OPENING = re.compile(rb"(?:\r?\n)*(" + _LINE + rb")\r?\n")
STRICT_OPENING = re.compile(rb"(?:\r\n)*" + _LINE + rb"\r\n")
LINE_SO_FAR = re.compile(rb"\r|" + _beginning(_METHOD, b" ", _TARGET, b" ", *_VERSION, b"[0-9]", rb"\r"))
_BLANKS = re.compile(rb"[\t\n\v\f\r ]*+")
_BLANK = rb"[\t\v\f\r ]"
_SLOPPY = re.compile(_METHOD + _BLANK + rb"[^\n]*(?<=" + _BLANK + rb")HTTP/[0-9]+\.[0-9]+" + _BLANK + rb"*\n")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, 3.4: no server reads that as HTTP/1
_SLOPPY_SO_FAR = re.compile(_beginning(_METHOD, _BLANK + rb"[^\n]*+"))
FIELDS = re.compile(b"(?:" + _FIELD + b")*")
FIELD_SO_FAR = re.compile(rb"\r|" + _beginning(_TOKEN, b":" + _VALUE, rb"\r"))
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*\r\n")
PLAIN_HEAD = re.compile(
    rb"(?:\r\n)*((?!CONNECT )" + _LINE + rb")\r\n"
    rb"(?:(?![CcTtUu](?i:ontent-length|ransfer-encoding|pgrade):)" + _FIELD + rb")*\r\n"
)
"""A whole head that brings no body and asks for no other protocol: what `parse` would say `Head(raw, line)`
of, but for the fields that concern the client's address."""

_LENGTH = re.compile(rb"[0-9]{1,18}")  # what fits into the 64 bits of a server's off_t
_FRAMING = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)
_NOTED = re.compile(
    rb"\r\n(connection|content-length|expect|transfer-encoding|upgrade):([^\r]*)", re.IGNORECASE
)

# What is wrong with a line that is no field.  Each pattern ends at the first byte that can't be right, so
# that a piece of the line gets the same answer as the whole.
_COMPLAINTS = [
    (re.compile(rb"[ \t]"), "obsolete line folding"),
    (re.compile(_TOKEN + rb"[ \t]"), "blank before a colon"),
    (re.compile(_TOKEN + rb"[\r\n]"), "header field without a colon"),
    (re.compile(b"(?:" + _TOKEN + b":" + _VALUE + rb")?[\r\n]"), "bare CR or LF"),
    (re.compile(b""), "forbidden byte in a header field"),
]


_METHODS = tuple(
    method + b" "
    for method in b"CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE".split()  # RFC 9110, 9.3; RFC 5789
)


class Refused(Exception):
    """The bytes are no request, or one that two readers may understand differently.

    `status` is what to answer: 400 or 431.
    """

    def __init__(self, why: str, status: int = BAD_REQUEST) -> None:
        super().__init__(why, status)
        self.why, self.status = why, status


class Head(NamedTuple):
    """A complete request head.

    `raw`: the exact bytes, from the first empty line before it to the blank line after the fields.  `line`:
    the request line without CRLF.  The body is `chunked`, or has `length` bytes.  `upgrade`: the client would
    like another protocol.  `connection`: the names under Connection, in lower case.  `waits`: the client
    sends the body only once it is told to continue.
    """

    raw: bytes
    line: bytes
    length: int = 0
    chunked: bool = False
    upgrade: bool = False
    connection: tuple[bytes, ...] = ()
    waits: bool = False

    @property
    def connect(self) -> bool:
        """True if a tunnel is asked for: RFC 9110 section 9.3.6."""
        return self.line.startswith(b"CONNECT ")

    @property
    def switches(self) -> bool:
        """True if the server's answer may turn the connection into another protocol."""
        return self.upgrade or self.connect


def may_begin_request(text: bytes) -> bool:
    """Whether `text`, the beginning of a connection's first line or of one of its empty lines, looks like a
    request of a usual method rather than another protocol."""
    line = text.lstrip(b"\r\n")
    return any(line.startswith(method) or method.startswith(line) for method in _METHODS)


def is_sloppy(text: bytes) -> bool | None:
    """Whether the first line, which is no request line, may be taken for one by a lenient server; None as
    long as that can't be told.

    nginx 1.22 takes lines with several blanks, with a CR before them, or with HTTP/1.10; Apache httpd 2.4
    takes any version from HTTP/2.0 to HTTP/9.9 for HTTP/1.1.
    """
    if text.startswith(_PREFACE[: len(text)]):
        return None if len(text) < len(_PREFACE) else False
    blanks = _BLANKS.match(text)
    assert blanks
    start = blanks.end()
    end = text.find(b"\n", start) + 1
    if end:
        return _SLOPPY.fullmatch(text, start, end) is not None
    return None if _SLOPPY_SO_FAR.fullmatch(text, start, start + JUDGED_EARLY) else False


def parse(raw: bytes) -> Head:
    """The head `raw`, whose lines are known to be good.

    Raises Refused if its framing can be understood in two ways: RFC 9112 section 6.
    """
    opening = OPENING.match(raw)
    assert opening
    line = opening[1]
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _NOTED.findall(raw):
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    codings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if codings is not None:
        _check_chunked(line, codings, lengths)
    return Head(
        raw,
        line,
        length=0 if lengths is None else _length(lengths),
        chunked=codings is not None,
        upgrade=b"upgrade" in fields,
        connection=tuple(name.lower() for name in _members(fields.get(b"connection", [])) if name),
        waits=fields.get(b"expect", [b""])[0].lower() == b"100-continue",
    )


def _members(values: list[bytes]) -> list[bytes]:
    """The members of a list that may be spread over several fields: RFC 9110 section 5.3."""
    return [member.strip(b" \t") for value in values for member in value.split(b",")]


def _length(values: list[bytes]) -> int:
    """The one length, in bytes, that all values name: RFC 9112 section 6.3, rule 5."""
    lengths = set(_members(values))
    if len(lengths) > 1:
        raise Refused("different Content-Lengths")
    length = lengths.pop()
    if not _LENGTH.fullmatch(length):
        raise Refused("malformed Content-Length")
    return int(length)


def _check_chunked(line: bytes, codings: list[bytes], lengths: list[bytes] | None) -> None:
    """Chunked must be the only coding, and nothing else may frame the body: RFC 9112 section 6.1."""
    if lengths is not None:
        raise Refused("both Content-Length and Transfer-Encoding")
    if line.endswith(b"HTTP/1.0"):
        raise Refused("Transfer-Encoding in HTTP/1.0")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise Refused("Transfer-Encoding other than chunked")


def check_trailer(raw: bytes) -> None:
    """Raises Refused if a trailer section would frame the body it ends, or say where its request came from:
    both belong into heads (RFC 9110 section 6.5.1), and a server may read them here, too."""
    if _FRAMING.search(raw):
        raise Refused("framing field in a trailer")
    if is_forwarded_field(raw):
        raise Refused("X-Forwarded field in a trailer")


def complaint(buffer: bytes, start: int) -> str:
    """What is wrong with the field line that begins at `start`, be it complete or the beginning of one."""
    return next(why for pattern, why in _COMPLAINTS if pattern.match(buffer, start))
