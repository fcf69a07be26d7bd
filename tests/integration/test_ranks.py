"""Several trainers of one run, with real workers: their batches together are those of one trainer, to the byte."""

import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import stoker
from tests.support import rank_functions
from tests.integration.conftest import draw
from tests.support.documents import ROOT, block
from tests.support.processes import Program, consecutive_ports, wait_for, worker_pids


def consumed(data, *arguments, **options):
    """The batches of a stream, without their memory being used again."""
    with stoker.open_stream(data, *arguments, workers=1, **options) as stream:
        return list(stream)


def of_ranks(ranks, data, *arguments, **options):
    """Of each rank, its batches; all ranks run at the same time."""
    found, threads = {}, []
    for rank in range(ranks):
        def work(rank=rank):
            found[rank] = consumed(data, *arguments, rank=rank, ranks=ranks, **options)
        threads.append(threading.Thread(target=work, name="rank %d" % rank, daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(120)
    assert sorted(found) == list(range(ranks))
    return [found[rank] for rank in range(ranks)]


def assert_equal(one, several):
    """``several``: of each rank, its batches."""
    assert {len(batches) for batches in several} == {len(one)}
    for whole, parts in zip(one, zip(*several)):
        assert {(part.step, part.epoch, part.training, part.global_size) for part in parts} == {
            (whole.step, whole.epoch, whole.training, len(whole.indices))}
        for field in ("indices", "skipped", "used_indices"):
            assert sum((getattr(part, field) for part in parts), ()) == getattr(whole, field)
        for name in whole.names:
            assert all(part[name].flags.c_contiguous and part[name].dtype == whole[name].dtype for part in parts)
            assert rows(parts, name) == rows([whole], name)


def rows(batches, name):
    """The bytes of each row, without what it was padded with: each part is padded to its own longest."""
    found = []
    for batch in batches:
        sizes = batch.sizes.get(name)
        found += [row.tobytes() if sizes is None else row[:sizes[place]].tobytes()
                  for place, row in enumerate(batch[name])]
    return found


# The last batch of an epoch has one sample, and so has that of an evaluation: most of its parts are empty.
CASES = {
    "numerical": (41, "numerical", {"validation": 0.22}),
    "sample function": (41, rank_functions.several, {"validation": 9, "partners": 2}),
    "repeats": (41, rank_functions.several, {"order": stoker.weighted(np.arange(41.0), steps=6), "partners": 1}),
    "batch function": (41, rank_functions.each_by_itself, {}),
    "one pass": (41, rank_functions.several, {"training": False, "epochs": 1}),
    "drop_last": (41, "numerical", {"drop_last": True})}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_parts_together_are_the_batches_of_one_trainer(ranks, name):
    data, generator, options = CASES[name]
    options = dict({"batch_size": 8, "epochs": 2, "seed": 5}, **options)
    one = consumed(data, generator, **options)
    several = of_ranks(ranks, data, generator, **options)
    assert_equal(one, several)
    if name in ("numerical", "sample function", "batch function", "one pass"):
        assert any(not len(part) and part.worker == "" for batches in several for part in batches)


@pytest.mark.parametrize("generator", ["image", "augmented"])
def test_pictures_are_the_same_with_a_cache_that_the_ranks_share(pictures, tmp_path, generator):
    options = {"image_size": 24, "batch_size": 7, "epochs": 2, "seed": 3, "validation": 0.2}
    one = consumed(pictures, generator, **options)
    several = of_ranks(2, pictures, generator, cache=str(tmp_path / "cache"), **options)
    assert_equal(one, several)


@pytest.fixture
def damaged(tmp_path):
    """A folder of 30 pictures, of which each fifth is no picture."""
    draw(str(tmp_path / "damaged"), "png", 30, (20, 20))
    for number in range(0, 30, 5):
        (tmp_path / "damaged" / ("left", "right")[number % 2] / ("%03d.png" % number)).write_bytes(b"no picture")
    return str(tmp_path / "damaged")


def test_bad_files_are_left_out_of_the_part_in_which_they_are(damaged, tmp_path):
    options = {"image_size": 16, "batch_size": 7, "epochs": 2, "seed": 3}
    one = consumed(damaged, **options)
    several = of_ranks(3, damaged, **options)
    assert_equal(one, several)
    assert sum(len(batch.skipped) for batch in one) == 12


def test_a_rank_that_has_the_bad_file_in_its_part_ends(tmp_path):
    draw(str(tmp_path / "photos"), "png", 9, (20, 20))
    (tmp_path / "photos" / "left" / "000.png").write_bytes(b"no picture")        # the first in this order
    options = {"image_size": 16, "batch_size": 9, "order": "sequential", "on_bad_image": "raise", "ranks": 3}
    with pytest.raises(stoker.RunFailed, match="left/000.png.*is a bad file"):
        consumed(str(tmp_path / "photos"), rank=0, **options)
    assert [len(consumed(str(tmp_path / "photos"), rank=rank, **options)[0]) for rank in (1, 2)] == [3, 3]


def test_a_batch_function_that_fails_without_samples_gets_no_empty_part(caplog):
    with caplog.at_level(logging.INFO, "stoker"):
        several = of_ranks(2, 17, rank_functions.whole, batch_size=8, seed=5)
    assert [len(batch) for batch in several[0]] == [4, 4, 0] and [len(batch) for batch in several[1]] == [4, 4, 1]
    assert len([line for line in caplog.messages if "treats each sample by itself" in line]) == 2
    again = of_ranks(2, 17, rank_functions.whole, batch_size=8, seed=5)
    for before, after in zip(sum(several, []), sum(again, [])):
        assert all(np.array_equal(before[name], after[name]) for name in before.names)


def test_a_run_goes_on_with_another_number_of_ranks():
    """1 -> 2 -> 3 -> 1."""
    options = {"batch_size": 8, "epochs": 3, "seed": 5}
    one = consumed(41, "numerical", **options)
    numbers = []
    for ranks, begin, end in ((1, 0, 4), (2, 4, 7), (3, 7, 13), (1, 13, 18)):
        for step, parts in enumerate(zip(*of_ranks(ranks, 41, "numerical", start_step=begin, **options)), begin):
            if step == end:
                break
            assert {part.step for part in parts} == {step}
            numbers += sum((part.indices for part in parts), ())
    assert tuple(numbers) == sum((batch.indices for batch in one), ())
    for epoch in range(3):
        assert sorted(numbers[41 * epoch:41 * (epoch + 1)]) == list(range(41))


def test_an_empty_position_needs_no_worker():
    with stoker.open_stream(17, "numerical", batch_size=16, rank=0, ranks=2, start_step=1, workers=0) as stream:
        batch = next(stream)
    assert len(batch) == 0 and batch.worker == "" and batch.indices == () and batch.global_size == 1
    assert batch.features.shape == (0, 10) and batch.labels.shape == (0, 1) and batch.labels.dtype == np.int32


@pytest.mark.parametrize("local_ranks, workers, started, trainers", [
    (None, "auto", 2, 2), (1, "auto", 4, 1), (None, 3, 3, 2), (None, 0, 0, 1)])
def test_the_ranks_of_a_host_share_its_cores(monkeypatch, caplog, local_ranks, workers, started, trainers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    with caplog.at_level(logging.INFO, "stoker"), stoker.open_stream(
            40, "numerical", batch_size=8, rank=1, ranks=2, local_ranks=local_ranks, workers=workers) as stream:
        wait_for(lambda: len(worker_pids()) == started, "%d workers" % started, 60)
        assert stream.pace.trainers == trainers
    line, = [line for line in caplog.messages if line.startswith("rank 1 of 2: samples 4 to 7 of each batch of 8")]
    assert ("its share of 4 cores" in line) == (workers == "auto")


def test_memory_is_that_of_the_parts():
    options = {"batch_size": 1 << 16, "prefetch_mb": 2.0, "workers": 0}       # 44 bytes a sample
    with pytest.raises(stoker.ConfigError, match="prefetch_mb 2 is too small"):
        stoker.open_stream(1 << 16, "numerical", **options)
    stoker.open_stream(1 << 16, "numerical", rank=1, ranks=2, **options).close()


def test_replacements_are_for_one_trainer(pictures):
    with pytest.raises(stoker.ConfigError, match="on_bad_image='replace' is for one trainer: with ranks=2"):
        stoker.open_stream(pictures, on_bad_image="replace", rank=0, ranks=2)


# -------------------------------------------------------------------------------------------------------- TensorFlow

def features_of_dataset(rank, ranks):
    tf = pytest.importorskip("tensorflow")
    options = {"batch_size": 8, "epochs": 1, "seed": 5, "rank": rank, "ranks": ranks, "workers": 1}
    with tf.Graph().as_default(), stoker.open_stream(43, "numerical", **options) as stream:
        features = stoker.dataset(stream).make_one_shot_iterator().get_next()["features"]
        found = []
        with tf.Session() as session:
            try:
                while True:
                    found.append(session.run(features))
            except tf.errors.OutOfRangeError:
                return found


def test_a_dataset_of_a_rank_has_its_part():
    one, several = features_of_dataset(0, 1), [features_of_dataset(rank, 2) for rank in range(2)]
    assert len(one) == 6
    for whole, parts in zip(one, zip(*several)):
        assert np.array_equal(np.concatenate(parts), whole)


def model(features, mode):
    """Predicts the features."""
    import tensorflow as tf
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"features": features})
    weight = tf.get_variable("weight", ())
    loss = weight * tf.reduce_mean(features)
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)


def predicted(tmp_path, rank, ranks):
    tf = pytest.importorskip("tensorflow")
    input_fn = stoker.input_fn(43, "numerical", features="features", batch_size=8, epochs=2, seed=5, workers=1,
                               rank=rank, ranks=ranks)
    estimator = tf.estimator.Estimator(model, str(tmp_path / ("%d of %d" % (rank, ranks))))
    estimator.train(input_fn)
    return estimator.get_variable_value("global_step"), [row["features"].tolist()
                                                         for row in estimator.predict(input_fn)]


@pytest.mark.filterwarnings("ignore:inspect.getargspec")
def test_an_estimator_of_a_rank_does_the_same_steps_with_its_part(tmp_path):
    (steps, one), *several = [predicted(tmp_path, rank, ranks) for rank, ranks in ((0, 1), (0, 2), (1, 2))]
    assert steps == 12 and {own for own, _ in several} == {12}
    assert sorted(sum((rows for _, rows in several), [])) == sorted(one) and len(one) == 43


@pytest.mark.filterwarnings("ignore:inspect.getargspec")
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_estimator_begins_at_the_step_that_a_hook_sets(tmp_path, ranks):
    """As Horovod's BroadcastGlobalVariablesHook does on all ranks but the one that restores the checkpoint."""
    tf = pytest.importorskip("tensorflow")

    class Broadcast(tf.train.SessionRunHook):
        def begin(self):
            self.assign = tf.assign(tf.train.get_global_step(), 7)

        def after_create_session(self, session, coord):
            session.run(self.assign)

    input_fn = stoker.input_fn(43, "numerical", features="features", batch_size=8, epochs=2, workers=1,
                               rank=ranks - 1, ranks=ranks, audit=str(tmp_path / "audit"))
    tf.estimator.Estimator(model, str(tmp_path / "model")).train(input_fn, hooks=[Broadcast()])
    with open(str(tmp_path / "audit")) as lines:
        steps = [json.loads(line)["step"] for line in lines]
    assert steps == list(range(7 if ranks > 1 else 0, 12))      # one trainer restores its own


def test_an_input_fn_refuses_a_part_that_will_be_empty():
    pytest.importorskip("tensorflow")
    for rank in range(3):
        with pytest.raises(stoker.ConfigError, match="the last batch of an epoch has fewer samples than there are"):
            stoker.input_fn(41, "numerical", features="features", batch_size=8, rank=rank, ranks=3)


# ------------------------------------------------------------------------------------------ docs/SEVERAL_TRAINERS.md

PAGE = "docs/SEVERAL_TRAINERS.md"


@pytest.fixture
def folder(tmp_path, pictures):
    """A folder with the programs of the page and photos/; ``python`` is found, and has Stoker."""
    os.symlink(pictures, str(tmp_path / "photos"))
    for name in ("rank.py", "towers.py", "rank_fleet.py"):
        (tmp_path / name).write_text(block(PAGE, "file: " + name))
    return tmp_path


def run(folder, *command):
    """Returns what it prints."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(command, cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, PYTHONPATH=ROOT, PATH=path), universal_newlines=True, timeout=240)
    assert done.returncode == 0 and "Traceback" not in done.stdout, done.stdout
    return done.stdout


def test_two_processes_get_what_one_trainer_gets(folder):
    said = run(folder, "sh", "-c", block(PAGE, "ranks: two"))
    assert said.count("16 of 32") == 2 * 2 * 3       # both ranks, two epochs, three whole batches of 96 samples
    said = run(folder, "sh", "-c", block(PAGE, "ranks: compare"))
    assert said.strip().endswith("6 steps, 192 samples: the same as in one.jsonl, to the byte")


def test_towers_train_with_the_parts_of_each_batch(folder):
    pytest.importorskip("tensorflow")
    assert "result: 6 of 6 steps, no bad files" in run(folder, sys.executable, "towers.py")


def test_one_fleet_serves_both_ranks(folder):
    first = consecutive_ports(4)
    run(folder, sys.executable, "-m", "stoker.pipeline.transport.keys", "keys", "alpha")
    shutil.copytree(str(folder / "keys" / "workers" / "alpha"), str(folder / "alpha"))
    program = (folder / "rank_fleet.py").read_text()
    (folder / "rank_fleet.py").write_text(program.replace("5555", str(first)))
    command = block(PAGE, "ranks: fleet").strip()
    for name, value in (("5555-5558", "%d-%d" % (first, first + 3)), ("TRAINER-HOST", "127.0.0.1"),
                        ("/mnt/photos", str(folder / "photos"))):
        assert name in command
        command = command.replace(name, value)
    arguments = shlex.split(command)[1:] + ["--processes", "1"]
    with Program(arguments, cwd=str(folder)) as fleet, Program(
            ["rank_fleet.py"], cwd=str(folder), RANK="0", RANKS="2") as first_rank, Program(
            ["rank_fleet.py"], cwd=str(folder), RANK="1", RANKS="2") as second_rank:
        for rank in (first_rank, second_rank):
            assert rank.wait(240) == 0 and rank.lines.count("7 12") == 1, rank.text + fleet.text
        fleet.send_signal(signal.SIGTERM)
        assert fleet.wait() == 0, fleet.text
