"""The first claim: a run consumes the same bytes in the same order, whichever workers produce them, and even if workers
are killed."""

import os
import random
import shutil
import time

import numpy as np
import pytest

from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.folder import scan_folder
from tests.support.processes import free_port, kill_one, opened, worker_pids, workers_program

BATCH = 16
EPOCHS = 2
STEPS_PER_EPOCH = 8          # 120 pictures
OPTIONS = {"image_size": (48, 64), "batch_size": BATCH, "epochs": EPOCHS, "seed": 5}


def consumed(data, audit, workers=1, **options):
    """A whole run, as a Run. It takes its first step when all workers have joined."""
    with opened(data, audit, workers=workers, **dict(OPTIONS, prefetch=max(2, workers), **options)) as run:
        run.joined(workers)
        run.take_all()
    return run


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """A function: generator -> the run of one worker over the pictures, with this Python's Pillow."""
    runs = {}

    def run(generator="image"):
        if generator not in runs:
            runs[generator] = consumed(pictures, tmp_path_factory.mktemp("reference") / "audit", generator=generator)
        return runs[generator]
    return run


def test_every_index_once_an_epoch_in_another_order(reference):
    entries = reference().entries()
    assert [(entry["step"], entry["epoch"]) for entry in entries] == [
        (step, step // STEPS_PER_EPOCH) for step in range(EPOCHS * STEPS_PER_EPOCH)]
    orders = [sum((entry["indices"] for entry in entries if entry["epoch"] == epoch), []) for epoch in range(EPOCHS)]
    assert [sorted(order) for order in orders] == [list(range(120))] * EPOCHS
    assert orders[0] != orders[1] != sorted(orders[1])
    assert all(entry["skipped"] == [] for entry in entries)


def test_batches_hold_the_pictures_that_the_audit_names(reference, pictures):
    dataset = scan_folder(pictures)
    for batch, entry in zip(reference().batches, reference().entries()):
        assert batch.images.shape == (len(entry["indices"]), 48, 64, 3)
        assert batch.labels[:, 0].tolist() == [dataset.labels[index] for index in entry["indices"]]


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_any_number_of_workers(reference, pictures, tmp_path, workers):
    run = consumed(pictures, tmp_path / "audit", workers)
    assert run.content() == reference().content()
    assert len({entry["worker"] for entry in run.entries()}) > 1, "only one of them worked: this proves nothing"


def test_augmented_is_varied_anew_each_epoch_and_repeatable(reference, pictures, tmp_path):
    plain, varied = reference(), reference("augmented")
    assert consumed(pictures, tmp_path / "audit", 3, generator="augmented").content() == varied.content()
    pixels = {}
    for name, run in (("plain", plain), ("varied", varied)):
        for batch in run.batches:
            for index, picture in zip(batch.indices, batch.images):
                pixels[name, batch.epoch, index] = picture.tobytes()
    assert all(pixels["plain", 0, index] == pixels["plain", 1, index] for index in range(120))
    differ = sum(pixels["varied", 0, index] != pixels["varied", 1, index] for index in range(120))
    assert 60 < differ < 120        # varied with probability 1/2 in each epoch: 90 of 120 are expected


def test_another_seed_is_another_order(reference, pictures, tmp_path):
    run = consumed(pictures, tmp_path / "audit", seed=6)
    assert all(one["indices"] != other["indices"] for one, other in zip(run.entries(), reference().entries()))


def test_only_workers_of_the_newest_python(pictures, tmp_path, worker_python):
    if worker_python is None:
        pytest.skip("STOKER_TEST_WORKER_PYTHON names no newer Python")
    one = consumed(pictures, tmp_path / "one", 1, worker_python=worker_python)
    three = consumed(pictures, tmp_path / "three", 3, worker_python=worker_python)
    assert three.content() == one.content()
    assert len({entry["worker"] for entry in three.entries()}) > 1


def test_the_same_pillow_decodes_the_same_on_another_python(pictures, tmp_path, python36, same_pillow_python):
    runs = [consumed(pictures, tmp_path / str(number), 2, worker_python=python, generator="augmented")
            for number, python in enumerate((python36, same_pillow_python))]
    pythons, pillows = zip(*[run.log.having(" joined (")[0].split(", ")[1:3] for run in runs])
    assert pythons[0] != pythons[1]
    if pillows[0] != pillows[1]:
        pytest.skip("not the same Pillow: %s and %s" % pillows)
    assert runs[0].content() == runs[1].content()


@pytest.mark.parametrize("generator", ["augmented", "numerical"])
def test_old_and_new_python_at_once(png_pictures, tmp_path, python36, worker_python, generator):
    # versions of Pillow differ in the results of resize by up to 1, so these pictures already have the right size
    if worker_python is None:
        pytest.skip("STOKER_TEST_WORKER_PYTHON names no newer Python")
    data = 120 if generator == "numerical" else png_pictures
    alone = consumed(data, tmp_path / "alone", 1, generator=generator)
    address = "tcp://127.0.0.1:%d" % free_port()
    with opened(data, tmp_path / "audit", workers=0, bind=address, prefetch=4, generator=generator,
                **OPTIONS) as run, \
            workers_program(address, "--processes", "1", "--once", python=python36) as old, \
            workers_program(address, "--processes", "1", "--once", python=worker_python) as new:
        run.joined(2)
        run.take_all()
        run.stream.close()
        assert (old.wait(), new.wait()) == (0, 0)
    versions = sorted(line.split("python ")[1].split(",")[0] for line in run.log.having(" joined ("))
    assert versions[0] != versions[1]
    supervisors = {int(entry["worker"].split(":")[-1].split("/")[0]) for entry in run.entries()}
    assert supervisors == {old.pid, new.pid}, "not both worked: this proves nothing"
    assert run.content() == alone.content()


@pytest.mark.parametrize("generator", ["image", "augmented"])
def test_a_worker_killed_every_second(reference, pictures, tmp_path, own_generators, generator):
    slow = {"image": "user_generators:slow", "augmented": "user_generators:slow_augmented"}[generator]
    choice = random.Random(generator)
    kills, killed_s = 0, time.monotonic()
    # more epochs than are used, because three kills must fit in; the first two are those of the reference
    with opened(pictures, tmp_path / "audit", workers=3, prefetch=6, generator=slow,
                **dict(OPTIONS, epochs=EPOCHS + 20)) as run:
        run.joined(3)
        while kills < 3 or len(run.batches) < EPOCHS * STEPS_PER_EPOCH:
            if time.monotonic() - killed_s >= 1.0 and worker_pids():
                kill_one(choice)
                kills, killed_s = kills + 1, time.monotonic()
            run.take(1)
            time.sleep(0.1)       # the time of a step, so that every kill hits a working worker
        run.log.wait_for("its predecessor ended with SIGKILL")
    steps = [(entry["step"], entry["epoch"]) for entry in run.entries()]
    assert steps == [(step, step // STEPS_PER_EPOCH) for step in range(len(steps))]
    assert run.content()[:EPOCHS * STEPS_PER_EPOCH] == reference(generator).content()


# ---------------------------------------------------------------------------------------------------------- bad files

def test_skipped_files_shrink_their_batch_and_shift_nothing(reference, pictures, tmp_path):
    root = str(tmp_path / "pictures")
    shutil.copytree(pictures, root)
    dataset = scan_folder(root)
    gone, text = 17, 80
    os.remove(os.path.join(root, dataset.paths[gone]))        # after the scan
    with open(os.path.join(root, dataset.paths[text]), "w") as file:
        file.write("no picture")
    run = consumed(dataset, tmp_path / "audit", 2)
    for whole, batch, entry in zip(reference().batches, run.batches, run.entries()):
        bad = [index for index in whole.indices if index in (gone, text)]
        kept = [place for place, index in enumerate(whole.indices) if index not in bad]
        assert batch.indices == whole.indices
        assert entry["skipped"] == [skip.index for skip in batch.skipped] == bad
        assert np.array_equal(batch.images, whole.images[kept])
        assert np.array_equal(batch.labels, whole.labels[kept])
    assert sum(len(batch) for batch in run.batches) == EPOCHS * (120 - 2)
    assert set(run.stream.skipped) == {dataset.paths[gone], dataset.paths[text]}
    assert len(run.log.having(dataset.paths[gone])) == 1     # logged once, not once an epoch
    assert "no such file" in run.stream.skipped[dataset.paths[gone]]


def test_a_batch_without_any_good_file_is_an_empty_step(reference, pictures, tmp_path):
    root = str(tmp_path / "pictures")
    shutil.copytree(pictures, root)
    dataset = scan_folder(root)
    bad = Plan(120, BATCH, EPOCHS, OPTIONS["seed"]).at(3).indices
    for index in bad:
        with open(os.path.join(root, dataset.paths[index]), "w"):
            pass                                              # an empty file
    run = consumed(dataset, tmp_path / "audit", 2)
    empty = run.batches[3]
    assert (len(empty), empty.images.shape, empty.labels.shape) == (0, (0, 48, 64, 3), (0, 1))
    assert run.entries()[3] == dict(run.entries()[3], step=3, indices=list(bad), skipped=list(bad), crc32=0)
    first = [entry for entry in run.content() if entry[1] == 0 and entry[0] != 3]
    assert first == [entry for entry in reference().content() if entry[1] == 0 and entry[0] != 3]
    assert [entry[:3] for entry in run.content()] == [entry[:3] for entry in reference().content()]
