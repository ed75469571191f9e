"""The loop: what its handlers may hide from the poller."""

import os

import pytest

from penlib.loop import MECHANISMS, READ, Loop

TURNS = 5


class Line:
    """A pipe whose reading end is watched, and how often its handler was called."""

    def __init__(self, loop, at_turn=lambda: None):
        self.out, self.into = os.pipe()
        self.turns = 0
        self.at_turn = at_turn
        loop.watch(self.out, READ, self.turn)

    def turn(self, fd, mask):
        assert mask & READ
        self.turns += 1
        self.at_turn()

    def close(self):
        os.close(self.out)
        os.close(self.into)


@pytest.fixture(params=MECHANISMS)
def loop(request):
    return Loop(request.param)


@pytest.fixture
def line(loop):
    made = []

    def make(*args):
        made.append(Line(loop, *args))
        return made[-1]

    yield make
    for one in made:
        loop.forget(one.out)
        one.close()


def run(loop):
    loop.after(0.05, loop.stop)
    loop.run()


def test_who_hides_bytes_is_called_until_there_are_none(loop, line):
    def at_turn():
        loop.hides(hiding.out, hiding.turns < TURNS)

    hiding = line(at_turn)
    loop.hides(hiding.out, True)
    run(loop)
    assert hiding.turns == TURNS


def test_others_have_their_turn(loop, line):
    hiding = line()
    other = line(loop.stop)
    os.write(other.into, b"x")
    loop.hides(hiding.out, True)
    loop.run()
    assert (hiding.turns, other.turns) == (1, 1)


def test_a_turn_of_the_loop_is_one_turn_of_a_handler(loop, line):
    hiding = line(loop.stop)
    os.write(hiding.into, b"seen and hidden")
    loop.hides(hiding.out, True)
    loop.run()
    assert hiding.turns == 1


def test_who_is_not_to_be_read_is_not_called_and_the_loop_sleeps(loop, line):
    hiding = line()
    loop.hides(hiding.out, True)
    loop.want(hiding.out, 0)
    polls = []
    poll = loop._poller.poll
    loop._poller.poll = lambda timeout: (polls.append(timeout), poll(timeout))[1]
    run(loop)
    assert not hiding.turns
    assert len(polls) < TURNS
    hiding.at_turn = loop.stop
    loop.want(hiding.out, READ)
    loop.run()
    assert hiding.turns == 1


def test_what_a_descriptor_hid_dies_with_it(loop, line):
    gone, other = line(), line()
    loop.hides(gone.out, True)
    loop.closing(gone.out)
    os.close(gone.out)
    os.dup2(other.out, gone.out)  # somebody else gets the number
    loop.watch(gone.out, READ, gone.turn)
    run(loop)
    assert not gone.turns
