"""What users' code starts in a worker, however it is started, ends with the worker, however that ends."""

import os
import signal
import sys

import pytest

import stoker
from tests.support.processes import Program, alive, kill, wait_for, worker_pids, workers_program

#: The first sample of each process starts one of each kind. A line in the file ``pids``: number, kind, worker's number.
FUNCTIONS = """
import multiprocessing, os, signal, subprocess, sys, time
import stoker

def noted(pid, kind, worker):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "pids"), "a") as file:
        file.write("%d %s %d\\n" % (pid, kind, worker))

def start():
    worker = os.getpid()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)      # inherited: only SIGKILL ends them
    pool = multiprocessing.get_context("fork").Pool(2)
    for process in pool._pool:
        noted(process.pid, "pool", worker)
    noted(subprocess.Popen(["sleep", "1000"]).pid, "program", worker)
    noted(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, "session", worker)
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        noted(os.getpid(), "daemon", worker)
        while True:
            time.sleep(1000)
    os.wait()
    signal.signal(signal.SIGTERM, before)
    noted(worker, "itself", worker)
    return pool

def shared(job):
    return start()

@stoker.sample({"x": "int32"}, setup=shared)
def quick(sample, random):
    time.sleep(0.02)
    return sample.index

@stoker.sample({"x": "int32"}, setup=shared)
def stuck(sample, random):
    while True:
        time.sleep(1000)

@stoker.sample({"x": "int32"}, setup=shared)
def deadly(sample, random):
    if sample.index == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample.index

if __name__ == "__main__":
    with stoker.open_stream(1000, stuck, batch_size=1, workers=2) as stream:
        list(stream)
"""
KINDS = {"pool": 2, "program": 1, "session": 1, "daemon": 1, "itself": 1}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A function: {number of a worker: numbers of the processes that it started}, once ``workers`` have started all.
    Until then it calls ``meanwhile`` again and again."""
    monkeypatch.delitem(sys.modules, "starting", raising=False)      # another test's, in this process
    (tmp_path / "starting.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pids = tmp_path / "pids"

    def found(workers, meanwhile=lambda: None):
        def ready():
            meanwhile()
            lines = [line.split() for line in pids.read_text().splitlines()] if pids.exists() else []
            by_worker = {}
            for pid, _, worker in lines:
                by_worker.setdefault(int(worker), []).append(int(pid))
            whole = {worker: started for worker, started in by_worker.items() if len(started) == sum(KINDS.values())}
            return len(whole) >= workers and whole
        return wait_for(ready, "%d workers that have started all" % workers)
    return found


def gone(pids):
    wait_for(lambda: not [pid for pid in pids if alive(pid)], "the end of %s" % pids)


def everything(by_worker):
    return sorted(by_worker) + sum(by_worker.values(), [])


def test_a_killed_worker_and_a_closed_stream_leave_nothing(started, tmp_path):
    with stoker.open_stream(100000, "starting:quick", arrays={"x": "int32"}, batch_size=2, workers=2) as stream:
        next(stream)
        by_worker = started(2)
        killed, other = sorted(by_worker)
        kill(killed)
        gone([killed] + by_worker[killed])
        assert all(alive(pid) for pid in by_worker[other]), "those of the other worker go on"
        by_worker = started(3, lambda: next(stream))         # its successor, once there are steps to produce for it
        for _ in range(20):
            next(stream)
    assert not [pid for pid in everything(by_worker) if alive(pid)], "all are gone when the stream is closed"


@pytest.mark.parametrize("end", ["supervisor", "SIGKILL", "Ctrl-C"])
def test_a_killed_supervisor_or_program_leaves_nothing(started, end):
    with Program(["starting.py"], cwd=os.getcwd()) as program:
        by_worker = started(2)
        supervisor, = set(parents(by_worker))
        if end == "Ctrl-C":
            program.send_signal(signal.SIGINT)
        else:
            kill(supervisor if end == "supervisor" else program.pid)
        gone(everything(by_worker))
        assert program.wait() != 0


@pytest.mark.parametrize("signum, function", [(signal.SIGTERM, "quick"), (signal.SIGKILL, "stuck")])
def test_workers_that_were_started_by_hand_leave_nothing(started, signum, function):
    function = "starting:" + function                        # SIGTERM waits for the batch in work
    with stoker.open_stream(1000, function, arrays={"x": "int32"}, batch_size=1, workers=0) as stream, \
            workers_program(stream.address, "--processes", "2", "--allow-generator", function,
                            cwd=os.getcwd()) as workers:
        by_worker = started(2)
        workers.send_signal(signum)
        gone(everything(by_worker))
        workers.wait()


def test_quarantine_leaves_nothing(started):
    """Each process that dies of a sample has started its own; so has the worker, which lives on."""
    with stoker.open_stream(6, "starting:deadly", arrays={"x": "int32"}, batch_size=6, workers=1) as stream:
        batch, = stream
        assert [skip.index for skip in batch.skipped] == [3]
        by_worker = started(1)
        lives = worker_pids()
        gone([pid for worker, pids in by_worker.items() if worker not in lives for pid in pids])
        assert len(by_worker) >= 2 + 3                       # two workers died, and three processes of the quarantine


def parents(pids):
    """The numbers of their parents."""
    found = []
    for pid in pids:
        with open("/proc/%d/stat" % pid) as file:
            found.append(int(file.read().rpartition(")")[2].split()[1]))
    return found
