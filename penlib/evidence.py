"""What earlier lines teach about the next: who uses which User-Agent, who is on which page, whose clock is
off by how much.

A line of the combined format names a User-Agent and the page it came from.  When a line could be only one
client's, that ties the client to both (`Ties`), and its time to the clock by which records are timed
(`Offset`).  Lines with several records to choose from are then decided by this: see matching.

Pure: bytes and seconds in, ranks and seconds out.  Everything learned is bounded.
"""

from typing import Any, Protocol

CLIENTS_TIED = 50_000
"""Clients whose User-Agents are remembered: some 10 MB, and more than ask within any short while."""
AGENTS_PER_CLIENT = 8
"""User-Agents remembered for one client: several people may be behind one address."""
PAGES_TIED = 10_000
"""Pairs of User-Agent and referer whose latest client is remembered."""

SAME_PAGE, KNOWN, UNTIED, OTHERS = range(4)
"""How well a client goes with a line, best first."""

NO_REFERER = (b"", b"-")


class Line(Protocol):
    """What a line says of its client; empty if its format has no such fields."""

    @property
    def referer(self) -> bytes: ...
    @property
    def agent(self) -> bytes: ...


class Ties:
    """Which clients use which User-Agent, and who of them is on which page."""

    def __init__(self) -> None:
        self._agents: dict[bytes, tuple[bytes, ...]] = {}
        self._pages: dict[tuple[bytes, bytes], bytes] = {}

    def rank(self, client: bytes, line: Line) -> int:
        """SAME_PAGE, KNOWN, UNTIED or OTHERS; a line without User-Agent goes with all clients alike."""
        agents = self._agents.get(client)
        if agents is None or not line.agent:
            return UNTIED
        if line.agent not in agents:
            return OTHERS
        if line.referer not in NO_REFERER and self._pages.get((line.agent, line.referer)) == client:
            return SAME_PAGE
        return KNOWN

    def learn(self, client: bytes, line: Line) -> None:
        """Remember that `line` is `client`'s."""
        if not line.agent:
            return
        agents = self._agents.get(client, ())
        if line.agent not in agents:
            self._agents[client] = (line.agent, *agents[: AGENTS_PER_CLIENT - 1])
            trim(self._agents, CLIENTS_TIED)
        if line.referer not in NO_REFERER:
            page = line.agent, line.referer
            self._pages.pop(page, None)  # so that it becomes the newest
            self._pages[page] = client
            trim(self._pages, PAGES_TIED)


def trim(table: dict[Any, Any], limit: int) -> None:
    """Forget the older half of a table that has outgrown `limit`: a sweep now and then, not a step each."""
    if len(table) > limit:
        for key in list(table)[: limit // 2]:
            del table[key]


class Offset:
    """By how much the time of a record exceeds the time that its line names, for one server.

    Clocks differ by some constant, which may be large; a line's time is cut to its second; requests take
    time.  So the estimate is nudged by what fits it, and replaced when nothing fits it for a while.
    """

    SLACK = 0.75
    """Seconds: half of the second that a line's time is cut to, and room for the estimate's own error."""
    MISFITS = 8
    """Lines in a row that do not fit before the estimate is given up: the clock was set, or it was wrong."""
    NUDGE = 0.05

    def __init__(self) -> None:
        self._middle: float | None = None
        self._misfits: list[float] = []

    def learn(self, difference: float) -> None:
        """Take note of a line that could have only one record, newer than the line's time by `difference`."""
        if self._middle is None:
            self._middle = difference
        elif abs(difference - self._middle) <= self.SLACK:
            self._middle += (difference - self._middle) * self.NUDGE
            self._misfits.clear()
        else:
            self._misfits.append(difference)
            if len(self._misfits) >= self.MISFITS:
                self._middle = sorted(self._misfits)[self.MISFITS // 2]
                self._misfits.clear()

    def distance(self, difference: float) -> float:
        """How many seconds a difference is out of the ordinary: 0 if it fits."""
        if self._middle is None:
            return 0.0
        distance = abs(difference - self._middle)
        return distance if distance > self.SLACK else 0.0
