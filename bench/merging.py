"""mergelogs: logs of a simulated cluster whose truth is known (tests/support/clusterlog), put together.

The C program needs so long for a log of this size that it gets some lines from the middle of it, once; but
all of pen's log, among which it looks for them.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.lab import Lab
from bench.peers import original
from bench.ran import ran
from bench.sample import Entrant, Sample, Work
from penlib.errors import PenError
from tests.support import clusterlog

GROUP = "mergelogs"
RATES = {50: 8000, 500: 2000}
"""Requests per second, and how many lines the C program gets: it takes some seconds for those."""
MANY, FEW_ROUNDS = 1_000_000, 3
"""So many lines take long."""
RIGHT = 0.97
"""The least share of lines that must have the right client from ours, far under what tests ask."""


class Logs(NamedTuple):
    """Where the logs of a cluster are, and what must come out: the client of each line, by its number."""

    directory: Path
    servers: list[str]
    clients: dict[int, bytes]

    def words(self) -> list[str]:
        """For mergelogs, when it runs in `directory`."""
        return ["-p", "../pen.log", *(f"{server}:{server}" for server in self.servers)]

    def check(self, output: Path, least: float) -> None:
        """Each line must be there, once; so many must have the right client.  Raises PenError."""
        left, lines, right = dict(self.clients), 0, 0
        with output.open("rb") as file:
            for line in file:
                client = left.pop(clusterlog.number_of(line), b"?")
                right += line.startswith(client + b" ")
                lines += 1
        if left or lines != len(self.clients):
            raise PenError(f"{lines} lines of {len(self.clients)} came out, {len(left)} are not among them")
        if right < least * lines:
            raise PenError(f"only {right} of {lines} lines have their client")


def write(home: Path, requests: int, rate: float, counts: set[int]) -> dict[int, Logs]:
    """The logs of a cluster: pen's, and the web servers' with so many lines from the middle of it."""
    made = clusterlog.requests(clusterlog.Settings(requests=requests, rate=rate))
    with (home / "pen.log").open("wb") as file:
        file.writelines(clusterlog.pen_log(made))
    found = {}
    for count in counts:
        first = (requests - count) // 2
        (home / str(count)).mkdir()
        found[count] = write_access_logs(home / str(count), made[first : first + count])
    return found


def write_access_logs(directory: Path, made: list[clusterlog.Request]) -> Logs:
    """Those of all web servers."""
    servers = sorted({request.server for request in made})
    for server in servers:
        with (directory / server.decode()).open("wb") as file:
            file.writelines(clusterlog.access_log(made, server))
    clients = {request.number: request.client for request in made if request.line}
    return Logs(directory, [server.decode() for server in servers], clients)


def works(lab: Lab) -> list[Work]:
    """A work for each size and rate."""
    return [_work(lab, requests, rate) for requests in lab.scale.merged for rate in RATES]


def _work(lab: Lab, requests: int, rate: int) -> Work:
    few = min(requests, RATES[rate])
    name = f"{requests // 1000}k-{rate}"

    def logs() -> dict[int, Logs]:
        return lab.shared(name, lambda: nullcontext(write(lab.directory(), requests, rate, {requests, few})))

    entrants = [
        Entrant(pen.name, partial(measure, pen.tool("mergelogs"), logs, requests, RIGHT)) for pen in lab.pens
    ]
    if original("mergelogs"):
        measured = partial(measure, [original("mergelogs")], logs, few, 0.0)
        entrants.append(Entrant("mergelogs 0.34.1", measured, f"{few:,} lines"))
    work = Work(f"mergelogs-{name}", f"{requests:,} lines, {rate} requests/s", "line", GROUP, entrants)
    work.most_rounds = FEW_ROUNDS if requests >= MANY else work.most_rounds
    return work


def measure(words: list[str], all_logs: Callable[[], dict[int, Logs]], count: int, least: float) -> Sample:
    """Merge the logs with so many lines; a share of them, `least`, must have the right client."""
    logs = all_logs()[count]
    output = logs.directory / "merged"
    used = ran([*words, *logs.words()], logs.directory, output)
    logs.check(output, least)
    return Sample(len(logs.clients), used.cpu, used.wall, used.memory)
