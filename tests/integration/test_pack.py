"""stoker-pack: each kind of source on both Pythons, the same bytes when it is interrupted, and its sentences."""

import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest

import stoker
from stoker.packing.inputs.tfrecords import is_frame
from stoker.pipeline.sources.records.tfrecord import crc_function
from tests.support.forking import ended
from tests.support.processes import LIMIT_S, interpreter, wait_for
from tests.support.range_server import serving

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEWEST = interpreter("STOKER_TEST_WORKER_PYTHON")
PYTHONS = pytest.mark.parametrize("python", [None, NEWEST], ids=["3.6", "newest"])
#: Writes of an interrupted run before it is killed: fewer give more kills.
MOST_WRITES = int(os.environ.get("STOKER_TEST_PACK_WRITES", "90"))


def by_turns(name, *values):
    """Each of ``values`` with one Python, in turn: for what does not depend on the Python alone."""
    return pytest.mark.parametrize(name + ", python", [
        (value, (None, NEWEST)[turn % 2]) for turn, value in enumerate(values)],
        ids=["%s-%s" % (getattr(value, "__name__", value) or "plain", ("3.6", "newest")[turn % 2])
             for turn, value in enumerate(values)])


#: Ends itself (SIGKILL) at the n-th of its own writes, syncs and renames.
DYING = """
import os, signal, sys
from stoker.packing import program, shard
left = [int(sys.argv.pop(1))]
def dying(call):
    def counted(*args):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args)
    return counted
shard.ShardWriter._write = dying(shard.ShardWriter._write)
os.fsync, os.replace = dying(os.fsync), dying(os.replace)
from stoker.packing.pack import main
main()
"""


#: Takes a tenth of a second for each sample once it has written stoker-pack.json: it is not done before a signal comes.
SLOW = """
import os, time
from stoker.packing import output
from stoker.packing.pack import main
add = output.OutFolder.add
def slowly(folder, *args):
    if os.path.exists(os.path.join(folder.path, "stoker-pack.json")):
        time.sleep(0.1)
    add(folder, *args)
output.OutFolder.add = slowly
main()
"""


def slow_command(python, *arguments):
    return [python or sys.executable, "-c", SLOW] + [str(argument) for argument in arguments]


def command(python, *arguments):
    return [python or sys.executable, "-m", "stoker.packing.pack"] + [str(argument) for argument in arguments]


def pack(*arguments, python=None, code=0):
    """What it prints on both outputs, without its progress."""
    done = subprocess.run(command(python, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=LIMIT_S)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stdout + "".join(line for line in done.stderr.splitlines(True) if line.startswith("stoker"))


def picture(number):
    """Bytes that begin as a JPEG does; nothing decodes them."""
    return b"\xff\xd8\xff" + b"%d" % number + random.Random(number).getrandbits(8 * 30000).to_bytes(30000, "little")


def make_folder(root, count=90):
    for number in range(count):
        folder = root / ("cat", "d.o.g", "é")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ("%03d.v2.jpg" % number)).write_bytes(picture(number))
    (root / "cat" / "notes.txt").write_bytes(b"x")
    return root


def samples(folder):
    """[(key, {extension: content})] of all shards, in order, as WebDataset groups them."""
    found = []
    for name in sorted(os.listdir(str(folder))):
        if name.endswith(".tar"):
            key = None
            with tarfile.open(os.path.join(str(folder), name), "r|", encoding="utf-8") as tar:
                for member in tar:
                    stem, _, extension = member.name.partition(".")
                    if stem != key:
                        found.append((stem, {}))
                        key = stem
                    found[-1][1][extension] = tar.extractfile(member).read()
    return found


def content(folder):
    """Name -> bytes of all files, but for the times and versions in the manifest."""
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(str(folder)))}


def shards(folder):
    return {name: data for name, data in content(folder).items() if name.endswith(".tar")}


# ------------------------------------------------------------------------------------------------------ the sources

LABELS = [number % 4 for number in range(30)]


def tfrecords(folder, kind=""):
    """Two files; TF writes them."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    types = tf.python_io.TFRecordCompressionType
    options = tf.python_io.TFRecordOptions(getattr(types, kind.upper() or "NONE"))
    paths = [str(folder / name) for name in ("a-00000-of-00002", "a-00001-of-00002")]
    for part, path in enumerate(paths):
        with tf.python_io.TFRecordWriter(path, options) as writer:
            for number in range(15 * part, 15 * part + 15):
                example = tf.train.Example(features=tf.train.Features(feature={
                    "image/encoded": feature(picture(number)), "image/class/label": feature(LABELS[number]),
                    "image/class/text": feature(b"n%d" % LABELS[number]),
                    "image/filename": feature(b"%d.JPEG" % number),
                    "image/scale": feature(number / 4.0)}))
                writer.write(example.SerializeToString())
    return paths


@by_turns("kind", "", "gzip", "zlib", "")
def test_tfrecords(tmp_path, python, kind):
    tfrecords(tmp_path, kind)
    text = pack(tmp_path / "a-{00000..00001}-of-00002", tmp_path / "out", "--columns", "image/filename,image/scale",
                python=python)
    assert "30 samples in 1 shard" in text
    assert samples(tmp_path / "out") == [("%09d" % number, {
        "jpg": picture(number), "cls": b"%d" % LABELS[number],
        "json": json.dumps({"image/filename": "%d.JPEG" % number, "image/scale": number / 4.0},
                           separators=(",", ":")).encode()}) for number in range(30)]
    if kind:
        return
    pack(tmp_path / "a-*", tmp_path / "named", "--label-field", "image/class/text", python=python)
    assert [parts["cls"] for _, parts in samples(tmp_path / "named")] == [b"%d" % label for label in LABELS]
    assert (tmp_path / "named" / "classes.txt").read_text() == "n0\nn1\nn2\nn3\n"


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def make_tar(path, mode="w", names=("%04d",), form=tarfile.PAX_FORMAT):
    with tarfile.open(str(path), mode, format=form) as tar:
        for number in range(30):
            for name in names:
                add(tar, name % number + ".jpg", picture(number))
                add(tar, name % number + ".cls", b"%d" % LABELS[number])
                add(tar, name % number + ".seg.png", b"\x89PNG%d" % number)
    return path


@by_turns("mode", "w", "w:gz", "w:bz2", "w:xz")
def test_tars(tmp_path, python, mode):
    make_tar(tmp_path / "one.tar", mode, names=("k" * 150 + "/é%04d",))
    pack(tmp_path / "one.tar", tmp_path / "out", python=python)
    assert samples(tmp_path / "out") == [("k" * 150 + "/é%04d" % number, {
        "jpg": picture(number), "cls": b"%d" % LABELS[number], "seg.png": b"\x89PNG%d" % number})
        for number in range(30)]


def test_files_with_the_same_keys_stay_apart(tmp_path):
    for name in ("a.tar", "b.tar"):
        make_tar(tmp_path / name, form=tarfile.GNU_FORMAT)
    pack(tmp_path / "*.tar", tmp_path / "out", "--columns", "seg.png", "--label-field", "none")
    assert [key for key, _ in samples(tmp_path / "out")] == ["%s/%04d" % pair for pair in [
        (name, number) for name in "ab" for number in range(30)]]
    assert set(samples(tmp_path / "out")[0][1]) == {"jpg", "seg.png"}


def test_two_samples_of_one_key_are_refused(tmp_path):
    with tarfile.open(str(tmp_path / "a.tar"), "w") as tar:
        for name in ("1", "2", "1"):
            add(tar, name + ".jpg", picture(1))
            add(tar, name + ".cls", b"1")
    assert "a.tar, 1: another sample of this shard has the same key, 1, and readers would take both for one: give " \
           "--names number" in pack(tmp_path / "a.tar", tmp_path / "out", code=2)
    assert "3 samples" in pack(tmp_path / "a.tar", tmp_path / "out", "--names", "number")


def test_class_folders_in_another_folder(tmp_path):
    """``zip -r photos.zip photos`` puts the class folders into another one."""
    with zipfile.ZipFile(str(tmp_path / "a.zip"), "w") as archive:
        for number in range(4):
            archive.writestr("photos/%d/%d.jpg" % (number % 2, number), picture(number))
    text = pack(tmp_path / "a.zip", tmp_path / "out", code=2)
    assert "a.zip lie in one folder (photos), and --label-field folder takes" in text and "--folder photos" in text
    assert "2 classes, in classes.txt" in pack(tmp_path / "a.zip", tmp_path / "out", "--folder", "photos")
    assert [key for key, _ in samples(tmp_path / "out")] == ["%d/%d" % (number % 2, number) for number in range(4)]
    assert "were packed with --folder photos: " in pack(tmp_path / "a.zip", tmp_path / "out", "--folder", "photos/1",
                                                        code=2)
    assert "1 class, in classes.txt" in pack(tmp_path / "a.zip", tmp_path / "one", "--classes", "photos")
    assert "no sample below the folder none" in pack(tmp_path / "a.zip", tmp_path / "no", "--folder", "none",
                                                     "--label-field", "none", code=2)


def test_a_zip_whose_members_make_no_sample_names_a_few_of_them(tmp_path):
    with zipfile.ZipFile(str(tmp_path / "a.zip"), "w") as archive:
        for number in range(100):
            archive.writestr("photos/chien.%03d.v2.jpg" % number, picture(number)[:100])
    text = pack(tmp_path / "a.zip", tmp_path / "out", "--label-field", "cls", code=2)
    assert "it has no picture among its members (.000.v2.jpg, " in text and ".007.v2.jpg and 92 more); " in text


def test_folders_tars_and_zips_of_class_folders(tmp_path):
    folder = make_folder(tmp_path / "photos")
    paths = [os.path.join(name, file) for name in sorted(os.listdir(str(folder)))
             for file in sorted(os.listdir(str(folder / name)))]
    with tarfile.open(str(tmp_path / "a.tgz"), "w:gz") as tar:
        with zipfile.ZipFile(str(tmp_path / "a.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                add(tar, "./" + path, (folder / path).read_bytes())
                archive.write(str(folder / path), path)
    text = pack(folder, tmp_path / "folder", "--shard-mb", 1)
    assert "90 samples in 3 shards" in text and "3 classes, in classes.txt" in text
    assert "no samples in the sources: not an image: its name has another suffix: 1" in text
    assert (tmp_path / "folder" / "classes.txt").read_bytes() == "cat\nd.o.g\né\n".encode()
    pack(tmp_path / "a.tgz", tmp_path / "tar", "--label-field", "folder", "--shard-mb", 1, python=NEWEST)
    pack(tmp_path / "a.zip", tmp_path / "zip", "--shard-mb", 1, python=NEWEST)
    assert shards(tmp_path / "folder") == shards(tmp_path / "tar") == shards(tmp_path / "zip")
    for name in os.listdir(str(tmp_path / "folder")):
        assert (tmp_path / "folder" / name).stat().st_size <= 1 << 20
    first, parts = samples(tmp_path / "folder")[30]
    assert first == "d%2Eo%2Eg/001%2Ev2" and parts == {"jpg": picture(1), "cls": b"1"}
    manifest = json.loads((tmp_path / "folder" / "stoker-pack.json").read_text())
    assert manifest["finished"] and [shard["samples"] for shard in manifest["shards"]] == [32, 32, 26]


@PYTHONS
def test_parquet(tmp_path, python):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow
    names = json.dumps({"info": {"features": {"label": {"names": list("abcd"), "_type": "ClassLabel"}}}})
    table = pyarrow.Table.from_pydict({
        "image": [{"bytes": picture(number), "path": "%d.jpg" % number} for number in range(30)],
        "label": LABELS, "text": [b"n%d" % label for label in LABELS], "raw": [picture(number) for number in range(30)],
        "side": [number / 4 for number in range(30)]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": names}), str(tmp_path / "a.parquet"),
                                row_group_size=7)
    text = pack(tmp_path / "a.parquet", tmp_path / "out", "--columns", "side", python=python)
    assert "4 classes, in classes.txt" in text
    assert (tmp_path / "out" / "classes.txt").read_text() == "a\nb\nc\nd\n"
    assert samples(tmp_path / "out") == [("%09d" % number, {
        "jpg": picture(number), "cls": b"%d" % LABELS[number], "json":
        ('{"side":%s}' % json.dumps(number / 4)).encode()}) for number in range(30)]
    pack(tmp_path / "a.parquet", tmp_path / "raw", "--image-field", "raw", "--label-field", "none", python=python)
    assert [parts for _, parts in samples(tmp_path / "raw")] == [{"jpg": picture(number)} for number in range(30)]
    assert "has no column nope, and has image, label, text, raw, side" in pack(
        tmp_path / "a.parquet", tmp_path / "no", "--label-field", "nope", python=python, code=2)


@by_turns("make", make_folder, make_tar)
def test_shuffled_shards_have_the_same_samples_in_an_order_of_the_seed(tmp_path, make, python):
    source, orders = make(tmp_path / "source"), []
    for seed in (None, 1, 2):
        out = tmp_path / ("out-%s" % seed)
        pack(source, out, *([] if seed is None else ["--shuffle", seed]), python=python)
        orders.append(samples(out))
    assert orders[0] != orders[1] != orders[2]
    assert sorted(orders[0], key=str) == sorted(orders[1], key=str) == sorted(orders[2], key=str)


# --------------------------------------------------------------------------------------------- interrupted and again

def test_both_pythons_make_the_same_bytes(tmp_path):
    if NEWEST is None:
        pytest.skip("one Python")
    folder = make_folder(tmp_path / "photos")
    for name, python in (("old", None), ("new", NEWEST)):
        pack(folder, tmp_path / name, "--shard-mb", 1, "--shuffle", 5, python=python)
    assert content(tmp_path / "old") == content(tmp_path / "new")


@by_turns("kind", "folder", "tar")
def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_bytes(tmp_path, python, kind):
    source = make_folder(tmp_path / "photos", 120) if kind == "folder" else make_tar(tmp_path / "a.tgz", "w:gz", (
        "%04d", "b/%04d", "c/%04d"))
    arguments = [str(source), str(tmp_path / "out"), "--shard-mb", "1", "--shuffle", "3", "--shuffle-mb", "2"]
    pack(arguments[0], tmp_path / "whole", *arguments[2:], python=python)
    chance, kills = random.Random(kind), 0
    while True:
        done = subprocess.run([python or sys.executable, "-c", DYING, str(chance.randint(10, MOST_WRITES))] + arguments,
                              cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done
        kills += 1
        assert len([name for name in os.listdir(str(tmp_path / "out")) if name.endswith(".new")]) <= 1
        assert kills < 100
    assert kills >= 2
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert "all is packed already" in pack(*arguments, python=python)
    (tmp_path / "out" / "train-00001.tar").write_bytes(b"")
    text = pack(*arguments, python=python)
    assert "train-00001.tar is gone or has another size than it had" in text
    assert "goes on after 1 complete shard with" in text
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("python, signum, code", [
    (None, signal.SIGINT, 130), (NEWEST, signal.SIGINT, 130), (NEWEST, signal.SIGTERM, 143)])
def test_ctrl_c_leaves_complete_shards_and_no_temporary_file(tmp_path, python, signum, code):
    folder, out = make_folder(tmp_path / "photos", 300), tmp_path / "out"
    process = subprocess.Popen(slow_command(python, folder, out, "--shard-mb", 1), cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, universal_newlines=True)
    try:
        wait_for(lambda: (out / "stoker-pack.json").exists(), "the first shard", every_s=0.002)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in errors
    if signum == signal.SIGINT:
        assert "stopped by Ctrl-C; complete shards stay, and the same command goes on after them" in errors
    names = os.listdir(str(out))
    manifest = json.loads((out / "stoker-pack.json").read_text())
    assert set(names) - {"stoker-pack.json", "classes.txt"} == {shard["name"] for shard in manifest["shards"]}
    assert not manifest["finished"]
    if manifest["shards"]:
        with pytest.raises(stoker.DatasetError, match="is a shard of a pack that is not finished"):
            stoker.tar(str(out / "train-*.tar"))


def test_one_process_packs_into_a_folder(tmp_path):
    folder, out = make_folder(tmp_path / "photos", 300), tmp_path / "out"
    process = subprocess.Popen(slow_command(None, folder, out, "--shard-mb", 1), cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (out / "stoker-pack.json").exists(), "what it writes under its lock", every_s=0.002)
        process.send_signal(signal.SIGSTOP)
        assert "another stoker-pack writes into %s at this moment" % out in pack(folder, out, code=2)
    finally:
        process.kill()
        process.wait()
    pack(folder, out, "--shard-mb", 1)


def test_a_disk_that_changes_a_byte_is_found(tmp_path):
    """The byte changes when the shard is complete, before it is read back."""
    folder, out = make_folder(tmp_path / "photos"), tmp_path / "out"
    script = ("import os\nfrom stoker.packing import shard\n"
              "finish = shard._EarlySync.finish\n"
              "def changing(*args):\n"
              "    finish(*args)\n"
              "    name = [name for name in os.listdir(%(out)r) if name.endswith('.tar.new')][0]\n"
              "    with open(os.path.join(%(out)r, name), 'rb+') as file:\n"
              "        file.seek(2000)\n"
              "        file.write(b'other')\n"
              "shard._EarlySync.finish = changing\n"
              "from stoker.packing.pack import main\nmain()" % {"out": str(out)})
    done = subprocess.run([sys.executable, "-c", script, str(folder), str(out)], cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT_S)
    assert done.returncode == 1, done
    assert "train-00000.tar.new has other bytes than were written, at cat/000%2Ev2.jpg: the disk" in done.stderr
    assert sorted(os.listdir(str(out))) == ["classes.txt", "stoker-pack.json"]
    assert json.loads((out / "stoker-pack.json").read_text())["shards"] == []
    pack(folder, out)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_a_sentence_and_damages_nothing(tmp_path):
    folder, disk = make_folder(tmp_path / "photos", 200), tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3500k", "tmpfs", str(disk)], stderr=subprocess.DEVNULL
                      ).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        text = pack(folder, disk / "out", "--shard-mb", 1, code=1)
        assert "%s is full (No space left on device): the complete shards stay" % (disk / "out") in text
        manifest = json.loads((disk / "out" / "stoker-pack.json").read_text())
        assert manifest["shards"] and set(os.listdir(str(disk / "out"))) == {"classes.txt", "stoker-pack.json"} | {
            shard["name"] for shard in manifest["shards"]}
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        pack(folder, disk / "out", "--shard-mb", 1)
        pack(folder, tmp_path / "whole", "--shard-mb", 1)
        assert content(disk / "out") == content(tmp_path / "whole")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_other_sources_and_options_are_refused(tmp_path):
    folder, out = make_folder(tmp_path / "photos"), tmp_path / "out"
    pack(folder, out)
    assert "was packed" not in pack(folder, out)
    assert "shards that were packed with --shard-mb 256" in pack(folder, out, "--shard-mb", 1, code=2)
    (folder / "cat" / "000.v2.jpg").write_bytes(b"other")
    assert "holds shards of other sources, or %s changed since" % folder in pack(folder, out, code=2)
    (out / "stoker-pack.json").unlink()
    assert "has the file train-00000.tar and no stoker-pack.json" in pack(folder, out, code=2)
    (out / "stoker-pack.json").write_text("{")
    assert "stoker-pack.json cannot be used: it is torn or damaged" in pack(folder, out, code=2)


# ---------------------------------------------------------------------------------------------------------- damage

def skipping(source, out, *options):
    """(what it says with --skip-damaged, the keys of the samples that are left)"""
    text = pack(source, out, "--skip-damaged", *options)
    return text, [key for key, _ in samples(out)]


def refused(source, out, *options):
    """What it says without --skip-damaged, when it has removed what it began."""
    sentence = pack(source, out, *options, code=2)
    assert sentence.startswith("stoker-pack: error: ") and "--skip-damaged leaves it out" in sentence, sentence
    assert not [name for name in os.listdir(str(out)) if name.startswith("train")]
    return sentence


def test_damaged_tfrecords(tmp_path):
    path = tfrecords(tmp_path)[0]
    with open(path, "rb") as file:
        whole = file.read()
    size = len(whole) // 15

    def damaged(name, data):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(data)
        return skipping(tmp_path / name / "a", tmp_path / name / "out")
    place = 4 * size + 300                                     # in the picture of record 4
    if crc_function() is not None:
        text, keys = damaged("bytes", whole[:place] + b"\0\0" + whole[place + 2:])
        assert "left out: 1\n    the checksum of its bytes is wrong: a, record 4\n" in text and len(keys) == 14
    frame = whole.index(picture(7)[:6]) - 200
    place = max(place for place in range(frame, frame + 200) if is_frame(whole[place:place + 12]))
    text, keys = damaged("length", whole[:place + 2] + b"\xff" + whole[place + 3:])
    assert "the checksum of its length is wrong; the records behind it in this file are lost, for it is not known " \
           "where they begin: a, record 7\n" in text and len(keys) == 7
    assert "a, record 7: the checksum of its length is wrong" in refused(tmp_path / "length" / "a", tmp_path / "no")
    text, keys = damaged("cut", whole[:-100])
    assert "it is cut: the file ends in it: a, record 14" in text and len(keys) == 14
    text, keys = damaged("gzip", gzip.compress(whole)[:-20000])
    assert "the gzip data of the file is damaged or cut" in text and len(keys) == 14
    text, keys = damaged("zlib", zlib.compress(whole)[:-20000])
    assert "the zlib data of the file is damaged or cut" in text and len(keys) == 14
    sentence = pack(path, tmp_path / "out", "--image-field", "nope", code=2)
    assert "it has no picture in the feature nope; name the right one with --image-field: its features are " in sentence
    assert "image/encoded" in sentence


def test_damaged_archives(tmp_path):
    make_tar(tmp_path / "a.tar", form=tarfile.GNU_FORMAT)
    whole = (tmp_path / "a.tar").read_bytes()
    place = whole.index(b"0009.jpg")
    (tmp_path / "header.tar").write_bytes(whole[:place] + b"X" + whole[place + 1:])
    text, keys = skipping(tmp_path / "header.tar", tmp_path / "header")
    assert "the header behind it is damaged" in text and "header.tar, 0008" in text and len(keys) == 8
    assert "header.tar, 0008: the header behind it is damaged" in refused(tmp_path / "header.tar", tmp_path / "no")
    (tmp_path / "cut.tar").write_bytes(whole[:place + 5000])
    text, keys = skipping(tmp_path / "cut.tar", tmp_path / "cut")
    assert "it is cut: the file ends in it" in text and "cut.tar, 0009" in text and len(keys) == 9
    (tmp_path / "end.tar").write_bytes(whole[:place])
    text, keys = skipping(tmp_path / "end.tar", tmp_path / "end")
    assert "the file ends without the end mark of a tar" in text and len(keys) == 8
    (tmp_path / "cut.tgz").write_bytes(gzip.compress(whole)[:-50000])
    text, keys = skipping(tmp_path / "cut.tgz", tmp_path / "gz")
    assert "the compressed data of the file is damaged or cut" in text and 25 < len(keys) < 30
    with tarfile.open(str(tmp_path / "no-label.tar"), "w") as tar:
        for number in range(3):
            add(tar, "%d.jpg" % number, picture(number))
            if number != 1:
                add(tar, "%d.cls" % number, b"1")
    text, keys = skipping(tmp_path / "no-label.tar", tmp_path / "no-label")
    assert "it has no member .cls with a label: no-label.tar, 1" in text and keys == ["0", "2"]
    (tmp_path / "two.tar").write_bytes(whole + whole)
    text, keys = skipping(tmp_path / "two.tar", tmp_path / "two")
    assert "there are bytes behind the end mark of the tar" in text and len(keys) == 30
    with zipfile.ZipFile(str(tmp_path / "a.zip"), "w") as archive:
        for number in range(4):
            archive.writestr("%s/%d.jpg" % ("ab"[number % 2], number), picture(number))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(picture(2)[:6]) + 1000] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    text, keys = skipping(tmp_path / "a.zip", tmp_path / "zip")
    assert "it is damaged (Bad CRC-32" in text and keys == ["a/0", "b/1", "b/3"]


def test_a_bomb_is_refused_by_its_size(tmp_path):
    """A member says that it has 2 GiB; a zip says so too. No memory is taken for it."""
    info = tarfile.TarInfo("a.jpg")
    info.size = 2 << 30
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 29
    for name, member, why in (("big", info, "it has 2,147,483,648 bytes, and a member has at most 1,073,741,824"),
                              ("name", long_name, "the header behind it has 536870912 bytes")):
        with gzip.open(str(tmp_path / (name + ".tgz")), "wb", 1) as file:
            file.write(member.tobuf())
            for _ in range(64):
                file.write(bytes(1 << 20))
        assert why in pack(tmp_path / (name + ".tgz"), tmp_path / name, "--label-field", "none", code=2)


def test_damaged_folders(tmp_path):
    folder = make_folder(tmp_path / "photos")
    (folder / "cat" / "locked.jpg").write_bytes(b"x")
    script = ("import os, stoker.packing.inputs.folder as f\n"
              "init = f.FolderInput.__init__\n"
              "def late(self, *args):\n"
              "    init(self, *args)\n"
              "    os.unlink(%(cat)r + '/locked.jpg')\n"
              "    open(%(cat)r + '/000.v2.jpg', 'wb').write(b'new')\n"
              "f.FolderInput.__init__ = late\n"
              "from stoker.packing.pack import main\nmain()" % {"cat": str(folder / "cat")})
    done = subprocess.run([sys.executable, "-c", script, str(folder), str(tmp_path / "out"), "--skip-damaged"],
                          cwd=ROOT, stdout=subprocess.PIPE, universal_newlines=True, timeout=LIMIT_S)
    assert done.returncode == 0
    assert "left out: 2" in done.stdout and "FileNotFoundError: no such file: cat/locked.jpg" in done.stdout
    assert "it has 3 bytes, and had 30,004 when the packing began: cat/000.v2.jpg" in done.stdout


#: [(arguments, a part of the sentence)]
WRONG = [
    (["no/such", "out"], "no/such"), (["{tmp}/photos", "{tmp}/a.tar", "out"], "give one folder of pictures, or files"),
    (["{tmp}/a.tar", "{tmp}/text", "out"], "text is no TFRecord, tar, zip or Parquet file, by its first bytes"),
    (["{tmp}/a.tar", "{tmp}/a.zip", "out"], "the sources are of different kinds, tar and zip"),
    (["{tmp}/photos", "out", "--columns", "a"], "--columns is not for a folder"),
    (["{tmp}/a.tar", "out", "--exclude", "a"], "--exclude is not for files with samples"),
    (["{tmp}/a.tar", "out", "--shard-mb", "0"], "--shard-mb"), (["{tmp}/a.tar", "out", "--prefix", "a/b"], "--prefix"),
    (["{tmp}/a.tar", "{tmp}/text/out"], "cannot write to "),
    (["{server}/no.tfrecord", "out"], "/no.tfrecord is not there (404 Not Found): check its name\n"),
    (["{server}/train-0000-of-0003", "out"], "-0003 is not there (404 Not Found): check its name; if it is a folder, "),
    (["{server}/photos/", "out"], "is on a web server, which does not list its folders: give record files"),
    (["{tmp}/a.tar", "s3://bucket/out"], "s3://bucket/out is a URL, and OUT_FOLDER must be a folder of this host")]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """(exit code, what is printed, the files in the folder for output) of each of WRONG."""
    tmp, printed = tmp_path_factory.mktemp("wrong"), tmp_path_factory.mktemp("printed")
    make_folder(tmp / "photos", 4)
    make_tar(tmp / "a.tar")
    (tmp / "text").write_text("hello, this is a text\n" * 100)
    with zipfile.ZipFile(str(tmp / "a.zip"), "w") as archive:
        archive.writestr("a/1.jpg", b"x")
    outs = [tmp / ("out-%d" % number) for number in range(len(WRONG))]
    with serving(tmp) as server:
        commands = [[str(out) if argument == "out" else argument.replace("{tmp}", str(tmp)).replace("{server}", server)
                     for argument in arguments] for out, (arguments, _) in zip(outs, WRONG)]
        found = ended("stoker.packing.pack", ["stoker.packing.program", "stoker.trainer.program"], commands, printed)
    return [(each.code, each.printed, os.listdir(str(out)) if out.exists() else []) for each, out in zip(found, outs)]


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[sentence for _, sentence in WRONG])
def test_wrong_commands_are_sentences(refusals, number):
    code, printed, files = refusals[number]
    sentence = WRONG[number][1]
    assert code == (1 if "cannot write" in sentence else 2), printed
    assert sentence in printed and "Traceback" not in printed and files == []
