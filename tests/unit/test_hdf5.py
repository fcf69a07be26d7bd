"""HDF5 files: samples at their places where their bytes lie side by side, else by h5py on the worker; and bad files."""

import io
import os
import threading

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import ConfigError, DatasetError, UnfitWorker
from stoker.pipeline.sources.records import hdf5 as indexing
from stoker.pipeline.storage import hdf5_file
from stoker.pipeline.storage.folder import BadFile, resolve
from stoker.pipeline.storage.folder_store import FolderStore
from stoker.pipeline.storage.store import Damaged, Gone, Refused, Unavailable
from stoker.workers import hdf5
from stoker.workers.readers import Readers
from tests.support.caching import job

h5py = pytest.importorskip("h5py")
HAS_CHUNK_PLACES = hasattr(h5py.h5d.DatasetID, "get_chunk_info_by_coord")
PICTURES = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
BYTES = h5py.special_dtype(vlen=np.uint8)
TEXT = h5py.special_dtype(vlen=str)


@pytest.fixture(autouse=True)
def closed():
    yield
    hdf5.close_all()


@pytest.fixture
def write(tmp_path):
    """Writes x.h5 with the datasets that the keyword arguments say: arrays, or what makes one, given file and name."""
    def write(libver="earliest", **datasets):
        with h5py.File(str(tmp_path / "x.h5"), "w", libver=libver) as file:
            for name, data in datasets.items():
                if callable(data):
                    data(file, name)
                else:
                    file.create_dataset(name.replace("__", "/"), data=data)
        return str(tmp_path / "x.h5")
    return write


def with_options(data, **options):
    return lambda file, name: file.create_dataset(name, data=data, **options)


def filled(dtype, values):
    def make(file, name):
        dataset = file.create_dataset(name, (len(values),), dtype=dtype)
        for number, value in enumerate(values):
            dataset[number] = value
    return make


def read(source, tmp_path, part=None):
    readers = Readers(job(tmp_path))
    rows = [sample.path if part is None else source.rows([sample.index])[0][part]
            for sample in source.samples(range(len(source)))]
    return [readers.numpy(path) for path in rows]


LAYOUTS = {
    "contiguous": (PICTURES, True), "big-endian": (PICTURES.astype(">u2"), True), "float": (PICTURES / 3, True),
    "bool": (PICTURES > 40, True), "scalars": (np.arange(6.0), True),
    "chunks of samples": (with_options(PICTURES, chunks=(4, 4, 5, 3)), HAS_CHUNK_PLACES),
    "chunks of one": (with_options(PICTURES, chunks=(1, 4, 5, 3), maxshape=(None, 4, 5, 3)), HAS_CHUNK_PLACES),
    "parts of samples": (with_options(PICTURES, chunks=(2, 2, 5, 3)), False),
    "chunks wider than samples": (with_options(PICTURES, chunks=(2, 5, 5, 3), maxshape=(None, None, 5, 3)), False),
    "gzip": (with_options(PICTURES, compression="gzip"), False),
    "checksums": (with_options(PICTURES, fletcher32=True), False),
    "ragged": (filled(h5py.special_dtype(vlen=np.dtype("<i4")), [[1], [2, 3], [], [4], [5] * 9, [6]]), False),
    "compact": (lambda file, name: h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((6, 2)), compact()).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.arange(12, dtype=np.uint8).reshape(6, 2)), False),
    "never written": (lambda file, name: file.create_dataset(name, (6, 3), "i4", fillvalue=7), False)}


def compact():
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    return plist


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(write, tmp_path, layout, libver):
    data, has_places = LAYOUTS[layout]
    path = write(libver, x=data)
    source = stoker.hdf5(path, "x")
    paths = [sample.path for sample in source.samples(range(6))]
    assert all(("//hdf5:" in path) != has_places for path in paths), paths[0]
    with h5py.File(path, "r") as file:
        expected = [np.asarray(file["x"][number]) for number in range(6)]
    found = read(source, tmp_path)
    assert all(np.array_equal(mine, its) and mine.dtype == its.dtype.newbyteorder("=") and mine.flags.writeable
               for mine, its in zip(found, expected))


def test_several_datasets_labels_and_columns(write, tmp_path):
    path = write(a__images=PICTURES, boxes=np.arange(24.0).reshape(6, 4), label=np.array([1, 0, 2, 2, 1, 0], np.uint8),
                 name=filled(TEXT, ["ä", "b", "c", "d", "e", "f"]), angle=np.arange(6) / 2,
                 fixed=np.array([b"x", b"y", b"z", b"x", b"y", b"z"]))
    source = stoker.hdf5(path, ["/a/images", "boxes"], "label", ["name", "angle", "fixed"], classes=["p", "q", "r"])
    assert source.classes == ("p", "q", "r") and source.labels.tolist() == [1, 0, 2, 2, 1, 0]
    row = source.rows([1])[0]
    assert (row["name"], row["angle"], row["fixed"]) == ("b", 0.5, "y")
    assert np.array_equal(read(source, tmp_path, "a/images"), PICTURES)
    assert read(source, tmp_path, "boxes")[5].tolist() == [20, 21, 22, 23]
    assert stoker.hdf5(path, "boxes", "fixed").classes == ("x", "y", "z")
    assert stoker.hdf5(path, "boxes", "name").labels.tolist() == [5, 0, 1, 2, 3, 4]
    assert stoker.hdf5(path, "boxes", labels=[0, 1, 1, 1, 1, 1]).classes == ("0", "1")


def test_encoded_pictures(write, tmp_path):
    from PIL import Image
    content = io.BytesIO()
    Image.fromarray(PICTURES[0]).save(content, "PNG")
    png = content.getvalue()
    opaque = np.array([png] * 2, "V%d" % len(png))
    path = write(jpg=filled(BYTES, [np.frombuffer(png, np.uint8)] * 2), opaque=opaque,
                 packed=with_options(opaque, chunks=(1,), compression="gzip"), fixed=np.array([png] * 2),
                 text=filled(TEXT, ["ä", ""]))
    readers = Readers(job(tmp_path))
    for name in ("jpg", "opaque", "packed", "fixed"):
        source = stoker.hdf5(path, name)
        for sample in source.samples([0, 1]):
            assert readers.bytes(sample.path).rstrip(b"\0") == png.rstrip(b"\0")
            assert np.array_equal(np.asarray(readers.image(sample.path)), PICTURES[0])
    assert [readers.bytes(sample.path).decode() for sample in stoker.hdf5(path, "text").samples([0, 1])] == ["ä", ""]


def test_links_within_the_file(write, tmp_path):
    def links(file, _):
        file["soft"] = h5py.SoftLink("/group/inner")
        file["group/inner"] = h5py.SoftLink("/x")
        file["loop"] = h5py.SoftLink("/loop")
        file["outside"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        file["broken"] = h5py.SoftLink("/nothing")
    path = write(x=PICTURES, links=links)
    os.mkfifo(str(tmp_path / "other.h5"))          # a link that is followed would wait for ever
    assert np.array_equal(read(stoker.hdf5(path, "soft"), tmp_path), PICTURES)
    for name, message in (("outside", "'outside' lies in another file, which workers do not follow"),
                          ("loop", "the links at 'loop' lead nowhere"), ("broken", "it has no dataset 'broken'; its"),
                          ("group", "'group' is a group"), ("x/y", "it has no dataset 'x/y'; its datasets are .*'x'"),
                          ("", "dataset must be a list of names"), ("/", "'/' is no dataset")):
        with pytest.raises((DatasetError, ConfigError), match=message):
            stoker.hdf5(path, name)


def external(file, name):
    file.create_dataset(name, (6, 2), "u1", external=[("/etc/passwd", 0, 12)])


def virtual(file, name):
    layout = h5py.VirtualLayout((6, 4, 5, 3), "u1")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (6, 4, 5, 3))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("datasets, arguments, message", [
    ({"x": external}, ["x"], "'x' lies in another file, which workers do not follow"),
    ({"x": virtual}, ["x"], "'x' lies in another file, which workers do not follow"),
    ({"x": PICTURES}, ["y"], "it has no dataset 'y'; its datasets are 'x'"),
    ({"größen": PICTURES}, ["größe"], "it has no dataset 'größe'; its datasets are 'größen'"),
    ({"x": np.array(3)}, ["x"], "the dataset 'x' is a single value"),
    ({"x": np.zeros((0, 3))}, ["x"], "the array 'x' has 0 samples"),
    ({"x": np.zeros(3, [("a", "i4")])}, ["x"], "'/x' has the dtype .*, and samples are numbers, bytes or texts"),
    ({"x": np.zeros(3, complex)}, ["x"], "'/x' has the dtype .*, and samples are numbers"),
    ({"x": PICTURES, "y": np.zeros(5)}, [["x", "y"]], "the dataset 'y' has 5 items, and 'x' has 6"),
    ({"x": PICTURES, "y": np.zeros(5)}, ["x", "y"], "the dataset 'y' has 5 items, and 'x' has 6"),
    ({"x": PICTURES, "y": np.zeros(6)}, ["x", "y"], "the labels 'y' have the dtype float64"),
    ({"x": PICTURES, "y": np.zeros(6)}, ["x", None, ["y", "z"]], "it has no dataset 'z'"),
    ({"x": lambda file, name: file.create_dataset(name, (2, 40000, 40000), "u1")}, ["x"], "has 1600000000 bytes"),
    ({"x": lambda file, name: file.create_dataset(name, (9, 2, 2), BYTES)}, ["x"], "with items of any length"),
    ({"x": lambda file, name: file.create_dataset(name, (3,), h5py.special_dtype(ref=h5py.Reference))}, ["x"],
     "'/x' has the dtype object")])
def test_datasets_that_are_refused(write, datasets, arguments, message):
    path = write(**datasets)
    with pytest.raises(DatasetError, match="x.h5: .*" + message):
        stoker.hdf5(path, *arguments)


def test_files_that_are_refused(write, tmp_path):
    path = write(x=PICTURES)
    data = (tmp_path / "x.h5").read_bytes()
    for content, message in ((b"", "it is no HDF5 file"),
                             (b"PK\3\4" * 50, r"it is no HDF5 file; it seems to be a zip file \(stoker.zip"),
                             (data[:len(data) - 1], "it ends before its content does: it was cut"),
                             (data[:9], "it is no HDF5 file"), (data[:200], "it ends before its content does"),
                             (data[:8] + b"\x09" + data[9:], r"h5py .* with HDF5 .* cannot open it \(.*\): it is")):
        (tmp_path / "x.h5").write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            stoker.hdf5(path, "x")
    for options in ({}, {"libver": "latest"}):
        file = h5py.File(str(tmp_path / "open.h5"), "w", **options)
        file["x"] = PICTURES
        file.flush()
        with pytest.raises(DatasetError, match="open.h5: a program has it open for writing"):
            stoker.hdf5(str(tmp_path / "open.h5"), "x")
        file.close()
        assert len(stoker.hdf5(str(tmp_path / "open.h5"), "x")) == 6


def test_a_block_before_the_file(tmp_path):
    with h5py.File(str(tmp_path / "u.h5"), "w", userblock_size=1024) as file:
        file["x"] = PICTURES
        file.create_dataset("chunks", data=PICTURES, chunks=(2, 4, 5, 3))
    for name in ("x", "chunks"):
        assert np.array_equal(read(stoker.hdf5(str(tmp_path / "u.h5"), name), tmp_path), PICTURES)


def test_a_place_that_h5py_does_not_confirm_is_not_used(write, tmp_path, monkeypatch):
    path = write(x=PICTURES)
    right = indexing._Indexing._starts
    monkeypatch.setattr(indexing._Indexing, "_starts", lambda *arguments: right(*arguments) - 1)
    source = stoker.hdf5(path, "x")
    assert "//hdf5:" in source.samples([0])[0].path and np.array_equal(read(source, tmp_path), PICTURES)


def test_without_h5py(write, tmp_path, monkeypatch):
    path = write(x=with_options(PICTURES, compression="gzip"))
    source = stoker.hdf5(path, "x")

    def missing():
        raise ImportError("No module named 'h5py'")

    monkeypatch.setattr(hdf5_file, "library", missing)
    with pytest.raises(ConfigError, match=r"read with h5py, which .*python.* cannot import .*pip install"):
        stoker.hdf5(path, "x")
    with pytest.raises(UnfitWorker, match=r"x.h5 is read with h5py, which the worker's Python on .* cannot import"):
        read(source, tmp_path)


def item(tmp_path, text):
    path = resolve(str(tmp_path), text)
    return hdf5.read_item(path, path.place)


def test_items_on_the_worker(write, tmp_path):
    write(x=with_options(PICTURES, compression="gzip"), y=np.arange(3))
    found, version = item(tmp_path, "x.h5//hdf5:2:x")
    assert np.array_equal(found, PICTURES[2]) and version is None           # it was written just now
    for text, message in (("x.h5//hdf5:6:x", "HDF5: '/x' has no item 6"), ("x.h5//hdf5:0:z", "HDF5: it has no dataset"),
                          ("y.h5//hdf5:0:x", "FileNotFoundError: no such file")):
        with pytest.raises(BadFile, match=message):
            item(tmp_path, text)
    (tmp_path / "no.h5").write_bytes(b"no HDF5 file, but something else")
    with pytest.raises(BadFile, match="HDF5: it is no HDF5 file"):
        item(tmp_path, "no.h5//hdf5:0:x")
    (tmp_path / "out.h5").symlink_to("/etc/passwd")
    with pytest.raises(BadFile, match="a link that leads out of the data folder"):
        item(tmp_path, "out.h5//hdf5:0:x")


def test_versions(write, tmp_path):
    write(x=with_options(PICTURES, compression="gzip"))
    os.utime(str(tmp_path / "x.h5"), (1, 1))
    path = resolve(str(tmp_path), "x.h5//hdf5:2:x")
    hdf5.read_item(path, path.place)
    changed = PICTURES[::-1]
    write(x=with_options(changed, compression="gzip"))
    assert np.array_equal(hdf5.read_item(path, path.place)[0], changed[2])      # it was opened again
    os.unlink(str(tmp_path / "x.h5"))
    with pytest.raises(BadFile, match="no such file"):
        hdf5.read_item(path, path.place)


def test_a_file_in_a_store(write, tmp_path, monkeypatch):
    """Read in pieces; the store's errors are worth what they are for other samples."""
    write(x=with_options(PICTURES, compression="gzip", chunks=(1, 4, 5, 3)))

    class Bucket:
        root, error = "s3://bucket", None

        def __init__(self):
            self.folder = FolderStore(str(tmp_path))

        def size(self, path):
            return self.folder.size(path)

        def read(self, path, offset=0, length=None, max_bytes=1 << 30):
            if self.error:
                raise self.error
            return self.folder.read(path, offset, length, max_bytes)

    bucket = Bucket()
    monkeypatch.setattr(hdf5, "open_store", lambda *_: bucket)
    path = resolve("s3://bucket", "x.h5//hdf5:2:x")
    found, version = hdf5.read_item(path, path.place)
    assert np.array_equal(found, PICTURES[2]) and version == bucket.size("x.h5").version
    for error, kind in ((Gone("no such key"), BadFile), (Refused("no credentials"), UnfitWorker),
                        (Unavailable("no answer"), Unavailable), (Damaged("wrong length"), Damaged)):
        hdf5.close_all()
        bucket.error = error
        with pytest.raises(kind):
            hdf5.read_item(path, path.place)
        bucket.error = None
    assert np.array_equal(hdf5.read_item(path, path.place)[0], PICTURES[2])
    gone = resolve("s3://bucket", "y.h5//hdf5:2:x")
    with pytest.raises(BadFile, match="no such file"):
        hdf5.read_item(gone, gone.place)


def test_few_files_stay_open(tmp_path):
    for number in range(2 * hdf5.MAX_OPEN):
        with h5py.File(str(tmp_path / ("%d.h5" % number)), "w") as file:
            file.create_dataset("x", data=PICTURES + number, compression="gzip")
    for number in list(range(2 * hdf5.MAX_OPEN)) * 2:
        assert np.array_equal(item(tmp_path, "%d.h5//hdf5:1:x" % number)[0], PICTURES[1] + number)
        assert len(hdf5._open) <= hdf5.MAX_OPEN
    found = []
    threads = [threading.Thread(target=lambda: found.append(item(tmp_path, "3.h5//hdf5:1:x")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8 and all(np.array_equal(each, PICTURES[1] + 3) for each in found)


def test_a_failing_disk_is_no_bad_file(write, tmp_path, monkeypatch):
    write(x=with_options(PICTURES, compression="gzip", chunks=(1, 4, 5, 3)))
    item(tmp_path, "x.h5//hdf5:1:x")
    opened, = hdf5._open.values()

    class Failing:
        def seek(self, offset, whence=0):
            return offset

        def read(self, size):
            raise OSError(5, "Input/output error")

        def close(self):
            pass

    opened.watched._file = Failing()
    with pytest.raises(OSError, match="Input/output error"):
        item(tmp_path, "x.h5//hdf5:5:x")
    assert np.array_equal(item(tmp_path, "x.h5//hdf5:5:x")[0], PICTURES[5])


def test_a_file_that_is_cut_anywhere(write, tmp_path):
    """It is refused on the trainer, and all of its samples are bad on a worker. (A changed byte in what HDF5 says of
    itself is not tried: some make the library itself loop for ever.)"""
    path = write(x=with_options(PICTURES, compression="gzip", chunks=(3, 4, 5, 3)), y=PICTURES)
    data = (tmp_path / "x.h5").read_bytes()
    for length in list(range(0, len(data), 97)) + [len(data) - 1]:
        (tmp_path / "x.h5").write_bytes(data[:length])
        with pytest.raises(DatasetError):
            stoker.hdf5(path, ["x", "y"])
        with pytest.raises(BadFile):
            item(tmp_path, "x.h5//hdf5:0:x")


def test_a_changed_byte_in_a_sample_with_a_checksum(write, tmp_path):
    path = write(x=with_options(PICTURES, fletcher32=True, chunks=(1, 4, 5, 3)))
    source = stoker.hdf5(path, "x")
    data = (tmp_path / "x.h5").read_bytes()
    place = data.index(PICTURES[2].tobytes())
    (tmp_path / "x.h5").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
    assert np.array_equal(item(tmp_path, source.samples([1])[0].path)[0], PICTURES[1])
    with pytest.raises(BadFile, match="HDF5: h5py cannot read '/x', which is damaged"):
        item(tmp_path, source.samples([2])[0].path)
    assert np.array_equal(item(tmp_path, source.samples([3])[0].path)[0], PICTURES[3])
