"""Which server a connection goes to: the rules, one function each, and the order in which servers are tried.

For a new connection the first rule with an answer names the *first* server: the one the client used last,
by priority, by weight, by hash of the address, round robin.  A `Route` then says which server to try now and,
after each failure, which one next: the first, the ones behind it round to it, the emergency server, and as a
last resort the one that failed longest ago.  A client that the client list denies has a route to the abuse
server alone.

Pure: `now` (monotonic seconds) is an argument, connecting is somebody else's business.
"""

from collections.abc import Callable

from penlib import acl
from penlib.clients import UNKNOWN, Client
from penlib.hashing import address_hash
from penlib.servers import Server

WEIGHT_SCALE = 256
"""Load is compared as 256 * connections / weight, in integers, as pen 0.34.1 does."""


class Mode:
    """The switches that decide between the rules."""

    __slots__ = ("forgetful", "hash", "prio", "roundrobin", "stubborn", "weight")

    def __init__(self) -> None:
        self.hash = False
        self.forgetful = False
        """Hash without remembering the client (-N)."""
        self.roundrobin = False
        self.stubborn = False
        self.weight = False
        self.prio = False


class Selection:
    """The servers, the lists and the rules.  `emergency` and `abuse` stand outside the table."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.mode = Mode()
        self.acls: list[list[acl.Rule]] = [[] for _ in range(acl.LISTS)]
        self.client_acl = 0
        self.emergency: Server | None = None
        self.abuse: Server | None = None
        self._last = -1
        """Index of the server that round robin named last."""

    def first(self, client: Client, port: int, now: float) -> Server | None:
        """The server that the rules name; it need not be usable.  None if there is none to name."""
        if not self.servers:
            return None
        mode = self.mode
        return (
            (None if mode.roundrobin or mode.forgetful else self._remembered(client))
            or (self._by_prio(now) if mode.prio else None)
            or (self._by_weight(now) if mode.weight else None)
            or (self._by_hash(client, port) if mode.hash else None)
            or self._by_turn(now)
        )

    def _remembered(self, client: Client) -> Server | None:
        return None if client.server == UNKNOWN else self.servers[client.server]

    def _by_prio(self, now: float) -> Server | None:
        available = [server for server in self.servers if server.is_available(now)]
        return min(available, key=lambda server: server.prio, default=None)

    def _by_weight(self, now: float) -> Server | None:
        available = [server for server in self.servers if server.weight and server.is_available(now)]
        return min(available, key=_load, default=None)

    def _by_hash(self, client: Client, port: int) -> Server:
        number = address_hash(client.packed, port if self.mode.roundrobin else 0)
        return self.servers[number % len(self.servers)]

    def _by_turn(self, now: float) -> Server | None:
        index, count = self._last, len(self.servers)
        for _ in self.servers:
            index = (index + 1) % count
            server = self.servers[index]
            if server.is_available(now):
                self._last = index
                return server
        return None

    def permits(self, server: Server, client: Client) -> bool:
        """Whether the server's own list lets the client in."""
        entries = self.acls[server.acl]
        return not entries or acl.permits(entries, client.packed)

    def has_room(self, server: Server, client: Client) -> bool:
        """Whether the server may take one more connection of this client."""
        return not server.is_full(returning=client.server == server.index)

    def is_usable(self, server: Server, client: Client, now: float) -> bool:
        """Whether the server may be tried for this client now."""
        return (
            server.is_available(now)
            and (not self.acls[server.acl] or self.permits(server, client))
            and (not server.max or self.has_room(server, client))
        )

    def is_last_resort(self, server: Server, client: Client, now: float) -> bool:
        """Whether the server is out only because it failed."""
        return (
            server.is_configured
            and server.failed_until > now >= server.banned_until
            and self.permits(server, client)
            and self.has_room(server, client)
        )

    def admits(self, client: Client) -> bool:
        """Whether the client list lets the client in at all."""
        entries = self.acls[self.client_acl]
        return not entries or acl.permits(entries, client.packed)

    def is_denied_everywhere(self, client: Client) -> bool:
        """Whether it is the servers' own lists that leave the client without a server."""
        configured = [server for server in self.servers if server.is_configured]
        return bool(configured) and not any(self.permits(server, client) for server in configured)


def _load(server: Server) -> int:
    return WEIGHT_SCALE * server.connections // server.weight


class Route:
    """The servers that one connection is tried on, in order.  Ask `next` at first and after each failure."""

    __slots__ = ("_client", "_first", "_selection", "_stage", "_step", "tried")

    def __init__(self, selection: Selection, client: Client, port: int, now: float) -> None:
        self._selection = selection
        self._client = client
        self._step = 0
        self._stage: Callable[[Route, float], Server | None]
        """A function, not a bound method: a route would then refer to itself, and be garbage to collect."""
        self.tried: list[Server] = []
        if selection.admits(client):
            self._first = selection.first(client, port, now)
            self._stage = Route._failover if self._first else Route._emergency
        else:
            self._first = None
            self._stage = Route._abuse

    def next(self, now: float) -> Server | None:
        """The server to try now, or None when all has been tried and the client is to be closed."""
        server = self._stage(self, now)
        if server is not None:
            self.tried.append(server)
        return server

    def _failover(self, now: float) -> Server | None:
        """The first server, then index+1, +2, ... round to it."""
        selection, first = self._selection, self._first
        assert first
        count = len(selection.servers)
        while self._step < (1 if selection.mode.stubborn else count):
            server = selection.servers[(first.index + self._step) % count]
            self._step += 1
            if selection.is_usable(server, self._client, now):
                return server
        self._stage = Route._insist if selection.mode.stubborn else Route._emergency
        return self._stage(self, now)

    def _insist(self, now: float) -> Server | None:
        """Stubborn: nowhere else, but a first choice that is out only because it failed is tried again."""
        self._stage = _nowhere
        first = self._first
        if first and first not in self.tried and self._selection.is_last_resort(first, self._client, now):
            return first
        return None

    def _emergency(self, now: float) -> Server | None:
        self._stage = Route._last_resort
        emergency = self._selection.emergency
        stubborn = self._selection.mode.stubborn
        if emergency and not stubborn and not self._selection.is_denied_everywhere(self._client):
            return emergency
        return self._last_resort(now)

    def _last_resort(self, now: float) -> Server | None:
        """Of those that are out only because they failed, the one that failed longest ago."""
        self._stage = _nowhere
        failed = [
            server
            for server in self._selection.servers
            if server not in self.tried and self._selection.is_last_resort(server, self._client, now)
        ]
        return min(failed, key=lambda server: server.failed_at, default=None)

    def _only(self, now: float) -> Server | None:
        self._stage = _nowhere
        return self._first

    def _abuse(self, now: float) -> Server | None:
        self._stage = _nowhere
        return self._selection.abuse


class Direct(Route):
    """The way to one server and to no other."""

    __slots__ = ()

    def __init__(self, server: Server) -> None:
        self._first = server
        self._stage = Route._only
        self.tried = []


def _nowhere(route: Route, now: float) -> Server | None:
    return None
