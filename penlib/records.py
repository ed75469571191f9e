"""The pen record, in the two forms in which it travels: a line of pen's log file, and a datagram to penlogd.

    CLIENT EPOCH SERVER REQUEST\\n    file form: at most 100 bytes of request
    + CLIENT SERVER REQUEST\\n         network form: at most 1024 bytes in all, `+ ` and newline included

CLIENT and SERVER are numeric addresses without a port; a server on a Unix socket is named by its path, a
client on one is `unix`.  REQUEST is what the client sent, up to the first CR or LF, with `.` for every byte
outside 0x20-0x7e.

pen 0.34.1 writes the same two forms but lets bytes through: in the file form control characters, in the
network form everything.  The parsers clean what they read, so that both suites' records compare equal to
each other and to the canonical request of an access log (see accesslog).

A record that fills its form was probably cut, and then names only the beginning of the request; `limit` says
how many bytes there was room for.  Which record belongs to which access-log line is not decided here: see
matching.
"""

import re
from typing import NamedTuple

FILE_LIMIT = 100  # bytes of request in the file form; as pen 0.34.1 does
DATAGRAM_LIMIT = 1024  # bytes of a whole datagram with its newline; as pen 0.34.1 does

FIELD_LIMIT = 107  # bytes of CLIENT or SERVER: the path of a Unix socket, unix(7), is the longest

# Printable ASCII stays, CR ends the text as LF does, everything else is a dot.
_CLEAN = bytes(c if 0x20 <= c <= 0x7E else 0x0A if c in b"\r\n" else 0x2E for c in range(256))
_FIELD = bytes(c if 0x21 <= c <= 0x7E else 0x2E for c in range(256))

_FILE_FIELDS = rb"([!-~]{1,%d}+) ([0-9]{1,18}+) ([!-~]{1,%d}+) " % (FIELD_LIMIT, FIELD_LIMIT)
_FILE_LINE = re.compile(_FILE_FIELDS + rb"([^\r\n]*)")
_CLEAN_FILE_LINES = re.compile(_FILE_FIELDS + rb"([ -~]*+)\n|(.*+)\n")  # each one, or else a line
_DATAGRAM = re.compile(rb"\+ ([!-~]{1,%d}) ([!-~]{1,%d}) ([^\r\n]*)" % (FIELD_LIMIT, FIELD_LIMIT))


class Record(NamedTuple):
    """What pen says of one request. `epoch` (seconds) is None in the network form: it happened just now."""

    client: bytes
    server: bytes
    request: bytes
    epoch: int | None
    limit: int

    @property
    def cut(self) -> bool:
        """True if the request may have been longer than what was kept of it."""
        return len(self.request) >= self.limit


def clean(data: bytes) -> bytes:
    """The text of `data` up to its first CR or LF, every byte outside 0x20-0x7e as `.`."""
    return data.translate(_CLEAN).partition(b"\n")[0]


def field(name: str) -> bytes:
    """`name` (an address, a socket's path) as a CLIENT or SERVER: no blank in it may end the field."""
    return name.encode(errors="surrogateescape").translate(_FIELD)


def file_line(client: bytes, epoch: int, server: bytes, request: bytes) -> bytes:
    """The record as a line of pen's log file; `request` is what the client sent, raw and of any length."""
    return b"%b %d %b %b\n" % (client, epoch, server, clean(request[:FILE_LIMIT]))


def datagram(client: bytes, server: bytes, request: bytes) -> bytes:
    """The record as a datagram to penlogd; `request` is what the client sent, raw and of any length."""
    record = b"+ %b %b %b" % (client, server, clean(request[:DATAGRAM_LIMIT]))
    return record[: DATAGRAM_LIMIT - 1] + b"\n"


def split_file_lines(text: bytes) -> list[tuple[bytes, ...]]:
    """CLIENT, EPOCH, SERVER, clean REQUEST and nothing for each line of a text from pen's log; of those that
    are no records nothing four times, and the line.  Never raises.
    """
    return [parts if parts[0] else _split_file_line(parts[-1]) for parts in _CLEAN_FILE_LINES.findall(text)]


def _split_file_line(line: bytes) -> tuple[bytes, ...]:
    match = _FILE_LINE.match(line)
    if match is None:
        return (b"", b"", b"", b"", line)
    client, epoch, server, request = match.groups()
    return (client, epoch, server, request.translate(_CLEAN), b"")


def parse_file_line(line: bytes) -> Record | None:
    """The record of one line of pen's log, with or without its newline; else None. Never raises."""
    client, epoch, server, request, _ = _split_file_line(line)
    return Record(client, server, request, int(epoch), FILE_LIMIT) if client else None


def parse_datagram(data: bytes) -> Record | None:
    """The record of one datagram, with or without its newline; else None. Never raises.

    No more is kept than a pen sends, whatever anybody else does.
    """
    match = _DATAGRAM.match(data, 0, DATAGRAM_LIMIT - 1)
    if match is None:
        return None
    client, server, request = match.groups()
    limit = DATAGRAM_LIMIT - 1 - match.start(3)
    if len(request) == FILE_LIMIT:  # probably sent on from a log file, and cut there
        limit = FILE_LIMIT
    return Record(client, server, request.translate(_CLEAN), None, limit)
