"""The list of samples beside a checkpoint: it comes back whole or not at all, and says what changed."""

import gzip
import io
import json

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources import sample_list
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.reading import csv
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.sources.sample_list import ListError, changes, kept, listed_hashes, packed_list, unpacked_list
from stoker.pipeline.sources.table import Numbers, Table

PATHS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/\udcff\n.jpg")


def data(paths=PATHS, classes=("cat", "dog"), root="/data", labels=None):
    labels = [classes.index(path.split("/")[0]) for path in paths] if labels is None else labels
    return Dataset(root, classes, tuple(paths), tuple(labels), ())


def rows(*values):
    return Table.of([{"path": "%s.jpg" % value, "x": value} for value in values], "/data")


SOURCES = [data(), data(classes=(), labels=(-1,) * 4), generated(3), rows(1, 2, 2), Numbers(7), Numbers(1 << 39)]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_list_comes_back_as_it_was(source):
    found, other = unpacked_list(packed_list(source, None))
    made = found.source(source.root, "rows")
    assert other is None and made.fingerprint() == source.fingerprint() and len(made) == len(source)
    assert made.samples([0]) == source.samples([0]) and (made.classes, made.columns) == (source.classes, source.columns)
    assert kept(found, source.fingerprint(), source) == (source, None)


def test_the_types_of_a_csv_file_come_back(tmp_path):
    (tmp_path / "log.csv").write_text("a,b\n1,x\n2,y\n")
    table = csv(tmp_path / "log.csv")
    made = unpacked_list(packed_list(table))[0].source(table.root, table.name)
    assert made.summary() == table.summary() and made.types == ("int", "text")


def test_two_lists_in_one_file():
    training, validation = unpacked_list(packed_list(data(), data(PATHS[:2])))
    assert [len(each.source("/data", "")) for each in (training, validation)] == [4, 2]


def test_the_same_samples_have_the_same_bytes():
    assert packed_list(data()) == packed_list(data(root="/other"))
    assert packed_list(data()) != packed_list(data(PATHS[::-1]))


def test_no_list_of_what_a_user_defines_or_of_too_much(monkeypatch):
    assert packed_list(object()) is None
    monkeypatch.setattr(sample_list, "MAX_LIST_BYTES", 200)
    assert packed_list(data(PATHS[:1])) is not None and packed_list(data(PATHS * 9, labels=(0,) * 36)) is None


def packed(content):
    file = io.BytesIO()
    with gzip.GzipFile("", "wb", 1, file) as out:
        out.write(content)
    return file.getvalue()


def test_every_damage_is_noticed():
    whole = packed_list(data(), Numbers(3))
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1:]):
            try:
                found = unpacked_list(damaged)[0].source("/data", "")
            except ListError as error:
                assert str(error).startswith("it is ")
            else:       # of gzip's header: time, system; they mean nothing here
                assert place < 10 and found == data()


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(packed), st.recursive(
    st.one_of(st.none(), st.integers(-5, 1 << 66), st.text(max_size=5), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
        ["kind", "count", "bytes", "classes", "columns", "types"]), inner)), max_leaves=8).map(
            lambda head: packed(sample_list.MAGIC + json.dumps(head).encode() + b"\n"))))
def test_anything_else_is_no_list(content):
    try:
        for each in unpacked_list(content):
            if each is not None:
                each.source("/data", "")
    except ListError as error:
        assert str(error).startswith("it is ")


FILES = {"kind": "files", "classes": ["cat", "dog"], "count": 2, "hash": "x", "bytes": [7, 8]}
NUMBERS = {"kind": "numbers", "count": 2, "hash": "x", "bytes": []}
ROWS = {"kind": "rows", "columns": ["a"], "types": ["int"], "count": 2, "hash": "x", "bytes": [8, 2]}
ONES = np.array([1, 1], "<i4").tobytes()


@pytest.mark.parametrize("head, body", [
    (dict(FILES, bytes=[15]), b"a/1\0b/2" + ONES), (dict(FILES, bytes=[]), b""), (dict(FILES, bytes=[0, 0, 0]), b""),
    (dict(FILES, bytes=[-5, 20]), b"a/1\0b/2" + ONES), (dict(FILES, bytes=[7.0, 8]), b"a/1\0b/2" + ONES),
    (dict(FILES, bytes=[float("inf"), 8]), b""), (dict(FILES, bytes=[float("nan"), 8]), b""),
    (dict(FILES, bytes=10 ** 30), b""), (dict(FILES, bytes=[10 ** 30, 8]), b""), (dict(FILES, bytes="ab"), b""),
    (dict(FILES, classes=[1, 2]), b"a/1\0b/2" + ONES), (dict(FILES, classes=None), b"a/1\0b/2" + ONES),
    (dict(FILES, classes=["cat"]), b"a/1\0b/2" + ONES), (dict(FILES, bytes=[7, 4]), b"a/1\0b/2" + ONES[:4]),
    (dict(NUMBERS, count=10 ** 30), b""), (dict(NUMBERS, count=0), b""), (dict(NUMBERS, count=2.5), b""),
    (dict(NUMBERS, count=float("inf")), b""), (dict(NUMBERS, count="2"), b""), (dict(NUMBERS, bytes=[0]), b""),
    (dict(NUMBERS, kind="letters"), b""), (dict(NUMBERS, kind=["x"]), b""), ({"kind": "numbers"}, b""),
    (dict(ROWS, columns=[1]), ONES + b"zz"), (dict(ROWS, types=5), ONES + b"zz"), (dict(ROWS, types=[5]), ONES + b"zz"),
    (dict(ROWS, count=3), ONES + b"zz"), (dict(ROWS, bytes=[0, 10]), ONES + b"zz"), (7, b""), ("files", b""),
], ids=str)
def test_odd_content_with_a_valid_checksum_is_damage(head, body):
    content = packed(sample_list.MAGIC + json.dumps([head]).encode() + b"\n" + body)
    with pytest.raises(ListError, match="^it is (torn|damaged|torn or damaged)$"):
        unpacked_list(content)[0].source("/data", "")


def test_the_hashes_of_a_list_are_at_its_beginning():
    """As long as the whole list has its length: nothing between is read."""
    sources = data(["cat/%d.jpg" % number for number in range(9999)]), None, Numbers(3)
    whole = packed_list(*sources)
    hashes = tuple(source and source.fingerprint() for source in sources)
    assert listed_hashes(io.BytesIO(whole)) == hashes
    middle = len(whole) // 2
    assert listed_hashes(io.BytesIO(whole[:middle] + b"?" * 99 + whole[middle + 99:])) == hashes
    for torn in (b"", whole[:9], whole[:middle], whole[:-1], whole + b"\0", packed(b"stoker samples 2\n[]\n"),
                 packed(sample_list.MAGIC + b"[7]\n"), packed(sample_list.MAGIC + b"7\n"), packed(sample_list.MAGIC)):
        with pytest.raises(ListError, match="^it is "):
            listed_hashes(io.BytesIO(torn))


def test_a_bomb_is_not_read(monkeypatch):
    monkeypatch.setattr(sample_list, "MAX_LIST_BYTES", 1000)
    with pytest.raises(ListError, match="too large"):
        unpacked_list(packed(sample_list.MAGIC + b"\0" * (1 << 22)))


def test_a_list_of_another_version():
    with pytest.raises(ListError, match="another version"):
        unpacked_list(packed(b"stoker samples 2\n[]\n"))


# -------------------------------------------------------------------------------------------------------- what changed

@pytest.mark.parametrize("then, now, sentence", [
    (data(), data(PATHS[1:]), "4 -> 3 samples; 1 is gone: cat/1.jpg"),
    (data(), data(PATHS[2:]), "4 -> 2 samples; 2 are gone, the first of them: cat/1.jpg"),
    (data(), data(PATHS + ("cat/3.jpg",)), "4 -> 5 samples; 1 is new: cat/3.jpg"),
    (data(), data(("cat/0.jpg",) + PATHS[1:]), "1 is gone: cat/1.jpg; 1 is new: cat/0.jpg"),
    (data(), data(PATHS[::-1]), "the same samples are in another order"),
    (data(PATHS[:3]), data(PATHS[:3], labels=(0, 1, 1)), "1 has another class: cat/2.jpg"),
    (data(), data(("ant/1.jpg",) + PATHS, ("ant", "cat", "dog")),
     "4 -> 5 samples; 1 is new: ant/1.jpg; other classes ('ant' is new)"),
    (data(), data(PATHS[:2], ("cat",)),
     "4 -> 2 samples; 2 are gone, the first of them: dog/1.jpg; other classes ('dog' is gone)"),
    (data(), data(PATHS[:3]), "4 -> 3 samples; 1 is gone: dog/\\xff\\n.jpg"),
    (rows(1, 2, 2), rows(1, 2), "3 -> 2 samples; 1 is gone: row 2, {'path': '2.jpg', 'x': 2}"),
    (rows(1, 2), rows(1, 3, 2, 1), "2 -> 4 samples; 2 are new, the first of them: row 1, {'path': '3.jpg', 'x': 3}"),
    (Numbers(9), Numbers(7), "9 -> 7 samples; 2 are gone, the first of them: sample 7"),
    (Numbers(7), Numbers(1 << 39),
     "7 -> 549,755,813,888 samples; 549,755,813,881 are new, the first of them: sample 7"),
    (generated(9), generated(8), "9 -> 8 samples; 1 is gone: 8")], ids=range(14))
def test_what_changed(then, now, sentence):
    assert changes(then, now).sentence == sentence


def test_a_column_that_became_one_of_floats_has_the_same_rows(tmp_path):
    tables = []
    for text in ("a,b\n1,x\n2,y\n", "a,b\n1,x\n3.5,z\n"):
        (tmp_path / "log.csv").write_text(text)
        tables.append(csv(tmp_path / "log.csv"))
    assert changes(*tables).sentence == ("1 is gone: row 1, {'a': 2, 'b': 'y'}; "
                                         "1 is new: row 1, {'a': 3.5, 'b': 'z'}")


def known(source):
    return unpacked_list(packed_list(source))[0]


def test_a_run_goes_on_with_the_samples_that_its_checkpoint_knows():
    now = Dataset("/moved", ("ant", "cat", "dog"), ("ant/1.jpg", "cat/1.jpg", "dog/1.jpg", PATHS[3]), (0, 1, 2, 2),
                  (("notes.txt", "not an image"),))
    source, found = kept(known(data()), data().fingerprint(), now)
    assert source.paths == PATHS and source.classes == ("cat", "dog") and source.labels == (0, 0, 1, 1)
    assert source.root == "/moved" and source.left_out == now.left_out and source.gone == {1} == set(found.gone)
    assert source.fingerprint() == data().fingerprint() and source.probes(8) == PATHS[:1] + PATHS[2:]
    assert source.below("/").gone == {1}


def test_the_gone_ones_are_known_in_both_parts():
    paths = tuple("%s/%d.jpg" % (name, number) for name in ("cat", "dog") for number in range(20))
    whole = data(paths)
    source, _ = kept(known(whole), whole.fingerprint(), data(paths[:7] + paths[9:]))
    for part, same in zip(source.split(0.3, 0), whole.split(0.3, 0)):
        assert part.paths == same.paths
        assert {part.paths[index] for index in part.gone} == set(part.paths) & set(paths[7:9])


def test_rows_that_are_gone_are_known_in_both_parts():
    whole = rows(*range(40))
    source, _ = kept(known(whole), whole.fingerprint(), rows(*range(3), *range(5, 50)))
    parts = source.split(0.3, 0)
    assert sorted(part.rows([index])[0]["x"] for part in parts for index in part.gone) == [3, 4]
    assert isinstance(parts, Splits) and source.below("/other").gone == {3, 4} and len(source) == 40
    assert msgpack.unpackb(source.samples([3])[0].packed, raw=False) == {"path": "3.jpg", "x": 3}


def test_numbers_that_are_gone():
    source, _ = kept(known(Numbers(1 << 39)), Numbers(1 << 39).fingerprint(), Numbers(5, "/data"))
    assert len(source) == 1 << 39 and 5 in source.gone and 4 not in source.gone
    assert source.below("/d").gone == source.gone


def test_what_cannot_be_kept():
    for wrong in (data(PATHS[:2]), rows(1)):
        with pytest.raises(ListError, match="other data"):
            kept(known(wrong), data().fingerprint(), data(PATHS[1:]))
    with pytest.raises(DatasetError, match="not one of the 4 samples"):
        kept(known(data()), data().fingerprint(), data(("cat/9.jpg", "dog/9.jpg")))
    with pytest.raises(DatasetError, match="are files, and those of the data are not"):
        kept(known(data()), data().fingerprint(), Numbers(4))


def test_many_samples_are_compared_in_little_memory():
    paths = ["cat/%d.jpg" % number for number in range(3000)]
    then, now = data(paths + paths[:10], ("cat", "dog")), data(paths[5:], ("cat", "dog"))
    found = changes(then, now)
    assert sorted(found.gone) == [0, 1, 2, 3, 4] + list(range(3000, 3010)) and found.new == 0
    assert np.array_equal(sorted(kept(known(then), then.fingerprint(), now)[0].gone), sorted(found.gone))


def test_names_under_another_locale_are_the_same():
    """With LC_ALL=C, Python 3.6 has each byte of a name that is not ASCII as a surrogate."""
    names = "v\u00f6gel/\u00fc.jpg", "v\u00f6gel/2.jpg", "dog/1.jpg"
    under_c = [name.encode("utf-8").decode("ascii", "surrogateescape") for name in names]
    then = data(names, ("dog", "v\u00f6gel"))
    now = data(under_c[1:], ("dog", under_c[0].split("/")[0]))
    assert changes(then, now).sentence.startswith("3 -> 2 samples; 1 is gone: v") and changes(then, now).relabelled == 0
    for one, other in ((then, now), (data(under_c, now.classes), data(names[1:], then.classes))):
        source, _ = kept(known(one), one.fingerprint(), other)
        assert source.gone == {0} and source.fingerprint() == then.fingerprint()
