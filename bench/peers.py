"""The two pens, ours and the C program, and what any program is told that balances.

All get what an administrator would give them who wants them fast: one process or thread that works, no log,
and round robin, as all clients of a benchmark have one address.  Buffers and batches are their own defaults.
"""

from pathlib import Path
from typing import NamedTuple

from bench.interpreter import INTERPRETER, described
from bench.process import find, output_of
from penlib.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
ORIGINALS = Path("/usr/bin")
"""Where Debian puts the C suite."""
CONNECTIONS = 2000
"""Simultaneous connections that each of them is prepared for, if nothing else is said."""
ELF = b"\x7fELF"


class Duty(NamedTuple):
    """What to balance, and how."""

    servers: list[int]
    """Their ports, at 127.0.0.1."""
    port: int = 0
    """To listen on, at 127.0.0.1."""
    udp: bool = False
    tls: str = ""
    """The file of certificate and key, if clients speak TLS."""
    log: str = ""
    """pen only: the file to log to."""
    forwarded: bool = False
    """Add X-Forwarded-For to HTTP requests."""
    connections: int = CONNECTIONS
    clients: int = 0
    """pen only: how many clients to remember; 0 = none, round robin."""


class Peer:
    """A program that balances."""

    name = ""

    def missing(self) -> str:
        """Why it can't take part; "" if it can."""
        raise NotImplementedError

    def version(self) -> str:
        """What exactly is measured."""
        raise NotImplementedError

    def command(self, directory: Path, duty: Duty) -> list[str]:
        """The words that start it in the foreground; its files are made in `directory`."""
        raise NotImplementedError


class Pen(Peer):
    """A pen of ours: this checkout's, or another one's to see what a change did."""

    def __init__(self, program: Path = ROOT / "bin" / "pen") -> None:
        self.program = program.resolve()
        own = self.program.is_relative_to(ROOT)
        self.name = "pen" if own else f"pen of {self.program.parent.parent}"

    def missing(self) -> str:
        return "" if self.program.is_file() else f"{self.program}: no such file"

    def version(self) -> str:
        return f"{VERSION} under {described()}"

    def tool(self, name: str) -> list[str]:
        """The words that start a tool of the same checkout."""
        return [INTERPRETER, str(self.program.with_name(name))]

    def command(self, directory: Path, duty: Duty) -> list[str]:
        return [*self.tool("pen"), *pen_words(duty)]


class Original(Peer):
    """The C program that ours takes after."""

    name = "pen 0.34.1"

    def missing(self) -> str:
        return "" if original("pen") else "not installed (Debian: pen)"

    def version(self) -> str:
        return "the C program, as Debian builds it"

    def command(self, directory: Path, duty: Duty) -> list[str]:
        return [original("pen"), *pen_words(duty)]


def original(name: str) -> str:
    """The path of a tool of the C suite; "" if it is not there."""
    path = ORIGINALS / name
    try:
        with path.open("rb") as file:
            return str(path) if file.read(len(ELF)) == ELF else ""
    except OSError:
        return ""


def pen_words(duty: Duty) -> list[str]:
    """Options that both pens understand."""
    words = ["-f", "-x", str(duty.connections)]
    words += ["-c", str(duty.clients)] if duty.clients else ["-r"]
    words += ["-U"] if duty.udp else ["-E", duty.tls] if duty.tls else []
    words += ["-l", duty.log] if duty.log else []
    words += ["-H"] if duty.forwarded else []
    return [*words, f"127.0.0.1:{duty.port}", *(f"127.0.0.1:{server}" for server in duty.servers)]


def version_of(package: str) -> str:
    """Of a program that can't tell itself: that of its Debian package; "" where there is none."""
    if not find("dpkg-query"):
        return ""
    said = output_of(find("dpkg-query"), "-W", "-f", "${db:Status-Status} ${Version}", package)
    return said.partition("installed ")[2] if said.startswith("installed ") else ""
