"""What stoker-show says of batches, of samples and of two runs: pure parts, on batches that are made here."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from stoker.inspection.showing import difference, program
from stoker.inspection.showing import facts as show_facts
from stoker.inspection.showing import variations as show_variations
from stoker.inspection.showing.facts import Recorded, Sight
from stoker.inspection.showing.options import make_parser, numbers, output
from stoker.inspection.showing.sheet import BAD, GOOD, NOTE, Section
from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Sample, Skipped
from tests.support.bad_pictures import photo

SIGHT = Sight(samples=64, side=32)


class Files:
    """A source of files in two classes."""
    root, classes, columns, has_paths = "/data", ("cat", "dog"), (), True

    def __init__(self, count=10, name="%s/%03d.jpg"):
        self._samples = [Sample(index, name % (self.classes[index % 2], index), index % 2) for index in range(count)]

    def __len__(self):
        return len(self._samples)

    def samples(self, indices):
        return tuple(self._samples[index] for index in indices)

    def rows(self, indices):
        return [self._samples[index].path for index in indices]

    def row_hashes(self):
        return np.array([hash(sample.path) & 0xffffffff for sample in self._samples], np.uint32)

    def fingerprint(self):
        return str(self.rows(range(len(self))))


class Rows(Files):
    """A source of rows."""
    classes, has_paths = (), False

    def __init__(self, *rows, root=""):
        self._rows, self.root = rows, root

    def __len__(self):
        return len(self._rows)

    def samples(self, indices):
        return tuple(Sample(index, "", -1) for index in indices)

    def rows(self, indices):
        return [self._rows[index] for index in indices]


FILES = Files()


def batch(indices=(1, 2, 3), skipped=(), used=None, source=FILES, step=4, training=True, rows=None, **arrays):
    used = tuple(index for index in indices if index not in [skip.index for skip in skipped]) if used is None else used
    count = len(used) if rows is None else rows
    arrays = arrays or {"image": np.zeros((count, 4, 4, 3), np.uint8), "label": np.zeros((count, 1), np.int32)}
    specs = tuple(ArraySpec(name, array.dtype.name, array.shape[1:]) for name, array in arrays.items())
    return Batch(step, 0, training, tuple(indices), tuple(arrays.values()), tuple(skipped), "w", 1, 0.0,
                 used_indices=tuple(used), specs=specs, source=source)


def recorded(entry=None, audit="audit.jsonl", crc=7, function="module:function", then=(), now=()):
    return Recorded(entry, audit, crc, function, frozenset(then), frozenset(now))


def section(made, known=None, sight=SIGHT):
    return show_facts.section_of(made, known or recorded(), sight, made.source or Files())


def line_with(lines, text):
    found = [line for line in lines if text in line.text]
    assert len(found) == 1, (text, lines)
    return found[0]


# ---------------------------------------------------------------------------------------------------------- one batch

def test_samples_have_index_file_and_class():
    cell, *others = section(batch()).cells
    assert cell.title == "#1 dog/001.jpg" and len(others) == 2
    assert [view.text for view in cell.views] == ["", "0: cat"]        # the array says what the model saw
    unlabelled, = section(batch((1,), image=np.zeros((1, 4, 4, 3), np.uint8))).cells
    assert [line.text for line in unlabelled.lines] == ["class dog"]


def test_rows_are_shown_in_short():
    source = Rows({"file": "a.jpg", "angle": 0.5}, ["x", 2], "text\n" * 99, 3)
    titles = [cell.title for cell in section(batch((0, 1, 2, 3), source=source)).cells]
    assert titles[:2] == ["#0 file=a.jpg, angle=0.5", "#1 x, 2"] and titles[3] == "#3"
    assert titles[2].startswith("#2 text\\ntext") and len(titles[2]) < 300
    assert show_facts.row_text({"boxes": [[1.5, 2.5, 10.5, 20.5]] * 9, "file": "a.jpg"}) == (
        "boxes=[[1.5, 2.5, 10.5, 20...., file=a.jpg")


def test_hostile_names_are_printable():
    source = Files(3, "%s/\x1b[31m\n\udcff%d.jpg")
    made = section(batch((0, 1), [Skipped(1, "bad\x1b[0m")], source=source))
    assert "\x1b" not in "".join(show_facts.summary(made, 5)) and "\\x1b[31m\\n\\xff" in made.cells[0].title
    assert all(line.isprintable() for line in show_facts.summary(made, 5))


@pytest.mark.parametrize("skipped, used, pairs", [
    ([Skipped(2, "bad")], (1, 3), {2: ()}),
    ([Skipped(2, "bad")], (1, 8, 3), {2: (8,)}),
    ([Skipped(2, "bad"), Skipped(8, "bad too")], (1, 9, 3), {2: (9,)}),
    ([Skipped(2, "bad"), Skipped(3, "bad")], (1, 8), {2: (8,), 3: ()}),
    ([Skipped(1, "bad"), Skipped(2, "bad"), Skipped(3, "bad")], (), {1: (), 2: (), 3: ()}),
    ([], (1, 2, 3), {})])
def test_which_sample_took_the_place_of_which(skipped, used, pairs):
    made = batch(skipped=skipped, used=used)
    assert show_facts.replacements(made) == pairs
    shown = section(made)
    replaced = {one for several in pairs.values() for one in several}
    assert {int(cell.title[1:2]) for cell in shown.cells if cell.mood == NOTE} == replaced
    for index, new in pairs.items():
        line = line_with(shown.lines, ": #%d " % index)
        assert line.text.startswith("replaced by #%d" % new if new else "skipped") and "bad" in line.text


def test_a_bad_sample_that_an_order_repeats_is_replaced_in_each_of_its_places():
    made = batch((2, 2, 3, 1), [Skipped(2, "bad"), Skipped(3, "bad")], used=(7, 8, 9, 1))
    assert show_facts.replacements(made) == {2: (7, 8), 3: (9,)}
    shown = section(made)
    assert line_with(shown.lines, ": #2 ").text.startswith("replaced by #7, #8: ")
    assert [line.text for cell in shown.cells for line in cell.lines if line.mood == NOTE] == [
        "in place of #2", "in place of #2", "in place of #3"]


def test_what_a_function_left_out_is_no_bad_file():
    shown = section(batch(skipped=[Skipped(2, "too dark", chosen=True)]))
    line = line_with(shown.lines, "too dark")
    assert line.mood == NOTE and line.text == "left out by the function: #2 cat/002.jpg: too dark"


def test_the_file_at_fault_is_named():
    shown = section(batch(skipped=[Skipped(2, "no such file", "masks/2.png")]))
    assert line_with(shown.lines, "(its file masks/2.png)").mood == BAD


def test_headings():
    for training in (True, False):         # without training, there are steps all the same
        assert show_facts.heading(batch(training=training)) == "step 4, epoch 0 (the first is 0)"
    assert show_facts.heading(batch(training=False), 2) == "evaluation after epoch 0 (the first is 0), batch 2"


def test_an_empty_batch_and_a_large_one():
    empty = section(batch((1, 2), [Skipped(1, "bad"), Skipped(2, "bad")]))
    assert empty.cells == [] and empty.lines[0].text.startswith("0 samples: ")
    large = section(batch(range(9)), sight=Sight(4, 32))
    assert len(large.cells) == 4 and line_with(large.lines, "first 4 of 9").mood == NOTE


def test_several_rows_of_one_sample():
    titles = [cell.title for cell in section(batch((5,), used=(5, 5, 5))).cells]
    assert titles == ["#5 dog/005.jpg, %d of 3" % number for number in (1, 2, 3)]


def test_rows_of_a_batch_function_are_of_unknown_samples():
    shown = section(batch((4, 6), source=None))
    assert [cell.title for cell in shown.cells] == ["row 0", "row 1"]
    assert "it got #4 cat/004.jpg, #6 cat/006.jpg" in line_with(shown.lines, "stoker.batch").text


ENTRY = {"crc32": 7, "indices": [1, 2, 3], "skipped": []}


@pytest.mark.parametrize("entry, audit, same, mood, text", [
    (ENTRY, "audit.jsonl", True, GOOD, "CRC-32 7, as in the audit audit.jsonl"),
    (dict(ENTRY, crc32=8), "audit.jsonl", False, BAD, "but the audit audit.jsonl has 8"),
    (dict(ENTRY, crc32=None), "audit.jsonl", None, "plain", "has no checksum of this step"),
    (None, "audit.jsonl", None, "plain", "has no checksum of this step"),
    (None, None, None, "plain", "the run has no audit")])
def test_whether_a_batch_is_the_audited_one(entry, audit, same, mood, text):
    known = recorded(entry, audit)
    assert show_facts.is_as_audited(known) is same
    line = line_with(section(batch(), known).lines, "CRC-32 7")
    assert line.mood == mood and text in line.text


@pytest.mark.parametrize("entry, known, reason", [
    ({"indices": [4, 5]}, {}, "other samples were planned then (#4, #5 ...)"),
    ({"skipped": [2]}, {}, "#2 was bad then and good now: files were repaired"),
    ({"skipped": [1, 2]}, {}, "#1, #2 were bad then and good now"),
    ({}, {"then": ["Pillow 8"], "now": ["Pillow 13"]}, "decoded by Pillow 8, and are now by Pillow 13"),
    ({}, {"then": ["Pillow 8"], "now": ["Pillow 8"]}, "has changed, or module:function or a library that it calls has"),
    ({}, {"then": ["Pillow 8, libjpeg 9"], "now": ["Pillow 8, libjpeg 9, libwebp 1"]},      # then: of an older release
     "a file or row of it has changed, or module:function"),
    ({}, {"function": "image"}, "or Stoker itself has, or other versions of Pillow's libraries")])
def test_likely_reasons_of_other_bytes(entry, known, reason):
    assert reason in show_facts.reason_of_difference(batch(), recorded(dict(ENTRY, crc32=8, **entry), **known))


def test_bad_now():
    made = batch(skipped=[Skipped(2, "bad")])
    assert "#2 was good then and bad now" in show_facts.reason_of_difference(made, recorded(dict(ENTRY, crc32=8)))


# --------------------------------------------------------------------------------------------------------- one sample

@pytest.mark.parametrize("text, index", [("0", 0), ("9", 9), ("dog/003.jpg", 3)])
def test_a_sample_is_named_by_its_number_or_path(text, index):
    assert show_variations.index_of(text, Files()) == index


@pytest.mark.parametrize("text, source", [("10", Files()), ("cat/003.jpg", Files()), ("-1", Files()), ("a", Rows("a")),
                                          ("²", Files())])
def test_no_such_sample(text, source):
    with pytest.raises(ConfigError):
        show_variations.index_of(text, source)


@pytest.mark.parametrize("text", ["owl/003.jpg", "99"])
def test_a_sample_of_the_validation_data_is_in_an_evaluation(text):
    held = Files(name="owl/%.0s%03d.jpg")
    held.classes = Files.classes
    with pytest.raises(ConfigError, match="--validation EPOCH"):
        show_variations.index_of(text, Files(), held)
    with pytest.raises(ConfigError, match="^(?!.*--validation)"):
        show_variations.index_of(text, Files())


def test_variations_of_a_sample(tmp_path):
    (tmp_path / "dog").mkdir()
    photo().save(str(tmp_path / "dog" / "003.jpg"))
    source = Files()
    source.root = str(tmp_path)
    found = show_variations.steps_of(3, [0, 1, 2, 3], lambda index, epoch: {0: 4, 1: 5, 3: 6}.get(epoch))
    batches = [batch((3, 1), step=4), batch((1, 3), [Skipped(3, "bad")], step=5), batch((3,), used=(3, 3), step=6)]
    shown = show_variations.section_of(3, source, JobOptions(), found, batches, 32)
    assert [cell.title for cell in shown.cells] == [
        "stored: dog/003.jpg", "epoch 0, step 4", "epoch 0, step 5", "epoch 2", "epoch 0, step 6, 1 of 2",
        "epoch 0, step 6, 2 of 2"]
    assert shown.cells[0].views[0].png and "JPEG" in shown.cells[0].lines[0].text
    assert "not in the batch: bad" in shown.cells[2].lines[0].text and "no batch" in shown.cells[3].lines[0].text


@pytest.mark.parametrize("content, reason", [(None, "no such file"), (b"", "empty file"), (b"text" * 99, "")])
def test_a_stored_file_that_is_no_picture(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    cell, = show_variations.stored_cells(Rows({"file": "a.jpg", "n": 3}, root=str(tmp_path)), 0, JobOptions(), 32)
    assert cell.mood == BAD and not cell.views and reason in cell.lines[0].text


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/secret.jpg", "a\0.jpg", "link.jpg"])
def test_no_file_outside_of_the_data_is_read(tmp_path, path):
    root = tmp_path / "data"
    root.mkdir()
    photo().save(str(tmp_path / "secret.jpg"))
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    cell, = show_variations.stored_cells(Rows([path], root=str(root)), 0, JobOptions(), 32)
    assert cell.mood == BAD and not cell.views


# ----------------------------------------------------------------------------------------------------------- two runs

def test_options_that_differ():
    one, two = {"seed": 1, "dataset": "a"}, {"seed": 2, "dataset": "b", "exif_rotate": True, "order": "x\x1b"}
    lines = difference.options_that_differ(one, two, {"exif_rotate": False})
    assert lines == ["exif rotate: false and true", 'order: none and "x\\u001b"', "seed: 1 and 2"]


def test_declared_arrays_are_named_as_sheets_name_them():
    one = {"arrays": [["image", "uint8", "(64, 64, 3)"], ["boxes", "float32", "(UpTo(20), 4)"]]}
    assert difference.options_that_differ(one, {}, {}) == [
        "arrays: image uint8 (64, 64, 3), boxes float32 (UpTo(20), 4) and none"]
    long, = difference.options_that_differ({"arrays": one["arrays"] * 40}, {"arrays": 7}, {})
    assert long.endswith("... and 7") and len(long) < 330


def test_data_that_differ():
    assert difference.data_that_differ(Files(), Files()) is None
    assert "9 samples instead of 10" in difference.data_that_differ(Files(), Files(9))


@pytest.mark.parametrize("other, step", [
    (Plan(10, 4, 3, 0), None), (Plan(10, 4, 9, 0), None), (Plan(10, 4, 3, 1), 0), (Plan(10, 3, 3, 0), 0),
    (Plan(10, 4, 3, 0, drop_last=True), 2)])
def test_the_first_step_with_other_samples(other, step):
    hashes = Files().row_hashes()
    assert difference.first_other_samples(Plan(10, 4, 3, 0), other, (hashes, hashes)) == step


def test_samples_with_other_content_are_others():
    plan, hashes = Plan(10, 4, 3, 0), Files().row_hashes()
    changed = hashes.copy()
    changed[plan.training_indices(1)[0]] += 1
    assert difference.first_other_samples(plan, plan, (hashes, changed)) == 1


@given(st.dictionaries(st.integers(0, 30), st.integers(0, 2)), st.dictionaries(st.integers(0, 30), st.integers(0, 2)))
def test_the_first_step_with_other_bytes(first, second):
    both = sorted(set(first) & set(second))
    other = [step for step in both if first[step] != second[step]]
    found = difference.first_other_bytes(iter(sorted(first.items())), iter(sorted(second.items())))
    assert found.step == (other[0] if other else None)
    assert found.compared == (both.index(other[0]) + 1 if other else len(both))


@pytest.mark.parametrize("one, two, fact", [
    (np.zeros(3), np.zeros(3), ""),
    (np.array([1, 2, 250], np.uint8), np.array([1, 5, 0], np.uint8), "differs in 2 of 3 values, by at most 250"),
    (np.array([np.nan, 1.0]), np.array([np.nan, 1.5]), "differs in 1 of 2 values, by at most 0.5"),
    (np.array([0.0]), np.array([-0.0]), "differs only in the bits of zeros or NaN"),
    (np.array([np.inf]), np.array([1.0]), "differs in 1 of 1 values, by at most 0"),
    (np.array([True]), np.array([False]), "differs in 1 of 1 values, by at most 1"),
    (np.zeros(3), np.zeros(2), "is float64 (3,) and float64 (2,)"),
    (np.zeros(3), np.zeros(3, np.float32), "is float64 (3,) and float32 (3,)")])
def test_how_arrays_differ(one, two, fact):
    assert difference.array_fact(one, two) == fact


def test_batches_side_by_side():
    one = batch(image=np.zeros((3, 4, 4, 3), np.uint8))
    two = batch(image=np.zeros((3, 4, 4, 3), np.uint8))
    two["image"][2] += 1
    pairs = difference.pairs_of(one, two)
    assert [pair.facts for pair in pairs] == [(), (), ("image differs in 48 of 48 values, by at most 1",)]
    assert "1 of 3 rows differ: #3 dog/003.jpg" == difference.lines_of(one, two, pairs)[-1].text
    cells = difference.paired_cells(one, two, pairs, 2, 32)
    assert [cell.title[:2] for cell in cells] == ["#1", "#1", "di", "#3", "#3", "di"]     # the one that differs, too
    assert cells[4].mood == BAD and cells[1].lines[-1].text == "the same"
    assert [view.text for cell in (cells[2], cells[5]) for view in cell.views] == [
        "no difference", "yellow is 1 apart"]
    assert show_facts.summary(Section("", [], cells, difference.GROUP), 1) == [
        "    #1 dog/001.jpg; class dog; the same", "    and 1 more"]
    same = difference.lines_of(one, one, difference.pairs_of(one, one))
    assert same[-1].mood == GOOD


def test_padding_is_no_difference():
    """A longer row pads the others of its batch: these are the same."""
    def padded(*sizes):
        values = np.zeros((len(sizes), max(sizes), 4), np.float32)
        return replace(batch((1, 2), x=values), specs=(ArraySpec("x", "float32", (UpTo(9), 4)),),
                       sizes={"x": np.array(sizes, np.int32)})
    facts = [pair.facts for pair in difference.pairs_of(padded(3, 2), padded(5, 2))]
    assert facts == [("x is float32 (3, 4) and float32 (5, 4)",), ()]


def test_batches_of_other_arrays():
    one, two = batch((1,), x=np.zeros((1, 2))), batch((2,), y=np.zeros((1, 2)))
    assert difference.pairs_of(one, two) == [(0, ("other samples", "only the first has x", "only the second has y"))]


# ------------------------------------------------------------------------------------------------------- command line

@pytest.mark.parametrize("text, found", [("3", [3]), ("0:3", [0, 1, 2]), (":2", [0, 1]), ("1,4:6", [1, 4, 5])])
def test_ranges(text, found):
    assert numbers(text) == found


@pytest.mark.parametrize("text", ["", "-1", "3:3", "a", "1:", "0:999999999", "1,", ":"])
def test_no_range(text):
    with pytest.raises(argparse.ArgumentTypeError):
        numbers(text)


@pytest.mark.parametrize("text", ["step", "step.jpg", ".png/"])
def test_no_output(text):
    with pytest.raises(argparse.ArgumentTypeError):
        output(text)


def test_the_help_teaches():
    text = make_parser().format_help()
    assert text.count("stoker-show runs/") >= 4 and max(map(len, text.splitlines())) < 121


def test_what_both_batches_lack_is_said_once():
    def lines(*skipped):
        batches = [batch((0, 1), [Skipped(index, "empty file")]) for index in skipped]
        return [line.text for line in difference.lines_of(*batches, [])]
    assert lines(0, 0)[0] == "not in either: #0 (empty file)" and len(lines(0, 0)) == 2
    assert lines(0, 1)[:2] == ["not in the first: #0 (empty file)", "not in the second: #1 (empty file)"]


def test_no_evaluation_is_made_if_the_run_lacks_one_of_the_epochs():
    """It is known before the work."""
    class Run:
        plan = Plan(train_size=8, validation_size=4, batch_size=4, epochs=2, seed=0)

    class Made:
        run = Run

        def evaluation(self, epoch):
            raise AssertionError(epoch)
    with pytest.raises(ConfigError, match="the run has no epoch 2: it has 2, and the first is 0"):
        program._show_evaluation(Made(), make_parser().parse_args(["run", "--validation", "0:3"]))
