"""penlogd: options -> settings -> a daemon that turns datagrams into one access log.

A datagram that begins with `+` holds a record from a pen, any other a line of the web server that it comes
from; several lines in one are each treated.  Which record explains which line is decided in matching, which
names mean the same server in serverkeys.  Here: reading, writing, and the daemon around them.
"""

import os
import re
import signal
import socket
from collections import deque
from typing import NamedTuple

from penlib import acl, address, clock, process, sockets
from penlib.address import Endpoint
from penlib.dns import Lookups
from penlib.errors import PenError, UsageError
from penlib.logfile import LogFile
from penlib.loop import BEST, READ, Loop, Timer
from penlib.matching import Live
from penlib.output import put
from penlib.records import Record, parse_datagram
from penlib.report import Reporter
from penlib.sender import LARGEST, destination, send_stdin
from penlib.serverkeys import REMEMBERED, ServerKeys
from penlib.usage import Args

RECEIVE_BUFFER = 4 << 20
"""Bytes: what arrives in the time that a slow disk or another process may take; the default holds a
fraction of a second of a busy cluster."""

BATCH = 500
"""Datagrams read in a row before signals, timers and the other socket get their turn: some milliseconds."""

LAST_BATCHES = 200
"""Batches read at the end: more than the receive buffer holds, but not for ever under a flood."""

SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


class Settings(NamedTuple):
    """What the command line says."""

    listen: Endpoint
    allow: list[acl.Entry]
    foreground: bool = False
    unbuffered: bool = False
    jail: str = ""
    log: str = ""
    pid_file: str = ""
    user: str = ""
    room: int = 1000
    keep: float = 60.0
    wait: float = 1.0


def main(args: Args) -> int:
    """Run penlogd.  Raises PenError, UsageError."""
    if args["<host>"] is not None:
        endpoint, _ = destination([args["<host>"], args["<port>"]])
        return send_stdin("penlogd", endpoint)
    settings = settings_of(args)
    reporter = Reporter("penlogd", args["-d"])
    user = process.User(settings.user) if settings.user else None
    background = None if settings.foreground else process.Background()
    daemon = Penlogd(settings, reporter)
    try:
        daemon.open(user)
        if background:
            reporter.to_syslog()  # now: there is no /dev/log in a jail
        process.confine(settings.jail, user)
        daemon.enter()
    except BaseException:
        daemon.remove_pid_file()
        raise
    if background:
        background.ready()
    daemon.run()
    return 0


def settings_of(args: Args) -> Settings:
    """The settings that a command line means.  Raises UsageError."""
    return Settings(
        listen=_listen(args["<address>"]),
        allow=[_net(text) for text in args["--allow"]],
        foreground=args["-f"] or not args["-l"],
        unbuffered=args["-b"],
        jail=args["-j"] or "",
        log=args["-l"] or "",
        pid_file=args["-p"] or "",
        user=args["-u"] or "",
        room=_room(args["-n"]),
        keep=_seconds(args, "--keep", 60.0),
        wait=_seconds(args, "--wait", 1.0),
    )


def _listen(text: str) -> Endpoint:
    endpoint = address.listener(text, "udp")
    if endpoint.path:
        raise UsageError(f"bad address '{text}': port or address:port expected")
    return endpoint


def _net(text: str) -> acl.Entry:
    try:
        return acl.entry(True, text)
    except UsageError as exc:
        raise UsageError(f"option --allow: {exc}") from None


def _room(word: str | None) -> int:
    room = 1000 if word is None else address.count(word, "option -n")
    if not room:
        raise UsageError(f"option -n: '{word}' is not a number of records")
    return room


def _seconds(args: Args, option: str, default: float) -> float:
    word = args[option]
    if word is None:
        return default
    if not SECONDS.fullmatch(word):
        raise UsageError(f"option {option}: '{word}' is not a number of seconds")
    return float(word)


class Penlogd:
    """The daemon.  Its life: made, `open`ed (what needs root), confined by the caller, `enter`ed (the log),
    `run`."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._home = process.working_directory()
        self._jail = ""
        self._loop = Loop(BEST)
        self._loop.on_fault = self._fault
        self._live = Live(settings.room, settings.keep, settings.wait)
        self._keys = ServerKeys(self._loop, Lookups(self._loop), reporter, self._take_nameless)
        self._nameless: deque[tuple[Record, str]] = deque(maxlen=settings.room)
        """Records whose server is being looked up, and where they came from."""
        self._allowed: dict[str, bool] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._log: LogFile | Stdout = Stdout()
        self._timer: Timer | None = None
        self._pid_file: process.PidFile | None = None

    def open(self, user: process.User | None) -> None:
        """Bind, and write the pid file.  Raises PenError."""
        listen = self._settings.listen
        places = sockets.resolve(listen, socket.SOCK_DGRAM, passive=True)
        self._take_signals()
        for sock in sockets.bind(listen, socket.SOCK_DGRAM, places):
            size = sockets.want_receive_buffer(sock, RECEIVE_BUFFER)
            self._reporter.debug(1, f"receive buffer of {size} bytes")
            self._sockets[sock.fileno()] = sock
            self._loop.watch(sock.fileno(), READ, self._readable)
        if self._settings.pid_file:
            self._pid_file = process.PidFile(self._settings.pid_file)
            self._pid_file.write(user.owner if user else None)

    def enter(self) -> None:
        """Inside the jail and as the user: open the log.  Raises PenError."""
        if self._settings.jail:
            self._jail = os.path.normpath(os.path.join(self._home, self._settings.jail))
            self._home = "/"
        if self._settings.log:
            self._log = LogFile(os.path.join(self._home, self._settings.log), self._loop, self._reporter)

    def _take_signals(self) -> None:
        self._signals = process.Signals(
            self._loop,
            {
                signal.SIGHUP: self.handle_hup,
                signal.SIGTERM: self.handle_term,
                signal.SIGINT: self.handle_term,
            },
        )

    def run(self) -> None:
        """Work until TERM or INT."""
        try:
            self._loop.run()
        finally:
            self._signals.over()
            self._log.close()
            self.remove_pid_file()

    def handle_hup(self) -> None:
        """The log was moved; host names may have new addresses."""
        self._log.reopen()
        self._keys.look_up_again()

    def handle_term(self) -> None:
        """What was sent before the signal is still written."""
        for fd in self._sockets:
            for _ in range(LAST_BATCHES):
                if not self._take_batch(fd):
                    break
        self._write(self._live.flush(clock.monotonic()))
        self._loop.stop()

    def remove_pid_file(self) -> None:
        """Remove the pid file, if it is ours."""
        if self._pid_file:
            self._pid_file.remove(self._jail)

    def _fault(self, fd: int, exc: Exception) -> None:
        if isinstance(exc, BrokenPipeError | PenError):
            raise exc
        self._reporter.warn(f"internal error: {type(exc).__name__}: {exc}")

    def _readable(self, fd: int, mask: int) -> None:
        self._take_batch(fd)
        self._wake_when_due()

    def _take_batch(self, fd: int) -> bool:
        """Take what is there, a batch at most; answers whether there may be more."""
        receive = self._sockets[fd].recvfrom
        now = clock.monotonic()
        finished = self._live.overdue(now)
        try:
            for _ in range(BATCH):
                data, peer = receive(LARGEST)
                self._take(data, peer[0], now, finished)
        except BlockingIOError:
            return False
        except OSError as exc:
            self._reporter.debug(1, f"receive: {exc}")
            return False
        finally:
            self._write(finished)
        return True

    def _take(self, data: bytes, source: str, now: float, finished: list[bytes]) -> None:
        """Treat one datagram; lines that are finished by it are added to `finished`."""
        if self._reporter.level >= 2:
            self._reporter.debug(2, f"from {source}: {data!r}")
        if not data or (self._settings.allow and not self._allows(source)):
            return
        end = data.find(b"\n")
        if end == len(data) - 1:
            self._take_line(data[:end], source, now, finished)
        else:
            for line in data.removesuffix(b"\n").split(b"\n"):
                self._take_line(line, source, now, finished)

    def _take_line(self, line: bytes, source: str, now: float, finished: list[bytes]) -> None:
        if line.startswith(b"+"):
            record = parse_datagram(line)
            done = record and self._take_record(record, source, now)
        else:
            done = self._live.line(self._keys.of_source(source), line, now)
        if done is not None:
            finished.append(done)

    def _take_record(self, record: Record, source: str, now: float) -> bytes | None:
        server = self._keys.of_server(record.server, source)
        if server is None:
            self._nameless.append((record, source))
            return None
        return self._live.record(server, record, now)

    def _take_nameless(self) -> None:
        """A server's name was looked up: its records may be of use now."""
        now = clock.monotonic()
        waiting, self._nameless = self._nameless, deque(maxlen=self._settings.room)
        done = [self._take_record(record, source, now) for record, source in waiting]
        self._write([line for line in done if line is not None])

    def _allows(self, source: str) -> bool:
        allowed = self._allowed.get(source)
        if allowed is None:
            allowed = acl.permits(self._settings.allow, address.pack(source))
            if len(self._allowed) >= REMEMBERED:
                self._allowed.clear()
            self._allowed[source] = allowed
        return allowed

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._reporter.level:
            for line in lines:
                self._reporter.debug(1, f"written: {line!r}")
        if self._settings.unbuffered:
            for line in lines:
                self._log.write(line + b"\n")
        else:
            self._log.write(b"\n".join(lines) + b"\n")

    def _wake_when_due(self) -> None:
        """Have lines settled when they have waited long enough."""
        due = self._live.due
        if due is not None and self._timer is None:
            self._timer = self._loop.after(max(0.0, due - clock.monotonic()), self._settle)

    def _settle(self) -> None:
        self._timer = None
        self._write(self._live.overdue(clock.monotonic()))
        self._wake_when_due()


class Stdout:
    """Standard output in the place of a log file."""

    def write(self, data: bytes) -> None:
        """Write all of `data`.  Raises PenError, BrokenPipeError."""
        put(data)

    def reopen(self) -> None:
        """There is nothing to reopen."""

    def close(self) -> None:
        """Nothing is held back."""
