"""What commands, the status page and configuration files may ask of the pen that they are about.

The face of balancer.Pen towards the modules that it uses itself, so that those need not import it back.
"""

import socket
from typing import Protocol

from penlib.address import Endpoint
from penlib.balancer.connection import Connection, Table
from penlib.balancer.countries import Countries
from penlib.balancer.dsr import Dsr
from penlib.balancer.journal import Journal
from penlib.balancer.names import Names
from penlib.balancer.settings import Options, Settings
from penlib.clients import Clients
from penlib.loop import Loop
from penlib.report import Reporter
from penlib.selection import Selection
from penlib.servers import Server


class Traffic(Protocol):
    """All that passes through one pen: TCP connections or UDP sessions."""

    @property
    def connections(self) -> Table:
        """Those that there are."""

    def listen(self, sockets: list[socket.socket]) -> None:
        """Serve these listening sockets instead of those before, which are closed."""

    def end(self, connection: Connection) -> None:
        """Close a connection in whatever state it is."""

    def close(self) -> None:
        """Close everything."""

    def waiting(self, connection: Connection) -> tuple[int, int]:
        """Bytes that wait to be written to the client and to the server."""

    def count_all(self) -> None:
        """Bring all counters up to date."""

    def watch_idle(self) -> None:
        """The idle timeout may have changed."""

    def log_all(self) -> None:
        """There is a log now: what goes on already gets into it, too."""

    def resume(self) -> None:
        """There may be room for more connections."""


class Steered(Protocol):
    """A pen."""

    options: Options
    settings: Settings
    selection: Selection
    clients: Clients
    reporter: Reporter
    loop: Loop
    names: Names
    journal: Journal
    traffic: Traffic
    countries: Countries
    dsr: Dsr
    protocol: str
    """Whose service names ports may have: tcp or udp."""
    pid: int
    running: bool
    """Whether it has left its start behind."""

    def now(self) -> float:
        """Monotonic seconds."""

    def path(self, name: str) -> str:
        """Where the file is that the administrator calls `name`."""

    def located(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint`; the path of a Unix socket made absolute.  Raises UsageError where it
        can't be one."""

    def settings_changed(self) -> None:
        """A number of `settings` has a new value."""

    def set_conn_max(self, number: int) -> None:
        """Allow that many connections, as far as there are descriptors."""

    def tls_changed(self) -> None:
        """One of the ssl_* settings has a new value.  Raises PenError if that can't be meant."""

    def set_idlers(self, number: int) -> None:
        """Keep that many idle connections to the servers."""

    def idlers(self) -> int:
        """How many of them there are."""

    def set_source(self, host: str) -> None:
        """Connect to servers from this numeric address."""

    def server(self, number: int) -> Server:
        """Server `number`, made if there is none yet."""

    def listen(self, endpoint: Endpoint) -> None:
        """Listen at `endpoint` instead.  Raises PenError, and then nothing has changed."""

    def open_log(self, name: str) -> None:
        """Log there.  Raises PenError, and then nothing has changed."""

    def close_log(self) -> None:
        """Log nothing from now on."""

    def write_web_stats(self) -> None:
        """Write the status page to the -w file, if there is one."""

    def include(self, name: str) -> str | None:
        """Carry out a file's commands; answers what was wrong in it.  Raises PenError."""

    def write_config(self, name: str) -> None:
        """Write the running configuration to `name`, or to the -F file.  Raises PenError."""

    def end_connection(self, number: int) -> None:
        """Close a connection, if there is one of that number."""

    def connection_of(self, fd: int) -> int:
        """The number of the connection that descriptor `fd` belongs to, or -1."""

    def terminate(self) -> None:
        """End pen cleanly."""
