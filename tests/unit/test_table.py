"""Rows: what can travel and arrives as what, the errors of what cannot, and what a row costs."""

import collections
import datetime
import decimal
import enum
import os
import tracemalloc
import zlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.columns import MAX_ROW_BYTES
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.sources.identity import difference, identity
from stoker.pipeline.sources.packing import MAX_ARRAY_BYTES, MAX_DEPTH
from stoker.pipeline.sources.table import Numbers, Table

JOB = Job("m:f", (), 1, 0, "exact", "/data")

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-2 ** 63, 2 ** 64 - 1) | st.floats(allow_nan=False) | st.binary(max_size=9)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=12)


def table(*rows):
    return Table.of(rows, "/data")


def error_of(*rows):
    with pytest.raises(DatasetError) as caught:
        table(*rows)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.isprintable() and len(sentence) < 300
    return sentence


def same(one, other):
    """Equal, and of equal types at any depth: 1, 1.0 and True differ."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


# ------------------------------------------------------------------------------------- what can travel

@given(st.lists(plain, min_size=1, max_size=6))
def test_rows_arrive_as_they_were(rows):
    data = table(*rows)
    assert same(data.rows(range(len(rows))), rows)
    assert same([JOB.row(sample) for sample in data.samples(range(len(rows)))], rows)


@given(plain, plain)
def test_numpy_in_rows_makes_the_same_bytes_as_plain_values(one, other):
    # whatever is beside it: what needs conversion must not change what does not
    mixed = {"array": np.arange(3, dtype=np.int16), "one": one, "inner": [np.float64(0.5), other]}
    whole = {"array": [0, 1, 2], "one": one, "inner": [0.5, other]}
    assert table(mixed).samples([0]) == table(whole).samples([0])


class Colour(enum.IntEnum):
    RED = 3


Point = collections.namedtuple("Point", "x y")


class Name(str):
    def __str__(self):
        return "another"


@pytest.mark.parametrize("given_, arrives", [
    ((1, (2, "3")), [1, [2, "3"]]), (bytearray(b"12"), b"12"), (memoryview(b"12"), b"12"), (Colour.RED, 3),
    (Point(1, 2), [1, 2]), ([Point(1, [Colour.RED])], [[1, [3]]]), (Name("this"), "this"),
    (collections.OrderedDict([("b", 1), ("a", np.int8(2))]), {"b": 1, "a": 2}),
    (np.float32(0.1), float(np.float32(0.1))), (np.bool_(True), True), (np.uint64(2 ** 64 - 1), 2 ** 64 - 1),
    (np.str_("é"), "é"), (np.bytes_(b"x"), b"x"), (np.array(5), 5), (np.zeros((2, 0)), [[], []]),
    (np.array([[1.5, 2.0]], np.float16), [[1.5, 2.0]]), (np.array(["a", None], object), ["a", None]),
    (msgpack.ExtType(5, b"x"), [5, b"x"]), (np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])[0], [1, 2.5]),
    (np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]), [[1, 2.5]]), ("caf\udce9", "caf\udce9"),
])
def test_conversions(given_, arrives):
    assert same(table([given_]).rows([0]), [[arrives]])
    assert same(table({"x": given_}).rows([0]), [{"x": arrives}])


def test_rows_are_read_once_and_packed_at_once():
    row = [1]
    rows = iter([row])
    data = Table.of(rows, "/data")
    row[0] = 2
    assert next(rows, "end") == "end" and data.rows([0]) == [[1]]


# ---------------------------------------------------------------------------------- what cannot travel

@pytest.mark.parametrize("value, words", [
    (decimal.Decimal("0.5"), ["is a Decimal (Decimal('0.5')), which cannot travel: use float(...)"]),
    (datetime.datetime(2018, 7, 1), ["datetime", "isoformat"]), ({1}, ["is a set ({1})", "sorted"]),
    (object(), ["is an object", "plain numbers"]), (1j, ["complex", "real and imaginary"]),
    (2 ** 64, ["is an int of more than 64 bits (18446744073709551616)", "str(...)"]),
    (-2 ** 63 - 1, ["is an int of more than 64 bits"]), ("\ud800", ["the text '\\ud800'", "not valid Unicode"]),
    (np.datetime64("2018-07-01"), ["datetime64", "str(...)"]), (np.complex64(1j), ["complex64"]),
    (np.zeros(MAX_ARRAY_BYTES + 1, np.uint8), ["an array with 65537 bytes", "at most 65536", "sample.numpy"]),
    ({1: 2}, ["has the key 1", "must be str"]),
    ({"\ud800": 1}, ["has the key '\\ud800'", "not valid Unicode"]), (os.DirEntry, ["is a type"]),
])
def test_the_error_names_row_and_field(value, words):
    sentence = error_of({"steering": 0.5}, {"steering": value})
    assert sentence.startswith("row 1: 'steering' ")
    assert all(word in sentence for word in words), sentence
    assert error_of([0, [value]]).startswith("row 0: item 1[0] ")
    nested = error_of({"boxes": [{"x": 1}, {"x": value}]})
    assert nested.startswith("row 0: 'boxes'[1]['x'] ")
    assert error_of(value, value).startswith("row 0: the row ")


def test_the_error_of_an_array_names_its_item():
    assert error_of({"x": np.array([1, object()])}).startswith("row 0: 'x'[1] is an object (<object object at 0x")


def test_a_path_object_in_a_row(tmp_path):
    assert "'image' is a PosixPath" in error_of({"image": tmp_path}) and "use str(...)" in error_of({"image": tmp_path})


def test_a_repr_that_fails_is_no_other_error():
    class Bad(object):
        def __repr__(self):
            raise RuntimeError("no")
    assert "is a Bad (its repr raises RuntimeError), which cannot travel" in error_of([Bad()])


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_bounded():
    assert same(table(nested(MAX_DEPTH)).rows([0]), [nested(MAX_DEPTH)])
    assert "row 0: 'x' is nested deeper than %d" % MAX_DEPTH in error_of({"x": nested(MAX_DEPTH + 1)})
    cycle = []
    cycle.append(cycle)
    assert "nested deeper" in error_of(cycle)


def test_a_row_has_at_most_a_megabyte():
    assert len(table(b"x" * (MAX_ROW_BYTES - 5)).samples([0])[0].packed) == MAX_ROW_BYTES
    assert "row 1 has 1048577 bytes when it is packed" in error_of([1], b"x" * (MAX_ROW_BYTES - 4))


def test_no_row():
    assert "rows: no row" in error_of()


# ------------------------------------------------------------------------------------------- a source

def test_samples_carry_the_packed_row():
    data = table({"x": 1}, [2.5])
    assert data.samples((1, 0)) == (Sample(1, "", -1, msgpack.packb([2.5])), Sample(0, "", -1, msgpack.packb({"x": 1})))
    assert all(type(sample) is Sample for sample in data.samples([0, 1])) and data.samples(()) == ()
    assert (data.root, data.classes, data.columns, data.has_paths, data.probes(8)) == ("/data", (), (), False, ())
    assert data.summary() == "rows: 2 rows"


@pytest.mark.parametrize("index", [-1, 2])
def test_no_sample_outside(index):
    for data in (table(1, 2), Numbers(2), table(1, 2, 3, 4).split(0.5, 0).validation):
        for method in (data.samples,) + (data.rows,) * isinstance(data, Table):
            with pytest.raises(IndexError, match="sample %d of 2: they have the numbers 0 to 1" % index):
                method((0, index))


def test_a_source_is_printed_in_a_line():
    assert repr(table(1, 2)) == "<Table: rows: 2 rows>"
    assert repr(Numbers(2000)) == "<Numbers: 2,000 samples without rows>"


def test_a_split_keeps_order_and_numbers_from_0():
    data = table(*range(1000))
    training, validation = data.split(0.2, 7)
    assert (len(training), len(validation)) == (800, 200)
    parts = [part.rows(range(len(part))) for part in (training, validation)]
    assert sorted(parts[0] + parts[1]) == list(range(1000)) and [sorted(part) for part in parts] == parts
    assert [sample.index for sample in validation.samples(range(200))] == list(range(200))
    assert validation.fingerprint() == table(*parts[1]).fingerprint()
    assert (validation.row_hashes() == table(*parts[1]).row_hashes()).all()
    assert data.split(0.2, 8)[1].fingerprint() != validation.fingerprint()
    assert len(set(parts[1]) & set(range(500))) in range(60, 140)      # spread out
    # a part of a part has rows of its own
    assert set(training.split(0.5, 1)[1].rows(range(400))) < set(parts[0])
    assert [len(part) for part in data.split(0.0, 7)] == [1000, 0]
    assert [len(part) for part in table(1, 2).split(0.01, 7)] == [1, 1]
    with pytest.raises(ConfigError, match="fraction"):
        data.split(1.0, 7)


def test_split_never_changes():
    assert table(*range(20)).split(0.3, 42)[1].rows(range(6)) == GOLDEN_SPLIT


def test_a_part_without_rows_has_a_fingerprint():
    training, validation = table(1, 2, 3).split(0.0, 0)
    assert len(validation) == 0 and validation.fingerprint() != training.fingerprint() == table(1, 2, 3).fingerprint()


def test_fingerprint_sees_rows_columns_and_order_but_not_the_folder():
    def columned(names, root="/data"):
        packed = msgpack.packb([1, 2])
        return Table.packed(packed, np.array([0, len(packed)]), root, names, "t")
    tables = [table(1, 2), table(2, 1), table(1), table([1, 2]), table(1.0, 2), table("1", "2"), columned(("a", "b")),
              columned(("b", "a")), table({"a": 1, "b": 2})]
    assert len({data.fingerprint() for data in tables}) == len(tables)
    assert columned(("a", "b"), "/other").fingerprint() == columned(("a", "b")).fingerprint()
    assert table(1, "a").below("/x").fingerprint() == table(1, "a").fingerprint() == GOLDEN_FINGERPRINT


def test_row_hashes():
    data = table(1, "a", {"x": None})
    hashes = data.row_hashes()
    assert hashes.dtype == np.uint32
    assert hashes.tolist() == [zlib.crc32(sample.packed) for sample in data.samples(range(3))]


def test_numbers():
    data = Numbers(12)
    assert data.samples((11, 0)) == (Sample(11, "", -1), Sample(0, "", -1)) and len(data) == 12
    assert (data.root, data.classes, data.columns, data.has_paths, data.probes(8)) == ("", (), (), False, ())
    assert data.rows([3]) == [None] == [JOB.row(sample) for sample in data.samples([3])]
    assert data.row_hashes().shape == (0,) and data.fingerprint() != Numbers(13).fingerprint()
    assert data.summary() == "12 samples without rows"
    assert data.split(0.0, 1).training is data
    with pytest.raises(ConfigError, match="give validation a number of its own"):
        data.split(0.5, 1)
    with pytest.raises(ConfigError, match="at least 1"):
        Numbers(0)


# ----------------------------------------------------------------------------------- what a row costs

def test_memory_is_the_packed_size_and_16_bytes_a_row():
    rows, packed_bytes = 50000, len(msgpack.packb([300, "x" * 30, 0.5]))
    tracemalloc.start()
    try:
        data = Table.of(([300 + number % 9, "x" * 30, 0.5] for number in range(rows)), "/data")
        kept, most = tracemalloc.get_traced_memory()
        assert kept <= rows * (packed_bytes + 16) + 100000
        assert most <= rows * (packed_bytes + 16) * 1.25 + 1000000     # in place, and not twice at the end
        parts = data.split(0.5, 0)
        del data
        assert tracemalloc.get_traced_memory()[0] <= rows * (packed_bytes + 16) + rows * 8 + 100000
        assert len(parts.training) == rows // 2
    finally:
        tracemalloc.stop()


def test_a_lease_that_no_worker_would_read_is_an_error_at_once():
    data = table(b"x" * 1000000, 0)
    assert len(codec.decode_from_trainer(codec.encode(Lease(0, 0, 0, True, data.samples([0] * 17)))).samples) == 17
    with pytest.raises(ConfigError, match="rows of one batch have 27[0-9]{7} bytes .* smaller batch_size"):
        codec.encode(Lease(0, 0, 0, True, data.samples([0] * 270)))


def test_numbers_cost_no_memory():
    tracemalloc.start()
    try:
        assert Numbers(1 << 39).samples([1 << 38])[0].index == 1 << 38
        assert tracemalloc.get_traced_memory()[1] < 100000
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------ what a checkpoint says

def test_difference():
    then = table({"x": 1}, {"x": 2}, {"x": 3})
    saved, hashes = identity(then), then.row_hashes()
    assert difference(saved, hashes, then.below("/elsewhere")) is None
    assert difference(saved, hashes, table({"x": 1}, {"x": 5}, {"x": 6})) == (
        "2 are gone or changed; 2 are new or changed, the first of them: sample 1, {'x': 5}")
    assert difference(saved, hashes, table({"x": 1}, {"x": 2}, {"x": 3}, {"x": 4})) == (
        "4 samples instead of 3; 1 is new: sample 3, {'x': 4}")
    assert difference(saved, hashes, table({"x": 1}, {"x": 2})) == "2 samples instead of 3; 1 is gone"
    assert difference(saved, hashes, table({"x": 2}, {"x": 3})) == "2 samples instead of 3; 1 is gone"
    assert difference(saved, None, table({"x": 1}, {"x": 2}, {"x": 4})) == "the samples are others"
    assert difference(identity(Numbers(5)), Numbers(5).row_hashes(), Numbers(6)) == "6 samples instead of 5"
    assert difference({}, None, then) == "the samples are others"          # of a version that kept less


def test_difference_of_columns():
    def columned(*names):
        packed = msgpack.packb([1] * len(names))
        return Table.packed(packed, np.array([0, len(packed)]), "/", names, "t")
    then = columned("a", "b")
    saved, hashes = identity(then), then.row_hashes()
    assert difference(saved, hashes, columned("b", "a")) == "other columns (in another order)"
    assert difference(saved, hashes, columned("a", "c")) == "other columns ('b' is missing, 'c' is new)"
    assert "other columns ('c' is new)" in difference(saved, hashes, columned("a", "b", "c"))


GOLDEN_SPLIT = [5, 7, 8, 9, 11, 19]
GOLDEN_FINGERPRINT = "ba55642c32284b6c"


def test_probes_are_the_files_that_rows_name(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    root = str(tmp_path)
    table = Table.of([{"x": "no file", "files": ["a.png"]}, {"x": root + "/b.png"}, {"x": "gone.png", "y": 3},
                      "../a.png", {"y": "a\0b"}], root)
    assert table.probes(8) == ("a.png", "b.png")
    assert table.probes(1) == ("a.png",)
    assert Table.of([{"x": "a.png"}], "").probes(8) == ()
