"""TLS handshakes: step by step, as the client sends and takes, each for as long as a connect may take.

A client that stalls costs its own connection and nothing else; no server is troubled before it is done.
"""

from collections.abc import Callable
from typing import Protocol

from penlib.balancer.connection import Connection
from penlib.balancer.relay import Channel, Relay
from penlib.loop import READ, Loop
from penlib.report import Reporter


class Shaking(Channel, Protocol):
    """A channel whose handshake is not done."""

    def handshake(self) -> int:
        """One step; answers what to wait for, or 0 when it is done.  Raises OSError."""


class Handshake:
    """One of them: `then` is called when it is done, `end` when it fails."""

    def __init__(
        self,
        loop: Loop,
        relay: Relay,
        reporter: Reporter,
        connection: Connection,
        channel: Shaking,
        then: Callable[[], None],
        end: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._relay = relay
        self._reporter = reporter
        self._connection = connection
        self._channel = channel
        self._then = then
        self._end = end
        self._done = False

    def begin(self, seconds: float) -> None:
        """Take steps, until that time is over."""
        self._limit = self._loop.after(seconds, self._over)
        self._loop.watch(self._connection.down, READ, self._step)

    def _step(self, fd: int, mask: int) -> None:
        try:
            wanted = self._channel.handshake()
        except OSError as exc:
            self._fail(str(exc.args[-1] if exc.args else exc))
            return
        if wanted:
            self._loop.want(fd, wanted)
            return
        self._done = True
        self._limit.cancel()
        self._loop.want(fd, 0)
        self._relay.secure(fd, self._channel)
        self._loop.later(self._go_on)

    def _go_on(self) -> None:
        self._then()

    def _over(self) -> None:
        if not self._done:
            self._fail("timed out")

    def _fail(self, why: str) -> None:
        self._done = True
        self._limit.cancel()
        self._reporter.debug(1, f"connection {self._connection.number}: TLS: {why}")
        self._end(self._connection)
