"""Addresses as the tools write them: `port`, `host:port`, `[v6]:port`, `v6:port`, `/path/to/socket`.

Pure text and values; resolving a name is the business of `sockets` and `dns`.  Service names are the one
thing looked up here, in the system's services database, because without it a port is not yet a value.

Everything that can be wrong with an address raises UsageError naming the address and the fault, before
anything is opened.
"""

import re
import socket
from typing import Any, NamedTuple

from penlib.errors import UsageError

UNIX_CLIENT = "unix"
"""How a client that came over a Unix socket is written: it has no address."""

PATH_LIMIT = 107
"""Bytes in the name of a Unix socket, unix(7): sun_path holds 108 with the closing NUL."""

LARGEST = 2**31 - 1
"""The largest number that is taken, a C int's."""

NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)
_UNIX_SERVER = re.compile(r"(.*?)((?::[0-9]*){1,5})?", re.DOTALL)
_MAPPED = "::ffff:"
_MAPPED_BYTES = bytes(10) + b"\xff\xff"


class Endpoint(NamedTuple):
    """Where something listens or is reached: `host` and `port`, or `path` of a Unix socket.

    `host` is a name, a numeric address without brackets, or empty for all local addresses; `port` is 0 only
    for a server that has not been given one yet, and for direct server return of all ports.
    """

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        if not self.host:
            return str(self.port)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


class Place(NamedTuple):
    """One resolved address: what socket() and connect() want."""

    family: int
    sockaddr: Any

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return str(self.sockaddr)
        return str(Endpoint(unmap(self.sockaddr[0]), self.sockaddr[1]))

    @property
    def host(self) -> str:
        """The numeric address without port, or the path."""
        return str(self.sockaddr) if self.family == socket.AF_UNIX else unmap(self.sockaddr[0])

    def at_port(self, port: int) -> "Place":
        """The same address with another port."""
        if self.family == socket.AF_UNIX:
            return self
        host, _, *rest = self.sockaddr
        return Place(self.family, (host, port, *rest))


class ServerSpec(NamedTuple):
    """One server as typed: where it is, and its limits (0 = no limit, not used)."""

    endpoint: Endpoint
    max: int = 0
    hard: int = 0
    weight: int = 0
    prio: int = 0


def listener(text: str, protocol: str = "tcp") -> Endpoint:
    """Parse where to listen: `port`, `host:port`, `[v6]:port`, `v6:port` (last colon divides) or `/path`."""
    if "/" in text:
        return Endpoint("", 0, unix_path(text))
    host, colon, port = text.rpartition(":")
    if not colon:
        expected = "; [host:]port or /path expected" if protocol == "tcp" else "; [host:]port expected"
        return Endpoint("", port_number(text, text, protocol, expected))
    if host.startswith("[") or host.endswith("]"):
        host = _unbracket(host, text)
    elif ":" in host:
        _check_v6(host, text)
    return Endpoint(check_host(host, text) if host else "", port_number(port, text, protocol))


def target(text: str, protocol: str = "tcp", default_port: int = 0) -> Endpoint:
    """Parse what is to be reached by network: `host[:port]`, `[v6][:port]`; no port means `default_port`, or
    is an error if that is 0."""
    if "/" in text:
        raise UsageError(f"bad address '{text}': host:port expected")
    host, fields = _divide_server(text)
    if len(fields) > 1:
        raise UsageError(f"bad address '{text}': host:port expected")
    number = port_number("".join(fields), text, protocol) if fields or not default_port else default_port
    return Endpoint(check_host(host, text), number)


def server(text: str, protocol: str = "tcp", default_port: int = 0) -> ServerSpec:
    """Parse `host[:port[:max[:hard[:weight[:prio]]]]]`, `[v6]:port:...` or `/path[:port:max:...]`.

    An empty field before others keeps its default.  A Unix socket needs no port; the field is there so that
    the others can follow.
    """
    host, fields = _divide_server(text)
    if len(fields) > 5:
        raise UsageError(f"server '{text}': more than host:port:max:hard:weight:prio")
    port, *limits = fields + [""] * (5 - len(fields))
    names = ("max", "hard", "weight", "prio")
    numbers = [count(word, f"server '{text}': {name}") for word, name in zip(limits, names, strict=True)]
    if "/" in host:
        return ServerSpec(Endpoint("", 0, unix_path(host)), *numbers)
    left_out = not port and len(fields) != 1  # but in `host:` something is missing
    number = default_port if left_out else port_number(port, text, protocol)
    return ServerSpec(Endpoint(check_host(host, text), number), *numbers)


def _divide_server(text: str) -> tuple[str, list[str]]:
    """Take `text` apart into the host and the fields behind it."""
    if "/" in text:
        match = _UNIX_SERVER.fullmatch(text)
        assert match  # every text does
        return match[1], (match[2] or "").split(":")[1:]
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"bad address '{text}': [address]:port expected")
        return _unbracket(host + bracket, text), rest.split(":")[1:]
    for host in (text, text.rpartition(":")[0]):
        if is_ipv6(host):
            raise UsageError(f"bad address '{text}': write an IPv6 address as [{host}]:port")
    host, *fields = text.split(":")
    return host, fields


def count(word: str, what: str) -> int:
    """A number of zero or more, or 0 for an empty word; UsageError `what: 'word' is not a number`."""
    return number(word, f"{what}: ") if word else 0


def number(word: str, what: str = "") -> int:
    """A number from 0 to LARGEST; UsageError `'word' is not a number`, after `what`."""
    if not (word.isascii() and word.isdigit()):
        raise UsageError(f"{what}'{word}' is not a number")
    digits = word.lstrip("0") or "0"
    if len(digits) > len(str(LARGEST)) or int(digits) > LARGEST:
        raise UsageError(f"{what}'{word}' is too large, at most {LARGEST}")
    return int(digits)


def port_number(word: str, text: str, protocol: str = "tcp", expected: str = "") -> int:
    """A port, 1-65535 or a service name for `protocol`; `text` is the whole address, for the message, which
    ends with `expected` where `word` is neither."""
    if word.isascii() and word.isdigit():
        number = int(word) if len(word) < 9 else 65536
        if not 1 <= number <= 65535:
            raise UsageError(f"bad address '{text}': port {word} is not between 1 and 65535")
        return number
    if not word:
        raise UsageError(f"bad address '{text}': no port")
    try:
        return socket.getservbyname(word, protocol)
    except (OSError, UnicodeError, ValueError):
        raise UsageError(f"bad address '{text}': no port or {protocol} service '{word}'{expected}") from None


def unix_path(path: str) -> str:
    """`path`, checked for what a Unix socket's name may be."""
    if len(path.encode("utf-8", "surrogateescape")) > PATH_LIMIT:
        raise UsageError(f"bad address '{path}': the path of a Unix socket has at most {PATH_LIMIT} bytes")
    if "\0" in path or path.endswith("/"):
        raise UsageError(f"bad address '{path}': not the name of a socket")
    return path


def check_host(host: str, text: str) -> str:
    """`host`, if it is a numeric address or could be a name; else UsageError naming `text`.

    IPv6's form of an IPv4 address means that: no socket of ours takes it for anything else.
    """
    if ":" in host or "%" in host:
        _check_v6(host, text)
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        return unpack(packed[len(_MAPPED_BYTES) :]) if packed.startswith(_MAPPED_BYTES) else host
    elif not host:
        raise UsageError(f"bad address '{text}': no host")
    elif _NUMBERS.fullmatch(host):
        if not is_ipv4(host):
            raise UsageError(f"bad address '{text}': '{host}' is not an IPv4 address")
    elif len(host) > 253 or not NAME.fullmatch(host):
        raise UsageError(f"bad address '{text}': '{host}' is not a host name")
    return host


def _unbracket(host: str, text: str) -> str:
    if not (host.startswith("[") and host.endswith("]")):
        raise UsageError(f"bad address '{text}': [address]:port expected")
    _check_v6(host[1:-1], text)
    return host[1:-1]


def _check_v6(host: str, text: str) -> None:
    if not is_ipv6(host):
        raise UsageError(f"bad address '{text}': '{host}' is not an IPv6 address")


def is_ipv4(host: str) -> bool:
    """Whether `host` is a dotted quad."""
    return _packs(socket.AF_INET, host)


def is_ipv6(host: str) -> bool:
    """Whether `host` is an IPv6 address, without brackets, perhaps with a %scope."""
    address, percent, scope = host.partition("%")
    return _packs(socket.AF_INET6, address) and bool(scope) == bool(percent)


def is_numeric(host: str) -> bool:
    """Whether `host` needs no resolving."""
    return is_ipv4(host) or is_ipv6(host)


def _packs(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):  # ValueError: a NUL or a character beyond ASCII
        return False
    return True


def pack(host: str) -> bytes:
    """The network bytes of a numeric address: 4 for IPv4 (also when written as ::ffff:a.b.c.d), 16 for IPv6.

    Raises OSError for anything else.
    """
    host = unmap(host.partition("%")[0])
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def unpack(packed: bytes) -> str:
    """The text of an address that `pack` packed."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def unmap(host: str) -> str:
    """An IPv4-mapped IPv6 address as plain IPv4, anything else as it is."""
    if host.startswith(_MAPPED) and "." in host:
        return host[len(_MAPPED) :]
    return host
