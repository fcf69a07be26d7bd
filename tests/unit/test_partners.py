"""Partners. Checkpoints rely on the golden values in this file: they must never change."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.sources.table import Numbers, Table
from stoker.pipeline.partners import MAX_PARTNERS, open_partners


def test_golden_partners():
    assert [open_partners(count, Numbers(1000)).draw(1, 2, 3) for count in (1, 3)] == [
        (837,), (17, 777, 351)]
    assert open_partners(1, Numbers(1000)).draw(1, 2, 3, 4) == (910,)
    assert open_partners(9, Numbers(1000)).draw(-1, 2, 3) == (896, 634, 305, 757, 314, 164, 738, 49, 850)
    assert open_partners(lambda index, random: [random.randrange(100)], Numbers(100)).draw(1, 2, 3, 4) == (51,)


@given(st.integers(1, MAX_PARTNERS), st.integers(1, 90), st.integers(-99, 99), st.integers(0, 9), st.integers(0, 3))
def test_partners_are_others_and_different_if_possible(count, size, seed, epoch, repeat):
    index = seed % size
    drawn = open_partners(count, Numbers(size)).draw(seed, epoch, index, repeat)
    assert len(drawn) == count and all(type(partner) is int and 0 <= partner < size for partner in drawn)
    assert size == 1 or index not in drawn
    assert count >= size or len(set(drawn)) == count


@pytest.mark.parametrize("count, size", [(1, 7), (3, 7), (6, 7), (7, 7), (9, 5)])
def test_each_other_sample_is_equally_likely_at_each_place(count, size):
    partners = open_partners(count, Numbers(size))
    draws = [partners.draw(seed, 1, 2, 3) for seed in range(3000)]
    for place in range(count):
        seen = Counter(drawn[place] for drawn in draws)
        assert set(seen) == set(range(size)) - {2}
        expected = 3000 / (size - 1)
        assert all(abs(number - expected) < 5 * expected ** 0.5 for number in seen.values())


def test_partners_depend_on_all_of_their_key():
    partners = open_partners(4, Numbers(1 << 30))
    keys = list(itertools.product((0, 1), repeat=4))
    drawn = [partners.draw(*key) for key in keys]
    assert len(set(drawn)) == len(drawn)
    assert drawn == [partners.draw(*key) for key in keys]
    assert partners.draw(5, 6, 7) == partners.draw(5, 6, 7, 0)
    assert partners.draw(*np.array([5, 6, 7])) == partners.draw(5, 6, 7)


@pytest.mark.parametrize("none", [None, 0])
def test_no_partners(none):
    assert open_partners(none, Numbers(5)) is None


@pytest.mark.parametrize("count", [-1, MAX_PARTNERS + 1, 1.5, "2", True, [1]])
def test_impossible_numbers_of_partners(count):
    with pytest.raises(ConfigError, match=r"partners \(a number, or a function .*\) must be a whole number from 0"):
        open_partners(count, Numbers(5))


# ------------------------------------------------------------------------------------------------- own functions

@pytest.mark.parametrize("returned", [[3, 1, 3], (3, 1, 3), np.array([3, 1, 3]), np.uint8([3, 1, 3]), [], range(2)])
def test_what_a_function_may_return(returned):
    drawn = open_partners(lambda index, random: returned, Numbers(4)).draw(1, 2, 3)
    assert drawn == tuple(map(int, returned)) and all(type(index) is int for index in drawn)


def test_what_a_function_is_called_with():
    def partners(index, random):
        asked.append(index)
        return [random.randrange(1 << 30)]

    asked = []
    own = open_partners(partners, Numbers(1 << 30))
    keys = [(1, 2, 3, 0), (1, 2, 3, 1), (1, 2, 4, 0), (1, 3, 3, 0), (2, 2, 3, 0)]
    assert len({own.draw(*key) for key in keys}) == 5 and own.draw(*keys[1]) == own.draw(*keys[1])
    assert asked == [3, 3, 4, 3, 3, 3, 3]


@pytest.mark.parametrize("returned, problem", [
    ([0, 4], "returned an index that is not there: place 1 must be a whole number from 0 to 3, not 4$"),
    ([-1], "returned an index that is not there: place 0 must be .*, not -1$"),
    ([0.5], "returned an index that is not there: place 0 must be .*, not 0.5$"),
    (2, "returned an int: it must return a list or an array of indices$"),
    (None, "returned a NoneType: it must return a list"),
    ([0] * 65, "returned 65 indices: a sample has at most 64 partners$"),
])
def test_what_a_function_must_not_return(returned, problem):
    subject = "^partners function '.*test_partners:.*<lambda>' for index %d "
    own = open_partners(lambda index, random: returned, Numbers(4))
    with pytest.raises(RunFailed, match=subject % 2 + problem):
        own.draw(0, 0, 2)
    with pytest.raises(ConfigError, match=subject % 0 + problem):      # when the stream is opened
        own.describe(0)


def test_a_function_that_raises():
    with pytest.raises(RunFailed, match="partners function .* for index 2: ZeroDivisionError: .*test_part"):
        open_partners(lambda index, random: [1 // 0], Numbers(4)).draw(0, 0, 2)


def test_a_function_that_draws_from_numbers_that_are_not_seeded():
    own = open_partners(lambda index, random: [np.random.randint(1 << 30)], Numbers(1 << 30))
    with pytest.raises(ConfigError, match="^partners function .* returned other indices .* from its second one$"):
        own.describe(7)


def test_descriptions_differ_if_partners_do():
    different = [1, 2, lambda index, random: [0], lambda index, random: [1],
                 lambda index, random: [random.randrange(4)]]
    said = [open_partners(partners, Numbers(4)).describe(7) for partners in different]
    assert len(set(said)) == len(said)
    assert said == [open_partners(partners, Numbers(4)).describe(7) for partners in different]
    assert open_partners(different[-1], Numbers(4)).describe(8) != said[-1]


def test_a_function_may_ask_for_the_source():
    table = Table.of([{"kind": kind} for kind in "abab"], "")

    def same_kind(index, random, source):
        kinds = [row["kind"] for row in source.rows(range(len(source)))]
        return [other for other, kind in enumerate(kinds) if kind == kinds[index] and other != index]
    assert [open_partners(same_kind, table).draw(1, 2, index) for index in range(4)] == [(2,), (3,), (0,), (1,)]
    assert open_partners(lambda index, random, step=1: [index * step], table).draw(1, 2, 3) == (3,)
