"""The bottleneck of a run is named in the log: each kind is made with real processes."""

import os
import re
import time

import pytest

from tests.integration.conftest import draw
from tests.support.processes import ROOT, opened, python_with_path, workers_program
from tests.support.relay import Relay
from tests.support.training import finished

OPTIONS = dict(image_size=64, batch_size=8, epochs=1000, prefetch=8)
CORES = 2
LIMIT_S = 60.0
SLOW = os.path.join(ROOT, "tests", "support", "slow")


@pytest.fixture(autouse=True)
def two_cores():
    """The same number of cores on any machine, so that the verdicts are the same."""
    before = os.sched_getaffinity(0)
    if len(before) < CORES:
        pytest.skip("wants %d cores" % CORES)
    os.sched_setaffinity(0, sorted(before)[:CORES])
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def large_pictures(tmp_path_factory):
    """JPEGs that take a while to decode."""
    root = str(tmp_path_factory.mktemp("large-pictures"))
    draw(root, "jpg", 8, (1500, 2000))
    return root


def first_named(run, step_s):
    """The first bottleneck that the log names, for a consumer whose steps take ``step_s``."""
    deadline = time.monotonic() + LIMIT_S
    for _ in run.stream:
        named = run.log.having("bottleneck: ")
        if named:
            return named[0]
        assert time.monotonic() < deadline, "nothing was named"
        time.sleep(step_s)
    raise AssertionError("the run ended before anything was named")


def slow(monkeypatch, folder, python, where, seconds):
    """An interpreter for slow workers."""
    monkeypatch.setenv("SLOW_WHERE", where)
    monkeypatch.setenv("SLOW_S", str(seconds))
    return python_with_path(folder, SLOW, python)


@pytest.mark.parametrize("where", ["storage", "augment"])
def test_a_slow_stage(pictures, tmp_path, worker_python, monkeypatch, where):
    python = slow(monkeypatch, tmp_path, worker_python, where, 0.02)
    with opened(pictures, tmp_path / "audit", workers=CORES, generator="augmented", worker_python=python,
                **OPTIONS) as run:
        assert first_named(run, 0.005).startswith("bottleneck: %s: the trainer waits " % where)


def test_large_pictures_are_slow_to_decode(large_pictures, tmp_path, worker_python):
    with opened(large_pictures, tmp_path / "audit", workers=CORES, decode="exact", worker_python=worker_python,
                **dict(OPTIONS, batch_size=2)) as run:
        assert "workers spend " in first_named(run, 0.001).partition("decode: ")[2]


def test_a_slow_generator(pictures, tmp_path, worker_python, own_generators):
    with opened(pictures, tmp_path / "audit", workers=CORES, generator="user_generators:slow",
                worker_python=worker_python, **OPTIONS) as run:
        assert first_named(run, 0.005).startswith("bottleneck: generator: ")


def test_too_few_workers(pictures, tmp_path, worker_python, own_generators):
    with opened(pictures, tmp_path / "audit", workers=1, generator="user_generators:slow",
                worker_python=worker_python, **OPTIONS) as run:
        named = first_named(run, 0.005)
    assert named.startswith("bottleneck: too few workers: ") and "1 is there, on 2 cores" in named


def test_the_last_line_names_the_bottleneck(large_pictures, tmp_path, worker_python):
    pytest.importorskip("tensorflow")
    run = finished(tmp_path / "here", large_pictures, "--image-size", 16, "--batch-size", 1, "--epochs", 9, "--workers",
                   1, "--decode", "exact", "--validation-split", 0, *["--worker-python", worker_python]
                   * bool(worker_python))
    assert re.match(r"bottleneck: too few workers: the trainer waits \d+% of the time; a step takes \S+ ms, a "
                     r"worker produces a batch in \S+ ms: \d+ workers are needed, 1 is there, on 2 cores$",
                     run.stdout.splitlines()[-1]), run


def test_a_slow_network(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", workers=0, shared_memory=False, **OPTIONS) as run:   # pixels by network
        with Relay(run.stream.address, 1e6) as relay, workers_program(
                relay.address, "--processes", "2", "--once", python=worker_python) as workers:
            assert first_named(run, 0.005).startswith("bottleneck: wire: ")
            run.stream.close()
            workers.wait()


def test_a_slow_trainer(pictures, tmp_path, worker_python):
    # small batches: on a busy machine, too, one worker makes them in less than a step
    with opened(pictures, tmp_path / "audit", workers=CORES, worker_python=worker_python,
                **dict(OPTIONS, batch_size=2)) as run:
        named = first_named(run, 0.05)
    assert named.startswith("bottleneck: trainer: the data is on time, ") and "1 worker is needed, 2 are there" in named
