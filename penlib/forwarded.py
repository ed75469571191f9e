"""X-Forwarded-For and X-Forwarded-Proto: what tells a server behind pen where a request came from.

Every request gets both at the end of its head.  X-Forwarded-For is one line: what the client itself said, if
anything, and then the client's address, so that the last address is always the one that pen saw.
X-Forwarded-Proto says how the client spoke with pen, whatever the client says.

A server must not find a second field that it takes for one of the two.  CGI and its heirs see `_` for every
`-`, some for any sign; so all fields that look alike through such glasses are taken out.  And `Connection:`,
which names fields that are to be dropped on the way, may not name these.

Not here: where a head begins and ends, and whether it is a good one (http).
"""

import re

_SIGN = rb"[^0-9A-Za-z\r\n:]"
_NAME = rb"x" + _SIGN + rb"forwarded" + _SIGN + rb"(?:for|proto)"
_FIELD = re.compile(rb"\r\n(" + _NAME + rb"):([^\r]*)", re.IGNORECASE)
_ANYWHERE = re.compile(rb"[\r\n]" + _NAME, re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\n(connection):([^\r]*)", re.IGNORECASE)
_MEMBER = re.compile(rb"[ \t]*" + _NAME + rb"[ \t]*", re.IGNORECASE)
_SUSPECT = b"forwarded"
"""Without this, in whatever case, a head has nothing that must go."""


def is_forwarded_field(raw: bytes) -> bool:
    """Whether a section of field lines, each after a CRLF, has one of the fields that are pen's to write."""
    return _SUSPECT in raw.lower() and _FIELD.search(raw) is not None


LONGEST = len("\nX-Forwarded-Proto")
"""Bytes that `begins_forwarded_field` looks for at most."""


def begins_forwarded_field(text: bytes) -> bool:
    """Whether any line but the first begins as one of the fields, wherever the text is from."""
    return _SUSPECT in text.lower() and _ANYWHERE.search(text) is not None


class Forwarded:
    """What is added to every request of one connection.

    `client` is the client's address, empty if it has none (a Unix socket); `proto` is http or https.
    """

    __slots__ = ("_client", "_proto", "_usual")

    def __init__(self, client: bytes, proto: bytes) -> None:
        self._client = client
        self._proto = proto
        self._usual = self._fields([])

    def _fields(self, values: list[bytes]) -> bytes:
        """The fields, and the blank line after them; `values` are the client's own X-Forwarded-For."""
        addresses = b", ".join([*values, self._client] if self._client else values)
        first = b"X-Forwarded-For: %b\r\n" % addresses if addresses else b""
        return b"%bX-Forwarded-Proto: %b\r\n\r\n" % (first, self._proto)

    def added_to(self, head: bytes) -> bytes:
        """`head`, a good one with its blank line, with the fields at its end."""
        if _SUSPECT not in head.lower():
            return head[:-2] + self._usual
        values = [
            value.strip(b" \t") for name, value in _FIELD.findall(head) if name.lower() == b"x-forwarded-for"
        ]
        kept = _CONNECTION.sub(_without_ours, _FIELD.sub(b"", head))
        return kept[:-2] + self._fields([value for value in values if value])


def _without_ours(line: re.Match[bytes]) -> bytes:
    """A Connection field that does not name the fields; nothing, if it named nothing else."""
    members = line[2].split(b",")
    kept = [member for member in members if not _MEMBER.fullmatch(member)]
    if len(kept) == len(members):
        return line[0]
    return b"\r\n%b:%b" % (line[1], b",".join(kept)) if b"".join(kept).strip(b" \t") else b""
