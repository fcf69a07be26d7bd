"""The programs of docs/OWN_DATA.md and docs/LEAVING.md, word for word."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.documents import ROOT, block, read
from tests.support.processes import interpreter

PAGE = "docs/OWN_DATA.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The modules of the page, and data for its programs."""
    folder = tmp_path_factory.mktemp("own")
    for name in re.findall(r"<!-- file: (\S+) -->", read(PAGE)):
        (folder / name).write_text(block(PAGE, "file: " + name))
    random = np.random.RandomState(0)
    for name in ("photos/cat", "photos/dog", "unlabelled"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(random.randint(0, 256, (40, 48, 3)).astype(np.uint8)).save(
                str(folder / name / ("%02d.png" % number)))
    (folder / "unlabelled" / "bad.png").write_bytes(b"no picture")
    with open(str(folder / "driving_log.csv"), "w") as rows:
        rows.write("center,steering,camera,weight\n")
        for number in range(40):
            rows.write("photos/%s/%02d.png,%.2f,%s,%d\n" % (
                ("cat", "dog")[number % 2], number // 2, random.uniform(-1, 1), "lr"[number % 4 == 0], number))
    with open(str(folder / "boxes.jsonl"), "w") as rows:
        for number in range(20):
            rows.write(json.dumps({"image": "photos/cat/%02d.png" % number, "mask": "photos/mask.png",
                                   "boxes": [[0.0, 1.0, 2.0, 3.5]] * (number % 4)}) + "\n")
    Image.fromarray(np.tile(np.arange(48, dtype=np.uint8), (40, 1))).save(str(folder / "photos" / "mask.png"))
    (folder / "texts").mkdir()
    (folder / "texts" / "texts.txt").write_text("a dog barks\nthe a cat a dog\n")
    (folder / "arrays").mkdir()
    np.save(str(folder / "arrays" / "X.npy"), np.zeros((50, 28, 28), np.float32))
    np.save(str(folder / "arrays" / "Y.npy"), np.arange(50))
    return folder


def run(folder, *arguments, **options):
    python = options.pop("python", sys.executable)
    done = subprocess.run((python,) + arguments, cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, PYTHONPATH=ROOT, **options), universal_newlines=True, timeout=180)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def program(folder, name, page=PAGE):
    path = folder / ("program_%s.py" % name)
    path.write_text(block(page, "program: " + name))
    return str(path)


@pytest.mark.parametrize("name, says", [
    ("augmentation", r"^\(32, 64, 64, 3\)$"), ("driving", "no bad files"),
    ("detection", r"^\(8, \d, 4\) \[.*\] photos/cat/\d\d.png$"), ("order", r"(?s)^2 .*^5 "),
    ("noise", r"^\(100, 10\)$"), ("words", r"^\[\[1 2 0 0\]\n \[0 1 0 1\]\]$"), ("stored", r"^\(16, 28, 28\)$"),
    ("keras", "val_loss"),
    ("prediction", r"(?s)^00.png,\d+.\d+$.*^bad.png,UnidentifiedImageError")])
def test_a_program_of_the_page_does_what_it_says(folder, name, says):
    assert re.search(says, run(folder, program(folder, name)).strip(), re.MULTILINE)


def test_every_program_of_the_page_is_run():
    programs = re.findall(r"<!-- program: (\S+) -->", read(PAGE))
    assert set(programs) == {"augmentation", "driving", "detection", "order", "noise", "words", "stored",
                             "keras", "prediction"}


def test_the_command_of_the_page_trains(folder):
    command, = re.findall(r"^stoker-train (.*)$", read(PAGE), re.MULTILINE)
    said = run(folder, "-m", "stoker.trainer", *command.split(), STOKER_EPOCHS="1", STOKER_WORKERS="1")
    assert "mean error" in said and "done after step" in said


def test_the_newest_python_gets_the_same_batches(folder):
    """A stream needs no TensorFlow. Both programs have the same workers, so that their pictures are equal."""
    path = program(folder, "leaving", "docs/LEAVING.md")
    newest = interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable
    with open(path) as text:
        body = text.read().replace("seed=3", "seed=3, worker_python=%r" % newest)
    with open(path, "w") as text:
        text.write(body)
    old, new = run(folder, path), run(folder, path, python=newest)
    assert old == new and len(old.splitlines()) == 6
