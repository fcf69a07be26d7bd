"""The pure part of stoker-check: from the facts of files to findings and reports."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.inspection.checking import duplicates, fields, findings, page, report, text
from stoker.inspection.checking.collected import MAX_REASONS, OTHER_REASONS, Collected
from stoker.inspection.checking.data import Part, Problem, joined
from stoker.inspection.checking.findings import Settings, find
from stoker.inspection.checking.kinds import ERROR, ERRORS, KINDS, counted
from stoker.inspection.checking.options import check_parser, strict_kinds
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import DECODERS
from stoker.pipeline.sources.folder import HIDDEN, NO_CLASS, NO_IMAGES


def part(paths, labels=None, classes=("cat", "dog"), root="/data", left_out=(), problems=()):
    labels = [0] * len(paths) if labels is None else labels
    return Part(root, tuple(paths), np.array(labels, np.int32), tuple(classes), tuple(left_out), tuple(problems))


def row(number, **changes):
    """The facts of a good picture, different for each number."""
    values = dict(dict.fromkeys(fields.FIELDS, 0), width=640, height=480, bytes=50000 + number, orientation=1,
                  file_1=number, file_2=number, pixels_1=number, pixels_2=number)
    values.update(changes)
    return [values[name] for name in fields.FIELDS]


def collected(count, bad=(), training=None, **rows):
    """``count`` files; ``bad``: number -> reason; ``rows``: 'f3' -> changed facts of file 3."""
    found = Collected(count, count if training is None else training)
    good = [number for number in range(count) if number not in dict(bad)]
    found.add(good, np.array([row(number, **rows.get("f%d" % number, {})) for number in good], np.int64))
    for number, reason in dict(bad).items():
        found.add_bad(number, reason)
    return found


def paths(count, folder="cat"):
    return ["%s/%03d.jpg" % (folder, number) for number in range(count)]


def kinds(found):
    return {finding.kind: finding for finding in found}


def test_nothing_is_found_in_a_good_dataset():
    data = joined([part(paths(6) + paths(6, "dog"), [0] * 6 + [1] * 6)])
    assert find(data, collected(12), Settings()) == []


@pytest.mark.parametrize("kind, changes", [
    ("orientation", {"orientation": 6}), ("blank", {"flags": fields.BLANK}), ("truncated", {"flags": fields.TRUNCATED}),
    ("tiny", {"width": 15, "height": 20}), ("huge", {"width": 10000, "height": 3000}), ("aspect", {"height": 128}),
    ("suffix", {"format": fields.FORMATS.index("PNG")}), ("animated", {"flags": fields.ANIMATED}),
    ("deep", {"flags": fields.DEEP}), ("cmyk", {"mode": fields.MODES.index("CMYK")}),
    ("transparent", {"flags": fields.TRANSPARENT}), ("duplicates", {"pixels_1": 4, "pixels_2": 4})])
def test_each_kind_of_unusual_picture(kind, changes):
    found = find(joined([part(paths(6), classes=("cat",))]), collected(6, f2=changes), Settings())
    assert list(kinds(found)) == [kind]
    finding, = found
    assert finding.count == 1 and finding.level == KINDS[kind][0] and "cat/002.jpg" in finding.examples[0].text
    assert counted(1, finding.what).split()[1] in ("picture", "file", "copy") and finding.advice


def test_pictures_that_are_turned_are_no_finding_if_a_run_turns_them():
    data = joined([part(paths(3), classes=("cat",))])
    assert find(data, collected(3, f1={"orientation": 6}), Settings(exif_rotate=True)) == []


def test_equal_pictures_with_different_labels_and_in_both_parts():
    equal = {"pixels_1": 0, "pixels_2": 0}
    data = joined([part(["cat/0.jpg", "dog/1.jpg", "dog/2.jpg"], [0, 1, 1], root="/data/train"),
                   part(["dog/3.jpg", "cat/4.jpg"], [1, 0], root="/data/val")])
    found = kinds(find(data, collected(5, f1=equal, f3=dict(equal, file_1=0, file_2=0)), Settings()))
    assert set(found) == {"contradictions", "leaks"}
    assert found["contradictions"].count == 3 and found["leaks"].count == 1
    assert found["contradictions"].examples[0].text.startswith("train/cat/0.jpg (cat) = train/dog/1.jpg (dog) = ")
    assert "val/dog/3.jpg (validation)" in found["leaks"].examples[0].text
    assert found["leaks"].examples[0].text.endswith("; equal pixels, the files differ")


def test_a_leak_is_no_contradiction_nor_the_other_way_round():
    equal = {"pixels_1": 0, "pixels_2": 0}
    leaked = joined([part(["cat/0.jpg", "dog/1.jpg"], [0, 1], root="/d/train"),
                     part(["cat/2.jpg", "dog/3.jpg"], [0, 1], root="/d/val")])
    assert list(kinds(find(leaked, collected(4, f2=equal), Settings()))) == ["leaks"]
    assert list(kinds(find(leaked, collected(4, f1=equal), Settings()))) == ["contradictions"]


def test_files_without_a_label_contradict_none_and_lack_no_class():
    """A table of which --label is not given, and validation data in class folders."""
    equal = {"pixels_1": 0, "pixels_2": 0}
    data = joined([part(["0.jpg", "1.jpg"], [-1, -1], (), "/d/train"),
                   part(["cat/2.jpg", "dog/3.jpg"], [0, 1], root="/d/val")])
    assert list(kinds(find(data, collected(4, f2=equal), Settings()))) == ["leaks"]
    found = kinds(find(data, collected(4, f2=equal, f3=equal), Settings()))
    assert set(found) == {"contradictions", "leaks"} and found["contradictions"].count == 2
    assert "train/" not in found["contradictions"].examples[0].text


def test_classes():
    data = joined([part(["cat/0.jpg", "cat/1.jpg", "dog/2.jpg"], [0, 0, 1], root="/d/train",
                        left_out=[("empty", NO_IMAGES), ("cat/deeper", NO_IMAGES)]),
                   part(["cat/3.jpg", "emu/4.jpg"], [0, 1], ("cat", "emu"), "/d/val")])
    found = [finding for finding in find(data, collected(5, {2: "empty file"}), Settings())
             if finding.kind == "classes"]
    assert {(finding.what, tuple(example.text for example in finding.examples)) for finding in found} == {
        ("class folders without a picture", ("train/empty",)), ("classes without one good picture", ("dog",)),
        ("classes that only the validation data has", ("emu",)), ("classes that only the training data has", ("dog",))}
    assert data.classes == ("cat", "dog", "emu") and data.class_of(4) == "emu" and data.part_of(3) == "validation"


def test_classes_of_the_same_name_in_two_unicode_forms_are_one():
    data = joined([part(["a"], [0], ("caf\u00e9",), "/d/t"), part(["b"], [0], ("cafe\u0301",), "/d/v")])
    assert data.classes == ("caf\u00e9",) and data.labels.tolist() == [0, 0]


def test_imbalance():
    data = joined([part(paths(30) + paths(3, "dog"), [0] * 30 + [1] * 3)])
    finding, = find(data, collected(33), Settings())
    assert finding.kind == "imbalance" and [example.text for example in finding.examples] == ["dog: 3"]
    data = joined([part(paths(29) + paths(3, "dog"), [0] * 29 + [1] * 3)])
    assert find(data, collected(32), Settings()) == []


def test_parts_without_a_common_folder_are_refused_as_by_a_run():
    with pytest.raises(ConfigError, match="give --root"):
        joined([part(["a"], root="/data"), part(["b"], root="/other")])
    assert joined([part(["a"], root="/"), part(["b"], root="/")], "/").root == "/"


def test_bad_files_are_told_by_their_reasons_which_may_differ_in_numbers():
    data = joined([part(paths(5), classes=("cat",))])
    bad = {0: "a file of more than 7 bytes", 1: "empty file", 3: "a file of more than 9 bytes"}
    first, second = [finding for finding in find(data, collected(5, bad), Settings()) if finding.kind == "bad"]
    assert first.count == 2 and first.examples[1].text == "cat/003.jpg: a file of more than 9 bytes"
    assert second.what.endswith("empty file") and second.examples[0].text == "cat/001.jpg"


def test_reasons_are_bounded():
    found = Collected(MAX_REASONS + 50, MAX_REASONS)
    for number in range(MAX_REASONS + 50):
        found.add_bad(number, "reason %d" % number)
    assert len(found.reasons) == MAX_REASONS + 1 and found.reasons[-1] == OTHER_REASONS
    assert (found.reason_of == MAX_REASONS).sum() == 50


def test_left_out_and_problems():
    problem = Problem("rows", 2, "rows that name no file below /data", ("row 3: 'path' is None",))
    data = joined([part(["cat/0.jpg", "dog/1.jpg"], [0, 1], problems=[problem],
                        left_out=[("x.jpg", NO_CLASS), (".git", HIDDEN)])])
    found = kinds(find(data, collected(2), Settings()))
    assert set(found) == {"rows", "left-out"} and found["left-out"].count == 1
    assert found["rows"].examples[0].text == "row 3: 'path' is None"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2)), max_size=30), st.data())
def test_groups_of_equal_files(values, data):
    keys = np.array([each[:2] for each in values], np.int64).reshape(-1, 2)
    members = np.array(sorted(data.draw(st.sets(st.integers(0, len(values) - 1)))) if values else [], np.int64)
    expected = {}
    for index in members.tolist():
        expected.setdefault(tuple(values[index][:2]), []).append(index)
    expected = sorted(group for group in expected.values() if len(group) > 1)
    groups = duplicates.equal(keys, members)
    assert list(groups) == expected and len(groups) == len(expected)
    assert groups.surplus == sum(len(group) - 1 for group in expected)
    labels = np.array([each[2] for each in values], np.int64)
    mixed = [group for group in expected if len({values[index][2] for index in group}) > 1]
    assert list(groups.mixed(labels)) == mixed
    for group in mixed:
        shown = duplicates.shown(group, labels)
        assert len({labels[index] for index in shown}) > 1 and set(shown) <= set(group) and len(shown) <= 3


@given(st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3), min_size=1, max_size=20), st.randoms())
def test_mean_and_deviation_do_not_depend_on_who_looked_first(pictures, random):
    """One pixel each: exact sums, whatever the order and the batches."""
    rows = [row(number, **dict([("sum_" + name, value) for name, value in zip(fields.CHANNELS, values)]
                               + [("square_" + name, value ** 2) for name, value in zip(fields.CHANNELS, values)]))
            for number, values in enumerate(pictures)]
    order = list(range(len(rows)))
    random.shuffle(order)
    cut = random.randint(0, len(order))
    several, one = Collected(len(rows), len(rows)), Collected(len(rows), len(rows))
    for some in (order[:cut], order[cut:]):
        several.add(some, np.array([rows[number] for number in some], np.int64).reshape(-1, len(fields.FIELDS)))
    one.add(sorted(order), np.array(rows, np.int64))
    assert several.statistics(1) == one.statistics(1) and (several.table == one.table).all()
    values = np.array(pictures, np.float64) / 255
    assert np.allclose(several.statistics(1).mean, values.mean(axis=0), atol=1e-12)
    assert np.allclose(several.statistics(1).deviation, values.std(axis=0), atol=1e-7)


def test_validation_pictures_do_not_count_for_mean_and_deviation():
    """With them, a user who normalises by the numbers would use the validation data."""
    data = joined([part(paths(3), root="/data/train"), part(paths(2), root="/data/val")])
    white = {name: 255 * (1 if name.startswith("sum") else 255) for name in fields.FIELDS if name[:3] in ("sum", "squ")}
    files = collected(5, [(2, "empty file")], 3, f0=white, f3=white, f4=white)
    content = report.make(data, files, [], Settings((1, 1)), 32, None, 2, 1.5).content
    assert content["statistics"] == {"mean": [0.5] * 3, "deviation": [0.5] * 3, "pictures": 2}
    assert "VALUES 0..1 at 1 x 1, training pictures only" in text.text(content)
    only = collected(5, [(0, "empty file"), (1, "empty file"), (2, "empty file")], 3, f3=white)
    assert only.statistics(1) is None
    assert "training pictures only" not in text.text(made()[0].content)


def test_the_table_takes_few_bytes_for_each_file():
    found = Collected(1000, 1000)
    assert sum(each.nbytes for each in (found.good, found.table, found.reason_of)) <= 64 * 1000


def test_a_way_to_decode_whose_time_was_not_seen_has_no_rate():
    """Where the CPU clock has coarse ticks, a few pictures take no time."""
    times = {"ns_" + name: 1 for name in DECODERS}
    found = collected(2, f0=dict(times, **{"ns_" + DECODERS[1]: 4000000}), f1=times)
    assert found.seconds() == {DECODERS[1]: (pytest.approx(0.002, rel=1e-3), 2)}


def test_rates_and_workers():
    found = report.rates({"exact": (0.002, 7)}, 64, 100.0, 4)
    assert found["decode"]["exact"] == {"ms_per_image": 2.0, "images_per_s": 500.0, "measured": 7, "workers": [
        {"step_ms": 100.0, "workers": 2}], "least_step_ms": 32.0}
    workers = report.rates({"exact": (0.0015625, 7)}, 64, None, 1)["decode"]["exact"]["workers"]
    assert [each["workers"] for each in workers] == [2, 1, 1]
    several = Collected(4, 4)
    several.add(range(4), np.array([row(number, **{"ns_" + name: 0 if number < 2 else number * 1000000
                                                   for name in DECODERS}) for number in range(4)], np.int64))
    assert several.seconds() == dict.fromkeys(DECODERS, (0.0025, 2))


def made(name="cat/<script>alert(1)</script>\x1b[31m.jpg", **options):
    data = joined([part([name] + paths(9), [0] * 10, left_out=[("x.jpg", NO_CLASS)])])
    files = collected(10, {3: "empty file"}, f0={"orientation": 6}, f5={"pixels_1": 4, "pixels_2": 4})
    found = find(data, files, Settings())
    return report.make(data, files, found, Settings(), 32, None, 2, 1.5), data


def test_the_text_tells_the_important_first():
    made_text = text.text(made()[0].content)
    places = [made_text.index(each) for each in ("10 files, 9 good, 1 bad", "WRONG", "  bad: 1 file that",
                                                 "left-out: 1 file", "WORTH A LOOK", "orientation: 1 picture that is",
                                                 "duplicates: 1 copy of another", "THE PICTURES", "Wrong: bad (1)")]
    assert places == sorted(places) and all(len(line) < 200 for line in made_text.splitlines())
    assert "\x1b" not in made_text and all(each in made_text for each in ("    - cat/002.jpg", "    -> "))


def test_a_hostile_name_is_only_text_in_the_page():
    made_report, data = made()
    thumbnails = {index: np.full((4, 5, 3), index, np.uint8) for index in page.pictures_of(made_report.findings)}
    assert set(thumbnails) == {0, 3, 4, 5}
    html = page.page(made_report, data, thumbnails)
    assert "<script" not in html and "\x1b" not in html and "&lt;script&gt;" in html
    assert html.count("<img ") == 4 and "http" not in re.sub(r"http-equiv", "", html)


def test_the_json_output():
    content = json.loads(json.dumps(made("cat/\udcff.jpg")[0].content))
    assert set(content) == {"version", "data", "options", "findings", "errors", "warnings", "files", "bad_files",
                            "left_out", "classes", "statistics", "rates", "seconds"}
    assert content["bad_files"] == [{"path": "cat/002.jpg", "why": "empty file"}]
    assert [each["kind"] for each in content["findings"]] == ["bad", "left-out", "orientation", "duplicates"]
    assert content["findings"][2]["examples"][0]["paths"] == ["cat/\udcff.jpg"]
    assert content["errors"] == 2 and content["files"]["orientations"] == {"1": 8, "6": 1}
    assert content["files"]["width"] == {"min": 640, "median": 640.0, "max": 640}


def test_without_a_good_picture():
    data = joined([part(paths(2), classes=("cat",))])
    files = collected(2, {0: "empty file", 1: "empty file"})
    content = report.make(data, files, find(data, files, Settings()), Settings(), 32, None, 2, 1.5).content
    assert content["statistics"] is None and content["rates"]["decode"] == {}
    assert "Wrong: bad (2), classes (1)" in text.text(content)


def test_kinds_for_strict():
    parse = check_parser().parse_args
    assert strict_kinds(parse(["x"])) == () and strict_kinds(parse(["x", "--strict"])) == ERRORS
    assert strict_kinds(parse(["--strict-kinds", "blank,leaks", "x"])) == ("blank", "leaks")
    assert set(strict_kinds(parse(["x", "--strict-kinds", "all"]))) == set(KINDS)
    assert [kind for kind, (level, _) in KINDS.items() if level == ERROR] == list(ERRORS)
    with pytest.raises(SystemExit):
        parse(["x", "--strict-kinds", "blnk"])


@pytest.mark.parametrize("count, what, said", [
    (1, "pictures that are equal and have different labels", "1 picture that is equal and has different labels"),
    (1, "class folders without a picture", "1 class folder without a picture"),
    (1, "rows that give a file another label than an earlier one",
     "1 row that gives a file another label than an earlier one"),
    (1200, "files that a run would skip", "1,200 files that a run would skip")])
def test_numbers_in_sentences(count, what, said):
    assert counted(count, what) == said


def test_every_finding_of_the_code_has_a_kind():
    source = open(findings.__file__).read()
    assert set(re.findall(r'(?:finding|some|_of_groups)\(\s*"([a-z-]+)"', source)) | {"rows", "refused"} == set(KINDS)
