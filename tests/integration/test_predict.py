"""``stoker-predict``: a line for each sample in the order of the data, bad files named, and nothing left behind."""

import csv
import io
import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from tests.support import own_model
from tests.support.processes import interpreter
from tests.support.training import Predictor, arguments, finished, predicted

tf = pytest.importorskip("tensorflow")

ROWS = 30
COLOURS = ("blue", "green", "red")
SLOW = """
import time
import stoker

@stoker.sample({"image": ("uint8", (6, 8, 3)), "value": "float32", "marks": ("int16", (stoker.UpTo(4), 2))})
def drive(sample, random):
    time.sleep(0.05)
    return {"image": sample.image(sample.row["picture"], size=(6, 8)), "value": 0, "marks": [[1, 2]]}
"""


def local(**changed):
    named = dict(workers=1, **changed)
    if interpreter("STOKER_TEST_WORKER_PYTHON"):
        named["worker_python"] = interpreter("STOKER_TEST_WORKER_PYTHON")
    return arguments(named)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with runs of the built-in model (runs/colours) and of own models (own, bright, silent). Not to be
    changed."""
    here = tmp_path_factory.mktemp("predict") / "here"
    own_model.write(here, ROWS)
    for number in range(15):
        colour = COLOURS[number % 3]
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, :, ("red", "green", "blue").index(colour)] = 100 + 10 * number
        (here / "colours" / colour).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(str(here / "colours" / colour / ("%d.png" % number)))
    temporary = str(tmp_path_factory.mktemp("temporary"))
    own = [["log.csv", "--sample", "functions:drive", "--model", "models:" + model, "--checkpoint-dir", folder]
           for model, folder in (("model", "own"), ("brightness", "bright"), ("silent", "silent"))]
    for options in [["colours", "--epochs", 25, "--image-size", 8]] + own:
        run = finished(here, *(["--epochs", 1, "--batch-size", 4] + options + local()), TMPDIR=temporary)
        assert run.code == 0, run
    return here


@pytest.fixture
def here(trained, tmp_path):
    shutil.copytree(str(trained), str(tmp_path / "here"))
    return tmp_path / "here"


@pytest.fixture
def unlabelled(here):
    """A folder without classes: pictures of each colour, one in a folder of its own, and two bad files."""
    folder = here / "new"
    (folder / "more").mkdir(parents=True)
    for name, colour in (("1.png", "red"), ("3.png", "green"), ("more/4.png", "blue")):
        Image.new("RGB", (16, 16), {"red": (180, 0, 0), "green": (0, 180, 0), "blue": (0, 0, 180)}[colour]).save(
            str(folder / name))
    (folder / "2.png").write_text("no picture")
    (folder / "more" / "5.png").write_bytes((folder / "1.png").read_bytes()[:45])
    return folder


def lines_of(text):
    return list(csv.reader(io.StringIO(text)))


def test_pictures_without_classes(here, unlabelled):
    run = predicted(here, "runs/colours", "new", "-o", "out.csv", *local())
    assert run.code == 0 and run.stdout == "", run
    head, *lines = lines_of((here / "out.csv").read_text())
    assert head == ["path", "class", "score_blue", "score_green", "score_red", "error"]
    assert [line[0] for line in lines] == ["1.png", "2.png", "3.png", "more/4.png", "more/5.png"]
    assert [line[1] for line in lines] == ["red", "", "green", "blue", ""]
    for line in lines:
        if line[1]:
            scores = [float(score) for score in line[2:5]]
            assert abs(sum(scores) - 1) < 1e-5 and COLOURS[int(np.argmax(scores))] == line[1] and line[5] == ""
        else:
            assert line[2:5] == [""] * 3 and line[5], line
    last = run.stderr.splitlines()[-3]
    assert last.startswith("predicted 3 of 5 images by the checkpoint runs/colours/model.ckpt-75, in out.csv; 2 "
                           "without a prediction, the first: 2.png: "), last
    # single files, and standard output; --strict
    run = predicted(here, "runs/colours", "new/more/4.png", "new/3.png", "new/2.png", "--strict", *local())
    assert run.code == 1, run
    assert [line[:2] for line in lines_of(run.stdout)] == [
        ["path", "class"], ["more/4.png", "blue"], ["3.png", "green"], ["2.png", ""]]


def test_rows_without_the_column_of_labels(here):
    values = np.array([float(line[1]) for line in lines_of((here / "log.csv").read_text())[1:]])
    pictures = ["pictures/%03d.png" % number for number in reversed(range(ROWS))]
    (here / "new.csv").write_text("\n".join(["picture"] + pictures[:3] + ["nowhere.png"] + pictures[3:]) + "\n")
    for options in (["--batch-size", 7], []):
        run = predicted(here, "bright", "new.csv", "-o", "out.csv", *(options + local()))
        assert run.code == 0, run
        head, *lines = lines_of((here / "out.csv").read_text())
        assert head == ["picture", "prediction", "error"]
        assert lines.pop(3)[:2] == ["nowhere.png", ""]
        assert [line[0] for line in lines] == pictures
        np.testing.assert_allclose([float(line[1]) for line in lines], values[::-1], atol=1e-4)


def test_chosen_columns_of_json_rows(here):
    rows = [{"picture": "pictures/%03d.png" % number, "kind": [number]} for number in range(3)]
    (here / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = predicted(here, "bright", "new.jsonl", "--columns", "kind, picture", *local())
    assert run.code == 0, run
    head, *lines = lines_of(run.stdout)
    assert head == ["kind", "picture", "prediction", "error"]
    assert [line[:2] for line in lines] == [["[%d]" % number, rows[number]["picture"]] for number in range(3)]


def test_a_list_of_files_and_a_model_that_learned(here):
    """The weights are those of the checkpoint, and the batch normalization uses its moving averages."""
    run = predicted(here, "own", "log.csv", *local())
    assert run.code == 0, run
    reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(here / "own")))
    value = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    grays = np.round(np.array([float(line[1]) for line in lines_of(run.stdout)[1:]]) * 255)
    hidden = np.repeat(grays[:, None] / 255, 6 * 8 * 3, axis=1).dot(value["dense/kernel"]) + value["dense/bias"]
    norm = {name: value["batch_normalization/" + name] for name in ("moving_mean", "moving_variance", "gamma", "beta")}
    hidden = (hidden - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
    wanted = hidden.dot(value["dense_1/kernel"])[:, 0] + value["dense_1/bias"]
    got = [float(line[3]) for line in lines_of(run.stdout)[1:]]
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arguments, word", [
    (["nowhere", "log.csv"], "there is no folder 'nowhere'"),
    (["pictures", "log.csv"], "holds no checkpoint"),
    (["own", "nowhere.csv"], "nowhere.csv"),
    (["own", "log.csv", "pictures"], "'pictures' is no file"),
    (["silent", "log.csv"], 'returns no predictions: add "predictions"'),
    (["own", "log.csv", "-o", "no/such/folder.csv"], "cannot write"),
    (["own", "log.csv", "--batch-size", "0"], "--batch-size must"),
    (["older", "log.csv"], "start stoker-train once more"),
    (["other", "log.csv"], "does not fit the model models:model"),
    (["own", "log.csv", "--columns", "picture,nosuch"], "--columns names nosuch, and no row has such a field"),
    (["own", "log.csv", "--encoding", "nosuch"], "there is no encoding"),
    (["own", "bad.csv"], "not one sample of bad.csv could be used"),
], ids=lambda value: "_".join(value).replace("/", "|") if isinstance(value, list) else "")
def test_an_error_of_the_user_is_one_sentence(here, arguments, word):
    (here / "bad.csv").write_text("picture\nnowhere.png\n")
    (here / "out.csv").write_text("an older file")
    if arguments[0] == "older":
        shutil.copytree(str(here / "own"), str(here / "older"))
        (here / "older" / "stoker-run.json").unlink()
    elif arguments[0] == "other":
        shutil.copytree(str(here / "bright"), str(here / "other"))
        shutil.copy(str(here / "own" / "stoker-run.json"), str(here / "other"))
    before = sorted(os.listdir(str(here)))
    run = predicted(here, *(arguments + (["-o", "out.csv"] if "-o" not in arguments else []) + local()))
    assert run.code in (1, 2) and "Traceback" not in run.stderr, run
    last = run.stderr.splitlines()[-1]
    assert last.startswith("stoker-predict: error: ") and word in last, run
    assert sorted(os.listdir(str(here))) == before and (here / "out.csv").read_text() == "an older file"


def test_ctrl_c_leaves_nothing_behind(here):
    (here / "functions.py").write_text(SLOW)
    (here / "long.csv").write_text("picture\n" + "pictures/001.png\n" * 2000)
    before = sorted(os.listdir(str(here)))
    with Predictor(here, "own", "long.csv", "-o", "out.csv", *local()) as program:
        program.wait_until(lambda: " joined (" in program.stderr, "a worker")
        program.send_group(signal.SIGINT)
        assert program.wait_gone() == 130
        assert "Traceback" not in program.stderr and "Error" not in program.stderr, program.stderr
        assert program.stderr.splitlines()[-1] == "stoker-predict: stopped by Ctrl-C; no file was written"
    assert sorted(name for name in os.listdir(str(here)) if name != "__pycache__") == [
        name for name in before if name != "__pycache__"]


def test_a_reader_that_has_enough(here):
    """``stoker-predict ... | head`` ends without an error."""
    (here / "functions.py").write_text(SLOW)
    (here / "long.csv").write_text("picture\n" + "pictures/001.png\n" * 2000)
    read, write = os.pipe()
    program = Predictor(here, "own", "long.csv", *local(), output=write)
    os.close(write)
    with program, open(read) as lines:
        assert lines.readline() == "picture,prediction,error\n"
        lines.close()
        assert program.wait_gone() == 128 + signal.SIGPIPE
        assert "Traceback" not in program.stderr and "Error" not in program.stderr, program.stderr


@pytest.mark.parametrize("broken, word", [("full", "cannot write the predictions to standard output: No space left"),
                                          ("closed", "standard output is closed")])
def test_a_standard_output_that_cannot_take_the_predictions(here, unlabelled, broken, word):
    """It is the product, so here a broken one is an error, and no training is lost by it."""
    full = os.open("/dev/full", os.O_WRONLY)
    with Predictor(here, "runs/colours", "new", *local(), output=full,
                   before=None if broken == "full" else lambda: os.close(1)) as program:
        os.close(full)
        assert program.wait_gone() in (1, 2)
        last = program.stderr.splitlines()[-1]
        assert last.startswith("stoker-predict: error: ") and word in last, program.stderr
        assert "Traceback" not in program.stderr, program.stderr


def test_help(tmp_path):
    run = predicted(tmp_path, "--help")
    assert run.code == 0 and run.stderr == "" and "examples:" in run.stdout, run
    assert all(len(line) <= 120 for line in run.stdout.splitlines())
