"""splitwr: the same as webresolve, with other processes asking.

Each address belongs to one worker, a webresolve that is told addresses and tells answers (its -a), so each is
looked up once in all.  Lines stay here: nothing has to be divided, put in order again or kept in a temporary
file.  Workers end when their standard input does, so none outlives us, however we end.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Callable

from penlib.address import unpack
from penlib.errors import PenError, UsageError, failed
from penlib.hostnames import packed
from penlib.lookups import Found
from penlib.loop import READ, WRITE, Loop
from penlib.naming import Naming, number, seconds
from penlib.resolver import servers_of
from penlib.usage import Args
from penlib.webresolve import MOST_LOOKUPS, NO_NAME

MOST_WORKERS = 500
CHUNK = 1 << 16


def main(args: Args) -> int:
    """Run splitwr; the exit status.  Raises PenError, UsageError."""
    count, lookups = number(args, "-n", 1, MOST_WORKERS), number(args, "-N", 1, MOST_LOOKUPS)
    seconds(args, "-t")
    servers_of(args["-s"])
    if not args["<file>"] and _nothing_to_read():
        raise UsageError("too few arguments: a file to read is missing")
    naming = Naming("splitwr", args, lookups)
    workers = Workers(naming.loop, _commands(args, min(count, lookups), lookups), naming.found)
    naming.ask = workers.ask
    try:
        return naming.run()
    finally:
        workers.end()


def _nothing_to_read() -> bool:
    """Whether standard input is a terminal, /dev/null or the like, rather than a pipe or a file."""
    try:
        return stat.S_ISCHR(os.fstat(0).st_mode)
    except OSError:  # closed
        return True


def _commands(args: Args, count: int, lookups: int) -> list[list[str]]:
    """What each worker is started with; together they have `lookups` in flight."""
    program = os.path.join(os.path.dirname(os.path.realpath(sys.argv[0])), "webresolve")
    isolated = ["-I"] if sys.flags.isolated else []
    options = ["-aq", "-t", args["-t"], *(["-f"] if args["-f"] else [])]
    options += [word for server in args["-s"] for word in ("-s", server)]
    shares = [lookups // count + (rank < lookups % count) for rank in range(count)]
    return [[sys.executable, *isolated, program, *options, "-n", str(share)] for share in shares]


class Workers:
    """The processes; each is started when it gets its first address."""

    def __init__(self, loop: Loop, commands: list[list[str]], found: Found) -> None:
        self._loop = loop
        self._commands = commands
        self._found = found
        self._started: dict[int, _Worker] = {}

    def ask(self, address: bytes) -> None:
        """Have the worker whose address it is find its name."""
        rank = int.from_bytes(address, "big") % len(self._commands)
        if rank not in self._started:
            self._started[rank] = _Worker(self._loop, self._commands[rank], self._answered)
        self._started[rank].tell(unpack(address).encode() + b"\n")

    def _answered(self, line: bytes) -> None:
        text, name, expires = line.split(b" ")
        address = packed(text)
        assert address
        self._found(address, None if name == NO_NAME else name, int(expires))

    def end(self) -> None:
        """End them all."""
        for worker in self._started.values():
            worker.process.kill()
        for worker in self._started.values():
            worker.process.wait()


class _Worker:
    """One webresolve, and what it has not been told yet."""

    def __init__(self, loop: Loop, command: list[str], answered: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._answered = answered
        self._telling = b""
        self._told = b""
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        except OSError as exc:
            raise failed("webresolve", exc) from exc
        assert self.process.stdin
        assert self.process.stdout
        self._to, self._from = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._to, False)
        loop.watch(self._from, READ, self._read)

    def tell(self, line: bytes) -> None:
        """Give it a line, when it takes it."""
        if not self._telling:
            self._loop.watch(self._to, WRITE, self._write)
        self._telling += line

    def _write(self, fd: int, mask: int) -> None:
        try:
            self._telling = self._telling[os.write(fd, self._telling) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._telling = b""  # it has died, which its standard output will tell
        if not self._telling:
            self._loop.want(fd, 0)

    def _read(self, fd: int, mask: int) -> None:
        data = os.read(fd, CHUNK)
        if not data:
            raise PenError(f"webresolve, process {self.process.pid}: {_ending(self.process.wait())}")
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            self._answered(line)


def _ending(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
