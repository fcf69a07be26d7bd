"""Kept indexes: never those of another file, another version of it or other options; damaged ones are made again."""

import os
import random
import stat
import types

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records import index_one as one
from stoker.pipeline.sources.records import indexing, kept_index
from stoker.pipeline.sources.records.file_index import MISSING, FileIndex, Part
from stoker.pipeline.sources.records.index_bytes import DIGEST_BYTES, DamagedIndex, Indexed, Key, from_bytes, to_bytes
from stoker.pipeline.sources.records.index_children import CannotStart
from stoker.pipeline.sources.records.kept_index import FOLDER, KeptIndexes
from stoker.pipeline.storage.store import Entry, Unavailable, Version, etag_version, remote_version
from tests.support import tfrecords as made

KEY = Key.of("tar", 1, {"b": 1, "a": ["x"]}, "train.tar")
INDEX = FileIndex((Part("jpg"), Part("x", "|u1", (2, 5)), Part("y", dataset="images")),
                  np.array([[0, 20, 0], [50, 80, 1]], np.int64), np.array([[20, 10, 0], [MISSING, 10, 0]], np.uint32),
                  np.array([1, 0], np.int64), ("cat", "\udcff"), ("a", "b"), b"\x92\x01\x02\x92\x03\xc0",
                  np.array([3, 6], np.int64), ("2 links are left out",), (True, False), ("z",), ("jpg",))
INDEXED = Indexed(INDEX, Version(90, (1, 2, 3, 1 << 63)), True)


def same(one, other):
    return all(np.array_equal(mine, yours) if isinstance(mine, np.ndarray) else mine == yours
               for mine, yours in zip(one, other)) and len(one) == len(other)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two files that are old enough to be kept, an empty cache, and a list of the files that are indexed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(one, "RACY_S", -1.0)
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(contents(name))
    read = []
    real = indexing.index_one
    monkeypatch.setattr(indexing, "index_one", lambda root, path, *rest: read.append(path) or real(root, path, *rest))
    return str(folder), read


def contents(text, count=3):
    return made.tfrecord(*({"image/encoded": [b"%s %d" % (text.encode(), number)], "image/class/label": [number],
                            "n": [number]} for number in range(count)))


def opened(folder, **options):
    return stoker.tfrecord(os.path.join(folder, "[ab]*"), **options)


def pictures(source):
    found = []
    for sample in source.samples(range(len(source))):
        path, _, place = sample.path.partition("//")
        with open(os.path.join(source.root, path), "rb") as file:
            file.seek(int(place.split("+")[0]))
            found.append(file.read(int(place.split("+")[1])).decode())
    return found


def test_an_index_is_read_as_it_was_written():
    for index in (INDEX, INDEX._replace(labels=None, label_names=()), INDEX._replace(
            columns=(), rows=b"", row_ends=None, scalars=()), FileIndex((), np.zeros((0, 0), np.int64), np.zeros(
                (0, 0), np.uint32)), INDEX._replace(labels=np.array([-5, 1 << 40]), label_names=())):
        found = from_bytes(to_bytes(KEY, INDEXED._replace(file_index=index)), KEY)
        assert same(found.file_index, index) and found[1:] == INDEXED[1:]
    for key in (KEY._replace(version=2), KEY._replace(path="other.tar"), Key.of("tar", 1, {"a": ["x"]}, "train.tar")):
        with pytest.raises(DamagedIndex, match="other options or another file"):
            from_bytes(to_bytes(KEY, INDEXED), key)
    assert Key.of("tar", 1, {"a": ["x"], "b": 1}, "train.tar") == KEY


def test_any_damage_is_found():
    packed, chance = to_bytes(KEY, INDEXED), random.Random(5)
    for number in range(400):
        changed = bytearray(packed)
        if number % 3 == 0:
            changed = changed[:chance.randrange(len(changed))]
        elif number % 3 == 1:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        else:
            changed[chance.randrange(len(changed)):0] = bytes(chance.randrange(1, 9))
        if bytes(changed) != packed:
            with pytest.raises(DamagedIndex):
                from_bytes(bytes(changed), KEY)


def test_any_bytes_with_a_right_checksum_are_an_index_or_damaged():
    """As a stranger may make them."""
    import hashlib
    packed, chance = to_bytes(KEY, INDEXED)[:-DIGEST_BYTES], random.Random(6)
    refused = 0
    for _ in range(2000):
        changed = bytearray(packed)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        whole = bytes(changed) + hashlib.blake2b(changed, digest_size=DIGEST_BYTES).digest()
        try:
            found = from_bytes(whole, KEY).file_index
        except DamagedIndex:
            refused += 1
            continue
        for part, of_part in enumerate(found.parts):
            if not of_part.dataset:
                lengths = found.lengths[:, part].astype(np.int64)
                assert found.offsets.min() >= 0
                assert (found.offsets[:, part] + np.where(lengths == MISSING, 0, lengths)).max() <= from_bytes(
                    whole, KEY).version.size
    assert refused > 500


@pytest.mark.parametrize("change, words", [
    (dict(offsets=np.array([[0, 20, 0], [50, 81, 1]])), "outside of the file"),
    (dict(offsets=np.array([[-1, 20, 0], [50, 80, 1]])), "outside of the file"),
    (dict(offsets=np.array([[0, 20, 0], [50, 80, 1 << 60]])), "outside of the file"),
    (dict(labels=np.array([0, 2])), "without a name"), (dict(labels=np.array([-1, 0])), "without a name"),
    (dict(row_ends=np.array([3, 7])), "outside of its rows"), (dict(row_ends=np.array([3, 3])), "outside of its rows"),
    (dict(row_ends=np.array([7, 6])), "outside of its rows"), (dict(scalars=(True,)), "do not fit"),
    (dict(columns=()), "do not fit")])
def test_what_does_not_fit_is_damaged(change, words):
    with pytest.raises(DamagedIndex, match=words):
        from_bytes(to_bytes(KEY, INDEXED._replace(file_index=INDEX._replace(**change))), KEY)


def test_a_second_start_reads_no_file(data):
    folder, read = data
    first, columns = opened(folder), opened(folder, columns=["n"])
    assert read == ["a", "b"] * 2
    second = opened(folder)
    assert read == ["a", "b"] * 2 and second.fingerprint() == first.fingerprint() != columns.fingerprint()
    assert pictures(second) == ["a 0", "a 1", "a 2", "b 0", "b 1", "b 2"] and second.changed() is None
    assert opened(folder, columns=["n"]).rows(range(6)) == columns.rows(range(6)) and len(read) == 4
    assert sorted(os.listdir(folder)) == [FOLDER, "a", "b"] and len(os.listdir(os.path.join(folder, FOLDER))) == 4
    assert not os.path.exists(kept_index.cache_folder())


def test_a_missing_library_for_checksums_is_told_though_processes_index(data, monkeypatch):
    folder, _ = data
    asked = []
    monkeypatch.setattr(indexing, "SMALL_BYTES", 0)
    monkeypatch.setattr(indexing, "cores", lambda: 2)
    monkeypatch.setattr(indexing, "crc_function", lambda: asked.append(1), raising=False)

    def refused(*_):
        raise CannotStart("a test")
        yield
    monkeypatch.setattr(indexing, "index_in_children", refused)
    assert len(opened(folder)) == 6 and asked == [1]
    assert len(opened(folder, check=False)) == 6 and len(opened(folder)) == 6 and asked == [1]


def test_a_file_of_before_1970_is_indexed_and_kept(data):
    folder, read = data
    os.utime(os.path.join(folder, "a"), ns=(-5, -5 * 10 ** 9))
    assert len(opened(folder)) == 6 and len(opened(folder)) == 6
    assert read == ["a", "b"]


def test_a_user_without_a_home_gets_no_folder_in_the_current_one(data, tmp_path, monkeypatch, caplog):
    folder, read = data
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with open(os.path.join(folder, FOLDER), "w"):               # nothing can be kept beside the files
        pass
    assert len(opened(folder)) == 6
    assert os.listdir(str(tmp_path)) == ["data"]
    assert "the index of 2 files could not be kept" in caplog.text


def test_a_store_that_answers_again_is_a_sentence(monkeypatch):
    answers = [Unavailable("the store is away"), (Version(5, (0, 0, 0, 0)), True)]

    def version(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
    monkeypatch.setattr(one, "_version", version)
    with pytest.raises(DatasetError, match="a.tar cannot be indexed: the store is away"):
        one.index_one("s3://photos", "a.tar", "tar", {}, lambda count: None)


def test_a_server_that_tells_nothing_but_the_size_has_no_version_for_good(monkeypatch):
    for facts, settled in (((None,), False), (("abc",), True), ((None, "Mon, 1 Jan"), True)):
        entry = Entry("a", etag_version(5, *facts))
        monkeypatch.setattr(one, "open_store", lambda root, entry=entry: types.SimpleNamespace(
            size=lambda path: entry))
        assert one._version("https://host", "a", 0.0)[1] is settled


def replaced(path):
    with open(path + ".new", "wb") as file:
        file.write(contents("c"))
    os.rename(path + ".new", path)


def rewritten(path):
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.write(contents("c"))
    while True:                     # the kernel's clock has steps of milliseconds
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))       # its time is set back: only ctime tells
        if os.stat(path).st_ctime_ns != times.st_ctime_ns:
            break


def appended(path):
    with open(path, "ab") as file:
        file.write(contents("c", 1))


def truncated(path):
    os.truncate(path, len(contents("a", 1)))


def with_the_time_and_size_of_the_old_one(path):
    times = os.stat(path)
    replaced(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change, expected", [
    (replaced, ["c 0", "c 1", "c 2"]), (rewritten, ["c 0", "c 1", "c 2"]), (appended, ["a 0", "a 1", "a 2", "c 0"]),
    (truncated, ["a 0"]), (with_the_time_and_size_of_the_old_one, ["c 0", "c 1", "c 2"])])
def test_a_file_that_changes_is_indexed_again(data, change, expected):
    folder, read = data
    before = opened(folder)
    change(os.path.join(folder, "a"))
    source = opened(folder)
    assert read == ["a", "b", "a"] and pictures(source) == expected + ["b 0", "b 1", "b 2"]
    assert before.changed() and "a has changed since" in before.changed() or change in (
        rewritten, with_the_time_and_size_of_the_old_one)
    assert opened(folder).fingerprint() == source.fingerprint() and len(read) == 3
    assert len(os.listdir(os.path.join(folder, FOLDER))) == 2


def test_a_file_that_has_just_changed_is_not_kept(data, monkeypatch):
    folder, read = data
    monkeypatch.setattr(one, "RACY_S", 1e9)
    opened(folder)
    opened(folder)
    assert read == ["a", "b"] * 2 and not os.path.exists(os.path.join(folder, FOLDER))


def test_a_file_that_changes_while_it_is_read_is_read_again(data, monkeypatch):
    folder, _ = data
    real, count = one.indexer_of, []

    def index(file, size, options):
        found = real("tfrecord")(file, size, options)
        count.append(size)
        if len(count) == 1:
            replaced(os.path.join(folder, "a"))
        return found
    monkeypatch.setattr(one, "indexer_of", lambda name: index)
    assert pictures(opened(folder))[:3] == ["c 0", "c 1", "c 2"] and len(count) == 3
    opened(folder)
    assert len(count) == 3

    def changing(file, size, options):
        found = real("tfrecord")(file, size, options)
        appended(os.path.join(folder, "a"))
        return found
    monkeypatch.setattr(one, "indexer_of", lambda name: changing)
    appended(os.path.join(folder, "a"))
    with pytest.raises(DatasetError, match="data/a changes while it is read: wait"):
        opened(folder)


def test_a_damaged_index_is_made_again_with_one_line(data, caplog):
    folder, read = data
    source = opened(folder)
    for name in os.listdir(os.path.join(folder, FOLDER)):
        with open(os.path.join(folder, FOLDER, name), "r+b") as file:
            file.seek(60)
            file.write(b"??")
    caplog.clear()
    assert opened(folder).fingerprint() == source.fingerprint() and read == ["a", "b"] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "2 kept indexes could not be used and will be made again (a: its checksum is wrong)"]
    caplog.clear()
    opened(folder)
    assert len(read) == 4 and not caplog.records


def test_no_link_and_no_pipe_is_opened(data, tmp_path):
    folder, read = data
    opened(folder)
    names = sorted(os.listdir(os.path.join(folder, FOLDER)))
    other = tmp_path / "other"
    os.rename(os.path.join(folder, FOLDER, names[0]), str(other))
    os.symlink(str(other), os.path.join(folder, FOLDER, names[0]))
    os.unlink(os.path.join(folder, FOLDER, names[1]))
    os.mkfifo(os.path.join(folder, FOLDER, names[1]))
    kept = other.read_bytes()
    opened(folder)
    assert read == ["a", "b"] * 2 and other.read_bytes() == kept
    assert all(stat.S_ISREG(os.lstat(os.path.join(folder, FOLDER, name)).st_mode) for name in names)


def test_an_index_folder_of_strangers_is_not_used(data, tmp_path):
    folder, read = data
    beside = os.path.join(folder, FOLDER)
    opened(folder)
    os.chmod(beside, 0o777)
    opened(folder)
    assert read == ["a", "b"] * 2 and len(os.listdir(kept_index.cache_folder())) == 2
    os.rename(beside, str(tmp_path / "elsewhere"))
    os.symlink(str(tmp_path / "elsewhere"), beside)
    opened(folder)
    assert len(read) == 4            # from the cache folder


def test_where_no_index_can_be_kept_there_is_one_line(data, monkeypatch, caplog):
    folder, read = data
    open(os.path.join(folder, FOLDER), "w").close()
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.join(folder, "a"))
    source = opened(folder)
    opened(folder)
    assert read == ["a", "b"] * 2 and len(source) == 6
    assert [record.getMessage()[:66] for record in caplog.records] == [
        "the index of 2 files could not be kept, so the next start reads th"] * 2


def test_old_indexes_are_removed(data):
    folder, _ = data
    for columns in ([], ["n"], ["image/class/label"], ["n", "image/class/label"], ["image/class/label", "n"]):
        opened(folder, columns=columns)
    names = os.listdir(os.path.join(folder, FOLDER))
    assert len(names) == 2 * kept_index.MAX_OF_A_FILE
    os.unlink(os.path.join(folder, "a"))
    opened(folder)
    assert {name[0] for name in os.listdir(os.path.join(folder, FOLDER))} == {"b"}


def test_an_index_moves_with_its_folder_and_not_to_another_file(data):
    folder, read = data
    opened(folder)
    os.rename(folder, folder + "2")
    assert pictures(opened(folder + "2"))[0] == "a 0" and read == ["a", "b"]
    os.rename(folder + "2/a", folder + "2/b")
    assert pictures(opened(folder + "2")) == ["a 0", "a 1", "a 2"] and read == ["a", "b", "b"]


def test_versions_of_a_store_are_compared_whole_and_local_ones_without_the_device():
    local, remote = KeptIndexes("/data", "tar", {}), KeptIndexes("s3://b/data", "tar", {})
    assert local.is_of(Version(1, (2, 3, 4, 5)), Version(1, (2, 3, 4, 6)))
    for other in (Version(2, (2, 3, 4, 5)), Version(1, (9, 3, 4, 5)), Version(1, (2, 9, 4, 5)),
                  Version(1, (2, 3, 9, 5))):
        assert not local.is_of(Version(1, (2, 3, 4, 5)), other)
    assert remote.is_of(remote_version(1, "etag"), remote_version(1, "etag"))
    assert not remote.is_of(remote_version(1, "etag"), remote_version(1, "other"))
    assert not remote.is_of(Version(1, (2, 3, 4, 5)), Version(1, (2, 3, 4, 6)))
