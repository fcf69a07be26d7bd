"""deploy/slurm and the commands of docs/SLURM.md, word for word, on a Slurm of two virtual nodes."""

import os
from collections import Counter

import pytest

from tests.engines.slurm import Cluster, links_to_checkout
from tests.support.documents import block
from tests.support.processes import wait_for
from tests.support.training import audit, consumed, finished

pytestmark = pytest.mark.needs("namespaces", "slurm")

GUIDE = "docs/SLURM.md"
#: A generator over leases: half a second for each batch, until the file ``hurry`` exists. It notes the begin and the
#: end of each with the task of the array, and how often that was requeued.
OWN = '''
from __future__ import generator_stop
import os, time
from stoker.workers.generators import pictures

FOLDER = os.path.dirname(os.path.abspath(__file__))
TASK = "%s %s" % (os.environ.get("SLURM_ARRAY_TASK_ID", "-"), os.environ.get("SLURM_RESTART_COUNT", "0"))

def note(word, lease):
    fd = os.open(os.path.join(FOLDER, "diary"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, ("%s %d %s\\n" % (word, lease.position, TASK)).encode("ascii"))
    os.close(fd)

def slow(leases, job):
    def begun():
        for lease in leases:
            note("begin", lease)
            if not os.path.exists(os.path.join(FOLDER, "hurry")):
                time.sleep(0.5)
            held.append(lease)
            yield lease
    held = []
    for output in pictures.image(begun(), job):
        note("end", held.pop())
        yield output
'''
#: The options of the runs, as variables, because the document's commands stay as they are.
SMALL = {"STOKER_BATCH_SIZE": "8", "STOKER_VALIDATION_SPLIT": "0", "STOKER_IMAGE_SIZE": "16", "STOKER_DECODE": "exact"}
OWN_OPTIONS = {"STOKER_GENERATOR": "own:slow", "WORKER_OPTIONS": "--allow-generator own:slow"}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, figures):
    folder = tmp_path_factory.mktemp("slurm")
    with Cluster(os.environ["STOKER_TEST_SLURM"], folder / "cluster", folder / "home") as cluster:
        yield cluster


class Jobs:
    """The jobs of one test, submitted in the folder ``path`` with the document's commands."""

    def __init__(self, slurm, path, pictures):
        self.slurm, self.path, self._pictures = slurm, links_to_checkout(path), pictures
        (path / "own.py").write_text(OWN)

    def submit(self, mark, *changes, **environment):
        """Runs a block of the document; returns the numbers of the jobs. ``changes``: (old, new) texts."""
        commands = block(GUIDE, "slurm: " + mark)
        for old, new in (("/mnt/photos", self._pictures),) + changes:
            assert old in commands
            commands = commands.replace(old, new)
        said = self.slurm.run("sh", "-e", "-c", commands + 'echo "trainer ${TRAINER_JOB:-}"', cwd=str(self.path),
                              environment=dict(SMALL, STOKER_AUDIT=str(self.path / "audit"), **environment))
        return [line.split()[-1] for line in said.splitlines() if line.split()[-1].isdigit()]

    def log(self, name):
        """What a job has printed."""
        path = self.path / (name + ".log")
        return path.read_text() if path.exists() else ""

    def wait_for_line(self, name, text, count=1):
        """Until the log of a job has the text so often."""
        try:
            wait_for(lambda: self.log(name).count(text) >= count, "%r in the log" % text)
        except AssertionError as error:
            raise AssertionError("%s:\n%s" % (error, self.log(name))) from None

    def diary(self, word):
        """How often each (position, task, restarts) is in the diary with this word."""
        path = self.path / "diary"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(tuple(line.split()[1:]) for line in lines if line.split()[0] == word)

    def working(self, task, restarts):
        """Waits until a task of the array, requeued so often, has begun a step."""
        wait_for(lambda: any(entry[1:] == (str(task), str(restarts)) for entry in self.diary("begin")),
                 "a step of task %s after %s restarts" % (task, restarts))

    def unfinished(self, task, restarts):
        """Positions that this task began and did not end."""
        return [entry for entry in self.diary("begin") - self.diary("end") if entry[1:] == (str(task), str(restarts))]

    def hurry(self):
        """From now on batches take no time."""
        (self.path / "hurry").touch()

    def content(self):
        """What is the same in every run, of the audit."""
        return consumed(audit(self.path / "audit"))


@pytest.fixture
def jobs(slurm, tmp_path, pictures):
    yield Jobs(slurm, tmp_path / "checkout", pictures)
    slurm.run("scancel", "--user=root")
    wait_for(lambda: not slurm.run("squeue", "-h"), "the end of all jobs", every_s=0.2)
    slurm.wait_for_nodes("idle")


@pytest.fixture(scope="module")
def undisturbed(pictures, worker_python, tmp_path_factory):
    """The content of the audit of a run with one local worker, by its number of epochs."""
    def run(epochs):
        if epochs not in done:
            folder = tmp_path_factory.mktemp("undisturbed")
            run = finished(folder, pictures, "--workers", 1, "--worker-python", worker_python, "--audit", "audit",
                           "--epochs", epochs, **SMALL)
            assert run.code == 0, run
            done[epochs] = consumed(audit(folder / "audit"))
        return done[epochs]
    done = {}
    return run


def test_one_allocation_trains_on_two_nodes(jobs, undisturbed):
    """Slurm: one allocation of two nodes trains to its end, with workers on both"""
    job, = jobs.submit("job")
    state = jobs.slurm.wait_for_state(job, "COMPLETED", "FAILED")
    log = jobs.log("stoker-" + job)
    assert state[0] == "COMPLETED" and jobs.slurm.exit_code(job) == (0, 0), log
    assert {line["worker"].split(":")[0] for line in audit(jobs.path / "audit")} == {"n1", "n2"}
    assert jobs.content() == undisturbed(5)
    assert "0 of" not in log and "Traceback" not in log and not os.path.exists(os.path.join(
        jobs.slurm.environment["HOME"], ".stoker-slurm", job))


def test_the_exit_code_is_the_trainers(jobs):
    """Slurm: a trainer that fails gives its exit code to the job"""
    job, = jobs.submit("job", ("--epochs 5", "--epochs none"))
    state = jobs.slurm.wait_for_state(job, "COMPLETED", "FAILED")
    assert state[0] == "FAILED" and jobs.slurm.exit_code(job) == (2, 0), jobs.log("stoker-" + job)


def test_a_run_goes_on_after_its_time_limit(jobs, undisturbed):
    """Slurm: before the time limit the trainer writes a checkpoint; the requeued job goes on from it"""
    job, = jobs.submit("time limit", **OWN_OPTIONS)
    jobs.wait_for_line("stoker-" + job, "joined", 2)
    wait_for(lambda: len(jobs.diary("end")) > 5, "some steps")
    jobs.slurm.run("scancel", "--batch", "--signal=USR1", job)      # as Slurm does it at the time of --signal
    jobs.wait_for_line("stoker-" + job, "the job is requeued")
    jobs.hurry()
    jobs.wait_for_line("stoker-" + job, "going on from step ")
    state = jobs.slurm.wait_for_state(job, "COMPLETED", "FAILED")
    assert state[0] == "COMPLETED" and jobs.slurm.exit_code(job) == (0, 0), jobs.log("stoker-" + job)
    assert "going on from step 0 " not in jobs.log("stoker-" + job)
    assert jobs.content() == undisturbed(5)


def test_an_array_beside_a_trainer(jobs, undisturbed):
    """Slurm: an array beside a trainer: scancel, preemption and requeue drain a task, a killed node loses its own"""
    array, trainer = jobs.submit("array", **OWN_OPTIONS)
    name, log = {task: "%s_%d" % (array, task) for task in (1, 2, 3)}, "stoker-" + trainer
    for task in (1, 2, 3):
        jobs.working(task, 0)
    # a node without the trainer is gone from one moment to the next; Slurm finds that out while other things happen
    own, nodes = jobs.slurm.node(trainer), {task: jobs.slurm.node(name[task]) for task in name}
    lost, = (task for task in name if nodes[task] != own)      # the trainer's node has room for two tasks
    cancelled, requeued = (task for task in name if task != lost)
    jobs.slurm.kill_node(nodes[lost])
    jobs.wait_for_line(log, "lost")
    # cancelled: its step is done, and it is gone
    jobs.slurm.run("scancel", name[cancelled])
    jobs.slurm.wait_for_state(name[cancelled], "CANCELLED")
    assert not jobs.unfinished(cancelled, 0)
    # requeued: likewise, and it comes back
    jobs.slurm.run("scontrol", "requeue", name[requeued])
    jobs.working(requeued, 1)
    assert not jobs.unfinished(requeued, 0)
    jobs.working(lost, 1)
    jobs.slurm.start_node(nodes[lost])
    # preempted by a job that needs its place
    node = jobs.slurm.node(name[requeued])
    jobs.slurm.run("sbatch", "--partition=main", "--nodelist=" + node, "--cpus-per-task=%d" % (2 if node == own else 4),
                   "--output=/dev/null", "--wrap=sleep 1")
    jobs.working(requeued, 2)
    assert not jobs.unfinished(requeued, 1)
    assert "of draining: killed" not in "".join(jobs.log("stoker-workers-" + one) for one in name.values())
    jobs.hurry()
    state = jobs.slurm.wait_for_state(trainer, "COMPLETED", "FAILED")
    assert state[0] == "COMPLETED" and jobs.slurm.exit_code(trainer) == (0, 0), jobs.log(log)
    for task in (lost, requeued):           # the run is over, and the workers have found that out
        jobs.slurm.wait_for_state(name[task], "COMPLETED")
    assert jobs.content() == undisturbed(20)
