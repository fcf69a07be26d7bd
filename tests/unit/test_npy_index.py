"""npy and npz files as samples: each is a slice at its place; what has no such slices, and headers that lie."""

import io
import struct
import zipfile

import msgpack
import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records import npy
from stoker.pipeline.sources.records.array_samples import labels_of
from stoker.pipeline.storage.place import Place, place_of


def npy_of(array, version=None):
    made = io.BytesIO()
    np.lib.format.write_array(made, np.asanyarray(array), version)
    return made.getvalue()


def npz_of(save=np.savez, **arrays):
    made = io.BytesIO()
    save(made, **arrays)
    return made.getvalue()


def index_of(data, **options):
    return npy.index(io.BytesIO(data), len(data), options)


def items(data, index, part=0):
    """The arrays at the places of all samples."""
    own = index.parts[part]
    found = []
    for offset, length in zip(index.offsets[:, part].tolist(), index.lengths[:, part].tolist()):
        place = Place("x.npy", offset, length, own.dtype, own.shape)
        assert place_of(str(place)) == place
        found.append(np.frombuffer(data[offset:offset + length], own.dtype).reshape(own.shape))
    return found


def rows_of(index):
    ends = [0] + index.row_ends.tolist()
    return [msgpack.unpackb(index.rows[begin:end], raw=False) for begin, end in zip(ends, ends[1:])]


ARRAYS = [np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3), np.arange(6, dtype=">i4").reshape(3, 2),
          np.arange(5, dtype=np.float64), np.ones((1, 2, 2), bool), np.arange(4, dtype=np.float16)[:, None]]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: "%s%s" % (array.dtype.str, array.shape))
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_npy_file(array, version):
    data = npy_of(array, (2, 0) if version == (3, 0) else version).replace(b"NUMPY\2", b"NUMPY%c" % version[0])
    index = index_of(data)
    assert index.size == len(array) and [part.name for part in index.parts] == ["x"] and index.labels is None
    assert index.parts[0].dtype == array.dtype.str and index.parts[0].shape == array.shape[1:]
    assert all(np.array_equal(found, item) for found, item in zip(items(data, index), array))
    assert index.offsets.dtype == np.int64 and index.lengths.dtype == np.uint32 and index.columns == ()


def test_an_npz_file():
    arrays = {"images": ARRAYS[0], "angle": np.array([0.5, -1]), "name": np.array(["ä", "b"]),
              "y": np.array([[3], [1]]), "about": np.array([{}, {}], object),
              "boxes": np.arange(8, dtype=np.int16).reshape(2, 4),
              "mean": np.arange(3.0), "when": np.zeros(2, "M8[s]")}
    data = npz_of(**arrays)
    index = index_of(data, labels="y", array="images")
    assert index.labels.tolist() == [3, 1] and index.label_names == ()
    assert [part.name for part in index.parts] == ["images", "boxes"] and sorted(index.columns) == ["angle", "name"]
    assert all(np.array_equal(found, item) for found, item in zip(items(data, index, 1), arrays["boxes"]))
    with pytest.raises(DatasetError, match="the array 'about' cannot be read: it is an array of Python objects"):
        index_of(data, array="images", columns=["about"])
    assert [dict(zip(index.columns, row)) for row in rows_of(index)] == [{"angle": 0.5, "name": "ä"},
                                                                        {"angle": -1.0, "name": "b"}]
    assert index.remarks == (
        "the arrays when, about, mean have another number of samples, or no plain numbers, and are left out",)
    index = index_of(data, labels="name", array="images", columns=["angle"])
    assert index.labels.tolist() == [1, 0] and index.label_names == ("b", "ä") and rows_of(index) == [[0.5], [-1.0]]
    assert index_of(data, array="boxes", columns=[]).columns == ()
    alone = npz_of(data=ARRAYS[0], y=np.array([0, 1]))
    assert [part.name for part in index_of(alone, labels="y").parts] == ["data"]
    assert index_of(npz_of(only=np.arange(3))).size == 3


@pytest.mark.parametrize("values, message", [
    ([1, 2], "have the shape .2., and there are 3 samples"), (np.zeros((3, 10)), "have the shape"),
    ([1, 2, -1], "go from -1 to 2"), ([0, 1, 1 << 40], "go from 0 to"), ([0.5, 1, 2], "the dtype float64"),
    ([b"\xff", b"a", b"b"], "dtype"), (np.array([None, 1, 2]), "the dtype object")])
def test_labels_that_cannot_be(values, message):
    with pytest.raises(DatasetError, match=message):
        labels_of(values, 3, "'y'")


def test_labels():
    assert labels_of([2, 0], 2, "y")[0].tolist() == [2, 0] and labels_of([True, False], 2, "y")[0].tolist() == [1, 0]
    numbers, names = labels_of(np.array([b"dog", b"cat", b"dog"]), 3, "y")
    assert numbers.tolist() == [1, 0, 1] and names == ("cat", "dog")
    assert labels_of(np.array(["dog", "ä"], object), 2, "y")[1] == ("dog", "ä")


@pytest.mark.parametrize("options, message", [
    ({"array": 1}, "array must be the name"), ({"labels": [1]}, "labels must be the name"),
    ({"columns": "y"}, "columns must be a list"), ({"labels": "y"}, "an npy file has one array without a name")])
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        index_of(npy_of(np.arange(3)), **options)


def header(text, body=b"", version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + body


def shape(text, descr="'|u1'"):
    return header(("{'descr': %s, 'fortran_order': False, 'shape': %s, }\n" % (descr, text)).encode(), b"x" * 100)


@pytest.mark.parametrize("data, options, message", [
    (b"", {}, "neither an npy nor an npz file"), (b"hello" * 100, {}, "neither an npy nor an npz file"),
    (npy_of(np.array([{}, 1], object)), {}, "an array of Python objects, which needs pickle"),
    (npy_of(np.asfortranarray(np.ones((3, 4)))), {}, r"Fortran order, .*np.save\(FILE, np.ascontiguous"),
    (npy_of(np.zeros(3, [("a", "i4"), ("b", "f8")])), {}, "a structured dtype"),
    (npy_of(np.array(5)), {}, "its array is a single number"), (npy_of(np.zeros((0, 3))), {}, "has 0 samples"),
    (npy_of(np.zeros((3, 0))), {}, "has 0 bytes"), (npy_of(np.zeros(3, complex)), {}, "has the dtype complex128, and"),
    (npy_of(np.zeros(3, "U5")), {}, "has the dtype <U5, and samples are bool, int, uint or float"),
    (npy_of(np.zeros((2,) + (1,) * 9)), {}, "has 9 dimensions, and a sample has at most 8"),
    (npy_of(np.zeros((3, 4)))[:-1], {}, r"promises 96 bytes \(dtype float64, shape .3, 4.\), and there are 95: it"),
    (shape("(99999999999,)"), {}, "promises 99999999999 bytes"), (shape("(%s)" % ("9" * 30)), {}, "npy header"),
    (shape("(1, %s)" % ", ".join(["99999"] * 20)), {}, "promises"),
    (shape("(99999, 0)"), {}, "has 0 bytes"),
    (shape("(1, 2000000000)"), {}, "promises"), (shape("(-1,)"), {}, "an npy header"),
    (shape("()"), {}, "is a single number"), (shape("(1,)", "'|V2000000000'"), {}, "an npy header with the dtype"),
    (shape("(1,)", "'|O'"), {}, "Python objects"), (shape("(1,)", "'%s'" % ("x" * 90)), {}, "an npy header"),
    (shape("(" * 400), {}, "an npy header that cannot be parsed"),
    (shape("__import__('os').abort()"), {}, "an npy header"),
    (header(b" " * 20000, version=2), {}, "an npy header of 20000 bytes"),
    (header(b"", version=2)[:8] + b"\xff\xff\xff\xff" * 2, {}, "an npy header of 4294967295 bytes"),
    (header(b"{}", b"12345"), {}, "an npy header that cannot be parsed"),
    (header(b"", version=4), {}, "not an npy file of"),
    (npz_of(np.savez_compressed, x=np.zeros(9)), {}, "compressed, .*np.savez instead of np.savez_compressed"),
    (npz_of(a=np.zeros((2, 2)), b=np.zeros((3, 3))), {}, r"several arrays \('a' \[2, 2\], 'b' \[3, 3\]\): name"),
    (npz_of(a=np.zeros(2), b=np.zeros(2)), {"array": "c"}, "no array 'c', which array= names: there are 'a', 'b'"),
    (npz_of(a=np.zeros(2), b=np.zeros(2)), {"array": "a", "labels": "c"}, "no array 'c', which labels= names"),
    (npz_of(a=np.zeros((2, 2)), b=np.zeros(3)), {"columns": ["b"]}, r"'b' has the shape \[3\], and a column has one"),
    (npz_of(b=np.zeros(3, object)), {}, "Python objects"),
    (npz_of(), {}, "it has no arrays")],
    ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_files_that_are_refused(data, options, message):
    with pytest.raises(DatasetError, match=message):
        index_of(data, **options)


def test_an_npz_with_two_arrays_of_one_name():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("a.npy", npy_of(np.arange(3)))
        with pytest.warns(UserWarning):
            file.writestr("a.npy", npy_of(np.arange(3)))
    with pytest.raises(DatasetError, match="two arrays of one name"):
        index_of(made.getvalue(), array="a")


def test_an_array_with_too_many_samples(monkeypatch):
    monkeypatch.setattr("stoker.pipeline.sources.records.array_samples.MAX_SAMPLES", 10)
    with pytest.raises(DatasetError, match="its array has 11 samples, by its first side, and a file has 1 to 10"):
        index_of(npy_of(np.zeros(11)))


@pytest.mark.parametrize("data", [npy_of(np.arange(60.0).reshape(5, 12)), npz_of(a=np.zeros((3, 2)), b=np.arange(3))])
def test_a_file_that_is_cut_anywhere_or_has_a_changed_byte(data):
    """It is refused, or gives an index whose places lie in the file; and no other error."""
    for length in range(len(data)):
        with pytest.raises(DatasetError):
            index_of(data[:length])
    random, refused = np.random.RandomState(1), 0
    for _ in range(700):
        torn = bytearray(data)
        for place in random.randint(0, min(len(data), 400), 1 + random.randint(3)):
            torn[place] = random.randint(256)
        try:
            index = index_of(bytes(torn))
        except DatasetError:
            refused += 1
            continue
        assert index.offsets.min() >= 0 and (index.offsets + index.lengths).max() <= len(data)
    assert 100 < refused
