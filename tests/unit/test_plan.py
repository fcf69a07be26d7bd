"""The plan. Every checkpoint relies on the golden values in this file: they must never change."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan, fingerprint, produced_indices, random_state, repeats_of, sample_random
from stoker.pipeline.protocol.messages import Lease, Sample, Skipped
from stoker.workers.generators.output import filled

SIZES = {"train_size": st.integers(1, 60), "batch_size": st.integers(1, 70), "epochs": st.integers(1, 4),
         "seed": st.integers(-(1 << 62), 1 << 62), "validation_size": st.integers(0, 30)}


class FixedOrder:
    """The same indices in every epoch."""

    def __init__(self, *indices):
        self.order, self.length = np.array(indices), len(indices)

    def indices(self, epoch):
        return self.order


ORDERS = st.lists(st.integers(0, 12), min_size=1, max_size=50)


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


def test_golden_sample_seed_of_a_repetition():
    assert sample_random(3, 4, 5, 1).getstate() == random.Random(8612847859157552064).getstate()
    assert sample_random(3, 4, 5, 0).getstate() == sample_random(3, 4, 5).getstate()


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


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.lists(st.integers(9, 14), unique=True, max_size=12),
       st.sets(st.tuples(st.integers(0, 14), st.integers(0, 3))))
def test_both_sides_agree_on_the_samples_of_a_batch(indices, replacements, bad_at):
    """A user's function may leave out one repetition of an index only."""
    samples = [Sample(index, "", -1, b"", indices[:place].count(index)) for place, index in enumerate(indices)]
    others = tuple(Sample(index, "", -1) for index in replacements)
    content, skips = filled(Lease(1, 0, 0, True, tuple(samples), others),
                            lambda place, sample: Skipped(sample.index, "bad") if (
                                sample.index, sample.repeat) in bad_at else None)
    used, skipped = [sample.index for sample in content if sample is not None], [skip.index for skip in skips]
    assert len(set(skipped)) == len(skipped)
    assert {index for index, repeat in bad_at if repeat < indices.count(index)} <= set(skipped)
    assert produced_indices(indices, replacements, skipped, len(used)) == tuple(used)
    assert produced_indices(indices, replacements, skipped, len(used) + 1) is None


# ---------------------------------------------------------------------------------------------------------- orders

@given(ORDERS, st.integers(1, 20), st.booleans(), st.integers(0, 9))
def test_a_plan_cuts_its_order_into_batches(order, batch_size, drop_last, validation_size):
    if drop_last and (len(order) < batch_size or 0 < validation_size < batch_size):
        with pytest.raises(ConfigError, match="drop_last leaves no batch"):
            Plan(13, batch_size, 2, 0, validation_size, order=FixedOrder(*order), drop_last=True)
        return
    plan = Plan(13, batch_size, 2, 0, validation_size, order=FixedOrder(*order), drop_last=drop_last)
    whole = len(order) // batch_size * batch_size if drop_last else len(order)
    for epoch in range(2):
        training = [batch for batch in batches(plan) if batch.epoch == epoch and batch.training]
        assert sum((batch.indices for batch in training), ()) == tuple(order[:whole])
        assert all(len(batch.indices) == batch_size for batch in training[:None if drop_last else -1])
        repeats = sum((batch.repeats or (0,) * len(batch.indices) for batch in training), ())
        assert list(repeats) == [order[:place].count(index) for place, index in enumerate(order[:whole])]
    assert all(batch.repeats == () or any(batch.repeats) for batch in batches(plan))
    evaluated = sum((batch.indices for batch in batches(plan) if not batch.training), ())
    assert len(evaluated) == 2 * plan.validation_size
    assert plan.validation_size == (validation_size // batch_size * batch_size if drop_last else validation_size)
    assert [plan.position_of(step) for step in range(plan.steps) if step % plan.steps_per_epoch] == [
        batch.position for batch in batches(plan) if batch.training and batch.step % plan.steps_per_epoch]


@given(ORDERS, st.integers(1, 20))
def test_replacements_of_an_order_are_the_next_other_indices_from_half_an_epoch_later(order, batch_size):
    plan = Plan(13, batch_size, 1, 0, order=FixedOrder(*order))
    for batch in batches(plan):
        first = batch.step * batch_size + len(order) // 2
        expected = {}
        for place in range(first, first + len(order)):
            index = order[place % len(order)]
            if index not in batch.indices and index not in expected:
                expected[index] = order[:place % len(order)].count(index)
        assert batch.replacements == tuple(expected)[:batch_size]
        repeats = tuple(expected.values())[:batch_size]
        assert batch.replacement_repeats == (repeats if any(repeats) else ())
        without = plan.at(batch.position, with_replacements=False)
        assert without == batch._replace(replacements=(), replacement_repeats=())


def test_an_order_that_is_a_shuffle_has_the_replacements_of_a_shuffle():
    shuffled = Plan(40, 10, 1, 3)
    ordered = Plan(40, 10, 1, 3, order=FixedOrder(*sum((batch.indices for batch in batches(shuffled)), ())))
    assert batches(ordered) == batches(shuffled)


def test_full_batches_stay_full_while_there_are_good_samples():
    plan = Plan(9, 4, 1, 0, order=FixedOrder(*[0, 0, 1, 2] * 4 + [3, 4, 5]), drop_last=True)
    batch = plan.at(1)
    assert len(produced_indices(batch.indices, batch.replacements, (0, 5), 4)) == 4


def test_golden_repeats():
    assert repeats_of(np.array([5, 0, 5, 5, 0, 2])).tolist() == [0, 0, 1, 2, 1, 0]
    assert repeats_of(np.empty(0, np.int64)).tolist() == []


def test_another_thread_may_ask_for_another_epoch_at_the_same_time():
    class Interrupted(FixedOrder):
        def indices(self, epoch):
            if epoch == 0:
                assert plan.at(1).indices == (1,)     # what the other thread does meanwhile
            return np.array([epoch])

    plan = Plan(5, 1, 2, 0, order=Interrupted(0))
    assert plan.at(0).indices == (0,)
    assert plan.at(1).indices == (1,)


def test_another_thread_may_replace_the_last_epoch_at_any_moment():
    class Raced(Plan):
        def _get(self):
            kept, self.kept = self.kept, self._new_epoch(1 - max(self.kept.number, 0))
            return kept

        def _set(self, made):
            self.kept = made if made.number < 0 else self._new_epoch(1 - made.number)

        _last_epoch = property(_get, _set)

    raced = Raced(5, 2, 2, 7)
    for position in (0, 3, 3, 0, 0, 4):
        assert raced.at(position) == Plan(5, 2, 2, 7).at(position)


# -------------------------------------------------------------------------------------------- one pass, no training

@given(st.integers(1, 40), st.integers(1, 50), st.integers(-9, 9))
def test_without_training_a_run_is_one_pass_in_order(size, batch_size, seed):
    plan = Plan(size, batch_size, 1, seed, training=False)
    everything = batches(plan)
    assert sum((batch.indices for batch in everything), ()) == tuple(range(size))
    assert [batch.step for batch in everything] == [batch.position for batch in everything] == list(range(plan.steps))
    assert not any(batch.training or batch.replacements or batch.repeats for batch in everything)
    assert [plan.position_of(step) for step in range(plan.steps + 1)] == list(range(plan.positions + 1))


def test_without_training_an_order_is_one_pass_too():
    plan = Plan(5, 2, 1, 0, order=FixedOrder(4, 1, 4), training=False)
    assert [(batch.indices, batch.repeats, batch.replacements) for batch in batches(plan)] == [
        ((4, 1), (), ()), ((4,), (1,), ())]


@pytest.mark.parametrize("epochs, validation_size, problem", [(2, 0, "2 epochs"), (1, 5, "validation part")])
def test_without_training_there_is_one_pass_over_one_dataset(epochs, validation_size, problem):
    with pytest.raises(ConfigError, match="training=False is one pass over one dataset: it has no " + problem):
        Plan(5, 2, epochs, 0, validation_size, training=False)


# --------------------------------------------------------------------------------------------------------- partners

def test_partners_are_those_of_the_part_and_in_an_evaluation_of_epoch_0():
    class Recorded:
        def __init__(self, name):
            self.name = name

        def draw(self, *key):
            return (self.name,) + key

    plan = Plan(5, 2, 3, 77, partners=(Recorded("training"), Recorded("validation")))
    assert plan.has_partners
    assert plan.partners_of(True, 2, 4, 1) == ("training", 77, 2, 4, 1)
    assert plan.partners_of(False, 2, 4, 0) == ("validation", 77, 0, 4, 0)
    assert not Plan(5, 2, 3, 77).has_partners and Plan(5, 2, 3, 77).partners_of(True, 0, 0) == ()


# ----------------------------------------------------------------------------------------------------- fingerprint

def test_a_fingerprint_names_only_what_is_in_use():
    job = JobOptions("image", seed=3)
    plain = fingerprint(job, "abc", 0.0)
    assert fingerprint(job, "abc", 0.0, {"order": None, "drop_last": False, "arrays": []}) == plain
    assert fingerprint(job, "abc", 0.0, {"order": "sequential", "drop_last": True}) == dict(
        plain, order="sequential", drop_last=True)


# ---------------------------------------------------------------------------------------------------------- errors

@pytest.mark.parametrize("sizes, problem", [
    ((3, 4, 1, 0), "drop_last leaves no batch: an epoch has 3 samples, batch_size is 4"),
    ((4, 4, 1, 0, 3), "drop_last leaves no batch: the validation part has 3 samples, batch_size is 4")])
def test_no_full_batch(sizes, problem):
    with pytest.raises(ConfigError, match=problem):
        Plan(*sizes, drop_last=True)


@pytest.mark.parametrize("name, value", [("train_size", 0), ("batch_size", 0), ("epochs", 0),
                                         ("validation_size", -1)])
def test_impossible_sizes(name, value):
    sizes = dict({"train_size": 1, "batch_size": 1, "epochs": 1, "seed": 0, "validation_size": 0}, **{name: value})
    with pytest.raises(ConfigError, match="%s must be a whole number from %d to .*, not %d" % (name, value + 1, value)):
        Plan(**sizes)


@pytest.mark.parametrize("step", [-1, 7])
def test_steps_that_are_not_of_this_run(step):
    with pytest.raises(ConfigError, match="start_step %d is not one of this run's steps, 0 to 6" % step):
        Plan(5, 2, 2, 0).position_of(step)


@pytest.mark.parametrize("position", [-1, 8])
def test_positions_that_are_not_of_this_run(position):
    with pytest.raises(IndexError, match=r"position %d is not within 0\.\.7" % position):
        Plan(5, 2, 2, 0, 1).at(position)


@given(st.integers(1, 30), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 7))
def test_where_a_step_a_sample_and_an_evaluation_are(size, batch_size, drop_last, repeats, validation):
    if drop_last and (size < batch_size or validation < batch_size):
        return
    order = FixedOrder(*(7 * number * number % size for number in range(size))) if repeats else None
    plan = Plan(size, batch_size, 3, 3, validation, order=order, drop_last=drop_last)
    every = batches(plan)
    trained = [batch for batch in every if batch.training]
    assert [plan.at(plan.position_at(step)) for step in range(plan.steps)] == trained
    for epoch in range(3):
        assert [plan.at(position) for position in plan.evaluation_positions(epoch)] == [
            batch for batch in every if batch.epoch == epoch and not batch.training]
        for index in range(size):
            steps = [batch.step for batch in trained if batch.epoch == epoch and index in batch.indices]
            assert plan.first_step_of(index, epoch) == (steps[0] if steps else None)
    for wrong in (lambda: plan.position_at(-1), lambda: plan.position_at(plan.steps), lambda: plan.first_step_of(0, 3),
                  lambda: plan.first_step_of(size, 0), lambda: plan.evaluation_positions(3)):
        with pytest.raises(IndexError):
            wrong()
