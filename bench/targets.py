"""What pen is to reach: one table, and whether it has.  Pure."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from bench.results import Measured, Results, digits
from bench.sample import QUANTITIES, full_title

CPU, WALL, MEMORY = (QUANTITIES[name] for name in ("cpu", "wall", "memory"))


class Measure(NamedTuple):
    """Something that has a target: how it comes from the samples, and how it is written."""

    of: Callable[[Measured, str], float]
    """With the peer's name, where there is one."""
    text: Callable[[float], str]
    more_is_better: bool = False


class Target(NamedTuple):
    """`peer` is "" where pen stands for itself."""

    work: str
    peer: str
    measure: Measure
    limit: float

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.measure.more_is_better else value <= self.limit


class Judged(NamedTuple):
    """A target and what was measured, as written in the report."""

    work: str
    peer: str
    target: str
    measured: str
    met: bool


RATIO = Measure(lambda work, peer: work.ratio(peer).median, digits)
TIMES = Measure(
    lambda work, peer: 1 / work.ratio(peer).median, lambda value: f"{value:.1f} times", more_is_better=True
)
PER_CPU_SECOND = Measure(
    lambda work, _: 1 / work.own.median(CPU),
    lambda value: f"{value:,.0f} per CPU second",
    more_is_better=True,
)
MICROSECONDS = Measure(
    lambda work, _: work.own.median(CPU) * 1e6, lambda value: f"{value:.1f} µs of CPU time"
)
KILOBYTES = Measure(lambda work, _: work.own.median(MEMORY) / 1e3, lambda value: f"{value:.2f} kB")
LOST = Measure(lambda work, _: work.own.lost(), lambda value: f"{100 * value:.3g} % lost")
SECONDS = Measure(
    lambda work, _: median(sample.wall for sample in work.own.samples), lambda value: f"{value:.1f} s"
)
MEGABYTES = Measure(lambda work, _: work.own.memory() / 1e6, lambda value: f"{value:.0f} MB")

C_PEN, HAPROXY, SPLICING, NGINX = "pen 0.34.1", "haproxy", "haproxy, splicing", "nginx"


def _ratios(work: str, **limits: float) -> list[Target]:
    names = {"pen": C_PEN, "haproxy": HAPROXY, "splicing": SPLICING, "nginx": NGINX}
    return [Target(work, names[peer], RATIO, limit) for peer, limit in limits.items()]


TARGETS = [
    *_ratios("keepalive", pen=1.2, haproxy=1.1, nginx=1.1),
    *_ratios("connections", pen=1.2, haproxy=1.1, nginx=1.1),
    *_ratios("download", pen=0.35, splicing=0.65, nginx=0.35),
    *_ratios("upload", pen=0.35, splicing=0.65, nginx=0.35),
    *_ratios("tls-keepalive", pen=1.3, haproxy=1.3, nginx=1.3),
    *_ratios("tls-connections", pen=0.95, haproxy=1.15, nginx=1.2),
    *_ratios("tls-download", pen=0.9, haproxy=1.0, nginx=1.0),
    *_ratios("tls-upload", pen=0.9, haproxy=1.0, nginx=1.0),
    *_ratios("queries", pen=1.3, nginx=1.2),
    *_ratios("sessions", pen=1.3),
    *_ratios("dns", pen=1.3, nginx=1.2),
    *_ratios("log", pen=1.35),
    Target("idle", "", KILOBYTES, 1.0),
    Target("tls-idle", "", KILOBYTES, 16.0),
    *_ratios("crowd-100k", pen=0.25),
    *(
        target
        for size in ("200k", "1000k")
        for rate, lines in ((50, 110_000), (500, 80_000))
        for target in (
            Target(f"mergelogs-{size}-{rate}", "", PER_CPU_SECOND, lines),
            Target(f"mergelogs-{size}-{rate}", "mergelogs 0.34.1", TIMES, 30),
        )
    ),
    *(
        Target(f"penlogd-{rate}k-{kept}", "", MICROSECONDS, 10)
        for kept in (1000, 100_000)
        for rate in (10, 20, 40, 80)
    ),
    Target("penlogd-40k-1000", "", LOST, 0),
    Target("penlogd-40k-100000", "", LOST, 0),
    Target("webresolve-100k-20", "", SECONDS, 8),
    Target("webresolve-100k-20", "", MEGABYTES, 100),
    Target("webresolve-100k-20", "adnslogres", TIMES, 10),
    Target("webresolve-100k-20", "jdresolve", TIMES, 10),
]


def judged(results: Results) -> list[Judged]:
    """All targets of works that were measured, with the peers that were there."""
    found = []
    for target in TARGETS:
        work = results.works.get(target.work)
        if work and (not target.peer or target.peer in work.series):
            value = target.measure.of(work, target.peer)
            sign = "≥" if target.measure.more_is_better else "≤"
            limit = f"{sign} {target.measure.text(target.limit)}"
            text = target.measure.text(value)
            found.append(
                Judged(full_title(work.group, work.title), target.peer, limit, text, target.met_by(value))
            )
    return found


def limit_of(work: str, peer: str) -> float | None:
    """What pen's cost, divided by the peer's, is to be at most; None if nothing is said."""
    for target in TARGETS:
        if (target.work, target.peer) == (work, peer) and target.measure in (RATIO, TIMES):
            return 1 / target.limit if target.measure is TIMES else target.limit
    return None
