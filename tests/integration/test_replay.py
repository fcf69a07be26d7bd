"""Batches of recorded runs, made again: by another Python, other numbers of workers, in random order, by the records
alone. The checksums are those of the audits."""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

import stoker
from stoker.trainer.record.replay import Replay
from tests.integration.conftest import draw
from tests.support import bad_pictures, own_functions, own_model, rank_functions
from tests.support.own_functions import SIZE, write_table
from tests.support.processes import ROOT, interpreter
from tests.support.replaying import replayed
from tests.support.training import Trainer, arguments, audit, finished

PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable
SAME_PILLOW = interpreter("STOKER_TEST_SAME_PILLOW_PYTHON")

FUNCTIONS = """
import numpy as np
import stoker

def order(epoch, random, source):
    indices = [each for each in range(len(source)) if source.rows([each])[0]["value"] >= 0.2] * 2
    random.shuffle(indices)
    return indices[:90]

def partners(index, random):
    return [random.randrange(150) for _ in range(index % 3)]

def side(row):
    return row["side"]

@stoker.sample({"image": ("uint8", (6, 8, 3)), "marks": ("int16", (stoker.UpTo(4), 2)), "value": "float32"}, rows=2)
def several(sample, random):
    if random.random() < 0.1:
        raise stoker.Skip("drawn to be skipped")
    image = np.asarray(sample.image(sample.row["picture"], size=(6, 8)))
    for partner in sample.partners:
        image = image // 2 + np.asarray(partner.image(partner.row["picture"], size=(6, 8))) // 2
    made = {"image": image, "value": np.random.uniform(), "marks": np.full((random.randrange(5), 2), sample.index,
                                                                             np.int16)}
    return [made] * random.randrange(3)
"""


def content(folder):
    """What is in the folder, to see whether anything in it changed."""
    found = {}
    for name in sorted(os.listdir(str(folder))):
        path = os.path.join(str(folder), name)
        status = os.stat(path)
        with open(path, "rb") as file:
            found[name] = (status.st_mtime_ns, status.st_ino, hashlib.sha1(file.read()).hexdigest())
    return found


def is_the_audits(result, steps, count=50):
    """Each of ``steps``, a run's audit, as it was made again."""
    assert len(result["found"]) == count and [each[0] for each in result["found"]] == result["steps"]
    lines = {line["step"]: line for line in steps}
    for step, crc, audited, skipped, of_audit in result["found"]:
        assert crc == audited == lines[step]["crc32"], "step %d" % step
        assert skipped == of_audit == sorted(lines[step]["skipped"])


# -------------------------------------------------------------------------------------------- the command line's folder

@pytest.mark.parametrize("workers, again", [("newest", "newest"), ("this", "same Pillow")])
def test_augmented_pictures_with_replaced_bad_files(tmp_path, workers, again):
    """The record is the checkpoint's folder alone; the pictures are at another place by now."""
    pytest.importorskip("tensorflow")
    if again == "same Pillow" and SAME_PILLOW is None:
        pytest.skip("STOKER_TEST_SAME_PILLOW_PYTHON names no Python with the trainer's Pillow")
    data = bad_pictures.Folder(tmp_path, has_webp=workers == "newest")
    options = dict(generator="augmented", image_size="24x32", batch_size=9, epochs=3, workers=2, seed=5,
                   on_bad_image="replace", validation=0.1, checkpoint_dir="run", audit="run/audit.jsonl")
    if workers == "newest":
        options["worker_python"] = PYTHON
    folder = tmp_path / "here"
    (folder / "run").mkdir(parents=True)
    ended = finished(folder, data.root, *arguments(options))
    assert ended.code == 0, ended
    steps = audit(str(folder / "run" / "audit.jsonl"))
    assert any(line["skipped"] for line in steps) and len(steps) > 30
    shutil.move(str(folder / "run"), str(tmp_path / "copied"))
    shutil.move(data.root, str(tmp_path / "pictures-elsewhere"))
    before = content(tmp_path / "copied")
    result = replayed(PYTHON if again == "newest" else SAME_PILLOW, tmp_path / "copied", tmp_path, workers=3,
                      root=str(tmp_path / "pictures-elsewhere"), evaluations=[0, 2])
    is_the_audits(result, steps)
    assert result["evaluated"][0] == result["evaluated"][1] and len(result["evaluated"][0]) > 1
    assert result["notes"] == [] and result["decoders"][0] == result["decoders"][1] != []
    assert result["python"] != list(sys.version_info[:2])
    assert content(tmp_path / "copied") == before


def test_own_arrays_of_a_table(tmp_path):
    """A function whose module lies in the folder in which the run was started; a CSV file with options."""
    pytest.importorskip("tensorflow")
    folder = tmp_path / "here"
    own_model.write(folder, 150)
    table = (folder / "log.csv").read_text()
    (folder / "log.csv").write_text(table.replace(",", ";").replace("0.", "0,"))
    ended = finished(folder, "log.csv", *arguments(dict(
        sample="functions:drive", model="models:model", delimiter=";", decimal=",", batch_size=7, epochs=4, workers=2,
        order="balanced:side", worker_python=PYTHON, checkpoint_dir="run", audit="audit.jsonl")))
    assert ended.code == 0, ended
    steps = audit(str(folder / "audit.jsonl"))
    (tmp_path / "elsewhere").mkdir()
    is_the_audits(replayed(PYTHON, folder / "run", tmp_path / "elsewhere", workers=1), steps)
    # the table is gone; its rows are in the list of samples
    (folder / "log.csv").unlink()
    is_the_audits(replayed(PYTHON, folder / "run", tmp_path / "elsewhere", workers=3, seed=1), steps)
    # everything at another place
    shutil.move(str(folder), str(tmp_path / "moved"))
    moved = tmp_path / "moved"
    result = replayed(PYTHON, moved / "run", tmp_path / "elsewhere", workers=2, root=str(moved), path=[str(moved)],
                      audit=str(moved / "audit.jsonl"))
    is_the_audits(result, steps)


def test_a_run_is_replayed_while_it_trains(png_pictures, tmp_path):
    """Its lock is not needed, and nothing in its folder changes because of it."""
    pytest.importorskip("tensorflow")
    options = dict(image_size="48x64", batch_size=4, epochs=500, workers=1, checkpoint_dir="run", audit="audit.jsonl",
                   generator="augmented", checkpoint_secs=100)
    with Trainer(tmp_path / "here", png_pictures, *arguments(options)) as trainer:
        path = str(tmp_path / "here" / "audit.jsonl")
        trainer.wait_until(lambda: len(audit(path)) > 20, "some steps")
        with Replay(str(tmp_path / "here" / "run"), worker_python=PYTHON, workers=1) as run:
            for batch in run.batches([15, 3, 15]):
                assert run.crc(batch) == run.audited(batch.step)["crc32"]
            assert run.audited(10 ** 6) is None
        trainer.send_signal(signal.SIGTERM)
        trainer.wait_gone()
        assert "Traceback" not in trainer.stderr


# ------------------------------------------------------------------------------------------------ open_stream(record=)

@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder of PNGs, with log.csv beside them."""
    folder = tmp_path_factory.mktemp("table")
    draw(str(folder), "png", 60, SIZE)
    write_table(str(folder))
    return folder


def recorded(folder, data, generator="image", **options):
    """Takes all batches of a stream with record and audit in ``folder``. The audit."""
    options.update(record=folder / "record", audit=str(folder / "audit"))
    with stoker.open_stream(data, generator, **options) as stream:
        for _ in stream:
            pass
    return audit(str(folder / "audit"))


@pytest.mark.parametrize("python, workers", [(PYTHON, 3), (None, 2)], ids=["newest", "this"])
def test_rows_in_memory_with_weights_partners_and_arrays_of_many_sizes(table, tmp_path, python, workers):
    rows = stoker.csv(str(table / "log.csv")).rows(range(60))
    weights = [1.0 + number % 7 for number in range(60)]
    steps = recorded(tmp_path, rows, own_functions.boxes, root=str(table), batch_size=7, epochs=5, seed=9, partners=2,
                     order=stoker.weighted(np.array(weights), steps=11), workers=workers, worker_python=python)
    assert len(steps) == 55 and any(line["skipped"] for line in steps)
    assert "path" not in json.loads((tmp_path / "record" / "stoker-run.json").read_text())["arguments"]["data"]
    result = replayed(PYTHON, tmp_path / "record", tmp_path, workers=1)
    is_the_audits(result, steps)


def test_functions_by_their_names(tmp_path, monkeypatch):
    own_model.write(tmp_path / "data", 150)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "replay_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    import replay_functions as functions
    try:
        steps = recorded(tmp_path, tmp_path / "data" / "log.csv", functions.several, batch_size=6, epochs=4, workers=2,
                         order=functions.order, partners=functions.partners, worker_python=PYTHON)
        assert len(steps) == 60
        is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=3), steps)
        shutil.move(str(tmp_path / "code"), str(tmp_path / "moved-code"))
        with pytest.raises(AssertionError, match="No module named 'replay_functions'"):
            replayed(PYTHON, tmp_path / "record", tmp_path, workers=1)
        is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=1, path=str(tmp_path / "moved-code")),
                      steps)
        text = (tmp_path / "moved-code" / "replay_functions.py").read_text()
        (tmp_path / "moved-code" / "replay_functions.py").write_text(text.replace(">= 0.2", ">= 0.3"))
        with pytest.raises(AssertionError, match="its order was .*have your functions changed since"):
            replayed(PYTHON, tmp_path / "record", tmp_path, workers=1, path=str(tmp_path / "moved-code"))
    finally:
        del sys.modules["replay_functions"]


def test_batch_functions_and_an_order_by_classes(table, tmp_path):
    steps = recorded(tmp_path, str(table / "log.csv"), rank_functions.whole, batch_size=8, epochs=6,
                     order=stoker.balanced("kind", steps=9), workers=2)
    is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=3), steps)


def test_a_generator_over_leases_that_declares_nothing(png_pictures, tmp_path):
    steps = recorded(tmp_path, png_pictures, "stoker.workers.generators.example:grayscale", batch_size=9, epochs=4,
                     validation=0.2, workers=2)
    with Replay(tmp_path / "record", workers=3, worker_python=PYTHON) as run:
        assert [run.crc(batch) for batch in run.batches([9, 30, 9, 2])] == [
            steps[step]["crc32"] for step in (9, 30, 9, 2)]


def test_a_program_that_replays_its_own_run(png_pictures, tmp_path):
    """Functions of the program itself, and validation data in a folder of their own."""
    os.symlink(png_pictures, str(tmp_path / "photos"))
    (tmp_path / "program.py").write_text("""
import sys
import numpy as np
import stoker

@stoker.sample({"image": ("uint8", (48, 64, 3)), "drawn": "float64"})
def mine(sample, random):
    return {"image": sample.image(), "drawn": random.random()}

def backwards(epoch, random):
    return range(119, -1, -1)

if __name__ == "__main__":
    if len(sys.argv) < 2:
        with stoker.open_stream("photos", mine, batch_size=32, order=backwards, validation="photos/left", labels=False,
                                record="record", audit="audit", workers=1) as stream:
            last = list(stream)
        assert (stoker.replay("record", 2)["image"] == last[2]["image"]).all()
""")
    environment = dict(os.environ, PYTHONPATH=ROOT)
    subprocess.run([sys.executable, "program.py"], cwd=str(tmp_path), env=environment, check=True)
    steps = audit(str(tmp_path / "audit"))
    (tmp_path / "elsewhere").mkdir()
    is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path / "elsewhere", workers=2, evaluations=[0]), steps)
    os.rename(str(tmp_path / "program.py"), str(tmp_path / "elsewhere" / "program.py"))
    is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=2, path=str(tmp_path / "elsewhere")), steps)


def test_ranks_each_part_and_the_whole(table, tmp_path):
    for rank in range(3):
        with stoker.open_stream(str(table / "log.csv"), rank_functions.each_by_itself, batch_size=8, epochs=3,
                                rank=rank, ranks=3, local_ranks=1, record=tmp_path / "record", workers=1,
                                audit=str(tmp_path / ("audit-%d" % rank))) as stream:
            for _ in stream:
                pass
    lines = [audit(str(tmp_path / ("audit-%d" % rank))) for rank in range(3)]
    for rank in range(3):
        is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=2, rank=rank), lines[rank])
    result = replayed(PYTHON, tmp_path / "record", tmp_path, workers=2)
    assert [each[1] for each in result["found"]] == [each[2] for each in result["found"]]
    assert "the run had 3 ranks" in result["notes"][0]


def test_a_resumed_run_has_one_record(png_pictures, tmp_path):
    options = dict(batch_size=16, image_size=48, epochs=2, workers=1, record=str(tmp_path / "record"))
    with stoker.open_stream(png_pictures, "augmented", **options) as stream:
        first = [next(stream) for _ in range(3)][-1]
    for start in (3, 8):
        options.update(start_step=start, epochs=1 + start)
        with stoker.open_stream(png_pictures, "augmented", **options) as stream:
            next(stream)
    np.testing.assert_array_equal(stoker.replay(tmp_path / "record", 2).images, first.images)
    assert stoker.replay(tmp_path / "record", 70).step == 70          # of nine epochs, by now
    with pytest.raises(stoker.ConfigError, match="record: .*record holds the record of another run: its seed was 0, "
                                                 "and this run has 1; record this run in another folder"):
        stoker.open_stream(png_pictures, "augmented", seed=1, **options)
    for name in ("left", "right"):
        (tmp_path / "more" / name).mkdir(parents=True)
        shutil.copy(os.path.join(png_pictures, "left", "000.png"), str(tmp_path / "more" / name))
    with pytest.raises(stoker.ConfigError, match="another run: the data is another"):
        stoker.open_stream(str(tmp_path / "more"), "augmented", **options)


def test_a_folder_whose_run_could_not_start_takes_another_one(png_pictures, tmp_path):
    options = dict(batch_size=16, image_size=48, workers=1, record=str(tmp_path / "record"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(stoker.ConfigError, match="status .* cannot listen there"):
            stoker.open_stream(png_pictures, "augmented", status="127.0.0.1:%d" % taken.getsockname()[1], **options)
    with stoker.open_stream(png_pictures, "augmented", seed=1, **options):
        assert stoker.replay(tmp_path / "record", 0, workers=1).step == 0
    with stoker.open_stream(png_pictures, "augmented", seed=2, **options) as stream:
        first = next(stream)
    np.testing.assert_array_equal(stoker.replay(tmp_path / "record", 0).images, first.images)
    with pytest.raises(stoker.ConfigError, match="another run: its seed was 2, and this run has 1"):
        stoker.open_stream(png_pictures, "augmented", seed=1, **options)


def test_killers_are_remembered_and_the_list_stays(table, tmp_path):
    """A function that kills at one picture; the list is beside the record."""
    options = dict(batch_size=6, epochs=2, partners=1, on_bad_image="replace", seed=3)
    steps = recorded(tmp_path, str(table / "log.csv"), own_functions.deadly, workers=2, worker_python=PYTHON, **options)
    killers = (tmp_path / "record" / "killers.jsonl").read_bytes()
    assert killers.count(b"\n") >= 2
    before = content(tmp_path / "record")
    is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=2), steps)
    assert content(tmp_path / "record") == before


def test_data_that_has_changed_since(png_pictures, tmp_path):
    shutil.copytree(png_pictures, str(tmp_path / "data"))
    steps = recorded(tmp_path, str(tmp_path / "data"), "augmented", image_size=(48, 64), batch_size=8, epochs=4,
                     workers=1)
    (tmp_path / "data" / "left" / "000.png").unlink()
    shutil.copy(os.path.join(png_pictures, "left", "002.png"), str(tmp_path / "data" / "left" / "new.png"))
    result = replayed(PYTHON, tmp_path / "record", tmp_path, workers=2)
    assert "the data has changed" in result["notes"][0] and "120 samples that" in result["notes"][0]
    for step, crc, audited, skipped, _ in result["found"]:
        assert (crc == audited) is not bool(skipped), step
        assert 0 in steps[step]["indices"] if skipped else True
    shutil.rmtree(str(tmp_path / "data"))
    with pytest.raises(stoker.ConfigError, match="cannot be made again: its data is not at .*/data any more: say "):
        Replay(tmp_path / "record")
    is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=2, root=png_pictures), steps)


def test_what_has_no_name_is_one_sentence(table, tmp_path):
    for name, options in (("order", {"order": lambda epoch, random: range(30)}),
                          ("partners", {"partners": lambda index, random: [0]}),
                          ("key of its order", {"order": stoker.balanced(lambda row: row["kind"])})):
        folder = tmp_path / name.split()[0]
        folder.mkdir()
        recorded(folder, str(table / "log.csv"), own_functions.boxes, batch_size=20, workers=1, **options)
        with pytest.raises(stoker.ConfigError, match="cannot be made again: .*%s is a function that cannot be found by "
                                                     "a name .*<lambda>.*: define it with def" % name):
            Replay(folder / "record")


def test_an_estimators_training_is_recorded_and_its_evaluation_is_not(png_pictures, tmp_path):
    tf = pytest.importorskip("tensorflow")
    input_fn = stoker.input_fn(png_pictures, "augmented", features="images", labels="labels", image_size=32,
                               batch_size=16, epochs=2, validation=0.25, workers=1, record=str(tmp_path / "record"),
                               audit=str(tmp_path / "audit"))

    def model(features, labels, mode):
        logits = tf.layers.dense(tf.layers.flatten(tf.to_float(features)), 2)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        train = tf.train.GradientDescentOptimizer(0.01).minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)
    estimator = tf.estimator.Estimator(model, str(tmp_path / "model"))
    estimator.train(input_fn, max_steps=5)
    estimator.evaluate(input_fn)
    estimator.train(input_fn)
    steps = audit(str(tmp_path / "audit"))
    assert len(steps) == 12
    is_the_audits(replayed(PYTHON, tmp_path / "record", tmp_path, workers=2), steps)


def test_the_decoders_of_the_run_and_of_the_replay_are_known(pictures, tmp_path):
    """Two versions of Pillow decode JPEGs differently; what is recorded tells which one the run had."""
    if PYTHON == sys.executable:
        pytest.skip("STOKER_TEST_WORKER_PYTHON names no other Python")
    recorded(tmp_path, pictures, image_size=32, batch_size=60, workers=1, worker_python=PYTHON)
    with Replay(tmp_path / "record", workers=1) as run:
        assert not run.decoders and len(run.recorded_decoders) == 1
        next(run.batches([0]))
        assert len(run.decoders) == 1 and run.decoders != run.recorded_decoders
    with Replay(tmp_path / "record", workers=1, worker_python=PYTHON) as run:
        assert [run.crc(batch) == run.audited(batch.step)["crc32"] for batch in run.batches([1, 0])] == [True, True]
        assert run.decoders == run.recorded_decoders


def test_two_runs_with_modules_of_the_same_name(tmp_path, monkeypatch):
    """Both are open at the same time, and each has its own."""
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "same_name.py").write_text(
            "import stoker\n@stoker.sample({'x': ('int32', (%d,))})\ndef f(sample, random):\n"
            "    return {'x': [%d] * %d}\n" % (number + 1, 10 * number, number + 1))
        (folder / "program.py").write_text(
            "import stoker, same_name\nif __name__ == '__main__':\n    with stoker.open_stream(20, same_name.f, "
            "batch_size=4, record='record', workers=1) as stream:\n        list(stream)\n")
        subprocess.run([sys.executable, "program.py"], cwd=str(folder), env=dict(os.environ, PYTHONPATH=ROOT),
                       check=True)
    path = list(sys.path)
    with Replay(tmp_path / "0" / "record", workers=1) as first, Replay(tmp_path / "1" / "record", workers=1) as second:
        for _ in range(2):
            assert next(first.batches([1]))["x"].tolist() == [[0]] * 4
            assert next(second.batches([1]))["x"].tolist() == [[10, 10]] * 4
    assert "same_name" not in sys.modules and sys.path == path


def test_the_list_of_steps_may_be_left_and_read_in_any_order(png_pictures, tmp_path):
    steps = recorded(tmp_path, png_pictures, "augmented", image_size=32, batch_size=7, epochs=3, workers=2)
    crcs = {line["step"]: line["crc32"] for line in steps}
    chance = random.Random(1)
    with Replay(tmp_path / "record") as run:
        assert run.audit == str(tmp_path / "audit")
        for batch in run.batches(range(40)):
            if batch.step == 3:
                break                        # its workers end with it, or with the replay
        wanted = [chance.randrange(54) for _ in range(20)]
        assert [(batch.step, run.crc(batch)) for batch in run.batches(wanted)] == [
            (step, crcs[step]) for step in wanted]
        left = run.batches(range(30))        # read by nothing to its end: the replay ends it
        next(left)
        index = steps[25]["indices"][3]
        assert run.step_of(index, steps[25]["epoch"]) == 25
        assert list(run.batches([])) == list(run.evaluation(0)) == []
        with pytest.raises(stoker.ConfigError, match="step must be a whole number from 0 to 53, not 54"):
            run.batches([3, 54])
        assert stoker.replay(tmp_path / "record", 5, workers=1).indices == tuple(steps[5]["indices"])
    assert list(left) == []
