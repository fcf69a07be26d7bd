"""Several trainers with Horovod, as examples/horovod has them: they consume the batches of one trainer, to the byte."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from examples import run
from tests.engines.namespaces import Namespaces
from tests.engines.needs import python_of
from tests.support.checkout import clone
from tests.support.documents import block, read
from tests.support.processes import (LIMIT_S, ROOT, Program, alive, command_line, consecutive_ports, kill, suspended,
                                     wait_for, with_environment, worker_pids, workers_program)
from tests.support.training import audit

pytestmark = pytest.mark.needs("environment horovod")

EPOCHS, BATCH_SIZE, STEPS_PER_EPOCH = 4, 24, 8      # of 200 pictures, 8 are left out of each epoch
STEPS = EPOCHS * STEPS_PER_EPOCH
EXAMPLE = os.path.join(run.EXAMPLES, "horovod")
LONG_S = 5 * LIMIT_S
#: On a busy machine, one rank may start long after another.
LIMITS = ["--gloo-timeout-seconds", str(int(LONG_S)), "--start-timeout", str(int(LONG_S))]
PREFETCH = 3
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
        given = {"data": self.data, "checkpoint": os.path.join(self.folder, "checkpoint"), "audit": self.audit,
                 "epochs": EPOCHS, "workers": 2, "worker_python": self.worker_python, "prefetch": PREFETCH}
        arguments = dict(given, **arguments)
        command = ["-m", "tests.engines.horovod_rank", json.dumps(arguments)]
        if ranks > 1:
            command = ["-np", str(ranks)] + LIMITS + [python_of("horovod")] + command
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
        return max([line["step"] for line in audit(self.audit + "-0.record")], default=-1)

    def starts(self):
        """The first step of each run of rank 0."""
        steps = [line["step"] for line in audit(self.audit + "-0.record")]
        return steps[:1] + [step for before, step in zip(steps, steps[1:]) if step != before + 1]


def finished(program, ranks):
    """The results of the ranks, when the program has ended."""
    assert program.wait(LONG_S) == 0, program.text
    lines = [program.wait_for_line("result of rank %d: " % rank)[0] for rank in range(ranks)]
    return [json.loads(line.split(": ", 1)[1]) for line in lines]


def pids_of(program, ranks):
    """The process of each rank."""
    lines = [program.wait_for_line(r"rank %d is process \d+$" % rank)[0] for rank in range(ranks)]
    return [int(line.rsplit(" ", 1)[1]) for line in lines]


class Killer:
    """Kills the worker of the newest batch of each rank, again and again."""

    def __init__(self, job, program, ranks=2):
        self.job, self.program, self.ranks = job, program, ranks
        self.killed = 0
        self._spared = {}                   # worker -> the step until which batches may be of the process killed before

    def until(self, step):
        """Until rank 0 is at ``step``, and once in any case."""
        deadline_s, at = time.monotonic() + LONG_S, -1
        while at < step:
            at = self.job.step()
            assert at >= step or self.program.running() and time.monotonic() < deadline_s, self.program.text
            for rank in range(self.ranks):
                self._kill(audit("%s-%d" % (self.job.audit, rank))[-1:])
            time.sleep(0.05)

    def _kill(self, newest):
        for line in newest:
            name = line["worker"]
            # A process that dies before its first batch counts as one that cannot start, and five end the workers.
            if line["step"] > self._spared.get(name, -1):
                self._spared[name] = line["step"] + PREFETCH + 1
                for pid in worker_pids():
                    if name in command_line(pid).split():
                        with suppress(ProcessLookupError):
                            kill(pid)
                            self.killed += 1


def wait_for_step(job, program, step):
    """Until rank 0 has done it."""
    def reached():
        assert program.running(), program.text
        return job.step() >= step
    wait_for(reached, "step %d" % step, LONG_S)


def assert_same(job, one, ranks=2):
    """Together, the ranks consumed what the one trainer did: by the record of each sample, and by the audits."""
    records = [job.records(rank) for rank in range(ranks)]
    expected = one.records(0)
    for step in range(STEPS):
        for field in ("indices", "samples"):
            assert sum((record[step][field] for record in records), []) == expected[step][field]
    assert_same_audits(job, one, ranks)


def assert_same_audits(job, one, ranks=2):
    """Together, the audits of the ranks hold each step of the one trainer, to the byte."""
    command = [sys.executable, "-m", "stoker.pipeline.monitoring.audits", "--against", one.audit + "-0"]
    said = subprocess.run(command + ["%s-%d" % (job.audit, rank) for rank in range(ranks)], cwd=ROOT, timeout=LIMIT_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert said.returncode == 0, said.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The pictures of the example."""
    folder = str(tmp_path_factory.mktemp("horovod") / "pictures")
    subprocess.run([python_of("horovod"), os.path.join(EXAMPLE, "make_data.py"), folder], check=True)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory, data, python36):
    """One trainer, undisturbed, with a worker of Python 3.6."""
    job = Job(tmp_path_factory.mktemp("one-trainer"), data, python36)
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
    with job.start(2, slow_s=3 * SLOW_S) as program:     # this test may stand still for some seconds
        killer = Killer(job, program)
        killer.until(STEPS - 4)
        results = finished(program, 2)
    assert killer.killed >= 4
    assert_same(job, one)
    assert results[0] == results[1]              # the weights too
    np.testing.assert_allclose(results[0]["losses"], one.result["losses"], rtol=1e-3)
    assert results[0]["losses"][-1] < 0.9 * results[0]["losses"][0]
    figures("Horovod: %d workers killed; losses of the epochs with one trainer %s, with two ranks %s"
            % (killer.killed, one.result["losses"], results[0]["losses"]))


def test_resumed(job, one, figures):
    """Horovod: Ctrl-C, then rank 1 killed (SIGKILL): the job ends each time, and goes on from the checkpoint"""
    with job.start(2, slow_s=SLOW_S, hold=[12, os.path.join(job.folder, "never")]) as program:
        pids = pids_of(program, 2)
        wait_for_step(job, program, 11)
        started_s = time.monotonic()
        os.killpg(program.pid, signal.SIGINT)
        assert program.wait(LONG_S) != 0
        wait_for(lambda: not with_environment("TMPDIR=" + os.environ["TMPDIR"]), "the end of all processes")
    figures("Horovod: %.1f s from Ctrl-C to the end of all processes" % (time.monotonic() - started_s))
    with job.start(2, slow_s=SLOW_S, kill=[1, 25]) as program:
        pids = pids_of(program, 2)
        assert program.wait(LONG_S) != 0
        ended_s = time.time()
    killed_s = float(program.wait_for_line("killed at ")[0].rsplit(" ", 1)[1])
    assert "Process 1 exit with status code 137" in program.text and not any(map(alive, pids))
    figures("Horovod: %.1f s from the SIGKILL of a rank to the end of the job" % (ended_s - killed_s))
    results = job.run(2)
    first, second, third = job.starts()
    assert first == 0 < second <= 12 and second < third <= 25
    assert_same(job, one)
    assert results[0] == results[1]


def test_other_numbers_of_ranks(job, one):
    """Horovod: 1 -> 2 -> 1 ranks over restarts: the batches of one trainer, each sample once per epoch"""
    for ranks, killed in ((1, [0, 12]), (2, [0, 22]), (1, [-1, -1])):
        with job.start(ranks, kill=killed) as program:
            assert (program.wait(LONG_S) == 0) == (killed[0] < 0), program.text
    first, second, third = job.starts()
    assert first == 0 < second <= 12 and second < third <= 22
    assert_same_audits(job, one)


def test_a_rank_fails_at_its_start(job):
    """Horovod: an error on rank 1 before its first step ends the job"""
    with job.start(2, fail=1) as program:
        assert program.wait(LONG_S) != 0
    assert "the disk of rank 1 is gone" in program.text and "Process 0 exit with status code" in program.text
    assert not os.path.exists(job.audit + "-0") or job.step() <= 0


def test_one_fleet(job, one, worker_python):
    """Horovod: one fleet for both ranks; workers killed, rank 1 suspended, killed, and run again: nothing is lost"""
    port = consecutive_ports(2)
    fleet = ["tcp://127.0.0.1:%d-%d" % (port, port + 1), "--processes", "3", "--allow-generator", "batches:picture"]
    arguments = {"workers": 0, "port": port, "slow_s": SLOW_S}
    with workers_program(*fleet, python=worker_python, cwd=EXAMPLE) as workers:
        go = os.path.join(job.folder, "go")
        with job.start(2, kill=[1, 15], hold=[14, go], **arguments) as program:
            pids = pids_of(program, 2)
            killer = Killer(job, program)
            killer.until(5)
            os.kill(pids[1], signal.SIGSTOP)
            wait_for(lambda: suspended(pids[1]), "the suspension of rank 1")
            time.sleep(4)
            os.kill(pids[1], signal.SIGCONT)
            with open(go, "w"):
                assert program.wait(LONG_S) != 0
        with job.start(2, **arguments) as program:
            Killer(job, program).until(STEPS - 4)
            results = finished(program, 2)
        assert workers.running() and killer.killed, workers.text
    assert 0 < job.starts()[1] <= 15
    assert_same(job, one)
    assert results[0] == results[1]


def test_adapters(job, one):
    """Horovod: tf.estimator, resumed by another run, and tf.keras: the batches of one trainer"""
    kept = []
    for epochs, names in ((2, ["estimator"]), (EPOCHS, ["estimator", "keras"])):
        command = ["-np", "2"] + LIMITS + [python_of("horovod"), "-m", "tests.engines.horovod_adapters", job.folder,
                                           job.data, job.worker_python, str(epochs)] + names
        with Program(command, horovodrun(), HOME=job.folder) as program:
            assert program.wait(LONG_S) == 0, program.text
        weights = [[line.split(": ", 1)[1] for line in program.wait_for_line("weights of rank %d: " % rank, len(names))]
                   for rank in range(2)]
        assert weights[0] == weights[1]
        lines = audit(os.path.join(job.folder, "estimator-0"))
        assert lines[:len(kept)] == kept        # with the names of the workers: no step was done again
        kept = lines
    assert len(kept) == STEPS
    for name in names:
        job.audit = os.path.join(job.folder, name)
        assert_same_audits(job, one)


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
                              timeout=LONG_S, env=dict(os.environ, HOME=str(tmp_path))).stdout
        assert len(re.findall(r"\[[01]\]<stdout>:horovod: " + line, said)) == 2, said


@pytest.mark.needs("namespaces")
def test_fleet_of_the_document(tmp_path):
    """Horovod: the document's commands for one fleet of workers"""
    folder = clone(str(tmp_path / "stoker"))
    os.symlink(os.path.join(ROOT, ".venv"), os.path.join(folder, ".venv"))

    def command(mark):
        first, *others = apart.command("sh", "-e", "-c", block("docs/HOROVOD.md", "horovod: " + mark), cwd=folder)
        return Program(others, first, HOME=str(tmp_path))

    with Namespaces() as apart, command("workers of a fleet") as workers, command("ranks of a fleet") as ranks:
        assert ranks.wait(LONG_S) == 0, ranks.text
        assert workers.wait() == 0, workers.text
        with command("audits") as audits:
            assert audits.wait() == 0 and audits.lines == ["64 steps, 1,536 samples"], audits.text
