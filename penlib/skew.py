"""By how much a server's access log runs ahead of pen's log, learned from both.

Both logs name whole seconds.  The difference between a line's time and its record's is the offset of the two
clocks, plus what the cut to seconds makes of it, plus, for servers that log the time of the answer, the time
that the request took.  So it has a few usual values next to each other, and these are what is learned: from
pairs that could be no others' (`learn`), and, where nothing is known or nothing fits any more, from a vote
among all differences that are possible (`elect`).

Within the second, and as a clock drifts, the difference changes all along a log: `Offsets`.

Pure: seconds in and out.  What Live needs of the same kind, with arrival times, is in evidence.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

USUAL = 0.03
"""Share of the pairs that makes a difference a usual one."""

WIDEST = 8
"""Usual differences side by side, at most: a wider spread tells nothing."""

REMEMBERED = 2000
"""Pairs counted before the count is halved: clocks drift, and what was long ago counts less."""

ELECTED = 0.2
"""Share of the voters that a difference needs, with its neighbours."""

CROWD = 3
"""Votes over chance that a voter may bring: one record is its own, and a page may be asked for again at once;
more is a moment when everybody came."""

VICINITY = 20
"""Differences on each side of a peak, about, that show what chance gives there."""

SIGMAS = 7
"""By how many standard deviations it must exceed what chance gives: there are a thousand to choose from."""

BUNCH = 9
"""Pairs whose median tells how far the moments of lines are off, at least: few, for that changes quickly."""

ENOUGH = 1000
"""Pairs of a block that show how much the differences vary."""

STEADY = 0.1
"""Seconds by which neighbours should differ; where answers take more unequally long, more are needed."""


class Skew:
    """The usual differences, `first` to `last`, in seconds; 0 to 1 until something is `known`."""

    def __init__(self) -> None:
        self.known = False
        self.first = 0
        self.last = 1
        self._pairs: Counter[int] = Counter()

    def distance(self, difference: int) -> int:
        """How many seconds a difference is off the usual ones: 0 if it is one of them."""
        if difference < self.first:
            return self.first - difference
        return max(0, difference - self.last)

    @property
    def middle(self) -> float:
        """The mean difference, in seconds: what to tell a person."""
        total = self._pairs.total()
        return sum(d * n for d, n in self._pairs.items()) / total if total else 0.0

    def learn(self, differences: Counter[int]) -> None:
        """Take note of the differences of pairs that were alone."""
        if not differences:
            return
        self.known = True
        pairs = self._pairs
        pairs.update(differences)
        if (total := pairs.total()) > REMEMBERED:
            for difference in list(pairs):
                pairs[difference] //= 2
            total = pairs.total()
        peak = max(pairs, key=lambda d: (pairs[d], -abs(d)))
        self.first = self.last = peak
        while self._is_usual(self.first - 1, total):
            self.first -= 1
        while self._is_usual(self.last + 1, total):
            self.last += 1

    def _is_usual(self, difference: int, total: int) -> bool:
        return self.last - self.first < WIDEST and self._pairs[difference] > USUAL * total

    def elect(self, voters: Iterable[list[int]]) -> bool:
        """Learn anew, from what each line's difference could be; answers whether that gave a result.

        The true differences are one or few values, the false ones are spread evenly.
        """
        votes: Counter[int] = Counter()
        count = 0
        for differences in voters:
            count += 1
            votes.update(differences)
        if not votes:
            return False

        def support(difference: int) -> int:
            return votes[difference - 1] + 2 * votes[difference] + votes[difference + 1]

        peak = max(votes, key=lambda d: (support(d), -abs(d)))
        by_chance = 3 * max((votes.total() - count) / (max(votes) - min(votes) + 1), _beside(votes, peak))
        excess = sum(votes[d] for d in range(peak - 1, peak + 2)) - by_chance
        sigma = by_chance**0.5
        if not max(ELECTED * count, SIGMAS * sigma) <= excess <= CROWD * count + SIGMAS / 2 * sigma:
            return False
        self.first = self.last = peak
        self.known = True
        self._pairs.clear()
        return True


class Offsets:
    """By how much the moments of lines are later than those of their records, all along a block of a log.

    Moments within a second are estimates, and those of lines near each other are wrong by about the same (see
    mergesources).  Medians of a few certain pairs side by side show by how much, and a clock that drifts.
    """

    def __init__(self, pairs: list[tuple[float, float]]) -> None:
        """`pairs`: at least one, each the moment of a line, and by how much that of its record is earlier."""
        pairs.sort()
        steps = sorted(abs(pair[1] - next_[1]) for pair, next_ in pairwise(pairs[:ENOUGH])) or [0.0]
        spread = steps[len(steps) // 2]  # of neighbours: that a clock drifts does not count
        size = min(max(BUNCH, int(BUNCH * (spread / STEADY) ** 2)), len(pairs))
        bunches = [pairs[at : at + size] for at in range(0, len(pairs) - size + 1, size)]
        self._moments = [bunch[size // 2][0] for bunch in bunches]
        self._offsets = [sorted([lag for _, lag in bunch])[size // 2] for bunch in bunches]
        self.rests = [lag - self.at(moment) for moment, lag in pairs[:: 1 + len(pairs) // ENOUGH]]
        """What is left of the differences of the pairs, or of enough of them."""

    def at(self, moment: float) -> float:
        """Seconds, for a line of that moment: between two medians in proportion."""
        moments, offsets = self._moments, self._offsets
        after = bisect_left(moments, moment)
        if after == 0 or after == len(moments):
            return offsets[max(0, after - 1)]
        start, end = moments[after - 1], moments[after]
        before = offsets[after - 1]
        return before + (offsets[after] - before) * (moment - start) / (end - start)


def _beside(votes: Counter[int], peak: int) -> float:
    """The mean of what is beside a peak, on the side that has more: where logs begin or end, differences
    near 0 have more votes than others for no other reason."""
    sides = ([votes[peak + side * away] for away in range(3, VICINITY)] for side in (-1, 1))
    return max(sum(side) / len(side) for side in sides)
