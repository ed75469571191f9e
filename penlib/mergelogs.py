"""mergelogs: pen's logs and the servers' logs -> one access log in the order of time, with the true clients.

One pass.  The logs are read side by side, a minute (`BLOCK`) at a time, pen's as far ahead as a record may be
from its line.  A line is matched (see rounds) when what was logged with it has been read, and written when
nothing that belongs before it can come any more.  So memory depends on how much happens in `jitter` seconds,
not on the size of the logs.
"""

import gc
import os
import re
from typing import IO, NamedTuple

from penlib import discovery
from penlib.address import Endpoint
from penlib.errors import PenError, UsageError, failed
from penlib.inputs import STDIN, Unreadable
from penlib.mergesources import NEVER, AccessLog, PenLog, server_key
from penlib.output import put
from penlib.process import exit_when_told
from penlib.progress import Progress
from penlib.report import Reporter
from penlib.rounds import Entry, Rounds, Server
from penlib.sockets import resolve
from penlib.usage import Args

BLOCK = 60
"""Seconds of log that are matched together."""

MOST_LINES = 200_000
"""Lines read for one block, about, however many a minute has."""

TAIL = 3
"""Seconds at the end of what was read that are not matched yet: what belongs there may be still to come."""


WHOLE = re.compile(r"-?[0-9]{1,9}")


class Settings(NamedTuple):
    """What the command line says.  Times are in seconds."""

    pen_logs: list[str]
    access_logs: list[tuple[str, str]]  # server, file
    jitter: int
    ahead: int
    rejects: str
    keep_zone: bool
    unmatched_server: bool
    verbose: bool
    quiet: bool


def main(args: Args) -> int:
    """Run mergelogs; the exit status.  Raises PenError, UsageError."""
    exit_when_told()
    gc.disable()  # nothing that comes with each line refers to itself
    settings = settings_of(args)
    return Merge(settings, Reporter("mergelogs", args["-d"], waits=True)).run()


def settings_of(args: Args) -> Settings:
    """The settings that a command line means.  Raises UsageError."""
    pairs = [_pair(word) for word in args["<server:logfile>"]]
    names = [*args["-p"], *(file for _, file in pairs)]
    if names.count(STDIN) > 1:
        raise UsageError("standard input (-) can be only one of the logs")
    if not pairs and STDIN in names:
        raise UsageError("-p -: server:logfile expected, too: the logs are looked for beside pen's log")
    return Settings(
        pen_logs=args["-p"],
        access_logs=pairs,
        jitter=_seconds(args, "-j", least=0),
        ahead=_seconds(args, "-t", least=-(10**9)),
        rejects=args["-r"] or "",
        keep_zone=args["--keep-zone"],
        unmatched_server=args["--unmatched-server"],
        verbose=args["-v"],
        quiet=args["-q"],
    )


def _pair(word: str) -> tuple[str, str]:
    """Server and file of `server:logfile`; the first colon divides, after the `]` of IPv6."""
    head, _, tail = word.partition("]") if word.startswith("[") else ("", "", word)
    server, colon, file = tail.partition(":")
    if not colon or not file or not (head or server) or (head and (server or len(head) == 1)):
        raise UsageError(f"'{word}': server:logfile expected")
    return head[1:] or server, file


def _seconds(args: Args, option: str, least: int) -> int:
    word: str = args[option]
    if not WHOLE.fullmatch(word) or int(word) < least:
        raise UsageError(f"option {option}: '{word}' is not a number of seconds")
    return int(word)


class Merge:
    """One run."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        """Open everything.  Raises PenError."""
        self._settings = settings
        self._reporter = reporter
        self._status = 0
        self._rounds = Rounds(settings.jitter)
        self._servers: dict[bytes, Server | None] = {}
        """By every address that records may name them by; None: of no interest."""
        self._pens = [PenLog(name, settings.ahead, self._servers) for name in settings.pen_logs]
        self._nameless: dict[Server, str] = {}
        """Servers whose name does not resolve, and why."""
        self._logs = [
            AccessLog(self._server(server), file, settings.jitter, settings.keep_zone, self._reject)
            for server, file in settings.access_logs or self._discovered()
        ]
        self._rejected = 0
        self._rejects = _create(settings.rejects) if settings.rejects else None
        self._open: dict[Server, list[AccessLog]] = {}
        for log in self._logs:
            self._open.setdefault(log.server, []).append(log)
        self._forgotten = -NEVER

    def run(self) -> int:
        """Until all is written.  0, or 1 if a log could not be read to its end."""
        with Progress(self._size(), self._settings.quiet) as self._progress:
            for log in self._logs:
                self._read(log)
            reading = True
            while reading:
                reading = self._read_block()
                self._read_records()
                self._settle()
                self._write()
        self._finish()
        return self._status

    def _read_block(self) -> bool:
        """Another block of all logs; answers whether there is more."""
        until = min(log.last for log in self._logs) + BLOCK
        count = 0
        for log in self._logs:
            while log.last < until and not log.input.done and count < MOST_LINES:
                count += self._read(log)
        return not all(log.input.done for log in self._logs)

    def _read_records(self) -> None:
        """All that may belong to the lines read so far."""
        until = max(log.newest if log.input.done else log.last for log in self._logs) + self._settings.jitter
        for pen in self._pens:
            while pen.last <= until and not pen.input.done:
                self._read(pen)

    def _read(self, log: PenLog | AccessLog) -> int:
        """A chunk of one log; answers the number of lines."""
        try:
            count = log.read()
        except Unreadable as exc:
            self._reporter.warn(f"{exc}")
            self._status = 1
            log.last = NEVER
            return 0
        self._progress.add(log.input.advance(), count if isinstance(log, AccessLog) else 0)
        return count

    def _settle(self) -> None:
        """Match the lines whose neighbours have been read, too."""
        blocks = []
        for server, logs in self._open.items():
            until = min(log.last for log in logs)
            blocks.append((server, [line for log in logs for line in log.take_fresh(until - TAIL)]))
        self._rounds.settle(blocks)

    def _write(self) -> None:
        """Write what nothing can come before any more, in the order of time, then of the logs."""
        jitter = self._settings.jitter
        until = min(
            NEVER if log.input.done else min(log.newest - jitter, log.last - TAIL) for log in self._logs
        )
        seconds = {second for log in self._logs for second in log.seconds if second < until}
        out = []
        for second in sorted(seconds):
            for log in self._logs:
                out += self._texts(log.server, log.seconds.pop(second, []))
        if out:
            out.append(b"")
            put(b"\n".join(out))
        if until - self._forgotten > jitter // 2:
            self._forgotten = until
            for server in self._open:
                server.forget(until - jitter)

    def _texts(self, server: Server, lines: list[Entry]) -> list[bytes]:
        """The lines as they are written."""
        for line in lines:
            if not line.client:
                self._rounds.settle_rest(server, line)
            if not line.client:
                line.client = server_key(server.name) if self._settings.unmatched_server else line.own
        texts = [line.client + line.rest for line in lines]
        if self._reporter.level:
            for line, text in zip(lines, texts, strict=True):
                self._reporter.debug(2 if line.how == "sure" else 1, f"{server.name}: {line.how}: {text!r}")
        return texts

    def _reject(self, line: bytes) -> None:
        self._rejected += 1
        if self._rejects:
            try:
                self._rejects.write(line + b"\n")
            except OSError as exc:
                raise failed(self._settings.rejects, exc) from exc

    def _discovered(self) -> list[tuple[str, str]]:
        """The access logs beside pen's log.  Raises PenError if there are none."""
        pen_log = self._settings.pen_logs[0]
        servers = discovery.servers(self._settings.pen_logs)
        found = []
        for server in servers:
            path = discovery.find(pen_log, server)
            if path:
                found.append((server, path))
            else:
                where = os.path.dirname(os.path.abspath(pen_log))
                self._reporter.warn(
                    f"no log of server {server}: looked for {discovery.looked_for(server)} in {where}"
                )
                self._status = 1
        if not servers:
            raise PenError(f"{pen_log}: no record in it names a server")
        if not found:
            raise PenError("no access logs found")
        return found

    def _server(self, word: str) -> Server:
        """The server that is meant: an address, a host name, a socket's path."""
        keys, why = [server_key(word)], ""
        try:
            keys += _addresses(word)
        except PenError as exc:
            why = str(exc)
        server = next((known for key in keys if (known := self._servers.get(key))), None) or Server(word)
        self._servers.update(dict.fromkeys(keys, server))
        if why:
            self._nameless[server] = why
        return server

    def _size(self) -> int | None:
        """Bytes of all logs; None if one can't tell."""
        logs: list[PenLog | AccessLog] = [*self._pens, *self._logs]
        sizes = [log.input.size for log in logs]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def _finish(self) -> None:
        """Say what has to be said."""
        warn = self._reporter.warn
        if self._rejects:
            try:
                self._rejects.close()
            except OSError as exc:
                raise failed(self._settings.rejects, exc) from exc
        elif self._rejected:
            warn(f"{self._rejected} lines could not be parsed and were left out; -r FILE keeps them")
        for pen in self._pens:
            if pen.bad:
                warn(f"{pen.input.label}: {pen.bad} lines are no records")
        for log in self._logs:
            if log.late:
                warn(f"{log.input.label}: {log.late} lines more than {self._settings.jitter} s out of order")
        self._tell_of_servers()

    def _tell_of_servers(self) -> None:
        for server, why in self._nameless.items():
            if not server.counts["sure"] + server.counts["guessed"]:
                self._reporter.warn(f"{why}, and no record names it: its lines keep their clients")
        if self._settings.verbose:
            for server in self._open:
                self._reporter.warn(f"{server.name}: {server.summary()}")


def _addresses(word: str) -> list[bytes]:
    """The numeric addresses of a host name; none of a socket's path.  Raises PenError."""
    if "/" in word:
        return []
    try:
        return [server_key(place.host) for place in resolve(Endpoint(word, 0))]
    except UnicodeError:
        raise PenError(f"{word}: no host name") from None


def _create(path: str) -> IO[bytes]:
    try:
        return open(path, "wb")
    except OSError as exc:
        raise failed(path, exc) from exc
