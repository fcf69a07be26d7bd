"""The plan. Every checkpoint relies on the golden values in this file: they must never change."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.plan import Plan, produced_indices, random_state, sample_random

SIZES = {"train_size": st.integers(1, 60), "batch_size": st.integers(1, 70), "epochs": st.integers(1, 4),
         "seed": st.integers(-(1 << 62), 1 << 62), "validation_size": st.integers(0, 30)}


def batches(plan):
    return [plan.at(position) for position in range(plan.positions)]


# -------------------------------------------------------------------------------------------------------- golden

def test_golden_plan():
    plan = Plan(10, 4, 2, 7, validation_size=5)
    assert [(batch.step, batch.epoch, batch.training, batch.indices) for batch in batches(plan)] == [
        (0, 0, True, (7, 9, 8, 4)), (1, 0, True, (0, 2, 6, 1)), (2, 0, True, (3, 5)),
        (3, 0, False, (0, 1, 2, 3)), (3, 0, False, (4,)),
        (3, 1, True, (2, 0, 1, 8)), (4, 1, True, (5, 7, 4, 3)), (5, 1, True, (9, 6)),
        (6, 1, False, (0, 1, 2, 3)), (6, 1, False, (4,))]


def test_golden_order_of_a_thousand():
    text = repr([batch.indices for batch in batches(Plan(1000, 32, 3, 123))])
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == (
        "e59d0fb48008fe161ecb8d2af1135577fcb5aaa75648277f7cc567ccda4f6f71")


@pytest.mark.parametrize("key, seed", [((0, 0, 0), 11807367998810950632), ((1, 0, 0), 2716062355202708908),
                                       ((0, 1, 0), 9473501135860034115), ((0, 0, 1), 4816181681134693383),
                                       ((-5, 3, 1 << 40), 17159245249284344548)])
def test_golden_sample_seeds(key, seed):
    assert sample_random(*key).getstate() == random.Random(seed).getstate()


def test_golden_generators():
    assert random_state("epoch", 1, 2).randint(0, 1000, 5).tolist() == [330, 666, 928, 923, 611]
    assert round(sample_random(3, 4, 5).random(), 12) == 0.019991503519


# ---------------------------------------------------------------------------------------------------------- seeds

def test_random_numbers_of_samples_do_not_collide():
    keys = [(seed, epoch, index) for seed in range(-4, 8) for epoch in range(12) for index in range(60)]
    first = {sample_random(*key).getrandbits(64) for key in keys}
    assert len(first) == len(keys)                 # with seed + index, many would be equal


def test_numpy_s_integers_mean_the_same():
    numbers = random_state(1).randint(0, 100, 3)
    assert sample_random(*numbers).random() == sample_random(*numbers.tolist()).random()


def test_parts_of_a_key_do_not_run_together():
    drawn = [random_state(*key).randint(0, 1 << 30) for key in (("a", 1), ("a1",), ("a", 1, 1), ("a", 11), (1, "a"))]
    assert len(set(drawn)) == len(drawn)


# ---------------------------------------------------------------------------------------------------------- epochs

@given(**SIZES)
def test_every_sample_comes_once_an_epoch_and_every_position_has_one_batch(**sizes):
    plan = Plan(**sizes)
    everything = batches(plan)
    for epoch in range(plan.epochs):
        training = [batch for batch in everything if batch.epoch == epoch and batch.training]
        evaluation = [batch for batch in everything if batch.epoch == epoch and not batch.training]
        assert sorted(index for batch in training for index in batch.indices) == list(range(plan.train_size))
        assert [index for batch in evaluation for index in batch.indices] == list(range(plan.validation_size))
        for part in (training, evaluation):
            assert all(len(batch.indices) == plan.batch_size for batch in part[:-1])
            assert all(1 <= len(batch.indices) <= plan.batch_size for batch in part)
        assert len(training) == plan.steps_per_epoch and len(evaluation) == plan.evaluations_per_epoch
    assert [batch.position for batch in everything] == list(range(plan.positions))
    assert [batch.step for batch in everything if batch.training] == list(range(plan.steps))
    # all of an epoch's training, then its evaluation, then the next epoch
    order = [(batch.epoch, not batch.training) for batch in everything]
    assert order == sorted(order)


@given(**SIZES)
def test_a_step_s_position_is_where_the_stream_resumes(**sizes):
    plan = Plan(**sizes)
    everything = batches(plan)
    for step in range(plan.steps + 1):
        position = plan.position_of(step)
        assert sum(batch.training for batch in everything[:position]) == step    # exactly those before it
        assert all(batch.step >= step for batch in everything[position:])
        epoch, offset = divmod(step, plan.steps_per_epoch)
        if offset == 0 and epoch and plan.validation_size:
            assert not plan.at(position).training and plan.at(position).epoch == epoch - 1
        elif step < plan.steps:
            assert plan.at(position).training and plan.at(position).step == step
        else:
            assert position == plan.positions


def test_positions_may_be_asked_for_in_any_order():
    plan = Plan(50, 7, 3, 5, 9)
    forwards = batches(plan)
    assert [plan.at(position) for position in reversed(range(plan.positions))] == forwards[::-1]
    assert Plan(50, 7, 3, 5, 9).at(20) == forwards[20]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = set()
    for seed in range(5):
        plan = Plan(40, 40, 4, seed)
        orders |= {batch.indices for batch in batches(plan)}
    assert len(orders) == 20


def test_the_order_does_not_depend_on_batch_size_or_validation():
    whole = Plan(40, 40, 1, 3).at(0).indices
    cut = Plan(40, 7, 1, 3, validation_size=11)
    assert sum((cut.at(position).indices for position in range(cut.steps)), ()) == whole


def test_indices_are_plain_integers():
    assert all(type(index) is int for batch in batches(Plan(5, 2, 1, 0, 2)) for index in batch.indices)


# --------------------------------------------------------------------------------------------------------- replacements

@given(**SIZES)
def test_replacements_are_other_samples_of_the_same_epoch(**sizes):
    plan = Plan(**sizes)
    for batch in batches(plan):
        assert len(set(batch.replacements)) == len(batch.replacements) <= plan.batch_size
        assert set(batch.replacements) <= set(range(plan.train_size)) - set(batch.indices)
        assert all(type(index) is int for index in batch.replacements)
        if not batch.training:
            assert batch.replacements == ()
        elif plan.train_size >= 2 * plan.batch_size:
            assert len(batch.replacements) == plan.batch_size
        elif plan.steps_per_epoch > 1:
            assert batch.replacements


def test_replacements_come_from_half_an_epoch_later():
    plan = Plan(12, 3, 2, 7)
    order = sum((plan.at(position).indices for position in range(4)), ())
    assert [plan.at(position).replacements for position in range(4)] == [order[6:9], order[9:], order[:3], order[3:6]]
    assert plan.at(4).replacements != plan.at(0).replacements


def test_a_batch_without_replacements_is_otherwise_the_same():
    plan = Plan(10, 4, 2, 7, 3)
    for batch in batches(plan):
        assert plan.at(batch.position, with_replacements=False) == batch._replace(replacements=())


def test_golden_replacements():
    assert [batch.replacements for batch in batches(Plan(10, 4, 1, 7))] == [(2, 6, 1, 3), (5, 7, 9, 8), (4, 0, 2, 6)]


@pytest.mark.parametrize("bad, count, used", [
    ((), 3, (1, 2, 3)), ((2,), 3, (1, 7, 3)), ((1, 3), 3, (7, 2, 8)), ((2, 7), 3, (1, 8, 3)),
    ((1, 2, 8), 3, (7, 9, 3)), ((1, 2, 7, 8, 9), 1, (3,)), ((1, 2, 3, 7), 2, (8, 9)), ((1, 2, 3), 3, (7, 8, 9)),
    ((2,), 2, None), ((1, 2, 3), 0, None),                      # no replacements
    ((), 2, None), ((2,), 1, None), ((1, 2), 2, None), ((1, 2, 7, 8), 3, None), ((), 4, None),
])
def test_the_samples_of_a_batch(bad, count, used):
    assert produced_indices((1, 2, 3), (7, 8, 9), bad, count) == used


def test_the_samples_of_a_batch_without_replacements():
    assert produced_indices((1, 2, 3), (), (2,), 2) == (1, 3)
    assert produced_indices((1, 2, 3), (), (2,), 3) is None


# ---------------------------------------------------------------------------------------------------------- errors

@pytest.mark.parametrize("name, value", [("train_size", 0), ("batch_size", 0), ("epochs", 0),
                                         ("validation_size", -1)])
def test_impossible_sizes(name, value):
    sizes = dict({"train_size": 1, "batch_size": 1, "epochs": 1, "seed": 0, "validation_size": 0}, **{name: value})
    with pytest.raises(ConfigError, match="%s must be a whole number from %d to .*, not %d" % (name, value + 1, value)):
        Plan(**sizes)


@pytest.mark.parametrize("step", [-1, 7])
def test_steps_that_are_not_of_this_run(step):
    with pytest.raises(ConfigError, match=r"step %d is not in this run's 0\.\.6" % step):
        Plan(5, 2, 2, 0).position_of(step)


@pytest.mark.parametrize("position", [-1, 8])
def test_positions_that_are_not_of_this_run(position):
    with pytest.raises(IndexError, match=r"position %d is not within 0\.\.7" % position):
        Plan(5, 2, 2, 0, 1).at(position)
