"""journal: the lookups of a penlogd's name.  The rest is tested with a real pen (test_pen_log)."""

import socket

import pytest
from support.later import Later
from support.loghost import LogHost

from penlib import clock
from penlib.address import Endpoint, Place
from penlib.balancer.journal import BACKLOG_DATAGRAMS, DOUBT, LOOKUP_RETRY, DatagramTarget, Journal
from penlib.errors import PenError


class Lookups:
    """Lookups that are answered when the test says so."""

    def __init__(self):
        self.open = []

    def lookup(self, endpoint, then, kind):
        self.open.append(then)

    def answer(self):
        self.open.pop()(PenError("loghost: Name or service not known"))


class Silent:
    def __init__(self):
        self.said = []

    def warn(self, text):
        self.said.append(text)


def test_hups_do_not_add_to_the_lookups_of_a_name_that_does_not_resolve():
    loop, lookups, reporter = Later(), Lookups(), Silent()
    target = DatagramTarget(Endpoint("loghost", 10000), "loghost:10000", loop, lookups, reporter, [])
    target.reopen()
    assert len(lookups.open) == 1
    for _ in range(3):
        lookups.answer()
        assert [timer.when for timer in loop.due()] == [LOOKUP_RETRY]
        target.reopen()
        assert loop.due() == []
        assert len(lookups.open) == 1
    assert len(reporter.said) == 1


def test_once_closed_it_looks_up_nothing():
    loop, lookups = Later(), Lookups()
    target = DatagramTarget(Endpoint("loghost", 10000), "loghost:10000", loop, lookups, Silent(), [])
    lookups.answer()
    target.close()
    assert loop.due() == []
    target.reopen()
    assert lookups.open == []


def test_what_gets_no_place_while_the_name_is_looked_up_is_said():
    reporter = Silent()
    target = DatagramTarget(Endpoint("loghost", 10000), "loghost:10000", Later(), Lookups(), reporter, [])
    for _ in range(BACKLOG_DATAGRAMS):
        target.record(b"client", b"server", b"request")
    assert reporter.said == []
    for _ in range(3):
        target.record(b"client", b"server", b"request")
    (line,) = reporter.said
    assert "still being looked up" in line


def test_the_same_penlogd_again_keeps_the_address_that_it_has():
    """As a configuration file that is read again names it, in a jail where no name can be looked up."""
    host, lookups, reporter = LogHost(), Lookups(), Silent()
    journal = Journal(Later(), lookups, reporter)
    name = f"localhost:{host.port}"
    journal.look_up(name)
    for _ in range(2):
        journal.open(name, "")
        journal.record(b"client", b"server", b"request")
        for _ in lookups.open[:]:
            lookups.answer()
    journal.record(b"client", b"server", b"request")
    assert len(host.wait(3)) == 3
    journal.close()
    host.close()


class Sockets:
    """Penlogds of one name, each at an address; the sends that are refused are noted late, as UDP has it."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        self.alive = set()
        self.arrived = []
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        monkeypatch.setattr("penlib.balancer.journal._connected", self.connected)

    def connected(self, place):
        return One(self, place.sockaddr[0])


class One:
    def __init__(self, all_, host):
        self.all, self.host, self.refused = all_, host, False

    def send(self, datagram):
        if self.refused:
            self.refused = False
            raise ConnectionRefusedError(111, "Connection refused")
        if self.host in self.all.alive:
            self.all.arrived.append(self.host)
        else:
            self.refused = True

    def close(self):
        pass


@pytest.fixture
def sockets(monkeypatch):
    return Sockets(monkeypatch)


def places(*hosts):
    return [Place(socket.AF_INET, (host, 514)) for host in hosts]


class TestPlaces:
    @pytest.fixture
    def reporter(self):
        return Silent()

    @pytest.fixture
    def target(self, sockets, reporter):
        known = places("first", "second")
        return DatagramTarget(Endpoint("loghost", 514), "loghost:514", Later(), Lookups(), reporter, known)

    def record(self, target, sockets, times, after=0.1):
        for _ in range(times):
            target.record(b"client", b"server", b"request")
            sockets.now += after

    def test_one_that_refuses_in_the_beginning_is_left(self, target, sockets):
        sockets.alive = {"second"}
        self.record(target, sockets, 5)
        assert sockets.arrived == ["second"] * 4

    def test_one_that_was_there_is_waited_for(self, target, sockets, reporter):
        """Where it is restarted; at the other address there may be nobody, and nothing that would say so."""
        sockets.alive = {"first", "second"}
        self.record(target, sockets, 5, after=DOUBT)
        sockets.alive = {"second"}
        self.record(target, sockets, 5)
        sockets.alive = {"first", "second"}
        self.record(target, sockets, 5, after=DOUBT)
        assert sockets.arrived == ["first"] * 10
        assert [line.partition(": ")[2] for line in reporter.said] == [
            "Connection refused; traffic goes on",
            "sent again, 5 records lost",
        ]

    def test_all_that_was_sent_since_the_last_refusal_is_lost(self, target, sockets, reporter, monkeypatch):
        """A host tells of no more than one refusal a second."""
        self.record(target, sockets, 1)
        heard = One.send

        def send(one, datagram):
            if one.refused and sockets.now % 1 > 0.05:
                return
            heard(one, datagram)

        monkeypatch.setattr(One, "send", send)
        self.record(target, sockets, 100)
        sockets.alive = {"first", "second"}
        self.record(target, sockets, 100)
        lost = int(reporter.said[-1].split()[-3])
        assert lost + len(sockets.arrived) == 201
