"""What it costs to look at a run, in CPU time, which holds on a busy machine; `python -m benchmarks looking` measures
rates. And the benchmark's programs, for fractions of a second."""

import logging
import os
import time

import psutil
import pytest

from benchmarks import looking
from benchmarks.looked_at import thread_ids
from benchmarks.looking import process_cpu_s, thread_cpu_s
from tests.integration.conftest import draw
from tests.support.asking import ask, url_of
from tests.support.processes import opened, worker_pids
from tests.support.visiting import codes, status_cpu_s, strict, visiting

PICTURES_A_SECOND = 12     # the goal, 0.5 % of two cores, is what about 8 pictures of 500x375 cost on an idle machine


def test_a_page_and_a_scraper_cost_little(tmp_path, worker_python):
    """Each second that a page is open costs less than so many pictures do. At 64 pixels two cores make 3,000 a
    second."""
    root = str(tmp_path / "photos")
    draw(root, "jpg", 60, (375, 500))
    with opened(root, tmp_path / "audit", image_size=64, batch_size=16, epochs=100000, workers=1, prefetch=4,
                decode="fastest", worker_python=worker_python, status="127.0.0.1:0") as run:
        url, stream = url_of(run.stream), run.stream
        next(stream)
        for path in ("/details.json", "/batch.json", "/metrics"):
            assert ask(url, path)[0] == 200
        while strict(ask(url, "/batch.json")[2])["step"] is None:       # what it needs is imported then
            next(stream)
        pids = worker_pids()

        def taken(seconds):
            """CPU seconds of the status thread a second, and of all else for a picture."""
            cpu_s, status_s, count, begun = _all(pids), status_cpu_s(), 0, time.monotonic()
            while time.monotonic() < begun + seconds:
                count += len(next(stream))
            return (status_cpu_s() - status_s) / (time.monotonic() - begun), (_all(pids) - cpu_s) / max(1, count)
        unseen_s, _ = taken(1)
        with visiting(url, 1, 1) as visitor:
            spent_s, picture_s = taken(6)
        for path in ("/details.json", "/batch.json", "/metrics"):
            assert set(codes(visitor.got, path)) == {"200"}
        stream.interrupt()
    assert unseen_s < picture_s, "the thread does something while no client asks"
    assert spent_s < PICTURES_A_SECOND * picture_s, (spent_s, picture_s)


def _all(pids):
    """CPU seconds of the workers and of this process, without the thread that answers."""
    return sum(process_cpu_s(pid) for pid in [os.getpid()] + pids) - thread_cpu_s(
        os.getpid(), thread_ids()["stoker-status"])


def test_the_benchmark_runs(monkeypatch):
    monkeypatch.setattr(looking, "WARM_UP_S", 0.5)
    monkeypatch.setattr(looking, "FOLDER", "/nonexistent")
    monkeypatch.setattr(looking, "PICTURES", 40)
    monkeypatch.setattr(looking, "prometheus_program", lambda: None)
    level = logging.getLogger("stoker").level
    seen, unseen = looking.run(True, lambda text: None)
    assert logging.getLogger("stoker").level == level
    assert [row[0] for row in seen.rows] == ["not looked at", "page open, a client in Prometheus' place every second"]
    assert all(row[1] > 0 for row in seen.rows) and seen.rows[1][5] > seen.rows[0][5]
    assert seen.goals[-1].holds(), seen.notes
    assert len(unseen.rows) == 2


def test_a_run_that_does_not_begin_is_ended(tmp_path, monkeypatch):
    """It has written nothing, and hears nothing."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(looking.sys, "executable", str(program))
    monkeypatch.setattr(looking, "worker_python", lambda: "python")
    monkeypatch.setattr(looking, "START_S", 0.2)
    monkeypatch.setattr(looking, "END_S", 0.2)
    before, begun = set(psutil.Process().children()), time.monotonic()
    with pytest.raises(RuntimeError, match="the run did not begin within 0.2 s"):
        looking.Run("photos", str(tmp_path), 1)
    assert time.monotonic() - begun < 30
    assert set(psutil.Process().children()) <= before
