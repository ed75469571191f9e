"""The samples, what they say together, and the file that keeps them, so that a long benchmark can be done in
pieces and a report be written again without measuring.

A ratio is taken within a round, where whatever else the machine does meets all alike, and the rounds' median
is the result.  A program that is measured once is compared to each round of the other.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple, Self

from bench.sample import QUANTITIES, Entrant, Quantity, Sample, Work
from penlib.errors import PenError, failed


class Ratio(NamedTuple):
    """Of two costs per unit: the rounds' median, and the quartiles, between which half of them lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{digits(self.median)} ({digits(self.low)}-{digits(self.high)})"


class Series:
    """The samples of one program at one work, in the order of the rounds."""

    def __init__(self, sample: str = "", samples: Iterable[Sample] = ()) -> None:
        self.sample = sample
        """As in Entrant."""
        self.samples = list(samples)

    def median(self, quantity: Quantity) -> float:
        """Of the cost per unit."""
        return median(map(quantity.of, self.samples))

    def rate(self) -> float:
        """Units per second on the wall, the median."""
        return median(sample.units / sample.wall for sample in self.samples)

    def memory(self) -> float:
        """Bytes, the median; 0 if nobody looked."""
        return median(sample.memory for sample in self.samples)

    def lost(self) -> float:
        """The share of all units that was lost, in all rounds together."""
        lost = sum(sample.lost for sample in self.samples)
        return lost / (lost + sum(sample.units for sample in self.samples))


class Measured(NamedTuple):
    """A work that was measured; the first of `series` is pen's, `circumstances` are date and machine."""

    name: str
    title: str
    unit: str
    group: str
    quantity: str
    circumstances: str
    series: dict[str, Series]

    @classmethod
    def begun(cls, work: Work, circumstances: str) -> Self:
        """No samples yet."""
        series = {entrant.name: Series(entrant.sample) for entrant in work.entrants}
        return cls(work.name, work.title, work.unit, work.group, work.quantity, circumstances, series)

    @property
    def short(self) -> str:
        """The title where the group is known."""
        return self.title.removeprefix(f"{self.group}: ")

    @property
    def own(self) -> Series:
        """pen's."""
        return next(iter(self.series.values()))

    @property
    def others(self) -> list[str]:
        """All but pen."""
        return list(self.series)[1:]

    @property
    def rounds(self) -> int:
        return len(self.own.samples)

    def add(self, entrant: Entrant, sample: Sample) -> None:
        """One more round's."""
        self.series[entrant.name].samples.append(sample)

    def ratio(self, peer: str, quantity: str = "") -> Ratio:
        """pen's cost per unit, divided by that of the peer."""
        of = QUANTITIES[quantity or self.quantity].of
        own, other = self.own.samples, self.series[peer].samples
        if len(other) == 1:
            other = other * len(own)
        ratios = [of(one) / of(two) for one, two in zip(own, other, strict=True)]
        low, _, high = quantiles(ratios * (2 if len(ratios) == 1 else 1), n=4, method="inclusive")
        return Ratio(median(ratios), low, high)


class Results:
    """Works that were measured, by name, and the versions of the programs."""

    def __init__(self, works: Iterable[Measured] = (), programs: Iterable[str] = ()) -> None:
        self.works = {work.name: work for work in works}
        self.programs = list(programs)
        """A line each."""

    def groups(self) -> dict[str, list[Measured]]:
        """The works by their group, each in the order in which they came."""
        found: dict[str, list[Measured]] = {}
        for work in self.works.values():
            found.setdefault(work.group, []).append(work)
        return found

    def arrange(self, names: list[str]) -> None:
        """Bring the works into this order, whenever they were measured.  Those of other names, which were
        measured with less or more of everything, go."""
        self.works = {name: self.works[name] for name in names if name in self.works}

    def write(self, path: Path) -> None:
        """A line a work.  Raises PenError."""
        works = [
            {**work._asdict(), "series": {name: vars(series) for name, series in work.series.items()}}
            for work in self.works.values()
        ]
        lines = ",\n".join(map(json.dumps, works))
        try:
            path.write_text(f'{{"programs": {json.dumps(self.programs)}, "works": [\n{lines}\n]}}\n')
        except OSError as exc:
            raise failed(f"write {path}", exc) from exc

    @classmethod
    def read(cls, path: Path) -> Self:
        """Of a file that `write` made; empty if there is none.  Raises PenError."""
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
            works = [Measured(**{**work, "series": _series(work["series"])}) for work in kept["works"]]
            return cls(works, kept["programs"])
        except FileNotFoundError:
            return cls()
        except OSError as exc:
            raise failed(f"read {path}", exc) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise PenError(f"{path}: not the results of a benchmark: {exc}") from exc


def _series(kept: dict[str, dict[str, Any]]) -> dict[str, Series]:
    return {
        name: Series(one["sample"], [Sample(*sample) for sample in one["samples"]])
        for name, one in kept.items()
    }


def digits(value: float) -> str:
    """A ratio, with as many digits as mean something."""
    return f"{value:.3f}" if value < 0.095 else f"{value:.2f}" if value < 9.95 else f"{value:.0f}"
