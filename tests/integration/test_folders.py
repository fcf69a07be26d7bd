"""Folders as users have them: what counts in them, their classes, and parts of a dataset, by the command lines and in a
program."""

import json
import logging
import os
import shlex
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.identity import identity
from stoker.trainer.feed import open_stream
from tests.support.training import finished, predicted

tf = pytest.importorskip("tensorflow")

ALL = ("cat", "dog", "emu")
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
SMALL = ["--workers", 1, "--batch-size", 4, "--image-size", 8, "--epochs", 1]


def draw(root, *names, count=4, suffix="jpg"):
    """``count`` pictures in each of the folders."""
    for shade, name in enumerate(names):
        os.makedirs(os.path.join(str(root), name), exist_ok=True)
        for number in range(count):
            Image.new("RGB", (16, 12), (60 * shade, 5 * number, 90)).save(
                os.path.join(str(root), name, "%d.%s" % (number, suffix)), format="JPEG")


def refused(run):
    assert run.code == 2 and "Traceback" not in run.stderr + run.stdout, run
    return run.stderr.splitlines()[-1]


@pytest.fixture
def photos(tmp_path):
    """Three classes, with what storage and cameras leave among them."""
    draw(tmp_path / "photos", *ALL, "@eaDir", "cat/@eaDir", "lost+found", "emu/copies")
    draw(tmp_path / "photos", "dog", suffix="JPG_")
    return tmp_path / "photos"


def test_what_counts_in_a_folder(photos, tmp_path):
    """Excluded and added files, by options of the environment too; then the same run again without them, and
    prediction by it."""
    chosen = SMALL + ["photos", "--checkpoint-dir", "run"]
    run = finished(tmp_path, *chosen, STOKER_EXCLUDE="[copies, cat/0.*]", STOKER_SUFFIX=".JPG_")
    assert run.code == 0 and "15 images in 3 classes" in run.stdout, run
    for line in ("  1  dog  8", "  2  emu  4", "  0  cat  3", "  excluded by copies: emu/copies",
                 "  folder of the system, not of your data: 3, such as @eaDir"):
        assert line in run.stdout.splitlines(), run
    run = finished(tmp_path, *chosen, "--exclude", "xyz")
    assert "JPEG with the suffix .JPG_ (suffixes=['.JPG_'] or --suffix .JPG_ takes it): 4" in run.stdout, run
    assert "15 -> 16 samples" in refused(run) and "photos matches exclude xyz" in run.stderr, run
    run = predicted(tmp_path, "run", "photos", "--exclude", "copies", "--workers", 1)
    assert run.code == 0 and len(run.stdout.splitlines()) == 13 and "--suffix .JPG_ takes it): 4" in run.stderr, run


def test_older_checkpoints(photos, tmp_path):
    """They have no names of classes, and go on, also if they had files in folders of systems."""
    for name in ("@eaDir", "lost+found"):
        shutil.rmtree(str(photos / name))
    chosen = SMALL + ["photos", "--checkpoint-dir", "run", "--validation", 0]
    assert finished(tmp_path, *chosen).code == 0
    path = tmp_path / "run" / "stoker.json"
    record = json.loads(path.read_text())
    del record["checksum"]
    assert record.pop("classes") == {"cat": 0, "dog": 1, "emu": 2}
    path.write_text(json.dumps(record))
    run = finished(tmp_path, *chosen)
    assert run.code == 0 and "nothing left to train" in run.stdout, run
    paths = tuple(sorted("%s/%d.jpg" % (name, number) for name in ALL + ("cat/@eaDir", "emu/copies")
                         for number in range(4)))
    then = Dataset("/", ALL, paths, tuple(ALL.index(path.split("/")[0]) for path in paths), ())
    path.write_text(json.dumps(dict(record, dataset=then.fingerprint())))
    path = tmp_path / "run" / "stoker-run.json"
    record = json.loads(path.read_text())
    del record["checksum"]
    path.write_text(json.dumps(dict(record, data=identity(then))))
    run = finished(tmp_path, *chosen, "--epochs", 2, "--audit", "audit.jsonl")
    assert run.code == 0 and "going on from step 4 of 10 (run)" in run.stdout, run
    assert "goes on with its 20 samples of the data: 4 files in folders of the system count, such as cat/@eaDir/" in (
        run.stdout), run
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert sorted(sum((line["indices"] for line in lines if line["epoch"] == 1), [])) == list(range(20))
    (photos / "dog" / "0.jpg").unlink()
    assert "the data has changed" in refused(finished(tmp_path, *chosen))


def test_parts_of_a_dataset(photos, tmp_path):
    """The refusal's command trains, with the classes of training; other classes in the validation folder end it."""
    shutil.move(str(photos), str(tmp_path / "set" / "train"))
    draw(tmp_path / "set" / "val", "dog", "emu")
    sentence = refused(finished(tmp_path, "set", *SMALL))
    command = sentence.partition("stoker-train ")[2].partition(", in a program")[0]
    assert "error: the folders train and val in set hold the same sub-folders (dog, emu)" in sentence
    run = finished(tmp_path, *(shlex.split("stoker-train " + command)[-3:] + SMALL))
    assert run.code == 0 and "16 samples to train on, 8 held out" in run.stdout, run
    assert "no image of the classes (cat)" in run.stderr, run
    with open_stream(str(tmp_path / "set" / "train"), validation=str(tmp_path / "set" / "val"), workers=1,
                     image_size=8, batch_size=8) as stream:
        assert stream.classes == ALL
        validation = [batch for batch in stream if not batch.training]
    labels = [(path.split("/")[1], int(label)) for batch in validation
              for path, label in zip(batch.paths, batch.labels[:, 0])]
    assert sorted(set(labels)) == [("dog", 1), ("emu", 2)] and len(labels) == 8
    draw(tmp_path / "set" / "val", "fox")
    assert "has the classes (fox), and training has (cat, dog, emu)" in refused(
        finished(tmp_path, "set/train", "--validation-data", "set/val", *SMALL))
    assert "--validation-split and --validation-data exclude each other" in refused(
        finished(tmp_path, "set/train", "--validation-data", "set/val", "--validation-split", "0.1", *SMALL))


def test_a_program_logs_what_is_left_out(photos, caplog):
    with caplog.at_level(logging.WARNING, "stoker"), open_stream(str(photos), workers=1, image_size=8) as stream:
        assert len(next(stream)) == 16 and stream.classes == ALL
    message, = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert message.splitlines()[1:] == [
        "  JPEG with the suffix .JPG_ (suffixes=['.JPG_'] or --suffix .JPG_ takes it): 4, such as dog/0.JPG_",
        "  folder of the system, not of your data: 3, such as @eaDir"]
    with open_stream(str(photos), workers=1, image_size=8, suffixes=[".jpg_"], exclude="copies") as stream:
        batch = next(stream)
    assert np.bincount(batch.labels[:, 0]).tolist() == [4, 8, 4] and not batch.skipped


def test_a_label_word_in_another_unicode_form(tmp_path):
    draw(tmp_path / "photos", NFD, "tea")
    run = finished(tmp_path, "photos", *SMALL, "--label-word", NFC, LC_ALL="C")
    assert run.code == 0 and "8 images in 2 classes" in run.stdout, run
