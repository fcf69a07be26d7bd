"""Several trainers with Horovod, as examples/horovod has them: they consume the batches of one trainer, to the byte."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import time
from contextlib import suppress

import numpy as np
import pytest

from examples import run
from tests.engines.needs import python_of
from tests.support.checkout import clone
from tests.support.documents import block, read
from tests.support.processes import (LIMIT_S, ROOT, Program, alive, kill, wait_for, with_environment, worker_pids)
from tests.support.training import audit

pytestmark = pytest.mark.needs("environment horovod")

EPOCHS, BATCH_SIZE, STEPS_PER_EPOCH = 4, 24, 8      # of 200 pictures, 8 are left out of each epoch
STEPS = EPOCHS * STEPS_PER_EPOCH
EXAMPLE = os.path.join(run.EXAMPLES, "horovod")
SLOW_S = 0.15                                       # so that there is time to kill workers


def horovodrun():
    return os.path.join(os.path.dirname(python_of("horovod")), "horovodrun")


class Job:
    """A training in ``folder``, that may be run several times."""

    def __init__(self, folder, data, worker_python):
        self.folder, self.data, self.worker_python = str(folder), data, worker_python
        self.audit = os.path.join(self.folder, "audit")

    def start(self, ranks, **arguments):
        """A run with this many ranks. Several are started by horovodrun, one is a program like any other."""
        arguments = dict(dict(data=self.data, checkpoint=os.path.join(self.folder, "checkpoint"), audit=self.audit,
                              epochs=EPOCHS, workers=2, worker_python=self.worker_python, prefetch=4), **arguments)
        command = ["-m", "tests.engines.horovod_rank", json.dumps(arguments)]
        if ranks > 1:
            command = ["-np", str(ranks), python_of("horovod")] + command
        # In a session of its own, as under a terminal. It keeps results of its checks in the home folder.
        return Program(command, horovodrun() if ranks > 1 else python_of("horovod"), before=os.setsid, HOME=self.folder)

    def run(self, ranks, **arguments):
        """A whole run. Returns the result of each rank."""
        with self.start(ranks, **arguments) as program:
            return finished(program, ranks)

    def records(self, rank):
        """Step -> its record by this rank. A step that was done again was the same both times."""
        steps = {}
        for line in audit("%s-%d.record" % (self.audit, rank)):
            assert steps.setdefault(line["step"], line) == line
        return steps

    def step(self):
        """The newest step of rank 0; -1: none yet."""
        return max(self.records(0), default=-1)


def finished(program, ranks):
    """The results of the ranks, when the program has ended."""
    assert program.wait(5 * LIMIT_S) == 0, program.text
    lines = [program.wait_for_line("result of rank %d: " % rank)[0] for rank in range(ranks)]
    return [json.loads(line.split(": ", 1)[1]) for line in lines]


def pids_of(program, ranks):
    """The process of each rank."""
    lines = [program.wait_for_line(r"rank %d is process \d+$" % rank)[0] for rank in range(ranks)]
    return [int(line.rsplit(" ", 1)[1]) for line in lines]


def kill_workers(job, program, parents, until_step, every_s=0.4):
    """Kills a worker every ``every_s``, below one of the processes ``parents`` after the other, until rank 0 is at
    ``until_step``. Returns how many it killed."""
    killed, choose, turns = 0, random.Random(1), itertools.cycle(parents)
    deadline_s = time.monotonic() + 5 * LIMIT_S
    while job.step() < until_step:
        assert program.running() and time.monotonic() < deadline_s, program.text
        pids = worker_pids(next(turns))
        if job.step() >= 0 and pids:
            with suppress(ProcessLookupError):
                kill(choose.choice(pids))
                killed += 1
        time.sleep(every_s)
    return killed


def wait_for_step(job, program, step):
    """Until rank 0 has done it."""
    def reached():
        assert program.running(), program.text
        return job.step() >= step
    wait_for(reached, "step %d" % step)


def assert_same(job, one, ranks=2):
    """The ranks consumed what the one trainer did: together each whole batch, and each rank its part of it."""
    records = [job.records(rank) for rank in range(ranks)]
    expected = one.records(0)
    for step in range(STEPS):
        for field in ("indices", "samples"):
            assert sum((record[step][field] for record in records), []) == expected[step][field]
    for rank in range(ranks):
        lines = audit("%s-%d" % (job.audit, rank))
        assert [(line["step"], line["epoch"], line["crc32"]) for line in lines] == [
            (step, expected[step]["epoch"], expected[step]["halves"][rank]) for step in range(STEPS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The pictures of the example."""
    folder = str(tmp_path_factory.mktemp("horovod") / "pictures")
    subprocess.run([python_of("horovod"), os.path.join(EXAMPLE, "make_data.py"), folder], check=True)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory, data, worker_python):
    """One trainer, undisturbed."""
    job = Job(tmp_path_factory.mktemp("one-trainer"), data, worker_python)
    job.result, = job.run(1, workers=1)
    assert sorted(job.records(0)) == list(range(STEPS))
    for epoch in range(EPOCHS):
        indices = sum((record["indices"] for record in job.records(0).values() if record["epoch"] == epoch), [])
        assert len(set(indices)) == len(indices) == STEPS_PER_EPOCH * BATCH_SIZE
    return job


@pytest.fixture
def job(tmp_path, data, worker_python):
    return Job(tmp_path, data, worker_python)


def test_workers_killed(job, one, figures):
    """Horovod: two ranks consume the global batches of one trainer, to the byte, while workers are killed"""
    with job.start(2, slow_s=SLOW_S) as program:
        killed = kill_workers(job, program, pids_of(program, 2), STEPS - 4)
        results = finished(program, 2)
    assert killed >= 4
    assert_same(job, one)
    assert results[0] == results[1]              # the weights too
    np.testing.assert_allclose(results[0]["losses"], one.result["losses"], rtol=1e-3)
    assert results[0]["losses"][-1] < 0.9 * results[0]["losses"][0]
    figures("Horovod: %d workers killed; losses of the epochs with one trainer %s, with two ranks %s"
            % (killed, one.result["losses"], results[0]["losses"]))


def test_resumed(job, one, figures):
    """Horovod: Ctrl-C, then rank 1 killed (SIGKILL): the job ends each time, and goes on from the checkpoint"""
    with job.start(2, slow_s=SLOW_S) as program:
        pids = pids_of(program, 2)
        wait_for_step(job, program, 11)
        started_s = time.monotonic()
        os.killpg(program.pid, signal.SIGINT)
        assert program.wait() != 0
        wait_for(lambda: not with_environment("TMPDIR=" + os.environ["TMPDIR"]), "the end of all processes")
    figures("Horovod: %.1f s from Ctrl-C to the end of all processes" % (time.monotonic() - started_s))
    with job.start(2, slow_s=SLOW_S, kill=[1, 25]) as program:
        pids = pids_of(program, 2)
        assert program.wait() != 0
        ended_s = time.time()
    killed_s = float(program.wait_for_line("killed at ")[0].rsplit(" ", 1)[1])
    assert "Process 1 exit with status code 137" in program.text and not any(map(alive, pids))
    figures("Horovod: %.1f s from the SIGKILL of a rank to the end of the job" % (ended_s - killed_s))
    assert max(job.records(1)) == 24
    results = job.run(2)
    assert_same(job, one)
    assert results[0] == results[1]


def test_other_numbers_of_ranks(job, one):
    """Horovod: 1 -> 2 -> 1 ranks over restarts: the batches of one trainer, each sample once per epoch"""
    runs = [Job(job.folder, job.data, job.worker_python) for _ in range(3)]
    for number, (ranks, killed) in enumerate(((1, [0, 12]), (2, [0, 22]), (1, [-1, -1]))):
        runs[number].audit += str(number)
        with runs[number].start(ranks, kill=killed) as program:
            assert (program.wait(5 * LIMIT_S) == 0) == (killed[0] < 0), program.text
    starts = [min(each.records(0)) for each in runs]
    assert starts[0] == 0 and 0 < starts[1] <= 12 and starts[1] < starts[2] <= 22
    expected, halves = one.records(0), [runs[1].records(rank) for rank in range(2)]
    for step in range(12):
        assert runs[0].records(0)[step] == expected[step]
    for step in range(starts[1], 22):
        for field in ("indices", "samples"):
            assert halves[0][step][field] + halves[1][step][field] == expected[step][field]
    for step in range(starts[2], STEPS):
        assert runs[2].records(0)[step] == expected[step]


def test_a_rank_fails_at_its_start(job):
    """Horovod: an error on rank 1 before its first step ends the job"""
    with job.start(2, fail=1) as program:
        assert program.wait() != 0
    assert "the disk of rank 1 is gone" in program.text and "Process 0 exit with status code 1" in program.text
    assert not os.path.exists(job.audit + "-0") or job.step() <= 0


def test_install_of_the_document(tmp_path):
    """Horovod: the command that installs it; by hand it is the same"""
    script, by_hand = read(".setup/horovod.sh"), block("docs/HOROVOD.md", "horovod: by hand")
    steps = re.findall(r"sed -i '.*?'|(?:HOROVOD|CC|CXX)\w*=\S+", by_hand)
    assert len(steps) == 8 and all(step in script for step in steps)
    pins = (read(".setup/horovod.txt") + read(".setup/trainer.txt")).split()
    assert "horovod==0.19.5" in pins and set(re.findall(r"\w+==[\d.]+", by_hand)) <= set(pins)
    os.symlink(os.path.join(ROOT, ".setup"), str(tmp_path / ".setup"))
    os.makedirs(str(tmp_path / ".venv"))
    os.symlink(os.path.join(ROOT, ".venv", "horovod"), str(tmp_path / ".venv" / "trainer"))      # where it is installed
    subprocess.run(["sh", "-e", "-c", block("docs/HOROVOD.md", "horovod: install")], cwd=str(tmp_path), check=True,
                   timeout=LIMIT_S)


def test_example_of_the_document(tmp_path):
    """Horovod: the command of the example, run again: it was finished before"""
    folder = clone(str(tmp_path / "stoker"))
    os.symlink(os.path.join(ROOT, ".venv"), os.path.join(folder, ".venv"))
    for line in ("loss of each epoch", "finished before"):
        said = subprocess.run(["sh", "-e", "-c", block("docs/HOROVOD.md", "horovod: example")], cwd=folder, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                              timeout=3 * LIMIT_S, env=dict(os.environ, HOME=str(tmp_path))).stdout
        assert len(re.findall(r"\[[01]\]<stdout>:horovod: " + line, said)) == 2, said
