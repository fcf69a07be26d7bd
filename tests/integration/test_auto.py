"""Autoscaling with real worker processes: the decisions, and the same batches as with a fixed number."""

import os
import time

import pytest

from tests.support.processes import diary, opened, wait_for, worker_pids

OPTIONS = dict(image_size=32, batch_size=8, epochs=1000, prefetch=8, generator="user_generators:unhurried")
CORES = 4
LIMIT_S = 120.0


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    """Makes the trainer see four cores; these workers sleep, so they need none."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(CORES)))


def iterate(run, step_s, until):
    """Takes batches, with ``step_s`` between them, until ``until()`` is true."""
    deadline = time.monotonic() + LIMIT_S
    for batch in run.stream:
        run.batches.append(batch)
        if until():
            return
        assert time.monotonic() < deadline, run.log.lines
        time.sleep(step_s)
    raise AssertionError("the run ended too soon")


def test_it_begins_with_all_cores_and_stops_workers_that_are_not_needed(pictures, tmp_path, worker_python,
                                                                        own_generators):
    with opened(pictures, tmp_path / "audit", worker_python=worker_python, **OPTIONS) as run:
        run.joined(CORES)
        assert len(worker_pids()) == CORES
        # longer than a worker takes for a batch, also where other things take most of the cores
        iterate(run, 0.5, lambda: run.log.having("1 worker: the trainer waits 0."))
        assert run.log.having("1 worker on this host instead of %d: the trainer waits 0." % CORES)
        assert len(wait_for(lambda: len(worker_pids()) == 1 and worker_pids(), "one worker")) == 1
        assert run.log.having(" asked to stop")
        before = len(run.batches)
        # a faster trainer: all the workers that it needs start at once
        iterate(run, 0.07, lambda: len(worker_pids()) >= 3)
        assert len(run.batches) - before < 1000
        assert run.log.having(" workers on this host instead of ")
    content = run.content()
    with opened(pictures, tmp_path / "exact", workers=1, worker_python=worker_python,
                **dict(OPTIONS, generator="image")) as exact:
        exact.take(len(content))
    assert exact.content() == content
    assert len({pid for _, pid in diary(own_generators, "end")}) > CORES


def test_it_keeps_all_workers_and_reports_that_more_are_needed(pictures, tmp_path, worker_python, own_generators):
    with opened(pictures, tmp_path / "audit", workers="auto", worker_python=worker_python, **OPTIONS) as run:
        iterate(run, 0.001, lambda: run.log.having("4 workers, as many as there are cores: the trainer waits "))
        assert len(worker_pids()) == CORES


def test_a_given_number_stays(pictures, tmp_path, worker_python, own_generators):
    with opened(pictures, tmp_path / "audit", workers=3, worker_python=worker_python, **OPTIONS) as run:
        iterate(run, 0.1, lambda: run.log.having("bottleneck: trainer: "))
        for _ in range(20):
            time.sleep(0.1)
            run.take(1)
        assert len(worker_pids()) == 3
