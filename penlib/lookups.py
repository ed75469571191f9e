"""An address's name: what its PTR records say, checked, and confirmed if that is wanted.

Not here: what is known already (hosts file, cache); how questions get to servers (resolver).
"""

from collections.abc import Callable

from penlib import clock, dnswire
from penlib.dnswire import NOERROR, NXDOMAIN, SERVFAIL, Message
from penlib.hostnames import choose
from penlib.resolver import Resolver

Found = Callable[[bytes, bytes | None, int], None]
"""Takes a packed address, its name (None: none) and until when that holds: epoch seconds, 0 = not to keep."""

NEGATIVE = 900
"""Seconds that "no name" is kept."""

SERVER_FAILURE = 300
"""Seconds that a failure of the zone's servers is kept, RFC 2308, 7.1."""


class Lookups:
    """Asks for names; each ends in one call of `found`."""

    def __init__(self, resolver: Resolver, confirm: bool, found: Found) -> None:
        self._resolver = resolver
        self._confirm = confirm
        self._found = found

    def ask(self, address: bytes) -> None:
        """Find the name of a packed address."""
        name = dnswire.reverse_name(address)

        def done(message: Message | None) -> None:
            self._named(address, name, message)

        self._resolver.ask(dnswire.question(name, dnswire.PTR), done)

    def _named(self, address: bytes, asked: bytes, message: Message | None) -> None:
        if message is None or message.rcode != NOERROR:
            self._found(address, None, _keep(message))
            return
        wires, ttl = dnswire.answers(message, asked, dnswire.PTR)
        name = choose([dnswire.text_name(wire) for wire in wires])
        if name is None:
            self._found(address, None, _until(NEGATIVE))
        elif self._confirm:
            self._check(address, name, ttl)
        else:
            self._found(address, name, _until(ttl))

    def _check(self, address: bytes, name: bytes, ttl: int) -> None:
        """Whether the name resolves back to the address."""
        wire = dnswire.wire_name(name)
        kind = dnswire.A if len(address) == 4 else dnswire.AAAA

        def done(message: Message | None) -> None:
            if message is None or message.rcode != NOERROR:
                self._found(address, None, _keep(message))
                return
            addresses, seconds = dnswire.answers(message, wire, kind)
            if address in addresses:
                self._found(address, name, _until(min(ttl, seconds)))
            else:
                self._found(address, None, _until(NEGATIVE))

        self._resolver.ask(dnswire.question(wire, kind), done)


def _until(seconds: int) -> int:
    return int(clock.now()) + seconds if seconds else 0


def _keep(message: Message | None) -> int:
    """How long an answer without a name is kept: silence and refusals are no answers."""
    kept = {NXDOMAIN: NEGATIVE, SERVFAIL: SERVER_FAILURE}
    return _until(kept.get(message.rcode, 0) if message else 0)
