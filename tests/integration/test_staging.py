"""``--feed staged`` gives the same bits as ``--feed direct``, also if the run is killed or stopped and resumed."""

import json
import os
import re
import signal
import time
from collections import namedtuple
from contextlib import suppress

import numpy as np
import pytest

from stoker.pipeline.coordinator.buffers import RECYCLE_FROM_BYTES
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources import sample_data
from stoker.pipeline.sources.folder import scan_folder
from tests.support.asking import ask
from tests.support.processes import interpreter
from tests.support.training import Trainer, arguments, audit, consumed, finished

tf = pytest.importorskip("tensorflow")

from stoker.trainer.staging import feed_direct, feed_staged, stage  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:inspect.getargspec")     # TensorFlow's own, in tf.contrib

PICTURES, BATCH_SIZE, SIDE, EPOCHS, SEED, SPLIT = 240, 7, 64, 4, 3, 0.2
STEPS = 28                     # of an epoch; the last batch of each is a short one
EMPTY = (0, 5, 6, 27)          # steps of the first epoch whose samples are all bad


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures; all of some batches are bad. Not to be changed."""
    folder = str(tmp_path_factory.mktemp("staging") / "photos")
    sample_data.write(folder, PICTURES)
    training, validation = scan_folder(folder).split(SPLIT, SEED)
    plan = Plan(len(training), BATCH_SIZE, EPOCHS, SEED, len(validation))
    assert plan.steps_per_epoch == STEPS and len(training) % BATCH_SIZE
    for step in EMPTY:
        for index in plan.at(plan.position_of(step)).indices:
            with open(os.path.join(folder, training.paths[index]), "wb") as file:
                file.write(b"no picture")
    return folder


def options(photos, folder, feed, **changed):
    # so few batches that their memory is soon used again
    assert BATCH_SIZE * SIDE * SIDE * 3 >= RECYCLE_FROM_BYTES
    named = dict(image_size=SIDE, batch_size=BATCH_SIZE, epochs=EPOCHS, seed=SEED, generator="augmented", prefetch=4,
                 validation_split=SPLIT, checkpoint_dir=folder / "checkpoints", checkpoint_secs=0.2,
                 audit=folder / "audit.jsonl", workers=2, feed=feed)
    if interpreter("STOKER_TEST_WORKER_PYTHON"):
        named["worker_python"] = interpreter("STOKER_TEST_WORKER_PYTHON")
    return [photos] + arguments(dict(named, **changed))


@pytest.fixture(scope="module")
def direct(photos, tmp_path_factory):
    """(the folder of a run from the first step to the last, how it ended). Not to be changed."""
    folder = tmp_path_factory.mktemp("direct")
    run = finished(folder / "here", *options(photos, folder, "direct"),
                   TMPDIR=str(tmp_path_factory.mktemp("temporary")))
    assert run.code == 0, run
    return folder, run


def weights(folder):
    """The content of the newest checkpoint: weights, Adam's moments, the step."""
    reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(folder / "checkpoints")))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def same_weights(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert ours["global_step"] == STEPS * EPOCHS and sorted(ours) == sorted(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], name)


def scalars(folder):
    """{(tag, step): value} of the training and validation scalars for TensorBoard."""
    found = {}
    for path in (folder / "checkpoints").glob("events.*"):
        for event in tf.train.summary_iterator(str(path)):
            found.update({(value.tag, event.step): value.simple_value for value in event.summary.value
                          if value.tag.startswith(("train/", "validation/"))})
    return found


def evaluations(run):
    return re.findall(r"^epoch \d+: validation .*$", run.stdout, re.MULTILINE)


def test_a_staged_run_gives_the_same_bits_as_a_direct_one(direct, photos, tmp_path):
    run = finished(tmp_path / "here", *options(photos, tmp_path, "staged"))
    assert run.code == 0, run
    same_weights(tmp_path, direct[0])
    assert evaluations(run) == evaluations(direct[1]) and len(evaluations(run)) == EPOCHS
    found = scalars(tmp_path)
    assert len(found) > 4 * EPOCHS and found == scalars(direct[0])
    lines = audit(tmp_path / "audit.jsonl")
    assert consumed(lines) == consumed(audit(direct[0] / "audit.jsonl"))
    assert [line["step"] for line in lines[:STEPS] if len(line["skipped"]) == len(line["indices"])] == list(EMPTY)


def test_pictures_of_the_status_page_change_no_bit_of_a_staged_run(direct, photos, tmp_path):
    """The batch that is shown is one that TensorFlow holds, too."""
    shown = []
    with Trainer(tmp_path / "here", *options(photos, tmp_path, "staged", status="127.0.0.1:0")) as trainer:
        trainer.wait_until(lambda: "status: http://" in trainer.stdout + trainer.stderr, "the status address")
        url = re.search(r"status: (http://[0-9.:]+)/", trainer.stdout + trainer.stderr).group(1)
        with suppress(OSError):                # until the address is gone
            while True:
                said = json.loads(ask(url, "/batch.json")[2].decode())
                if said["step"] is not None and said not in shown:
                    shown.append(said)
                time.sleep(0.05)
        assert trainer.wait_gone() == 0
    assert shown and all(sample["name"] for said in shown for sample in said["samples"])
    same_weights(tmp_path, direct[0])
    assert consumed(audit(tmp_path / "audit.jsonl")) == consumed(audit(direct[0] / "audit.jsonl"))


def test_a_killed_staged_run_resumes(direct, photos, tmp_path):
    def in_mid_epoch():
        step = max((int(path.stem.split("-")[1]) for path in (tmp_path / "checkpoints").glob("model.ckpt-*.index")),
                   default=0)
        return step > STEPS and step % STEPS and len(audit(tmp_path / "audit.jsonl")) > step + 3
    with Trainer(tmp_path / "here", *options(photos, tmp_path, "staged")) as trainer:
        trainer.wait_until(in_mid_epoch, "a checkpoint in mid-epoch and some steps behind it")
        trainer.send_signal(signal.SIGKILL)
        assert trainer.wait_gone() == -signal.SIGKILL
    run = finished(tmp_path / "here", *options(photos, tmp_path, "staged"))
    assert run.code == 0, run
    same_weights(tmp_path, direct[0])
    assert consumed(audit(tmp_path / "audit.jsonl")) == consumed(audit(direct[0] / "audit.jsonl"))


@pytest.mark.parametrize("then", ["staged", "direct"])
def test_a_batch_that_is_staged_at_sigterm_is_trained_on(direct, photos, tmp_path, then):
    with Trainer(tmp_path / "here", *options(photos, tmp_path, "staged", checkpoint_secs=1000)) as trainer:
        trainer.wait_until(lambda: len(audit(tmp_path / "audit.jsonl")) > STEPS + 5, "a step in the second epoch")
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait_gone() == 128 + signal.SIGTERM
        steps = int(weights(tmp_path)["global_step"])
        assert trainer.stdout.splitlines()[-3].startswith("stopped after step %d: " % steps)
    assert len(audit(tmp_path / "audit.jsonl")) == steps < STEPS * EPOCHS
    run = finished(tmp_path / "here", *options(photos, tmp_path, then))
    assert run.code == 0 and "going on from step %d of " % steps in run.stdout, run
    same_weights(tmp_path, direct[0])
    assert consumed(audit(tmp_path / "audit.jsonl")) == consumed(audit(direct[0] / "audit.jsonl"))


# ----------------------------------------------------------------------------------------------------- step inputs

Places = namedtuple("Places", "arrays put stage")


class Some:
    """A batch with the attributes that feeds use."""

    def __init__(self, name, training=True, count=2):
        self.name, self.training, self._count = name, training, count

    def __getitem__(self, name):
        return "%s.%s" % (self.name, name)

    def __len__(self):
        return self._count


def played(feed):
    """(batch that is trained or evaluated on, its feed, whether put runs) of each session.run."""
    return [(None if one.batch is None else one.batch.name, one.feed, one.put) for one in feed]


def test_which_batch_is_fed_when():
    names = ("image", "boxes", "boxes.sizes")
    model = Places({name: "to " + name for name in names}, None,
                   Places({name: "stage to " + name for name in names}, "put", None))

    def at(place, name):
        return {"%sto %s" % (place, array): "%s.%s" % (name, array) for array in names}
    batches = [Some("a"), Some("b"), Some("c"), Some("none", count=0), Some("d"), Some("held out", training=False),
               Some("held out, too", training=False), Some("e")]
    assert played(feed_staged(model, batches)) == [
        (None, at("stage ", "a"), "put"), ("a", at("stage ", "b"), "put"), ("b", at("stage ", "c"), "put"),
        ("c", {}, None), ("none", at("", "none"), None), (None, at("stage ", "d"), "put"), ("d", {}, None),
        ("held out", at("", "held out"), None), ("held out, too", at("", "held out, too"), None),
        (None, at("stage ", "e"), "put"), ("e", {}, None)]
    assert played(feed_direct(model, batches)) == [(batch.name, at("", batch.name), None) for batch in batches]
    assert played(feed_staged(model, [])) == []


@pytest.mark.parametrize("names", [("x",), ("x", "y", "x.sizes")])
def test_a_stage_hands_on_any_number_of_arrays(names):
    with tf.Graph().as_default(), tf.Session() as session:
        placeholders = {name: tf.placeholder(tf.int16, (None, 2)) for name in names}
        placed, tensors = stage(placeholders)
        assert list(tensors) == list(names) == list(placed.arrays)
        assert all(tensor.shape.as_list() == [None, 2] for tensor in tensors.values())
        sent = {name: np.full((3, 2), number, np.int16) for number, name in enumerate(names)}
        session.run(placed.put, {placeholders[name]: array for name, array in sent.items()})
        got = session.run(tensors)
        for name in names:
            np.testing.assert_array_equal(got[name], sent[name])
