"""The records of files as a source: places, rows, classes, parts of it, and what tells it from other data."""

import os
import re

import msgpack
import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.sources.records.file_index import MISSING, FileIndex, Part
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.sources.records.watched import Watched
from stoker.pipeline.sources.sample_list import changes, kept, packed_list, unpacked_list
from stoker.pipeline.storage.folder import version_of
from stoker.pipeline.storage.place import place_of
from stoker.pipeline.storage.store import Entry


def index_of(count, begin=0, parts=("jpg",), labels=None, names=(), columns=(), rows=None, **more):
    """``count`` records of 10 bytes each, from byte ``begin`` on."""
    offsets = begin + 100 * np.arange(count, dtype=np.int64)[:, None] + 20 * np.arange(len(parts))
    lengths = np.full((count, len(parts)), 10, np.uint32)
    packed = [msgpack.packb(row, use_bin_type=True) for row in rows or ()]
    return FileIndex(tuple(part if isinstance(part, Part) else Part(part) for part in parts), offsets, lengths,
                     None if labels is None else np.array(labels, np.int64), names, columns, b"".join(packed),
                     np.cumsum(list(map(len, packed))).astype(np.int64) if columns else None, **more)


def source_of(*indexes, **more):
    return RecordSource.of("/data", ["%s.tar" % name for name in "abcdef"[:len(indexes)]], indexes, **more)


def labelled():
    return source_of(index_of(4, 0, labels=[0, 1, 2, 0]), index_of(3, 7, labels=[2, 2, 1]))


def with_rows():
    return source_of(index_of(2, 0, ("jpg", "png"), columns=("x", "y"), rows=[[1, "a"], [2, None]]),
                     index_of(3, 5, ("jpg", "png"), columns=("x", "y"), rows=[[3, "b"], [4, b"c"], [5, [6]]]))


def test_samples_are_places_of_the_first_part():
    source = labelled()
    assert len(source) == 7 and source.classes == ("0", "1", "2") and source.columns == ("jpg",) and source.has_paths
    samples = source.samples([0, 3, 4, 6])
    assert [tuple(sample) for sample in samples] == [
        (0, "a.tar//0+10", 0, b"", 0, ()), (3, "a.tar//300+10", 0, b"", 0, ()),
        (4, "b.tar//7+10", 2, b"", 0, ()), (6, "b.tar//207+10", 1, b"", 0, ())]
    assert source.rows(range(7)) == [{"jpg": sample.path} for sample in source.samples(range(7))]
    assert all(type(sample.label) is int for sample in source.samples(np.arange(7)))
    many = list(np.arange(7).repeat(20))          # more than are looked up one by one
    assert [sample.path for sample in source.samples(many)] == [source.rows([index])[0]["jpg"] for index in many]
    for wrong in (-1, 7):
        with pytest.raises(IndexError):
            source.samples([0, wrong])
    assert source.samples([]) == ()


def test_rows_have_the_columns_and_the_place_of_each_part():
    source = with_rows()
    assert source.columns == ("x", "y", "jpg", "png") and source.classes == ()
    assert source.rows([1, 2, 4]) == [
        {"x": 2, "y": None, "jpg": "a.tar//100+10", "png": "a.tar//120+10"},
        {"x": 3, "y": "b", "jpg": "b.tar//5+10", "png": "b.tar//25+10"},
        {"x": 5, "y": [6], "jpg": "b.tar//205+10", "png": "b.tar//225+10"}]
    assert [sample.path for sample in source.samples([0, 2])] == ["a.tar//0+10", "b.tar//5+10"]
    assert source.samples([2])[0].label == -1
    names = tuple("c%d" % number for number in range(20))        # a longer head of the packed list
    wide = source_of(index_of(1, columns=names, rows=[list(range(20))]))
    assert wide.rows([0]) == [dict(zip(names + ("jpg",), list(range(20)) + ["a.tar//0+10"]))]


def test_a_missing_part_is_none_and_a_missing_first_part_has_no_bytes():
    first, second = index_of(2, parts=("jpg", "png")), index_of(1, parts=("jpg",))
    first.lengths[:] = [[MISSING, 10], [10, MISSING]]
    source = source_of(first, second)
    assert source.rows([0, 1, 2]) == [{"jpg": None, "png": "a.tar//20+10"}, {"jpg": "a.tar//100+10", "png": None},
                                      {"jpg": "b.tar//0+10", "png": None}]
    assert place_of(source.samples([0])[0].path).length == 0


def test_numbers_and_datasets_have_a_place_of_their_own():
    numbers = Part("x", "|u1", (5, 2))
    source = source_of(index_of(2, parts=(numbers,)))
    assert place_of(source.samples([1])[0].path) == ("a.tar", 100, 10, "|u1", (5, 2), "")
    source = RecordSource.of("/data", ["50%.h5"], [index_of(2, parts=(Part("x", dataset="100%d/images"),))])
    assert place_of(source.samples([1])[0].path) == ("50%.h5", 100, 0, "", (), "100%d/images")


def test_columns_without_a_part_have_no_path():
    source = source_of(index_of(2, parts=(), columns=("x",), rows=[[1], [2]]))
    assert not source.has_paths and source.samples([1])[0].path == "" and source.rows([0, 1]) == [{"x": 1}, {"x": 2}]
    assert source.probes(8) == ()


def test_a_column_is_a_value_in_all_files_or_a_list_in_all():
    scalar = index_of(2, columns=("x", "y"), rows=[[1, 2], [3, 4]], scalars=(True, True))
    lists = index_of(1, columns=("x", "y"), rows=[[[5, 6], 7]], scalars=(False, True))
    assert [tuple(row.values())[:2] for row in source_of(scalar, lists).rows(range(3))] == [
        ([1], 2), ([3], 4), ([5, 6], 7)]
    assert [row["x"] for row in source_of(scalar, scalar).rows(range(4))] == [1, 3, 1, 3]


def test_labels_that_are_texts_are_sorted_or_chosen():
    files = (index_of(3, labels=[0, 1, 0], names=("cat", "dog")), index_of(2, labels=[1, 0], names=("ant", "cat")))
    source = source_of(*files)
    assert source.classes == ("ant", "cat", "dog") and source.labels.tolist() == [1, 2, 1, 1, 0]
    source = source_of(*files, classes=["dog", "cat"])
    assert source.classes == ("dog", "cat") and source.labels.tolist() == [1, 0, 1, 1]
    assert source.samples([3])[0].path == "b.tar//0+10" and [path for path, _ in source.left_out] == ["b.tar"]
    assert source_of(*files, classes=["cow", "dog"]).labels.tolist() == [1]        # as validation data may be
    assert source.summary().splitlines()[-2:] == [
        "left out: 1 record", "  records of classes that are not among the given ones: 1 in b.tar"]
    assert source_of(*files, classes=["ant", "dog"]).summary().splitlines()[-2:] == [
        "left out: 3 records", "  records of classes that are not among the given ones: 3 in 2 files, such as a.tar"]
    with pytest.raises(DatasetError, match="no record has the label cow"):
        source_of(*files, classes=["cow"])


@pytest.mark.parametrize("indexes, more, error, words", [
    ([index_of(2, labels=[0, -1])], {}, DatasetError, "record 1 of a.tar has the label -1"),
    ([index_of(2, labels=[0, 1 << 40])], {}, DatasetError, "label 1099511627776"),
    ([index_of(2, labels=[0, 3])], {"classes": ["a", "b"]}, DatasetError, "classes= names 2 classes"),
    ([index_of(2, labels=[0, 1])], {"classes": "ab"}, ConfigError, "must be a list of names"),
    ([index_of(2)], {"classes": ["a"]}, ConfigError, "have no labels"),
    ([index_of(2, labels=[0, 1]), index_of(1)], {}, DatasetError, "b.tar has no labels"),
    ([index_of(2, labels=[0, 1]), index_of(1, labels=[0], names=("a",))], {}, DatasetError, "one kind"),
    ([index_of(0)], {}, DatasetError, "no record"),
    ([index_of(1, absent=("png",), there=("jpg",))], {}, DatasetError, "no record has 'png'; a record of a.tar has j"),
    ([index_of(1), index_of(1, columns=("x",), rows=[[1]])], {}, DatasetError, "b.tar has \\(x\\)"),
    ([index_of(1, columns=("jpg",), rows=[[1]])], {}, ConfigError, "as a part and as a column")])
def test_what_does_not_fit_is_an_error(indexes, more, error, words):
    with pytest.raises(error, match=words):
        source_of(*indexes, **more)


def test_a_file_that_cannot_be_named_is_an_error():
    for name in ("../a.tar", "a//b.tar", "/a.tar", "\ud800.tar"):
        with pytest.raises(DatasetError, match="cannot be named"):
            RecordSource.of("/data", [name], [index_of(1)])


def test_a_file_without_records_and_a_mistake_in_one_file_do_no_harm():
    source = source_of(index_of(0, labels=None), index_of(2, labels=[1, 0], absent=("x",)), index_of(1, labels=[0]))
    assert len(source) == 3 and source.samples([2])[0].path == "c.tar//0+10" and source.probes(8) == ("b.tar", "c.tar")
    assert source.probes(1) == ("b.tar",)


@pytest.mark.parametrize("make", [labelled, with_rows])
def test_a_part_is_a_source_of_its_own(make):
    source = make()
    training, validation = source.split(0.4, 3)
    assert len(training) + len(validation) == len(source) and 0 < len(validation) < len(training)
    rows = training.rows(range(len(training))) + validation.rows(range(len(validation)))
    assert sorted(map(str, rows)) == sorted(map(str, source.rows(range(len(source)))))
    for part in (training, validation):
        alone = RecordSource(source.root, part.combined(), source.classes)
        assert alone.rows(range(len(alone))) == part.rows(range(len(part)))
        assert alone.fingerprint() == part.fingerprint() and (alone.row_hashes() == part.row_hashes()).all()
        assert alone.labels.tolist() == part.labels.tolist() and len(part.labels) == len(part)
        assert (alone.lease_bytes() == part.lease_bytes()).all()
        again = part.split(0.5, 1)
        assert len(again.training) + len(again.validation) == len(part)
    whole, nothing = source.split(0.0, 0)
    assert whole.fingerprint() == source.fingerprint() and len(nothing) == 0 and nothing.rows([]) == []
    assert nothing.fingerprint() and nothing.summary()


def test_the_root_has_no_influence_on_the_hash_and_all_else_has():
    source = labelled()
    others = [RecordSource.of("/other", source.files, [index_of(4, 0, labels=[0, 1, 2, 0]),
                                                       index_of(3, 7, labels=[2, 2, 1])]),
              source_of(index_of(4, 0, labels=[0, 1, 2, 1]), index_of(3, 7, labels=[2, 2, 1])),
              source_of(index_of(4, 0, labels=[0, 1, 2, 0]), index_of(3, 8, labels=[2, 2, 1])),
              source_of(index_of(4, 0, labels=[0, 1, 2, 0]), index_of(2, 7, labels=[2, 2])),
              source_of(index_of(4, 0, labels=[0, 1, 2, 0]), index_of(3, 7, labels=[2, 2, 1]), classes=["a", "b", "c"]),
              source_of(index_of(4, 0), index_of(3, 7)), source.below("/"),
              source_of(index_of(4, 0, parts=("png",), labels=[0, 1, 2, 0]), index_of(3, 7, parts=("png",),
                                                                                     labels=[2, 2, 1]))]
    assert others[0].fingerprint() == source.fingerprint()
    assert len({other.fingerprint() for other in others}) == len(others)
    rows = with_rows()
    changed = source_of(index_of(2, 0, ("jpg", "png"), columns=("x", "y"), rows=[[1, "a"], [2, "?"]]),
                        index_of(3, 5, ("jpg", "png"), columns=("x", "y"), rows=[[3, "b"], [4, b"c"], [5, [6]]]))
    assert rows.fingerprint() != changed.fingerprint()
    assert (rows.row_hashes() != changed.row_hashes()).tolist() == [False, True, False, False, False]
    assert len(set(rows.row_hashes().tolist())) == 5 and rows.row_hashes().dtype == np.uint32


def test_paths_can_begin_further_up():
    assert labelled().below("/").samples([4])[0].path == "data/b.tar//7+10"
    source = RecordSource.of("s3://bucket/a/b", ["c.tar"], [index_of(1)])
    assert source.below("s3://bucket").samples([0])[0].path == "a/b/c.tar//0+10" and source.probes(1) == ("c.tar",)


def test_classes_can_be_renumbered():
    source = labelled().with_classes(("z", "2", "1", "0"))
    assert source.labels.tolist() == [3, 2, 1, 3, 1, 1, 2] and source.classes == ("z", "2", "1", "0")


@pytest.mark.parametrize("make", [labelled, with_rows])
def test_a_checkpoint_keeps_the_list_and_goes_on_with_it(make):
    source = make()
    part = source.split(0.4, 3).training
    packed = packed_list(part, None)
    known, _ = unpacked_list(packed)
    again = known.source("/elsewhere", "rows")
    assert again.fingerprint() == part.fingerprint() == known.hash
    assert again.rows(range(len(part))) == part.rows(range(len(part))) and again.root == "/elsewhere"
    fewer = RecordSource(source.root, source.split(0.6, 5).training.combined(), source.classes)
    found, changed = kept(known, part.fingerprint(), fewer)
    there = fewer.rows(range(len(fewer)))
    assert {found.rows([index])[0] in there for index in found.gone} == {False}
    assert len(found) == len(part) and 0 < len(found.gone) < len(part) and changed.now == len(fewer)
    assert found.fingerprint() == part.fingerprint()


def test_changes_tell_of_other_labels():
    other = source_of(index_of(4, 0, labels=[0, 1, 1, 0]), index_of(2, 7, labels=[2, 2]))
    found = changes(labelled(), other)
    assert found.relabelled == 1 and found.first_relabelled == "a.tar//200+10" and list(found.gone) == [6]


def test_the_summary_counts_classes_and_columns():
    text = labelled().summary()
    assert text.splitlines()[0] == "/data: 7 records in 2 files, 3 classes" and "2  2  3" in text
    assert "parts: jpg, png" in with_rows().summary() and "columns: x, y" in with_rows().summary()


def test_memory_does_not_grow_by_an_object_for_each_record():
    import tracemalloc
    count = 20000
    index = index_of(count, labels=np.arange(count) % 10)
    tracemalloc.start()
    try:
        source = source_of(index)
        held, _ = tracemalloc.get_traced_memory()
        parts = source.split(0.1, 0)
        split, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20 * count and split - held < 6 * count and len(parts.training) == 0.9 * count


def test_the_first_part_is_the_samples_own_whatever_its_name():
    source = source_of(index_of(1, parts=("jpg", "txt", "png")), index_of(0, parts=()), index_of(1, parts=("png",)))
    assert source.columns == ("image", "txt", "png")
    assert [sample.path for sample in source.samples([0, 1])] == ["a.tar//0+10", "c.tar//0+10"]
    assert source.rows([0, 1]) == [{"image": "a.tar//0+10", "txt": "a.tar//20+10", "png": "a.tar//40+10"},
                                   {"image": "c.tar//0+10", "txt": None, "png": None}]
    odd = source_of(index_of(1, parts=("jpg", "image")), index_of(1, parts=("png",)))
    assert odd.columns == ("image_", "image")


def test_a_single_part_is_a_row_that_is_not_sent():
    sample, = labelled().samples([3])
    assert sample.packed == b"" and not labelled().packs and with_rows().packs
    assert row_in_a_worker(sample, ("jpg",)) == {"jpg": "a.tar//300+10"} == labelled().rows([3])[0]
    assert row_in_a_worker(sample, ()) == "a.tar//300+10"


def row_in_a_worker(sample, columns):
    return Job("image", (), 1, 0, "exact", "/data", columns=columns).row(sample)


def test_labels_can_come_from_elsewhere():
    source = source_of(index_of(2), index_of(1), labels=np.array([1, 0, 2]))
    assert source.labels.tolist() == [1, 0, 2] and source.classes == ("0", "1", "2")
    with pytest.raises(DatasetError, match="there are 2 labels for 3 records"):
        source_of(index_of(2), index_of(1), labels=np.array([1, 0]))


def test_a_file_that_was_replaced_is_told(tmp_path):
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(b"x" * 1234)
    entries = [Entry(name, version_of(os.stat(str(tmp_path / name)))) for name in ("a.tar", "b.tar")]
    source = labelled()
    assert source.changed() is None
    source.watched = Watched(str(tmp_path), entries, 1.5e9)
    parts = source.split(0.3, 0)
    assert source.changed() is None
    (tmp_path / "b.tar").chmod(0o600)
    assert source.changed() is None
    (tmp_path / "b.tar").write_bytes(b"x" * 1240)
    for each in (source, parts.training, source.below("/"), source.with_gone([1])):
        assert re.match(r"b.tar has changed since it was indexed at \d\d:\d\d:\d\d \(1,234 bytes then, 1,240 now\): ",
                        each.changed())
    (tmp_path / "b.tar").unlink()
    assert source.changed() is None          # a worker finds out


def test_probes_are_files_that_are_there():
    assert labelled().with_gone([0, 1, 2, 3]).probes(8) == ("b.tar",)
    assert labelled().with_gone([0, 1, 2, 6]).probes(8) == ("a.tar", "b.tar")
