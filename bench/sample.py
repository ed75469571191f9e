"""What is measured: a work, done by several programs, each time as a sample.  Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Sample(NamedTuple):
    """A measurement: units of work done, the CPU seconds and the seconds on the wall that they took, the
    bytes of memory that they needed (0: not looked at), and the units that were lost where some may be."""

    units: float
    cpu: float
    wall: float
    memory: float = 0.0
    lost: float = 0.0


class Quantity(NamedTuple):
    """What a ratio is taken of: a cost per unit of work, so that less is better."""

    title: str
    field: str
    """Of Sample."""
    unit: str
    scale: float
    """From the field's own unit to `unit`."""

    def of(self, sample: Sample) -> float:
        """Per unit of work, in the field's own unit."""
        return float(getattr(sample, self.field)) / sample.units


QUANTITIES = {
    "cpu": Quantity("CPU time", "cpu", "µs", 1e6),
    "wall": Quantity("time on the wall", "wall", "µs", 1e6),
    "memory": Quantity("memory", "memory", "kB", 1e-3),
}


class Entrant(NamedTuple):
    """A program that does a work.  `sample`: it does so only once, because it would take too long, and this
    says how much less than the others, or just "once"; "" if it does all of it each round."""

    name: str
    measure: Callable[[], Sample]
    sample: str = ""


def full_title(group: str, title: str) -> str:
    """Of a work: those of the log tools say only how much of what, and their group is the tool."""
    return title if group[0].isupper() else f"{group}: {title}"


@dataclass
class Work:
    """A kind of work; `name` is one word, as typed, and `unit` what is counted.  pen is its first entrant."""

    name: str
    title: str
    unit: str
    group: str
    entrants: list[Entrant]
    quantity: str = "cpu"
    """The name of a Quantity."""
    most_rounds: int = 1000
    """More would take long and tell nothing: it hardly varies, or no peer does it in the same rounds."""
