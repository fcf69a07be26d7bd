"""The doors on a real bucket: a folder in it is the dataset of the same folder on a disk, and every command line takes
URLs of it."""

import os
import subprocess
import sys

import pytest

import stoker
from stoker.pipeline.errors import StokerError
from stoker.pipeline.sources.opening import open_source
from stoker.trainer.record.replay import Replay
from tests.support import stored
from tests.support.processes import ROOT, interpreter
from tests.support.training import arguments, audit, consumed, finished, predicted

WORKER_PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON")
TRAINING = dict(image_size=16, batch_size=6, workers=1, epochs=2, worker_python=WORKER_PYTHON)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures in folders, with what a scan leaves out, and as TFRecord and tar; a table and a list of them."""
    root = tmp_path_factory.mktemp("data")
    pictures = stored.drawn(str(root / "photos"), count=24)
    for name in ("photos/.hidden/1.jpg", "photos/left/@eaDir/1.jpg", "photos/left/notes.txt", "photos/top.jpg",
                 "photos/right/old.y", "photos/empty/x.txt", "photos2/left/1.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff" + name.encode())
    stored.write_tfrecords(root, pictures)
    stored.write_tars(root, pictures)
    (root / "photos" / "log.csv").write_text("path,label\n" + "".join("%s,%d\n" % each[:2] for each in pictures))
    (root / "list.txt").write_text("".join("photos/%s\n" % picture.path for picture in pictures))
    return root


@pytest.fixture(scope="module")
def bucket(s3, data):
    return "s3://" + s3.bucket("doors", str(data))


@pytest.fixture(autouse=True)
def credentials(s3, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


def test_a_folder_of_a_bucket_is_that_of_a_disk(bucket, data):
    for options in ({}, {"labels": False}, {"classes": ["right", "left"]}, {"exclude": "left/00*"}, {"suffixes": "y"}):
        here = stoker.scan_folder(str(data / "photos"), **options)
        there = stoker.scan_folder(bucket + "/photos", **options)
        assert (there.paths, there.labels, there.classes) == (here.paths, here.labels, here.classes)
        assert there.left_out == here.left_out and there.fingerprint() == here.fingerprint()
        assert there.root == bucket + "/photos"


def test_patterns_tables_and_lists(bucket, data):
    here, there = (stoker.files("%s/photos/**/*.jpg" % root) for root in (data, bucket))
    assert there.paths == here.paths and there.root == bucket + "/photos"
    table = stoker.csv(bucket + "/photos/log.csv")
    assert table.root == bucket + "/photos" and len(table) == 24
    assert len(table.probes(8)) == 2 and set(table.probes(8)) < set(here.paths)
    assert open_source(bucket + "/list.txt").paths == tuple("photos/" + path for path in open_source(
        str(data / "photos")).paths)


@pytest.mark.parametrize("name, sentence", [
    ("/nothing", "there is nothing below s3://doors/nothing: check its name"),
    ("/nothing.csv", "nothing.csv"), ("/nothing-*.tar", "nothing-"), ("/photos/*.jpg", "stoker.files")])
def test_what_is_not_there(name, sentence, bucket):
    with pytest.raises(StokerError) as caught:
        open_source(bucket + name)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_lines(bucket, data, tmp_path):
    def trained(name, given, **options):
        here = tmp_path / name
        here.mkdir()
        options = dict(TRAINING, audit=here / "audit.jsonl", checkpoint_dir=here / "run", **options)
        run = finished(here, given, *arguments(options))
        assert run.code == 0, run
        assert "stoker: Found credentials" not in str(run)       # boto3's line
        return consumed(audit(here / "audit.jsonl"))
    wanted = trained("here", data / "photos")
    assert trained("there", bucket + "/photos") == wanted
    assert len(trained("both", bucket + "/train-*.tfrecord", validation_data=bucket + "/train-*.tar", epochs=1)) == 4

    there = tmp_path / "there"
    run = predicted(there, "run", bucket + "/list.txt", "-o", "list.csv", "--worker-python", WORKER_PYTHON)
    assert run.code == 0 and len((there / "list.csv").read_text().splitlines()) == 25, run
    with Replay(str(there / "run"), worker_python=WORKER_PYTHON) as replay:
        batch, = replay.batches([5])
        assert replay.crc(batch) == replay.audited(5)["crc32"]
    with Replay(str(there / "run"), root=str(data / "photos"), worker_python=WORKER_PYTHON) as replay:
        batch, = replay.batches([5])           # it was downloaded meanwhile
        assert replay.crc(batch) == replay.audited(5)["crc32"]
    run = subprocess.run([sys.executable, "-m", "stoker.inspection.check", bucket + "/photos", "--worker-python",
                          WORKER_PYTHON], cwd=str(there), env=dict(os.environ, PYTHONPATH=ROOT), timeout=120,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert run.returncode == 0 and "24 files, 24 good, 0 bad" in run.stdout, run


def test_without_the_right_to_read(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    run = finished(tmp_path, bucket + "/photos")
    assert run.code == 2 and "credentials" in run.stderr and "Traceback" not in run.stderr, run
