"""The command line ``python -m trainer``: it trains, resumes, ends on Ctrl-C, and its errors are one sentence."""

import gc
import os
import re
import shutil
import signal
import socket
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.sources import sample_data
from stoker.pipeline import progress
from tests.support.processes import interpreter, workers_program
from tests.support.training import Trainer, arguments, audit, consumed, finished, predicted

tf = pytest.importorskip("tensorflow")

PICTURES, HELD_OUT = 240, 48
BATCH_SIZE = 4
STEPS = (PICTURES - HELD_OUT) // BATCH_SIZE      # of an epoch
EPOCHS = 4


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """The sample set: two classes. Not to be changed."""
    folder = str(tmp_path_factory.mktemp("sample") / "photos")
    sample_data.write(folder, PICTURES)
    return folder


SLOW_MODEL = """
import time
import numpy as np
import tensorflow as tf

def model(arrays, training):
    calls = []
    def wait(value):
        calls.append(None)
        time.sleep(0.01 if len(calls) < 4 else 3600)
        return value
    weight = tf.get_variable("weight", ())
    mean = tf.reduce_mean(tf.cast(arrays["images"], tf.float32))
    return {"loss": (tf.reshape(tf.py_func(wait, [mean], tf.float32), ()) * 0 + weight) ** 2}
"""


def workers(count=2):
    return ["--workers", count] + (["--worker-python", interpreter("STOKER_TEST_WORKER_PYTHON")]
                                   if interpreter("STOKER_TEST_WORKER_PYTHON") else [])


def options(photos, folder, **changed):
    """The options of the run that most tests do; its files are in ``folder``."""
    named = dict(image_size=32, batch_size=BATCH_SIZE, epochs=EPOCHS, checkpoint_dir=folder / "checkpoints",
                 checkpoint_secs=0.2, audit=folder / "audit.jsonl")
    return [photos] + workers() + arguments(dict(named, **changed))


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    """(the folder of a run from the first step to the last, how it ended). Not to be changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    temporary = str(tmp_path_factory.mktemp("temporary"))
    return folder, finished(folder / "here", *options(photos, folder), TMPDIR=temporary)


def ends_with_one_sentence(run, code):
    """The last line on stderr is an error, and there is no traceback."""
    assert run.code == code, run
    assert "Traceback" not in run.stderr + run.stdout, run
    last = run.stderr.splitlines()[-1]
    assert last.startswith("stoker-train: error: "), run
    return last


# -------------------------------------------------------------------------------------------------------- training

def in_order(text, *patterns):
    """Each pattern is found after the one before it."""
    place = 0
    for pattern in patterns:
        match = re.compile(pattern, re.MULTILINE).search(text, place)
        assert match, "no %r behind character %d of\n%s" % (pattern, place, text)
        place = match.end()


def test_the_output_of_a_run(undisturbed):
    folder, run = undisturbed
    assert run.code == 0, run
    in_order(run.stdout, r"240 images in 2 classes$", r"negative +120$", r"positive +120$",
             r"^192 samples to train on, 48 held out; 192 steps in 4 epochs$",
             *[r"^epoch %d: validation accuracy [01]\.\d+, loss \d+\.\d+ \(48 samples\)$" % (epoch + 1)
               for epoch in range(EPOCHS)])
    assert all(re.match(*pair) for pair in zip((
        r"done after step 192: validation accuracy [01]\.\d{4}; no bad files; checkpoint in ",
        r"speed: [1-9]\d* images/s; the trainer waited for data \d+(\.\d)?% of the time; a worker takes \d+\.\d\d ms "
        r"per image$", r"bottleneck: [a-z]"), run.stdout.splitlines()[-3:])), run
    in_order(run.stderr, *[r"epoch %d/4: 100%%\|.*\| 192/192 \[.*loss=\d\.\d+, accuracy=\d\.\d+, waiting=\d+%%"
                           % (epoch + 1) for epoch in range(EPOCHS)])
    for noise in ("Traceback", "Warning", "WARN", "deprecated", "cpu_feature_guard"):
        assert noise not in run.stderr, run


def events(folder):
    """{tag: {step: value}} of scalars, {tag: {step: encoded picture}} of images."""
    scalars, images = {}, {}
    for name in sorted(os.listdir(str(folder))):
        if name.startswith("events.out."):
            for event in tf.train.summary_iterator(str(folder / name)):
                for value in event.summary.value:
                    if value.HasField("image"):
                        images.setdefault(value.tag, {})[event.step] = value.image.encoded_image_string
                    else:
                        scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars, images


def test_the_events_for_tensorboard(undisturbed):
    folder, run = undisturbed
    scalars, images = events(folder / "checkpoints")
    every_ten = list(range(9, STEPS * EPOCHS, 10))
    for tag in ("train/loss", "train/accuracy", "feed/images_per_s", "feed/waiting_share"):
        assert sorted(scalars[tag]) == every_ten, tag
        assert np.isfinite(list(scalars[tag].values())).all(), tag
    for tag in ("train/accuracy", "feed/waiting_share"):
        assert all(0 <= value <= 1.001 for value in scalars[tag].values()), tag
    assert all(value > 0 for value in scalars["feed/images_per_s"].values())
    assert len(scalars["validation/accuracy"]) == len(scalars["validation/loss"]) == EPOCHS
    said = re.findall(r"validation accuracy ([\d.]+), loss ([\d.]+) \(", run.stdout)
    for tag, values in zip(("validation/accuracy", "validation/loss"), zip(*said)):
        shown = [value for _, value in sorted(scalars[tag].items())]
        np.testing.assert_allclose(shown, [float(value) for value in values], atol=1e-4)
    assert sorted(images) == ["inputs/image/%d" % number for number in range(4)]
    for pictures in images.values():
        assert sorted(pictures) == [epoch * STEPS for epoch in range(EPOCHS)]   # the first batch of each epoch
        assert all(encoded.startswith(b"\x89PNG") for encoded in pictures.values())


def checkpointed_step(folder):
    return tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(folder))).get_tensor("global_step")


def test_the_files_that_a_run_leaves(undisturbed):
    folder, _ = undisturbed
    assert checkpointed_step(folder / "checkpoints") == STEPS * EPOCHS
    assert (folder / "checkpoints" / "stoker.json").exists()
    assert os.listdir(str(folder / "here")) == []      # the working directory
    lines = audit(folder / "audit.jsonl")
    assert [line["step"] for line in lines] == list(range(STEPS * EPOCHS))
    for epoch in range(EPOCHS):
        indices = [index for line in lines if line["epoch"] == epoch for index in line["indices"]]
        assert sorted(indices) == list(range(PICTURES - HELD_OUT))


def test_it_learns_numbers(tmp_path):
    run = finished(tmp_path / "here", "--generator", "numerical", "--samples", 6000, "--batch-size", 8,
                   "--epochs", 5, *workers())
    assert run.code == 0, run
    accuracies = [float(text) for text in re.findall(r"validation accuracy ([\d.]+), loss", run.stdout)]
    assert len(accuracies) == 5 and accuracies[-1] > 0.8, run
    assert checkpointed_step(tmp_path / "here" / "runs" / "numerical") == 5 * 600     # the default


def test_three_classes_and_options_from_the_environment(tiny, tmp_path):
    run = finished(tmp_path / "here", tiny, "--epochs", 3, "--image-size", "24x32", *workers(1), STOKER_EPOCHS="9",
                   STOKER_BATCH_SIZE="5")
    assert run.code == 0, run
    in_order(run.stdout, r"15 images in 3 classes$", r"12 samples to train on, 3 held out; 9 steps in 3 epochs$",
             r"^done after step 9: ")              # 3 epochs: the command line overrides the environment
    reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(tmp_path / "here" / "runs" / "colours")))
    assert reader.get_tensor("global_step") == 9
    shapes = reader.get_variable_to_shape_map()
    assert shapes["dense/kernel"] == [24 // 4 * 32 // 4 * 64, 128]
    assert shapes["outputs/kernel"] == [128, 3]


def test_without_a_held_out_part(tiny, tmp_path):
    run = finished(tmp_path / "here", tiny, "--epochs", 1, "--image-size", 16, "--validation-split", 0,
                   *workers(1))
    assert run.code == 0, run
    assert run.stdout.splitlines()[-3].startswith("done after step 1: no evaluation; "), run


def test_help(tmp_path):
    run = finished(tmp_path, "--help")
    assert run.code == 0 and run.stderr == "", run
    in_order(run.stdout, r"^usage: stoker-train", r"^data:$", r"^training:$", r"^workers:$", r"^output:$",
             r"^examples:$")
    assert all(len(line) <= 120 for line in run.stdout.splitlines())
    for option in re.findall(r"^  --([a-z-]+)", run.stdout, re.MULTILINE):
        assert "STOKER_" + option.upper().replace("-", "_") in run.stdout, option


# ---------------------------------------------------------------------------------------------- stopping, going on

def newest_step(folder):
    """The step of the newest checkpoint in a folder; 0 if there is none."""
    return max((int(path.stem.split("-")[1]) for path in folder.glob("model.ckpt-*.index")), default=0)


def resumed_step(run):
    said = re.search(r"^going on from step (\d+) of %d " % (STEPS * EPOCHS), run.stdout, re.MULTILINE)
    assert said, run
    return int(said.group(1))


@pytest.mark.parametrize("audits", [("one.jsonl", "one.jsonl"), ("one.jsonl", "two.jsonl")], ids=["one", "two"])
def test_a_killed_run_resumes(undisturbed, photos, tmp_path, audits):
    first, second = [tmp_path / name for name in audits]
    checkpoints = tmp_path / "checkpoints"

    def in_mid_epoch():
        step = newest_step(checkpoints)
        return step > STEPS and step % STEPS and len(audit(first)) > step + 5
    with Trainer(tmp_path / "here", *options(photos, tmp_path, audit=first)) as trainer:
        trainer.wait_until(in_mid_epoch, "a checkpoint in mid-epoch and some steps behind it")
        trainer.send_signal(signal.SIGKILL)
        assert trainer.wait_gone() == -signal.SIGKILL      # its workers end too
    before = audit(first)
    run = finished(tmp_path / "here", *options(photos, tmp_path, audit=second))
    assert run.code == 0, run
    start = resumed_step(run)
    assert STEPS < start < len(before)
    wanted = consumed(audit(undisturbed[0] / "audit.jsonl"))
    if first == second:
        assert consumed(audit(first)) == wanted
    else:
        assert consumed(before) == wanted[:len(before)]
        assert consumed(before)[:start] + consumed(audit(second)) == wanted
    assert checkpointed_step(checkpoints) == STEPS * EPOCHS


def graphs(folder):
    """How many graphs and metagraphs the events of all runs have: TensorBoard warns of "more than one graph event"."""
    written = [event for name in os.listdir(str(folder)) if name.startswith("events.out.")
               for event in tf.train.summary_iterator(str(folder / name))]
    return [sum(event.HasField(field) for event in written) for field in ("graph_def", "meta_graph_def")]


def test_sigterm_leaves_a_checkpoint_of_the_last_step(undisturbed, photos, tmp_path):
    with Trainer(tmp_path / "here", *options(photos, tmp_path, checkpoint_secs=1000)) as trainer:
        trainer.wait_until(lambda: len(audit(tmp_path / "audit.jsonl")) > STEPS + 5, "a step in the second epoch")
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait_gone() == 128 + signal.SIGTERM
        assert "Traceback" not in trainer.stderr
        steps = checkpointed_step(tmp_path / "checkpoints")
        assert trainer.stdout.splitlines()[-3].startswith("stopped after step %d: " % steps)
    assert len(audit(tmp_path / "audit.jsonl")) == steps < STEPS * EPOCHS
    run = finished(tmp_path / "here", *options(photos, tmp_path))
    assert run.code == 0, run
    assert resumed_step(run) == steps
    assert consumed(audit(tmp_path / "audit.jsonl")) == consumed(audit(undisturbed[0] / "audit.jsonl"))
    assert graphs(tmp_path / "checkpoints") == [1, 1]


def test_sigterm_while_no_batch_comes(photos, tmp_path):
    with Trainer(tmp_path / "here", *(options(photos, tmp_path) + ["--workers", 0])) as trainer:
        trainer.wait_until(lambda: "waiting for workers" in trainer.stdout, "the trainer to wait")
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait_gone() == 128 + signal.SIGTERM
        assert trainer.stdout.splitlines()[-3].startswith("stopped after step 0: ")


def test_two_trainers_in_one_directory(photos, tmp_path):
    with Trainer(tmp_path / "here", *options(photos, tmp_path, epochs=1000)) as trainer:
        trainer.wait_until(lambda: len(audit(tmp_path / "audit.jsonl")) > 2, "a step")
        other = finished(tmp_path / "there", *options(photos, tmp_path), TMPDIR=str(tmp_path))
        assert "another trainer uses" in ends_with_one_sentence(other, 2)
        trainer.send_signal(signal.SIGINT)
        assert trainer.wait_gone() == 130


def copied(undisturbed, folder):
    shutil.copytree(str(undisturbed[0] / "checkpoints"), str(folder / "checkpoints"))


def test_a_checkpoint_whose_files_are_gone(undisturbed, photos, tmp_path):
    copied(undisturbed, tmp_path)
    for name in os.listdir(str(tmp_path / "checkpoints")):
        if name.startswith("model.ckpt"):
            (tmp_path / "checkpoints" / name).unlink()
    run = finished(tmp_path / "here", *options(photos, tmp_path))
    assert "but no checkpoint that can be restored" in ends_with_one_sentence(run, 2), run


def test_a_complete_run_only_continues_with_more_epochs(undisturbed, photos, tmp_path):
    copied(undisturbed, tmp_path)
    run = finished(tmp_path / "here", *options(photos, tmp_path))
    assert run.code == 0, run
    assert "has all 192 steps: nothing left to train" in run.stdout
    assert audit(tmp_path / "audit.jsonl") == []
    names = sorted(os.listdir(str(undisturbed[0] / "checkpoints")))
    run = finished(tmp_path / "here", *options(photos, tmp_path, epochs=EPOCHS + 1))
    assert run.code == 0, run
    in_order(run.stdout, r"^going on from step 192 of 240 ", r"^epoch 5: validation", r"^done after step 240: ")
    assert [line["step"] for line in audit(tmp_path / "audit.jsonl")] == list(range(192, 240))
    # a moved or copied folder is independent: the files in the original folder do not change
    assert sorted(os.listdir(str(undisturbed[0] / "checkpoints"))) == names


@pytest.mark.parametrize("changed, word", [({"batch_size": 8}, "batch size 4"), ({"seed": 1}, "seed 0"),
                                           ({"epochs": EPOCHS - 1}, "beyond the 144 steps of 3 epochs")])
def test_a_checkpoint_of_another_configuration(undisturbed, photos, tmp_path, changed, word):
    copied(undisturbed, tmp_path)
    run = finished(tmp_path / "here", *options(photos, tmp_path, **changed))
    assert word in ends_with_one_sentence(run, 2), run


def test_a_checkpoint_of_other_data(undisturbed, tiny, tmp_path):
    copied(undisturbed, tmp_path)
    run = finished(tmp_path / "here", *options(tiny, tmp_path))
    assert "the data has changed since the checkpoint in " in ends_with_one_sentence(run, 2), run


# ---------------------------------------------------------------------------------------------------------- Ctrl-C

BEFORE_TRAINING = {
    "start": lambda trainer: trainer.threads() == 2,        # the second one ends the process on Ctrl-C
    "numpy": lambda trainer: trainer.has_mapped("_multiarray_umath") or trainer.has_mapped("/multiarray."),
    "tensorflow": lambda trainer: trainer.has_mapped("_pywrap_tensorflow_internal"),
}


def stopped_by_ctrl_c(trainer, send, record_property):
    start = time.monotonic()
    send(signal.SIGINT)
    code = trainer.wait_gone()
    record_property("seconds until all processes were gone", round(time.monotonic() - start, 2))
    assert code == 128 + signal.SIGINT, trainer.stderr
    for wrong in ("Traceback", "Error", "Exception", "ignored", "bug"):
        assert wrong not in trainer.stderr, trainer.stderr
    last = trainer.stderr.splitlines()[-1]
    assert last.startswith("stoker-train: stopped by Ctrl-C"), trainer.stderr
    return last


@pytest.mark.parametrize("moment", sorted(BEFORE_TRAINING))
def test_ctrl_c_before_the_training(photos, tmp_path, moment, record_property):
    with Trainer(tmp_path / "here", *options(photos, tmp_path)) as trainer:
        trainer.wait_until(lambda: BEFORE_TRAINING[moment](trainer), moment)
        stopped_by_ctrl_c(trainer, trainer.send_group, record_property)
    assert os.listdir(str(tmp_path / "here")) == []


def test_ctrl_c_ends_after_the_step_at_hand_with_a_checkpoint(photos, tmp_path, record_property):
    with Trainer(tmp_path / "here", *options(photos, tmp_path, checkpoint_secs=1000)) as trainer:
        trainer.wait_until(lambda: len(audit(tmp_path / "audit.jsonl")) >= STEPS + 5, "a step in the second epoch")
        last = stopped_by_ctrl_c(trainer, trainer.send_group, record_property)
        steps = len(audit(tmp_path / "audit.jsonl"))
        assert last == "stoker-train: stopped by Ctrl-C after step %d; run it again to go on from there" % steps
        assert trainer.stdout.splitlines()[-3].startswith("stopped after step %d: " % steps)
        assert "a second Ctrl-C ends it at once" in trainer.stderr
    assert checkpointed_step(tmp_path / "checkpoints") == steps


@pytest.mark.parametrize("seconds, lost", [(1000, "3 steps are lost: there is no checkpoint"),
                                           (1e-6, "no step is lost: the last checkpoint is after step 3")],
                         ids=["not saved", "saved"])
def test_a_second_ctrl_c_ends_at_once_and_says_what_is_lost(photos, tmp_path, record_property, seconds, lost):
    """Here a step takes long: the model waits in Python, for 0.5 s at first and then for ever."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "slow.py").write_text(SLOW_MODEL)
    with Trainer(tmp_path / "here", *options(photos, tmp_path, checkpoint_secs=seconds, model="slow:model")) as trainer:
        trainer.wait_until(lambda: len(audit(tmp_path / "audit.jsonl")) >= 4, "the step that does not end")
        trainer.send_group(signal.SIGINT)
        trainer.wait_until(lambda: "a second Ctrl-C ends it at once" in trainer.stderr, "the first one's line")
        last = stopped_by_ctrl_c(trainer, trainer.send_group, record_property)
    assert last == "stoker-train: stopped by Ctrl-C, at once, by a second one; " + lost


def test_ctrl_c_while_no_batch_comes(photos, tmp_path, record_property):
    with Trainer(tmp_path / "here", *(options(photos, tmp_path) + ["--workers", 0])) as trainer:
        trainer.wait_until(lambda: "waiting for workers" in trainer.stdout, "the trainer to wait")
        last = stopped_by_ctrl_c(trainer, trainer.send_group, record_property)
    assert last == "stoker-train: stopped by Ctrl-C after step 0; run it again to begin"
    assert not [name for name in os.listdir(str(tmp_path / "checkpoints")) if name.startswith(("checkpoint", "model"))]
    assert graphs(tmp_path / "checkpoints") == [1, 1]
    (tmp_path / "checkpoints" / "events.out.tfevents.1.torn").write_bytes(b"torn")
    with Trainer(tmp_path / "here", *(options(photos, tmp_path) + ["--workers", 0])) as trainer:
        trainer.wait_until(lambda: "waiting for workers" in trainer.stdout, "the second trainer to wait")
        stopped_by_ctrl_c(trainer, trainer.send_group, record_property)
    os.remove(str(tmp_path / "checkpoints" / "events.out.tfevents.1.torn"))
    assert graphs(tmp_path / "checkpoints") == [1, 1]


def test_ctrl_c_during_the_evaluation(photos, tmp_path, record_property):
    held_out = dict(validation_split=0.9, batch_size=1, epochs=20)     # 24 steps, then 216 batches of evaluation
    with Trainer(tmp_path / "here", *options(photos, tmp_path, **held_out)) as trainer:
        trainer.wait_until(lambda: len(audit(tmp_path / "audit.jsonl")) == 24, "the last step of the first epoch")
        last = stopped_by_ctrl_c(trainer, trainer.send_group, record_property)
    steps = len(audit(tmp_path / "audit.jsonl"))
    assert " after step %d;" % steps in last and checkpointed_step(tmp_path / "checkpoints") == steps


def test_ctrl_c_again_and_again(photos, tmp_path, record_property):
    with Trainer(tmp_path / "here", *options(photos, tmp_path)) as trainer:
        trainer.wait_until(lambda: len(audit(tmp_path / "audit.jsonl")) >= 5, "the fifth step")
        for _ in range(3):
            trainer.send_group(signal.SIGINT)
            time.sleep(0.03)
        stopped_by_ctrl_c(trainer, trainer.send_group, record_property)


# ------------------------------------------------------------------------------------------------------- bad input

@pytest.fixture
def nothing_good(tmp_path):
    """Folders that are no dataset: ``empty``, ``texts`` without an image, ``single`` with one class."""
    for folder in ("empty", "texts/a", "texts/b", "single/only"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("a", "b"):
        (tmp_path / "texts" / folder / "notes.txt").write_text("no picture")
    for number in range(3):
        Image.new("RGB", (8, 8)).save(str(tmp_path / "single" / "only" / ("%d.png" % number)))
    (tmp_path / "notes").write_text("no audit\n")
    return tmp_path


@pytest.mark.parametrize("arguments, word", [
    (["nowhere"], "nowhere"),
    (["notes"], "notes"),
    (["empty"], "empty"),
    (["texts"], "image"),
    (["single"], "class"),
    ([], "DATA is missing"),
    (["nowhere", "--generator", "numerical"], "--samples"),
    (["TINY", "--generator", "nosuch"], "nosuch"),
    (["TINY", "--image-size", "0"], "image height"),
    (["TINY", "--image-size", "abc"], "48x64"),
    (["TINY", "--image-size", "32x"], "48x64"),
    (["TINY", "--batch-size", "0"], "--batch-size must"),
    (["TINY", "--epochs", "0"], "epochs"),
    (["TINY", "--validation-split", "1.5"], "1.5"),
    (["TINY", "--prefetch", "0"], "prefetch"),
    (["TINY", "--checkpoint-secs", "0"], "--checkpoint-secs"),
    (["TINY", "--bind", "5555"], "bind must look like"),
    (["TINY", "--audit", "nowhere/audit.jsonl"], "audit"),
    (["TINY", "--audit", "notes"], "no audit file"),
    (["TINY", "--checkpoint-dir", "notes"], "notes"),
    (["TINY", "--workers", "-1"], "workers"),
    (["TINY", "--workers", "few"], "or auto"),
    (["TINY", "--worker-python", "/nosuch/python"], "/nosuch/python"),
], ids=lambda value: "_".join(value).replace("/", "|") or "nothing" if isinstance(value, list) else "")
def test_an_error_of_the_user_is_one_sentence(tiny, nothing_good, arguments, word):
    run = finished(nothing_good, *[tiny if argument == "TINY" else argument for argument in arguments])
    assert word in ends_with_one_sentence(run, 2)
    assert [line for line in run.stderr.splitlines() if not line.startswith(("usage: ", " "))] == \
        run.stderr.splitlines()[-1:], run
    assert (nothing_good / "notes").read_text() == "no audit\n"


def test_a_python_that_removes_docstrings(tiny, tmp_path):
    run = finished(tmp_path, tiny, *workers(1), PYTHONOPTIMIZE="2")
    assert "unset PYTHONOPTIMIZE" in ends_with_one_sentence(run, 2)


def test_a_misspelt_environment_variable(tmp_path):
    run = finished(tmp_path, "nowhere", STOKER_EPOCH="3", STOKER_SEED="1")
    assert "STOKER_EPOCH has no effect: did you mean STOKER_EPOCHS?" in run.stderr and "STOKER_SEED" not in run.stderr
    ends_with_one_sentence(run, 2)
    run = predicted(tmp_path, "nowhere", "nowhere", STOKER_PREDICT_WORKER="1")
    assert "did you mean STOKER_PREDICT_WORKERS?" in run.stderr
    with workers_program("tcp://127.0.0.1:1", "--data", "nowhere", STOKER_PROCESES="3") as program:
        assert program.wait() == 2 and "did you mean STOKER_PROCESSES?" in program.text, program.text


def test_a_port_in_use(tiny, tmp_path):
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen(1)
        address = "tcp://127.0.0.1:%d" % occupied.getsockname()[1]
        run = finished(tmp_path / "here", tiny, "--bind", address, *workers(1))
        assert address in ends_with_one_sentence(run, 2), run


def test_bad_files_among_good_ones_are_skipped_and_counted(tiny, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(tiny, str(root))
    (root / "red" / "text.jpg").write_text("no picture")
    (root / "green" / "torn.png").write_bytes((root / "green" / "1.png").read_bytes()[:50])
    Image.new("RGB", (9, 9)).save(str(root / "blue" / "gone.png"))
    with Trainer(tmp_path / "here", root, "--image-size", 16, "--batch-size", 4, "--epochs", 2, "--workers", 0,
                 "--audit", tmp_path / "audit.jsonl") as trainer:
        trainer.wait_until(lambda: "waiting for workers: " in trainer.stdout, "the address for the workers")
        (root / "blue" / "gone.png").unlink()      # after the scan
        address = re.search(r"--connect (\S+)", trainer.stdout).group(1)
        with workers_program(address, "--once", python=interpreter("STOKER_TEST_WORKER_PYTHON")) as program:
            assert trainer.wait_gone() == 0, trainer.stderr
            assert program.wait() == 0
        bad = ("red/text.jpg", "green/torn.png", "blue/gone.png")
        for path in bad:
            assert len(re.findall(r"bad file '%s': ." % path, trainer.stderr)) == 1, trainer.stderr
        assert "; 3 bad files (listed in " in trainer.stdout.splitlines()[-3]
    lines = audit(tmp_path / "audit.jsonl")
    assert [line["step"] for line in lines] == list(range(2 * 4))
    assert 0 < sum(len(line["skipped"]) for line in lines) <= 2 * len(bad)


def test_only_bad_files_are_an_error(tmp_path):
    for number in range(10):
        folder = tmp_path / "data" / ("a", "b")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ("%d.jpg" % number)).write_text("no picture")
    run = finished(tmp_path / "here", tmp_path / "data", "--image-size", 16, "--batch-size", 4, *workers(1))
    assert "not one sample" in ends_with_one_sentence(run, 2), run


def test_a_progress_bar_that_ctrl_c_left_half_made_ends_without_a_traceback(capsys):
    progress.bar_class().__new__(progress.bar_class())
    gc.collect()
    assert capsys.readouterr() == ("", "")


def test_a_large_event_takes_no_memory(tmp_path):
    path = tmp_path / "events.out.tfevents.1.sparse"
    path.write_bytes(struct.pack("<QI", 500 << 20, 0))
    os.truncate(str(path), 1 << 30)
    from stoker.trainer import events      # it imports TensorFlow
    tracemalloc.start()
    try:
        assert list(events._first_events(str(path))) == []
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
