"""matching and evidence: which record explains which line, live."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import clusterlog
from support.clusterlog import Settings

from penlib import accesslog, records
from penlib.evidence import (
    AGENTS_PER_CLIENT,
    CROWD,
    ENOUGH,
    KNOWN,
    OTHERS,
    SAME_PAGE,
    SEEN,
    UNTIED,
    Front,
    Surprise,
    Ties,
)
from penlib.matching import Index, Live

WEB = b"198.51.100.1"
PEN = b"192.0.2.1"
FOX, CAT = b"Fox/1.0", b"Cat/2.0"


def record(client: str, request: bytes = b"GET / HTTP/1.1") -> records.Record:
    found = records.parse_datagram(records.datagram(client.encode(), WEB, request))
    assert found
    return found


def line(
    agent: bytes = b"", request: bytes = b"GET / HTTP/1.1", second: int = 0, referer: bytes = b"-", n: int = 5
) -> bytes:
    tail = b' "%b" "%b"' % (referer, agent) if agent else b""
    return b'%b - - [10/Oct/2000:13:55:%02d +0000] "%b" 200 %d%b' % (PEN, second, request, n, tail)


def client_of(text: bytes | None) -> str | None:
    return None if text is None else text.partition(b" ")[0].decode()


UNCHANGED = PEN.decode()


def teach(live: Live, client: str, agent: bytes, now: float) -> None:
    """A line that could be nobody else's ties a client to a User-Agent."""
    request = b"GET /only/" + client.encode()
    live.record(WEB, record(client, request), now)
    assert client_of(live.line(WEB, line(agent, request), now)) == client


def test_a_line_gets_the_client_of_its_record():
    live = Live()
    assert live.record(WEB, record("10.0.0.1"), 0.0) is None
    assert live.line(WEB, line(FOX), 0.1) == line(FOX).replace(PEN, b"10.0.0.1")


def test_two_clients_who_ask_the_same_in_the_same_second_each_get_their_line():
    live = Live()
    live.record(WEB, record("10.0.0.1"), 0.0)
    live.record(WEB, record("10.0.0.2"), 0.1)
    assert client_of(live.line(WEB, line(), 0.2)) == "10.0.0.1"
    assert client_of(live.line(WEB, line(), 0.3)) == "10.0.0.2"


def test_records_of_other_servers_and_requests_do_not_count():
    live = Live(wait=0)
    live.record(b"198.51.100.2", record("10.0.0.1"), 0.0)
    live.record(WEB, record("10.0.0.1", b"GET /other HTTP/1.1"), 0.0)
    assert client_of(live.line(WEB, line(), 0.1)) == UNCHANGED


def test_what_is_no_access_log_line_passes_unchanged():
    assert Live().line(WEB, b"[error] \xff\x00", 0.0) == b"[error] \xff\x00"


def test_a_line_waits_for_its_record_and_others_pass():
    live = Live(wait=1.0)
    assert live.line(WEB, line(), 0.0) is None
    live.record(WEB, record("10.0.0.2", b"GET /2"), 0.2)
    assert client_of(live.line(WEB, line(request=b"GET /2"), 0.3)) == "10.0.0.2"
    assert live.due == 1.0
    assert live.overdue(0.9) == []
    assert client_of(live.record(WEB, record("10.0.0.1"), 0.9)) == "10.0.0.1"
    assert live.overdue(5.0) == []
    assert live.due is None
    assert live.line(WEB, line(), 5.0) is None, "the record that came late is used up, too"


def test_a_line_that_waited_alone_teaches_who_its_client_is():
    """Where records are late, no others would."""
    live = Live(wait=1.0)
    assert live.line(WEB, line(CAT, b"GET /cat"), 0.0) is None
    assert client_of(live.record(WEB, record("10.0.0.2", b"GET /cat"), 0.5)) == "10.0.0.2"
    live.record(WEB, record("10.0.0.1"), 1.0)
    live.record(WEB, record("10.0.0.2"), 1.0)
    assert client_of(live.line(WEB, line(CAT), 1.1)) == "10.0.0.2"
    assert client_of(live.line(WEB, line(FOX), 1.1)) == "10.0.0.1"


def test_a_line_without_a_record_comes_out_unchanged():
    live = Live(wait=1.0)
    assert live.line(WEB, line(), 0.0) is None
    assert live.overdue(1.0) == [line()]


def test_waiting_lines_come_out_at_the_end():
    live = Live()
    assert live.line(WEB, line(n=1), 0.0) is None
    assert live.line(WEB, line(n=2), 0.1) is None
    assert live.flush(0.2) == [line(n=1), line(n=2)]


def test_no_more_lines_wait_than_there_is_room_for():
    live = Live(room=2)
    assert live.line(WEB, line(n=1), 0.0) is None
    assert live.line(WEB, line(n=2), 0.0) is None
    assert live.line(WEB, line(n=3), 0.0) == line(n=1)


def test_a_used_record_is_taken_again_only_for_two_seconds_and_only_if_there_is_no_other():
    live = Live(wait=0)
    live.record(WEB, record("10.0.0.1"), 0.0)
    assert client_of(live.line(WEB, line(), 0.0)) == "10.0.0.1"
    live.record(WEB, record("10.0.0.2"), 0.5)
    assert client_of(live.line(WEB, line(), 1.0)) == "10.0.0.2"
    assert client_of(live.line(WEB, line(), 1.5)) == "10.0.0.2"
    assert client_of(live.line(WEB, line(), 2.9)) == "10.0.0.2"
    assert client_of(live.line(WEB, line(), 3.1)) == UNCHANGED


def test_a_line_waits_before_it_takes_a_used_record():
    live = Live(wait=1.0)
    live.record(WEB, record("10.0.0.1"), 0.0)
    live.line(WEB, line(n=1), 0.0)
    assert live.line(WEB, line(n=2), 0.1) is None
    assert live.line(WEB, line(n=3), 0.1) is None
    assert client_of(live.record(WEB, record("10.0.0.2"), 0.2)) == "10.0.0.2"
    assert [client_of(text) for text in live.overdue(1.2)] == ["10.0.0.2"]


@pytest.mark.parametrize("order", [("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1")])
def test_the_user_agent_tells_clients_apart(order):
    live = Live()
    teach(live, "10.0.0.1", FOX, 0.0)
    teach(live, "10.0.0.2", CAT, 0.0)
    for client in order:
        live.record(WEB, record(client), 1.0)
    assert client_of(live.line(WEB, line(CAT), 1.1)) == "10.0.0.2"
    assert client_of(live.line(WEB, line(FOX), 1.1)) == "10.0.0.1"


def test_a_client_not_tied_to_another_agent_goes_before_one_that_is():
    live = Live()
    teach(live, "10.0.0.1", FOX, 0.0)
    live.record(WEB, record("10.0.0.1"), 1.0)
    live.record(WEB, record("10.0.0.2"), 1.0)
    assert client_of(live.line(WEB, line(CAT), 1.1)) == "10.0.0.2"


def test_a_line_waits_for_better_than_a_client_with_another_agent():
    live = Live(wait=1.0)
    teach(live, "10.0.0.1", FOX, 0.0)
    live.record(WEB, record("10.0.0.1"), 1.0)
    assert live.line(WEB, line(CAT), 1.1) is None
    assert client_of(live.record(WEB, record("10.0.0.2"), 1.2)) == "10.0.0.2"
    assert client_of(live.line(WEB, line(FOX), 1.3)) == "10.0.0.1"


def test_a_client_may_change_its_agent():
    live = Live(wait=1.0)
    teach(live, "10.0.0.1", FOX, 0.0)
    live.record(WEB, record("10.0.0.1"), 1.0)
    assert live.line(WEB, line(CAT), 1.1) is None
    assert [client_of(text) for text in live.overdue(2.1)] == ["10.0.0.1"]
    live.record(WEB, record("10.0.0.1"), 3.0)
    assert client_of(live.line(WEB, line(CAT), 3.0)) == "10.0.0.1"


def test_a_direct_hit_takes_no_later_record_from_clients_known_to_be_others():
    live = Live(wait=1.0)
    for client in ("10.0.0.1", "10.0.0.2"):
        teach(live, client, FOX, 0.0)
    assert live.line(WEB, line(CAT), 1.0) is None
    for client in ("10.0.0.1", "10.0.0.2"):
        live.record(WEB, record(client), 1.5)
    assert live.overdue(2.0) == [line(CAT)]


def test_the_referer_tells_clients_with_the_same_agent_apart():
    live = Live()
    for client in ("10.0.0.1", "10.0.0.2"):
        teach(live, client, FOX, 0.0)
    live.record(WEB, record("10.0.0.2", b"GET /a.css"), 0.5)
    live.line(WEB, line(FOX, b"GET /a.css", referer=b"http://www/page"), 0.5)
    for client in ("10.0.0.1", "10.0.0.2"):
        live.record(WEB, record(client, b"GET /b.css"), 1.0)
    found = live.line(WEB, line(FOX, b"GET /b.css", referer=b"http://www/page"), 1.0)
    assert client_of(found) == "10.0.0.2"


@pytest.mark.parametrize("clock", [0, 100_000])
def test_the_record_that_fits_the_second_of_the_line_goes_before_an_older_one(clock):
    """The record of an aborted request shifts nothing, whatever the difference of the clocks."""
    live = Live()
    for second in range(4):
        live.record(WEB, record("10.0.0.9", b"GET /x"), clock + second + 0.5)
        live.line(WEB, line(request=b"GET /x", second=second), clock + second + 0.6)
    live.record(WEB, record("10.0.0.1"), clock + 5.5)  # aborted
    live.record(WEB, record("10.0.0.2"), clock + 20.5)
    assert client_of(live.line(WEB, line(second=20), clock + 20.6)) == "10.0.0.2"


def test_how_long_a_server_takes_tells_clients_apart():
    """It answers within a tenth of a second; so the record that has waited longer is an aborted request's."""
    live = Live()
    for n in range(30):
        live.record(WEB, record("10.0.0.9", b"GET /x"), n + 0.2)
        live.line(WEB, line(request=b"GET /x", second=n), n + 0.3)
    live.record(WEB, record("10.0.0.1"), 40.1)
    live.record(WEB, record("10.0.0.2"), 40.7)
    assert client_of(live.line(WEB, line(second=40), 40.8)) == "10.0.0.2"


def one_that_waits_where_records_come_first() -> Live:
    """A line of second 40 waits, and then comes a record."""
    live = Live(wait=1.0)
    for n in range(100):
        live.record(WEB, record("10.0.0.9", b"GET /x"), n + 0.2)
        live.line(WEB, line(request=b"GET /x", second=n % 60), n + 0.3)
    assert live.line(WEB, line(second=40), 100.3) is None
    assert live.record(WEB, record("10.0.0.1"), 100.7) is None
    return live


def test_where_records_come_first_a_later_one_is_not_that_of_a_line_that_waits():
    """The record of the line that waits got lost; the one that comes now is the next line's."""
    live = one_that_waits_where_records_come_first()
    assert client_of(live.line(WEB, line(second=40), 100.8)) == "10.0.0.1"


def test_a_record_that_comes_after_its_line_is_taken_at_the_end_where_none_did_before():
    live = one_that_waits_where_records_come_first()
    assert list(map(client_of, live.overdue(101.3))) == ["10.0.0.1"]


def strange_line(**words) -> bytes:
    return accesslog.with_client(line(**words), b"203.0.113.7")


def learn_pen(live: Live) -> None:
    """Many lines that name pen: then it is known whom the server takes for it."""
    for n in range(ENOUGH):
        live.record(WEB, record("10.0.0.9", b"GET /x"), n + 0.2)
        live.line(WEB, line(request=b"GET /x", second=n), n + 0.3)


def test_a_direct_hit_takes_nobodys_record():
    live = Live(wait=1.0)
    learn_pen(live)
    live.record(WEB, record("10.0.0.1"), 30.1)
    assert live.line(WEB, strange_line(second=30), 30.2) is None
    assert client_of(live.line(WEB, line(second=30), 30.3)) == "10.0.0.1"
    assert live.overdue(31.3) == [strange_line(second=30)]


def test_another_pen_is_learned_from_what_fits():
    live = Live(wait=1.0)
    learn_pen(live)
    for n in range(30, 50):
        live.record(WEB, record("10.0.0.1"), n + 0.1)
        assert live.line(WEB, strange_line(second=n), n + 0.2) is None or n > 30
        live.overdue(n + 2)
    live.record(WEB, record("10.0.0.1"), 55.1)
    assert client_of(live.line(WEB, strange_line(second=55), 55.2)) == "10.0.0.1"


def test_a_clear_choice_teaches():
    """The User-Agent of a client that is never alone is known from lines whose time speaks for it."""
    live = Live()
    learn_pen(live)
    live.record(WEB, record("10.0.0.1"), 30.0)
    live.record(WEB, record("10.0.0.2"), 31.2)
    assert client_of(live.line(WEB, line(FOX, second=31), 31.3)) == "10.0.0.2"
    live.record(WEB, record("10.0.0.3", b"GET /a"), 40.2)
    live.record(WEB, record("10.0.0.2", b"GET /a"), 40.2)
    assert client_of(live.line(WEB, line(FOX, b"GET /a", second=40), 40.3)) == "10.0.0.2"


def test_a_record_that_was_cut_explains_lines_that_begin_like_it():
    live = Live(wait=0)
    long = b"GET /" + b"a" * 2000
    live.record(WEB, record("10.0.0.1", long), 0.0)
    assert client_of(live.line(WEB, line(request=long[:900]), 0.0)) == UNCHANGED
    assert client_of(live.line(WEB, line(request=b"GET /b" + long), 0.0)) == UNCHANGED
    assert client_of(live.line(WEB, line(request=long), 0.0)) == "10.0.0.1"


def test_a_record_that_was_not_cut_must_match_the_whole_request():
    live = Live(wait=0)
    live.record(WEB, record("10.0.0.1", b"GET /a"), 0.0)
    assert client_of(live.line(WEB, line(request=b"GET /abc"), 0.0)) == UNCHANGED
    assert client_of(live.line(WEB, line(request=b"GET /"), 0.0)) == UNCHANGED


def test_records_from_files_are_cut_at_100_bytes():
    index = Index()
    long = b"GET /" + b"a" * 200
    found = records.parse_file_line(records.file_line(b"10.0.0.1", 7, WEB, long))
    entry = index.add(WEB, found, 7.0)
    assert index.unused(WEB, long) == [entry]
    assert index.unused(WEB, long[:99]) == []
    index.use(entry, 8.0)
    assert index.unused(WEB, long) == []
    assert index.used(WEB, long) == [entry]
    index.forget_used(9.0, room=10)
    assert index.used(WEB, long) == []


def test_records_cut_at_different_lengths_are_each_found_once():
    index = Index()
    long = b"GET /" + b"a" * 2000
    found = []
    for client in (b"10.0.0.1", b"192.0.2.111"):
        cut = records.parse_datagram(records.datagram(client, WEB, long))
        found.append(index.add(WEB, cut, 0.0))
        assert cut.cut
    assert sorted(entry.client for entry in index.unused(WEB, long)) == [b"10.0.0.1", b"192.0.2.111"]
    shorter = long[: len(found[1].key) - len(WEB) - 1]
    assert index.unused(WEB, shorter) == [found[1]]


def test_the_newest_records_are_kept():
    live = Live(room=2, wait=0)
    for n in range(3):
        live.record(WEB, record(f"10.0.0.{n}", b"GET /%d" % n), float(n))
    found = [client_of(live.line(WEB, line(request=b"GET /%d" % n), 3.0)) for n in range(3)]
    assert found == [UNCHANGED, "10.0.0.1", "10.0.0.2"]


def test_new_records_are_kept_however_many_come():
    live = Live(room=2, wait=1.0)
    for n in range(10):
        live.record(WEB, record(f"10.0.0.{n}", b"GET /%d" % n), 0.09 * n)
    assert client_of(live.line(WEB, line(request=b"GET /0"), 0.9)) == "10.0.0.0"


def test_requests_that_a_server_does_not_log_crowd_nobody_out(monkeypatch):
    monkeypatch.setattr("penlib.matching.OF_ONE_REQUEST", 3)
    live = Live(room=1000, wait=0)
    live.record(WEB, record("10.0.0.9", b"GET /other"), 0.0)
    for n in range(5):
        live.record(WEB, record(f"10.0.0.{n}"), 1.0)
    assert client_of(live.line(WEB, line(request=b"GET /other"), 1.0)) == "10.0.0.9"
    found = [client_of(live.line(WEB, line(), 1.0)) for _ in range(3)]
    assert found == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_records_expire():
    live = Live(keep=60, wait=0)
    live.record(WEB, record("10.0.0.1"), 0.0)
    live.overdue(60.1)
    assert client_of(live.line(WEB, line(), 60.1)) == UNCHANGED


class TestTies:
    page = accesslog.parse(line(FOX, referer=b"http://www/page"))
    other_page = accesslog.parse(line(FOX, referer=b"http://www/other"))
    other_agent = accesslog.parse(line(CAT))
    common = accesslog.parse(line())

    def test_ranks(self):
        ties = Ties()
        assert ties.rank(b"a", self.page) == UNTIED
        ties.learn(b"a", self.page)
        assert ties.rank(b"a", self.page) == SAME_PAGE
        assert ties.rank(b"a", self.other_page) == KNOWN
        assert ties.rank(b"a", self.other_agent) == OTHERS
        assert ties.rank(b"a", self.common) == UNTIED

    def test_the_latest_client_on_a_page_counts(self):
        ties = Ties()
        for client in (b"a", b"b", b"a"):
            ties.learn(client, self.page)
        assert ties.rank(b"a", self.page) == SAME_PAGE
        assert ties.rank(b"b", self.page) == KNOWN

    def test_memory_is_bounded(self, monkeypatch):
        monkeypatch.setattr("penlib.evidence.CLIENTS_TIED", 10)
        ties = Ties()
        for n in range(100):
            ties.learn(b"%d" % n, self.other_agent)
        known = [ties.rank(b"%d" % n, self.other_agent) == KNOWN for n in range(100)]
        assert sum(known) <= 10
        assert known[-1]

    def test_memory_does_not_depend_on_what_clients_call_themselves(self):
        ties = Ties()
        tracemalloc.start()
        try:
            for n in range(1000):
                long = b"%d" % n * 2000
                ties.learn(b"%d" % n, accesslog.parse(line(long, referer=long)))
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()

    def test_a_client_has_its_latest_agents(self):
        ties = Ties()
        agents = [accesslog.parse(line(b"Agent/%d" % n)) for n in range(AGENTS_PER_CLIENT + 1)]
        for agent in agents:
            ties.learn(b"a", agent)
        assert [ties.rank(b"a", agent) for agent in agents] == [UNTIED] + [KNOWN] * AGENTS_PER_CLIENT

    def test_another_agent_surprises_until_a_client_is_a_crowd(self):
        ties, ranks = Ties(), []
        for n in range(CROWD + 1):
            agent = accesslog.parse(line(b"Agent/%d" % n))
            ranks.append(ties.rank(b"a", agent))
            ties.learn(b"a", agent)
        assert ranks == [UNTIED] + [OTHERS] * (CROWD - 1) + [UNTIED]


class TestSurprise:
    def test_what_was_seen_often_costs_least_and_its_neighbours_less_than_others(self):
        surprise = Surprise(0.1)
        for value in (1000.45, 1000.45, 1000.55):
            surprise.learn(value)
        costs = [surprise.cost(value) for value in (1000.45, 1000.55, 1000.65, 1007.0)]
        assert costs == sorted(costs)
        assert len(set(costs)) == 4

    def test_without_anything_seen_all_is_the_same(self):
        surprise = Surprise(0.1)
        assert surprise.cost(0.0) == surprise.cost(-1e9) == surprise.cost(1e9)

    def test_a_clock_that_was_set_is_noticed(self):
        surprise = Surprise(0.1)
        for value in [0.5] * SEEN + [3600.5] * 2 * SEEN:
            surprise.learn(value)
        assert surprise.cost(3600.5) < surprise.cost(0.5)

    def test_memory_is_bounded(self):
        surprise = Surprise(0.1)
        for value in range(3 * SEEN):
            surprise.learn(float(value))
            surprise.cost(float(-value))
        assert len(surprise._counts) <= SEEN
        assert len(surprise._costs) <= SEEN + 1


class TestFront:
    def test_nobody_is_strange_until_enough_is_known(self):
        front = Front()
        front.learn(PEN, ENOUGH - 1)
        assert not front.is_strange(b"a")
        front.learn(PEN)
        assert front.is_strange(b"a")
        assert not front.is_strange(PEN)

    def test_another_pen_takes_over(self):
        front = Front()
        for own in [PEN] * 5000 + [b"other pen"] * 50:
            front.learn(own)
        assert not front.is_strange(b"other pen")


events = st.lists(
    st.tuples(
        st.sampled_from(["record", "line", "overdue"]),
        st.sampled_from([b"GET /", b"GET /a", b"GET /" + b"a" * 1200]),
        st.sampled_from([b"", FOX, CAT]),
        st.integers(1, 4),
        st.floats(0, 3),
    ),
    max_size=60,
)


@given(events, st.integers(1, 5), st.sampled_from([0.0, 1.0]))
def test_every_line_comes_out_once_and_only_its_client_changes(steps, room, wait):
    live = Live(room, keep=5.0, wait=wait)
    now, put_in, came_out, clients = 0.0, [], [], {UNCHANGED}
    for number, (kind, request_, agent, client, pause) in enumerate(steps):
        now += pause
        if kind == "record":
            clients.add(f"10.0.0.{client}")
            came_out.append(live.record(WEB, record(f"10.0.0.{client}", request_), now))
        elif kind == "line":
            put_in.append(line(agent, request_, n=number))
            came_out.append(live.line(WEB, put_in[-1], now))
        else:
            came_out += live.overdue(now)
    came_out += live.flush(now)
    texts = [text for text in came_out if text is not None]
    assert sorted(accesslog.with_client(text, PEN) for text in texts) == sorted(put_in)
    assert {client_of(text) for text in texts} <= clients
    assert live.due is None
    live.overdue(now + 100)
    assert vars(live._index) == vars(Index())  # nothing is left behind


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        (Settings(rate=50, requests=40_000), 99.8),
        (Settings(rate=500, requests=40_000), 99.0),
        (Settings(rate=500, stamped_at_end=True, requests=30_000), 98.6),
        (Settings(rate=500, offsets=(3.3, -90.2, 0, 3600), requests=30_000), 98.7),
        (Settings(rate=50, direct=0.2, aborted=0.05, requests=30_000), 99.6),
        (Settings(rate=500, crowds=0.3, requests=30_000), 95.0),
        (Settings(rate=50, combined=False, requests=30_000), 96.5),
        (Settings(rate=500, combined=False, requests=30_000), 80.0),
    ],
)
def test_lines_with_the_true_client_on_a_simulated_cluster(settings, least):
    """The figure by which the choice among records is judged; see clusterlog for what is simulated.

    The short ones are mostly learning.
    """
    made = clusterlog.requests(settings)
    found = live_log(clusterlog.arrivals(made, settings))
    assert len(found) == sum(1 for request_ in made if request_.line)
    right = sum(text.partition(b" ")[0] == made[clusterlog.number_of(text)].client for text in found)
    share = 100 * right / len(found)
    print(f"{share:.2f} % of the lines have the true client")
    assert share >= least


def live_log(arrivals: list[clusterlog.Arrival]) -> list[bytes]:
    """What penlogd would write of these datagrams."""
    live, found = Live(), []
    for arrival in arrivals:
        at = arrival.at - arrivals[0].at
        found += live.overdue(at)
        if arrival.line:
            text = live.line(arrival.source, arrival.data, at)
        else:
            read = records.parse_datagram(arrival.data)
            text = live.record(read.server, read, at)
        if text is not None:
            found.append(text)
    return found + live.flush(at)
