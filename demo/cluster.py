"""The processes of the demo: three web servers with a penlog each, a penlogd, a pen in front, a name server.

All listen on loopback addresses and on ports that the kernel gave. The web servers have an address each,
because it is by its address that penlogd knows whose line it has. pen and penlogd run as they do in real
life, in the background with a pid file. Whatever was started is ended by `close`, in the order in which
nothing is lost: pen, the web servers with their penlogs, penlogd.
"""

import os
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from penlib.errors import PenError

ROOT = Path(__file__).resolve().parent.parent
FRONT = "127.0.0.1"
CONTROL = "./pen.ctl"
SERVERS = {"web1": "127.0.0.11", "web2": "127.0.0.12", "web3": "127.0.0.13"}
PATIENCE = 10.0
"""Seconds that a process has to start or to end."""
ATTEMPTS = 5
"""A port that the kernel called free can be taken before the one it is for gets to it."""


class Cluster:
    """The running cluster. Its files are in `directory`: `access_log` is penlogd's, NAME.log a server's own.

    `bin` is where the tools are: the checkout's, or an installed suite's.
    """

    def __init__(self, directory: Path, bin: Path | None = None) -> None:
        self.directory = directory
        self.bin = bin
        self.webs: dict[str, subprocess.Popen[str]] = {}
        self.names: subprocess.Popen[str] | None = None
        self.ports: dict[str, int] = {}
        self.commands: dict[str, list[str]] = {}
        self.access_log = directory / "access_log"

    def start(self) -> None:
        """Start all of it; when this returns, all of it can be reached."""
        self.log_to = self._daemon("penlogd", socket.SOCK_DGRAM, lambda at: ["-b", "-l", "access_log", at])
        for name in SERVERS:
            self.start_web(name)
        webs = [f"{SERVERS[name]}:{port}" for name, port in self.ports.items()]
        control = ["-C", CONTROL, *(["-u", "root"] if os.geteuid() == 0 else [])]
        self.address = self._daemon(
            "pen", socket.SOCK_STREAM, lambda at: [*control, "-l", self.log_to, at, *webs]
        )

    def _tool(self, name: str) -> list[str]:
        """The words that start a tool; the checkout's need the modules that our interpreter has."""
        return [str(self.bin / name)] if self.bin else [sys.executable, str(ROOT / "bin" / name)]

    def _daemon(self, name: str, kind: socket.SocketKind, words: Callable[[str], list[str]]) -> str:
        """Start a tool in the background, on a free port; its address."""
        for _ in range(ATTEMPTS):
            address = f"{FRONT}:{free_port(kind)}"
            command = ["-p", f"{name}.pid", *words(address)]
            started = subprocess.run([*self._tool(name), *command], cwd=self.directory, timeout=PATIENCE)
            if not started.returncode:
                self.commands[name] = [name, *command]
                return address
        raise PenError(f"can't start {name}")

    def start_web(self, name: str) -> None:
        """Start a web server, on the port it had before if it had one. Its log goes through penlog."""
        penlog = ["penlog", *self.log_to.split(":"), SERVERS[name]]
        self.commands[name] = penlog
        piped = shlex.join([*self._tool("penlog"), *penlog[1:]])
        port, log = str(self.ports.get(name, 0)), str(self.directory / f"{name}.log")
        self.webs[name] = spawn("webserver", name, SERVERS[name], port, log, f"|{piped}")
        self.ports[name] = told_port(self.webs[name], name)

    def start_names(self, names: dict[str, str]) -> str:
        """Start a name server that knows these addresses' names; where it is."""
        pairs = [f"{address}={name}" for address, name in names.items()]
        self.names = spawn("nameserver", FRONT, *pairs)
        return f"{FRONT}:{told_port(self.names, 'the name server')}"

    def run(self, *words: str) -> str:
        """Run a tool to its end; what it wrote."""
        name, *rest = words
        done = subprocess.run(
            [*self._tool(name), *rest],
            cwd=self.directory,
            timeout=PATIENCE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise PenError(f"{name} failed")
        return done.stdout

    def kill_web(self, name: str) -> None:
        """What a crash does: the web server is gone, at once."""
        self.webs[name].kill()
        self.webs[name].wait()

    def close(self) -> None:
        """End everything that was started, whatever became of it."""
        self._end_daemon("pen")
        servers = [*self.webs.values(), *([self.names] if self.names else [])]
        for server in servers:
            server.terminate()
        for server in servers:
            with suppress(subprocess.TimeoutExpired):
                server.wait(PATIENCE)
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # who is left of its session, if anybody
            server.wait()
            assert server.stdout
            server.stdout.close()
        self._end_daemon("penlogd")

    def _end_daemon(self, name: str) -> None:
        """End the process that the pid file names, and wait until it has ended."""
        with suppress(FileNotFoundError, ProcessLookupError):
            process = os.pidfd_open(int((self.directory / f"{name}.pid").read_text()))
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(process, number)
                if select.select([process], [], [], PATIENCE)[0]:
                    break
            os.close(process)


def spawn(module: str, *words: str) -> "subprocess.Popen[str]":
    """Start one of the demo's own servers, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"demo.{module}", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def told_port(server: "subprocess.Popen[str]", name: str) -> int:
    """The port on which a server says that it can be reached.  Raises PenError if it says nothing."""
    assert server.stdout
    line = server.stdout.readline() if select.select([server.stdout], [], [], PATIENCE)[0] else ""
    if not line:
        raise PenError(f"can't start {name}")
    return int(line)


def free_port(kind: socket.SocketKind) -> int:
    """A port that nobody has just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((FRONT, 0))
        return int(probe.getsockname()[1])
