"""Which record explains which line: same server, same request, and the likeliest of those.

Several clients may ask one server for the same thing at about the same time.  Each record then explains one
line, and which is decided by evidence, strongest first:

1. what earlier lines taught: the client that was seen with this User-Agent and referer (it loads the parts
   of a page), then clients seen with this User-Agent, then clients not yet seen with any, last those seen
   with others only;
2. time: by how much a record is usually older than its line, which is what the server took, and how far it is
   usually from the second that the line names;
3. the order of arrival, the oldest first.

All that is weighed together.  Lines with a single record to choose from teach (see evidence), and clear
choices which client uses which User-Agent.  Choosing by age alone is no good: the record of an aborted
request never meets its line, and taken for the next one it shifts all later lines of its URL.

A line whose client is not pen came to the server directly, most likely.  It waits until all others have had
their choice, and then only what fits in every way is its own.

`Index` holds records, `Live` matches as records and lines arrive (penlogd).  All of them are pure: `now` is
an argument, in seconds on any clock that is never set back.  Not here: reading records and lines (see
records, accesslog), and which address a server goes by.
"""

from collections import OrderedDict

from penlib.accesslog import Line, epoch, parse, with_client
from penlib.evidence import CLEAR, COSTS, OTHERS, UNTIED, Front, Surprise, Ties, trim
from penlib.records import Record

REUSE = 2.0
"""Seconds for which a record that explained a line may explain another, if there is no unused one: a server
that writes two logs, or a record lost on its way."""

SCAN = 16
"""Candidates looked at for one line, the newest: a bound on the time that one line may take."""

OF_ONE_REQUEST = 1000
"""Unused records kept of one request on one server: more than it answers at a time.  A server need not log
everything, and what it does not log must not make the rest slow."""

OVERTAKING = 0.05
"""Seconds by which a line may overtake its record on the way, if both were sent in order."""

UNFIT = 7.0
"""What is as unlikely as that (see Surprise) does not fit: one in a thousand."""

SERVERS_SEEN = 1_000
"""Servers of which is remembered what was seen."""

NEVER = float("inf")


class Entry:
    """A record in the index: `at` is its time, `used` the time at which it first explained a line."""

    __slots__ = ("at", "client", "cut", "key", "used")

    def __init__(self, client: bytes, key: bytes, cut: bool, at: float) -> None:
        self.client = client
        self.key = key
        self.cut = cut
        self.at = at
        self.used = 0.0


Table = dict[bytes, list[Entry]]


class Seen:
    """What is known of a server, from lines that could have only one record: how old records are when their
    lines come, how far a line's time is from theirs, and whom the server takes for pen."""

    def __init__(self) -> None:
        self.age = Surprise(0.02)
        self.stamp = Surprise(0.1)
        self.front = Front()

    def learn(self, line: Line, time: int | None, at: float, since: float) -> None:
        """A line that came at `since` is of a record that came at `at`; `time` is what it names (epoch)."""
        self.front.learn(line.client)
        self.age.learn(since - at)
        if time is not None:
            self.stamp.learn(at - time)


class Index:
    """Unused and lately used records by server and request, each found without looking at others.

    A record of a whole request is found by server and request.  One that was cut is found by what it kept,
    so a line is also looked up by its beginnings, of all lengths at which records now in the index were cut:
    these are few, as they depend only on the form of the records and the lengths of addresses.
    """

    def __init__(self) -> None:
        self._unused: Table = {}
        self._used: Table = {}
        self._cuts: dict[int, int] = {}  # length of the key -> number of records
        self._arrivals: OrderedDict[Entry, None] = OrderedDict()  # the unused, oldest first
        self._uses: OrderedDict[Entry, None] = OrderedDict()  # the used, oldest use first

    def __len__(self) -> int:
        """The number of unused records."""
        return len(self._arrivals)

    def add(self, server: bytes, record: Record, at: float) -> Entry:
        """Put in a record, newer than all before; lines will be looked up under `server`."""
        cut = len(record.request) >= record.limit
        key = (b"%b\n%b" if cut else b"%b %b") % (server, record.request)
        entry = Entry(record.client, key, cut, at)
        if cut:
            self._cuts[len(key)] = self._cuts.get(len(key), 0) + 1
        entries = self._unused.setdefault(key, [])
        if len(entries) >= OF_ONE_REQUEST:
            self._forget(entries[0])
        entries.append(entry)
        self._arrivals[entry] = None
        return entry

    def unused(self, server: bytes, request: bytes) -> list[Entry]:
        """The records that could explain a line and explain none yet, oldest first.  Not to be changed."""
        return self._find(self._unused, server, request)

    def used(self, server: bytes, request: bytes) -> list[Entry]:
        """The records that explained a line like this already, oldest use first.  Not to be changed."""
        return self._find(self._used, server, request)

    def _find(self, table: Table, server: bytes, request: bytes) -> list[Entry]:
        found = table.get(b"%b %b" % (server, request), [])
        if self._cuts:
            key = b"%b\n%b" % (server, request)
            for length in self._cuts:
                if length <= len(key):
                    found = found + table.get(key[:length], [])
        return found

    def use(self, entry: Entry, now: float) -> None:
        """Note that an unused record explains a line."""
        del self._arrivals[entry]
        _remove(self._unused, entry)
        entry.used = now
        self._uses[entry] = None
        if entry.key in self._used:
            self._used[entry.key].append(entry)
        else:
            self._used[entry.key] = [entry]

    def forget_unused(self, before: float, room: int, spare: float) -> None:
        """Drop unused records older than `before`; and beyond `room` those not newer than `spare`."""
        while self._arrivals:
            entry = next(iter(self._arrivals))
            if entry.at >= before and (len(self._arrivals) <= room or entry.at > spare):
                return
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        del self._arrivals[entry]
        self._drop(self._unused, entry)

    def forget_used(self, before: float, room: int) -> None:
        """Drop records used before that time, and what exceeds `room`."""
        while self._uses:
            entry = next(iter(self._uses))
            if entry.used >= before and len(self._uses) <= room:
                return
            del self._uses[entry]
            self._drop(self._used, entry)

    def _drop(self, table: Table, entry: Entry) -> None:
        _remove(table, entry)
        if entry.cut:
            length = len(entry.key)
            self._cuts[length] -= 1
            if not self._cuts[length]:
                del self._cuts[length]


def _remove(table: Table, entry: Entry) -> None:
    entries = table[entry.key]
    if len(entries) == 1:
        del table[entry.key]
    else:
        entries.remove(entry)


class Waiting:
    """A line whose record is not there yet, or only records that are hardly its own."""

    __slots__ = ("key", "line", "server", "since", "strange", "text")

    def __init__(self, text: bytes, line: Line, server: bytes, since: float, strange: bool) -> None:
        self.text = text
        self.line = line
        self.server = server
        self.since = since
        self.strange = strange
        self.key = b"%b %b" % (server, line.request)


NOTHING = Seen()
"""What is known of a server at first."""


class Live:
    """Matches records and lines in the order in which they arrive.

    Of the unused records the newest `room` are kept, for `keep` seconds; all of them for `wait` seconds.  A
    line without a good record waits up to `wait` seconds for one, at most `room` lines at a time, and others
    pass it.
    """

    def __init__(self, room: int = 1000, keep: float = 60.0, wait: float = 1.0) -> None:
        self._room = room
        self._keep = keep
        self._wait = wait
        self._index = Index()
        self._ties = Ties()
        self._seen: dict[bytes, Seen] = {}
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()  # oldest first
        self._wanted: dict[bytes, list[Waiting]] = {}

    def record(self, server: bytes, record: Record, now: float) -> bytes | None:
        """Take in a record; answers the line that was waiting for it, if there is one."""
        entry = self._index.add(server, record, now)
        if len(self._index) > self._room:
            self._index.forget_unused(now - self._keep, self._room, now - self._wait)
        for waiting in self._wanted.get(entry.key, ())[:SCAN] if self._wanted else ():
            if self._is_for(entry, waiting):
                # nobody else asks for it just now: where records are late, only such pairs teach
                if len(self._wanted[entry.key]) == 1 and not self._index.used(server, waiting.line.request):
                    self._ties.learn(entry.client, waiting.line)
                self._stop_waiting(waiting)
                self._index.use(entry, now)
                return with_client(waiting.text, entry.client)
        return None

    def line(self, server: bytes, text: bytes, now: float) -> bytes | None:
        """Take in a line that came from `server`; answers a line that is finished: this one, or none, or one
        that has to stop waiting because too many do."""
        line = parse(text)
        if line is None:
            return text
        strange = server in self._seen and self._seen[server].front.is_strange(line.client)
        waiting = Waiting(text, line, server, now, strange)
        if not strange and (entries := self._index.unused(server, line.request)):
            entry, clear = self._likeliest(entries, waiting)
            if self._ties.rank(entry.client, line) < OTHERS:
                return self._explain(waiting, entry, len(entries) == 1, clear, now)
        if self._wait <= 0 or not self._room:
            return self._settle(waiting, now)
        self._waiting[waiting] = None
        self._wanted.setdefault(waiting.key, []).append(waiting)
        return self._settle_oldest(now) if len(self._waiting) > self._room else None

    def overdue(self, now: float) -> list[bytes]:
        """Drop records that are too old; answers the lines that have waited long enough."""
        finished = []
        while self._waiting and next(iter(self._waiting)).since <= now - self._wait:
            finished.append(self._settle_oldest(now))
        self._index.forget_unused(now - self._keep, self._room, now - self._wait)
        self._index.forget_used(now - self._wait - REUSE, self._room)
        return finished

    def flush(self, now: float) -> list[bytes]:
        """The lines that wait, settled as well as may be now."""
        return [self._settle_oldest(now) for _ in range(len(self._waiting))]

    @property
    def due(self) -> float | None:
        """When the first of the waiting lines will have waited long enough; None if no line waits."""
        return next(iter(self._waiting)).since + self._wait if self._waiting else None

    def _is_for(self, entry: Entry, waiting: Waiting) -> bool:
        """Whether a record that has just come is that of a line that waits.

        Where records come before their lines it is a later line's, most likely, and this one's was lost: then
        it gets the record only if nobody else has taken it when its time is over.
        """
        age = self._seen.get(waiting.server, NOTHING).age
        return (
            not waiting.strange
            and age.cost(waiting.since - entry.at) < UNFIT
            and self._ties.rank(entry.client, waiting.line) < OTHERS
        )

    def _likeliest(self, entries: list[Entry], waiting: Waiting) -> tuple[Entry, bool]:
        """The best of some records, the oldest of equals, and whether it is so by far."""
        if len(entries) == 1:
            return entries[0], False
        line, since, rank = waiting.line, waiting.since, self._ties.rank
        seen, time = self._seen.get(waiting.server, NOTHING), epoch(line.time) or 0
        age, stamp = seen.age.cost, seen.stamp.cost
        best, least, second = entries[-1], NEVER, NEVER
        for entry in entries[-SCAN:]:
            at = entry.at
            cost = age(since - at) + stamp(at - time)
            if cost >= second:  # whatever the User-Agent
                continue
            cost += COSTS[rank(entry.client, line)]
            if cost < least:
                best, least, second = entry, cost, least
            elif cost < second:
                second = cost
        return best, second - least > CLEAR

    def _explain(self, waiting: Waiting, entry: Entry, alone: bool, clear: bool, now: float) -> bytes:
        """The line with the client of `entry`; a record that was `alone`, or the choice `clear`, teaches."""
        self._index.use(entry, now)
        if alone or clear:
            self._ties.learn(entry.client, waiting.line)
        if alone:
            seen = self._seen.get(waiting.server)
            if seen is None:
                seen = self._seen[waiting.server] = Seen()
                trim(self._seen, SERVERS_SEEN)
            seen.learn(waiting.line, epoch(waiting.line.time), entry.at, waiting.since)
        return with_client(waiting.text, entry.client)

    def _settle_oldest(self, now: float) -> bytes:
        waiting = next(iter(self._waiting))
        self._stop_waiting(waiting)
        return self._settle(waiting, now)

    def _settle(self, waiting: Waiting, now: float) -> bytes:
        """The line with the best client there is, be it hardly the line's or used before; else unchanged."""
        entries = self._index.unused(waiting.server, waiting.line.request)
        if len(entries) > 1 or waiting.strange:
            entries = [entry for entry in entries[-4 * SCAN :] if self._may_be(entry, waiting)]
        if entries:
            entry, clear = self._likeliest(entries, waiting)
            return self._explain(waiting, entry, len(entries) == 1, clear, now)
        entry_used = None if waiting.strange else self._lately_used(waiting)
        return with_client(waiting.text, entry_used.client) if entry_used else waiting.text

    def _may_be(self, entry: Entry, waiting: Waiting) -> bool:
        """A record that came after the line is hardly its own if its client is seen with other User-Agents:
        it belongs to a later line, and this line to nobody whom pen knows.  A line that seems not to have
        come through pen must fit in every way."""
        rank = self._ties.rank(entry.client, waiting.line)
        if not waiting.strange:
            return rank < OTHERS or entry.at <= waiting.since + OVERTAKING
        seen, time = self._seen[waiting.server], epoch(waiting.line.time)
        return (
            rank <= UNTIED
            and entry.at <= waiting.since + OVERTAKING
            and time is not None
            and seen.stamp.cost(entry.at - time) < UNFIT
            and seen.age.cost(waiting.since - entry.at) < UNFIT
        )

    def _lately_used(self, waiting: Waiting) -> Entry | None:
        """The best record used within REUSE, the last used of equals."""
        ranked = [
            (self._ties.rank(entry.client, waiting.line), -entry.used, entry)
            for entry in self._index.used(waiting.server, waiting.line.request)[-SCAN:]
            if abs(entry.used - waiting.since) <= REUSE
        ]
        rank, _, entry = min(ranked, default=(OTHERS, 0.0, None), key=lambda item: item[:2])
        return entry if rank < OTHERS else None

    def _stop_waiting(self, waiting: Waiting) -> None:
        del self._waiting[waiting]
        wanting = self._wanted[waiting.key]
        if len(wanting) == 1:
            del self._wanted[waiting.key]
        else:
            wanting.remove(waiting)
