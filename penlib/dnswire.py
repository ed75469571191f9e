"""DNS messages: questions in, answers out, RFC 1035.  Pure bytes.

Names stay as they are on the wire, uncompressed, until one is wanted as text: a label may hold any byte, a
dot too, and what a hostile zone puts there must not become structure on the way.

A message that is not well formed raises ValueError and nothing else.
"""

import re
import struct
from typing import NamedTuple

A, CNAME, PTR, AAAA = 1, 5, 12, 28
"""Types of records."""

NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
"""Response codes."""

TTL_LIMIT = 7 * 86400
"""Seconds that an answer is believed at most, RFC 8767, 4."""

_IN = 1
_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_RECURSION_DESIRED = 0x0100
_RESPONSE, _TRUNCATED, _RCODE = 0x8000, 0x0200, 0x000F
_POINTER = 0xC0
_NAME_LIMIT = 255
_POINTERS = 127  # in one name: it has no more labels, and every useful pointer leads to one
_CHAIN_LIMIT = 16  # CNAMEs followed: RFC 2317 delegations have one
_NUMBERS = [b"%c%d" % (len(str(byte)), byte) for byte in range(256)]  # labels of an IPv4 address
_ODD = re.compile(rb"[^!-~]|[.\\]")  # what no label of a host name has, and what would be taken for structure


class Record(NamedTuple):
    """One record of the answer section; `data` is the name of a CNAME or PTR, else raw."""

    owner: bytes
    type: int
    ttl: int
    data: bytes


class Message(NamedTuple):
    """An answer."""

    id: int
    truncated: bool
    rcode: int
    question: bytes
    records: list[Record]


def reverse_name(address: bytes) -> bytes:
    """Under which name the PTR record of a packed address stands (RFC 1035, 3.5; RFC 3596, 2.5)."""
    if len(address) == 4:
        return b"".join([_NUMBERS[byte] for byte in reversed(address)]) + b"\7in-addr\4arpa\0"
    return b"".join(b"\1" + b"%c" % digit for digit in address.hex()[::-1].encode()) + b"\3ip6\4arpa\0"


def wire_name(name: bytes) -> bytes:
    """A host name as it is on the wire.  Raises ValueError if a label is empty or too long."""
    labels = name.split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError("not a host name")
    return b"".join(b"%c%b" % (len(label), label) for label in labels) + b"\0"


def text_name(wire: bytes) -> bytes:
    """A name as text; a dot or anything odd within a label is `\\DDD` (RFC 4343, 2.1), so no host name."""
    labels = []
    at = 0
    while wire[at]:
        labels.append(_ODD.sub(_number, wire[at + 1 : at + 1 + wire[at]]))
        at += 1 + wire[at]
    return b".".join(labels)


def _number(odd: re.Match[bytes]) -> bytes:
    return b"\\%03d" % ord(odd[0])


def question(name: bytes, kind: int) -> bytes:
    """The question section for `name`, a wire name."""
    return name + struct.pack("!HH", kind, _IN)


def query(number: int, asked: bytes) -> bytes:
    """A query with this id for a question section."""
    return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + asked


def is_answer(message: Message, asked: bytes) -> bool:
    """Whether a message answers a question section, in whatever case (RFC 4343)."""
    return message.question.lower() == asked.lower()


def parse(data: bytes) -> Message:
    """Read an answer.  Raises ValueError."""
    try:
        return _parse(data)
    except (IndexError, struct.error) as exc:
        raise ValueError("message cut short") from exc


def _parse(data: bytes) -> Message:
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    if not flags & _RESPONSE or questions != 1:
        raise ValueError("not an answer to one question")
    name, at = _name(data, _HEADER.size)
    asked = name + data[at : at + 4]
    at += 4
    records = []
    truncated = bool(flags & _TRUNCATED)
    for _ in range(0 if truncated else answers):
        record, at = _record(data, at)
        if record:
            records.append(record)
    return Message(number, truncated, flags & _RCODE, asked, records)


def _record(data: bytes, at: int) -> tuple[Record | None, int]:
    owner, at = _name(data, at)
    kind, network, ttl, length = _FIXED.unpack_from(data, at)
    at += _FIXED.size
    end = at + length
    if end > len(data):
        raise ValueError("data cut short")
    if network != _IN:
        return None, end
    named = kind in (CNAME, PTR)
    # RFC 2181, 8: a TTL with the highest bit set counts as 0
    ttl = min(ttl, TTL_LIMIT) if ttl < 1 << 31 else 0
    return Record(owner.lower(), kind, ttl, _name(data, at)[0] if named else data[at:end]), end


def _name(data: bytes, at: int) -> tuple[bytes, int]:
    """The uncompressed name at `at`, and where it ends.  Pointers must point back, so they end; and they are
    counted, for thousands in a row, met by thousands of records, would take seconds."""
    pieces = []
    size, end, begin, pointers = 1, -1, at, 0
    while length := data[at]:
        if length >= _POINTER:
            target = (length & ~_POINTER) << 8 | data[at + 1]
            end = at + 2 if end < 0 else end
            pointers += 1
            if target >= begin:
                raise ValueError("a name that points ahead")
            if pointers > _POINTERS:
                raise ValueError("a name that is too long")
            pieces.append(data[begin:at])
            at = begin = target
            continue
        size += 1 + length
        if length > 63 or size > _NAME_LIMIT:
            raise ValueError("a name that is too long")
        at += 1 + length
    pieces.append(data[begin : at + 1])
    return b"".join(pieces), at + 1 if end < 0 else end


def answers(message: Message, name: bytes, kind: int) -> tuple[list[bytes], int]:
    """The data of all records of `kind` that `name` has, through CNAMEs, and the seconds that they hold."""
    owner, ttl = name.lower(), TTL_LIMIT
    aliases = {record.owner: record for record in message.records if record.type == CNAME}
    for _ in range(_CHAIN_LIMIT):
        found = [record for record in message.records if record.type == kind and record.owner == owner]
        if found:
            return [record.data for record in found], min(ttl, *(record.ttl for record in found))
        if owner not in aliases:
            break
        ttl = min(ttl, aliases[owner].ttl)
        owner = aliases[owner].data.lower()
    return [], 0
