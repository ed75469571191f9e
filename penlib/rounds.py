"""Which record explains which line, when both can be looked at for as long ahead as need be.

Of the lines of one server that ask for the same thing, and the records that may be theirs, little more than
whole seconds is known.  So they are matched in rounds, the certain first, because each round makes the next
one easier:

1. pairs that are alone with each other, a second before and after them included; these also teach which
   client uses which User-Agent (see evidence), what the server takes for the client (pen's own address), and
   how the clocks differ (see skew);
2. the rest, where the times fit: all pairs together as likely as possible (see pairing), by User-Agent, and
   by when record and line were written, as far as that is known within the second (see mergesources);
3. what does not fit by a few seconds, in the same way;
4. much later, when all lines within the time allowed have had their turn: what is left, the nearest first;
5. records that explained a line already, if it was within 2 s.

A line whose client is not pen came to the server directly, most likely.  Round 1 shows who pen is, and then
such lines wait until all others have had their choice; and then only what fits well is theirs.

Pure: bytes and whole seconds.  Not here: reading, order and time stamps of the output; see mergelogs.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from operator import attrgetter, itemgetter

from penlib.evidence import COSTS, OTHERS, UNTIED, Front, Surprise, Ties
from penlib.pairing import Costs, cheapest
from penlib.skew import Skew

ALONE = 1
"""Seconds around the usual differences in which there must be nobody else for a pair to be alone."""

NEAR = 3
"""Seconds off the usual differences that are still matched at once: a busy server, a slow disk."""

REUSE = 2
"""Seconds within which a used record may be taken again: a server that writes two logs."""

MISFITS = 0.2
"""Share of lines with no record near them from which on the clocks are looked at anew."""

Record = tuple[int, bytes, float]
"""When pen noted it (epoch seconds), whose request it was, and when within its second, about."""

LAG_STEP = 0.02
"""Seconds, of how long a line is written after its record: finer than moments can be estimated."""

CANDIDATES = 20_000
"""Pairs of lines and records that are looked at to learn how clocks differ: a bound on the time it takes."""

_epoch = _first = itemgetter(0)
_time = attrgetter("time")


class Entry:
    """A line: `time` as logged (epoch seconds), `request` as records have it, `own` the client that it names,
    `rest` what is written behind the client.

    `client` is who asked, once that is known; `sure` whether nobody else could have; `again` a used record's
    client, should nothing better come.
    """

    __slots__ = ("again", "agent", "client", "done", "own", "referer", "request", "rest", "sure", "time")

    def __init__(
        self, rest: bytes, time: int, own: bytes, request: bytes, referer: bytes, agent: bytes
    ) -> None:
        self.rest = rest
        self.time = time
        self.done = time + 0.5
        self.own = own
        self.request = request
        self.referer = referer
        self.agent = agent
        self.client: bytes | None = None
        self.again: bytes | None = None
        self.sure = False


class Server:
    """What is known of one server: its unused records by request, its clock, and whom it takes for pen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.records: dict[bytes, list[Record]] = {}
        self.skew = Skew()
        self.lag = Surprise(LAG_STEP)
        self.front = Front()
        self.counts = dict.fromkeys(("sure", "guessed", "unmatched", "direct"), 0)
        self._used: dict[bytes, list[Record]] = {}
        self._used_before: dict[bytes, list[Record]] = {}

    def add(self, request: bytes, record: Record) -> None:
        """Another unused record."""
        records = self.records.get(request)
        if records is None:
            self.records[request] = [record]
        else:
            records.append(record)

    def forget(self, before: int) -> None:
        """Drop unused records older than that (epoch seconds)."""
        for request, records in list(self.records.items()):
            if any(record[0] < before for record in records):
                self._keep(request, [record for record in records if record[0] >= before])

    def use(self, request: bytes, used: list[Record], left: list[Record]) -> None:
        """Of a request's records, these explain lines now, and those are left."""
        self._used.setdefault(request, []).extend(used)
        self._keep(request, left)

    def count(self, line: Entry) -> str:
        """Count a line that is done with; answers as what."""
        if line.client is not None:
            how = "sure" if line.sure else "guessed"
        else:
            how = "direct" if self.front.is_strange(line.own) else "unmatched"
        self.counts[how] += 1
        return how

    def summary(self) -> str:
        """What became of the lines, and the clock, in words."""
        counts = ", ".join(f"{number} {how}" for how, number in self.counts.items())
        return f"{sum(self.counts.values())} lines, {counts}, clock {self.skew.middle:+.1f} s"

    def _keep(self, request: bytes, left: list[Record]) -> None:
        if left:
            self.records[request] = left
        else:
            self.records.pop(request, None)

    def used(self, request: bytes) -> list[Record]:
        """The records of a request that explained lines of this block and the one before."""
        return self._used_before.get(request, []) + self._used.get(request, [])

    def next_block(self) -> None:
        """Used records of two blocks ago are not needed any more."""
        self._used_before, self._used = self._used, {}


class Group:
    """Lines of one server with the same request, and the records that may be theirs, both by time."""

    def __init__(self, server: Server, request: bytes, lines: list[Entry]) -> None:
        self.server = server
        self.request = request
        self.lines = lines
        lines.sort(key=_time)
        self.records.sort(key=_epoch)

    @property
    def records(self) -> list[Record]:
        """The records that are unused by now."""
        return self.server.records.get(self.request, [])

    def ranges(self, slack: int, jitter: int) -> list[range]:
        """For each line the indices of records whose time fits, give or take `slack` seconds."""
        skew = self.server.skew
        oldest, newest = min(skew.last + slack, jitter), max(skew.first - slack, -jitter)
        epochs = [record[0] for record in self.records]
        return [
            range(bisect_left(epochs, line.time - oldest), bisect_right(epochs, line.time - newest))
            for line in self.lines
        ]

    def settle(self, pairs: list[tuple[int, int]], sure: bool) -> None:
        """These lines and records, by index, belong together."""
        records = self.records
        for at, record in pairs:
            self.lines[at].client, self.lines[at].sure = records[record][1], sure
        used = {record for _, record in pairs}
        self.server.use(
            self.request,
            [records[at] for at in used],
            [record for at, record in enumerate(records) if at not in used],
        )
        self.lines = [line for line in self.lines if line.client is None]

    def without_strange(self) -> "Group | None":
        """Put the lines that did not come through pen into a group of their own, if there are any."""
        strange = [line for line in self.lines if self.server.front.is_strange(line.own)]
        if not strange:
            return None
        self.lines = [line for line in self.lines if not self.server.front.is_strange(line.own)]
        return Group(self.server, self.request, strange)


class Rounds:
    """Matches the lines of any number of servers; what it learns of clients holds for all of them."""

    def __init__(self, jitter: int) -> None:
        """`jitter`: the most that the times of a line and its record may differ, in seconds."""
        self._jitter = jitter
        self._ties = Ties()

    def settle(self, fresh: list[tuple[Server, list[Entry]]]) -> None:
        """Rounds 1 to 3, for blocks of lines whose records are at hand for `jitter` seconds around them.

        Lines whose `client` is None afterwards are for `settle_rest`.
        """
        groups: list[Group] = []
        for server, lines in fresh:
            server.next_block()
            if not server.skew.known:
                server.skew.elect(self._differences(server, lines))
            found, misfits = self._certain(server, lines)
            misfits = [line for line in misfits if not server.front.is_strange(line.own)]
            if len(misfits) > MISFITS * len(lines) and self._elect_again(server, misfits):
                found, _ = self._certain(server, [line for line in lines if line.client is None])
            groups += found
        strange = [group for group in map(Group.without_strange, groups) if group]
        for some, slack, worst in ((groups, 0, OTHERS), (groups, NEAR, OTHERS), (strange, 0, UNTIED)):
            for group in some:
                self._likeliest(group, slack, worst)
        for server, lines in fresh:
            for line in lines:
                if line.client is None:
                    line.again = self._used(server, line)
                else:
                    line.request = line.referer = line.agent = b""  # they are most of what it takes

    def _elect_again(self, server: Server, misfits: list[Entry]) -> bool:
        """Look anew at a clock that some lines do not fit; answers whether most of them fit another time.

        Lines that have no record, for whatever reason, can make up a time by chance, but only a few fit it.
        """
        before, server.skew = server.skew, Skew()
        elected = server.skew.elect(self._differences(server, misfits))
        if elected and self._fitting(server, misfits) > len(misfits) / 2:
            return True
        server.skew = before
        return False

    def _fitting(self, server: Server, lines: list[Entry]) -> int:
        """How many lines have a record near them."""
        distance = server.skew.distance
        return sum(
            any(not distance(line.time - record[0]) for record in server.records.get(line.request, ()))
            for line in lines
        )

    def settle_rest(self, server: Server, line: Entry) -> None:
        """Rounds 4 and 5, once all lines within `jitter` seconds have been through the others."""
        if server.front.is_strange(line.own):
            return
        rank, distance = self._ties.rank, server.skew.distance
        best = min(
            (
                (rank(record[1], line), distance(line.time - record[0]), at)
                for at, record in enumerate(server.records.get(line.request, ()))
                if abs(line.time - record[0]) <= self._jitter
            ),
            default=None,
        )
        if best is None:
            line.client = line.again
            return
        records = server.records[line.request]
        line.client = records[best[2]][1]
        server.use(line.request, [records[best[2]]], records[: best[2]] + records[best[2] + 1 :])

    def _certain(self, server: Server, lines: list[Entry]) -> tuple[list[Group], list[Entry]]:
        """Round 1; answers the groups that still have both lines and records, and the lines that have no
        record near them."""
        groups, misfits = _grouped(server, lines)
        alone = [(group, self._alone(group, misfits)) for group in groups]
        server.front.learn(group.lines[at].own for group, pairs in alone for at, _ in pairs)
        differences: Counter[int] = Counter()
        for group, pairs in alone:
            records = group.records
            certain = []
            for at, record in pairs:
                line, (epoch, client, moment) = group.lines[at], records[record]
                if not server.front.is_strange(line.own):
                    self._ties.learn(client, line)
                    differences[line.time - epoch] += 1
                    server.lag.learn(line.done - moment)
                    certain.append((at, record))
            if certain:
                group.settle(certain, sure=True)
        server.skew.learn(differences)
        return [group for group in groups if group.lines and group.records], misfits

    def _alone(self, group: Group, misfits: list[Entry]) -> list[tuple[int, int]]:
        """The pairs of lines and records, by index, that have only each other."""
        ranges = group.ranges(ALONE, self._jitter)
        misfits += [line for line, records in zip(group.lines, ranges, strict=True) if not records]
        if len(ranges) == 1:  # most are: a busy site has many pages
            return [(0, ranges[0][0])] if len(ranges[0]) == 1 else []
        chosen = Counter(record for records in ranges for record in records)
        return [
            (at, records[0])
            for at, records in enumerate(ranges)
            if len(records) == 1 and chosen[records[0]] == 1
        ]

    def _likeliest(self, group: Group, slack: int, worst: int) -> None:
        """Rounds 2 and 3: the best pair first, none of a rank over `worst`."""
        if not group.lines or not group.records:
            return
        pairs = cheapest(self._costs(group, slack, worst))
        if pairs:
            group.settle(list(pairs.items()), sure=False)

    def _costs(self, group: Group, slack: int, worst: int) -> Costs:
        """What each line's possible records cost: by User-Agent, and by when they were written."""
        rank, lag = self._ties.rank, group.server.lag.cost
        records = group.records
        costs = []
        for line, range_ in zip(group.lines, group.ranges(slack, self._jitter), strict=True):
            done, row = line.done, {}
            for at in range_:
                record = records[at]
                how = rank(record[1], line) if line.agent else UNTIED
                if how <= worst:
                    row[at] = COSTS[how] + lag(done - record[2])
            costs.append(row)
        return costs

    def _differences(self, server: Server, lines: list[Entry]) -> list[list[int]]:
        """What the differences of lines from their records could be, of lines that have few records if there
        are enough of those: they tell more."""
        found: list[list[int]] = []
        room = CANDIDATES
        for count, line in sorted(
            ((len(server.records.get(line.request, ())), line) for line in lines), key=_first
        ):
            room -= count
            if room < 0 and found:
                break
            differences = [line.time - record[0] for record in server.records.get(line.request, ())]
            if near := [difference for difference in differences if abs(difference) <= self._jitter]:
                found.append(near)
        return found

    def _used(self, server: Server, line: Entry) -> bytes | None:
        """The client of the best of the used records within REUSE seconds."""
        if server.front.is_strange(line.own):
            return None
        rank, distance = self._ties.rank, server.skew.distance
        ranked = [
            (rank(client, line), distance(line.time - epoch), client)
            for epoch, client, _ in server.used(line.request)
            if distance(line.time - epoch) <= REUSE and abs(line.time - epoch) <= self._jitter
        ]
        how, _, client = min(ranked, default=(OTHERS, 0, b""))
        return client if how < OTHERS else None


def _grouped(server: Server, lines: list[Entry]) -> tuple[list[Group], list[Entry]]:
    """The lines by request, and those for whose request there is no record."""
    by_request: dict[bytes, list[Entry]] = {}
    for line in lines:
        if line.request in by_request:
            by_request[line.request].append(line)
        else:
            by_request[line.request] = [line]
    groups, without = [], []
    for request, some in by_request.items():
        if request in server.records:
            groups.append(Group(server, request, some))
        else:
            without += some
    return groups, without
