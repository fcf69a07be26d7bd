"""The list of bad files: its lines, and which of them a resumed run keeps."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring import bad_samples
from stoker.pipeline.monitoring.bad_samples import HEADER, MAX_REASONS, BadFiles, BadSamples, escaped
from stoker.pipeline.protocol.messages import Skipped
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.table import Numbers


def begun(*args):
    """The log after ``begin``, as a stream uses it when its port is bound."""
    made = BadSamples(*args)
    made.begin()
    return made


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "bad-samples.tsv")


def write(path, start_step, files):
    """``files``: (path, step)."""
    bad = begun(path, start_step)
    for name, step in files:
        bad.add(name, "cats", "no such file", step)
    bad.close()
    return len(bad)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def listed(path):
    lines = content(path).decode().splitlines()
    assert lines[0] == "path\tclass\treason\tstep"
    return [(line.split("\t")[0], int(line.split("\t")[3])) for line in lines[1:]]


def test_a_line_names_file_class_reason_and_step(path):
    bad = begun(path, 0)
    bad.add("cats/1.jpg", "cats", "FileNotFoundError: no such file", 12)
    assert content(path) == HEADER + b"cats/1.jpg\tcats\tFileNotFoundError: no such file\t12\n"      # at once
    bad.close()
    bad.close()


def test_no_bad_file_is_a_header_alone(path):
    assert write(path, 0, []) == 0
    assert content(path) == HEADER


def test_a_file_is_listed_once_with_its_first_step(path):
    assert write(path, 0, [("a", 1), ("b", 1), ("a", 3), ("c", 4)]) == 3
    assert listed(path) == [("a", 1), ("b", 1), ("c", 4)]


def test_steps_after_the_checkpoint_are_removed_and_come_again(path):
    write(path, 0, [("a", 1), ("b", 3), ("c", 5), ("d", 6)])
    assert write(path, 5, [("c", 5), ("b", 7), ("e", 8)]) == 4
    assert listed(path) == [("a", 1), ("b", 3), ("c", 5), ("e", 8)]


def test_a_run_from_the_start_replaces_the_list(path):
    write(path, 0, [("a", 0), ("b", 3)])
    write(path, 0, [("b", 0)])
    assert listed(path) == [("b", 0)]


@pytest.mark.parametrize("cut", range(1, 40))
def test_an_incomplete_end_is_removed(path, cut):
    write(path, 0, [("a", 1)])
    whole = content(path)
    with open(path, "wb") as file:
        file.write(whole[:-cut])
    write(path, 2, [("b", 2)])
    assert listed(path) == [("b", 2)]


@pytest.mark.parametrize("text", [b"my notes\n", b"\n", HEADER[:-1] + b" of mine\n"])
def test_a_file_of_another_format_is_not_touched(path, text):
    with open(path, "wb") as file:
        file.write(text)
    with pytest.raises(ConfigError, match="is no list of bad samples: not overwritten"):
        begun(path, 0)
    assert content(path) == text


def test_two_trainers_do_not_write_one_list(path):
    first = begun(path, 0)
    with pytest.raises(ConfigError, match="another trainer writes it"):
        begun(path, 0)
    first.close()
    begun(path, 0).close()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="bad samples: cannot write .*: No such file"):
        begun(str(tmp_path / "nowhere" / "x"), 0)


@pytest.mark.parametrize("text, line", [
    ("caf\u00e9 \u732b.jpg", "caf\u00e9 \u732b.jpg"), ("a\tb\nc\rd", r"a\tb\nc\rd"), ("a\\tb", r"a\\tb"),
    ("\udcff\udc80", r"\xff\x80"), ("\x85\x1b\u2028", r"\u0085\u001b\u2028"), ("\ud800", r"\ud800")])
def test_characters_that_would_break_a_line_are_escaped(path, text, line):
    assert escaped(text) == line
    write(path, 0, [(text, 0)])
    write(path, 1, [(text, 1)])        # it is known after reading
    assert listed(path) == [(line, 0)]


ODD_TEXT = st.text(st.sampled_from("\\\t\n\rxu0f8\x80\u0080\udc80\ud800\u2028n\u00e9"), max_size=8)


@given(ODD_TEXT, ODD_TEXT)
def test_different_names_stay_different(one, other):
    assert (escaped(one) == escaped(other)) == (one == other)
    assert len((escaped(one) + ".").splitlines()) == 1 and "\t" not in escaped(one)


# ------------------------------------------------------------------------------------- left out by the user's function

def test_reasons_that_differ_each_time_take_no_more_and_more_memory():
    files, source = BadFiles(None, False), Numbers(10)
    for number in range(3 * MAX_REASONS):
        skipped = (Skipped(1, "too dark", chosen=True), Skipped(2, "sharpness %d" % number, chosen=True))
        files.note(Batch(number, 0, True, (1, 2), (), skipped, "a", 1, 0.1), source)
    assert len(files.chosen) == MAX_REASONS + 1 and sum(files.chosen.values()) == 6 * MAX_REASONS
    assert "3,000 samples skipped by your function (too dark)" in files.report()
    assert not files.reasons


def test_a_worker_that_names_ever_new_files_takes_no_more_and_more_memory(monkeypatch):
    monkeypatch.setattr(bad_samples, "MAX_NAMED", 2)
    files, source = BadFiles(None, False), Dataset("/photos", ("a",), ("a/0.jpg", "a/1.jpg"), (0, 0), ())
    for step in range(5):
        for mask in (step, 0):
            skipped = (Skipped(0, "bad", "mask %d" % mask),)
            files.note(Batch(step, 0, True, (0, 1), (), skipped, "host:1/0", 1, 0.0), source)
    assert sorted(files.reasons) == ["a/0.jpg", "mask 0", "mask 1"]


@pytest.mark.parametrize("reasons", [3, 5, 6, 9, MAX_REASONS, 3 * MAX_REASONS])
def test_the_report_counts_all_samples_that_are_left_out(reasons):
    files, source = BadFiles(None, False), Numbers(10)
    for number in list(range(reasons)) + list(range(min(4, reasons))):
        skipped = (Skipped(1, "no %d" % number, chosen=True),)
        files.note(Batch(number, 0, True, (1,), (), skipped, "a", 1, 0.1), source)
    counts = [int(count.replace(",", "")) for count in re.findall(r"([0-9,]+) samples? skipped", files.report())]
    assert sum(counts) == reasons + min(4, reasons) and len(counts) == min(6, reasons)
    assert ("for other reasons" in files.report()) == (reasons > 5) and "no 0" in files.report()
