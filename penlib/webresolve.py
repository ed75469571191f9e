"""webresolve: options -> name servers -> a filter whose questions go to them."""

from penlib.address import unpack
from penlib.lookups import Lookups
from penlib.naming import Naming, number, plain, seconds
from penlib.resolver import Resolver, servers_of
from penlib.usage import Args

NO_NAME = b"-"
MOST_LOOKUPS = 50_000
"""Ids of questions have 16 bits."""


def answer(address: bytes, name: bytes | None, expires: int) -> bytes:
    """What splitwr reads of its workers: address, name, and until when that holds."""
    return b"%b %b %d" % (unpack(address).encode(), name or NO_NAME, expires)


def main(args: Args) -> int:
    """Run webresolve; the exit status.  Raises PenError, UsageError."""
    limit, patience = number(args, "-n", 1, MOST_LOOKUPS), seconds(args, "-t")
    servers = servers_of(args["-s"])
    naming = Naming("webresolve", args, limit, answer if args["-a"] else plain)
    resolver = Resolver(naming.loop, servers, limit, patience)
    naming.ask = Lookups(resolver, bool(args["-f"]), naming.found).ask
    return naming.run()
