"""The checkpoint folder when something is wrong with it: damaged files, paths that are patterns, no locks, a full disk,
a clock that is set back."""

import errno
import json
import os
import re
import shutil
import signal

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import ConfigError, StokerError
from stoker.trainer.run import prepare
from tests.faults.state_faults import KINDS, Fault, apply, content
from tests.support.broken_system import can_lack_flock
from tests.support.processes import Program, interpreter
from tests.support.training import Finished, Trainer, arguments, audit, consumed, finished, predicted

tf = pytest.importorskip("tensorflow")

EPOCHS, STEPS, IMAGES = 3, 4, 24
RECORDS = ("stoker.json", "stoker-rows.npy", "stoker-run.json", "stoker-samples.gz")


class Broken(Trainer):
    """The command line on a system that lacks something: see ``broken_system``."""
    module = "tests.support.broken_system"


def broken(folder, fault, *options):
    with Broken(folder, fault, "trainer", *options) as trainer:
        return Finished(trainer)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 tiny pictures in two classes, one of which is torn."""
    from PIL import Image
    root = tmp_path_factory.mktemp("state") / "photos"
    for number in range(IMAGES):
        path = root / ("cat", "dog")[number % 2] / ("%02d.png" % number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), 10 * number, np.uint8)).save(str(path))
    os.truncate(str(root / "cat" / "10.png"), 20)
    return str(root)


def options(photos, folder, **changed):
    """The options of a run whose files are in ``folder``."""
    named = dict(image_size=8, batch_size=5, epochs=EPOCHS, checkpoint_dir=folder / "checkpoints",
                 audit=folder / "audit.jsonl", workers=1)
    if interpreter("STOKER_TEST_WORKER_PYTHON"):
        named["worker_python"] = interpreter("STOKER_TEST_WORKER_PYTHON")
    return [photos] + arguments({name: value for name, value in dict(named, **changed).items() if value is not None})


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """The folder of a run of all epochs, and of one that has two epochs behind it."""
    folders = []
    for epochs in (EPOCHS, EPOCHS - 1):
        folder = tmp_path_factory.mktemp("trained-%d" % epochs)
        temporary = tmp_path_factory.mktemp("temporary")
        run = finished(folder / "here", *options(photos, folder, epochs=epochs), TMPDIR=str(temporary))
        assert run.code == 0, run
        folders.append(folder)
    return folders


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the folder that has two epochs behind it, and checkpoints of the steps 4 and 8."""
    for name in ("checkpoints", "audit.jsonl"):
        source = trained[1] / name
        (shutil.copytree if source.is_dir() else shutil.copy)(str(source), str(tmp_path / name))
    return tmp_path


def same_as_undisturbed(trained, folder):
    """The run consumed and listed what an undisturbed one did, and left the same files."""
    whole = trained[0]
    assert consumed(audit(folder / "audit.jsonl")) == consumed(audit(whole / "audit.jsonl"))
    assert [line["step"] for line in audit(folder / "audit.jsonl")] == list(range(EPOCHS * STEPS))
    name = "checkpoints/bad-samples.tsv"
    assert (folder / name).read_text() == (whole / name).read_text()
    assert (folder / "checkpoints" / "checkpoint").read_text() == (whole / "checkpoints" / "checkpoint").read_text()


def refused(run, word):
    last = run.stderr.splitlines()[-1]
    assert run.code in (1, 2) and last.startswith("stoker-train: error: ") and word in last, run
    assert "Traceback" not in run.stderr and run.stderr.count("error:") == 1, run
    return last


# ----------------------------------------------------------------------------------- each file, each way, one by one

def resumed(photos, folder):
    """Where the run would begin; or the sentence in which it would end."""
    from stoker.trainer import checkpoint
    from stoker.trainer.checkpoint_files import CheckpointFolder
    run = prepare(photos, image_size=8, batch_size=5, epochs=EPOCHS, validation=0.2)
    with CheckpointFolder(str(folder / "checkpoints")) as opened:
        try:
            return checkpoint.resume(opened, run)
        except StokerError as error:
            return str(error)


@pytest.mark.parametrize("change", [
    {"batch_size": None}, {"batch_size": "5"}, {"batch_size": True}, {"dataset": 7}, {"image_size": 8}, {"seed": 0.5},
    {"plan": "1"}, {"decode": None}, {"generator": ["image"]}, {"validation_split": "0.2"}, "batch_size", "dataset",
    "image_size", "seed", "plan", "decode", "generator", "validation_split", "all"], ids=str)
def test_a_record_without_what_every_record_has(photos, folder, change):
    path = folder / "checkpoints" / "stoker.json"
    record = json.loads(path.read_text())
    record.pop("checksum")
    if isinstance(change, dict):
        record.update(change)
    else:
        record = {name: value for name, value in record.items() if change not in ("all", name)}
    path.write_text(json.dumps(record))
    before = content(str(folder))
    assert re.search(r"no readable stoker.json \(it is damaged: it(s| has no) ", resumed(photos, folder))
    assert content(str(folder)) == before


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_in_each_way_is_never_a_silent_restart(photos, folder, kind):
    from stoker.trainer.record import files as records
    checkpoints = folder / "checkpoints"
    for name in sorted(os.listdir(str(checkpoints))):
        path, saved = str(checkpoints / name), str(folder / "saved")
        shutil.copy2(path, saved)
        for where in (0.0, 0.02, 0.3, 0.7, 0.999):
            apply(str(checkpoints), Fault(name, "removed" if kind == "unreadable" else kind, where))
            if kind == "unreadable":
                os.symlink("nowhere/at/all", path)          # for root too
            before = content(str(checkpoints))
            start = resumed(photos, folder)
            assert content(str(checkpoints)) == before
            if name == "stoker.json":
                assert isinstance(start, str), (name, where, start)
            elif name.startswith("model.ckpt-8") and not name.endswith(".meta"):
                # a byte at which nothing lies: the index ends with padding, and an empty table
                assert start.step == 4 and "steps 4 to 7 are done again" in start.notice("ck") or (
                    kind == "byte changed" and name.endswith(".index") and where > 0.9), (name, where, start)
            elif kind in ("a folder", "unreadable") and name in ("checkpoint", *records.FILES):
                assert re.search("/%s is a (folder|link), and Stoker needs that name for a file of its own" % name,
                                 start), (name, where, start)
            else:
                assert (start.step, start.damaged) == (8, ()) or (
                    name == "checkpoint" and kind == "byte changed" and start.step == 8), (name, where, start)
            (os.rmdir if os.path.isdir(path) and not os.path.islink(path) else
             os.remove if os.path.lexists(path) else lambda _: None)(path)
            shutil.copy2(saved, path)


def test_no_checkpoint_that_is_whole(photos, folder):
    for name in os.listdir(str(folder / "checkpoints")):
        if name.endswith(".index"):
            os.truncate(str(folder / "checkpoints" / name), 0)
    before = content(str(folder))
    sentence = resumed(photos, folder)
    assert "no checkpoint that can be restored (model.ckpt-8.index: it is empty; model.ckpt-4.index: it is empty)" in \
        sentence and "so nothing was changed: put back a copy" in sentence
    assert content(str(folder)) == before


def test_files_of_checkpoints_without_anything_else(photos, tmp_path):
    for name in ("checkpoint", "model.ckpt-4.index", "model.ckpt-4.data-00000-of-00001"):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / name).write_text("")
        assert "so its run is unknown and nothing was changed" in resumed(photos, folder)
        assert os.listdir(str(folder / "checkpoints")) == [name]


def test_a_record_with_another_value_is_damaged(photos, folder):
    """A changed digit is no other configuration, which one would be told to use."""
    path = folder / "checkpoints" / "stoker.json"
    path.write_text(path.read_text().replace('"batch_size": 5', '"batch_size": 7'))
    assert "no readable stoker.json (it is damaged)" in resumed(photos, folder)


def test_a_record_of_the_model_with_another_value_is_damaged(folder):
    from stoker.trainer.checkpoint_files import CheckpointFolder
    from stoker.trainer.record import files as records
    path = folder / "checkpoints" / "stoker-run.json"
    path.write_text(path.read_text().replace('"cat"', '"cow"'))
    with CheckpointFolder(str(folder / "checkpoints")) as opened:
        with pytest.raises(ConfigError, match=r"no readable stoker-run.json \(it is damaged\)"):
            records.recorded_run(opened)


def test_a_folder_where_a_file_belongs(photos, folder):
    (folder / "checkpoints" / "checkpoint").unlink()
    (folder / "checkpoints" / "checkpoint").mkdir()
    assert ("checkpoint is a folder, and Stoker needs that name for a file of its own: remove it"
            in resumed(photos, folder))


def test_a_record_of_an_older_release_goes_on(photos, folder):
    path = folder / "checkpoints" / "stoker.json"
    path.write_text(re.sub(r' "checksum": \d+,\n', "", path.read_text()))
    assert "checksum" not in path.read_text() and resumed(photos, folder).step == 8


def test_a_checkpoint_of_no_step_locks_no_folder(photos, folder):
    """As releases before made one at the start of a run."""
    checkpoints = folder / "checkpoints"
    for name in os.listdir(str(checkpoints)):
        if name.startswith("model.ckpt-"):
            (checkpoints / name).unlink()
    (checkpoints / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-0"\n')
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        session.run(step.initializer)
        tf.train.Saver().save(session, str(checkpoints / "model.ckpt"), 0, write_state=False)
    assert resumed(photos, folder) == (0, "model.ckpt-0", ())
    record = checkpoints / "stoker.json"
    text = re.sub(r' "checksum": \d+,\n', "", record.read_text())
    record.write_text(text.replace('"batch_size": 5', '"batch_size": 7'))
    assert resumed(photos, folder) == (0, None, ())


# ---------------------------------------------------------------------------------------------------- the whole program

def test_a_torn_file_checkpoint_costs_nothing(photos, trained, folder):
    os.truncate(str(folder / "checkpoints" / "checkpoint"), 30)
    run = finished(folder / "here", *options(photos, folder))
    assert run.code == 0 and "going on from step 8 of 12" in run.stdout and "cannot be" not in run.stderr, run
    same_as_undisturbed(trained, folder)


def test_a_damaged_newest_checkpoint_costs_its_steps(photos, trained, folder):
    path = folder / "checkpoints" / "model.ckpt-8.data-00000-of-00001"
    os.truncate(str(path), path.stat().st_size - 100)
    run = predicted(folder / "here", folder / "checkpoints", photos, "-o", "out.csv", "--workers", 1)
    assert run.code == 0 and "so steps 4 to 7 are done again" in run.stderr, run
    assert "by the checkpoint %s, in" % (folder / "checkpoints" / "model.ckpt-4") in run.stderr, run
    run = finished(folder / "here", *options(photos, folder))
    assert run.code == 0 and "going on from step 4 of 12" in run.stdout, run
    said, = [line for line in run.stderr.splitlines() if "cannot be restored" in line]
    assert said.endswith("; the newest one that can is of step 4, so steps 4 to 7 are done again"), run
    same_as_undisturbed(trained, folder)
    assert not [name for name in os.listdir(str(folder / "checkpoints")) if "damaged" in name]


def test_nothing_is_changed_when_the_record_is_gone(photos, folder):
    (folder / "checkpoints" / "stoker.json").unlink()
    before = content(str(folder))
    run = finished(folder / "here", *options(photos, folder))
    refused(run, "no readable stoker.json (it is gone)")
    os.rmdir(str(folder / "here"))
    assert content(str(folder)) == before


def test_as_many_checkpoints_stay_as_the_option_says(photos, trained, tmp_path):
    names = [name for name in os.listdir(str(trained[0] / "checkpoints")) if name.endswith(".index")]
    assert sorted(names) == ["model.ckpt-12.index", "model.ckpt-8.index"]
    run = finished(tmp_path / "here", *options(photos, tmp_path, keep_checkpoints=1))
    assert run.code == 0, run
    names = [name for name in os.listdir(str(tmp_path / "checkpoints")) if not name.startswith("events")]
    assert sorted(names) == sorted(
        ["bad-samples.tsv", "checkpoint", "model.ckpt-12.data-00000-of-00001", "model.ckpt-12.index",
         "model.ckpt-12.meta", "stoker.lock", *RECORDS])
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")) == str(tmp_path / "checkpoints" / "model.ckpt-12")


def test_a_run_that_trained_no_step_leaves_no_checkpoint(photos, tmp_path):
    with Trainer(tmp_path / "here", *options(photos, tmp_path, workers=0, worker_python=None)) as trainer:
        trainer.wait_until(lambda: "waiting for workers" in trainer.stdout, "the trainer to wait")
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait_gone() == 128 + signal.SIGTERM
    assert not [name for name in os.listdir(str(tmp_path / "checkpoints")) if "ckpt" in name or name == "checkpoint"]
    run = finished(tmp_path / "here", *options(photos, tmp_path, batch_size=7, epochs=1))
    assert run.code == 0, run


@pytest.mark.parametrize("name", ["p[1]", "a*b? \\ back\\slash\n für %s"])
def test_any_path_of_the_checkpoints(photos, trained, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    shutil.copytree(str(trained[1] / "checkpoints"), str(folder / "checkpoints"))
    shutil.copy(str(trained[1] / "audit.jsonl"), str(folder))
    run = finished(tmp_path / "here", *options(photos, folder))
    assert run.code == 0 and "going on from step 8 of 12" in run.stdout, run
    same_as_undisturbed(trained, folder)
    if name == "p[1]":
        run = predicted(tmp_path / "here", folder / "checkpoints", photos, "-o", "out.csv", "--workers", 1)
        assert run.code == 0 and "predicted 23 of 24 images by the checkpoint" in run.stderr, run
        os.truncate(str(folder / "checkpoints" / "model.ckpt-12.index"), 50)
        os.truncate(str(folder / "checkpoints" / "model.ckpt-8.index"), 50)
        assert "/proc/" not in refused(finished(tmp_path / "here", *options(photos, folder, epochs=4)), "p[1]")


def test_a_refused_start_leaves_no_folder(photos, tmp_path):
    run = finished(tmp_path / "here", *options(photos, tmp_path, audit="/proc/no-audit"))
    assert refused(run, "audit: cannot write").endswith("; make it writable, or name another place")
    assert not (tmp_path / "checkpoints").exists()


def test_a_folder_that_is_removed_while_the_training_runs(photos, tmp_path):
    with Trainer(tmp_path / "here", *options(photos, tmp_path, epochs=1000, audit=None)) as trainer:
        trainer.wait_until(lambda: (tmp_path / "checkpoints" / "checkpoint").exists(), "a checkpoint")
        os.rename(str(tmp_path / "checkpoints"), str(tmp_path / "moved"))       # so that it is gone at once
        while (tmp_path / "moved").exists():
            shutil.rmtree(str(tmp_path / "moved"), ignore_errors=True)
        assert trainer.wait_gone() == 1
        last = trainer.stderr.splitlines()[-1]
        assert "its folder %s was removed while the training ran" % (tmp_path / "checkpoints") in last, last
        assert "make room" not in last and "Traceback" not in trainer.stderr


# ------------------------------------------------------------------------------------------------ programs of one's own

@pytest.fixture
def saved(tmp_path):
    """The folder of a session of TensorFlow's own, with checkpoints of the steps 2 and 4."""
    folder = tmp_path / "run"
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        count = tf.assign_add(step, 1)
        with tf.train.MonitoredTrainingSession(checkpoint_dir=str(folder), save_checkpoint_steps=2,
                                               save_summaries_steps=None, log_step_count_steps=None) as session:
            for _ in range(4):
                session.run(count)
    for name in os.listdir(str(folder)):
        if name.startswith("model.ckpt-0"):
            (folder / name).unlink()
    return folder


def restored(folder):
    """The step at which TensorFlow's session begins, after ``recover``."""
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        with tf.train.MonitoredTrainingSession(checkpoint_dir=stoker.recover(str(folder)), save_checkpoint_secs=None,
                                               save_summaries_steps=None, log_step_count_steps=None) as session:
            return int(session.run(step))


def test_a_session_of_one_s_own(saved, caplog):
    before = content(str(saved))
    assert stoker.recover(str(saved)) == str(saved) and content(str(saved)) == before
    for text in ("", 'model_checkpoint_path: "mod', "\0\0\0"):
        (saved / "checkpoint").write_text(text)
        assert restored(saved) == 4
    (saved / "checkpoint").unlink()
    assert restored(saved) == 4 and not caplog.records
    os.truncate(str(saved / "model.ckpt-4.data-00000-of-00001"), 3)
    assert restored(saved) == 2
    assert "so steps 2 to 3 are done again" in caplog.records[0].getMessage()
    assert (saved / "model.ckpt-4.index.damaged").exists()
    assert restored(saved) == 2 and len(caplog.records) == 1


def test_a_session_of_one_s_own_without_a_whole_checkpoint(saved):
    for name in ("model.ckpt-2.index", "model.ckpt-4.index"):
        os.truncate(str(saved / name), 60)
    before = content(str(saved))
    with pytest.raises(stoker.CheckpointMismatch, match="but no checkpoint that can be restored"):
        stoker.recover(str(saved))
    assert content(str(saved)) == before


def test_what_needs_no_recovery(tmp_path):
    assert stoker.recover(None) is None
    assert stoker.recover(str(tmp_path / "new")) == str(tmp_path / "new") and not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    assert stoker.recover(str(tmp_path / "empty")) == str(tmp_path / "empty")
    with pytest.raises(ConfigError, match="for a pattern: choose another folder"):
        stoker.recover(str(tmp_path / "p[1]"))


ESTIMATOR = """
import sys
import stoker, tensorflow as tf
photos, python, epochs = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
tf.logging.set_verbosity(tf.logging.ERROR)

def model_fn(features, labels, mode):
    loss = tf.reduce_mean(tf.layers.dense(tf.layers.flatten(tf.to_float(features)), 1) ** 2)
    train = tf.train.AdamOptimizer().minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)

if __name__ == "__main__":
    config = tf.estimator.RunConfig(save_checkpoints_steps=2, tf_random_seed=1)
    tf.estimator.Estimator(model_fn, "model", config).train(stoker.input_fn(
        photos, image_size=8, batch_size=6, epochs=epochs, on_bad_image="replace", workers=1, worker_python=python,
        features="images", audit="audit.jsonl"))
"""


def test_an_estimator_with_a_torn_file_checkpoint(photos, tmp_path):
    (tmp_path / "program.py").write_text(ESTIMATOR)

    def trained_for(epochs):
        with Program([str(tmp_path / "program.py"), photos, interpreter("STOKER_TEST_WORKER_PYTHON") or "",
                      str(epochs)], cwd=str(tmp_path)) as program:
            assert program.wait() == 0, program.text
    trained_for(1)
    first = audit(tmp_path / "audit.jsonl")
    os.truncate(str(tmp_path / "model" / "checkpoint"), 30)
    trained_for(2)
    lines = audit(tmp_path / "audit.jsonl")
    # with the name of the worker process: the lines of the first run are still there
    assert len(first) == 4 and lines[:4] == first and [line["step"] for line in lines] == list(range(8))


# ------------------------------------------------------------------------------------------------- what systems lack

@pytest.mark.skipif(not can_lack_flock(), reason="the filter of system calls is for x86-64 and aarch64")
def test_a_file_system_without_locks_is_one_warning(photos, trained, tmp_path):
    run = broken(tmp_path / "here", "no-flock", *options(photos, tmp_path, cache=tmp_path / "cache"))
    assert run.code == 0, run
    said, = [line for line in run.stderr.splitlines() if "has no locks" in line]
    assert "(Function not implemented), so Stoker cannot notice a second trainer" in said
    same_as_undisturbed(trained, tmp_path)


def test_a_full_disk_is_one_sentence_and_the_run_resumes(photos, trained, tmp_path):
    """A file that cannot grow: for the data of a checkpoint, and for its small files."""
    shutil.copytree(str(trained[1] / "checkpoints"), str(tmp_path / "checkpoints"))
    shutil.copy(str(trained[1] / "audit.jsonl"), str(tmp_path))
    before = content(str(tmp_path / "checkpoints"))
    run = broken(tmp_path / "here", "small-files=400000", *options(photos, tmp_path))
    said = refused(run, "the checkpoint of step 12 cannot be written to %s/checkpoints: " % tmp_path)
    assert said.endswith("make room there, and start again to go on from step 8"), said
    after = content(str(tmp_path / "checkpoints"))
    same = set(before) - {"stoker-run.json"}           # which says where the audit is now
    assert {name: after[name] for name in same} == {name: before[name] for name in same}     # and events
    assert all(name.startswith("events") for name in set(after) - set(before))
    run = finished(tmp_path / "here", *options(photos, tmp_path))
    assert run.code == 0 and "going on from step 8 of 12" in run.stdout, run
    same_as_undisturbed(trained, tmp_path)


def test_a_record_that_cannot_be_written_is_one_sentence(photos, folder, monkeypatch):
    from stoker.trainer.checkpoint_files import CheckpointFolder
    from stoker.trainer.record import files as records
    run = prepare(photos, image_size=8, batch_size=5, epochs=EPOCHS, validation=0.2)
    before = content(str(folder / "checkpoints"))

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", full)
    with CheckpointFolder(str(folder / "checkpoints")) as opened:
        with pytest.raises(ConfigError, match="stoker-run.json in the checkpoint directory .* cannot be used: No sp"):
            records.write_run(opened, run, "another:model", {})
    assert content(str(folder / "checkpoints")) == before


@pytest.mark.parametrize("output", ["out.csv", "-"])
def test_predictions_on_a_full_disk(photos, trained, tmp_path, output):
    (tmp_path / "list.txt").write_text("%s/cat/02.png\n" % photos * 300)
    full = os.open("/dev/full", os.O_WRONLY)
    with Broken(tmp_path / "here", "small-files=9000", "trainer.predict", trained[1] / "checkpoints",
                tmp_path / "list.txt", "--root", photos, "-o", output, "--workers", 1,
                output=full if output == "-" else None) as program:
        os.close(full)
        assert program.wait_gone() in (1, 2)
        assert program.stderr.splitlines()[-1].startswith("stoker-predict: error: cannot write "), program.stderr
        assert "Traceback" not in program.stderr
    assert os.listdir(str(tmp_path / "here")) == []


def test_a_clock_that_is_set_back_delays_no_checkpoint(photos, tmp_path):
    run = broken(tmp_path / "here", "clock-back", *options(photos, tmp_path, epochs=1, batch_size=4,
                                                           checkpoint_secs=1e-6, keep_checkpoints=100))
    assert run.code == 0, run
    names = [name for name in os.listdir(str(tmp_path / "checkpoints")) if name.endswith(".index")]
    assert sorted(names) == ["model.ckpt-%d.index" % step for step in range(1, 6)]
    assert "loss=" in run.stderr, run         # the progress too
