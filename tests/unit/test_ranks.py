"""Several trainers of one run: the union of their parts is the batch of one trainer, for any number of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.batch import Batch
from stoker.pipeline.coordinator.effects import Accept, Fill, Grant
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.pace import Pace
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.orders import open_order
from stoker.pipeline.partners import open_partners
from stoker.pipeline.plan import Plan, part_of
from stoker.pipeline.protocol.messages import Hello, Produced, Ready, Timings
from stoker.pipeline.sources.table import Numbers
from stoker.trainer.autoscaler import Autoscaler
from stoker.trainer.local_ranks import line_of, share, trainers_here
from stoker.trainer.run import prepare
from tests.support import rank_functions
from tests.support.invariants import check_invariants

LOCAL, ANYWHERE = "tcp://127.0.0.1:*", "tcp://0.0.0.0:5555"


class Order:
    """Random indices, which repeat, in each epoch."""

    def __init__(self, size, length, seed):
        self.length, self._size, self._seed = length, size, seed

    def indices(self, epoch):
        return np.random.RandomState(self._seed + epoch).randint(0, self._size, self.length)


@st.composite
def plans(draw):
    """(arguments of Plan, a number of ranks that may share it)"""
    training = draw(st.booleans())
    train = draw(st.integers(1, 60))
    length = draw(st.none() | st.integers(1, 60))
    arguments = {
        "train_size": train, "batch_size": draw(st.integers(1, 70)), "seed": draw(st.integers(0, 99)),
        "epochs": draw(st.integers(1, 3)) if training else 1, "training": training,
        "validation_size": draw(st.integers(0, 30)) if training else 0,
        "order": None if length is None else Order(train, length, draw(st.integers(0, 9)))}
    smallest = min(filter(None, (arguments["batch_size"], length or train, arguments["validation_size"])))
    arguments["drop_last"] = draw(st.booleans()) and arguments["batch_size"] == smallest
    return arguments, draw(st.integers(1, min(smallest, 9)))


def joined(parts):
    """The parts of all ranks at one position, in their order: (index, repeat) of each sample."""
    return [pair for part in parts for pair in zip(part.indices, part.repeats or (0,) * len(part.indices))]


@given(plans())
def test_the_union_of_all_ranks_is_the_batch_of_one_trainer_at_every_position(drawn):
    arguments, ranks = drawn
    one = Plan(**arguments)
    several = [Plan(rank=rank, ranks=ranks, **arguments) for rank in range(ranks)]
    assert {(plan.steps, plan.positions, plan.steps_per_epoch, plan.evaluations_per_epoch) for plan in several} == {
        (one.steps, one.positions, one.steps_per_epoch, one.evaluations_per_epoch)}
    for position in range(one.positions):
        whole, parts = one.at(position, False), [plan.at(position) for plan in several]
        assert joined(parts) == joined([whole])
        sizes = [len(part.indices) for part in parts]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= several[0].part_size
        assert [plan.is_empty(position) for plan in several] == [size == 0 for size in sizes]
        if 0 in sizes:
            assert one.has_empty_parts(whole.training) is False and several[0].has_empty_parts(whole.training)
        for part in parts:
            assert part[:4] == whole[:4] and (ranks == 1 or part.replacements == ())
            assert part.global_size == whole.global_size == len(whole.indices)


@given(plans(), st.data())
def test_a_change_of_the_number_of_ranks_loses_and_repeats_no_sample(drawn, data):
    arguments, _ = drawn
    one = Plan(**arguments)
    most = min(9, *filter(None, (one.batch_size, len(one.at(0).indices), one.validation_size or one.batch_size)))
    borders = sorted(data.draw(st.lists(st.integers(0, one.steps), min_size=3, max_size=3)))
    begin, found = 0, []
    for ranks, end in zip(data.draw(st.lists(st.integers(1, max(1, most)), min_size=4, max_size=4)),
                          borders + [one.steps]):
        try:
            several = [Plan(rank=rank, ranks=ranks, **arguments) for rank in range(ranks)]
        except ConfigError:
            several = [one]             # an epoch may be shorter than a batch
        for step in range(begin, end):
            position = several[0].position_of(step)
            while not one.at(position).training and one.training:
                position += 1           # the evaluation of the epoch before, again
            found += joined([plan.at(position) for plan in several])
        begin = end
    assert found == [pair for step in range(one.steps) for pair in joined(
        [next(one.at(position) for position in range(one.positions)
              if one.at(position).training == one.training and one.at(position).step == step)])]


@pytest.mark.parametrize("order", ["sequential", "shuffled"])
def test_one_rank_is_as_none(order):
    source = Numbers(50)
    arguments = dict(train_size=50, batch_size=8, epochs=2, seed=3, validation_size=9,
                     order=open_order(order, source, 8, 3))
    assert [Plan(**arguments).at(position) for position in range(18)] == [
        Plan(rank=0, ranks=1, **arguments).at(position) for position in range(18)]


def test_the_partners_of_a_sample_do_not_depend_on_the_ranks():
    partners = open_partners(2, Numbers(20))
    one, other = (Plan(20, 4, 1, 5, partners=(partners, None), ranks=ranks, rank=ranks - 1) for ranks in (1, 3))
    assert [one.partners_of(True, 0, index) for index in range(20)] == [
        other.partners_of(True, 0, index) for index in range(20)]


def test_the_indices_of_a_step_can_be_asked_for_of_any_rank():
    plan = Plan(20, 8, 2, 5, validation_size=8, rank=1, ranks=3)
    whole = Plan(20, 8, 2, 5, validation_size=8)
    for step in range(plan.steps):
        assert plan.training_indices(step) == plan.at(plan.position_of(step) + (
            plan.evaluations_per_epoch if step and step % plan.steps_per_epoch == 0 else 0)).indices
        assert plan.training_indices(step, 0, 1) == whole.training_indices(step)
        assert sum((plan.training_indices(step, rank, 2) for rank in range(2)), ()) == whole.training_indices(step)


@pytest.mark.parametrize("options", [{}, {"order": "sequential", "drop_last": True}, {"partners": 2, "seed": 3}])
def test_a_checkpoint_does_not_know_the_ranks(options):
    runs = [prepare(50, "numerical", batch_size=8, validation=0.25, rank=rank, ranks=ranks, **options)
            for rank, ranks in ((0, 1), (0, 2), (2, 3))]
    assert runs[0].fingerprint() == runs[1].fingerprint() == runs[2].fingerprint()
    assert {run.plan.steps for run in runs} == {runs[0].plan.steps}


def test_what_sees_a_whole_part_is_known():
    assert [prepare(50, function, batch_size=8, ranks=2).one_by_one for function in (
        "numerical", rank_functions.several, "tests.support.rank_functions:several", rank_functions.whole,
        "tests.support.rank_functions:whole", "not.there:function")] == [True, True, True, False, False, False]


def test_parts_are_consecutive_and_even():
    assert [list(part_of(range(5, 12), rank, 3)) for rank in range(3)] == [[5, 6], [7, 8], [9, 10, 11]]
    assert [list(part_of(range(2), rank, 4)) for rank in range(4)] == [[], [0], [], [1]]


@pytest.mark.parametrize("arguments, message", [
    ({"ranks": 2, "rank": 2}, r"rank \(of 2 ranks\) must be a whole number from 0 to 1, not 2"),
    ({"rank": 1}, r"rank \(of 1 ranks\)"), ({"rank": -1, "ranks": 2}, "rank"), ({"ranks": 0}, "ranks must be"),
    ({"ranks": "2"}, "ranks must be"), ({"ranks": 2.0}, "ranks must be"), ({"ranks": True}, "ranks must be"),
    ({"ranks": 5}, "batch_size, the samples of all ranks together, is 4, less than the 5 ranks"),
    ({"ranks": 4, "train_size": 3}, "the number of samples in an epoch is 3, less than the 4 ranks"),
    ({"ranks": 3, "validation_size": 2}, "the number of validation samples is 2, less than the 3 ranks")])
def test_what_makes_no_sense_is_an_error(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Plan(**{"train_size": 10, "batch_size": 4, "epochs": 1, "seed": 0, **arguments})


# ---------------------------------------------------------------------------------------------------------- empty parts

def filled(effects):
    return [effect.position for effect in effects if isinstance(effect, Fill)]


def test_without_a_worker_only_positions_without_a_sample_are_handed_over():
    scheduler = LeaseScheduler(0, 9, 3, 5.0, is_empty=lambda position: position != 4)
    found = filled(scheduler.tick(0.0))
    assert found == [0, 1, 2]                  # the window
    for now in range(1, 5):
        check_invariants(scheduler)
        found += filled(scheduler.take(float(now)))
    assert found == [0, 1, 2, 3] and scheduler.head == 4
    effects = scheduler.receive(b"w", Hello("w", 1, "", 2, ""), 5.0) + scheduler.receive(b"w", Ready("run"), 5.0)
    assert [effect.position for effect in effects if isinstance(effect, Grant)] == [4]
    assert filled(effects) == [5, 6]           # as soon as they may be granted
    effects = scheduler.receive(b"w", Produced("run", 1, 4, 1, (), 0.1, ()), 5.1)
    assert [type(effect) for effect in effects] == [Accept]
    found = [position for now in range(6, 11) for position in filled(scheduler.take(float(now)))]
    assert found == [7, 8] and scheduler.head == 9
    check_invariants(scheduler)


@given(st.sets(st.integers(0, 29)), st.integers(1, 8), st.integers(1, 3), st.integers(0, 29))
def test_each_position_is_either_granted_or_filled_once(empty, prefetch, capacity, start):
    scheduler, now, leased, done = LeaseScheduler(start, 30, prefetch, 5.0, is_empty=empty.__contains__), 0.0, {}, []
    effects = scheduler.tick(now) + scheduler.receive(b"w", Hello("w", 1, "", capacity, ""), now)
    effects += scheduler.receive(b"w", Ready("run"), now)
    while scheduler.head < 30:
        check_invariants(scheduler)
        leased.update((effect.position, effect.lease) for effect in effects if isinstance(effect, Grant))
        done += filled(effects)
        assert not empty & set(leased)
        now += 0.01
        if scheduler.head in done:
            effects = scheduler.take(now)
        else:
            done.append(scheduler.head)
            effects = scheduler.receive(b"w", Produced("run", leased[scheduler.head], scheduler.head, 1, (), 0.1, ()),
                                        now)
    assert sorted(done) == list(range(start, 30)) and set(done) - set(leased) == empty & set(done)


# ------------------------------------------------------------------------------------------------ the cores of a host

@pytest.mark.parametrize("given_, ranks, bind, environment, expected", [
    (None, 1, LOCAL, {}, 1), (None, 4, LOCAL, {}, 4), (None, 4, ANYWHERE, {}, 1), (3, 4, ANYWHERE, {}, 3),
    (None, 4, ANYWHERE, {"HOROVOD_LOCAL_SIZE": "2"}, 2), (None, 4, LOCAL, {"HOROVOD_LOCAL_SIZE": "2"}, 2),
    (None, 4, ANYWHERE, {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 2), (1, 4, LOCAL, {"HOROVOD_LOCAL_SIZE": "2"}, 1),
    (None, 2, ANYWHERE, {"HOROVOD_LOCAL_SIZE": "8"}, 2), (None, 2, LOCAL, {"HOROVOD_LOCAL_SIZE": "many"}, 2),
    (None, 2, LOCAL, {"HOROVOD_LOCAL_SIZE": "-3"}, 1)])
def test_how_many_ranks_share_the_cores_of_this_host(given_, ranks, bind, environment, expected):
    assert trainers_here(given_, ranks, bind, environment) == expected


@pytest.mark.parametrize("local_ranks", [0, 3, "2", 1.5])
def test_a_wrong_number_of_local_ranks_is_an_error(local_ranks):
    with pytest.raises(ConfigError, match=r"local_ranks \(of 2 ranks\) must be a whole number from 1 to 2"):
        trainers_here(local_ranks, 2, LOCAL, {})


def test_each_has_its_share_of_the_cores_and_at_least_one():
    assert [share(8, trainers) for trainers in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]
    autoscaler = Autoscaler(share(8, 4), 4)
    assert autoscaler.wanted == 2


def test_the_log_says_the_part_and_the_share():
    plan = Plan(100, 30, 1, 0, rank=1, ranks=4)
    assert line_of(plan, 8, 2, True) == (
        "rank 1 of 4: samples 7 to 14 of each batch of 30; up to 4 local workers: its share of 8 cores, for 2 ranks on "
        "this host")
    assert line_of(plan, 8, 2, False) == "rank 1 of 4: samples 7 to 14 of each batch of 30"


def test_the_cores_of_a_host_are_shared_in_the_verdict_too():
    """With two workers on 8 cores, more workers help one trainer, but not one of four."""
    for trainers, name in ((1, "too few workers"), (4, "decode")):
        pace, now = Pace(2, [], 0.0), 0.0
        pace.trainers = trainers
        for step in range(200):
            asked_s, now = now + 0.01, now + 0.11
            pace.handed_out(Batch(step, 0, True, (), (), (), "w", 1, 0.2, timings=Timings(0.0, 0.2, 0.0)), asked_s, 0.1,
                            Fleet(2, 8, {}), now)
        assert pace.verdict(Fleet(2, 8, {})).name == name
