"""The order in which things are measured.

A work is done by all programs in turn, round after round, each time beginning with another one, so that
whatever else the machine does meets all of them alike.
"""

from collections.abc import Callable

from bench.results import Measured
from bench.sample import QUANTITIES, Entrant, Sample, Work, full_title
from penlib.clock import monotonic
from penlib.errors import PenError

PEER_TRIES = 5
"""The C pen gives a UDP client another one's answer now and then, when it has just begun."""


def run(work: Work, rounds: int, circumstances: str, tell: Callable[[str], None]) -> Measured:
    """Measure; `tell` gets a line a round.  Raises PenError for work done wrong."""
    measured = Measured.begun(work, circumstances)
    quantity = QUANTITIES[work.quantity]
    count = min(rounds, work.most_rounds)
    for number in range(count):
        said, begun = {}, monotonic()
        for entrant in rotated(work.entrants, number):
            if not (entrant.sample and number):
                sample = measure(work, entrant, tell)
                measured.add(entrant, sample)
                said[entrant.name] = f"{entrant.name} {quantity.of(sample) * quantity.scale:.1f}"
        line = ", ".join(said[entrant.name] for entrant in work.entrants if entrant.name in said)
        title = full_title(work.group, work.title)
        head = f"round {number + 1} of {count}, {monotonic() - begun:.0f} s: {title}"
        tell(f"{head}, {quantity.unit} per {work.unit}: {line}")
    return measured


def measure(work: Work, entrant: Entrant, tell: Callable[[str], None]) -> Sample:
    """A sample; what goes wrong is said with whose it is.  A peer is measured again then, pen is not."""
    for left in reversed(range(1 if entrant is work.entrants[0] else PEER_TRIES)):
        try:
            return entrant.measure()
        except (PenError, OSError) as exc:
            wrong = f"{work.title}, {entrant.name}: {exc}"
            if not left:
                raise PenError(wrong) from exc
            tell(f"{wrong}; measured again")
    raise AssertionError  # the last try returns or raises


def rotated(entrants: list[Entrant], by: int) -> list[Entrant]:
    """The entrants, beginning with another one each round."""
    at = by % len(entrants)
    return entrants[at:] + entrants[:at]
