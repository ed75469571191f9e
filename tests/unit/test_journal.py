"""journal: the lookups of a penlogd's name.  The rest is tested with a real pen (test_pen_log)."""

from penlib.address import Endpoint
from penlib.balancer.journal import LOOKUP_RETRY, DatagramTarget
from penlib.errors import PenError
from penlib.loop import Timer


class Later:
    """A loop that only notes what is put off."""

    def __init__(self):
        self.put_off = []

    def after(self, seconds, action):
        self.put_off.append(Timer(seconds, action))
        return self.put_off[-1]

    def due(self):
        return [timer.when for timer in self.put_off if timer.action]


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
        assert loop.due() == [LOOKUP_RETRY]
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
