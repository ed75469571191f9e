"""servers: full or not, out or not, and for which reason."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib.address import Endpoint, Place, ServerSpec
from penlib.servers import Server

PLACE = Place(socket.AF_INET, ("10.0.0.1", 80))


def server(**limits: int) -> Server:
    made = Server(0, ServerSpec(Endpoint("web", 80), **limits))
    made.move(Endpoint("web", 80), [PLACE])
    return made


@pytest.mark.parametrize(
    ("maximum", "hard", "connections", "new", "returning"),
    [
        (0, 0, 1000, False, False),
        (0, 5, 1000, False, False),
        (2, 0, 1, False, False),
        (2, 0, 2, True, True),
        (2, 1, 2, True, True),
        (2, 2, 2, True, True),
        (2, 3, 2, True, False),
        (2, 3, 3, True, True),
        (2, 4, 3, True, False),
        (2, 4, 5, True, True),
    ],
)
def test_full(maximum, hard, connections, new, returning):
    made = server(max=maximum, hard=hard)
    made.connections = connections
    assert (made.is_full(returning=False), made.is_full(returning=True)) == (new, returning)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 8))
def test_who_returns_never_finds_less_room(maximum, hard, connections):
    made = server(max=maximum, hard=hard)
    made.connections = connections
    assert made.is_full(returning=False) or not made.is_full(returning=True)


class TestOut:
    def test_after_a_failure_for_its_time(self):
        made = server()
        made.fail(100, 30)
        assert [made.is_available(now) for now in (100, 129.9, 130, 131)] == [False, False, True, True]

    def test_until_a_success(self):
        made = server()
        made.fail(100, 30)
        made.succeed()
        assert made.is_available(100)

    def test_banned_whatever_succeeds(self):
        made = server()
        made.ban(100, 30)
        made.succeed()
        assert [made.is_available(now) for now in (100, 129, 130)] == [False, False, True]

    def test_readmitted_failed_or_banned(self):
        made = server()
        made.ban(100, 30)
        made.fail(100, 30)
        made.ban(101, 0)
        assert made.is_available(101)

    def test_a_failure_does_not_shorten_a_ban(self):
        made = server()
        made.ban(100, 60)
        made.fail(100, 1)
        assert not made.is_available(159)


class TestConfigured:
    def test_not_without_an_address_or_a_port(self):
        made = Server(0)
        assert not made.is_available(0)
        assert made.port == 0
        made.set_port(80)
        assert not made.is_available(0)
        made.move(Endpoint("web", 0), [PLACE.at_port(0)])
        assert not made.is_available(0)
        made.set_port(80)
        assert made.is_available(0)
        assert made.places == [PLACE]

    def test_a_unix_socket_needs_no_port(self):
        made = Server(0)
        made.move(Endpoint("", 0, "/run/s"), [Place(socket.AF_UNIX, "/run/s")])
        assert made.is_available(0)
        assert made.name == "/run/s"

    def test_moving_forgets_a_failure_but_not_a_ban(self):
        made = server()
        made.fail(100, 30)
        made.set_port(81)
        assert made.is_available(100)
        made.ban(100, 30)
        made.set_port(82)
        assert not made.is_available(100)

    def test_name_and_title(self):
        made = server()
        assert made.name == "10.0.0.1"
        assert made.title == "0 (web:80)"
        assert Server(3).name == "-"
