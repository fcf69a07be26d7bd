"""Each example trains, and its audits are the same with one worker, with a worker killed, with the trainer killed and
resumed, and on both Pythons."""

import json
import os
import signal
import subprocess

import pytest

from examples import run
from tests.support.processes import LIMIT_S, ROOT, Program
from tests.support.training import audit

#: Examples that train several times, each with an audit of its own: the ends of the audits' names.
AUDITS = {"tutorial": ("-numerical", "-image", "-augmented")}
#: The trainer is killed at this step, after the first checkpoint.
KILLED_AT = 15
#: A worker is killed about this step. The stream must not be ahead of it by all its steps.
WORKER_KILLED_AT, PREFETCH = 5, 4


class Example:
    """One example, and the folder of a test."""

    def __init__(self, name, folder):
        self.name, self.folder, self.audits = name, str(folder), AUDITS.get(name, ("",))

    def arguments(self, name, workers, python, kill=None, **options):
        """The arguments of a run called ``name``. ``kill``: ("trainer" or "worker", the end of its audit, a step)."""
        path = os.path.join(self.folder, name)
        options.update(audit=path, checkpoint=path + ".checkpoint", workers=workers, worker_python=python)
        if kill:
            options["kill"] = kill[0], path + kill[1], kill[2]
        return options

    def driver(self, *runs):
        """The program that does these runs."""
        job = {"example": self.name, "data": os.path.join(self.folder, "data"), "runs": runs}
        return Program(["-m", "tests.examples.driver", json.dumps(job)])

    def content(self, name):
        """What must be the same in every run: (step, epoch, indices, crc32, skipped) of each step of each audit."""
        return [[tuple(line[key] for key in ("step", "epoch", "indices", "crc32", "skipped")) for line in lines]
                for lines in self.lines(name)]

    def lines(self, name):
        """The lines of each audit."""
        return [audit(os.path.join(self.folder, name + end)) for end in self.audits]


#: Needs an environment of its own: tests/engines/test_horovod.py runs it.
ELSEWHERE = {"horovod"}


@pytest.mark.parametrize("name", sorted(set(run.names()) - ELSEWHERE))
def test_example(name, tmp_path, worker_python, python36):
    example = Example(name, tmp_path)
    for end in example.audits:
        killed = example.arguments("resumed", 3, worker_python, kill=("trainer", end, KILLED_AT))
        with example.driver(killed) as program:
            assert program.wait() == -signal.SIGKILL, program.text
    with example.driver(
            example.arguments("resumed", 3, worker_python),
            example.arguments("one", 1, worker_python),
            example.arguments("worker-killed", 3, worker_python, kill=("worker", example.audits[-1], WORKER_KILLED_AT),
                              prefetch=PREFETCH),
            example.arguments("one-36", 1, python36),
            example.arguments("three-36", 3, python36)) as program:
        assert program.wait(5 * LIMIT_S) == 0, program.text
    results = [json.loads(line.split(" ", 1)[1]) for line in program.wait_for_line("^result ", 5)]

    steps = example.content("one")
    assert all(len(lines) > KILLED_AT for lines in steps)
    assert [[line[0] for line in lines] for lines in steps] == [list(range(len(lines))) for lines in steps]
    assert example.content("resumed") == steps
    assert 0 < results[0]["started"]["resumed" + example.audits[-1]] <= KILLED_AT
    assert example.content("worker-killed") == steps
    assert example.content("one-36") == steps
    assert example.content("three-36") == steps
    losses = results[1]["losses"]
    assert losses[-1] < 0.9 * losses[0]


def test_command(tmp_path, worker_python):
    """``make example`` without make's environments; run again, it resumes where it ended."""
    command = ["sh", os.path.join(ROOT, ".setup", "example.sh"), "driving", "--epochs", "2",
               "--data", str(tmp_path / "data"), "--checkpoint", str(tmp_path / "checkpoint")]
    outputs = [subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * LIMIT_S,
                              universal_newlines=True, check=True).stdout for _ in range(2)]
    assert "driving: loss of each epoch: " in outputs[0] and "driving: finished before" in outputs[1], outputs
