"""By which name a server's records and lines are found together.

A record names a server as pen knows it, a line comes from wherever the server sent it from.  Both are brought
to one key: the numeric address in its shortest form, IPv4 also where it came mapped into IPv6.  Then:

- A server on a Unix socket, or on a loopback address of another machine, runs where pen runs: its key is the
  address from which pen sent the record.
- A server named by host name is looked up in the background, and has no key until that is answered.  All
  addresses of a name have one key.

Answers are remembered, so that in the long run a key costs one look into a table.
"""

import socket
from collections.abc import Callable

from penlib import address
from penlib.address import Endpoint
from penlib.dns import Answer, Lookups
from penlib.errors import PenError, UsageError
from penlib.loop import Loop, Timer
from penlib.report import Once, Reporter

REMEMBERED = 10_000
"""Answers remembered; then all are forgotten, and made anew."""

NAMES = 1000
"""Host names looked up: records may hold garbage, and name servers are not to be troubled with much of it."""

LOOK_UP_AGAIN, AT_MOST = 60.0, 3600.0
"""Seconds until a name that did not resolve is looked up again, at first; doubled each time."""


class ServerKeys:
    """The keys of servers."""

    def __init__(
        self, loop: Loop, lookups: Lookups, reporter: Reporter, resolved: Callable[[], None]
    ) -> None:
        """`resolved` is called whenever a name's lookup has been answered."""
        self._loop = loop
        self._lookups = lookups
        self._failures = Once(reporter)
        self._resolved = resolved
        self._sources: dict[str, bytes] = {}
        self._servers: dict[tuple[bytes, str], bytes] = {}
        self._names: dict[str, bytes | None] = {}  # None until there is an answer
        self._retries: dict[str, Timer] = {}
        self._same: dict[bytes, bytes] = {}  # address -> another address of the same server

    def of_source(self, source: str) -> bytes:
        """The key of the server whose lines come from the numeric address `source`."""
        key = self._sources.get(source)
        if key is None:
            key = self._address_key(source)
            if len(self._sources) >= REMEMBERED:
                self._sources.clear()
            self._sources[source] = key
        return key

    def of_server(self, server: bytes, source: str) -> bytes | None:
        """The key of a record's `server`, if pen sent the record from the numeric address `source`.

        None if it can't be known yet.
        """
        key = self._servers.get((server, source))
        if key is None:
            key = self._server_key(server, source)
            if key is None:
                return None
            if len(self._servers) >= REMEMBERED:
                self._servers.clear()
            self._servers[server, source] = key
        return key

    def look_up_again(self) -> None:
        """Names may have new addresses."""
        for name in self._names:
            self._look_up(name)

    def _server_key(self, server: bytes, source: str) -> bytes | None:
        text = server.decode("ascii", "replace")
        if "/" in text:
            return self.of_source(source)
        if not address.is_numeric(text):
            return self._name_key(text)
        if _is_loopback(text) and not _is_loopback(source):
            return self.of_source(source)
        return self._address_key(text)

    def _address_key(self, text: str) -> bytes:
        return self._first(address.unpack(address.pack(text)).encode())

    def _first(self, key: bytes) -> bytes:
        """The address by which all addresses of a server are known."""
        while other := self._same.get(key):
            key = other
        return key

    def _name_key(self, name: str) -> bytes | None:
        if name not in self._names:
            if len(self._names) >= NAMES or not _is_name(name):
                return name.encode()
            self._names[name] = None
            self._look_up(name)
        key = self._names[name]
        return key and self._first(key)

    def _look_up(self, name: str, again: float = LOOK_UP_AGAIN) -> None:
        def then(answer: Answer) -> None:
            if isinstance(answer, PenError):
                self._failures.failing("server named in a record", f"{answer}; its lines keep their clients")
                self._names[name] = self._names[name] or name.encode()
                self._look_up_later(name, again)
            else:
                self._unite(name, [self._address_key(place.host) for place in answer])
            self._sources.clear()
            self._servers.clear()
            self._resolved()

        self._lookups.lookup(Endpoint(name, 0), then, socket.SOCK_DGRAM)

    def _look_up_later(self, name: str, seconds: float) -> None:
        """Once, however many lookups of the name have failed."""
        if name in self._retries:
            self._retries[name].cancel()
        self._retries[name] = self._loop.after(
            seconds, lambda: self._look_up(name, min(2 * seconds, AT_MOST))
        )

    def _unite(self, name: str, addresses: list[bytes]) -> None:
        first = addresses[0]
        self._names[name] = first
        for other in addresses[1:]:
            if other != first:
                self._same[other] = first


def _is_name(text: str) -> bool:
    try:
        return bool(address.check_host(text, text))
    except UsageError:
        return False


def _is_loopback(text: str) -> bool:
    text = address.unmap(text)
    return text.startswith("127.") or text == "::1"
