"""Access lists: which addresses may, and which may not.

List semantics as in the pen 0.34.1 man page: entries are looked at in order, the first that matches decides;
if none matches the answer is the opposite of the last entry; an empty list permits.

Pure: addresses come packed (4 or 16 network bytes, see `address.pack`).  Lists are about addresses: a client
without one (on a Unix socket, `b""`) is let in by every list, as by pen 0.34.1; who may connect there is said
by the socket's mode.
"""

import re
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from penlib import address
from penlib.errors import UsageError

MAPPED_BITS = ((1 << 96) - 1) << 32
MAPPED_NET = 0xFFFF << 32
"""::ffff:0:0/96, RFC 4291 section 2.5.5.2: where IPv4 addresses are in IPv6."""

LISTS = 10
"""Lists 0 to 9, as the control protocol numbers them."""


CODE = re.compile(r"[A-Za-z]{2}")
"""An ISO 3166-1 alpha-2 code."""


class Entry(NamedTuple):
    """One line of a list: addresses of one family that equal `net` where `mask` has ones."""

    permit: bool
    size: int
    net: int
    mask: int

    def __str__(self) -> str:
        """The entry as the `acl` command takes it."""
        verb = "permit" if self.permit else "deny"
        net = address.unpack(self.net.to_bytes(self.size, "big"))
        if self.size == 16:
            return f"{verb} {net}/{self.mask.bit_count()}"
        return f"{verb} {net} {address.unpack(self.mask.to_bytes(4, 'big'))}"

    def matches(self, packed: bytes) -> bool:
        """Whether the entry is about this packed address."""
        return len(packed) == self.size and int.from_bytes(packed, "big") & self.mask == self.net


class Country(NamedTuple):
    """One line of a list: addresses in a country, by its ISO 3166 code; `of` says where an address is."""

    permit: bool
    code: str
    of: Callable[[bytes], str]

    def __str__(self) -> str:
        return f"{'permit' if self.permit else 'deny'} country {self.code}"

    def matches(self, packed: bytes) -> bool:
        """Whether the entry is about this packed address."""
        return self.of(packed) == self.code


Rule = Entry | Country


def country(permit: bool, code: str, of: Callable[[bytes], str]) -> Country:
    """An entry for a country.  Raises UsageError."""
    if not CODE.fullmatch(code):
        raise UsageError(f"'{code}' is not a country code of two letters")
    return Country(permit, code.upper(), of)


def entry(permit: bool, net: str, mask: str = "") -> Entry:
    """An entry for `net`: an IPv4 address with a dotted `mask` or /LEN, or an IPv6 address with /LEN.

    Raises UsageError naming the word at fault.  Bits of the address outside the mask do not count.
    """
    host, slash, length = net.partition("/")
    if not address.is_numeric(host) or "%" in host:
        raise UsageError(f"'{host}' is not an address")
    if slash and mask:
        raise UsageError(f"'{net}' and a mask '{mask}': one of the two")
    if ":" in host and slash:
        return _v6_net(permit, host, length)
    packed = address.pack(host)
    size = len(packed)
    if slash:
        bits = _prefix(length, 8 * size)
    elif mask:
        bits = _dotted(mask, size)
    else:
        bits = (1 << 8 * size) - 1
    return Entry(permit, size, int.from_bytes(packed, "big") & bits, bits)


def _v6_net(permit: bool, host: str, length: str) -> Entry:
    """A network of IPv6 addresses; if all of them are IPv4-mapped, the IPv4 network that it means."""
    net = int.from_bytes(socket.inet_pton(socket.AF_INET6, host), "big")
    bits = _prefix(length, 128)
    if bits >= MAPPED_BITS and net & MAPPED_BITS == MAPPED_NET:
        return Entry(permit, 4, net & bits & 0xFFFFFFFF, bits & 0xFFFFFFFF)
    return Entry(permit, 16, net & bits, bits)


def _prefix(length: str, width: int) -> int:
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= width):
        raise UsageError(f"'/{length}' is not a length between 0 and {width}")
    return ((1 << int(length)) - 1) << (width - int(length))


def _dotted(mask: str, size: int) -> int:
    if size != 4 or not address.is_ipv4(mask):
        raise UsageError(f"'{mask}' is not a mask")
    return int.from_bytes(address.pack(mask), "big")


def permits(entries: Sequence[Rule], packed: bytes) -> bool:
    """Whether the list lets the client with this packed address pass."""
    if not entries or not packed:
        return True
    for one in entries:
        if one.matches(packed):
            return one.permit
    return not entries[-1].permit
