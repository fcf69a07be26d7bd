"""Indexing of TFRecord files: places, labels, columns, and a sentence for each file that is not whole."""

import gzip
import io
import struct
import zlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records import tfrecord
from stoker.pipeline.sources.records.file_index import MISSING
from stoker.pipeline.sources.records.tfrecord import crc_function, crc_of_8, index
from tests.support import tfrecords as made

EXAMPLES = [{"image": [b"first"], "label": [3], "x": [1.5], "n": [7]},
            {"x": [1.0, 2.0], "label": [0], "image": [b""], "n": [-1]},
            {"label": [2], "image": [b"third" * 100], "n": [1 << 62]}]


SHORT = [dict(example, image=[example["image"][0][:9]]) for example in EXAMPLES]


def indexed(content, **options):
    options = dict({"image": ["image"], "label": "label", "columns": [], "check": True}, **options)
    return index(io.BytesIO(content), len(content), options)


def rows_of(found):
    ends = found.row_ends.tolist()
    return [msgpack.unpackb(found.rows[start:end], raw=False) for start, end in zip([0] + ends, ends)]


def pictures(content, found):
    return [None if length == MISSING else content[offset:offset + length]
            for offset, length in zip(found.offsets[:, 0].tolist(), found.lengths[:, 0].tolist())]


def test_places_labels_and_columns():
    content = made.tfrecord(*EXAMPLES)
    found = indexed(content, columns=["x", "n"])
    assert pictures(content, found) == [example["image"][0] for example in EXAMPLES]
    assert found.labels.tolist() == [3, 0, 2] and found.label_names == () and found.columns == ("x", "n")
    assert found.scalars == (False, True)
    assert rows_of(found) == [[[1.5], 7], [[1.0, 2.0], -1], [[], 1 << 62]]
    assert (found.absent, found.size) == ((), 3)


def test_a_block_ends_anywhere(monkeypatch):
    content = made.tfrecord(*EXAMPLES * 3)
    whole = indexed(content)
    for size in (1, 7, 12, 13, 100):
        monkeypatch.setattr(tfrecord, "BLOCK_BYTES", size)
        found = indexed(content)
        assert (found.offsets == whole.offsets).all() and (found.lengths == whole.lengths).all()


def test_labels_that_are_texts_and_several_pictures():
    content = made.tfrecord(*({"l": [text], "a": [b"A"], "b": [b"B"]} for text in (b"dog", b"cat", b"dog", b"\xff")))
    found = indexed(content, image=["b", "a"], label="l")
    assert [part.name for part in found.parts] == ["b", "a"] and found.label_names == ("cat", "dog", "\udcff")
    assert found.labels.tolist() == [1, 0, 1, 2]
    assert content[found.offsets[3, 1]:][:1] == b"A" and found.lengths.tolist() == [[1, 1]] * 4


def test_what_is_missing_and_what_is_nowhere():
    content = made.tfrecord({"image": [b"x"], "label": [1]}, {"label": [1]}, {"image": [], "label": [2]})
    found = indexed(content, columns=["label", "z"])
    assert pictures(content, found) == [b"x", None, None] and found.absent == ("z",)
    assert rows_of(found) == [[1, []], [1, []], [2, []]] and found.there == ("image", "label")
    assert 0 < found.offsets[1, 0] < found.offsets[2, 0]
    assert indexed(b"").size == 0 and indexed(b"", columns=["label"]).row_ends.tolist() == []
    only = indexed(content, image=[], label=None, columns=["label"])
    assert only.parts == () and only.labels is None and rows_of(only) == [[1], [1], [2]]


@pytest.mark.parametrize("examples, options, words", [
    ([{"a": [1]}], {}, r"record 0 \(at byte 0\) has no label 'label', and has the features a: name its label"),
    (EXAMPLES + [{"image": [b"x"], "label": []}], {},
     r"record 3 \(at byte \d+\) has no value in its label 'label', and those before it have: stoker-pack"),
    (EXAMPLES, {"label": "x"}, "floats in the label 'x', which must be one int64 or one text"),
    ([{"image": [b"x"], "label": [1, 2]}], {}, "several values in the label"),
    (EXAMPLES + [{"image": [b"x"], "label": [b"x"]}], {}, "another type than those before it"),
    ([{"image": [b"x"], "label": [b"a\0b"]}], {}, "no name of a class"),
    (EXAMPLES, {"image": ["n"]}, "int64 values in 'n', and a picture is bytes"),
    ([{"größe\x1b": [3]}], {"image": ["größe\x1b"], "label": None}, r"has int64 values in 'größe\\x1b', and a"),
    ([{"image": [b"x", b"y"], "label": [1]}], {}, "several values in 'image'"),
    ([{"label": [1], "x": [b"x" * (1 << 20)]}], {"columns": ["x"]}, "a row has at most"),
    ([{"label": [1], "x": [b"x" * (1 << 22)]}], {"columns": ["x"]}, "a row has at most"),
    ([{"label": [1], "picture": [b"x"]}] * 1000, {}, "has no 'image', and so have all before it; .* label, picture"),
    ([b"\x08\x01"], {}, "has no label"), ([b"\x09"], {}, "record 0 .* is no tf.train.Example: a length leads beyond"),
    ([made.field(2, b"x")], {}, "is no tf.train.Example: it is a SequenceExample, or another message")])
def test_what_cannot_be_indexed_is_a_sentence(examples, options, words):
    with pytest.raises(DatasetError, match=words):
        indexed(made.tfrecord(*examples), **options)


def test_files_that_are_not_whole():
    content = made.tfrecord(*EXAMPLES)
    first = len(made.tfrecord(EXAMPLES[0]))
    for size, words in ((len(content) - 1, r"record 2 \(at byte \d+\) is torn, for it would end at byte %d" % len(
            content)), (first + 7, r"record 1 \(at byte %d\) is torn" % first), (first - 1, "within its first record"),
            (3, "it is no TFRecord file, or torn within its first record")):
        with pytest.raises(DatasetError, match=words) as error:
            indexed(content[:size])
        assert "stoker-pack --skip-damaged" in str(error.value) or "give TFRecord files" in str(error.value)
    wrong = bytearray(content)
    wrong[first] ^= 1
    with pytest.raises(DatasetError, match=r"record 1 \(at byte %d\) is damaged, for its length" % first):
        indexed(bytes(wrong))
    with pytest.raises(DatasetError, match="it is no TFRecord file"):
        indexed(b"PK\3\4" + bytes(100))
    with pytest.raises(DatasetError, match="it became shorter while it was read"):
        index(io.BytesIO(content[:-20]), len(content), {"image": [], "label": "label", "columns": [], "check": True})
    huge = struct.pack("<Q", 1 << 31)
    with pytest.raises(DatasetError, match="a record has at most"):
        index(io.BytesIO(huge + bytes(100)), 1 << 40, {"image": [], "label": None, "columns": ["x"], "check": False})


@pytest.mark.skipif(crc_function() is None, reason="the library crc32c is not installed")
def test_damaged_bytes_are_found_where_the_library_is():
    content = bytearray(made.tfrecord(*EXAMPLES))
    place = bytes(content).index(b"third") + 1
    content[place] ^= 1
    with pytest.raises(DatasetError, match=r"record 2 \(at byte \d+, \d+ bytes\) is damaged, .*checksum: write"):
        indexed(bytes(content))
    found = indexed(bytes(content), check=False)
    assert pictures(bytes(content), found)[2][:5] == b"tiird"


def test_the_checksum_of_lengths_needs_no_library():
    for data in (b"\0" * 8, b"12345678", struct.pack("<Q", (1 << 63) + 5)):
        assert crc_of_8(data) == made.crc32c(data)
    assert made.crc32c(b"123456789") == 0xe3069283        # the check value of CRC-32C


@pytest.mark.parametrize("check", [True, False])
def test_compressed_files_are_refused_with_the_way_to_convert_them(check):
    content = made.tfrecord(*EXAMPLES * 100)
    for packed, kind in ((gzip.compress(content), "gzip"), (zlib.compress(content), "zlib"),
                         (zlib.compress(content, 1), "zlib"), (zlib.compress(content, 9), "zlib")):
        with pytest.raises(DatasetError, match="compressed as a whole .%s.*stoker-pack" % kind):
            indexed(packed, check=check)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_change_of_a_file_is_an_error_or_makes_the_same_records(data):
    content = made.tfrecord(*SHORT)
    options = {"columns": data.draw(st.sampled_from([[], ["x"], ["x", "n", "image"]])), "check": data.draw(
        st.booleans())}
    if data.draw(st.booleans()):
        options["image"] = []
        options["columns"] = ["n"]
    whole, changed = indexed(content, **options), bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.integers(0, 2))
        if kind == 0:
            changed[place] = data.draw(st.integers(0, 255))
        elif kind == 1:
            del changed[place:place + data.draw(st.integers(1, 20))]
        else:
            changed[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        if not changed:
            return
    try:
        found = indexed(bytes(changed), **options)
    except DatasetError:
        return
    if options["check"] and crc_function() is not None:
        assert found.rows == whole.rows[:len(found.rows)]
        assert found.labels is None or found.labels.tolist() == whole.labels[:found.size].tolist()
    ends = found.offsets + (found.lengths != MISSING) * found.lengths
    assert not found.size or not found.parts or ends.max() <= len(changed)
