"""Old code that opens files itself, over record files: it gets copies, which no worker leaves behind."""

import os
import sys

import pytest

import stoker
from tests.support import stored
from tests.support.processes import opened, wait_for

OLD_CODE = """
import os, signal
import numpy as np
from PIL import Image
import stoker

@stoker.sample({"image": ("uint8", (48, 64, 3)), "label": "int32"})
def old(sample, random):
    path = sample.file
    assert path.endswith(".jpg")
    if not os.path.exists("%(flag)s"):
        with open("%(flag)s", "w") as flag:
            flag.write(path)
        os.kill(os.getpid(), signal.SIGKILL)
    with Image.open(path) as picture:
        return {"image": np.asarray(picture), "label": sample.label}
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """(a folder of pictures, the same as TFRecords, the file that is there when a worker was killed)."""
    files, records, flag = tmp_path / "files", tmp_path / "records", tmp_path / "flag"
    for folder in (files, records, tmp_path / "temporary"):
        folder.mkdir()
    stored.write_tfrecords(records, stored.drawn(files, count=24))
    (tmp_path / "old_code.py").write_text(OLD_CODE % {"flag": flag})
    monkeypatch.delitem(sys.modules, "old_code", raising=False)      # another test's, in this process
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    flag.write_text("none is killed in the first run")
    return files, stoker.tfrecord(str(records / "*.tfrecord")), flag


def content(data, audit, python, says="", **options):
    """Of the audit. ``says``: what is written to standard error, which the supervisor may do later than the trainer
    goes on with the other worker."""
    with opened(data, audit, generator="old_code:old", batch_size=8, epochs=2, workers=2, worker_python=python,
                **options) as run:
        run.take_all()
        wait_for(lambda: says in run.printed(), says)
        return run.content()


def test_a_killed_worker_leaves_no_copies(data, tmp_path, worker_python):
    files, records, flag = data
    wanted = content(str(files), tmp_path / "reference", worker_python)
    flag.unlink()
    assert content(records, tmp_path / "audit", worker_python, "SIGKILL") == wanted
    copy = flag.read_text()
    assert copy.startswith(str(tmp_path / "temporary" / "stoker-copies-")) and not os.path.exists(os.path.dirname(copy))
    assert os.listdir(str(tmp_path / "temporary")) == []


def test_in_a_sandbox_too(data, tmp_path, worker_python):
    files, records, _ = data
    wanted = content(str(files), tmp_path / "reference", worker_python)
    assert content(records, tmp_path / "audit", worker_python, sandbox="on", allow_read=str(tmp_path)) == wanted
    assert os.listdir(str(tmp_path / "temporary")) == []
