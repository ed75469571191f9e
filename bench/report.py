"""The report, in Markdown: the ratios, what they are made of, the programs and the machine."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

from bench.peers import Peer, nginx_version
from bench.process import find, output_of
from bench.rounds import Results
from bench.works import Work
from penlib import clock

MICRO = 1e6

NOTES = """\
CPU time is user and system time of all of a program's processes, as the scheduler counts it. Ratios are taken
within a round; the rounds' median is given and, in brackets, the quartiles: half of the rounds lie between
them. Everything runs on loopback, and clients and servers share the machine's cores with the program that is
measured, which is a fresh process each time. Answers are checked: status and size of all of them, the content
of one in each measurement; of bulk data every byte.

- keep-alive requests: wrk, 50 connections, a file of 100 bytes from two nginx servers, round robin
- new connections: the same with `Connection: close`
- bulk: 2 connections at once, in one direction
- TLS: the same, clients speaking TLS 1.3 with a proxy that has an RSA key of 2048 bits; a new connection is
  a full handshake
- UDP queries: 20 clients with one question each on its way, 60 bytes, two servers that send them back
"""


class Report:
    """What was measured, by whom; `peers` begins with pen itself."""

    def __init__(
        self, results: Results, works: list[Work], peers: list[Peer], rounds: int, skipped: list[str]
    ) -> None:
        self._results = results
        self._works = works
        self._own, *self._others = peers
        self._rounds = rounds
        self._skipped = skipped

    def __str__(self) -> str:
        parts = [
            "# pen beside its peers",
            f"{clock.date(clock.now())}, {self._rounds} rounds. {machine()}.",
            "## CPU time of pen, divided by that of each peer (less is better)",
            table(["work", *(peer.name for peer in self._others)], map(self._ratios, self._works)),
            "## What they are made of: medians",
            table(["work", "program", "CPU", "done per second"], self._costs()),
            "## Programs",
            "\n".join(f"- {line}" for line in self._programs()),
            "## How",
            NOTES.rstrip(),
        ]
        return "\n\n".join(parts) + "\n"

    def _ratios(self, work: Work) -> list[str]:
        """A row: pen against each peer that did this work."""
        ratios = (
            self._results.ratio(work, self._own, peer) if self._results.has(work, peer) else ""
            for peer in self._others
        )
        return [work.title, *map(str, ratios)]

    def _costs(self) -> Iterable[list[str]]:
        """Rows: what a unit of each work costs each peer."""
        for work in self._works:
            for peer in (self._own, *self._others):
                if self._results.has(work, peer):
                    cpu, rate = self._results.cpu(work, peer), self._results.rate(work, peer)
                    cost = f"{cpu * MICRO:.1f} µs per {work.unit}"
                    yield [work.title, peer.name, cost, f"{rate:,.0f}"]

    def _programs(self) -> list[str]:
        lines = [f"{peer.name}: {peer.version()}" for peer in (self._own, *self._others)]
        if find("nginx") and find("wrk"):
            wrk = output_of(find("wrk"), "-v").split()[1]
            lines.append(f"clients and servers: wrk {wrk}, nginx {nginx_version()}")
        return lines + [f"skipped: {line}" for line in self._skipped]


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Processor, cores, kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return f"{models[0] if models else platform.machine()}, {cores} cores; Linux {platform.release()}"
