"""Record files as TensorFlow writes them, and the processes that index them: killed, frozen, interrupted, absent."""

import os
import signal
import sys
import time
from random import Random

import psutil
import pytest

import stoker
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records import indexing
from stoker.pipeline.sources.records.kept_index import FOLDER
from stoker.pipeline.storage.place import place_of
from tests.support import tfrecords as made
from tests.support.processes import Log, Program, descendants, kill, suspended, wait_for

#: A program as many are: without ``if __name__ == "__main__"``.
PROGRAM = """
import sys
import stoker
from stoker.pipeline.sources.records import indexing
indexing.SMALL_BYTES = 0
indexing.cores = lambda: 2
print("begins", flush=True)
source = stoker.tfrecord(sys.argv[1] + "/*.tfrecord", check=False)
print("has", len(source), source.fingerprint(), flush=True)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of four files of 20,000 records each: their index takes a process about a second."""
    folder = tmp_path_factory.mktemp("many")
    records = made.tfrecord(*({"image/encoded": [b"x" * (10 + number % 50)], "image/class/label": [number % 7]}
                              for number in range(500)))
    for number in range(4):
        (folder / ("%d.tfrecord" % number)).write_bytes(records * 40)
    return str(folder)


@pytest.fixture
def side_by_side(monkeypatch, tmp_path):
    """Even few bytes are indexed by two processes, and nothing is kept."""
    monkeypatch.setattr(indexing, "SMALL_BYTES", 0)
    monkeypatch.setattr(indexing, "cores", lambda: 2)
    monkeypatch.setattr(indexing.KeptIndexes, "get", lambda kept, entry: None)
    monkeypatch.setattr(indexing.KeptIndexes, "put", lambda kept, entry, packed: None)


def bytes_at(source, index):
    place = place_of(source.samples([index])[0].path)
    with open(os.path.join(source.root, place.path), "rb") as file:
        file.seek(place.offset)
        return file.read(place.length)


def test_what_tensorflow_writes_is_read(tmp_path):
    tf = pytest.importorskip("tensorflow")
    random, options = Random(3), tf.python_io.TFRecordOptions
    kinds = tf.python_io.TFRecordCompressionType

    def feature(values):
        if values and isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if values and isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    expected = []
    for number in range(3):
        with tf.python_io.TFRecordWriter(str(tmp_path / ("%d.tfrecord" % number))) as writer:
            for _ in range(50):
                size = random.choice((1, 200, 70000))
                picture = random.getrandbits(8 * size).to_bytes(size, "little")
                row = {"ints": [random.randrange(-1 << 63, 1 << 63) for _ in range(random.randrange(4))],
                       "one": [random.randrange(-5, 5)], "float": [random.random()], "text": [b"\xff\0text"],
                       "texts": [b"a" * size for size in range(random.randrange(3))]}
                label = random.randrange(9)
                writer.write(tf.train.Example(features=tf.train.Features(feature=dict(
                    {name: feature(values) for name, values in row.items()},
                    **{"image/encoded": feature([picture]), "image/class/label": feature([label])})))
                    .SerializeToString())
                expected.append((picture, label, row))
    columns = ["ints", "one", "float", "text", "texts"]
    source = stoker.tfrecord(str(tmp_path / "*.tfrecord"), columns=columns)
    assert len(source) == 150
    for index, (picture, label, row) in enumerate(expected):
        sample, got = source.samples([index])[0], source.rows([index])[0]
        assert bytes_at(source, index) == picture and sample.label == label and got["image/encoded"] == sample.path
        assert [got[name] for name in ("ints", "one", "text", "texts")] == [
            row["ints"], row["one"][0], row["text"][0], row["texts"]]
        assert abs(got["float"] - row["float"][0]) < 1e-6
    for kind in (kinds.GZIP, kinds.ZLIB):
        path = str(tmp_path / "compressed")
        with tf.python_io.TFRecordWriter(path, options(kind)) as writer:
            for number in range(100):
                writer.write(b"%d" % number * number)
        with pytest.raises(DatasetError, match="compressed as a whole .*stoker-pack"):
            stoker.tfrecord(path)
    sequence = tf.train.SequenceExample()
    sequence.context.feature["a"].int64_list.value.append(1)
    sequence.feature_lists.feature_list["b"].feature.add().int64_list.value.append(1)
    with tf.python_io.TFRecordWriter(str(tmp_path / "sequence")) as writer:
        writer.write(sequence.SerializeToString())
    with pytest.raises(DatasetError, match="SequenceExample"):
        stoker.tfrecord(str(tmp_path / "sequence"))


def test_processes_make_the_same_indexes(many, monkeypatch, side_by_side):
    made_by = stoker.tfrecord(many + "/[01].tfrecord")
    monkeypatch.setattr(indexing, "SMALL_BYTES", 1 << 40)
    assert stoker.tfrecord(many + "/[01].tfrecord").fingerprint() == made_by.fingerprint()
    assert len(made_by) == 40000 and bytes_at(made_by, 39999) == b"x" * 59


def test_what_a_process_finds_wrong_is_told_as_if_there_were_none(many, tmp_path, side_by_side):
    for name in os.listdir(many):
        if name != FOLDER:
            os.link(os.path.join(many, name), str(tmp_path / name))
    (tmp_path / "1.tfrecord").unlink()
    (tmp_path / "1.tfrecord").write_bytes(made.tfrecord({"image/encoded": [b"x"]}))
    with pytest.raises(DatasetError, match=r"1.tfrecord: record 0 \(at byte 0\) has no label 'image/class/label'"):
        stoker.tfrecord(str(tmp_path / "*.tfrecord"))


def test_without_processes_the_files_are_indexed_here(many, monkeypatch, side_by_side):
    for python in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", python)
        with Log() as log:
            assert len(stoker.tfrecord(many + "/[01].tfrecord", check=False)) == 40000
        assert log.having("no processes can be started to index the files side by side")


def indexing_processes(pid):
    """Both processes below ``pid``, once each reads a file; else (). One that has not become its program yet keeps its
    parent waiting in ``Popen``, where the tests must not freeze it."""
    try:
        found = [child for child in psutil.Process(pid).children()
                 if any(file.path.endswith(".tfrecord") for file in child.open_files())]
    except psutil.NoSuchProcess:
        return ()
    return [child.pid for child in found] if len(found) == 2 else ()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_or_killed_it_leaves_no_process(many, tmp_path, signum):
    """``nothing_left`` looks for processes: even for those that were frozen when Ctrl-C came."""
    folder = linked(many, tmp_path, 10)         # it must not be done before the signal comes
    with Program(["-c", PROGRAM, folder]) as program:
        children = wait_for(lambda: indexing_processes(program.pid), "two processes that index")
        if signum == signal.SIGINT:
            for child in children:
                os.kill(child, signal.SIGSTOP)
            wait_for(lambda: all(map(suspended, children)), "their suspension")
        program.send_signal(signum)
        assert program.wait() != 0
        assert "has" not in program.text
    assert not os.path.exists(os.path.join(folder, FOLDER)) or not any(
        ".new" in name for name in os.listdir(os.path.join(folder, FOLDER)))


def test_a_killed_process_costs_nothing_but_time(many, tmp_path):
    folder, same = linked(many, tmp_path / "one", 3), linked(many, tmp_path / "other", 3)
    with Program(["-c", PROGRAM, folder]) as program:
        program.wait_for_line("^begins$")       # its imports may start a process as well
        kill(wait_for(lambda: descendants(program.pid), "a process")[0])
        line, = program.wait_for_line("^has ")
        assert program.wait() == 0
    assert program.text.count("ended by signal 9: the file is tried once more") == 1
    assert line.split()[2] == stoker.tfrecord(same + "/*.tfrecord", check=False).fingerprint()


def test_a_file_whose_processes_are_killed_ends_with_a_sentence(many, tmp_path):
    folder = linked(many, tmp_path)
    with Program(["-c", PROGRAM, folder]) as program:
        while program.running():
            for child in descendants(program.pid):
                kill(child)
            time.sleep(0.01)
        assert program.wait() != 0
    assert "DatasetError: the process that indexes " in program.text and "ended by signal 9, 2 times" in program.text


def linked(many, folder, times=1):
    """A folder with the same files so many times, of which no index is kept. Makes it."""
    folder.mkdir(exist_ok=True)
    for name in os.listdir(many):
        for copy in range(times if name != FOLDER else 0):
            os.symlink(os.path.join(many, name), str(folder / ("%d-%s" % (copy, name))))
    return str(folder)


def test_a_second_program_reads_what_the_first_kept(many, tmp_path):
    folder = linked(many, tmp_path)
    wait_for(lambda: all(time.time() - os.stat(os.path.join(many, name)).st_ctime > 3 for name in os.listdir(many)
                         if name != FOLDER), "files that are old enough")
    found = []
    for _ in range(2):
        with Program(["-c", PROGRAM, folder]) as program:
            found.append(program.wait_for_line("^has ")[0])
            assert program.wait() == 0
    assert found[0] == found[1] and len(os.listdir(os.path.join(folder, FOLDER))) == 4
    for name in os.listdir(folder):
        if name.endswith(".tfrecord"):
            os.unlink(str(tmp_path / name))
            (tmp_path / name).write_bytes(made.tfrecord({"image/encoded": [b"other"], "image/class/label": [0]}))
    with Program(["-c", PROGRAM, folder]) as program:
        assert program.wait_for_line("^has ")[0].startswith("has 4 ")
        assert program.wait() == 0
