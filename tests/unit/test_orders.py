"""Orders. Checkpoints rely on the golden values in this file: they must never change."""

import hashlib
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline import orders
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.orders import balanced, open_order, weighted
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Sample


class Rows:
    """A source."""

    def __init__(self, rows=(), labels=(), classes=()):
        self._rows, self._labels, self.classes = rows, labels, classes

    def __len__(self):
        return len(self._rows or self._labels)

    def samples(self, indices):
        return tuple(Sample(index, "", self._labels[index]) for index in indices)

    def rows(self, indices):
        return [self._rows[index] for index in indices]


def labelled(*labels):
    return Rows(labels=labels, classes=tuple("abcdefgh"))


def numbered(size):
    return Rows(rows=list(range(size)))


def indices_of(order, source, epochs=1, batch_size=4, seed=7):
    opened = open_order(order, source, batch_size, seed)
    return [opened.indices(epoch).tolist() for epoch in range(epochs)]


# ---------------------------------------------------------------------------------------------------------- kinds

@pytest.mark.parametrize("order", ["shuffled", None])
def test_shuffled_is_the_plan_s_own(order):
    assert open_order(order, numbered(9), 4, 7) is None


def test_sequential():
    order = open_order("sequential", numbered(5), 4, 7)
    assert (order.length, order.describe(), indices_of("sequential", numbered(5), 2)) == (
        5, "sequential", [[0, 1, 2, 3, 4]] * 2)


@pytest.mark.parametrize("order", ["sorted", 3, [0, 1], np.array([0, 1]), Rows(), True])
def test_what_is_no_order(order):
    with pytest.raises(ConfigError, match="order must be 'shuffled', 'sequential', .* or a function"):
        open_order(order, numbered(5), 4, 7)


@pytest.mark.parametrize("recipe, name", [(balanced, "balanced"), (weighted, "weighted")])
def test_a_recipe_that_is_not_called(recipe, name):
    with pytest.raises(ConfigError, match=r"order=stoker.%s is not called: write stoker.%s\(" % (name, name)):
        open_order(recipe, numbered(5), 4, 7)


@pytest.mark.parametrize("recipe", [balanced, lambda steps: weighted([1.0], steps)])
@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "3"])
def test_impossible_steps(recipe, steps):
    with pytest.raises(ConfigError, match="steps must be a whole number from 1 to"):
        recipe(steps=steps)


@pytest.mark.parametrize("steps, length", [(None, 12), (3, 12), (1, 4), (np.int64(50), 200)])
def test_the_length_of_an_epoch(steps, length):
    source = labelled(0, 0, 0, 1, 1, 1, 1, 1, 1, 1)
    for recipe in (balanced(steps=steps), weighted([1] * 10, steps)):
        order = open_order(recipe, source, 4, 7)
        assert order.length == length == len(order.indices(0)) == len(order.indices(9))
        assert order.indices(0).dtype == np.int64
        plan = Plan(10, 4, 2, 7, order=order)
        assert all(len(plan.at(position).indices) == 4 for position in range(plan.positions))


# --------------------------------------------------------------------------------------------------------- golden

def test_golden_balanced():
    assert indices_of(balanced(), labelled(0, 0, 1, 1, 1, 1, 2), 2) == [
        [6, 1, 5, 0, 2, 6, 6, 4], [1, 6, 4, 3, 6, 0, 0, 5]]


def test_golden_weighted():
    assert indices_of(weighted([1, 0, 3, 0.5, 2]), numbered(5), 2) == [
        [3, 4, 2, 4, 0, 3, 2, 4], [4, 2, 2, 2, 2, 0, 2, 4]]


def test_golden_orders_of_many():
    source = labelled(*(index * index % 7 for index in range(5000)))
    text = repr([indices_of(order, source, 2, 32, 123) for order in (
        balanced(), weighted([1.0 / (1 + index) for index in range(5000)]))])
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == (
        "42fec2400b8db535ef03797cb0493818904ee38db5e1ed11f574ef5acd11e46b")


def test_golden_random_numbers_of_a_function():
    def order(epoch, random):
        return [random.randrange(100)]
    assert indices_of(order, numbered(100), 3) == [[48], [74], [29]]


# ------------------------------------------------------------------------------------------------------- balanced

@given(st.lists(st.integers(0, 7), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_balanced_takes_classes_in_turn_and_their_samples_without_replacement(labels, steps, batch_size, seed):
    source, present = labelled(*labels), set(labels)
    for drawn in indices_of(balanced(steps=steps), source, 2, batch_size, seed):
        assert len(drawn) == steps * batch_size
        for start in range(0, len(drawn), len(present)):      # each turn has each class once
            turn = [labels[index] for index in drawn[start:start + len(present)]]
            assert len(set(turn)) == len(turn)
        for label in present:
            mine = [index for index in drawn if labels[index] == label]
            size = labels.count(label)
            for start in range(0, len(mine), size):           # each round has each sample once
                assert len(set(mine[start:start + size])) == len(mine[start:start + size])


def test_balanced_shuffles_classes_and_samples_anew():
    source = labelled(*[0] * 3 + [1] * 300)
    first, second = indices_of(balanced(), source, 2)
    assert first != second
    rare = [index for index in first if index < 3]
    assert len({tuple(rare[start:start + 3]) for start in range(0, 150, 3)}) == 6      # all orders of three
    assert len({tuple(index < 3 for index in first[start:start + 2]) for start in range(0, 300, 2)}) == 2
    assert indices_of(balanced(), source, 1, seed=8)[0] != first


@pytest.mark.parametrize("key", ["who", lambda row: row["who"] * 2])
def test_balanced_by_a_key_of_rows(key):
    rows = [{"who": who} for who in ["ann"] * 10 + ["bob", "cleo", "cleo"]]
    drawn, = indices_of(balanced(key, steps=9), Rows(rows))
    assert Counter(rows[index]["who"] for index in drawn) == {"ann": 12, "bob": 12, "cleo": 12}


def test_balanced_by_a_place_in_rows():
    drawn, = indices_of(balanced(1, steps=2), Rows([("a", 5), ("b", 5), ("c", 6)]))
    assert sum(index == 2 for index in drawn) == 4


@pytest.mark.parametrize("key, rows, problem", [
    (None, [1, 2], r"the data has no classes: give stoker.balanced\(key\)"),
    ("who", [{"who": 1}, {"whom": 2, "x": 3}], "row 1 has no field 'who': it has 'whom', 'x'"),
    ("who", ["a.jpg"], "row 0 has no field 'who': it is 'a.jpg'"),
    (0, ["a.jpg"], "row 0 has no field 0: it is 'a.jpg'"),
    ("who", [None], "row 0 has no field 'who': it is None"),
    (4, [(1, 2)], r"row 0 has no field 4: it is \(1, 2\)"),
    (lambda row: row["x"], [{"x": 1}, {}], r"key '.*<lambda>' for row 1: KeyError: 'x' \(test_ord"),
    (lambda row: [row], [1], r"the class of row 0 is \[1\], which can be no class \(unhashable"),
    ("x", [{"x": 1.0}, {"x": float("nan")}], "the class of row 1 is nan, which can be no class"),
    (lambda row: np.zeros(3), [1], "the class of row 0 is array.*, which can be no class"),
])
def test_what_cannot_be_balanced(key, rows, problem):
    with pytest.raises(ConfigError, match="^balanced: " + problem):
        open_order(balanced(key), Rows(rows), 4, 7)


@pytest.mark.parametrize("key", [2.5, [], {}])
def test_what_is_no_key(key):
    with pytest.raises(ConfigError, match="balanced: key must be the name of a column or a function of a row"):
        balanced(key)


# ------------------------------------------------------------------------------------------------------- weighted

@pytest.mark.parametrize("weights", [[0, 1, 3, 0], (0, 1, 3, 0), np.array([0, 1, 3, 0]), np.float32([0, 1, 3, 0])])
def test_weighted_draws_in_proportion(weights):
    drawn, other = indices_of(weighted(weights, steps=1000), numbered(4), 2)
    assert set(drawn) == {1, 2} and drawn != other
    assert 900 < drawn.count(1) < 1100          # 1000 expected, with a standard deviation of 27
    assert sum(drawn[place] == drawn[place + 1] for place in range(3999)) > 2000      # they are not sorted, nor in turn


def test_weighted_by_a_column():
    rows = [{"w": "0.0"}, {"w": 2}, {"w": True}]
    assert indices_of(weighted("w"), Rows(rows), 3) == indices_of(weighted([0, 2, 1]), Rows(rows), 3)


def test_the_user_s_weights_are_copied():
    weights = np.ones(4)
    order = open_order(weighted(weights), numbered(4), 4, 7)
    before = order.indices(3).tolist()
    weights[:] = 0.0
    assert order.indices(3).tolist() == before


def test_weights_at_the_end_of_the_floats():
    assert set(indices_of(weighted([5e-324, 0.0], steps=10), numbered(2))[0]) == {0}
    assert set(indices_of(weighted([0.0, 5e-324], steps=10), numbered(2))[0]) == {1}
    assert set(indices_of(weighted([1e308, 0.0, 1e-308], steps=10), numbered(3))[0]) == {0}


@pytest.mark.parametrize("weights, problem", [
    ([1, -1, 2], "weight 1 is -1, must be a number of at least 0"),
    ([1, 2, float("nan")], "weight 2 is nan, must be"),
    ([float("inf"), 2], "weight 0 is inf, must be"),
    ([1, None, 2], "weight 1 is None, must be"),
    ([1, "heavy", 2], "weight 1 is 'heavy', must be"),
    ([1, [2, 3]], r"weight 1 is \[2, 3\], must be"),
    ([1, 10 ** 400], "weight 1 is 10+.*, must be"),
    ([0, 0], "the sum of the weights is 0, must be a finite number above 0"),
    ([], "the sum of the weights is 0, must be"),
    ([1e308, 1e308], "the sum of the weights is inf, must be"),
    ([[1, 2], [3, 4]], r"the weights are of shape \[2, 2\]: give one number"),
    (iter([1, 2]), "the weights are a list_iterator: give a list or array"),
    ({0: 1}, "the weights are a dict: give a list or array"), (3, "the weights are an int: give"),
    (None, "the weights are a NoneType: give"), (b"\1\2", "the weights are a bytes: give"),
])
def test_impossible_weights(weights, problem):
    with pytest.raises(ConfigError, match="^weighted: " + problem):
        weighted(weights)


@pytest.mark.parametrize("weights, rows, problem", [
    ([1, 2], [{}] * 3, "there are 2 weights for 3 samples: give one for each training sample, or"),
    ("w", [{"w": 1}, {"w": -2.5}], "'w' of row 1 is -2.5, must be a number of at least 0"),
    ("w", [{"w": 1}, {"w": ""}], "'w' of row 1 is '', must be"),
    ("w", [{"w": 1}, {"v": 1}], "row 1 has no field 'w': it has 'v'"),
    ("w", [{"w": 0}], "the sum of the weights is 0"),
])
def test_weights_that_do_not_fit_the_rows(weights, rows, problem):
    with pytest.raises(ConfigError, match="^weighted: " + problem):
        open_order(weighted(weights), Rows(rows), 4, 7)


# --------------------------------------------------------------------------------------------------- own functions

@pytest.mark.parametrize("returned", [[3, 1, 3], (3, 1, 3), np.array([3, 1, 3]), np.uint8([3, 1, 3]),
                                      np.uint64([3, 1, 3]), [np.int64(3), 1, np.int32(3)], range(3, 0, -1)])
def test_what_a_function_may_return(returned):
    assert indices_of(lambda epoch, random: returned, numbered(4), 2) == [list(map(int, returned))] * 2


@pytest.mark.parametrize("returned, problem", [
    ([0, 4], "an index that is not there: place 1 must be a whole number from 0 to 3, not 4$"),
    (np.array([0, 1, -1]), "an index that is not there: place 2 must be a whole number from 0 to 3, not -1$"),
    ([0, 2 ** 63], "an index that is not there: place 1 must be .*, not 9223372036854775808$"),
    (np.array([1, 1 << 63], np.uint64), "an index that is not there: place 1 must be .*, not 9223372036854775808$"),
    ([0, 10 ** 30], "an index that is not there: place 1 must be .*, not 10*$"),
    ([0, 1.0], "an index that is not there: place 1 must be .*, not 1.0$"),
    (np.array([0.0]), "an index that is not there: place 0 must be .*, not 0.0$"),
    (np.array([True, False]), "an index that is not there: place 0 must be .*, not True$"),
    (["0"], "an index that is not there: place 0 must be .*, not '0'$"),
    ([0, None], "an index that is not there: place 1 must be .*, not None$"),
    ([0, [1, 2]], r"an index that is not there: place 1 must be .*, not \[1, 2\]$"),
    ([[0, 1]], r"an array of shape \[1, 2\]: it must return one row of indices$"),
    (np.array(3), r"an array of shape \[\]: it must"),
    ([], "no index: an epoch needs at least one$"),
    (None, "a NoneType: it must return a list or an array of indices$"), ("012", "a str: it"), (3, "an int: it"),
    ({0, 1}, "a set: it"), ({0: 1}, "a dict: it"), (iter([0]), "a list_iterator: it"), (b"\0", "a bytes: it"),
])
@pytest.mark.parametrize("epoch", [0, 3])
def test_what_a_function_must_not_return(returned, problem, epoch):
    def order(asked, random):
        return returned if asked == epoch else [0, 1]

    subject = r"^order function '.*test_orders:.*order' for epoch %d returned " % epoch
    if epoch == 0:
        with pytest.raises(ConfigError, match=subject + problem):
            open_order(order, numbered(4), 4, 7)
    else:
        opened = open_order(order, numbered(4), 4, 7)
        with pytest.raises(RunFailed, match=subject + problem):
            opened.indices(epoch)
        with pytest.raises(RunFailed, match=subject + problem):
            Plan(4, 1, 5, 7, order=opened).at(6)


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), StopIteration("x"), SystemExit("x")])
def test_a_function_that_raises(error):
    def order(epoch, random):
        if epoch != opens:
            raise error
        return [0]

    name = {SystemExit: r"it called sys.exit\('x'\): let it raise an error",
            StopIteration: "a StopIteration came out of it: .*"}.get(type(error), type(error).__name__ + ": '?x'?")
    sentence = "order function .* for epoch %d: " + name + r" \(test_orders.py, line \d+\)$"
    opens = 0
    opened = open_order(order, numbered(4), 4, 7)
    with pytest.raises(RunFailed, match=sentence % 1) as caught:
        opened.indices(1)
    assert caught.value.__cause__ is error
    opens = 1
    with pytest.raises(ConfigError, match=sentence % 0):
        open_order(order, numbered(4), 4, 7)


def test_a_function_without_two_arguments():
    with pytest.raises(ConfigError, match=r"for epoch 0: TypeError: .*takes 1 positional argument"):
        open_order(lambda epoch: [0], numbered(4), 4, 7)


def test_all_epochs_of_a_function_have_the_same_length():
    opened = open_order(lambda epoch, random: [0] * (3 - epoch), numbered(4), 4, 7)
    with pytest.raises(RunFailed, match="for epoch 1 returned 2 indices, and 3 for epoch 0: all epochs must have"):
        opened.indices(1)


def test_a_function_is_called_again_at_the_begin_and_must_not_change_its_mind():
    calls = []

    def order(epoch, random):
        calls.append(epoch)
        return [len(calls) // 4]

    opened = open_order(order, numbered(99), 4, 7)
    plan = Plan(99, 1, 3, 7, order=opened)
    assert [plan.at(0).indices, opened.describe(), plan.at(0).indices, plan.at(1).indices]
    assert calls == [0, 0, 1]
    with pytest.raises(RunFailed, match="order function .* for epoch 0 returned other indices than when it was called"):
        plan.at(0)


def test_a_function_that_draws_from_numbers_that_are_not_seeded():
    with pytest.raises(ConfigError, match="epoch 0 returned other indices .* so draw from its second one$"):
        open_order(lambda epoch, random: np.random.permutation(99), numbered(99), 4, 7)


def test_a_function_may_reuse_its_array():
    array = np.array([0, 1])

    def order(epoch, random):
        array[:] = epoch
        return array

    opened = open_order(order, numbered(99), 4, 7)
    first = opened.indices(0)
    opened.indices(1)
    assert first.tolist() == [0, 0]


def test_a_function_is_never_in_two_threads_at_once():
    inside = []

    def order(epoch, random):
        if epoch == 1:
            other = threading.Thread(target=opened.indices, args=(2,))
            other.start()
            other.join(0.05)
            inside.append((other.is_alive(), list(inside)))
            others.append(other)
        elif epoch == 2:
            inside.append("two")
        return [0]

    others = []
    opened = open_order(order, numbered(9), 4, 7)
    opened.indices(1)
    others[0].join()
    assert inside == [(True, []), "two"]


def test_a_function_that_does_not_return_does_not_hold_another_thread(monkeypatch):
    monkeypatch.setattr(orders, "WAIT_S", 0.01)
    inside, ends = threading.Event(), threading.Event()

    def order(epoch, random):
        if epoch == 1:
            inside.set()
            assert ends.wait(60)
        return [0]

    opened = open_order(order, numbered(9), 4, 7)
    other = threading.Thread(target=opened.indices, args=(1,))
    other.start()
    assert inside.wait(60)
    with pytest.raises(RunFailed, match="order function '.*order' was called for another epoch and does not return"):
        opened.indices(0)
    ends.set()
    other.join()
    assert opened.indices(0).tolist() == [0]


# ------------------------------------------------------------------------------------------------------- describe

def test_descriptions_differ_if_orders_do():
    source = labelled(0, 0, 0, 1, 1, 1, 1, 2)
    orders = ["sequential", balanced(), balanced(steps=3), weighted([1] * 8), weighted([1] * 7 + [2]),
              lambda epoch, random: [1, 2, 3], lambda epoch, random: [1, 3, 2], lambda epoch, random: [1, 2, 3, 3]]
    said = [open_order(order, source, 4, 7).describe() for order in orders]
    assert len(set(said)) == len(said)
    assert said == [open_order(order, source, 4, 7).describe() for order in orders]
    assert [text.split()[0] for text in said] == (
        ["sequential"] + ["balanced"] * 2 + ["weighted"] * 2 + ["function"] * 3)
    assert all(len(text) < 40 for text in said)
