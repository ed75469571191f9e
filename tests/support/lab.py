"""One test's laboratory: makes the processes and peers, and ends them all when the test is over."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from support import process
from support.backend import Backend, Talk, greet
from support.client import Address, Client
from support.pen import Pen, control_options
from support.ports import Hole, Refusing, free_port
from support.process import Process, Result
from support.programs import tool

C = TypeVar("C")


class Lab:
    """What a test gets as `lab`.

    `directory` is short, because the names of Unix sockets are limited, and
    others may enter it, because pen may run as another user."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pen-"))
        self.directory.chmod(0o755)
        self.before = process.children()
        self.processes: list[Process] = []
        self.ends = contextlib.ExitStack()
        self.served = 0

    def close(self) -> None:
        """End all: the peers, our processes, then daemons that came to us as orphans; whatever goes wrong."""
        with contextlib.ExitStack() as ends:
            ends.callback(shutil.rmtree, self.directory, ignore_errors=True)
            ends.callback(self._end_orphans)
            for one in self.processes:
                ends.callback(one.stop)
            ends.push(self.ends)

    def _end_orphans(self) -> None:
        for pid in process.children() - self.before:
            process.end(pid)

    def describe(self) -> str:
        return "\n".join(one.describe() for one in self.processes)

    def closing(self, thing: C) -> C:
        """Have `thing.close()` called at the end."""
        return self.ends.enter_context(contextlib.closing(thing))  # type: ignore[type-var]

    def write(self, name: str, content: str) -> Path:
        """A file in the test's directory."""
        path = self.directory / name
        path.write_text(content)
        return path

    def mount_tmpfs(self, directory: Path, kilobytes: int) -> None:
        """A small disk, that can be filled.  Needs root."""
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "pen-test", directory], check=True
        )
        self.ends.callback(subprocess.run, ["umount", "--lazy", directory], check=True)

    def backend(self, talk: Talk = greet, **options: Any) -> Backend:
        """A server; its name is s0, s1, ... in the order of making."""
        made = Backend(talk, options.pop("name", f"s{self.served}"), **options)
        self.served += 1
        self.ends.callback(made.stop)
        return made

    def backends(self, count: int, talk: Talk = greet) -> list[Backend]:
        return [self.backend(talk) for _ in range(count)]

    def refusing(self, host: str = "127.0.0.1") -> Refusing:
        """An address where nobody listens."""
        return self.closing(Refusing(host))

    def hole(self) -> Hole:
        """An address that never answers."""
        return self.closing(Hole())

    def client(self, address: Address, source: str | tuple[str, int] = "", **options: float) -> Client:
        return self.closing(Client(address, source, **options))

    def spawn(self, argv: Sequence[str], name: str = "", **options: Any) -> Process:
        """Any program at the test's side."""
        made = Process(argv, self.directory, name or f"p{len(self.processes)}", **options)
        self.processes.append(made)
        return made

    def pen(self, *options: str, servers: Sequence[object] = (), **more: Any) -> Pen:
        """The balancer in the foreground: `pen -f -C CONTROL OPTIONS LISTEN SERVERS...`, listening.

        `listen` is a port of 127.0.0.1 unless given, `control` a Unix socket; `wrap` are words to run under
        (strace, prlimit), `program` another pen to run.
        """
        listen = more.setdefault("listen", f"127.0.0.1:{free_port()}")
        control = more.setdefault("control", str(self.directory / f"pen{len(self.processes)}.ctl"))
        words = ["-f", *control_options(control), *options, listen, *map(str, servers)]
        return self.pen_as_typed(*words, **more)

    def pen_as_typed(self, *words: object, **more: Any) -> Pen:
        """The balancer with just these words; it is to listen on `listen` and, if given, `control`."""
        wait = more.pop("wait", True)
        pen = Pen(self.directory, f"pen{len(self.processes)}", list(map(str, words)), **more)
        self.processes.append(pen)
        if wait:
            pen.wait_listening()
        return pen

    def tool(self, name: str) -> list[str]:
        """The words that start one of the tools."""
        return tool(name)

    def run_words(self, words: Sequence[str], **options: Any) -> Result:
        """Any command, to its end, in the test's directory."""
        return process.run(words, cwd=options.pop("cwd", self.directory), **options)

    def run(self, name: str, *words: object, **options: Any) -> Result:
        """One of the tools, to its end, in the test's directory."""
        return self.run_words([*tool(name), *map(str, words)], **options)

    def daemon(self, *words: object, pid_file: str = "pen.pid", **options: Any) -> int:
        """`pen` in the background; its pid, by its pid file, once the command has returned."""
        done = self.run("pen", *words, **options)
        assert done == (0, "", ""), done
        return int((options.get("cwd") or self.directory).joinpath(pid_file).read_text())

    def penctl(self, *words: object, **options: Any) -> Result:
        return self.run("penctl", *words, **options)
