"""skew: the usual differences between two logs' times."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib.skew import BUNCH, REMEMBERED, WIDEST, Offsets, Skew


def test_until_something_is_known_a_line_is_of_its_records_second_or_the_next():
    skew = Skew()
    assert not skew.known
    assert [skew.distance(d) for d in (-2, -1, 0, 1, 2, 5)] == [2, 1, 0, 0, 1, 4]


def test_certain_pairs_teach():
    skew = Skew()
    skew.learn(Counter({90: 70, 91: 29, 95: 1}))
    assert (skew.known, skew.first, skew.last) == (True, 90, 91)
    assert skew.distance(89) == skew.distance(92) == 1


def test_what_is_rare_is_not_usual():
    skew = Skew()
    skew.learn(Counter({0: 98, 1: 2}))
    assert (skew.first, skew.last) == (0, 0)


def test_a_clock_that_drifts_is_followed():
    skew = Skew()
    skew.learn(Counter({0: REMEMBERED}))
    for _ in range(10):
        skew.learn(Counter({1: REMEMBERED // 2}))
    assert (skew.first, skew.last) == (1, 1)


@given(st.dictionaries(st.integers(-600, 600), st.integers(1, 50), min_size=1))
def test_the_usual_are_few_and_among_those_seen(counts):
    skew = Skew()
    skew.learn(Counter(counts))
    assert skew.first in counts
    assert skew.last in counts
    assert skew.last - skew.first <= WIDEST


@given(st.integers(-600, 600), st.integers(0, 10**6))
def test_an_election_finds_what_the_voters_have_in_common(true, seed):
    skew, rng = Skew(), random.Random(seed)
    assert skew.elect([true, *(rng.randrange(-600, 601) for _ in range(9))] for _ in range(30))
    assert abs(skew.first - true) <= 1
    assert skew.known


@pytest.mark.parametrize("seed", range(20))  # that chance elects somebody is rare, but can't be ruled out
def test_voters_with_nothing_in_common_elect_nobody(seed):
    skew, rng = Skew(), random.Random(seed)
    assert not skew.elect([rng.randrange(-600, 601) for _ in range(30)] for _ in range(40))
    assert not skew.known


def test_a_crowd_elects_nobody():
    """Where a log begins and ends, and in a second in which many came, there are more differences."""
    early = [d for d in range(600) for _ in range(5)]  # a line at the log's end: no record is later
    assert not Skew().elect([early] * 3)
    crowd = [d for d in range(-600, 601) for _ in range(5)] + [77] * 60
    assert not Skew().elect([crowd])


def test_no_voters_elect_nobody():
    assert not Skew().elect([])


def test_the_middle_is_the_mean():
    skew = Skew()
    assert skew.middle == 0
    skew.learn(Counter({3: 1, 4: 1}))
    assert skew.middle == 3.5


class TestOffsets:
    def test_what_is_known_in_two_places_holds_between_them_in_proportion(self):
        early, late = [(n / 10, 2.0) for n in range(BUNCH)], [(9.0 + n / 10, 4.0) for n in range(BUNCH)]
        offsets = Offsets(late + early)
        middle = BUNCH // 2 / 10
        assert [offsets.at(moment) for moment in (-50.0, middle, middle + 4.5, middle + 9, 99.0)] == [
            2.0,
            2.0,
            pytest.approx(3.0),
            4.0,
            4.0,
        ]

    def test_one_pair_is_enough(self):
        assert Offsets([(5.0, -90.25)]).at(1000.0) == -90.25

    def test_a_slow_request_does_not_count(self):
        assert Offsets([(n / 10, 30.0 if n == 4 else 0.5) for n in range(BUNCH)]).at(0.4) == 0.5

    def test_where_answers_take_unequally_long_more_pairs_count_together(self):
        rng = random.Random(1)
        offsets = Offsets([(n / 10, rng.uniform(0, 1)) for n in range(2000)])
        assert all(abs(offsets.at(moment) - 0.5) < 0.15 for moment in range(0, 200, 5))
