"""The servers: where each is, what it may carry, how it fares.

Pure state: `now` (monotonic seconds) is an argument.  A server is out for one of two reasons, kept apart
because they end differently: it *failed* (pen noticed; `failed_at` orders the last resort) or it was
*banned* (an administrator's `server N blacklist T`).

Not here: which server is chosen (selection), the connections themselves.
"""

from penlib.address import Endpoint, Place, ServerSpec

LIMIT = 10_000
"""Servers at most: far beyond any use, it keeps a mistyped number from filling the memory."""

NOWHERE = "-"
"""The address of a server that has none."""

EMERGENCY, ABUSE = -1, -2
"""The `index` of the two servers outside the table; they are never blacklisted nor remembered."""


class Server:
    """One server and its counters.  An `endpoint` of None is a slot that nobody has configured yet."""

    __slots__ = (
        "acl", "answered_at", "banned_until", "connections", "endpoint", "failed_at", "failed_until",
        "first_place", "hard", "index", "is_configured", "is_down", "max", "places", "prio", "received",
        "sent", "weight",
    )  # fmt: skip

    def __init__(self, index: int, spec: ServerSpec | None = None) -> None:
        self.index = index
        self.endpoint: Endpoint | None = None
        self.places: list[Place] = []
        self.is_configured = False
        """Whether it has an address and, unless that is a Unix socket, a port."""
        self.first_place = 0
        """Which of `places` worked last and is tried first."""
        self.acl = 0
        self.max = self.hard = self.weight = self.prio = 0
        self.connections = 0
        self.sent = 0
        """Bytes sent to the server."""
        self.received = 0
        self.banned_until = 0.0
        self.failed_until = 0.0
        self.failed_at = 0.0
        self.answered_at = 0.0
        """When it is known to have answered a datagram; TCP needs no such thing."""
        self.is_down = False
        """Its last connect failed: for saying so once, not for choosing."""
        if spec:
            self.endpoint, self.max, self.hard, self.weight, self.prio = spec

    @property
    def name(self) -> str:
        """How logs and lists name it: the numeric address without port, or the path of its socket."""
        if self.places:
            return self.places[self.first_place].host
        return (self.endpoint.path or self.endpoint.host if self.endpoint else "") or NOWHERE

    @property
    def title(self) -> str:
        """How messages name it: number and address."""
        number = {EMERGENCY: "emergency", ABUSE: "abuse"}.get(self.index, str(self.index))
        return f"{number} ({self.endpoint})"

    @property
    def port(self) -> int:
        """Its port, 0 if it has none (or is a Unix socket)."""
        return self.endpoint.port if self.endpoint else 0

    def is_blacklisted(self, now: float) -> bool:
        """Whether it is out, for whichever reason."""
        return self.failed_until > now or self.banned_until > now

    def is_available(self, now: float) -> bool:
        """Configured and not blacklisted."""
        return self.is_configured and self.failed_until <= now and self.banned_until <= now

    def is_full(self, returning: bool) -> bool:
        """Whether it may take no further connection; one of its own clients `returning` may use `hard`."""
        limit = self.hard if returning and self.hard > self.max else self.max
        return bool(self.max) and self.connections >= limit

    def fail(self, now: float, seconds: float) -> None:
        """A connect was refused, failed or timed out: out for `seconds`."""
        self.failed_at = now
        self.failed_until = now + seconds

    def succeed(self) -> None:
        """A connect came through: whatever pen held against it is forgotten."""
        self.failed_until = 0.0

    def ban(self, now: float, seconds: float) -> None:
        """The administrator takes it out for `seconds`; 0 readmits it, failed or not."""
        self.banned_until = now + seconds if seconds else 0.0
        if not seconds:
            self.failed_until = 0.0

    def move(self, endpoint: Endpoint, places: list[Place]) -> None:
        """It is somewhere else now: what was held against the old place is forgotten."""
        if endpoint != self.endpoint:
            self.failed_until = 0.0
        self.endpoint = endpoint
        self.places = [place.at_port(endpoint.port) for place in places]
        self.is_configured = bool(places) and bool(endpoint.path or endpoint.port)
        self.first_place = 0

    def create(self) -> None:
        """It is a server from now on, though perhaps without an address."""
        self.endpoint = self.endpoint or Endpoint("", 0)

    def set_port(self, port: int) -> None:
        """The same address, another port; 0 for none, and then it is not tried."""
        endpoint = self.endpoint or Endpoint("", 0)
        self.move(endpoint._replace(port=port), self.places)
