"""One connection of pen: a client's side, a server's side, and how far it has come."""

from collections.abc import Callable

from penlib.clients import Client
from penlib.selection import Route
from penlib.servers import Server

UNUSED, PENDING, JOINED = 0, 1, 2
"""States of a connection as `connection N` shows them."""


class Connection:
    """One client's connection and the way to its server."""

    __slots__ = (
        "_then", "active", "address", "client", "counted_down", "counted_up", "deadline", "down", "family",
        "number", "place", "route", "server", "up",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        down: int,
        family: int,
        client: Client,
        address: bytes,
        then: Callable[["Connection"], None],
    ) -> None:
        """`then` is called when both sides are closed."""
        self._then = then
        self.number = number
        self.down = down
        """Descriptor of the client's side."""
        self.up = -1
        """Descriptor of the server's side, -1 if there is none yet."""
        self.family = family
        self.client = client
        self.address = address
        """The client as logs name it."""
        self.server: Server | None = None
        self.route: Route | None = None
        """Where else to try; None once joined."""
        self.place = 0
        """How many of the server's places were tried."""
        self.deadline = 0.0
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
