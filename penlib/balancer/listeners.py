"""Where a pen listens, for clients and for penctl: opening, moving, and what stays in the file system."""

import os
import socket

from penlib import process, sockets
from penlib.address import Endpoint, Place
from penlib.balancer.control import Control
from penlib.balancer.endpoints import LOOPBACK, check_path, protocol
from penlib.balancer.names import Names
from penlib.balancer.settings import Options, Settings
from penlib.balancer.steered import Traffic
from penlib.errors import PenError

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
        self._sockets: list[str] = []
        """Absolute paths of our Unix sockets, as named outside."""

    def resolve(self) -> None:
        """Look up the names of where it will be.  Raises PenError."""
        for endpoint in (self._options.listen, self._options.control):
            if endpoint and endpoint.host:
                self._names.resolve(endpoint)

    def open(self, user: process.User | None) -> None:
        """Listen for clients; a Unix socket is given to `user`.  Raises PenError."""
        assert self._options.listen
        self._traffic.listen(self._bound(self._options.listen))
        self._own(self._options.listen, user)

    def open_control(self, user: process.User | None) -> None:
        """Listen for penctl.  Raises PenError."""
        endpoint = self._options.control
        assert endpoint
        listening = sockets.listen(endpoint, self._settings.backlog, CONTROL_MODE, self._places(endpoint))
        if endpoint.host == LOOPBACK:
            listening += _loopback6(endpoint.port, self._settings.backlog)
        self._control.listen(listening)
        self._own(endpoint, user)

    def move(self, endpoint: Endpoint, jail: str) -> None:
        """Listen at `endpoint` instead, while running and confined to `jail`.  Raises PenError, and then
        nothing has changed."""
        old = self._options.listen
        try:
            listening = self._bound(endpoint)
        except PenError:
            # The old one may be in the way of the new (a wildcard and one of its addresses).
            if not old or old.port != endpoint.port:
                raise
            listening = self._bound_instead(old, endpoint)
        self._traffic.listen(listening)
        if old and old.path:
            path = os.path.abspath(old.path)
            process.remove_socket(path, jail)
            self._sockets = [other for other in self._sockets if other != path]
        self._own(endpoint, None)

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

    def _own(self, endpoint: Endpoint, user: process.User | None) -> None:
        """Remember a Unix socket for the end, and give it to `user`."""
        if endpoint.path:
            self._sockets.append(os.path.abspath(endpoint.path))
            if user:
                os.lchown(endpoint.path, *user.owner)

    def remove_files(self, jail: str) -> None:
        """Remove the Unix sockets."""
        for path in self._sockets:
            process.remove_socket(path, jail)


def _loopback6(port: int, backlog: int) -> list[socket.socket]:
    """A bare control port on IPv6, if there is any."""
    try:
        return sockets.listen(Endpoint("::1", port), backlog)
    except PenError:
        return []
