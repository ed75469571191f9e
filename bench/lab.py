"""The laboratory: a directory, how long a measurement takes, and programs that are started when needed.

`with Lab(...) as lab:` ends all of it, whatever happens.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar, cast

from bench.interpreter import environment
from bench.peers import Duty, Original, Peer, Pen
from bench.process import Program, free_port
from bench.proxies import Haproxy, HaproxySplice, Nginx
from bench.tls import certificate
from penlib.errors import PenError

T = TypeVar("T")


class Scale(NamedTuple):
    """How much of everything."""

    rounds: int = 7
    seconds: int = 3
    """That wrk, dnsperf and the like ask, in each measurement."""
    megabytes: int = 1000
    """That each bulk connection carries."""
    idle: int = 10_000
    """Connections that do nothing."""
    tracked: tuple[int, ...] = (100_000, 1_000_000)
    """Clients that are remembered."""
    newcomers: int = 2000
    """Clients that come then."""
    merged: tuple[int, ...] = (200_000, 1_000_000)
    """Requests in the logs of mergelogs."""
    rates: tuple[int, ...] = (10_000, 20_000, 40_000, 80_000)
    """Datagrams a second to penlogd."""
    long: int = 10
    """Seconds of that rate that must not lose anything."""
    addresses: tuple[int, ...] = (10_000, 100_000)
    """In a log."""
    starts: int = 20


QUICK = Scale(
    rounds=1,
    seconds=1,
    megabytes=200,
    idle=300,
    tracked=(5000,),
    newcomers=500,
    merged=(20_000,),
    rates=(10_000, 40_000),
    long=1,
    addresses=(1000,),
    starts=3,
)


class Lab:
    """`pens`: ours first, then those of other checkouts; `others`: the programs that are here."""

    def __init__(self, scale: Scale, programs: list[str]) -> None:
        self.scale = scale
        self.pens = [Pen(), *(Pen(Path(program)) for program in programs)]
        for pen in self.pens:
            if pen.missing():
                raise PenError(pen.missing())
        known: list[Peer] = [Original(), Haproxy(), HaproxySplice(), Nginx()]
        self.others = {type(peer): peer for peer in known if not peer.missing()}
        self.skipped = [f"{peer.name}: {peer.missing()}" for peer in known if peer.missing()]
        """What is not measured, and why."""
        self._home = TemporaryDirectory(prefix="pen-bench-")
        self._stack = ExitStack()
        self._shared: dict[str, object] = {}

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *exc: object) -> None:
        with self._home:
            self.clear()

    @property
    def home(self) -> Path:
        """A directory that lives as long as the laboratory."""
        return Path(self._home.name)

    def directory(self) -> Path:
        """A new one, for this work."""
        return Path(self._stack.enter_context(TemporaryDirectory(dir=self.home)))

    def shared(self, name: str, make: Callable[[], AbstractContextManager[T]]) -> T:
        """Something of this name that lives as long as this work, made when first needed."""
        if name not in self._shared:
            self._shared[name] = self._stack.enter_context(make())
        return cast(T, self._shared[name])

    def clear(self) -> None:
        """The work is done: end what it shared."""
        self._shared.clear()
        self._stack.close()

    @cached_property
    def certificate(self) -> str:
        """The file of certificate and key."""
        return str(certificate(self.home))

    def peers(self, *kinds: type[Peer]) -> list[Peer]:
        """The pens, and who of these kinds is here."""
        return [*self.pens, *(self.others[kind] for kind in kinds if kind in self.others)]

    def start(self, peer: Peer, duty: Duty) -> Program:
        """A program that balances, on a port of its own."""
        directory = self.directory()
        duty = duty._replace(port=free_port())
        command = peer.command(directory, duty)
        return Program(peer.name, command, duty.port, directory, duty.udp, environment())
