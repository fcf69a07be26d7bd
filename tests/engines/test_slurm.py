"""deploy/slurm and the commands of docs/SLURM.md, word for word, on a Slurm of two virtual nodes."""

import os
from collections import Counter

import pytest

from tests.engines.slurm import START_S, Cluster, links_to_checkout
from tests.support.documents import block
from tests.support.processes import ROOT, Program, opened, wait_for
from tests.support.training import audit, consumed

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
#: What the generator image makes, as a function of the user's own.
BATCHES = '''
import numpy as np
import stoker

@stoker.batch({"images": ("uint8", (16, 16, 3)), "labels": ("int32", (1,))})
def batch(samples, random):
    return {"images": np.array([sample.image(size=(16, 16)) for sample in samples]),
            "labels": [[sample.label] for sample in samples]}
'''
#: The options of the runs, as variables, because the document's commands stay as they are.
SMALL = {"STOKER_BATCH_SIZE": "8", "STOKER_VALIDATION_SPLIT": "0", "STOKER_IMAGE_SIZE": "16", "STOKER_DECODE": "exact"}
STEPS = 120 // 8        # of an epoch
OWN_OPTIONS = {"STOKER_GENERATOR": "own:slow", "WORKER_OPTIONS": "--allow-generator own:slow"}


NEEDS = pytest.mark.needs("namespaces", "slurm")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
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
            wait_for(lambda: self.log(name).count(text) >= count, "%r in the log" % text, START_S)
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
                 "a step of task %s after %s restarts" % (task, restarts), START_S)

    def unfinished(self, task, restarts):
        """Positions that this task began and did not end."""
        return [entry for entry in self.diary("begin") - self.diary("end") if entry[1:] == (str(task), str(restarts))]

    def hurry(self):
        """From now on batches take no time."""
        (self.path / "hurry").touch()

    def hosts(self, begin=0):
        """The names of the hosts whose batches are in the audit, or in its lines from ``begin`` on."""
        return {line["worker"].split(":")[0] for line in audit(self.path / "audit")[begin:]}

    def ends_well(self, job):
        """Waits for the end of a job of job.sh, which must have the exit code 0."""
        state = self.slurm.wait_for_state(job, "COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT")[0]
        assert state == "COMPLETED" and self.slurm.exit_code(job) == (0, 0), self.log("stoker-" + job)

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
    """A function: the content of the audit of so many epochs with one local worker."""
    with opened(pictures, tmp_path_factory.mktemp("undisturbed") / "audit", workers=1, worker_python=worker_python,
                epochs=20, batch_size=8, image_size=16, decode="exact") as run:
        run.take_all()
    content = run.content()
    return lambda epochs: content[:epochs * STEPS]


@NEEDS
def test_one_allocation_trains_on_two_nodes(jobs, undisturbed):
    """Slurm: one allocation of two nodes: one is killed, the job is requeued, goes on and trains to its end"""
    job, = jobs.submit("job", STOKER_CHECKPOINT_SECS="1", **OWN_OPTIONS)
    log = "stoker-" + job
    jobs.wait_for_line(log, "joined", 4)
    wait_for(lambda: jobs.hosts() == {"n1", "n2"}, "steps of both nodes")
    jobs.slurm.kill_node("n2")
    jobs.wait_for_line(log, "lost", 2)                  # the run goes on with the other node, until Slurm finds it out
    wait_for(lambda: jobs.hosts(-3) == {"n1"}, "further steps")
    jobs.slurm.mark_down("n2")
    jobs.hurry()
    jobs.slurm.start_node("n2")
    jobs.wait_for_line(log, "going on from step ")
    jobs.ends_well(job)
    assert jobs.content() == undisturbed(5)
    assert "Traceback" not in jobs.log(log)
    assert not os.path.exists(os.path.join(jobs.slurm.environment["HOME"], ".stoker-slurm", job))


@NEEDS
def test_the_exit_code_is_the_trainers(jobs):
    """Slurm: a trainer that fails gives its exit code to the job"""
    job, = jobs.submit("job", ("--epochs 5", "--epochs none"))
    state = jobs.slurm.wait_for_state(job, "COMPLETED", "FAILED")
    assert state[0] == "FAILED" and jobs.slurm.exit_code(job) == (2, 0), jobs.log("stoker-" + job)


@NEEDS
def test_functions_of_the_users_own(jobs, undisturbed):
    """Slurm: a function in the folder from which the job is submitted makes the batches"""
    (jobs.path / "batches.py").write_text(BATCHES)
    job, = jobs.submit("own functions")
    jobs.ends_well(job)
    assert jobs.content() == undisturbed(5)


@NEEDS
def test_a_run_goes_on_after_its_time_limit(jobs, undisturbed):
    """Slurm: before the time limit the trainer writes a checkpoint; the requeued job goes on from it"""
    job, = jobs.submit("time limit", **OWN_OPTIONS)
    jobs.wait_for_line("stoker-" + job, "joined", 2)
    wait_for(lambda: len(jobs.content()) > 5, "some steps")
    jobs.slurm.run("scancel", "--batch", "--signal=USR1", job)      # as Slurm does it at the time of --signal
    jobs.wait_for_line("stoker-" + job, "the job is requeued")
    jobs.hurry()
    jobs.wait_for_line("stoker-" + job, "going on from step ")
    jobs.ends_well(job)
    assert jobs.content() == undisturbed(5)


@NEEDS
def test_an_array_beside_a_trainer(jobs, undisturbed):
    """Slurm: tasks of an array are cancelled, requeued, preempted: each ends its step; the trainer's node is killed"""
    array, trainer = jobs.submit("array", STOKER_CHECKPOINT_SECS="1", **OWN_OPTIONS)
    first, second, third = ("%s_%d" % (array, task) for task in (1, 2, 3))
    for task in (1, 2, 3):
        jobs.working(task, 0)
    jobs.slurm.run("scancel", first)
    jobs.slurm.run("scontrol", "requeue", second)
    jobs.slurm.wait_for_state(first, "CANCELLED")
    jobs.working(2, 1)
    assert not jobs.unfinished(1, 0) and not jobs.unfinished(2, 0)
    # preempted by a job that needs its place
    node, own = jobs.slurm.node(second), jobs.slurm.node(trainer)
    jobs.slurm.run("sbatch", "--partition=main", "--nodelist=" + node, "--cpus-per-task=%d" % (2 if node == own else 4),
                   "--output=/dev/null", "--wrap=sleep 1")
    jobs.working(2, 2)
    assert not jobs.unfinished(2, 1)
    assert "of draining: killed" not in "".join(jobs.log("stoker-workers-" + one) for one in (first, second, third))
    # its health check finds that the trainer's node is gone: Slurm starts it on the other, and the workers follow it
    jobs.slurm.kill_node(own)
    jobs.slurm.mark_down(own)
    jobs.wait_for_line("stoker-" + trainer, "going on from step ")
    jobs.slurm.start_node(own)
    assert jobs.slurm.node(trainer) != own
    done = len(jobs.content())
    wait_for(lambda: len(jobs.content()) > done + 5, "steps of workers that have followed", 120)
    jobs.hurry()
    jobs.ends_well(trainer)
    for task in (second, third):            # the run is over, and the workers have found that out
        jobs.slurm.wait_for_state(task, "COMPLETED")
    assert jobs.content() == undisturbed(20)


@NEEDS
def test_as_many_tasks_as_the_trainer_wants(jobs, undisturbed):
    """Slurm: tasks are submitted until there are as many as the trainer wants, and end with the run"""
    trainer, = jobs.submit("scale", **OWN_OPTIONS)
    jobs.wait_for_line("stoker-" + trainer, "joined", 4)
    jobs.hurry()
    jobs.ends_well(trainer)
    wait_for(lambda: not jobs.slurm.run("squeue", "-h"), "the end of all tasks", every_s=0.2)
    assert jobs.content() == undisturbed(20)


#: In place of curl and of Slurm's commands. The file ``status`` is the trainer's answer; ``tasks`` has a line per task.
FAKES = {
    "curl": 'cat "$FAKES/status"',
    "squeue": 'cat "$FAKES/tasks"',
    "sbatch": """
        for word in "$@"; do case $word in --array=1-*) count=${word#--array=1-} ;; esac; done
        echo "$*" >>"$FAKES/submitted"
        for _ in $(seq "$count"); do echo "PD new_$(wc -l <"$FAKES/tasks")" >>"$FAKES/tasks"; done""",
    "scancel": 'echo "$1" >>"$FAKES/cancelled"; sed -i "/ $1$/d" "$FAKES/tasks"'}


def test_scaling_up_and_down(tmp_path):
    """Slurm: scale.sh submits as many tasks as are wanted, and cancels those first that still wait"""
    def wanted(count, over="false"):
        text = '{"run": "ab", "over": %s, "workers": {"wanted": %d, "min": 1,\n "max": 8}}' % (over, count)
        (tmp_path / "new").write_text(text)
        os.replace(str(tmp_path / "new"), str(tmp_path / "status"))

    def tasks():
        return (tmp_path / "tasks").read_text().splitlines()
    for name, text in FAKES.items():
        (tmp_path / name).write_text("#!/bin/sh\n" + text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "tasks").write_text("R 7_1\nR 7_2\n")
    with Program([os.path.join(ROOT, "deploy/slurm/scale.sh"), "http://127.0.0.1:1/status.json", "--partition=cheap"],
                 "/bin/sh", FAKES=str(tmp_path), TRAINER_JOB="7", DATA="photos", PROCESSES="2", EVERY_S="0.1",
                 PATH="%s:%s" % (tmp_path, os.environ["PATH"])) as program:
        wanted(7)                                                   # of two processes each: four tasks
        wait_for(lambda: len(tasks()) == 4, "two more tasks")
        assert (tmp_path / "submitted").read_text() == (
            "--job-name=stoker-workers-7 --array=1-2 --cpus-per-task=2 --partition=cheap deploy/slurm/workers.sh\n")
        wanted(1)
        wait_for(lambda: len(tasks()) == 1, "three tasks less")
        assert (tmp_path / "cancelled").read_text().split() == ["new_2", "new_3", "7_1"] and program.running()
        wanted(0, "true")
        assert program.wait() == 0 and tasks() == ["R 7_2"], program.text
