"""resolver: how many questions are in flight."""

import socket

import pytest

from penlib import dnswire
from penlib.address import Endpoint
from penlib.resolver import FIRST_WINDOW, Resolver
from penlib.sockets import resolve

SECONDS = 5.0


class StillLoop:
    """A loop in which no time passes by itself."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        self._timers = []
        monkeypatch.setattr("penlib.clock.monotonic", lambda: self.now)

    def watch(self, fd, mask, handler) -> None:
        pass

    def after(self, seconds, what) -> None:
        self._timers.append((self.now + seconds, what))

    def pass_to(self, when: float) -> None:
        """Let the time come, and twenty more looks at what is to be done."""
        self.now = 100.0 + when
        for _ in range(20):
            due, self._timers = self._timers, []
            for _, what in due:
                what()


@pytest.fixture
def silent():
    """A name server that never says anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def questions(sock: socket.socket) -> int:
    """How many have come since this was asked last."""
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.recv(1000)
        except BlockingIOError:
            return count
        count += 1


def test_silence_does_not_narrow_the_window(silent, monkeypatch):
    """What is sent together is given up together; that none is in flight then is no reason to begin anew."""
    loop, ended = StillLoop(monkeypatch), []
    place = resolve(Endpoint("127.0.0.1", silent.getsockname()[1]), socket.SOCK_DGRAM)[0]
    resolver = Resolver(loop, [place], limit=1000, seconds=SECONDS)
    for number in range(1000):
        name = dnswire.reverse_name(number.to_bytes(4, "big"))
        resolver.ask(dnswire.question(name, dnswire.PTR), ended.append)
    assert questions(silent) == FIRST_WINDOW, "at first, and never more at once"
    loop.pass_to(1.1 * SECONDS)
    assert len(ended) == FIRST_WINDOW
    loop.pass_to(2.3 * SECONDS)
    assert len(ended) == 3 * FIRST_WINDOW
    loop.pass_to(3.5 * SECONDS)
    loop.pass_to(4.7 * SECONDS)
    assert len(ended) == 1000
    assert ended == [None] * 1000
    for each in resolver._group(0):
        each.sock.close()
