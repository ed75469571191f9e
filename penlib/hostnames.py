"""Which bytes at the start of a line are an address, and which names may stand in its place.

A name comes from whoever runs the reverse zone of an address, so it is anybody's text: it is written only if
it could neither break a log's fields nor be taken for an address.

Not here: finding the name.
"""

import re

from penlib.address import pack

LEADING = re.compile(
    rb"^((?:\d{1,3}(?:\.\d{1,3}){3}|(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:.]{2,45}))(?![\w.:%/\x80-\xff-])",
    re.MULTILINE | re.ASCII,
)
"""What looks like an address at the start of a line, and does not go on like a name, a port or a network.

`LEADING.split` answers text and address by turns."""

LONGEST = 45
"""Bytes of the longest IPv6 address as text, INET6_ADDRSTRLEN without the closing NUL."""

NAME_LIMIT = 253
"""Bytes in a host name: RFC 1035, 2.3.4, as text without the last dot."""

_NAME = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_NUMBERS = re.compile(rb"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+))*")
"""What inet_aton(3) may read as an address, odd forms like 1.2.3 and 0x7f.1 included."""


def packed(text: bytes) -> bytes | None:
    """The network bytes of the address that `text` is, ::ffff:a.b.c.d as IPv4; None if it is none."""
    try:
        address = pack(text.decode("ascii"))
    except (OSError, ValueError):
        return None
    return address[12:] if address.startswith(b"\0" * 10 + b"\xff\xff") else address


def is_host_name(name: bytes) -> bool:
    """Whether `name` may be written: letters, digits, - _, dots between them; nothing like an address."""
    return len(name) <= NAME_LIMIT and bool(_NAME.fullmatch(name)) and not _NUMBERS.fullmatch(name)


def choose(names: list[bytes]) -> bytes | None:
    """The first in byte order of those that may be written."""
    return min(filter(is_host_name, names), default=None)


def read_hosts(path: str = "/etc/hosts") -> dict[bytes, bytes]:
    """Packed address -> its first name in a hosts(5) file, the first line of an address counting.

    Empty if the file can't be read: a system without one is a system without such names.
    """
    found: dict[bytes, bytes] = {}
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.partition(b"#")[0].split()
        address = packed(words[0]) if len(words) > 1 else None
        if address and is_host_name(words[1]):
            found.setdefault(address, words[1])
    return found
