"""sender: cutting a stream into datagrams, and the words that say where they go."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib import sender
from penlib.address import Endpoint
from penlib.errors import UsageError
from penlib.sender import LARGEST, Complaints, Lines


def lines_of(chunks):
    lines = Lines()
    found = [datagram for chunk in chunks for datagram in lines.feed(chunk)]
    return found + lines.finish(), lines.cut


def cuts(data, points):
    edges = sorted({min(point, len(data)) for point in points} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(
    st.lists(st.binary().filter(lambda line: b"\n" not in line)), st.lists(st.integers(0, 500)), st.booleans()
)
def test_lines_do_not_depend_on_how_they_arrive(texts, points, ends):
    data = b"\n".join(texts) + (b"\n" if ends else b"")
    expected = [line + b"\n" for line in data.split(b"\n")]
    if expected[-1] == b"\n":
        expected.pop()
    assert lines_of([data]) == (expected, 0)
    assert lines_of(cuts(data, points)) == (expected, 0)
    assert lines_of([data[at : at + 1] for at in range(len(data))]) == (expected, 0)


@pytest.mark.parametrize("length", [LARGEST - 1, LARGEST, LARGEST + 1, 3 * LARGEST])
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("chunk", [1000, 65536, 10**6])
def test_what_is_too_long_for_a_datagram_is_cut_and_counted(length, ends, chunk):
    data = b"x" * length + (b"\n" if ends else b"")
    found, cut = lines_of([data[at : at + chunk] for at in range(0, len(data), chunk)])
    assert found == [b"x" * min(length, LARGEST - 1) + b"\n"]
    assert cut == (length >= LARGEST)


@pytest.mark.parametrize(
    ("words", "host", "port", "my_ip"),
    [
        (["loghost", "10000"], "loghost", 10000, ""),
        (["loghost:10000"], "loghost", 10000, ""),
        (["loghost", "10000", "10.0.0.1"], "loghost", 10000, "10.0.0.1"),
        (["loghost:10000", "10.0.0.1"], "loghost", 10000, "10.0.0.1"),
        (["loghost", "syslog"], "loghost", 514, ""),
        (["::1", "10000"], "::1", 10000, ""),
        (["[::1]:10000"], "::1", 10000, ""),
        (["[::1]:10000", "::1"], "::1", 10000, "::1"),
        (["::1", "10000", "::1"], "::1", 10000, "::1"),
        (["loghost:10000", "::ffff:10.0.0.1"], "loghost", 10000, "10.0.0.1"),
    ],
)
def test_where_to_send(words, host, port, my_ip):
    assert sender.destination(words) == (Endpoint(host, port), my_ip)


@pytest.mark.parametrize(
    "words",
    [
        ["loghost"],
        ["loghost", "x y"],
        ["loghost", "0"],
        ["/run/log"],
        ["loghost:10000", "here"],
        ["", "10000"],
    ],
)
def test_where_nothing_can_be_sent(words):
    with pytest.raises(UsageError):
        sender.destination(words)


class Listener:
    """Stands in for a reporter."""

    def __init__(self):
        self.said = []

    def warn(self, text):
        self.said.append(text)


def test_complaints_come_at_once_and_then_at_most_once_a_minute(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("penlib.clock.monotonic", lambda: now)
    listener = Listener()
    complaints = Complaints(listener)
    complaints.add("host: refused", lost=1)
    for _ in range(100):
        complaints.add("host: refused", lost=1)
    assert listener.said == ["host: refused, lines lost: 1"]
    now += 60
    complaints.add("host: unreachable", lost=1)
    assert listener.said[1:] == ["host: unreachable, lines lost: 101"]
    complaints.say()
    assert len(listener.said) == 2
    complaints.add("host: unreachable")
    complaints.say()
    assert listener.said[2:] == ["host: unreachable"]
