"""rounds: which record explains which line, with both at hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib.evidence import ENOUGH
from penlib.rounds import REUSE, Entry, Rounds, Server

PEN = b"192.0.2.1"
T = 1_700_000_000


def line(second: int, request: bytes = b"GET /", agent: bytes = b"", own: bytes = PEN) -> Entry:
    return Entry(b" ...", T + second, own, request, b"-" if agent else b"", agent)


def server(*records: tuple[int, bytes, bytes]) -> Server:
    """Records as (second, client, request)."""
    made = Server("10.0.0.11")
    for second, client, request in records:
        made.add(request, (T + second, client, T + second + 0.5))
    return made


def settle(at: Server, *lines: Entry, jitter: int = 600) -> list[bytes | None]:
    """The clients of the lines once all rounds are over."""
    rounds = Rounds(jitter)
    rounds.settle([(at, list(lines))])
    for one in lines:
        if not one.client:
            rounds.settle_rest(at, one)
    return [one.client or None for one in lines]


def test_a_pair_that_is_alone_is_sure():
    one = line(0)
    assert settle(server((0, b"A", b"GET /")), one) == [b"A"]
    assert one.how == "sure"


def test_two_of_one_second_are_not_sure_and_each_get_one():
    lines = line(0), line(0)
    assert sorted(settle(server((0, b"A", b"GET /"), (0, b"B", b"GET /")), *lines)) == [b"A", b"B"]
    assert [one.how for one in lines] == ["guessed", "guessed"]


def test_a_line_without_a_record_has_no_client():
    assert settle(server((0, b"A", b"GET /x")), line(0)) == [None]


def test_a_used_record_is_taken_again_within_2_s_only():
    at = server((0, b"A", b"GET /"))
    assert settle(at, line(0), line(0 + REUSE), line(1 + REUSE + 1)) == [b"A", b"A", None]


def test_a_single_line_of_another_time_does_not_set_the_clock():
    at = server((0, b"A", b"GET /"))
    assert settle(at, line(0), line(REUSE), line(9)) == [b"A", b"A", None]


def test_a_direct_hit_takes_neither_a_used_record_nor_one_of_another_time():
    """Also where too few lines were seen to know who pen is."""
    at = server((-90, b"C", b"GET /c"), (0, b"A", b"GET /"), (300, b"B", b"GET /x"))
    strange = line(1, own=b"198.51.100.7"), line(20, b"GET /x", own=b"198.51.100.7")
    assert settle(at, line(-90, b"GET /c"), line(0), *strange) == [b"C", b"A", None, None]


def test_who_pen_is_may_be_learned_before_a_line_takes_a_used_record():
    at = server((0, b"A", b"GET /"), (60, b"B", b"GET /b"))
    rounds, first, strange = Rounds(600), line(0), line(0, own=b"198.51.100.7")
    rounds.settle([(at, [first, strange])])
    assert [first.client, strange.again] == [b"A", b"A"]
    rounds.settle([(at, [line(60, b"GET /b")])])
    rounds.settle_rest(at, strange)
    assert [strange.client, strange.how] == [b"", "unmatched"]


def test_an_unused_record_goes_before_a_used_one():
    at = server((0, b"A", b"GET /"), (50, b"B", b"GET /"))
    assert settle(at, line(0), line(1)) == [b"A", b"B"]


def test_user_agents_that_certain_lines_teach_decide():
    at = server((0, b"A", b"GET /"), (0, b"B", b"GET /"), (9, b"A", b"GET /a"), (9, b"B", b"GET /b"))
    lines = (
        line(0, agent=b"Cat"),
        line(0, agent=b"Fox"),
        line(9, b"GET /a", b"Fox"),
        line(9, b"GET /b", b"Cat"),
    )
    assert settle(at, *lines) == [b"B", b"A", b"A", b"B"]


def test_a_client_that_is_not_pen_is_left_alone_unless_a_record_fits():
    records = [(10 * n, b"A%d" % n, b"GET /%d" % n) for n in range(ENOUGH + 1)]
    certain = [line(10 * n, b"GET /%d" % n) for n in range(ENOUGH + 1)]
    at = server(*records, (5, b"B", b"GET /"), (100, b"C", b"GET /y"))
    strange = line(60, own=b"203.0.113.1"), line(100, b"GET /y", own=b"203.0.113.1")
    found = settle(at, *certain, *strange)
    assert found == [*(client for _, client, _ in records), None, b"C"]
    assert [one.how for one in (certain[0], *strange)] == ["sure", "direct", "guessed"]


def test_what_is_written_soon_after_a_record_is_its_line_within_the_second_too():
    """The servers answer at once, as certain lines show; then two records of one second are told apart."""
    at, lines = server(), []
    for n in range(50):
        at.add(b"GET /%d" % n, (T + n, b"A%d" % n, T + n + 0.5))
        lines.append(line(n, b"GET /%d" % n))
        lines[-1].done = T + n + 0.51
    for client, moment in ((b"aborted", 0.1), (b"B", 0.3), (b"C", 0.7)):
        at.add(b"GET /", (T + 60, client, T + 60 + moment))
    for done in (60.31, 60.71):
        lines.append(line(60))
        lines[-1].done = T + done
    assert settle(at, *lines)[-2:] == [b"B", b"C"]


@pytest.mark.parametrize(
    ("found_later", "own", "first"), [(12, PEN, 0), (20, PEN, -300), (20, b"203.0.113.1", 0)]
)
def test_lines_without_records_set_the_clock_only_if_most_fit_another_time(found_later, own, first):
    """A third of the lines have no record near them, some of them one five minutes later."""
    at, lines = server(), []
    for n in range(60):
        at.add(b"GET /%d" % n, (T + n, b"A%d" % n, T + n + 0.5))
        lines.append(line(n, b"GET /%d" % n))
    rounds = Rounds(600)
    rounds.settle([(at, lines)])
    lines, odd = [], []
    for n in range(60, 120):
        at.add(b"GET /%d" % n, (T + n, b"A%d" % n, T + n + 0.5))
        lines.append(line(n, b"GET /%d" % n))
    for n in range(30):
        odd.append(line(60 + 2 * n, b"GET /odd%d" % n, own=own))
        if n < found_later:
            at.add(b"GET /odd%d" % n, (T + 360 + 2 * n, b"B%d" % n, T + 360.5 + 2 * n))
    rounds.settle([(at, lines + odd)])
    assert at.skew.first == first


def test_old_records_are_forgotten():
    at = server((0, b"A", b"GET /"), (10, b"B", b"GET /"), (0, b"C", b"GET /x"))
    at.forget(T + 5)
    assert at.records == {b"GET /": [(T + 10, b"B", T + 10.5)]}


SECONDS = st.integers(0, 1500)
REQUESTS = st.sampled_from([b"GET /", b"GET /a", b"GET /b"])


@given(
    st.lists(st.tuples(SECONDS, REQUESTS)),
    st.lists(st.tuples(SECONDS, REQUESTS, st.sampled_from([b"", b"Fox", b"Cat"]))),
    st.sampled_from([0, 5, 600]),
)
def test_records_go_to_lines_of_their_request_within_the_jitter_and_are_used_once(recorded, logged, jitter):
    names = {b"%d" % n: (second, request) for n, (second, request) in enumerate(recorded)}
    at = server(*((second, name, request) for name, (second, request) in names.items()))
    wanted = [(second, request) for second, request, _ in logged]
    lines = [line(*one) for one in logged]
    found = settle(at, *lines, jitter=jitter)
    for (second, request), client in zip(wanted, found, strict=True):
        if client is not None:
            assert names[client][1] == request
            assert abs(names[client][0] - second) <= jitter
    left = {client for records in at.records.values() for _, client, _ in records}
    assert not left & set(found)
    for (second, request), client in zip(wanted, found, strict=True):
        if client is None:
            assert not [n for n in left if names[n][1] == request and abs(names[n][0] - second) <= jitter]
