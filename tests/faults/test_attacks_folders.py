"""Attacks through the folders that Stoker writes to and reads: each is a row of the attack table."""

import json
import os
import random
import re
import shutil
import struct
import sys
import time
import zlib

import pytest

from stoker.pipeline.errors import StokerError
from stoker.pipeline.sources.sample_data import write
from tests.support.other_user import OTHER, as_other_user, shared_folder
from tests.support.processes import interpreter
from tests.support.training import arguments, finished

pytest.importorskip("tensorflow")

STRANGER = "a stranger's checkpoint folder"
OPTIONS = dict(image_size=8, batch_size=5, epochs=1, workers=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with pictures, and the checkpoint folder of a run."""
    folder = tmp_path_factory.mktemp("trained")
    write(str(folder / "photos"), 12)
    (folder / "temporary-files").mkdir()
    ended = finished(folder, "photos", *arguments(OPTIONS), "--checkpoint-dir", "checkpoints",
                     TMPDIR=str(folder / "temporary-files"))       # the mark of its processes
    assert ended.code == 0, ended
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(str(trained / "checkpoints"), str(tmp_path / "checkpoints"))
    os.symlink(str(trained / "photos"), str(tmp_path / "photos"))
    (tmp_path / "precious").write_text("precious")
    return tmp_path


def run(folder, *more, **options):
    return finished(folder, "photos", *arguments(dict(OPTIONS, **options)), "--checkpoint-dir", "checkpoints", *more)


def one_sentence(ended):
    assert ended.code == 2 and "Traceback" not in ended.stderr, ended
    last = ended.stderr.strip().split("\n")[-1]
    assert last.startswith("stoker-train: error: "), ended
    return last


def snapshot(folder):
    return {name: os.lstat(os.path.join(str(folder), name)).st_mtime_ns for name in os.listdir(str(folder))}


@pytest.mark.parametrize("name, kind", [("stoker.lock", "link"), ("stoker.lock", "pipe"), ("stoker.json", "link"),
                                        ("checkpoint", "pipe"), ("bad-samples.tsv", "link")])
def test_a_link_or_a_pipe_in_place_of_a_file(folder, name, kind, attacks):
    path = folder / "checkpoints" / name
    if path.exists():
        path.unlink()
    (os.mkfifo if kind == "pipe" else lambda at: os.symlink(str(folder / "precious"), at))(str(path))
    before = snapshot(folder / "checkpoints")
    last = one_sentence(run(folder))
    assert name in last and "is a " + kind in last
    assert snapshot(folder / "checkpoints") == before
    assert (folder / "precious").read_text() == "precious"
    if name == "stoker.lock":
        attacks(STRANGER, "`%s` and the other files of Stoker as a %s" % (name, kind),
                "refused with one sentence, which names it; nothing is opened, and nothing changed")


def test_links_under_the_names_of_new_files_are_not_followed(folder, attacks):
    (folder / "empty").mkdir()
    for name in ("stoker.json.new", "stoker-run.json.new", "stoker-rows.npy.new", "checkpoint.new", "stoker-saving",
                 "stoker-samples.gz.new"):
        os.symlink(str(folder / "precious"), str(folder / "checkpoints" / name))
        os.symlink(str(folder / "precious"), str(folder / "empty" / name))
    assert run(folder, epochs=2).code == 0          # goes on
    ended = run(folder, "--checkpoint-dir", "empty")
    assert ended.code == 0, ended
    assert (folder / "precious").read_text() == "precious"
    assert json.loads((folder / "empty" / "stoker.json").read_text())
    assert not [name for name in os.listdir(str(folder / "empty")) if os.path.islink(str(folder / "empty" / name))]
    attacks(STRANGER, "links under the names of files that are written next (`stoker.json.new`, `stoker-saving`)",
            "they are removed, and followed nowhere; the run goes on")


@pytest.mark.parametrize("content, words", [
    (b"[" * 200000, "nested|torn"), (b"[" + b"{}," * 1000000 + b"1]", "millions of values"),
    (b'{"seed": ' + b"9" * 1000000 + b"}", "a number of 1000000 digits"),
    (b'{"plan": 1, "plan": 2}', "'plan' twice"), (None, "more than the")],
    ids=["deep", "many", "digits", "twice", "large"])
def test_odd_json_is_one_sentence(folder, content, words, attacks):
    path = folder / "checkpoints" / "stoker.json"
    if content is None:                              # a sparse file, which takes no place
        os.truncate(str(path), 1 << 30)
    else:
        path.write_bytes(content)
    last = one_sentence(run(folder))
    assert "no readable stoker.json" in last and re.search(words, last), last
    if content is None:
        attacks(STRANGER, "`stoker.json` of 1 GB, nested very deep, with millions of values, numbers of a "
                "million digits, NaN, a key twice, a list", "refused with one sentence before it takes memory or time")


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_a_pipe_in_place_of_a_checkpoint_is_a_damaged_one(folder, suffix, attacks):
    for path in (folder / "checkpoints").glob("model.ckpt-*." + suffix):
        path.unlink()
        os.mkfifo(str(path))
    assert "no checkpoint that can be restored" in one_sentence(run(folder))
    if suffix == "index":
        attacks(STRANGER, "a pipe in place of a part of a checkpoint", "the checkpoint counts as damaged; no wait")


def test_files_of_events_cost_nothing(folder, attacks):
    os.mkfifo(str(folder / "checkpoints" / "events.out.tfevents.1.pipe"))
    (folder / "checkpoints" / "events.out.tfevents.2.large").write_bytes(b"\xff" * 7 + b"\x0f" + b"\0" * 4)
    assert run(folder, epochs=2).code == 0
    attacks(STRANGER, "a pipe, or a record of 2^60 bytes, as a file of events", "it is skipped; no wait, no memory")


def test_forged_pixels_in_a_cache_folder(folder, attacks):
    """Another user fills a folder with a cache in which every picture is black, and the user names that folder."""
    lmdb = pytest.importorskip("lmdb")
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.remove(str(folder / "photos"))
    write(str(folder / "photos"), 12)
    time.sleep(2.1)                # of files that changed just now, nothing is kept
    python = interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable
    cached = "--cache", folder / "cache", "--worker-python", python
    wanted = run(folder, "--checkpoint-dir", "one", "--audit", "one.jsonl", *cached)
    assert wanted.code == 0, wanted
    path, = map(str, (folder / "cache").glob("*.lmdb"))
    with lmdb.open(path, subdir=False, map_size=1 << 30) as cache, cache.begin(write=True) as transaction:
        entries = [(key, bytes(entry)) for key, entry in transaction.cursor()]
        assert entries
        for key, entry in entries:
            head, black = entry[:56], bytes(len(entry) - 64)      # of ``cache_entry``: head, checksum, pixels
            transaction.put(key, head + struct.pack("<Q", zlib.crc32(black, zlib.crc32(head))) + black)
    for each in [folder / "cache"] + list((folder / "cache").iterdir()):
        os.chown(str(each), OTHER, OTHER)
    ended = run(folder, "--checkpoint-dir", "two", "--audit", "two.jsonl", *cached)
    assert ended.code == 1 and "Traceback" not in ended.stderr, ended
    assert "not safe from the pixels of other users: it is a folder of another user (number 65534)" in ended.stderr
    assert not (folder / "two.jsonl").exists() or not (folder / "two.jsonl").read_text()
    attacks("another user of the host", "a cache folder with forged pixels, under a name that the user will choose",
            "the run does not begin: the folder's owner and mode are checked, and the owner of each file in it")


@pytest.mark.parametrize("option", ["--audit", "--health-file"])
def test_a_pipe_that_the_user_names(folder, option, attacks):
    os.mkfifo(str(folder / "pipe"))
    assert "it is a pipe" in one_sentence(run(folder, option, "pipe", epochs=2))
    if option == "--audit":
        attacks("another user of the host", "a pipe in place of the audit or the health file",
                "refused with one sentence")


def test_folders_with_two_links_each_to_the_next(folder, attacks):
    """2^35 paths lead to the last folder."""
    root = folder / "doubled"
    shutil.copytree(str(folder / "photos"), str(root))
    for number in range(36):
        (root / "negative" / ("%02d" % number)).mkdir()
        if number:
            for name in ("left", "right"):
                os.symlink("../%02d" % number, str(root / "negative" / ("%02d" % (number - 1)) / name))
    shutil.copy(str(next((root / "negative").glob("*.jpg"))), str(root / "negative" / "35" / "last.jpg"))
    ended = finished(folder, "doubled", *arguments(OPTIONS), "--checkpoint-dir", "new")
    assert ended.code == 0 and "doubled: 13 images in 2 classes" in ended.stdout, ended
    assert "another name of a folder whose files count already: 70, such as" in ended.stdout, ended
    attacks("a downloaded dataset", "35 folders with two links each to the next, which are 2^35 paths",
            "each real folder is entered once; the summary counts the other names")


def test_a_link_of_another_user_under_the_name_of_the_audit(folder, attacks):
    with shared_folder() as shared:
        precious = os.path.join(shared, "precious")
        as_other_user(lambda: os.symlink(precious, os.path.join(shared, "audit.jsonl")))
        last = one_sentence(run(folder, "--audit", os.path.join(shared, "audit.jsonl"), epochs=2))
        assert "it is a link of another user (number 65534), which could lead to any file: name the file itself" in last
        assert not os.path.exists(precious)
    attacks("another user of the host", "a link in `/tmp` under the name of your audit, health file or predictions",
            "refused with one sentence; links of your own are followed")


ODD = (None, True, -1, 10 ** 30, 1.5, "", "x" * 300, "\ud800", "../../x", [], [[1]], ["a", ["b"]], {}, {"a": 1}, [None],
       ["\0"], {"": []}, "__main__:x")


def odd(chance, value, depth=0):
    """``value`` with one odd part, or without one of its parts."""
    if depth < 4 and isinstance(value, dict) and value and chance.random() < 0.8:
        key, changed = chance.choice(sorted(value)), dict(value)
        changed.update({key: odd(chance, changed.pop(key), depth + 1)} if chance.random() < 0.9 else {})
        return changed
    if depth < 4 and isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return value[:place] + [odd(chance, value[place], depth + 1)] + value[place + 1:]
    return chance.choice(ODD)


def test_records_with_odd_values_are_never_a_traceback(folder):
    from stoker.trainer import checkpoint, prediction
    from stoker.trainer.checkpoint_files import CheckpointFolder
    from stoker.trainer.parser import predict_parser
    from stoker.trainer.record import files as kept_records
    from stoker.trainer.record.known_samples import has_changed
    from stoker.trainer.run import prepare
    photos, place = str(folder / "photos"), str(folder / "checkpoints")
    this = prepare(photos, image_size=8, batch_size=5, validation=0.2)
    records = {name: (folder / "checkpoints" / name).read_text() for name in ("stoker.json", "stoker-run.json")}
    refused = 0
    for seed in range(200):
        chance = random.Random(seed)
        name = chance.choice(sorted(records))
        for each, text in records.items():
            content = json.loads(text)
            content.pop("checksum")
            (folder / "checkpoints" / each).write_text(json.dumps(odd(chance, content) if each == name else content))
        with CheckpointFolder(place) as opened:
            for use in (lambda: checkpoint.resume(opened, this), lambda: checkpoint.known(opened),
                        lambda: kept_records.recorded_decoders(opened), lambda: has_changed(place),
                        lambda: prediction._prepared(predict_parser().parse_args([place, photos]),
                                                     kept_records.recorded_run(opened))):
                try:
                    use()
                except StokerError as error:
                    refused += bool(str(error))
    assert refused > 100
