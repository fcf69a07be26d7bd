"""What the benchmarks of feed, wire, scale and latency do without measuring."""

import importlib
import os
import sys

import numpy as np
import pytest

from stoker.pipeline.batch import Batch
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated
from benchmarks import feed, latency, ready, scale, small, table, wire


@pytest.mark.parametrize("name", ["feed", "wire", "scale", "latency", "small"])
def test_help_says_what_is_measured(name, monkeypatch, capsys):
    module = importlib.import_module("benchmarks." + name)
    monkeypatch.setattr(sys, "argv", [name + ".py", "--help"])
    with pytest.raises(SystemExit) as ended:
        table.main(module.run, module.__doc__)
    assert ended.value.code == 0 and module.__doc__.split(":")[0] in capsys.readouterr().out


def test_each_way_of_feeding_is_what_it_is_called():
    for way in feed.WAYS:
        array = feed.array_of(way, 1000)
        address = array.__array_interface__["data"][0]
        assert array.size == 1000 and str(array.dtype) == way.split(",")[0].split(" ")[0]
        assert (address % feed.ALIGNMENT == 0) == (", aligned" in way)
        assert array.flags.writeable == ("read-only" not in way)


def test_the_feed_s_goals_are_taken_from_its_tables():
    taken = {(size, way): [1.0 + number, 3.0, 2.0] for size in feed.SIZES for number, way in enumerate(feed.WAYS)}
    taken.update({(size, feed.STOKER): [0.1, 0.2, 0.12] for size in feed.SIZES})
    at_224, sizes = feed.tables(feed.SIZES, taken, dict.fromkeys(feed.WAYS, 1))
    assert at_224.goals[0].reached == pytest.approx(3.0 / 0.12) and not at_224.goals[0].holds()
    assert sizes.goals[0].reached == 1.0 and sizes.goals[0].holds()


def test_the_goal_of_small_batches_is_about_those_of_1_kb():
    found = {kind: [wire.Measured(1000.0 * number, 0.0003, 0.0004)] * 3 for number, kind in enumerate(small.KINDS, 3)}
    found_table = small.table_of(found)
    assert found_table.rows[0] == ["1 KB, ready", 3000.0, 3000.0, 3000.0, pytest.approx(300), pytest.approx(400)]
    assert found_table.goals[0].reached == 3000.0 and found_table.goals[0].holds()


def test_who_starves_is_seen():
    assert scale.served([4, 4, 4], 2.0, 0.006)[:2] == (6.0, pytest.approx(500.0))
    assert scale.served([4, 4, 4], 2.0, 0.0).share == 1.0
    assert scale.served([8, 4, 0], 2.0, 0.0)[3:] == (0, 8, 0.0)
    assert scale.served([0, 0], 2.0, 0.0).share == 0.0


def test_what_a_message_takes():
    counted = wire.paced(lambda: sum(range(1000)), [os.getpid()], 0.05)
    assert counted.batches_s > 0 and counted.trainer_cpu_s == pytest.approx(counted.worker_cpu_s, rel=0.5)


def test_the_bytes_of_a_batch_are_what_it_costs_beyond_a_small_one():
    rounds = {name: [wire.Measured(1000.0, 0.0002, 0.0001)] * 3 for name in (wire.SHARED, wire.FED)}
    rounds[wire.SMALL] = [wire.Measured(2000.0, 0.0001, 0.0001)] * 3
    goal, = wire.table_of(224, rounds).goals
    assert goal.reached == pytest.approx(0.1) and goal.holds()
    trainer, fed = wire.table_of(64, rounds).goals
    assert trainer.reached == fed.reached == pytest.approx(0.2)


def test_either_way_hands_out_each_batch_once_and_moves_the_window_with_the_first_gap():
    samples = generated(8)
    stream = latency.EitherWay(Plan(8, 1, 1, 0), Splits(samples), JobOptions("numerical", batch_size=1),
                               StreamOptions())
    with stream:
        def come(position):
            stream._deliver(position, Batch(position, 0, True, (), (np.ones(1),), (), "w", 1, 0.0))
        for position in (2, 1, 4):
            come(position)
        assert [stream.take(False).step for _ in range(2)] == [2, 1]
        assert stream._position == 0
        come(0)
        assert stream.take(True).step == 0 and stream._position == 3
        come(3)
        assert [stream.take(True).step for _ in range(2)] == [3, 4] and stream._position == 5
        stream._coordinator._taken = 0      # its scheduler knows of none of these


def test_a_ready_batch_is_as_large_as_its_lease():
    from stoker.pipeline.protocol.messages import Job, Lease, Sample
    job = Job("image", JobOptions("image", (4, 4), 3).arrays, 3, 0, "fast", "")
    leases = [Lease(1, 0, 0, True, (Sample(0, "0", 0),) * 3), Lease(2, 1, 0, True, (Sample(0, "0", 0),) * 2)]
    for generator in (ready.ready, ready.elsewhere):
        assert [[array.shape for array in output.arrays] for output in generator(leases, job)] == [
            [(3, 4, 4, 3), (3, 1)], [(2, 4, 4, 3), (2, 1)]]
