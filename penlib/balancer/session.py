"""One UDP session: what is known of it, and who looks at what passes.

Not here: what happens to it (udp).
"""

from _socket import socket as RawSocket
from collections.abc import Callable
from functools import partial

from penlib import records
from penlib.balancer.connection import Connection
from penlib.balancer.datagrams import Key, Port
from penlib.balancer.dump import DUMP_LEVEL, DumpTap
from penlib.balancer.journal import Journal
from penlib.balancer.settings import Settings
from penlib.clients import Client
from penlib.report import Reporter
from penlib.servers import Server

ONE_EXCHANGE = 2
"""Datagrams of a session that is used for a single question, as those of DNS mostly are."""

Look = Callable[[bytes], object]
"""Something that is shown each datagram of one direction."""


class Session(Connection):
    """What passes between one client address and port and its server.

    `down` stays -1: the client's side is the port, which all share.
    """

    __slots__ = (
        "answer", "answered", "asked", "expects", "held", "key", "last", "looks_down", "looks_up", "mark",
        "over", "plain", "port", "receive", "received", "seen", "send", "sent", "silent_since", "sock",
    )  # fmt: skip

    def __init__(
        self,
        port: Port,
        key: Key,
        client: Client,
        address: bytes,
        expects: bool,
        then: Callable[[Connection], None],
    ) -> None:
        super().__init__(-1, port.sock.family, client, address, then)
        self.port = port
        self.key = key
        self.expects = expects
        """Whether a server that does not reply has failed."""
        self.sock: RawSocket | None = None
        self.send: Callable[[bytes], int]
        self.receive: Callable[[], bytes]
        self.answer = port.answerer(key)
        self.over = False
        """It has ended."""
        self.plain = False
        """Joined, and looked at by nobody."""
        self.asked = self.answered = 0
        """Datagrams from the client and from servers."""
        self.sent = self.received = 0
        """Bytes of these."""
        self.last: bytes | None = None
        """What the client sent last, if there was no reply since."""
        self.held: list[bytes] = []
        """What the client sent, until the first reply."""
        self.looks_up: tuple[Look, ...] = ()
        self.looks_down: tuple[Look, ...] = ()
        self.mark = ONE_EXCHANGE
        """Datagrams when it was last spared."""
        self.seen = (0, 0)
        """`asked` and `answered` at the last sweep."""
        self.silent_since = 0.0
        """When a sweep first saw that there was no reply to the latest datagrams; 0 if there was."""

    def count(self) -> None:
        """Add what passed since the last time to the counters of the client and the server."""
        up = self.sent - self.counted_down
        down = self.received - self.counted_up
        self.counted_down, self.counted_up = self.sent, self.received
        self.client.received += up
        self.client.sent += down
        if self.server:
            self.server.sent += up
            self.server.received += down


class Looks:
    """Makes those who look at a session: the log at what the client sends, a debug dump at everything."""

    def __init__(self, settings: Settings, journal: Journal, reporter: Reporter) -> None:
        self._settings = settings
        self._journal = journal
        self._reporter = reporter

    def at(self, session: Session, server: Server) -> tuple[tuple[Look, ...], tuple[Look, ...]]:
        """Who looks at what goes up to that server, and at what comes down."""
        up: tuple[Look, ...] = ()
        if self._journal.on:
            up = (partial(self._journal.record, session.address, records.field(server.name)),)
        if not self._reporter.wants(DUMP_LEVEL):
            return up, ()
        dumps = [
            DumpTap(self._reporter, self._settings, f"connection {session.number} {way}").feed
            for way in ("up", "down")
        ]
        return (*up, dumps[0]), (dumps[1],)
