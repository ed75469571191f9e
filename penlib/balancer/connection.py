"""One connection of pen: a client's side, a server's side, and how far it has come; and the table of all."""

import heapq
from collections.abc import Callable, Iterator

from penlib import clock
from penlib.clients import Client, Clients
from penlib.report import Reporter
from penlib.selection import Route
from penlib.servers import Server

UNUSED, PENDING, JOINED = 0, 1, 2
"""States of a connection as `connection N` shows them."""


class Connection:
    """One client's connection and the way to its server."""

    __slots__ = (
        "_then", "active", "address", "client", "client_port", "counted_down", "counted_up", "deadline",
        "down", "family", "logged", "number", "place", "route", "server", "up",
    )  # fmt: skip

    def __init__(
        self,
        down: int,
        family: int,
        client: Client,
        address: bytes,
        then: Callable[["Connection"], None],
    ) -> None:
        """`then` is called when both sides are closed."""
        self._then = then
        self.number = -1
        """Its place in the table."""
        self.down = down
        """Descriptor of the client's side."""
        self.up = -1
        """Descriptor of the server's side, -1 if there is none yet."""
        self.family = family
        self.client = client
        self.address = address
        """The client as logs name it."""
        self.client_port = 0
        """Its port, on IPv4 and IPv6."""
        self.server: Server | None = None
        self.route: Route | None = None
        """Where else to try; None once joined."""
        self.place = 0
        """How many of the server's places were tried."""
        self.deadline = 0.0
        self.logged = False
        """Whether the log looks at it, or did until it moved bulk data."""
        self.active = 0.0
        """When (monotonic) something last moved, as far as the idle sweep saw."""
        self.counted_down = self.counted_up = 0
        """Bytes from each side that the counters already have."""

    @property
    def state(self) -> int:
        """PENDING or JOINED."""
        return PENDING if self.route or self.up < 0 else JOINED

    def ended(self) -> None:
        """The relay has closed both sides."""
        self._then(self)


class Table:
    """Connections by number.  A number that comes free is given out again, the smallest first, so that all
    of them lie below the most connections that there ever were at once.

    Their coming and going is told to `reporter`, the going also to `clients`."""

    def __init__(self, clients: Clients, reporter: Reporter) -> None:
        self._clients = clients
        self._reporter = reporter
        self._places: list[Connection | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._places) - len(self._free)

    def __iter__(self) -> Iterator[Connection]:
        """Those that there are; they may be removed meanwhile."""
        return (connection for connection in list(self._places) if connection)

    def find(self, number: int) -> Connection | None:
        """Connection `number`, if there is one."""
        return self._places[number] if 0 <= number < len(self._places) else None

    def add(self, connection: Connection) -> None:
        """Give a connection that begins now a number."""
        if self._free:
            connection.number = heapq.heappop(self._free)
            self._places[connection.number] = connection
        else:
            connection.number = len(self._places)
            self._places.append(connection)
        if self._reporter.level:
            who = f"client {connection.address.decode()} port {connection.client_port}"
            self._reporter.debug(1, f"connection {connection.number}: {who}")

    def remove(self, connection: Connection) -> None:
        """It has ended: its number is free again."""
        self._places[connection.number] = None
        heapq.heappush(self._free, connection.number)
        self._clients.leave(connection.client, clock.monotonic())
        if self._reporter.level:
            self._reporter.debug(1, f"connection {connection.number}: ended")
