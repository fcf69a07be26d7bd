"""What opens can be sent: each field of samples and jobs is checked before the first lease, by its name."""

import os
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipeline.coordinator.effects import Grant
from stoker.pipeline.coordinator.open_positions import OpenPositions
from stoker.pipeline.coordinator.session import job_message
from stoker.pipeline.errors import ConfigError, DatasetError, ProtocolError, RunFailed
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.partners import Partners
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.codec import check_job, decode_from_trainer, encode
from stoker.pipeline.protocol.columns import MAX_LABEL, MAX_ROW_BYTES
from stoker.pipeline.protocol.messages import MAX_TEXT, Job, Lease, Sample, Welcome
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.fields import CheckedSource, checked
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.reading import csv, files
from stoker.pipeline.sources.table import Numbers, Table
from stoker.pipeline.storage.folder import is_relative

OWN = (Dataset, Table, Numbers)
GOOD = ("cat/1.jpg", "dog/2.jpg", "dog/3.jpg")
PLAIN = Job("image", (), 4, 0, "fast", "/data")


def data(**fields):
    good = dict(root="/data", classes=("cat", "dog"), paths=GOOD, labels=(0, 1, 1), left_out=())
    return Dataset(**dict(good, **fields))


def sentence(call, error=DatasetError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


# --------------------------------------------------------------------------------------------------- Dataset's fields

@pytest.mark.parametrize("labels", [
    [0, 1, 1], np.array([0, 1, 1]), np.array([0, 1, 1], np.uint8), tuple(np.array([0, 1, 1], np.int32)),
    np.array([False, True, True]), (False, True, np.bool_(True)), np.array([0, 1, 1], object)])
def test_labels_of_numpy_are_ints(labels):
    assert data(labels=labels) == data() and set(map(type, data(labels=labels).labels)) == {int}
    assert data(labels=labels).fingerprint() == data().fingerprint()


@pytest.mark.parametrize("label", [0.37, 1.0, np.float32(1), -1, 2, 2 ** 31, 2 ** 63, 2 ** 70, "1", None, b"1", [1]])
def test_a_label_that_is_no_class_is_refused_with_its_sample(label):
    found = sentence(lambda: data(labels=(0, label, 1)))
    assert "sample 1 ('dog/2.jpg'): its label is %r, and must be a whole number from 0 to 1" % (label,) in found


@pytest.mark.parametrize("label", [-2, MAX_LABEL + 1, 0.5])
def test_labels_without_classes(label):
    assert data(classes=(), labels=(-1, 0, MAX_LABEL)).labels == (-1, 0, MAX_LABEL)
    assert "sample 2 ('dog/3.jpg'): its label" in sentence(lambda: data(classes=(), labels=(-1, -1, label)))


@pytest.mark.parametrize("path, words", [
    ("x" * 70000, "70,000 characters"), ("/etc/passwd", "below the root"), ("../a.jpg", "below the root"),
    ("a/../../b", "below the root"), ("..", "below the root"), ("", "not empty"), ("a\0b", "NUL"),
    ("a\ud800", "not valid Unicode"), (b"a.jpg", "must be a text"), (3, "must be a text"), (None, "must be a text"),
    (float("nan"), "must be a text")])
def test_a_path_that_cannot_be_sent_is_refused_with_its_sample(path, words):
    found = sentence(lambda: data(paths=(GOOD[0], path, GOOD[2])))
    assert found.startswith("sample 1: its path is ") and words in found and len(found) < 500


@pytest.mark.parametrize("path", ["a..b", "..a/b..", "a//b", "a/./b", "...", "a\n\x1b[31m", "\udcff.jpg",
                                  "x" * MAX_TEXT])
def test_other_paths_are_taken(path):
    assert data(paths=(path,), labels=[0]).paths == (path,)


def test_paths_may_be_of_other_classes():
    class Path(os.PathLike):
        def __fspath__(self):
            return "a/1.jpg"

    for path in (Path(), np.str_("a/1.jpg")):
        made = data(paths=[path], labels=[0]).paths
        assert made == ("a/1.jpg",) and type(made[0]) is str


@pytest.mark.parametrize("name", ["a\ud800", "a\0b", b"cat", 1, None, "x" * (MAX_TEXT + 1)])
def test_names_of_classes(name):
    assert "the name of class 1 is " in sentence(lambda: data(classes=["cat", name]))


@pytest.mark.parametrize("root", ["photos", "/a\0b", "/\ud800", "/" + "x" * MAX_TEXT, b"/data", 3, None])
def test_roots(root):
    assert "root" in sentence(lambda: data(root=root))


def test_as_many_labels_as_paths():
    assert "3 paths and 2 labels" in sentence(lambda: data(labels=(0, 1)))


def test_generated_records_have_any_text_as_path():
    assert Dataset("", (), ("/a", "..", ""), (-1,) * 3, ()).paths == ("/a", "..", "")


# -------------------------------------------------------------------------------------------------------- other sources

@pytest.mark.parametrize("call", [
    lambda text: scan_folder(text), lambda text: open_source([1, 2], root=text), lambda text: files(text + "/*"),
    lambda text: csv(text + ".csv"), lambda text: open_source(["/data/1", "/data/" + text])])
@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_names_of_folders_and_files(call, text):
    with pytest.raises((ConfigError, DatasetError)):
        call(text)


def test_columns_that_a_user_names(tmp_path):
    (tmp_path / "log.csv").write_text("1,2\n")
    with pytest.raises(ConfigError, match="not valid Unicode"):
        csv(tmp_path / "log.csv", columns=["a", "\ud800"])


class Source:
    """A source of a user's own class."""
    root, classes, columns, has_paths = "/data", ("cat", "dog"), (), True

    def __init__(self, *samples):
        self._samples = samples

    def __len__(self):
        return len(self._samples)

    def samples(self, indices):
        return [self._samples[index] for index in indices]

    def probes(self, count):
        return ()

    def more(self):
        return "more"


SOUND = Sample(0, "cat/1.jpg", 0), Sample(1, "dog/2.jpg", 1, msgpack.packb({"a": 1}, use_bin_type=True))


def test_a_users_own_source_is_checked_and_keeps_its_attributes():
    source = checked(Source(*SOUND), OWN)
    assert source.samples([1, 0]) == SOUND[::-1] and len(source) == 2 and source.more() == "more"
    assert checked(source, OWN) is source and checked(data(), OWN) == data()
    numbers = checked(Source(SOUND[0]._replace(index=np.int64(0), label=np.int32(1))), OWN).samples([np.int64(0)])
    assert numbers == (SOUND[0]._replace(label=1),) and type(numbers[0].label) is type(numbers[0].index) is int


@pytest.mark.parametrize("change, words", [
    (dict(index=0), "sample 1: its index is 0"), (dict(index="1"), "sample 1: its index"),
    (dict(label=0.37), "sample 1: its label is 0.37"), (dict(label=-1), "sample 1: its label is -1"),
    (dict(label=2), "sample 1: its label is 2"), (dict(path="/a"), "sample 1: its path"),
    (dict(path="x" * 70000), "sample 1: its path"), (dict(path=None), "sample 1: its path"),
    (dict(packed="text"), "sample 1: its packed row"), (dict(packed=b"\xc1"), "sample 1: its packed row"),
    (dict(packed=b"\0" * (MAX_ROW_BYTES + 1)), "sample 1: its packed row is of"),
    (dict(repeat=1), "sample 1: its repeat"), (dict(partners=SOUND), "sample 1: its repeat")])
def test_a_sample_of_a_users_own_source(change, words):
    assert words in sentence(lambda: checked(Source(SOUND[0], SOUND[1]._replace(**change)), OWN))


def test_what_a_users_own_source_gives_later_is_checked_too():
    source = Source(*SOUND)
    safe = checked(source, OWN)
    positions = OpenPositions(Plan(2, 2, 1, 0), Splits(safe), False)
    source._samples = SOUND[0], SOUND[1]._replace(label=5)
    assert "sample 1: its label is 5" in sentence(lambda: positions.lease(Grant(b"w", 1, 0, 1, False)))
    source._samples = SOUND[0], "no sample"
    assert "sample 1: it is a str" in sentence(lambda: safe.samples([1]))
    source.samples = lambda indices: []
    assert "gave 0 samples where 1 were asked for" in sentence(lambda: safe.samples([1]))
    source.samples = lambda indices: 1 / 0
    assert "ZeroDivisionError" in sentence(lambda: safe.samples([1]), RunFailed)


# ----------------------------------------------------------------------------------------------------------------- jobs

@pytest.mark.parametrize("field, value", [
    ("generator", "x" * (MAX_TEXT + 1)), ("generator", "a\ud800:f"), ("augment", "a\ud800:f"), ("data_root", "/\ud800"),
    ("columns", ("a", b"b")), ("columns", ("a",) * 5000), ("probes", ("a",) * 17), ("probes", (3,)), ("seed", 1 << 64),
    ("image_size", (1, 1 << 20)), ("rows", 0), ("exif_rotate", 1), ("batch_size", np.int64(3)), ("columns", "a")])
def test_a_job_that_cannot_be_sent_is_refused_by_its_field(field, value):
    assert sentence(lambda: check_job(replace(PLAIN, **{field: value})), ConfigError).startswith(field + " of the run")


def test_a_programs_path_may_be_long():
    job = replace(PLAIN, generator="/%s/program.py:make" % "/".join(["folder"] * 300))
    check_job(job)
    assert decode_from_trainer(encode(Welcome("run", job, 1.0))).job == job


def test_a_run_that_opens_has_a_job_that_can_be_sent():
    source = data(root="/data/" + "x" * 4000)
    job = job_message(JobOptions("module:function"), Splits(source), StreamOptions())
    assert decode_from_trainer(encode(Welcome("run", job, 1.0))).job == job
    with pytest.raises(ConfigError, match="generator of the run cannot be sent"):
        job_message(JobOptions("m\ud800:function"), Splits(source), StreamOptions())


# ------------------------------------------------------------------------------------ what opens can be sent and read

TEXTS = st.one_of(st.text(max_size=6), st.text(st.sampled_from("a./\0\ud800\udcff\n\\\x1b"), max_size=6),
                  st.just("x" * (MAX_TEXT + 1)))
ODD = st.one_of(TEXTS, st.binary(max_size=3), st.integers(-2, 3), st.floats(), st.none(), st.booleans(),
                st.sampled_from([np.int64(1), np.float32(1), np.bool_(True), np.str_("a"), 2 ** 31, 2 ** 64, (), []]))


def mostly(good, *odd):
    """``good``, so that a single fault is what decides; seldom one of ``odd``."""
    return st.integers(0, 11).flatmap(lambda number: good if number else st.one_of(*odd))


PATHS = mostly(st.sampled_from(GOOD), st.sampled_from(["/a", "..", "a/../b", "", "../a", "a\0", "\ud800"]), ODD)
LABELS = mostly(st.integers(0, 1), st.sampled_from([0.37, -1, 2, 2 ** 31, 2 ** 64, np.int64(1)]), ODD)
SEVERAL = mostly(st.lists(st.sampled_from(GOOD), max_size=2), st.lists(ODD, max_size=2), ODD)
TEXT = mostly(st.just("a:b"), ODD)


def leases_of(source, partners):
    """All leases of one epoch, with replacements, as workers read them."""
    plan = Plan(len(source), 2, 1, 0, partners=(Partners(2, len(source)) if partners else None, None))
    positions = OpenPositions(plan, Splits(source), True)
    for position in range(plan.positions):
        lease = positions.lease(Grant(b"w", position + 1, position, 1, False))
        assert decode_from_trainer(encode(lease)) == lease
        yield lease


def opens(call):
    try:
        return call()
    except (ConfigError, DatasetError):
        return None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(PATHS, LABELS), min_size=1, max_size=5),
       mostly(st.just(("cat", "dog")), st.lists(ODD, max_size=3)), st.sampled_from(["", "/data"]), st.booleans())
def test_every_dataset_that_opens_can_be_sent(samples, classes, root, partners):
    paths, labels = zip(*samples)
    source = opens(lambda: Dataset(root, classes, paths, labels, ()))
    if source is not None:
        assert source.fingerprint() and len(source.row_hashes()) == len(source)
        for lease in leases_of(source, partners):
            for sample in lease.samples:
                assert not root or is_relative(sample.path.encode("utf-8", "surrogateescape"))
                assert -1 <= sample.label <= MAX_LABEL and (not classes or 0 <= sample.label < len(classes))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries(dict(
    path=PATHS, label=LABELS, packed=mostly(st.sampled_from([b"", b"\x90"]), ODD),
    repeat=mostly(st.just(0), ODD), partners=mostly(st.just(()), ODD))), min_size=1, max_size=4), st.booleans())
def test_every_source_of_a_user_that_opens_can_be_sent(samples, partners):
    own = Source(*(Sample(index, **fields) for index, fields in enumerate(samples)))
    source = opens(lambda: checked(own, OWN))
    if source is not None:
        assert isinstance(source, CheckedSource) and list(leases_of(source, partners))


VALUES = st.recursive(
    st.one_of(ODD, st.integers(), st.sampled_from([2 ** 63, 2 ** 64 - 1, -2 ** 63])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)), max_leaves=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_every_row_that_opens_can_be_sent(rows):
    source = opens(lambda: Table.of(rows, "/data"))
    for lease in () if source is None else leases_of(source, True):
        for sample in lease.samples:
            assert repr(PLAIN.row(sample)) == repr(source.rows([sample.index])[0])


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries(dict(
    generator=TEXT, data_root=TEXT, probes=SEVERAL, columns=SEVERAL, seed=mostly(st.integers(), ODD),
    batch_size=mostly(st.integers(1, 9), ODD), may_skip=mostly(st.booleans(), ODD), augment=TEXT)))
def test_every_job_that_is_accepted_can_be_sent(fields):
    job = replace(PLAIN, **fields)
    try:
        check_job(job)
    except ConfigError:
        return
    sent = decode_from_trainer(encode(Welcome("run", job, 1.0))).job
    assert sent == replace(job, probes=tuple(job.probes), columns=tuple(job.columns))


def test_leases_of_odd_samples_are_refused_by_workers_all_the_same():
    for change in (dict(label=0.37), dict(label=-2), dict(path="x" * 70000), dict(repeat=-1)):
        lease = Lease(1, 0, 0, True, (SOUND[0]._replace(**change),))
        with pytest.raises(ProtocolError):
            decode_from_trainer(encode(lease))
