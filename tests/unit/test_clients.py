"""clients: the table against a model that does everything the slow way."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penlib.clients import UNKNOWN, Clients

names = st.sampled_from([bytes([number]) * 4 for number in range(6)])


class Table(RuleBasedStateMachine):
    """A dict of addresses, most recent last: when each was last here, and how many connections it has."""

    @initialize(limit=st.integers(1, 4), lifetime=st.sampled_from([0, 10]))
    def start(self, limit, lifetime):
        self.clients = Clients(limit, lifetime)
        self.limit, self.lifetime, self.now = limit, lifetime, 100.0
        self.model: dict[bytes, dict] = {}
        self.here: list = []

    @rule(packed=names)
    def arrive(self, packed):
        known = self.model.pop(packed, None)
        if known and self.lifetime and not known["open"] and self.now - known["last"] >= self.lifetime:
            known = None
        client = self.clients.arrive(packed, self.now)
        if known:
            assert client is known["client"], "it is known"
        else:
            assert (client.server, client.connects) == (UNKNOWN, 1), "it is new"
            known = {"client": client, "open": 0}
        known |= {"open": known["open"] + 1, "last": self.now}
        self.model[packed] = known
        if len(self.model) > self.limit:
            del self.model[next(iter(self.model))]
        self.here.append((client, known))

    @rule(which=st.integers(0, 100))
    def leave(self, which):
        if self.here:
            client, known = self.here.pop(which % len(self.here))
            known["open"] -= 1
            known["last"] = self.now
            self.clients.leave(client, self.now)

    @rule(seconds=st.sampled_from([0.5, 4, 9, 11]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def same(self):
        assert [client.packed for client in self.clients] == list(self.model)
        assert len(self.clients) == len(self.model) <= self.limit


TestTable = Table.TestCase


@given(st.lists(st.tuples(names, st.integers(0, 5)), max_size=30), st.integers(0, 60))
def test_since_names_the_recent_ones(arrivals, ago):
    clients = Clients(limit=100)
    now, seen = 0.0, {}
    for packed, pause in arrivals:
        now += pause
        clients.arrive(packed, now)
        seen[packed] = now
    expected = {packed for packed, when in seen.items() if when >= now - ago}
    assert {client.packed for client in clients.since(now - ago)} == expected


def test_a_client_keeps_its_counters():
    clients = Clients(limit=2)
    client = clients.arrive(b"a", 1)
    client.sent += 5
    clients.leave(client, 2)
    assert clients.arrive(b"a", 3) is client
    assert (client.connects, client.connected, client.sent) == (2, 1, 5)


def test_a_lower_limit_takes_effect_with_the_next_client():
    clients = Clients(limit=10)
    for number in range(10):
        clients.arrive(bytes([number]), 1)
    clients.limit = 3
    clients.arrive(b"new", 2)
    assert [client.packed for client in clients] == [b"\x08", b"\x09", b"new"]
