"""Who was where: the clients pen remembers, least recently used first to go.

An ordered dict from packed address to `Client`: finding, adding and dropping one cost the same however many
there are.  Pure: `now` (monotonic seconds) is an argument.
"""

from collections import OrderedDict
from collections.abc import Iterator

UNKNOWN = -1
"""The `server` of a client that has not reached one yet."""


class Client:
    """What is remembered of one client address."""

    __slots__ = ("connected", "connects", "left", "number", "packed", "received", "seen", "sent", "server")

    def __init__(self, packed: bytes, number: int = UNKNOWN) -> None:
        self.packed = packed
        self.number = number
        """Its place in the table: from 0, below the table's limit, kept as long as it is remembered."""
        self.server = UNKNOWN
        self.seen = 0.0
        """When it last arrived."""
        self.left = 0.0
        """When its last connection ended."""
        self.connected = 0
        """Connections that it has now."""
        self.connects = 0
        """Connections that it ever had."""
        self.sent = 0
        """Bytes sent to the client."""
        self.received = 0


class Clients:
    """The table.  `limit` is how many are remembered, `lifetime` after how many idle seconds one is
    forgotten (0 = never)."""

    def __init__(self, limit: int, lifetime: float = 0) -> None:
        self.limit = limit
        self.lifetime = lifetime
        self._table: OrderedDict[bytes, Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Client]:
        """All of them, least recently used first."""
        return iter(self._table.values())

    def arrive(self, packed: bytes, now: float) -> Client:
        """The client of that address, which connects now: known or new, and from now on the most recent."""
        client = self._table.get(packed)
        if client is None:
            client = self._table[packed] = Client(packed, self._free_place())
        else:
            if self._has_expired(client, now):  # its connections keep the old object
                client = self._table[packed] = Client(packed, client.number)
            self._table.move_to_end(packed)
        client.seen = now
        client.connects += 1
        client.connected += 1
        return client

    def _free_place(self) -> int:
        """The place for a new client: that of the least recently used one, which goes, if all are taken.
        (`limit` only grows while pen runs, so that no two have the same.)"""
        place = len(self._table)
        while len(self._table) >= self.limit:
            place = self._table.popitem(last=False)[1].number
        return place

    def leave(self, client: Client, now: float) -> None:
        """A connection of the client ends: until now it was not idle.  (What is least recently used goes by
        arrival all the same, as in pen 0.34.1.)"""
        client.connected -= 1
        client.left = now

    def _has_expired(self, client: Client, now: float) -> bool:
        return 0 < self.lifetime <= now - max(client.seen, client.left) and not client.connected

    def since(self, when: float) -> list[Client]:
        """The clients seen at `when` or later, least recent first."""
        found = []
        for client in reversed(self._table.values()):
            if client.seen < when:
                break
            found.append(client)
        return found[::-1]
