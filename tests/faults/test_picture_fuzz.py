"""The short version of the pictures' part of ``make fuzz``: mutated pictures on both Pythons, and one that kills."""

import os
import re

from tests.fuzz import fuzz_pictures
from tests.fuzz.fuzz_pictures import Findings, report
from tests.support.hostile_pictures import slow_jpeg
from tests.support.processes import Program, interpreter

PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON")      # before a test changes the current folder


def test_some_hundred_pictures(tmp_path):
    more = {"STOKER_TEST_WORKER_PYTHON": PYTHON} if PYTHON else {}
    with Program(["-m", "tests.fuzz.fuzz_pictures", "--runs", "600", "--seed", "3", "--found", str(tmp_path / "found")],
                 **more) as program:
        assert program.wait(300) == 0, program.text
    assert program.text.count(": %d in all" % (300 if PYTHON else 600)) == (2 if PYTHON else 1), program.text
    assert "stoker: fuzz_pictures" not in program.text


def test_a_picture_that_ends_its_process_is_named(tmp_path, monkeypatch, capsys):
    def write_corpus(folder):
        for name in ("one.jpg", fuzz_pictures.HOSTILE + "one.jpg"):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(slow_jpeg(2500, 512))

    monkeypatch.setattr(fuzz_pictures, "write_corpus", write_corpus)
    monkeypatch.setattr("tests.fuzz.picture_mutation._MOST_CHANGES", 0)
    found = tmp_path / "found"
    found.mkdir()
    results = fuzz_pictures.fuzz([("here", fuzz_pictures.sys.executable)], 0, 6,
                                 {"seed": 0, "cpu_s": 0.1, "memory_mb": 256}, str(found))
    died = results[0].outcomes["died"]
    assert 0 < died <= 6 and len(list(found.iterdir())) == died
    assert report(results, 256, 1.0) == 0
    assert re.search("ended their process with SIGPROF.*: takes more than 0.1 s of CPU time", capsys.readouterr().out)


def test_a_death_without_a_name_is_a_fault(capsys):
    findings = Findings("here")
    findings.add(7, "x.png", "raised", "KeyError()", 1.0, 10)
    findings.add(8, "y.png", "good", "", 1.0, 300 << 10)
    assert report([findings], 100, 1.0) == 2
    out = capsys.readouterr().out
    assert "picture 7 (x.png) raised KeyError()" in out and "a process took 300 MB, limit 100 MB" in out
