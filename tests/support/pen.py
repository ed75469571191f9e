"""The balancer under test, in the foreground, with its control socket at hand."""

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from support.client import Address, Client, ask
from support.ports import listens, listens_unix, takes_datagrams
from support.process import Process
from support.programs import tool
from support.waiting import wait_until

SERVER = re.compile(
    r"(?P<number>\d+) addr (?P<addr>.+?) port (?P<port>\d+) conn (?P<conn>\d+)"
    r" max (?P<max>\d+) hard (?P<hard>\d+) weight (?P<weight>\d+) prio (?P<prio>\d+)"
    r" sx (?P<sx>\d+) rx (?P<rx>\d+)"
)


class Pen(Process):
    """The balancer, started with the words `typed`.  Tests talk to it by `ask`, which says which server a
    client got, and `command`.

    `listen` is the listener among the words (clients find it at `address`, where that can't be told from it),
    `control` the path of the control socket.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        typed: Sequence[str],
        *,
        listen: str,
        address: Address = "",
        control: str = "",
        wrap: Sequence[str] = (),
        program: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.listen = listen
        self.address = address or reachable(listen, directory)
        self.control = str(directory / control) if control else ""
        self.udp = "-U" in typed
        self.clients: list[Client] = []
        self.log_file = directory / "pen.log"
        super().__init__([*wrap, *(program or tool("pen")), *typed], directory, name, env=env)

    def wait_listening(self) -> None:
        """Until clients and commands are answered; AssertionError if it ends before that."""
        wait_until(lambda: not self.alive or self._ready(), f"{self.name} listens on {self.address}")
        assert self.alive, f"{self.name} ended with {self.popen.returncode}: {self.err}"

    def _ready(self) -> bool:
        if self.control and not listens_unix(self.pid, self.control):
            return False
        if isinstance(self.address, str):
            return listens_unix(self.pid, self.address)
        return (takes_datagrams if self.udp else listens)(self.pid, self.address[1])

    def client(self, source: str | tuple[str, int] = "", **options: float) -> Client:
        """A connection to it, closed at the end of the test if not before."""
        client = Client(self.address, source, **options)
        self.clients.append(client)
        return client

    def ask(self, source: str | tuple[str, int] = "", **options: float) -> str:
        """The name of the server that a client from `source` gets; "" if it gets none."""
        return ask(self.address, source, **options)

    def asks(self, count: int, source: str = "") -> list[str]:
        return [self.ask(source) for _ in range(count)]

    def stop(self) -> int:
        status = super().stop()
        for client in self.clients:
            client.close()
        return status

    def command(self, line: str) -> str:
        """One control command; its whole reply."""
        with Client(self.control) as control:
            control.send(line.encode("latin-1") + b"\n")
            return control.rest().decode("latin-1")

    def servers(self) -> list[dict[str, str]]:
        """What `servers` replies, by the names that stand in it."""
        lines = self.command("servers").splitlines()
        return [match.groupdict() for line in lines if (match := SERVER.fullmatch(line))]

    def connections(self) -> int:
        """How many connections pen has to its servers."""
        return sum(int(server["conn"]) for server in self.servers())

    def wait_connections(self, count: int) -> None:
        wait_until(lambda: self.connections() == count, f"{self.name} has {count} connections")

    def wait_for(self, condition: Callable[[], object], what: str = "") -> None:
        wait_until(lambda: condition() or not self.alive, what)
        assert self.alive, f"{self.name} ended: {self.err}"

    def hup(self) -> None:
        self.send_signal(signal.SIGHUP)

    @property
    def log(self) -> str:
        """The log, as a test wrote `-l pen.log`."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_file.read_bytes().decode("latin-1")
        return ""

    def log_contains(self, pattern: str, times: int = 1) -> None:
        """Wait until the log has at least `times` lines that match, then see that it has no more."""
        wait_until(
            lambda: len(re.findall(pattern, self.log, re.MULTILINE)) >= times,
            f"{pattern!r} {times} times in the log, which is {self.log!r}",
        )
        found = len(re.findall(pattern, self.log, re.MULTILINE))
        assert found == times, f"{pattern!r} {found} times, not {times}, in {self.log!r}"

    def describe(self) -> str:
        return super().describe() + (f"[log]\n{self.log[-3000:]}" if self.log else "")


def control_options(control: str) -> list[str]:
    """-C with what root must add."""
    if not control:
        return []
    return ["-C", control, *(["-u", "root"] if os.geteuid() == 0 else [])]


def reachable(listen: str, directory: Path) -> Address:
    """Where a client finds a listener that was typed as `listen`."""
    if "/" in listen:
        return str(directory / listen)
    host, _, port = listen.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port) if port.isdigit() else socket.getservbyname(port, "tcp")
