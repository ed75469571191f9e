"""skew: the usual differences between two logs' times."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib.skew import REMEMBERED, WIDEST, Skew


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
