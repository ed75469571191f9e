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

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from operator import attrgetter, itemgetter

from penlib.evidence import COSTS, OTHERS, UNTIED, Front, Surprise, Ties
from penlib.pairing import Costs, cheapest
from penlib.skew import Offsets, Skew

ALONE = 1
"""Seconds around the usual differences in which there must be nobody else for a pair to be alone."""

NEAR = 3
"""Seconds off the usual differences that are still matched at once: a busy server, a slow disk."""

REUSE = 2
"""Seconds within which a used record may be taken again: a server that writes two logs."""

MISFITS = 0.2
"""Share of lines with no record near them from which on the clocks are looked at anew."""

FEW = 5
"""Lines that set no clock which others, that fit the present one, do not fit."""

Record = tuple[int, bytes, float]
"""When pen noted it (epoch seconds), whose request it was, and when within its second, about."""

LAG_STEP = 0.02
"""Seconds, of how long a line is written after its record: finer than moments can be estimated."""

CANDIDATES = 20_000
"""Pairs of lines and records that are looked at to learn how clocks differ: a bound on the time it takes."""

APART = 5
"""Seconds between two lines with the same request that both tell how clocks differ: nearer ones have the same
records about them, and would take one crowded second for a sign."""

WEIGHED = 300
"""Records that are weighed for a line, at most, those written when one would expect: where everybody asks for
the same, there are thousands."""

TOGETHER = 2000
"""Lines with the same request that are matched together, at most: memory is bounded by this times WEIGHED."""

Window = tuple[int, int]
"""By how many seconds a line's time may be later than its record's, at least and at most."""

_epoch = _first = itemgetter(0)
_moment = itemgetter(2)
_time = attrgetter("time")


class Entry:
    """A line: `time` as logged (epoch seconds), `request` as records have it, `own` the client that it names,
    `rest` what is written behind the client.

    `client` is who asked, empty until that is known; `how` is how well it is known, one of Server.counts;
    `again` is a used record's client, should nothing better come.
    """

    __slots__ = ("again", "agent", "client", "done", "how", "own", "referer", "request", "rest", "time")

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
        self.client = b""
        self.again = b""
        self.how = ""


Pair = tuple[Entry, Record]


class Server:
    """What is known of one server: its unused records by request, its clock, and whom it takes for pen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.records: dict[bytes, list[Record]] = {}
        """By request, each list by time."""
        self.skew = Skew()
        self.lags: list[tuple[float, float]] = []
        """Of the certain pairs of a block: the moment of the line, and by how much that of the record is
        earlier."""
        self._offsets: Offsets | None = None
        self.lag = Surprise(LAG_STEP)
        self.front = Front()
        self.counts = dict.fromkeys(("sure", "guessed", "unmatched", "direct"), 0)
        """Of lines, by how well it is known who asked."""
        self._used: list[Pair] = []
        self._used_before: list[Pair] = []

    def window(self, slack: int, jitter: int) -> Window:
        """What is usual, give or take `slack` seconds, and in no case more than `jitter` seconds."""
        return max(self.skew.first - slack, -jitter), min(self.skew.last + slack, jitter)

    def add(self, request: bytes, record: Record) -> None:
        """Another unused record."""
        records = self.records.get(request)
        if records is None:
            self.records[request] = [record]
        elif record[0] >= records[-1][0]:
            records.append(record)
        else:
            insort(records, record, key=_epoch)

    def forget(self, before: int) -> None:
        """Drop unused records older than that (epoch seconds)."""
        for request, records in list(self.records.items()):
            if records[0][0] < before:
                del records[: bisect_left(records, before, key=_epoch)]
                if not records:
                    del self.records[request]

    def settle(self, pairs: list[Pair], how: str) -> None:
        """These lines are explained by these records."""
        unused = self.records
        for line, record in pairs:
            line.client, line.how = record[1], how
            records = unused[line.request]
            if len(records) == 1:
                del unused[line.request]
            else:
                records.remove(record)
        self._used += pairs
        self.counts[how] += len(pairs)

    def straighten(self, lines: list[Entry]) -> None:
        """Bring the moments of lines to those of records, by the certain pairs of the block (see Offsets); by
        those of an earlier block if there are none."""
        if self.lags:
            self._offsets, self.lags = Offsets(self.lags), []
            self.lag.learn_all(self._offsets.rests)
        if self._offsets:
            at = self._offsets.at
            for line in lines:
                line.done -= at(line.done)

    def give_up(self, line: Entry, again: bytes) -> None:
        """No unused record explains this line; perhaps a used one does, of the client `again`."""
        line.client = again
        if again:
            line.how = "guessed"
        else:
            line.how = "direct" if self.front.is_strange(line.own) else "unmatched"
        self.counts[line.how] += 1

    def summary(self) -> str:
        """What became of the lines, and the clock, in words."""
        counts = ", ".join(f"{number} {how}" for how, number in self.counts.items())
        return f"{sum(self.counts.values())} lines, {counts}, clock {self.skew.middle:+.1f} s"

    def used(self, lines: list[Entry]) -> dict[bytes, list[Record]]:
        """For the requests of these lines the records that explained lines of this block and the last one."""
        found: dict[bytes, list[Record]] = {line.request: [] for line in lines}
        for line, record in (*self._used_before, *self._used) if found else ():
            if line.request in found:
                found[line.request].append(record)
        return found

    def next_block(self) -> None:
        """Used records of two blocks ago are not needed any more, nor what makes up most of their lines."""
        for line, _ in self._used_before:
            line.request = line.referer = line.agent = b""
        self._used_before, self._used = self._used, []


class Group:
    """Lines of one server with the same request, and the records that may be theirs."""

    __slots__ = ("lines", "request", "server")

    def __init__(self, server: Server, request: bytes, lines: list[Entry]) -> None:
        self.server = server
        self.request = request
        self.lines = lines

    @property
    def records(self) -> list[Record]:
        """The records that are unused by now."""
        return self.server.records.get(self.request, [])

    def ranges(self, window: Window) -> tuple[list[int], list[int]]:
        """For each line, which are by time then, where the records whose time fits begin and end."""
        least, most = window
        records = self.records
        self.lines.sort(key=_time)
        times = [line.time for line in self.lines]
        end = bisect_right(records, times[-1] - least, key=_epoch)
        epochs = [record[0] for record in records[:end]]
        return (
            [bisect_left(epochs, time - most) for time in times],
            [bisect_right(epochs, time - least) for time in times],
        )

    def pieces(self) -> list["Group"]:
        """The lines, by time, of at most TOGETHER each."""
        if len(self.lines) <= TOGETHER:
            return [self]
        self.lines.sort(key=_time)
        return [
            Group(self.server, self.request, self.lines[at : at + TOGETHER])
            for at in range(0, len(self.lines), TOGETHER)
        ]

    def settle(self, pairs: list[Pair]) -> None:
        """These lines and records belong together, most likely."""
        self.server.settle(pairs, "guessed")
        self.lines = [line for line in self.lines if not line.client]

    def alone(self, window: Window, misfits: list[Entry]) -> list[Pair]:
        """The pairs that have only each other; lines whose time fits no record are added to `misfits`."""
        starts, ends = self.ranges(window)
        records, pairs = self.records, []
        befores, afters = [0, *ends[:-1]], [*starts[1:], len(records)]
        for line, before, start, end, after in zip(self.lines, befores, starts, ends, afters, strict=True):
            if start == end:
                misfits.append(line)
            elif end - start == 1 and before <= start < after:
                pairs.append((line, records[start]))
        return pairs

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

        Lines without a `client` afterwards are for `settle_rest`.
        """
        groups: list[Group] = []
        for server, lines in fresh:
            server.next_block()
            if not server.skew.known:
                server.skew.elect(self._differences(server, lines))
            found, misfits = self._certain(server, lines)
            misfits = [line for line in misfits if not server.front.is_doubtful(line.own)]
            many = len(misfits) > MISFITS * len(lines) and len(misfits) >= min(FEW, len(lines))
            if many and self._elect_again(server, misfits):
                server.lags = []
                found, _ = self._certain(server, [line for line in lines if not line.client])
            server.straighten([line for line in lines if not line.client])
            groups += found
        strange = [group for group in map(Group.without_strange, groups) if group]
        for some, slack, worst in ((groups, 0, OTHERS), (groups, NEAR, OTHERS), (strange, 0, UNTIED)):
            for group in some:
                self._likeliest(group, slack, worst)
        for server, lines in fresh:
            left = [line for line in lines if not line.client and not server.front.is_doubtful(line.own)]
            used = server.used(left)
            for line in left:
                line.again = self._again(server, line, used[line.request])

    def _elect_again(self, server: Server, misfits: list[Entry]) -> bool:
        """Look anew at a clock that some lines do not fit; answers whether most of them fit another time.

        Lines that have no record, for whatever reason, can make up a time by chance, but only a few fit it.
        """
        before, server.skew = server.skew, Skew()
        elected = server.skew.elect(self._differences(server, misfits))
        if elected and _fitting(server, misfits) > len(misfits) / 2:
            return True
        server.skew = before
        return False

    def settle_rest(self, server: Server, line: Entry) -> None:
        """Rounds 4 and 5, once all lines within `jitter` seconds have been through the others."""
        if server.front.is_doubtful(line.own):
            server.give_up(line, b"")
            return
        rank, skew, records = self._ties.rank, server.skew, server.records.get(line.request, [])
        start = bisect_left(records, line.time - self._jitter, key=_epoch)
        end = bisect_right(records, line.time + self._jitter, key=_epoch)
        if end - start > WEIGHED:
            start, end = _around(bisect_left(records, line.time - skew.middle, key=_epoch), start, end)
        best = min(
            (
                (rank(records[at][1], line), skew.distance(line.time - records[at][0]), at)
                for at in range(start, end)
            ),
            default=None,
        )
        if best is None:
            server.give_up(line, line.again)
        else:
            server.settle([(line, records[best[2]])], "guessed")

    def _certain(self, server: Server, lines: list[Entry]) -> tuple[list[Group], list[Entry]]:
        """Round 1; answers the groups that still have both lines and records, and the lines that have no
        record near them."""
        misfits: list[Entry] = []
        alone = _alone(server, lines, server.window(ALONE, self._jitter), misfits)
        owns = Counter([line.own for line, _ in alone])
        for own, times in owns.items():
            server.front.learn(own, times)
        strange = {own for own in owns if server.front.is_strange(own)}
        sure = [pair for pair in alone if pair[0].own not in strange]
        server.skew.learn(Counter([line.time - record[0] for line, record in sure]))
        self._ties.learn_all((record[1], line) for line, record in sure)
        server.settle(sure, "sure")
        server.lags += [(line.done, line.done - record[2]) for line, record in sure]
        return _grouped(server, [line for line in lines if not line.client]), misfits

    def _likeliest(self, group: Group, slack: int, worst: int) -> None:
        """Rounds 2 and 3: the best pair first, none of a rank over `worst`."""
        window, left = group.server.window(slack, self._jitter), []
        for piece in group.pieces():
            lines, records = piece.lines, piece.records
            if lines and records:
                pairs = cheapest(self._costs(piece, window, worst))
                piece.settle([(lines[at], records[record]) for at, record in pairs.items()])
            left += piece.lines
        group.lines = left

    def _costs(self, group: Group, window: Window, worst: int) -> Costs:
        """What each line's possible records cost: by User-Agent, and by when they were written."""
        starts, ends = group.ranges(window)
        rank, lag, records = self._ties.rank, group.server.lag.cost, group.records
        costs = []
        for line, start, end in zip(group.lines, starts, ends, strict=True):
            done, row = line.done, {}
            if end - start > WEIGHED:
                usual = group.server.lag.usual(0.0)
                start, end = _around(bisect_left(records, done - usual, start, end, key=_moment), start, end)
            for at in range(start, end):
                _, client, moment = records[at]
                how = rank(client, line)
                if how <= worst:
                    row[at] = COSTS[how] + lag(done - moment)
            costs.append(row)
        return costs

    def _differences(self, server: Server, lines: list[Entry]) -> list[list[int]]:
        """What the differences of lines from their records could be, of lines that have few records if there
        are enough of those: they tell more."""
        found: list[list[int]] = []
        heard: set[tuple[bytes, int]] = set()
        room = CANDIDATES
        for count, line in sorted(
            ((len(server.records.get(line.request, ())), line) for line in lines), key=_first
        ):
            about = line.request, line.time // APART
            if about in heard:
                continue
            heard.add(about)
            room -= count
            if room < 0 and found:
                break
            differences = [line.time - record[0] for record in server.records.get(line.request, ())]
            if near := [difference for difference in differences if abs(difference) <= self._jitter]:
                found.append(near)
        return found

    def _again(self, server: Server, line: Entry, used: list[Record]) -> bytes:
        """The client of the best of the used records within REUSE seconds."""
        rank, distance = self._ties.rank, server.skew.distance
        ranked = [
            (rank(client, line), distance(line.time - epoch), client)
            for epoch, client, _ in used
            if distance(line.time - epoch) <= REUSE and abs(line.time - epoch) <= self._jitter
        ]
        how, _, client = min(ranked, default=(OTHERS, 0, b""))
        return client if how < OTHERS else b""


def _fitting(server: Server, lines: list[Entry]) -> int:
    """How many lines have a record whose time fits."""
    first, last, records = server.skew.first, server.skew.last, server.records
    return sum(
        bisect_left(some, line.time - last, key=_epoch) < bisect_right(some, line.time - first, key=_epoch)
        for line in lines
        if (some := records.get(line.request))
    )


def _alone(server: Server, lines: list[Entry], window: Window, misfits: list[Entry]) -> list[Pair]:
    """The pairs that have only each other; lines that have no record near them are added to `misfits`."""
    least, most = window
    pairs: list[Pair] = []
    for request, some in _by_request(lines).items():
        records = server.records.get(request)
        if records is None:
            misfits += some
        elif len(some) > 1:
            pairs += Group(server, request, some).alone(window, misfits)
        else:  # most are: a busy site has many pages
            time, near = some[0].time, []
            for record in records:
                if record[0] > time - least:
                    break
                if record[0] >= time - most:
                    near.append(record)
            if len(near) == 1:
                pairs.append((some[0], near[0]))
            elif not near:
                misfits += some
    return pairs


def _around(at: int, start: int, end: int) -> tuple[int, int]:
    """Where WEIGHED of the indices from `start` to `end` begin and end, those around `at`."""
    start = min(max(at - WEIGHED // 2, start), end - WEIGHED)
    return start, start + WEIGHED


def _grouped(server: Server, lines: list[Entry]) -> list[Group]:
    """The lines by request, if there are records for it."""
    return [
        Group(server, request, some)
        for request, some in _by_request(lines).items()
        if request in server.records
    ]


def _by_request(lines: list[Entry]) -> dict[bytes, list[Entry]]:
    by_request: dict[bytes, list[Entry]] = defaultdict(list)
    for line in lines:
        by_request[line.request].append(line)
    return by_request
