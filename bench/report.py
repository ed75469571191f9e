"""The report, in Markdown: the targets, the ratios, what they are made of, the programs and the machine."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

from bench.results import Measured, Results
from bench.sample import QUANTITIES, full_title
from bench.targets import judged
from penlib import clock

CHARTS = {
    "balancing.svg": (
        "pen's costs divided by those of other balancers",
        ("TCP", "TLS", "UDP", "Log and headers"),
    ),
    "tools.svg": (
        "memory, many clients, and the log tools: costs divided by those of their peers",
        ("Idle connections", "Many clients", "mergelogs", "penlogd", "webresolve", "Starting"),
    ),
}
"""Pictures: what they show, and of which groups."""
NOTES = """\
CPU time is user and system time of all of a program's processes, as the scheduler counts it; the costs are
pen's, divided by those of a peer that does the same work at the same time. Ratios are taken within a round;
the rounds' median is given and, in brackets, the quartiles: half of the rounds lie between them. A program
marked with * is so slow that it runs once, and does less if that is said beside it. Everything runs on
loopback, and clients and servers share the machine's cores with the program that is measured, which is a
fresh process each time. Answers are checked, a wrong one ends the benchmark.

- keep-alive requests: wrk, 50 connections, a file of 100 bytes from two nginx servers, round robin
- new connections: the same with `Connection: close`
- bulk: 2 connections at once, in one direction; every byte is compared
- TLS: the same, clients speaking TLS 1.3 with a proxy that has an RSA key of 2048 bits; a new connection is
  a full handshake
- UDP queries: 20 clients with one question each on its way, 60 bytes, two servers that send them back; DNS
  queries: dnsperf with 20 clients, nsd
- log and headers: keep-alive requests with `-l FILE` or `-H`; pen without them, the C pen with them, haproxy
  with `option forwardfor`, nginx as HTTP proxy
- idle connections: what a program prepared for so many connections, and with them, has more than one with 10,
  divided by the connections; each has carried 8 bytes to and fro; what the kernel needs is not counted
- many clients: `-c N`, N addresses of 127/8 are known, 50 others at once connect, get 5 bytes and go
- mergelogs: 4 servers, combined format, 2000 clients; no line may be missing
- penlogd: half of the datagrams are records, half lines; 10 s at 40,000/s, 1 s at the other rates
- webresolve: distinct addresses, each with a name; a name server that answers at once, or after 20 ms; ratios
  of time on the wall. adnslogres also asks whether the names lead back; it waits for answers that its socket
  had no room for, which is a matter of luck with few addresses, so it gets all 100,000, once
"""


def report(results: Results) -> str:
    """All of it."""
    parts = [
        "# pen beside its peers",
        circumstances(results),
        "`make bench` wrote this. Less is better: 0.5 is half of what the peer needs.",
        *(f"![{title}]({file})" for file, (title, _) in CHARTS.items()),
        *_targets(results),
        "## Costs of pen, divided by those of each peer",
        *(part for group, works in results.groups().items() for part in _ratios(group, works)),
        "## What they are made of: medians",
        table(["work", "program", "CPU time", "memory", "done per second", "lost"], _costs(results)),
        *_limits(results),
        "## Programs",
        "\n".join(f"- {line}" for line in results.programs),
        "## How",
        NOTES.rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def circumstances(results: Results) -> str:
    """When and where: one paragraph, or one for each piece of a benchmark done in pieces."""
    found: dict[str, list[str]] = {}
    for work in results.works.values():
        found.setdefault(work.circumstances, []).append(work.name)
    if len(found) == 1:
        return next(iter(found))
    return "\n".join(f"- {said}: {', '.join(names)}" for said, names in found.items())


def _targets(results: Results) -> list[str]:
    rows = judged(results)
    if not rows:
        return []
    met = sum(row.met for row in rows)
    lines = [[*row[:4], "yes" if row.met else "**no**"] for row in rows]
    return [
        "## Targets",
        f"{met} of {len(rows)} are met.",
        table(["work", "peer", "target", "measured", "met"], lines),
    ]


def _ratios(group: str, works: list[Measured]) -> list[str]:
    """A group: a row for each work, a column for each peer."""
    peers = list(dict.fromkeys(peer for work in works for peer in work.others))
    if not peers:
        return []
    rows = [[work.short, *(_ratio(work, peer) for peer in peers)] for work in works]
    quantity = QUANTITIES[works[0].quantity].title
    return [f"### {group}: {quantity}", table(["work", *peers], rows)]


def _ratio(work: Measured, peer: str) -> str:
    if peer not in work.series:
        return ""
    less = work.series[peer].sample
    return f"{work.ratio(peer)} \\* {less}" if less else str(work.ratio(peer))


def _costs(results: Results) -> Iterable[list[str]]:
    """Rows: what a unit of each work costs each program."""
    cpu, memory = QUANTITIES["cpu"], QUANTITIES["memory"]
    for work in results.works.values():
        for name, series in work.series.items():
            cost = f"{series.median(cpu) * cpu.scale:,.1f} {cpu.unit} per {work.unit}"
            if work.quantity == "memory":
                held, rate = f"{series.median(memory) * memory.scale:.2f} kB per {work.unit}", ""
            else:
                held = f"{series.memory() / 1e6:.0f} MB" if series.memory() else ""
                rate = f"{series.rate():,.0f}"
            lost = f"{100 * series.lost():.2g} %" if series.lost() else ""
            star = f" \\* {series.sample}" if series.sample else ""
            yield [full_title(work.group, work.title), name + star, cost, held, rate, lost]


def _limits(results: Results) -> list[str]:
    """The highest rates that lost nothing."""
    kept: dict[str, float] = {}
    for work in results.groups().get("penlogd", []):
        for name, series in work.series.items():
            key = f"{name}, {work.title.partition(', ')[2]}"
            highest = kept.setdefault(key, 0.0)
            kept[key] = highest if series.lost() else max(highest, series.rate())
    lines = [
        f"- {key}: {f'{rate:,.0f} datagrams/s' if rate else 'none of these'}" for key, rate in kept.items()
    ]
    return ["The highest rate at which penlogd lost nothing:", "\n".join(lines)] if lines else []


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def here(rounds: int, quick: bool) -> str:
    """The circumstances of a benchmark that begins now."""
    how = f"quick, {rounds}" if quick else str(rounds)
    return f"{clock.date(clock.now())}, {how} round{'s' * (rounds != 1)}, {machine()}"


def machine() -> str:
    """Processor, cores, kernel, and the pace at which TCP sends: what bulk data costs depends on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    tcp = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    processor = models[0] if models else platform.machine()
    return f"{processor}, {cores} cores; Linux {platform.release()}, TCP {tcp}"
