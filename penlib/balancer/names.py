"""Host names on their way to addresses, for commands.

Before pen runs, names are simply resolved.  While it runs nobody may wait for a name server, so whoever has
commands to carry out first lets `prefetch` look up, in the background, every name that they need.
"""

import socket
from collections.abc import Callable, Iterable

from penlib import dns
from penlib.address import Endpoint, Place
from penlib.errors import PenError
from penlib.sockets import resolve


class Names:
    """Resolved names; `kind` is the socket type that they are for."""

    def __init__(self, lookups: dns.Lookups, kind: int = socket.SOCK_STREAM) -> None:
        self._lookups = lookups
        self._kind = kind
        self._answers: dict[Endpoint, dns.Answer] = {}

    def places(self, endpoint: Endpoint) -> list[Place]:
        """The places of `endpoint`: from the last prefetch, else by resolving now.  Raises PenError."""
        answer = self._answers.get(endpoint)
        if isinstance(answer, PenError):
            raise answer
        return answer if answer is not None else resolve(endpoint, self._kind)

    def resolve(self, endpoint: Endpoint) -> None:
        """Resolve now, for who asks for its places until the next prefetch.  Raises PenError."""
        self._answers[endpoint] = resolve(endpoint, self._kind)

    def prefetch(self, endpoints: Iterable[Endpoint], then: Callable[[], None]) -> None:
        """Look all of `endpoints` up in the background; when that is done, call `then`, for which their
        answers are there."""
        wanted = set(endpoints)
        answers: dict[Endpoint, dns.Answer] = {}

        def finish() -> None:
            self._answers = answers
            try:
                then()
            finally:
                self._answers = {}

        def answer_to(endpoint: Endpoint) -> Callable[[dns.Answer], None]:
            def answered(answer: dns.Answer) -> None:
                answers[endpoint] = answer
                if len(answers) == len(wanted):
                    finish()

            return answered

        if not wanted:
            finish()
        for endpoint in wanted:
            self._lookups.lookup(endpoint, answer_to(endpoint), self._kind)
