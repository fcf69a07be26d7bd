"""stoker-check: it finds each kind of flaw and nothing in a good folder; its outputs, its exit codes, its end."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from stoker.inspection.checking.kinds import ERRORS, KINDS
from tests.integration.conftest import draw
from tests.support import hostile_pictures as hostile
from tests.support.documents import ROOT, block
from tests.support.flawed_pictures import FLAWS, SKIPPED, flawed, good
from tests.support.processes import interpreter, python_with_path
from tests.support.training import Finished, Trainer

NEWEST = interpreter("STOKER_TEST_WORKER_PYTHON")
PYTHONS = pytest.mark.parametrize("python", [None, NEWEST], ids=["3.6", "newest"])


class Checker(Trainer):
    """One run of ``stoker-check``."""
    module = "stoker.inspection.check"


def checked(folder, *options):
    """Runs it to its end."""
    with Checker(folder, *options) as program:
        return Finished(program)


def report(folder, *options):
    """(the JSON report, what the run came to)"""
    run = checked(folder, "--json", "-", *options)
    assert run.code in (0, 1), run
    return json.loads(run.stdout), run


def named(content):
    """kind -> the paths of all examples."""
    found = {}
    for finding in content["findings"]:
        paths = [path for example in finding["examples"] for path in example["paths"]]
        found.setdefault(finding["kind"], set()).update(paths)
    return found


@PYTHONS
def test_nothing_is_found_in_a_good_folder(tmp_path, python):
    good(tmp_path / "photos")
    options = ["--worker-python", python] if python else []
    content, run = report(tmp_path, "photos", "--strict-kinds", "all", *options)
    assert run.code == 0 and content["findings"] == [] and content["left_out"] == [] and content["bad_files"] == []
    assert content["files"]["good"] == 24 and content["files"]["formats"] == {"JPEG": 24}
    assert [each["training"] for each in content["classes"]] == [12, 12]
    assert set(content["rates"]["decode"]) == {"exact", "fast", "fastest", "sampled"}


@PYTHONS
def test_each_kind_of_flaw_is_found(tmp_path, python):
    flawed(tmp_path)
    options = ["--worker-python", python] if python else []
    content, run = report(tmp_path, "train", "--validation", "val", "--strict", "--html", "report.html", *options)
    assert run.code == 1
    found = named(content)
    for kind, paths in FLAWS.items():
        assert found[kind] >= paths, kind
    bad = {each["path"]: each["why"] for each in content["bad_files"]}
    assert set(bad) == set(SKIPPED) and all(SKIPPED[path] in why for path, why in bad.items())
    assert found["bad"] == set(SKIPPED)
    texts = {kind: [example["text"] for finding in content["findings"] if finding["kind"] == kind
                    for example in finding["examples"]] for kind in ("classes", "left-out")}
    assert texts["classes"] == ["train/nothing", "empty-but-bad", "unknown", "empty-but-bad", "right"]
    assert texts["left-out"] == ["train/in-no-class.jpg", "train/left/dangling.jpg"]
    assert set(found) == set(KINDS) - {"refused", "rows", "truncated", "imbalance"}
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;.jpg" in page
    assert page.count("<img ") > 15 and "src=\"http" not in page
    assert (tmp_path / "report.html").stat().st_size < 1 << 20


def test_truncated_pictures_count_otherwise_if_a_run_uses_them(tmp_path):
    flawed(tmp_path)
    content, _ = report(tmp_path, "train", "--truncated", "use", "--exif-rotate")
    assert named(content)["truncated"] == {"right/truncated.jpg"} and "orientation" not in named(content)
    assert "right/truncated.jpg" not in {each["path"] for each in content["bad_files"]}


def test_the_text_and_the_exit_codes(tmp_path):
    flawed(tmp_path)
    run = checked(tmp_path, "train", "--validation", "val")
    assert run.code == 0, run          # without --strict
    lines = run.stdout.splitlines()
    assert re.match(r"%s: 87 files \(84 for training, 3 for validation\), 80 good, 7 bad$" % re.escape(str(tmp_path)),
                    lines[0])
    assert lines.index("WRONG") < lines.index("WORTH A LOOK") < lines.index("THE PICTURES")
    assert lines[-1].startswith("Wrong: bad (7), left-out (2), ") and "bad file" not in run.stderr
    assert checked(tmp_path, "train", "--strict-kinds", "imbalance").code == 0
    assert checked(tmp_path, "train", "--strict-kinds", "blank").code == 1
    for path in ("--json", "--html"):
        run = checked(tmp_path, "val", path, "/dev/full")
        assert run.code == 2 and "cannot write '/dev/full': No space left on device" in run.stderr, run
    for options in (["gone"], ["train", "--decode", "best"], ["train", "--json", "no/such/folder.json"],
                    ["train", "--batch-size", "0"], ["train", "--column", "x"],
                    ["train", "--html", "x", "--json", "x"], ["train", "--html", "-"], []):
        run = checked(tmp_path, *options)
        assert run.code == 2 and "error: " in run.stderr and "Traceback" not in run.stderr, run


def test_data_that_a_run_refuses_is_looked_at(tmp_path):
    good(tmp_path / "photos")
    shutil.rmtree(str(tmp_path / "photos" / "right"))
    content, run = report(tmp_path, "photos", "--strict")
    finding, = content["findings"]
    assert run.code == 1 and finding["kind"] == "refused" and "a single class, 'left'" in finding["what"]
    assert content["files"]["good"] == 12


def test_other_kinds_of_data(tmp_path):
    good(tmp_path / "photos")
    rows = ["photos/left/photo-%02d.jpg,%d" % (number, number % 4 == 0) for number in range(0, 24, 2)]
    (tmp_path / "log.csv").write_text("\n".join(["center,side"] + rows) + "\n")
    (tmp_path / "list.txt").write_text("".join(row.partition(",")[0] + "\n" for row in rows))
    (tmp_path / "more.jsonl").write_text("".join(json.dumps({"center": path, "side": side}) + "\n" for path, side in (
        ("photos/right/photo-01.jpg", "up"), ("photos/left/photo-00.jpg", 1), ("../x.jpg", "up"), (None, 1))))
    content, _ = report(tmp_path, "log.csv", "--label", "side", "--validation", "more.jsonl")
    assert content["classes"] == [{"name": "0", "training": 6, "validation": 0},
                                  {"name": "1", "training": 6, "validation": 1},
                                  {"name": "up", "training": 0, "validation": 1}]
    assert [finding["kind"] for finding in content["findings"]] == ["rows", "classes", "classes", "leaks"]
    content, _ = report(tmp_path, "list.txt", "--workers", "1")
    assert content["files"]["good"] == 12 and content["classes"] == [] and content["findings"] == []
    content, _ = report(tmp_path, "photos/left", "--no-labels", "--exclude", "*-02.jpg")
    assert content["files"]["good"] == 11 and content["data"]["classes"] == 0


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path, pictures):
    results = []
    for workers in (1, 3):
        content, _ = report(tmp_path, pictures, "--workers", workers, "--image-size", "32x48")
        del content["rates"], content["seconds"]
        results.append(content)
    assert results[0] == results[1] and 0 < results[0]["statistics"]["deviation"][0] < 1


def test_a_picture_that_kills_its_process_is_reported(tmp_path):
    draw(str(tmp_path / "photos"), "jpg", 60)
    (tmp_path / "photos" / "left" / "slow.jpg").write_bytes(hostile.slow_jpeg(20000))
    content, run = report(tmp_path, "photos", "--picture-cpu-s", "0.3", "--html", "report.html")
    assert [each["path"] for each in content["bad_files"]] == ["left/slow.jpg"], run
    assert "takes more than 0.3 s of CPU time" in content["bad_files"][0]["why"]
    assert content["files"]["good"] == 60 and (tmp_path / "report.html").exists()


def test_pictures_that_crash_the_decoder_do_not_end_it(tmp_path):
    """Four of them in the first lease, and PIL crashes at each: by a signal, in whatever process opens it."""
    draw(str(tmp_path / "photos"), "jpg", 60)
    for number in range(4):
        (tmp_path / "photos" / "left" / ("00-%d.jpg" % number)).write_bytes(b"\xff\xd8\xffCRASH" + bytes(100 + number))
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(CRASHES)
    python = python_with_path(tmp_path, tmp_path / "path", NEWEST)
    content, run = report(tmp_path, "photos", "--worker-python", python, "--sandbox", "off")
    assert {each["path"] for each in content["bad_files"]} == {"left/00-%d.jpg" % number for number in range(4)}, run
    assert all("kills the process that opens it: SIGSEGV" in each["why"] for each in content["bad_files"])
    assert content["files"]["good"] == 60 and content["findings"][0]["advice"].startswith("remove them: each costs")


#: For workers: PIL crashes at some files.
CRASHES = """
import os, signal
from PIL import Image
opened = Image.open
def crash(file, *args, **kwargs):
    if b"CRASH" in file.getvalue():
        os.kill(os.getpid(), signal.SIGSEGV)
    return opened(file, *args, **kwargs)
Image.open = crash
"""


@pytest.mark.parametrize("after", ["0/", "%|"], ids=["at the start", "amid"])
def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path, after):
    folder = tmp_path / "photos" / "left"
    folder.mkdir(parents=True)
    draw(str(tmp_path / "photos"), "jpg", 2, (1500, 2000))
    for number in range(2, 600):
        os.link(str(folder / "000.jpg"), str(folder / ("%03d.jpg" % number)))
    with Checker(tmp_path, "photos", "--json", "report.json", "--html", "report.html") as program:
        program.wait_until(lambda: after in program.stderr, "a line of progress")
        program.send_group(signal.SIGINT)
        run = Finished(program)
    assert run.code == 130 and "stopped by Ctrl-C; no file was written" in run.stderr, run
    assert "Traceback" not in run.stderr and sorted(os.listdir(str(tmp_path))) == ["photos", "temporary-files"]


# ------------------------------------------------------------------------------------------------------ the document

def typed(folder, mark):
    """Runs each command of a block of docs/CHECK.md; returns their exit codes."""
    commands = [line for line in block("docs/CHECK.md", "check: " + mark).splitlines() if line]
    assert commands and all(line.startswith("stoker-check ") for line in commands)
    return [checked(folder, *shlex.split(line)[1:]).code for line in commands]


def test_the_commands_of_the_document(tmp_path):
    flawed(tmp_path / "photos")
    good(tmp_path / "plain" / "photos")
    (tmp_path / "log.csv").write_text("center,side\n" + "".join(
        "photos/train/left/photo-0%d.jpg,%d\n" % (number, number) for number in (0, 2)))
    assert typed(tmp_path / "plain", "a folder") == [0]
    assert typed(tmp_path, "both parts") == [0] and (tmp_path / "report.html").exists()
    assert typed(tmp_path, "a table") == [0]
    assert typed(tmp_path, "a script") == [1, 1] and (tmp_path / "report.json").exists()


def test_the_document_has_all_kinds_and_keys(tmp_path):
    with open(os.path.join(ROOT, "docs", "CHECK.md")) as file:
        text = file.read()
    table = text.partition("## What is found")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = [(re.findall(r"`([a-z-]+)`", line.split("|")[1]), line.split("|")[2]) for line in table.splitlines()[2:]]
    assert {kind for kinds, _ in rows for kind in kinds} == set(KINDS)
    assert {kind for kinds, strict in rows if "yes" in strict for kind in kinds} == set(ERRORS)
    good(tmp_path / "photos")
    keys = text.partition("## The JSON report")[2]
    for key, value in report(tmp_path, "photos")[0].items():
        assert "`%s`" % key in keys, key
        for inner in value if isinstance(value, dict) else value[0] if isinstance(value, list) and value else ():
            assert "`%s`" % inner in keys, inner


# ---------------------------------------------------------------------------------------------------------- the speed

PLAIN = """
import os, sys
import numpy as np
import stoker
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        np.asarray(stoker.load(os.path.join(folder, name), (64, 64), "exact"))
"""


def cpu_s(command, cwd):
    """CPU time of a program and of all processes that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=str(cwd), env=dict(os.environ, PYTHONPATH=ROOT), check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_it_costs_hardly_more_than_decoding(tmp_path):
    """CPU time, which a busy machine changes less: beyond its start, less than 1.6 times that of decoding."""
    draw(str(tmp_path / "photos"), "jpg", 40, (375, 500))
    for copy in range(1, 12):
        shutil.copytree(str(tmp_path / "photos" / "left"), str(tmp_path / "photos" / ("left%d" % copy)))
        shutil.copytree(str(tmp_path / "photos" / "right"), str(tmp_path / "photos" / ("right%d" % copy)))
    draw(str(tmp_path / "few"), "jpg", 4, (375, 500))
    check = [sys.executable, "-m", "stoker.inspection.check"]
    ratios = []

    def is_cheap():
        decoding = cpu_s([sys.executable, "-c", PLAIN, "photos"], tmp_path) - cpu_s(
            [sys.executable, "-c", PLAIN, "few"], tmp_path)
        ratios.append((cpu_s(check + ["photos"], tmp_path) - cpu_s(check + ["few"], tmp_path)) / decoding)
        return ratios[-1] < 1.6
    assert any(is_cheap() for _ in range(3)), ratios
