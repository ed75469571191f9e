"""lookups: what becomes of answers, and for how long it holds."""

import ipaddress

import pytest

from penlib import clock, dnswire
from penlib.dnswire import NOERROR, NXDOMAIN, SERVFAIL, Message, Record
from penlib.lookups import NEGATIVE, SERVER_FAILURE, Lookups

NOW = 1_700_000_000
ADDRESS = ipaddress.ip_address("192.0.2.1").packed
REVERSE = dnswire.reverse_name(ADDRESS)
HOST = dnswire.wire_name(b"one.example")
REFUSED = 5


def ptr(*names: bytes, ttl: int = 60) -> Message:
    return Message(0, False, NOERROR, b"", [Record(REVERSE, dnswire.PTR, ttl, name) for name in names])


def a(address: str, ttl: int = 30) -> Message:
    return Message(
        0, False, NOERROR, b"", [Record(HOST, dnswire.A, ttl, ipaddress.ip_address(address).packed)]
    )


def failure(rcode: int) -> Message:
    return Message(0, False, rcode, b"", [])


class Answers:
    """In the place of a resolver: gives these answers, in turn, and keeps the questions."""

    def __init__(self, *answers: Message | None) -> None:
        self.answers = list(answers)
        self.questions: list[bytes] = []

    def ask(self, question, done):
        self.questions.append(question)
        done(self.answers.pop(0))


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW + 0.9)


def look_up(answers: Answers, confirm: bool = False) -> tuple[bytes | None, int]:
    """Name, and for how many seconds that holds (0: not to be kept)."""
    found = []
    Lookups(answers, confirm, lambda *each: found.append(each)).ask(ADDRESS)
    ((address, name, expires),) = found
    assert address == ADDRESS
    return name, expires and expires - NOW


@pytest.mark.parametrize(
    ("answer", "name", "kept"),
    [
        (ptr(HOST), b"one.example", 60),
        (ptr(HOST, dnswire.wire_name(b"alpha.example")), b"alpha.example", 60),
        (ptr(HOST, ttl=0), b"one.example", 0),
        (ptr(b"\3a.b\0"), None, NEGATIVE),
        (ptr(b"\0"), None, NEGATIVE),
        (ptr(), None, NEGATIVE),
        (failure(NXDOMAIN), None, NEGATIVE),
        (failure(SERVFAIL), None, SERVER_FAILURE),
        (failure(REFUSED), None, 0),
        (None, None, 0),
    ],
)
def test_an_answer(answer, name, kept):
    answers = Answers(answer)
    assert look_up(answers) == (name, kept)
    assert answers.questions == [dnswire.question(REVERSE, dnswire.PTR)]


@pytest.mark.parametrize(
    ("answer", "name", "kept"),
    [
        (a("192.0.2.1"), b"one.example", 30),
        (a("192.0.2.1", ttl=600), b"one.example", 60),
        (a("192.0.2.2"), None, NEGATIVE),
        (failure(NXDOMAIN), None, NEGATIVE),
        (failure(SERVFAIL), None, SERVER_FAILURE),
        (None, None, 0),
    ],
)
def test_a_name_to_be_confirmed(answer, name, kept):
    answers = Answers(ptr(HOST), answer)
    assert look_up(answers, confirm=True) == (name, kept)
    assert answers.questions[1] == dnswire.question(HOST, dnswire.A)


def test_no_name_needs_no_confirmation():
    assert look_up(Answers(failure(NXDOMAIN)), confirm=True) == (None, NEGATIVE)
