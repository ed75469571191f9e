"""Where a pen listens, for clients and for penctl: opening, moving, and what stays in the file system."""

import os
import socket

from penlib import process, sockets
from penlib.address import Endpoint, Place
from penlib.balancer.control import Control
from penlib.balancer.endpoints import check_path, control_endpoint, loopback, protocol
from penlib.balancer.names import Names
from penlib.balancer.settings import Options, Settings
from penlib.balancer.steered import Traffic
from penlib.balancer.whereabouts import Whereabouts
from penlib.errors import PenError, failed

CONTROL_MODE = 0o600
LISTENER_MODE = 0o666
"""Of Unix sockets."""


class Listeners:
    """Of one pen.  `options.listen` is where it listens, `options.control` where penctl finds it."""

    def __init__(
        self, options: Options, settings: Settings, names: Names, traffic: Traffic, control: Control
    ) -> None:
        self._options = options
        self._settings = settings
        self._names = names
        self._traffic = traffic
        self._control = control
        self._listener: process.SocketFile | None = None
        self._controller: process.SocketFile | None = None
        self._reserved: list[tuple[list[socket.socket], Endpoint]] = []
        """Ports that are ours, and to which nobody can connect yet."""

    def resolve(self) -> None:
        """Look up the names of where it will be.  Raises PenError."""
        for endpoint in (self._options.listen, self._options.control):
            if endpoint and endpoint.host:
                self._names.resolve(endpoint)

    def open(self, user: process.User | None) -> None:
        """Be where clients come to; a Unix socket is given to `user`.  Raises PenError."""
        endpoint = self._options.listen
        assert endpoint
        if endpoint.path or self._options.udp:
            self._traffic.listen(self._bound(endpoint))
        else:
            self._traffic.listen(self._reserve(endpoint, self._places(endpoint)))
        self._listener = _file(endpoint)
        _give(endpoint, user)

    def open_control(self, user: process.User | None) -> None:
        """Be where penctl comes to.  Raises PenError."""
        endpoint = self._options.control
        assert endpoint
        named = control_endpoint(endpoint)
        if endpoint.path:
            self._control.listen(sockets.listen(named, self._settings.backlog, CONTROL_MODE))
        else:
            places = self._places(endpoint) or loopback(endpoint.port)
            self._control.listen(self._reserve(named, places))
        self._controller = _file(endpoint)
        _give(endpoint, user)

    def let_connect(self) -> None:
        """Now that all is ready, listen on the ports.  Until then who comes is refused: he would have
        been let in by a pen that may yet fail to start, and that still is root.  Raises PenError."""
        for reserved, endpoint in self._reserved:
            sockets.let_connect(reserved, endpoint, self._settings.backlog)
        self._reserved.clear()

    def _reserve(self, endpoint: Endpoint, places: list[Place] | None) -> list[socket.socket]:
        bound = sockets.bind(endpoint, socket.SOCK_STREAM, places)
        self._reserved.append((bound, endpoint))
        return bound

    def move(self, endpoint: Endpoint, where: Whereabouts) -> None:
        """Listen at `endpoint` instead, while running.  Raises PenError, and then nothing has changed."""
        old = self._options.listen
        there = endpoint._replace(path=where.path(endpoint.path)) if endpoint.path else endpoint
        try:
            listening = self._bound(there)
        except PenError:
            # The old one may be in the way of the new (a wildcard and one of its addresses).
            if not old or not old.port or old.port != endpoint.port:
                raise
            listening = self._bound_instead(old, endpoint)
        self._traffic.listen(listening)
        if self._listener:
            self._listener.remove(where.jail)
        self._listener = _file(there, where.jail)

    def _bound_instead(self, old: Endpoint, endpoint: Endpoint) -> list[socket.socket]:
        self._traffic.listen([])
        try:
            return self._bound(endpoint)
        except PenError:
            self._traffic.listen(self._bound(old))
            raise

    def _bound(self, endpoint: Endpoint) -> list[socket.socket]:
        check_path(endpoint, protocol(self._options))
        places = self._places(endpoint)
        if self._options.udp:
            return sockets.bind(endpoint, socket.SOCK_DGRAM, places)
        return sockets.listen(endpoint, self._settings.backlog, LISTENER_MODE, places)

    def _places(self, endpoint: Endpoint) -> list[Place] | None:
        return self._names.places(endpoint) if endpoint.host else None

    def remove_files(self, jail: str) -> None:
        """Remove the Unix sockets."""
        for file in (self._listener, self._controller):
            if file:
                file.remove(jail)


def _file(endpoint: Endpoint, jail: str = "") -> process.SocketFile | None:
    """The Unix socket that we just made at `endpoint`, if it is one."""
    return process.SocketFile(endpoint.path, jail) if endpoint.path else None


def _give(endpoint: Endpoint, user: process.User | None) -> None:
    """Let a Unix socket be `user`'s.  Raises PenError."""
    if user and endpoint.path:
        try:
            os.lchown(endpoint.path, *user.owner)
        except OSError as exc:
            raise failed(f"give {endpoint.path} to {user.name}", exc) from exc
