"""Contenders in turns, for fractions of a second: real ones, one that breaks, one that hangs; and nothing left."""

import os
import sys
from contextlib import suppress

import pytest

from benchmarks import alternation
from benchmarks.alternation import Contender, Program, alternate
from benchmarks.contenders.protocol import marked, trackers_of
from tests.support.processes import wait_for


def real(name, module, way, pictures):
    return Contender(name, [sys.executable, "-m", "benchmarks.contenders." + module, way, pictures, "32"])


def states(program):
    """The state of each process of a contender, as the kernel names it: T is suspended."""
    found = set()
    for pid in marked(program.mark):
        with suppress(OSError), open("/proc/%d/stat" % pid) as file:      # it may have ended since it was found
            found.add(file.read().rpartition(")")[2].split()[0])
    return found


def test_contenders_take_turns_and_trouble_is_a_row(pictures):
    said = []
    results = alternate([
        real("stoker", "stoker", "fast:" + sys.executable, pictures),
        real("limit", "limit", "exact", pictures),
        Contender("breaks", [sys.executable, "-c", "import sys; sys.exit('no such luck')"]),
        Contender("babbles", [sys.executable, "-c",
                              "import os; os.write(int(os.environ['BENCHMARK_ANSWERS']), b'x\\n')"]),
        Contender("is not there", ["/nonexistent/python"]),
        Contender("cannot", [], missing="no environment"),
    ], rounds=2, seconds=0.2, say=said.append)
    for name in ("stoker", "limit"):
        assert results[name].error == ""
        assert len(results[name].rates) == 2 and min(results[name].rates) > 0
        assert max(results[name].cpu) > 0
    assert results["breaks"].error == "no such luck"
    assert "'x'" in results["babbles"].error
    assert "/nonexistent/python" in results["is not there"].error
    assert results["cannot"].error == "no environment"
    assert [line for line in said if line.startswith("round")] == ["round %d of 2, 2 contenders" % n for n in (1, 2)]


def test_one_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(alternation, "START_S", 0.5)
    hanging = Contender("hangs", [sys.executable, "-c", "import time; print('zzz', flush=True); time.sleep(99)"])
    results = alternate([hanging], rounds=1, seconds=0.1, say=lambda text: None)
    assert "no answer within 0.5 s" in results["hangs"].error and results["hangs"].rates == []


def test_between_its_turns_all_of_a_contender_is_suspended(pictures):
    program = Program(real("stoker", "stoker", "fast:" + sys.executable, pictures))
    try:
        program.wait_until_ready()
        assert len(marked(program.mark)) >= 4           # trainer, supervisor, two workers: in sessions of their own
        wait_for(lambda: states(program) == {"T"}, "its suspension")     # a running process takes a moment to stop
        images, seconds, cpu_s = program.turn(0.2)
        assert images > 0 and seconds >= 0.2 and cpu_s > 0
        wait_for(lambda: states(program) == {"T"}, "its suspension")
    finally:
        program.end()
    assert marked(program.mark) == []


def test_its_end_ends_all_that_it_started():
    program = Program(Contender("forks", [sys.executable, "-c", "\n".join([
        "import os, subprocess, sys, time",
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'], start_new_session=True)",
        "os.write(int(os.environ['BENCHMARK_ANSWERS']), b'ready\\n')",
        "time.sleep(99)"])]))
    try:
        program.wait_until_ready()
        wait_for(lambda: len(marked(program.mark)) == 2, "both processes")     # amid its start one has no environment
    finally:
        program.end()
    assert marked(program.mark) == []


def test_semaphores_with_names_that_a_contender_made_are_removed(tmp_path):
    """As PyTorch and grain make them; a killed process does not remove its own."""
    program = Program(Contender("names", [sys.executable, "-c", "\n".join([
        "import multiprocessing, os, sys, time",
        "from benchmarks.contenders.protocol import MARK, trackers_of",
        "lock = multiprocessing.get_context('spawn').Lock()",
        "open(sys.argv[1], 'w').write(lock._semlock.name)",
        "while not trackers_of(MARK + '=' + os.environ[MARK]):",     # once ready, it would be suspended amid its start
        "    time.sleep(0.01)",
        "os.write(int(os.environ['BENCHMARK_ANSWERS']), b'ready\\n')",
        "time.sleep(99)"]), str(tmp_path / "name")]))
    try:
        program.wait_until_ready()
        assert len(trackers_of(program.mark)) == 1
        path = "/dev/shm/sem." + (tmp_path / "name").read_text().lstrip("/")
        assert os.path.exists(path)
    finally:
        program.end()
    assert marked(program.mark) == [] and not os.path.exists(path)


@pytest.mark.parametrize("quick", [True, False])
def test_every_contender_that_is_to_run_can_or_says_why_not(quick):
    from benchmarks.end_to_end import groups
    for group in groups(quick):
        for each in group.contenders:
            assert each.missing or each.command[0].startswith(".venv/"), each
