"""serverkeys: the different ways in which records and sources name one server."""

import pytest
from support.later import Later

from penlib.address import Place
from penlib.errors import PenError
from penlib.serverkeys import AT_MOST, LOOK_UP_AGAIN, NAMES, ServerKeys

PEN = "192.0.2.1"


class Lookups:
    """Answered by the test."""

    def __init__(self):
        self.asked = {}

    def lookup(self, endpoint, then, kind):
        self.asked[endpoint.host] = then

    def answer(self, name, *addresses):
        answer = [Place(2, (host, 0)) for host in addresses] or PenError(f"{name}: not known")
        self.asked.pop(name)(answer)


class Listener:
    def __init__(self):
        self.said = []

    def warn(self, text):
        self.said.append(text)


class Fixture:
    def __init__(self):
        self.loop, self.lookups, self.reporter, self.resolved = Later(), Lookups(), Listener(), 0
        self.keys = ServerKeys(self.loop, self.lookups, self.reporter, self.count)

    def count(self):
        self.resolved += 1

    def same(self, server, source, pen=PEN):
        """Whether a record naming `server` and lines from `source` have one key."""
        return self.keys.of_server(server.encode(), pen) == self.keys.of_source(source)


@pytest.fixture
def fixture():
    return Fixture()


@pytest.mark.parametrize(
    ("server", "source"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("198.51.100.1", "::ffff:198.51.100.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("/run/web.sock", PEN),
        ("127.0.0.1", PEN),
        ("127.0.0.9", PEN),
        ("::1", PEN),
    ],
)
def test_one_server(fixture, server, source):
    assert fixture.same(server, source)
    assert fixture.same(server, source)  # and once more from memory
    assert not fixture.same(server, "198.51.100.99")


def test_loopback_servers_are_told_apart_on_this_machine(fixture):
    assert fixture.same("127.0.0.2", "127.0.0.2", pen="127.0.0.1")
    assert not fixture.same("127.0.0.2", "127.0.0.1", pen="127.0.0.1")


def test_a_name_has_no_key_until_it_is_looked_up(fixture):
    assert fixture.keys.of_server(b"web1", PEN) is None
    assert fixture.keys.of_server(b"web1", PEN) is None
    fixture.lookups.answer("web1", "198.51.100.1", "2001:db8::1")
    assert fixture.resolved == 1
    assert fixture.same("web1", "198.51.100.1")
    assert fixture.same("web1", "2001:db8::1")
    assert fixture.same("198.51.100.1", "2001:db8::1")
    assert not fixture.same("web1", "198.51.100.2")
    assert not fixture.lookups.asked


def test_names_that_share_addresses_are_one_server(fixture):
    for name in ("web1", "web2", "web3"):
        fixture.keys.of_server(name.encode(), PEN)
    fixture.lookups.answer("web2", "198.51.100.2")
    fixture.lookups.answer("web1", "198.51.100.1", "198.51.100.2")
    fixture.lookups.answer("web3", "198.51.100.3", "198.51.100.1")
    for name in ("web1", "web2", "web3"):
        for last in (1, 2, 3):
            assert fixture.same(name, f"198.51.100.{last}")


def test_a_name_that_does_not_resolve_is_tried_again_more_and_more_seldom(fixture):
    fixture.keys.of_server(b"web1", PEN)
    delays = []
    for _ in range(9):
        fixture.lookups.answer("web1")
        assert fixture.keys.of_server(b"web1", PEN) == b"web1"
        timer = fixture.loop.put_off.pop()
        delays.append(timer.when)
        timer.action()
    assert delays[:3] == [LOOK_UP_AGAIN, 2 * LOOK_UP_AGAIN, 4 * LOOK_UP_AGAIN]
    assert delays[-1] == AT_MOST
    assert len(fixture.reporter.said) == 1
    fixture.lookups.answer("web1", "198.51.100.1")
    assert fixture.same("web1", "198.51.100.1")


def test_after_a_hup_names_may_have_new_addresses(fixture):
    fixture.keys.of_server(b"web1", PEN)
    fixture.lookups.answer("web1", "198.51.100.1")
    fixture.keys.look_up_again()
    assert fixture.same("web1", "198.51.100.1"), "the old one is good until the answer comes"
    fixture.lookups.answer("web1", "198.51.100.7")
    assert fixture.same("web1", "198.51.100.7")


def test_hups_do_not_add_to_the_lookups_of_a_name_that_does_not_resolve(fixture):
    fixture.keys.of_server(b"web1", PEN)
    for _ in range(5):
        fixture.lookups.answer("web1")
        fixture.keys.look_up_again()
    fixture.lookups.answer("web1")
    assert len(fixture.loop.due()) == 1


def test_garbage_is_not_looked_up(fixture):
    for garbage in (b"1.2.3", b"a_b..c", b"[::1]", b"x" * 70):
        assert fixture.keys.of_server(garbage, PEN) == garbage
    assert not fixture.lookups.asked


def test_memory_is_bounded(fixture, monkeypatch):
    monkeypatch.setattr("penlib.serverkeys.REMEMBERED", 100)
    for number in range(NAMES + 500):
        fixture.keys.of_server(b"name%d" % number, PEN)
        fixture.keys.of_source(f"10.0.{number >> 8}.{number & 255}")
        fixture.keys.of_server(f"10.0.{number >> 8}.{number & 255}".encode(), PEN)
    assert len(fixture.lookups.asked) == NAMES
    assert len(fixture.keys._sources) <= 100
    assert len(fixture.keys._servers) <= 100
