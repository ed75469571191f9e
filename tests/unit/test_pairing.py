"""pairing: all pairs together as cheap as can be."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penlib.pairing import ABOUT, cheapest


@pytest.mark.parametrize(
    ("costs", "pairs"),
    [
        ([], {}),
        ([{}], {}),
        ([{3: 1.0}], {0: 3}),
        ([{0: 5.0, 1: 1.0}], {0: 1}),
        ([{0: 0.0}, {0: 9.0}], {0: 0}),
        ([{}, {0: 9.0}], {1: 0}),
        ([{0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}], {0: 0, 1: 1}),  # in order where all cost the same
        (
            [{0: 0.0, 1: 1.0}, {0: 1.0, 1: 90.0}],
            {0: 1, 1: 0},
        ),  # the cheapest pair is not of the cheapest whole
        ([{0: 1.0, 1: 0.0}, {0: 0.0, 1: 1.0}], {0: 1, 1: 0}),
        ([{0: 2.0, 1: 2.0, 2: 0.0}, {0: 1.0, 1: 2.0}], {0: 2, 1: 0}),  # a record that is left over
    ],
)
def test_pairs(costs, pairs):
    assert cheapest(costs) == pairs


COSTS = st.lists(st.dictionaries(st.integers(0, 5), st.floats(0, 20), max_size=6), max_size=6)


@given(COSTS)
def test_each_record_is_given_once_and_none_is_left_that_somebody_without_could_have(costs):
    pairs = cheapest(costs)
    assert len(set(pairs.values())) == len(pairs)
    assert all(record in costs[line] for line, record in pairs.items())
    for line, row in enumerate(costs):
        assert line in pairs or set(row) <= set(pairs.values())


@given(st.lists(st.lists(st.floats(0, 20), min_size=3, max_size=3), min_size=2, max_size=3))
def test_no_exchange_of_two_would_be_cheaper(matrix):
    costs = [dict(enumerate(row)) for row in matrix]
    pairs = cheapest(costs)
    assert sorted(pairs) == list(range(len(costs)))
    for a, b in itertools.combinations(pairs, 2):
        now = costs[a][pairs[a]] + costs[b][pairs[b]]
        assert now <= costs[a][pairs[b]] + costs[b][pairs[a]] + 1e-5
    left = set(range(3)) - set(pairs.values())
    assert all(costs[a][pairs[a]] <= costs[a][record] + 1e-5 for a in pairs for record in left)


def test_about_the_same_keeps_the_order():
    near = ABOUT / 10
    assert cheapest([{0: near, 1: 0.0}, {0: 0.0, 1: near}]) == {0: 1, 1: 0}, "an exchange saves something"
    assert cheapest([{0: near, 1: 0.0}, {0: near, 1: 0.0}]) == {0: 0, 1: 1}
