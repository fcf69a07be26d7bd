"""Every command line takes record files and URLs: it trains, resumes, predicts, shows, replays and checks from them,
and its audit is the one that the same pictures in a folder give."""

import csv
import os
import shutil
import signal
import subprocess
import sys

import pytest

import stoker
from stoker.trainer import data_watch
from stoker.trainer.record.replay import Replay
from tests.support import stored
from tests.support.forking import ended
from tests.support.processes import ROOT, interpreter
from tests.support.range_server import serving
from tests.support.training import arguments, audit, consumed, finished, predicted, Trainer

WORKER_PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON")
TRAINING = dict(image_size=16, batch_size=6, workers=1, epochs=2, worker_python=WORKER_PYTHON)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same 24 pictures as a folder, TFRecord, tar, zip and npy, with a list and a table of the folder's files."""
    root = tmp_path_factory.mktemp("data")
    pictures = stored.drawn(str(root / "photos"), count=24)
    stored.write_tfrecords(root, pictures)
    stored.write_tars(root, pictures)
    stored.write_zip(root, pictures)
    stored.write_arrays(root, pictures)
    (root / "list.txt").write_text("".join("photos/%s\n" % picture.path for picture in pictures))
    (root / "log.csv").write_text("path,label\n" + "".join("%s,%d\n" % each[:2] for each in pictures))
    for number in range(3):            # as TensorFlow's own programs call them
        os.link(str(root / ("train-%05d-of-00003.tfrecord" % number)), str(root / ("bare-%05d-of-00003" % number)))
    return root


@pytest.fixture(scope="module")
def server(data):
    with serving(data) as url:
        yield url


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    """The audit of a run over the folder."""
    here = tmp_path_factory.mktemp("reference")
    run = _trained(here, data / "photos")
    assert run.code == 0, run
    return consumed(audit(here / "audit.jsonl"))


def _trained(here, data, *more, **options):
    given = dict(TRAINING, audit=here / "audit.jsonl", checkpoint_dir=here / "run")
    given.update(options)
    return finished(here, data, *arguments(given), *more, TMPDIR=str(_temporary(here)))


def _temporary(here):
    folder = here / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def _program(module, here, *options):
    environment = dict(os.environ, PYTHONPATH=ROOT, TMPDIR=str(_temporary(here)))
    return subprocess.run([sys.executable, "-m", module] + [str(each) for each in options], cwd=str(here),
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          stdin=subprocess.DEVNULL, timeout=120)


@pytest.mark.parametrize("form, more", [        # TFRecords by their names: in the test of a killed run
    ("bare-*-of-00003", ("--records", "tfrecord")), ("train.zip", ())])
def test_record_files_give_the_audit_of_the_folder(form, more, data, reference, tmp_path):
    run = _trained(tmp_path, data / form, *more)
    assert run.code == 0, run
    assert consumed(audit(tmp_path / "audit.jsonl")) == reference


def test_record_files_on_a_web_server(server, reference, tmp_path):
    run = _trained(tmp_path, "%s/train-{000..002}.tar" % server, "--label-field", "cls")
    assert run.code == 0, run
    assert consumed(audit(tmp_path / "audit.jsonl")) == reference


@pytest.mark.parametrize("program", ["trainer", "stoker.inspection.check", "stoker.packing.pack", "a program"])
def test_a_web_server_that_is_away_is_told_at_once_and_once(program, data, tmp_path):
    with serving(data, away_s=2) as url:
        pattern = url + "/train-{000..002}.tar"
        if program == "a program":
            (tmp_path / "own.py").write_text("import stoker\nstoker.tar(%r, label='cls')\n" % pattern)
            run = _program("own", tmp_path)
        elif program == "trainer":
            run = _trained(tmp_path, pattern, "--label-field", "cls")
        else:
            run = _program(program, tmp_path, pattern, *(["out"] if "pack" in program else [
                "--worker-python", WORKER_PYTHON]))
    assert getattr(run, "code", getattr(run, "returncode", None)) == 0, run
    told = [line for line in run.stderr.splitlines() if "gives nothing yet" in line]
    assert len(told) == 1 and "(503 Service Unavailable): it is tried again for 60 s" in told[0], run.stderr


def test_raw_arrays(data, tmp_path):
    run = _trained(tmp_path, data / "x.npy", "--label-field", data / "y.npy")
    assert run.code == 0, run
    assert "24 records in 1 file" in run.stdout and len(audit(tmp_path / "audit.jsonl")) == 8


def test_a_killed_run_goes_on_with_the_files_in_another_folder(data, reference, tmp_path):
    here, moved = tmp_path / "here", tmp_path / "moved"
    here.mkdir()
    options = dict(TRAINING, epochs=40, audit=here / "audit.jsonl", checkpoint_dir=here / "run", checkpoint_secs=0.2)
    with Trainer(here, data / "train-*.tfrecord", *arguments(options)) as trainer:
        trainer.wait_until(lambda: len(audit(here / "audit.jsonl")) > 12 and any(
            name.endswith(".index") for name in os.listdir(str(here / "run"))), "a checkpoint")
        trainer.send_signal(signal.SIGKILL)
        trainer.wait_gone()
    moved.mkdir()
    for number in range(3):
        name = "train-%05d-of-00003.tfrecord" % number
        shutil.copy(str(data / name), str(moved / name))
    options["epochs"] = 41
    run = finished(here, moved / "train-*.tfrecord", *arguments(options))
    assert run.code == 0 and "going on from step" in run.stdout, run
    lines = consumed(audit(here / "audit.jsonl"))
    assert lines[:8] == reference and [line[0] for line in lines] == list(range(41 * 4))

    os.remove(str(moved / "train-00001-of-00003.tfrecord"))
    options["epochs"] = 42
    run = finished(here, moved / "train-*.tfrecord", *arguments(options))
    assert run.code == 2 and "24 -> 16 samples; 8 are gone, the first of them: " in run.stderr, run
    run = finished(here, moved / "train-*.tfrecord", "--dataset-changed", "keep", *arguments(options))
    assert run.code == 0 and "8 bad files" in run.stdout, run


def test_records_that_are_gone_are_not_read_from_a_file_that_was_replaced(data, tmp_path):
    shutil.copytree(str(data), str(tmp_path / "data"))
    here = tmp_path / "here"
    here.mkdir()
    assert _trained(here, tmp_path / "data" / "train-*.tfrecord").code == 0
    shard = str(tmp_path / "data" / "train-00001-of-00003.tfrecord")
    with open(shard, "rb") as file:
        whole = file.read()
    length = int.from_bytes(whole[:8], "little") + 16
    with open(shard, "wb") as file:
        file.write(whole[length:])           # the same records but the first: all lie at other places now
    run = _trained(here, tmp_path / "data" / "train-*.tfrecord", "--dataset-changed", "keep", epochs=3)
    assert run.code == 0 and "8 are gone, the first of them" in run.stdout and "8 bad files" in run.stdout, run


def test_predict_show_replay_and_check(data, server, tmp_path):
    run = _trained(tmp_path, "%s/train-{000..002}.tar" % server, "--columns", "json")
    assert run.code == 0, run

    run = predicted(tmp_path, "run", data / "train-*.tfrecord", "-o", "out.csv", "--worker-python", WORKER_PYTHON)
    assert run.code == 0, run
    with open(str(tmp_path / "out.csv")) as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 24 and lines[0]["path"].startswith("train-00000-of-00003.tfrecord//")
    run = predicted(tmp_path, "run", data / "train-*.tfrecord", "-o", "named.csv", "--columns", "caption",
                    "--worker-python", WORKER_PYTHON)
    assert run.code == 0, run
    with open(str(tmp_path / "named.csv")) as file:
        named = list(csv.DictReader(file))
    assert [line["caption"] for line in named] == ["picture %d" % number for number in range(24)]
    run = predicted(tmp_path, "run", data / "list.txt", "--root", server, "-o", "web.csv", "--worker-python",
                    WORKER_PYTHON)
    assert run.code == 0, run
    with open(str(tmp_path / "web.csv")) as file:
        web = list(csv.DictReader(file))
    assert [line["score_0"] for line in web] == [line["score_0"] for line in lines] and len(web) == 24

    with Replay(str(tmp_path / "run"), worker_python=WORKER_PYTHON) as replay:
        for batch in replay.batches([0, 5]):
            assert replay.crc(batch) == replay.audited(batch.step)["crc32"]
    with Replay(str(tmp_path / "run"), root=str(data), worker_python=WORKER_PYTHON) as replay:
        for batch in replay.batches([5]):      # the files are in a folder now
            assert replay.crc(batch) == replay.audited(batch.step)["crc32"]
    run = _program("stoker.inspection.show", tmp_path, "run", "--step", "3", "-o", "step.png", "--worker-python",
                   WORKER_PYTHON)
    assert run.returncode == 0 and "as in the audit" in run.stdout, run

    checked = {}
    for name in ("photos", "train-*.tar"):
        run = _program("stoker.inspection.check", tmp_path, data / name, "--worker-python", WORKER_PYTHON)
        assert run.returncode == 0, run
        assert "24 files, 24 good, 0 bad" in run.stdout, run.stdout
        checked[name] = [line for line in run.stdout.splitlines() if "mean" in line or "deviation" in line]
    assert checked["photos"] == checked["train-*.tar"] and len(checked["photos"]) == 2
    run = _program("stoker.inspection.check", tmp_path, data / "log.csv", "--root", server + "/photos", "--label",
                   "label", "--worker-python", WORKER_PYTHON)
    assert run.returncode == 0 and "24 files, 24 good" in run.stdout, run


def test_a_run_whose_record_file_is_replaced_ends_with_a_sentence(data, tmp_path, monkeypatch):
    monkeypatch.setattr(data_watch, "LOCAL_INTERVAL_S", 0.05)
    shutil.copytree(str(data), str(tmp_path / "data"))
    shard = str(tmp_path / "data" / "train-002.tar")
    options = dict(image_size=16, batch_size=6, workers=1, epochs=100000, worker_python=WORKER_PYTHON)
    with stoker.open_stream(str(tmp_path / "data" / "train-*.tar"), **options) as stream:
        next(stream)
        shutil.copy(shard, shard + ".new")
        with open(shard + ".new", "ab") as file:
            file.write(bytes(512))
        os.replace(shard + ".new", shard)
        with pytest.raises(stoker.RunFailed, match=r"train-002\.tar has changed since it was indexed at .*open the "
                                                   "stream again"):
            for _ in stream:
                pass


def test_validation_of_other_forms(data, tmp_path):
    validation = data / "train-00002-of-00003.tfrecord"        # of one class alone
    run = _trained(tmp_path, data / "train-{000..001}.tar", "--validation-data", validation)
    assert run.code == 0 and "16 samples to train on, 8 held out" in run.stdout, run


#: [(arguments, a part of the sentence)]
REFUSED = [
    (["{server}/photos"], "is on a web server, which does not list its folders: give record files, such as"),
    (["{server}/no-{{0..2}}.tar"], "no-0.tar is not there"),
    (["http://user:word@127.0.0.1/x.tar"], "has a user's name or password in it"),
    (["http://127.0.0.1/x.tar?signature=1"], "has a '?' or '#' behind its path"),
    (["ftp://127.0.0.1/x.tar"], "Stoker does not read ftp://"),
    (["{data}/bare-*-of-00003"], "or with --records KIND"),
    (["{data}/bare-00000-of-00003"], "is a file, and its name does not say what it holds"),
    (["{data}/photos", "--image-field", "x"], "--image-field is for record files, and DATA is"),
    (["{data}/photos", "--columns", "x"], "--columns is for record files, and DATA is"),
    (["{data}/train-*.tar", "--generator", "numerical"], "the generator numerical makes its records"),
    (["{data}/x.npy"], "error: no labels were named, and the built-in model needs them: --label-field "
                          "names the npy file"),
    (["{data}/train-*.tfrecord", "--label-field", "none"], "--label-field names the feature with the label"),
    (["{data}/train-*.tar", "--label-field", "none"], "--label-field names the extension of the members"),
    (["{data}/train.zip", "--no-labels"], "--label-field names the extension of the entries"),
    (["{data}/x.h5"], "Stoker must know which of its datasets has the samples"),
    (["{data}/x.tar.gz"], "is compressed"),
    (["{data}/x.parquet"], "convert it with stoker-pack")]


@pytest.fixture(scope="module")
def refusals(data, server, tmp_path_factory):
    """How the command with the arguments of each of REFUSED ended."""
    commands = [[each.format(server=server, data=data) for each in arguments] for arguments, _ in REFUSED]
    return ended("trainer", ["tensorflow", "stoker.trainer.cli", "stoker.trainer.run"], commands,
                 tmp_path_factory.mktemp("refusals"))


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[sentence for _, sentence in REFUSED])
def test_refusals(refusals, number):
    run = refusals[number]
    assert run.code == 2 and REFUSED[number][1] in run.printed and "Traceback" not in run.printed, run
    assert "user:word" not in run.printed and "signature=1" not in run.printed
