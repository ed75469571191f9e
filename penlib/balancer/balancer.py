"""A pen: its parts put together, and what concerns more than one of them.

Its life: made from options, `open`ed (everything that needs root or the file system outside the jail),
confined by the caller, `enter`ed (log), `run`, and ended by a signal or the `exit` command.
"""

import os
import signal
import socket
from typing import TYPE_CHECKING

from penlib import clock, files, process, sockets
from penlib.address import Endpoint
from penlib.balancer import config, descriptors, status
from penlib.balancer.control import Control
from penlib.balancer.countries import Countries
from penlib.balancer.dsr import Dsr
from penlib.balancer.endpoints import check_path, penlogd_of, protocol
from penlib.balancer.executor import Executor
from penlib.balancer.journal import Journal
from penlib.balancer.listeners import Listeners
from penlib.balancer.names import Names
from penlib.balancer.settings import Options, Settings
from penlib.balancer.steered import Traffic
from penlib.balancer.tcp import Tcp
from penlib.balancer.udp import Udp
from penlib.balancer.whereabouts import Whereabouts
from penlib.clients import Clients
from penlib.dns import Lookups
from penlib.errors import PenError, UsageError
from penlib.loop import BEST, Loop
from penlib.report import Reporter
from penlib.selection import Selection
from penlib.servers import ABUSE, EMERGENCY, Server

if TYPE_CHECKING:
    from penlib.balancer.tls import Certificates


class Pen:
    """One balancer."""

    def __init__(
        self,
        options: Options,
        settings: Settings,
        selection: Selection,
        clients: Clients,
        reporter: Reporter,
    ) -> None:
        """Reads the -F file, because it may choose the event mechanism.  Raises PenError, UsageError."""
        self.options = options
        self.settings = settings
        self.selection = selection
        self.clients = clients
        self.reporter = reporter
        self.protocol = protocol(options)
        self.pid = os.getpid()
        self.running = False
        self._where = Whereabouts(options.jail)
        self._log = options.log
        """The log to open once inside."""
        self._pid_file: process.PidFile | None = None
        self._command_lines = config.typed(options.commands, self)
        self._config_lines = self._read_config(options.config)
        self.loop = Loop(self._mechanism())
        self.loop.on_fault = self._fault
        self._lookups = Lookups(self.loop)
        self.names = Names(self._lookups, socket.SOCK_DGRAM if options.udp else socket.SOCK_STREAM)
        self.journal = Journal(self.loop, self._lookups, reporter)
        carry = Udp if options.udp else Tcp
        self.traffic: Traffic = carry(self.loop, settings, selection, clients, self.journal, reporter)
        self.certificates = self._secure()
        self.countries = Countries()
        self.dsr = Dsr(self.loop, settings, selection, reporter, self.now)
        self._executor = Executor(self)
        self._control = Control(
            self.loop, self._executor.execute, lambda: selection.acls[settings.control_acl]
        )
        self._listeners = Listeners(options, settings, self.names, self.traffic, self._control)

    def _secure(self) -> "Certificates | None":
        """TLS towards clients, if that is wanted: who does not need it does not load it."""
        if not self.options.certificate:
            return None
        from penlib.balancer.tls import Certificates

        def locate(name: str) -> str:
            return self.path(self._where.inside(name))

        made = Certificates(self.options, self.settings, self.reporter, locate)
        assert isinstance(self.traffic, Tcp)  # -E is refused with -U
        self.traffic.secure(made)
        return made

    # Starting

    def _mechanism(self) -> str:
        """The event mechanism that is asked for last.  One that this system lacks is refused like any other
        command that can't be carried out."""
        return config.mechanism(self._command_lines + self._config_lines) or self.options.mechanism or BEST

    def _read_config(self, name: str) -> list[config.Line]:
        if not name:
            return []
        try:
            return config.read(name, self)
        except PenError as exc:
            self.reporter.warn(str(exc))
            return []

    def open(self, user: process.User | None) -> None:
        """Resolve, configure, bind, write the pid file; everything is then given to `user`."""
        self._add_servers()
        self._configure()
        if self.options.listen is None:
            raise UsageError("no listening address")
        if self.certificates:
            self.certificates.load()
        self._limit_descriptors()
        self._check_control()
        self._listeners.resolve()
        if self.options.jail:
            self.journal.look_up(self._log)
        self._take_signals()
        if self.dsr.interface:
            self._warn_of_options_for_connections()
            self.dsr.open(self.options.listen, self.protocol)
        else:
            self._listeners.open(user)
        if self.options.control:
            self._listeners.open_control(user)
        if self.options.pid_file:
            self._pid_file = process.PidFile(self.options.pid_file)
            if other := self._pid_file.stale_or_running("pen"):
                self.reporter.warn(
                    f"pid file {self.options.pid_file}: took it over from a running pen, {other}"
                )
            self._pid_file.write(user.owner if user else None)

    def _add_servers(self) -> None:
        """The servers of the command line.  A name that does not resolve ends the start."""
        for spec in self.options.servers:
            self.selection.servers.append(self._resolved(Server(len(self.selection.servers), spec)))
        if self.options.emergency:
            self.selection.emergency = self._resolved(Server(EMERGENCY, self.options.emergency))
        if self.options.abuse:
            self.selection.abuse = self._resolved(Server(ABUSE, self.options.abuse))

    def _resolved(self, server: Server) -> Server:
        assert server.endpoint
        endpoint = self.located(server.endpoint)
        server.move(endpoint, self.names.places(endpoint))
        return server

    def _configure(self) -> None:
        """-O, then the -F file as far as the command line lets it."""
        options = self.options
        lines = config.at_start(self._config_lines, len(options.servers), options.listen is not None)
        self._executor.apply(self._command_lines + lines)

    def _limit_descriptors(self) -> None:
        descriptors.limit(self.options, self.settings, self.loop.mechanism, self.reporter)

    def _warn_of_options_for_connections(self) -> None:
        options = self.options
        for name, given in {
            "-B": options.abuse,
            "-E": options.certificate,
            "-H": self.settings.http,
            "-e": options.emergency,
            "-l": self._log,
        }.items():
            if given:
                self.reporter.warn(f"option {name}: does nothing with direct server return")

    def _check_control(self) -> None:
        """As root nobody controls us, unless that is what -u asks for."""
        if self.options.control and os.geteuid() == 0 and not self.options.user:
            self.reporter.warn("Won't open control port running as root; use -u to run as different user")
            self.options.control = None

    def enter(self) -> None:
        """Inside the jail and as the user: open the log, then let clients come.  Raises PenError."""
        self._where.confined()
        if self._where.jail and self.certificates:
            self.certificates.confined()
        self.settings.config = self._where.inside(self.options.config)
        self.running = True
        self._open_first_log()
        self._listeners.let_connect()

    def _open_first_log(self) -> None:
        """What a command of the start asked for, if that works, else that of -l, which has to."""
        if self._log != self.options.log and self._log:
            try:
                self.open_log(self._log)
                return
            except PenError as exc:
                self.reporter.warn(str(exc))
                self._log = self.options.log
        if self._log:
            self.open_log(self._log)

    def _take_signals(self) -> None:
        self._signals = process.Signals(
            self.loop,
            {
                signal.SIGHUP: self.handle_hup,
                signal.SIGUSR1: self.handle_usr1,
                signal.SIGUSR2: process.abort,
                signal.SIGTERM: self.terminate,
                signal.SIGINT: self.terminate,
            },
        )

    def run(self) -> None:
        """Serve until `terminate`."""
        try:
            self.loop.run()
        finally:
            self.close()

    # Ending

    def terminate(self) -> None:
        """Let `run` return."""
        self.loop.stop()

    def close(self) -> None:
        """Close and remove whatever is ours."""
        self._signals.over()
        self._control.close()
        self.dsr.close()
        self.traffic.close()
        self.journal.close()
        self.remove_files()

    def remove_files(self) -> None:
        """Remove the pid file and the Unix sockets."""
        self._listeners.remove_files(self._where.jail)
        if self._pid_file:
            self._pid_file.remove(self._where.jail)

    def _fault(self, fd: int, exc: Exception) -> None:
        """An error that nobody expected costs the connection it came from."""
        if self.settings.abort_on_error:
            process.abort()
        self.reporter.warn(f"internal error: {type(exc).__name__}: {exc}")
        number = self.connection_of(fd)
        if number >= 0:
            self.end_connection(number)

    # Signals

    def handle_hup(self) -> None:
        """Reopen the log, resolve the servers again, re-read the -F file."""
        self.journal.reopen()
        if self.certificates:
            self.certificates.refresh()
        self._resolve_again()
        if self.settings.config:
            self._executor.reread(self._read_config(self.settings.config))

    def _resolve_again(self) -> None:
        for server in (*self.selection.servers, self.selection.emergency, self.selection.abuse):
            if server and server.endpoint and server.endpoint.host:
                self._resolve_server(server, server.endpoint)

    def _resolve_server(self, server: Server, endpoint: Endpoint) -> None:
        def then() -> None:
            try:
                places = self.names.places(endpoint)
            except PenError as exc:
                self.reporter.warn(f"server {server.title}: {exc}; its old address stays")
                return
            if server.endpoint == endpoint:
                server.move(endpoint, places)

        self.names.prefetch([endpoint], then)

    def handle_usr1(self) -> None:
        """Statistics: to the HTML file if there is one, else as a message."""
        if self.settings.web_stats:
            self.write_web_stats()
        else:
            self.reporter.info(status.statistics(self))

    def write_web_stats(self) -> None:
        """Write the status page to the -w file; what goes wrong is said."""
        name = self.settings.web_stats
        if not name:
            return
        try:
            files.renew(self.path(name), (status.page(self) + "\n").encode(), f"status file {name}")
        except PenError as exc:
            self.reporter.warn(str(exc))

    # For commands

    def include(self, name: str) -> str | None:
        """Carry out a file's commands; answers what was wrong in it.  Raises PenError."""
        return self._executor.include(name)

    def path(self, name: str) -> str:
        """Where the file is that the administrator calls `name`."""
        return self._where.path(name)

    def located(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint`; the path of a server's Unix socket made absolute.  Raises UsageError where it can't be
        one."""
        check_path(endpoint, self.protocol)
        return self._where.of_server(endpoint)

    @staticmethod
    def now() -> float:
        """Monotonic seconds."""
        return clock.monotonic()

    def settings_changed(self) -> None:
        """A number of `settings` has a new value."""
        self.traffic.watch_idle()
        self.traffic.resume()
        if isinstance(self.traffic, Tcp):
            self.loop.later(self.traffic.idlers.tend)

    def set_conn_max(self, number: int) -> None:
        """Allow that many connections, as far as there are descriptors."""
        self.settings.conn_max = number
        if self.running:
            self._limit_descriptors()
            self.traffic.resume()

    def tls_changed(self) -> None:
        """One of the ssl_* settings has a new value.  Raises PenError if that can't be meant."""
        if self.certificates:
            self.certificates.check()
            if self.running:
                self.certificates.load()

    def set_idlers(self, number: int) -> None:
        """Keep that many idle connections to the servers."""
        self.settings.idlers = number
        if self.running:
            self._limit_descriptors()
        self.settings_changed()

    def idlers(self) -> int:
        """How many of them there are."""
        return len(self.traffic.idlers) if isinstance(self.traffic, Tcp) else 0

    def set_source(self, host: str) -> None:
        """Connect to servers from this numeric address."""
        self.settings.source = sockets.resolve(Endpoint(host, 0))[0]

    def server(self, number: int) -> Server:
        """Server `number`, made if there is none yet."""
        servers = self.selection.servers
        while len(servers) <= number:
            servers.append(Server(len(servers)))
        return servers[number]

    def open_log(self, name: str) -> None:
        """Log there; before pen runs, remember to."""
        if self.running:
            was_on = self.journal.on
            self.journal.open(name, self.path(name))
            if not was_on:
                self.traffic.log_all()
        else:
            penlogd_of(name)  # raises for a bad address
            self._log = name

    def close_log(self) -> None:
        """Log nothing from now on."""
        self._log = ""
        self.journal.close()

    def listen(self, endpoint: Endpoint) -> None:
        """Listen at `endpoint` instead.  Raises PenError, and then nothing has changed."""
        if self.running and endpoint != self.options.listen:
            if self.dsr.interface:
                raise UsageError("not with direct server return")
            self._listeners.move(endpoint, self._where)
        self.options.listen = endpoint

    def end_connection(self, number: int) -> None:
        """Close a connection, if there is one of that number."""
        connection = self.traffic.connections.find(number)
        if connection:
            self.traffic.end(connection)

    def connection_of(self, fd: int) -> int:
        """The number of the connection that descriptor `fd` belongs to, or -1."""
        for connection in self.traffic.connections:
            if fd >= 0 and fd in (connection.down, connection.up):
                return connection.number
        return -1

    def write_config(self, name: str) -> None:
        """Write the running configuration to `name`, or to the -F file.  Raises PenError."""
        name = name or self.settings.config
        if not name:
            raise UsageError("FILE expected: pen was started without -F")
        config.write(self, name)
