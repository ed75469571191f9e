"""penctl: one command to a running pen, its reply to stdout."""

import os
import socket
from collections.abc import Iterator

from penlib import address, clock
from penlib.balancer.arguments import is_error
from penlib.errors import PenError, UsageError, reason
from penlib.output import put
from penlib.sockets import resolve
from penlib.usage import Args

PATIENCE = 10.0
"""Seconds of waiting for a connection, or for the end of the reply."""


def main(args: Args) -> int:
    """Send the command, copy the reply; answers 1 if that is an error.  Raises PenError, UsageError."""
    words = args["<command>"]
    if any("\n" in word for word in words):
        raise UsageError("a command is one line")
    endpoint = address.listener(args["<address>"])
    if not endpoint.path and not endpoint.host:
        endpoint = endpoint._replace(host="localhost")
    line = os.fsencode(" ".join(words)) + b"\n"
    with _connect(endpoint) as sock:
        head = _converse(sock, line, str(endpoint))
    return 1 if is_error(head) else 0


def ask(endpoint: address.Endpoint, command: str) -> str:
    """The whole reply to a command, without its last newline.  Raises PenError."""
    with _connect(endpoint) as sock:
        reply = b"".join(_replies(sock, os.fsencode(command) + b"\n", str(endpoint)))
    return reply.decode("utf-8", "replace").removesuffix("\n")


def _connect(endpoint: address.Endpoint) -> socket.socket:
    error = PenError(f"{endpoint}: no address")
    for place in resolve(endpoint):
        sock = socket.socket(place.family, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(place.sockaddr)
            return sock
        except OSError as exc:
            sock.close()
            error = PenError(f"connect {endpoint}: {reason(exc)}")
    raise error


def _converse(sock: socket.socket, line: bytes, where: str) -> str:
    """Send `line`, copy the reply to stdout until the other side closes; answers the reply's first line."""
    head = b""
    for data in _replies(sock, line, where):
        if b"\n" not in head:
            head += data
        put(data)
    return head.partition(b"\n")[0].decode("utf-8", "replace")


def _replies(sock: socket.socket, line: bytes, where: str) -> Iterator[bytes]:
    """The reply as it comes.  The time that its reader takes is not counted."""
    patience = PATIENCE
    try:
        sock.sendall(line)
        while patience > 0:
            sock.settimeout(patience)
            began = clock.monotonic()
            data = sock.recv(65536)
            patience -= clock.monotonic() - began
            if not data:
                return
            yield data
        raise TimeoutError
    except TimeoutError:
        raise PenError(f"{where}: no end of the reply for {PATIENCE:.0f} seconds") from None
    except OSError as exc:
        raise PenError(f"{where}: {reason(exc)}") from exc
