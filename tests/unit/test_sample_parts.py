"""Parts of a record by their names, and what old code that opens files itself gets of a record: a copy."""

import glob
import io
import os

import msgpack
import numpy as np
import pytest
from PIL import Image

from stoker.pipeline import functions as stoker
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import IN_WORKER
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.place import Place
from stoker.pipeline.storage.store import Unavailable
from stoker.workers import copies, descendants
from stoker.workers.generators.bad_files import cause_of
from stoker.workers.generators.registry import Producer
from stoker.workers.generators.rows import FunctionError
from stoker.workers.generators.sample import call_for_samples

COLUMNS = ("jpg", "json", "x", "name")


def jpeg(number):
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 40 * number, np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def records(tmp_path):
    """Samples of a file of records: the third has no 'json', the fourth's picture is cut, the fifth's is no picture."""
    content, samples = b"head", []

    def put(data, dtype="", shape=()):
        nonlocal content
        begin, content = len(content), content + data
        return str(Place("a.tar", begin, len(data), dtype, shape))
    for number in range(5):
        picture = (jpeg(number), jpeg(number), jpeg(number), jpeg(number)[:200], b"no picture at all")[number]
        row = [put(picture), None if number == 2 else put(b'{"n": %d}' % number),
               put(np.full((2, 3), number, ">f4").tobytes(), ">f4", (2, 3)), "name"]
        samples.append(Sample(number, row[0], number, msgpack.packb(row)))
    (tmp_path / "a.tar").write_bytes(content)
    (tmp_path / "name").write_bytes(b"a file")
    return samples


@pytest.fixture(autouse=True)
def own_copies(monkeypatch, tmp_path):
    """As in a process of its own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(copies, "_folder", None)
    monkeypatch.setattr(copies.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setenv(IN_WORKER, "mark/3/")
    yield
    copies.remove_all()


def job_for(function, root):
    return Job("mine:f", function.arrays, 8, 1, "exact", str(root), columns=COLUMNS)


def run(function, samples, root):
    job = job_for(function, root)
    producer = Producer(lambda leases, job: call_for_samples(function, leases, job), job)
    return producer.produce(Lease(1, 0, 0, True, tuple(samples)))


def test_parts_by_their_names(records, tmp_path):
    @stoker.sample({"n": "int32", "x": ("float32", (2, 3)), "grey": "uint8"})
    def look(sample, random):
        assert sample.bytes("name") == b"a file"              # no place: a path, as in any row
        assert sample.bytes("jpg") == sample.bytes() == sample.open("jpg").read()
        assert sample.image().tobytes() == sample.image("jpg").tobytes() == sample.image(sample.row["jpg"]).tobytes()
        x = sample.numpy("x")
        assert x.dtype == np.float32 and x.flags.writeable
        return {"n": int(sample.bytes("json")[6:-1]), "x": x, "grey": np.asarray(sample.image("jpg"))[0, 0, 0]}
    output = run(look, records, tmp_path)
    assert output.arrays[0].tolist() == [0, 1] and output.arrays[1][1].tolist() == [[1.0] * 3] * 2
    assert [(skip.index, skip.reason[:30]) for skip in output.skipped] == [
        (2, "the record has no 'json'"), (3, "OSError: Truncated File Read"), (4, "UnidentifiedImageError: cannot")]


def test_old_code_gets_a_copy_with_the_right_suffix_until_the_batch_is_done(records, tmp_path):
    seen = []

    @stoker.sample({"grey": "uint8"})
    def old(sample, random):
        seen.append(sample.file)
        assert os.path.isabs(sample.file) and sample.file == seen[-1]
        with Image.open(sample.file) as picture:
            return {"grey": np.asarray(picture.convert("L"))[0, 0]}
    output = run(old, records, tmp_path)
    assert len(output.arrays[0]) == 3 and sorted(skip.index for skip in output.skipped) == [3, 4]
    assert [path[-4:] for path in seen] == [".jpg"] * 5 and len(set(seen)) == 5
    assert not any(map(os.path.exists, seen)) and os.listdir(copies.folder()) == []
    assert os.stat(copies.folder()).st_mode & 0o777 == 0o700


def test_copies_are_removed_after_an_error_too(records, tmp_path):
    seen = []

    @stoker.sample({"grey": "uint8"})
    def broken(sample, random):
        seen.append(sample.file)
        raise KeyError("mine")
    with pytest.raises(FunctionError):
        run(broken, records[:1], tmp_path)
    assert seen and not os.path.exists(seen[0])


def test_an_array_becomes_a_npy_file(records, tmp_path):
    @stoker.sample({"x": ("float32", (2, 3))})
    def old(sample, random):
        return {"x": np.load(sample.file)}
    own = [sample._replace(path=msgpack.unpackb(sample.packed, raw=False)[2]) for sample in records]
    assert run(old, own, tmp_path).arrays[0][4].tolist() == [[4.0] * 3] * 2


@pytest.mark.parametrize("content, name, suffix", [
    (b"\xff\xd8\xff\xe0", "", ".jpg"), (b"\xff\xd8\xff\xe0", "txt", ".jpg"), (b"\x93NUMPY", "x", ".npy"),
    (b"{}", "json", ".json"),
    (b"BMW is a car", "txt", ".txt"), (b"BM", "", ".bmp"), (b"", "image/encoded", ""), (b"", "seg.png", ".seg.png"),
    (b"", "../../x", ""), (b"", "a b", ""), (b"", ".JPG", ".JPG"), (b"", "x" * 20, ""), (np.zeros(3), "x", ".npy")])
def test_suffixes(content, name, suffix):
    assert copies.suffix_of(content, name) == suffix


def test_copies_of_a_batch_are_bounded(monkeypatch):
    monkeypatch.setattr(copies, "MAX_BYTES", 100)
    path = copies.copy_of(b"1", bytes(60))
    assert copies.copy_of(b"1", bytes(60)) == path
    with pytest.raises(ConfigError, match="sample.file made copies of more than .* sample.open"):
        copies.copy_of(b"2", bytes(60))
    copies.remove_all()
    assert os.path.exists(copies.copy_of(b"2", bytes(60)))


def test_a_copy_that_could_not_be_written_is_none():
    for _ in range(2):      # the second call gave the path of what the first one had written
        with pytest.raises(ValueError):
            copies.copy_of(b"1", np.array([None]))
    assert os.listdir(copies.folder()) == []


def test_no_folder_for_copies_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(copies.tempfile, "gettempdir", lambda: str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="has no folder for copies .*TMPDIR"):
        copies.copy_of(b"1", b"")


def test_another_users_folder_or_a_link_is_not_used(tmp_path):
    os.symlink(str(tmp_path), descendants.copies_folder(str(tmp_path / "temporary"), "mark/3/"))
    assert copies.prepare() is None


def test_what_a_killed_worker_leaves_is_removed_with_its_mark(tmp_path, monkeypatch):
    path = copies.copy_of(b"1", b"left")
    monkeypatch.setenv(IN_WORKER, "mark/3/q1/")
    monkeypatch.setattr(copies, "_folder", None)
    assert copies.prepare() == os.path.dirname(path)          # the quarantine's is its worker's
    monkeypatch.setenv(IN_WORKER, "mark/33/")
    monkeypatch.setattr(copies, "_folder", None)
    other = copies.prepare()
    monkeypatch.setattr(descendants, "_marked", lambda beginning: iter(()))
    descendants.kill_marked(IN_WORKER, "mark/3/q1/")
    assert os.path.exists(path)
    descendants.kill_marked(IN_WORKER, "mark/3/")
    assert not os.path.exists(os.path.dirname(path)) and os.path.isdir(other)
    descendants.kill_marked(IN_WORKER, "mark/")
    assert glob.glob(str(tmp_path / "temporary" / "*")) == []


def test_a_store_that_does_not_answer_is_behind_no_bad_file(records, tmp_path):
    @stoker.sample({"x": "int32"})
    def any_function(sample, random):
        pass
    assert cause_of(Unavailable("no answer"), records[4], job_for(any_function, tmp_path)) is None
    assert cause_of(ValueError("x"), records[3], job_for(any_function, tmp_path)).path == records[3].path
    assert cause_of(ValueError("x"), records[4], job_for(any_function, tmp_path)) is None      # it may be no picture


def test_the_one_part_of_a_record_has_a_name_that_is_not_sent(records, tmp_path):
    @stoker.sample({"grey": "uint8"})
    def look(sample, random):
        assert sample.file.endswith(".jpg") and sample.row == {"jpg": sample.path}
        return {"grey": np.asarray(sample.image("jpg"))[0, 0, 0]}
    job = Job("mine:f", look.arrays, 8, 1, "exact", str(tmp_path), columns=("jpg",))
    lease = Lease(1, 0, 0, True, tuple(sample._replace(packed=b"") for sample in records[:3]))
    output = Producer(lambda leases, job: call_for_samples(look, leases, job), job).produce(lease)
    assert len(output.arrays[0]) == 3 and not output.skipped
