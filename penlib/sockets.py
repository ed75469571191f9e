"""Sockets: resolving endpoints, listening, and the numeric text of a peer.

A name's answers are all kept, IPv4 first.  Listening on all addresses is two sockets, the IPv6 one V6ONLY,
so an IPv4 client is never seen as ::ffff:a.b.c.d; where the system has no IPv6 it is one.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import TypeVar

from penlib.address import Endpoint, Place, is_numeric
from penlib.errors import PenError, failed, reason

T = TypeVar("T")

NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""What bind or socket says for IPv6 where it is compiled out or switched off."""

RECEIVE_BUFFER_FORCE = getattr(socket, "SO_RCVBUFFORCE", 33)


def resolve(endpoint: Endpoint, kind: int = socket.SOCK_STREAM, *, passive: bool = False) -> list[Place]:
    """All places of `endpoint`, IPv4 first.  Blocks while a name is looked up; `dns` is for when it must not.

    Raises PenError `NAME: why` if the name does not resolve.
    """
    if endpoint.path or not endpoint.host or is_numeric(endpoint.host):
        return look_up(endpoint, kind, passive=passive)
    return interruptible(lambda: look_up(endpoint, kind, passive=passive))


def interruptible(work: Callable[[], T]) -> T:
    """`work()`, which asks libc's resolver: done in a thread, because that does not stop for a Ctrl-C, as
    waiting for a thread does.  Raises what it raises."""
    import threading  # only who looks names up pays for it

    done: list[T] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as exc:
            failures.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # there is no thread to be had
        return work()
    thread.join()
    for exc in failures:
        raise exc
    return done[0]


def look_up(endpoint: Endpoint, kind: int = socket.SOCK_STREAM, *, passive: bool = False) -> list[Place]:
    """As `resolve`, but as long as it blocks nothing else happens in this thread.  Raises PenError."""
    if endpoint.path:
        return [Place(socket.AF_UNIX, endpoint.path)]
    flags = (socket.AI_PASSIVE if passive else 0) | (
        socket.AI_NUMERICHOST if is_numeric(endpoint.host) else 0
    )
    # As bytes: for a str Python loads its idna codec, which a name already checked to be ASCII never needs.
    host = endpoint.host.encode("ascii") or None
    try:
        found = socket.getaddrinfo(host, endpoint.port, type=kind, flags=flags)
    except OSError as exc:
        raise PenError(f"{endpoint.host}: {reason(exc)}") from exc
    places = dict.fromkeys(Place(family, sockaddr) for family, _, _, _, sockaddr in found)
    return sorted(places, key=lambda place: place.family != socket.AF_INET)


def listen(
    endpoint: Endpoint, backlog: int, mode: int = 0o666, places: list[Place] | None = None
) -> list[socket.socket]:
    """Listening, non-blocking stream sockets for `endpoint`; a Unix socket gets `mode`.

    `places` are those of `endpoint` if they are known already.  Raises PenError.
    """
    if endpoint.path:
        sockets = [_bind_unix(endpoint.path, mode)]
    else:
        sockets = bind(endpoint, socket.SOCK_STREAM, places)
    let_connect(sockets, endpoint, backlog)
    return sockets


def let_connect(sockets: list[socket.socket], endpoint: Endpoint, backlog: int) -> None:
    """Listen with stream sockets bound to `endpoint`.  Raises PenError; they are closed then."""
    try:
        for sock in sockets:
            sock.listen(backlog)
    except OSError as exc:
        close_all(sockets)
        raise failed(f"listen {endpoint}", exc) from exc


def bind(endpoint: Endpoint, kind: int, places: list[Place] | None = None) -> list[socket.socket]:
    """Non-blocking sockets of `kind` bound to all places of `endpoint`.  Raises PenError."""
    sockets: list[socket.socket] = []
    places = places or resolve(endpoint, kind, passive=True)
    for place in places:
        try:
            sockets.append(_bind(place, kind))
        except OSError as exc:
            lacking = place.family == socket.AF_INET6 and exc.errno in NO_IPV6
            if lacking and (sockets or place != places[-1]):
                continue
            close_all(sockets)
            raise failed(f"bind {endpoint}", exc) from exc
    return sockets


def _bind(place: Place, kind: int) -> socket.socket:
    sock = socket.socket(place.family, kind | socket.SOCK_NONBLOCK)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place.sockaddr)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: str, mode: int) -> socket.socket:
    """Bind a Unix socket; one left behind is replaced only if nobody answers on it.

    The mode is right from the moment the name exists: bind makes it with what umask leaves.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o777 & ~mode)
    try:
        _clear_stale(path)
        sock.bind(path)
    except OSError as exc:
        sock.close()
        raise failed(f"bind {path}", exc) from exc
    finally:
        os.umask(before)
    return sock


def _clear_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # bind will say that the name is taken
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(path)
    if answer == errno.ECONNREFUSED:
        os.unlink(path)


def close_all(sockets: list[socket.socket]) -> None:
    """Close each."""
    for sock in sockets:
        sock.close()


def want_receive_buffer(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of `size` bytes, over the system's limit where we may; answers what we got."""
    for option in (RECEIVE_BUFFER_FORCE, socket.SO_RCVBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            break
        except OSError:
            continue
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it for its own use
