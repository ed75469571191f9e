"""What earlier lines teach about the next: who uses which User-Agent, who is on which page, whom a server
takes for pen, how long it takes and by how much its clock is off.

A line of the combined format names a User-Agent and the page it came from.  When a line could be only one
client's, that ties the client to both (`Ties`), shows what the server takes for the client (`Front`), and
how far apart line and record usually are (`Surprise`).  Lines with several records to choose from are then
decided by this: see matching and rounds.

Pure: bytes and seconds in, ranks and seconds out.  Everything learned is bounded.
"""

from collections.abc import Iterable, Sequence
from math import log
from typing import Any, Protocol

CLIENTS_TIED = 50_000
"""Clients whose User-Agents are remembered: 10 to 25 MB, and more than ask within any short while."""
AGENTS_PER_CLIENT = 8
"""User-Agents remembered for one client: several people may be behind one address."""
CROWD = 3
"""User-Agents from which on a client counts as many people, of whom another one may come at any time."""
PAGES_TIED = 10_000
"""Pairs of User-Agent and referer whose latest client is remembered."""

SAME_PAGE, KNOWN, UNTIED, OTHERS = range(4)
"""How well a client goes with a line, best first."""

COSTS = (0.0, 2.0, 5.0, 10.0)
"""How much less likely that makes a client, about, as minus the logarithm of a probability."""

CLEAR = 4.0
"""By how much the likeliest must be ahead of the next to count as certain: one in fifty is wrong."""

STRANGE = 0.02
"""A client that has a smaller share of a server's certain lines is not pen."""

ENOUGH = 20
"""Certain lines from which on it is known who pen is."""

FRONT_REMEMBERED = 1000
"""Certain lines that are counted before the count is halved: another pen may take over."""

SEEN = 4000
"""Values counted before the count is halved: clocks drift, and servers become faster or slower."""

NEIGHBOURS = tuple((away, (3 - abs(away)) / 9) for away in range(-2, 3))
"""How much values count that were seen in the bins beside one: what is seldom is seen by chance only."""

NO_REFERER = (b"", b"-")


class Line(Protocol):
    """What a line says of its client; empty if its format has no such fields."""

    @property
    def referer(self) -> bytes: ...
    @property
    def agent(self) -> bytes: ...


class Ties:
    """Which clients use which User-Agent, and who of them is on which page.

    Of User-Agents and pages only the hash is kept: they are as long as clients like, and a stranger with many
    addresses would have us keep gigabytes of them.
    """

    def __init__(self) -> None:
        self._agents: dict[bytes, tuple[int, ...]] = {}
        self._pages: dict[int, bytes] = {}

    def rank(self, client: bytes, line: Line) -> int:
        """SAME_PAGE, KNOWN, UNTIED or OTHERS; a line without User-Agent goes with all clients alike."""
        agents = self._agents.get(client)
        if agents is None or not line.agent:
            return UNTIED
        if hash(line.agent) not in agents:
            return OTHERS if len(agents) < CROWD else UNTIED
        if line.referer not in NO_REFERER and self._pages.get(hash((line.agent, line.referer))) == client:
            return SAME_PAGE
        return KNOWN

    def learn(self, client: bytes, line: Line) -> None:
        """Remember that `line` is `client`'s."""
        self.learn_all(((client, line),))

    def learn_all(self, pairs: Iterable[tuple[bytes, Line]]) -> None:
        """Remember which client each of these lines is of."""
        clients, pages = self._agents, self._pages
        for client, line in pairs:
            if not line.agent:
                continue
            agent, agents = hash(line.agent), clients.get(client, ())
            if agent not in agents:
                clients[client] = (agent, *agents[: AGENTS_PER_CLIENT - 1])
                trim(clients, CLIENTS_TIED)
            if line.referer not in NO_REFERER:
                page = hash((line.agent, line.referer))
                pages.pop(page, None)  # so that it becomes the newest
                pages[page] = client
                trim(pages, PAGES_TIED)


def trim(table: dict[Any, Any], limit: int) -> None:
    """Forget the older half of a table that has outgrown `limit`: a sweep now and then, not a step each."""
    if len(table) > limit:
        for key in list(table)[: limit // 2]:
            del table[key]


class Front:
    """What a server takes for the client of what pen sends on: pen's address, or those of several pens.

    A line that names anybody else came to the server directly, most likely.
    """

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._total = 0

    def is_strange(self, own: bytes) -> bool:
        """Whether lines with this client did not come through pen, as far as is known."""
        if self._total < ENOUGH:
            return False
        count = self._counts.get(own, 0)
        return count < 2 or count < STRANGE * self._total

    def is_doubtful(self, own: bytes) -> bool:
        """Whether no certain line named this client, or too few: enough to make no guesses about it."""
        return (bool(self._counts) and own not in self._counts) or self.is_strange(own)

    def learn(self, own: bytes, times: int = 1) -> None:
        """Take note of the client that a certain line named, or so many lines."""
        self._counts[own] = self._counts.get(own, 0) + times
        self._total += times
        if self._total > FRONT_REMEMBERED:
            self._counts = {own: n // 2 for own, n in self._counts.items() if n > 1}
            self._total = sum(self._counts.values())


class Surprise:
    """How unlikely a value is, by those that were seen: minus the logarithm of its probability.

    A value may be any number of seconds, and spread in any way: how long answers take, by how much clocks
    differ.  So the values seen are counted in bins, and their neighbours count, too.
    """

    NEVER_SEEN = 0.05
    """What counts for a bin that is empty, as are its neighbours: nothing is impossible."""

    def __init__(self, step: float) -> None:
        """`step`: the width of a bin."""
        self._step = step
        self._counts: dict[float, int] = {}
        self._total = 0
        self._fresh = 0
        self._costs: dict[float, float] = {}

    def learn(self, value: float) -> None:
        """Take note of a value that is certain.  Of old ones half are forgotten now and then."""
        self.learn_all((value,))

    def learn_all(self, values: Sequence[float]) -> None:
        """Take note of values that are certain."""
        counts, step = self._counts, self._step
        for value in values:
            at = value // step
            counts[at] = counts.get(at, 0) + 1
        self._total += len(values)
        if self._total >= SEEN:
            self._counts = {bin_: count // 2 for bin_, count in counts.items() if count > 1}
            self._total = sum(self._counts.values())
        self._fresh += len(values)
        if self._fresh > self._total / 16:
            self._fresh = 0
            self._costs.clear()

    def cost(self, value: float) -> float:
        """How unlikely a value is; values that were seen often cost least."""
        at = value // self._step
        cost = self._costs.get(at)
        if cost is None:
            if len(self._costs) > SEEN:
                self._costs.clear()
            cost = self._costs[at] = self._cost(at)
        return cost

    def usual(self, default: float) -> float:
        """The value that was seen most often; `default` if none was."""
        counts = self._counts
        return (max(counts, key=counts.__getitem__) + 0.5) * self._step if counts else default

    def _cost(self, at: float) -> float:
        count = self._counts.get
        near = sum(weight * count(at + away, 0) for away, weight in NEIGHBOURS)
        return -log((near + self.NEVER_SEEN) / (self._total + 1))
