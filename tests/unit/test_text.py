"""Names of files in sentences: escaped, and at most eight."""

import pytest

from stoker.pipeline.coordinator.effects import Abort
from stoker.pipeline.coordinator.session import CoordinatorSession
from stoker.pipeline.errors import ConfigError, DatasetError, RunFailed, StokerError
from stoker.pipeline.monitoring.bad_samples import BadFiles
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.orders import balanced
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Job, Skipped
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.identity import difference, identity
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.splits import open_splits
from stoker.pipeline.sources.reading import csv, files
from stoker.pipeline.sources.table import Table
from stoker.pipeline.storage.folder import check_root, resolve
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.text import name_list, printable, printable_path, quoted
from stoker.workers.readers import Readers

EVIL = "\x1b[2J\x1b]0;pwned\x07\n\r\u202e\udcff"
MANY = 20000


def test_printable():
    assert printable("für 名") == "für 名"
    assert printable(EVIL) == "\\x1b[2J\\x1b]0;pwned\\x07\\n\\r\\u202e\\udcff"
    assert printable("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b" and printable("a\n\tb") == "a\\n\\tb"
    assert printable_path("a\nb\u00e4").startswith("a\\nb") and printable_path(EVIL + "\ud800").isprintable()


def test_names_in_quotes_keep_their_letters():
    assert quoted("größe") == quoted("gr\udcc3\udcb6ße") == "'größe'" and quoted("it's") == '"it\'s"'
    assert quoted("a\x1b\n\u202e\udcff\ud800") == "'a\\x1b\\n\\u202e\\udcff\\ud800'"
    assert quoted(b"gr\xf6") == "b'gr\\xf6'" and quoted({"鳥": "\x1b"}) == "{'鳥': '\\x1b'}"

    class Evil:
        """Its representation is a terminal's command."""
        def __repr__(self):
            return EVIL
    assert "\x1b" not in quoted(Evil()) and quoted(Evil()).encode("utf-8")


def test_eight_names_and_the_number_of_the_others():
    names = ["%d.jpg" % number for number in range(MANY)]
    assert name_list(names[:8]) == ", ".join(names[:8]) and name_list([]) == ""
    assert name_list(names) == ", ".join(names[:8]) + " and 19,992 more" == name_list(iter(names))
    assert name_list([EVIL] * 9).isprintable() and name_list(names, 2) == "0.jpg, 1.jpg and 19,998 more"


def test_every_error_of_stoker_is_printable():
    for kind in [StokerError] + StokerError.__subclasses__():
        assert str(kind("%s is gone" % EVIL)) == str(kind(kind("%s is gone" % EVIL))) and "\x1b" not in str(kind(EVIL))
    assert str(RunFailed("it failed\nTraceback:\n\tline")) == "it failed\nTraceback:\n\tline"


def evil_folder(tmp_path, *classes):
    for name in classes or ("cat",):
        (tmp_path / EVIL / name).mkdir(parents=True)
        (tmp_path / EVIL / name / (EVIL + ".jpg")).write_bytes(b"")
    return str(tmp_path / EVIL)


def evil_data(count=3):
    return Dataset("/data/" + EVIL, ("a", EVIL), tuple("%s%05d.jpg" % (EVIL, number) for number in range(count)),
                   (0,) * count, ())


#: What says a sentence about files with such names.
SENTENCES = {
    "one class": lambda tmp: scan_folder(evil_folder(tmp)),
    "a class that is missing": lambda tmp: scan_folder(evil_folder(tmp), classes=["cat", EVIL]),
    "other classes": lambda tmp: open_splits(scan_folder(evil_folder(tmp, "cat", EVIL + "2")), Dataset(
        str(tmp), ("cat", EVIL), ("cat/1",), (0,), ()), 0),
    "no folder": lambda tmp: scan_folder(str(tmp / EVIL)),
    "a pattern": lambda tmp: open_source(str(tmp / EVIL / "*.jpg")),
    "no file": lambda tmp: files(str(tmp / EVIL / "*.jpg")),
    "not below": lambda tmp: files(["/other/" + EVIL], root=str(tmp)),
    "a CSV file": lambda tmp: csv(str(tmp / EVIL)),
    "a label": lambda tmp: Dataset("/data", ("a", "b"), (EVIL,), (7,), ()),
    "a path": lambda tmp: Dataset("/data", ("a", "b"), ("/" + EVIL,), (0,), ()),
    "a row": lambda tmp: Table.of([{EVIL: object()}], "/data"),
    "a root": lambda tmp: check_root("/data/" + EVIL, ()) or resolve("/data/" + EVIL, "a"),
    "probes": lambda tmp: check_root(str(tmp), (EVIL, EVIL)),
    "a reader": lambda tmp: Readers(Job("a:b", (), 1, 0, "fast", str(tmp / EVIL))).bytes("/" + EVIL),
    "a bad file": lambda tmp: BadFiles(None, True).note(_Batch(), evil_data()),
}


class _Batch:
    """A batch of which one sample is bad."""
    missing, training, step, epoch = 0, True, 3, 0
    skipped = (Skipped(1, EVIL, EVIL),)


@pytest.mark.parametrize("place", sorted(SENTENCES))
def test_names_in_a_sentence_are_escaped(tmp_path, place):
    with pytest.raises(StokerError) as caught:
        SENTENCES[place](tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 2000


def test_names_of_changed_data_are_escaped():
    for source in (evil_data(4), Dataset("/data", ("a", EVIL + "2"), ("a", "b", "c"), (0, 0, 0), ())):
        text = difference(identity(evil_data()), evil_data().row_hashes(), source)
        assert text.isprintable() and "pwned" in text


def test_many_classes_that_are_missing_are_named_by_eight(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        scan_folder(str(tmp_path), classes=["cat"] + ["class%d" % number for number in range(MANY)])
    assert "class7 and 19,992 more" in str(caught.value)


class _Coordinator:
    """As far as a stream that waits needs it."""
    address, local_keys, run_id, fleet = "tcp://127.0.0.1:1", None, "ab12cd34", Fleet(1, 1, {}, ready=1)

    def __init__(self, *arguments):
        pass

    def start(self):
        pass

    def stop(self, *arguments):
        pass

    def abandon(self):
        pass

    def without_workers_s(self):
        return 0.0

    def stall_report(self, waited_s, limit_s):
        return "no batch for %g s" % limit_s


def test_a_stream_that_waits_too_long_names_eight_of_its_samples():
    data = evil_data(MANY)
    clock = [0.0]

    def wait(condition, seconds):
        clock[0] += 100
    job = JobOptions(batch_size=MANY, image_size=(1, 1))
    with BatchStream(Plan(MANY, MANY, 1, 0), Splits(data), job, StreamOptions(),
                     coordinator=_Coordinator, now=lambda: clock[0], wait=wait) as stream:
        with pytest.raises(RunFailed) as caught:
            next(stream)
    text = str(caught.value)
    assert text.endswith("and 19,992 more") and text.isprintable() and text.count(".jpg") == 8


def test_a_step_that_fails_names_eight_of_its_samples():
    session = CoordinatorSession("run", 0, Plan(MANY, MANY, 1, 0), Splits(evil_data(MANY)), JobOptions(
        batch_size=MANY, image_size=(1, 1)), StreamOptions(), 0.0)
    text = str(session._positions.failure(Abort(0, "it failed", "")))
    assert text.endswith("and 19,992 more") and text.isprintable() and text.count(".jpg") == 8


def test_rows_and_columns_are_named_by_a_few():
    with pytest.raises(ConfigError) as caught:
        balanced("none").bind(Table.of([{"column%d" % number: EVIL for number in range(MANY)}], "/data"), 1, 0)
    assert "and 19,980 more" in str(caught.value) and str(caught.value).isprintable()
