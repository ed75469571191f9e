"""What a pen's addresses may be, beyond what `address` says of every address."""

import socket
from collections.abc import Callable

from penlib import address
from penlib.address import Endpoint, Place, ServerSpec
from penlib.balancer.settings import Options
from penlib.errors import UsageError

LOOPBACK, LOOPBACK6 = "127.0.0.1", "::1"


def protocol(options: Options) -> str:
    """Whose service names the ports may have."""
    return "udp" if options.udp else "tcp"


def control_endpoint(endpoint: Endpoint) -> Endpoint:
    """A control port as people are told of it: one without a host is for this machine alone."""
    return endpoint if endpoint.path or endpoint.host else endpoint._replace(host=LOOPBACK)


def loopback(port: int) -> list[Place]:
    """Where a control port without a host listens; at the second place only if there is IPv6."""
    return [Place(socket.AF_INET, (LOOPBACK, port)), Place(socket.AF_INET6, (LOOPBACK6, port))]


def check_path(endpoint: Endpoint, protocol: str) -> None:
    """Raises UsageError for a Unix socket that UDP would have to use."""
    if endpoint.path and protocol == "udp":
        raise UsageError(f"bad address '{endpoint}': UDP has no Unix sockets")


def spec_of(word: str, parse: Callable[[str], ServerSpec], needs_port: bool = True) -> ServerSpec:
    """A server that has no listening port to borrow: its own must be there.  Raises UsageError."""
    spec = parse(word)
    if needs_port and not spec.endpoint.path and not spec.endpoint.port:
        raise UsageError(f"bad address '{word}': no port")
    return spec


def penlogd_of(name: str) -> Endpoint | None:
    """The penlogd that a log target names, if it has a colon and no slash; None if it is a file.  Raises
    UsageError."""
    return address.target(name, "udp") if ":" in name and "/" not in name else None
