"""The order in which things are measured, and what the rounds say together.

A round does every work with every peer, each time beginning with another one, so that whatever else the
machine does meets all of them alike.  A ratio is taken within a round, and the rounds' median is the result.
"""

from collections.abc import Callable
from statistics import median, quantiles
from typing import NamedTuple

from bench.peers import Peer
from bench.works import Sample, Work
from penlib.errors import PenError


class Ratio(NamedTuple):
    """Of two CPU times per unit: the rounds' median, and the quartiles, between which half of them lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


class Results:
    """The samples, in the order of the rounds."""

    def __init__(self) -> None:
        self._samples: dict[tuple[Work, Peer], list[Sample]] = {}

    def add(self, work: Work, peer: Peer, sample: Sample) -> None:
        """One more round's."""
        self._samples.setdefault((work, peer), []).append(sample)

    def has(self, work: Work, peer: Peer) -> bool:
        """Whether the peer took part."""
        return (work, peer) in self._samples

    def ratio(self, work: Work, peer: Peer, to: Peer) -> Ratio:
        """CPU time per unit of `peer`, divided by that of `to`."""
        pairs = zip(self._samples[work, peer], self._samples[work, to], strict=True)
        ratios = [(one.cpu / one.units) / (other.cpu / other.units) for one, other in pairs]
        low, _, high = quantiles(ratios * (2 if len(ratios) == 1 else 1), n=4, method="inclusive")
        return Ratio(median(ratios), low, high)

    def cpu(self, work: Work, peer: Peer) -> float:
        """CPU seconds per unit, the median."""
        return median(sample.cpu / sample.units for sample in self._samples[work, peer])

    def rate(self, work: Work, peer: Peer) -> float:
        """Units per second on the wall, the median."""
        return median(sample.units / sample.wall for sample in self._samples[work, peer])


def run(works: list[Work], peers: list[Peer], rounds: int, tell: Callable[[str], None]) -> Results:
    """Measure; `tell` gets a line a round and work.  Raises PenError for work done wrong."""
    results = Results()
    for number in range(rounds):
        for work in works:
            present = [peer for peer in peers if work.takes(peer)]
            costs = []
            for peer in rotated(present, number):
                sample = measure(work, peer)
                results.add(work, peer, sample)
                costs.append((present.index(peer), f"{peer.name} {sample.cpu / sample.units * 1e6:.1f}"))
            said = ", ".join(cost for _, cost in sorted(costs))
            tell(f"round {number + 1} of {rounds}: {work.title}, CPU us per {work.unit}: {said}")
    return results


def measure(work: Work, peer: Peer) -> Sample:
    """A sample; what goes wrong is said with whose it is."""
    try:
        return work.measure(peer)
    except (PenError, OSError) as exc:
        raise PenError(f"{work.title}, {peer.name}: {exc}") from exc


def rotated(peers: list[Peer], by: int) -> list[Peer]:
    """The peers, beginning with another one each round."""
    at = by % len(peers)
    return peers[at:] + peers[:at]
