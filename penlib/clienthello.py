"""The first thing that a TLS client says, as far as a server must know it before TLS begins: the name of the
host that it wants.

Format: RFC 8446 section 4.1.2 (ClientHello) and 5.1 (records), RFC 6066 section 3 (server_name).
"""

HANDSHAKE, CLIENT_HELLO = 22, 1
SERVER_NAME, HOST_NAME = 0, 0

LIMIT = 16 * 1024
"""Bytes within which a hello must be complete.  Real ones have 200 to 2,000."""

MOST_RECORDS = 100
"""Records over which a hello may be spread.  A real one takes one or two; thousands, empty or of a byte each,
would cost us milliseconds with every look at what has come so far."""


class _Short(Exception):
    """The bytes end before what they tell of."""


class _Reader:
    """Takes bytes, numbers and vectors from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise _Short
        data, self._at = self._data[self._at : end], end
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Bytes that follow their own number, which is a number of `size` bytes."""
        return self.take(self.number(size))


def server_name(data: bytes) -> str | None:
    """The host name in the hello that `data` begins with, in lower case.

    Empty if it has none, or if that is no hello; None if more must come to know.
    """
    try:
        hello = _message(_Reader(data))
    except _Short:
        return None if len(data) < LIMIT else ""
    try:
        return _name(hello) if hello else ""
    except _Short:
        return ""


def _message(records: _Reader) -> bytes:
    """The body of the hello, which may be spread over several records; empty if it is something else."""
    message = b""
    for _ in range(MOST_RECORDS):
        if records.number(1) != HANDSHAKE:
            return b""
        records.take(2)  # the version, which says nothing
        message += records.vector(2)
        reader = _Reader(message)
        try:
            if reader.number(1) != CLIENT_HELLO:
                return b""
            return reader.vector(3)
        except _Short:
            continue
    return b""


def _name(hello: bytes) -> str:
    reader = _Reader(hello)
    reader.take(2 + 32)  # version, random
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    extensions = _Reader(reader.vector(2) if reader else b"")
    while extensions:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == SERVER_NAME:
            names = _Reader(_Reader(body).vector(2))
            while names:
                name_kind, name = names.number(1), names.vector(2)
                if name_kind == HOST_NAME:
                    return name.decode("latin-1").lower()
    return ""
