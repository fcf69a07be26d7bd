"""stoker-ray with real Ray: a cluster whose autoscaler starts and stops nodes of one CPU, and a trainer on Python 3.6
outside of it. Every audit must be that of a run with one local worker."""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time

import psutil
import pytest

from tests.engines.namespaces import Namespaces, only_child
from tests.engines.needs import python_of
from tests.engines.ray_cluster import NODES, Cluster
from tests.integration.conftest import draw
from tests.support.documents import block
from tests.support.processes import Program, alive, command_line, kill, opened, wait_for, worker_pids

pytestmark = pytest.mark.needs("namespaces", "environment ray")
GUIDE = "docs/RAY.md"
LIMIT_S = 240.0             # for all that waits for nodes of the cluster
BATCH, PICTURES, EPOCHS = 8, 120, 100      # 1500 steps: no run is over before all nodes are there
WORK_S = 0.3                # of a batch, at least: so a worker needs no core of this machine
SLOW_S, QUICK_S = 0.6, 0.04     # of a step: for one worker; for three, and more on a quick machine
HURRY = "/mnt/hurry"        # a file in the namespaces: while it is there, a batch takes only its work
STATUS = "127.0.0.1:8266"

#: A module of the user's own, and the trainer's program: its pace is what a file says. It tells what its status says.
FUNCTIONS = """
from __future__ import generator_stop

import os
import time

from stoker.workers.generators import pictures


def my_function(leases, job):
    def delayed():
        for lease in leases:
            time.sleep(0 if os.path.exists("%s") else %g)
            yield lease
    yield from pictures.image(delayed(), job)
""" % (HURRY, WORK_S)
TRAINER = """
import json, logging, sys, threading, time, urllib.request
import stoker
logging.basicConfig(level=logging.INFO, format="%(message)s")
pace, arguments = sys.argv[1], json.loads(sys.argv[2])

def tell():
    told, page = None, urllib.request.Request("http://%s/status.json" % arguments["status"])
    if "status_token_file" in arguments:
        with open(arguments["status_token_file"]) as file:
            page.add_header("Authorization", "Bearer " + file.read().strip())
    while True:
        with urllib.request.urlopen(page, timeout=10) as answer:
            workers = json.loads(answer.read().decode())["workers"]
        if told != (workers["wanted"], workers["ready"]):
            told = workers["wanted"], workers["ready"]
            print("status: wanted %d ready %d" % told, flush=True)
        time.sleep(0.05)

with stoker.open_stream(**arguments) as stream:
    threading.Thread(target=tell, daemon=True).start()
    for batch in stream:
        print("step", batch.step, flush=True)
        with open(pace) as file:
            time.sleep(float(file.read()))
print("end", flush=True)
"""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of JPEGs in two classes."""
    root = str(tmp_path_factory.mktemp("pictures"))
    draw(root, "jpg", PICTURES, (48, 64))
    return root


@pytest.fixture(scope="session")
def folder():
    """Of the cluster. Its path is short: sockets lie in it."""
    path = tempfile.mkdtemp(prefix="stoker-ray-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(folder, pictures, figures):
    """A Ray cluster for all tests. Its host is named trainer, has the pictures in /mnt/photos, and the programs of
    Stoker in its PATH."""
    with Namespaces("10.79.0.1/24", "trainer") as apart:
        hosts = os.path.join(folder, "hosts")
        with open(hosts, "w") as file:
            file.write("127.0.0.1 localhost\n10.79.0.1 trainer\n")
        apart.run("sh", "-ec", 'mount --bind "$1" /etc/hosts; mount -t tmpfs none /mnt; mkdir /mnt/photos; '
                  'mount --bind "$2" /mnt/photos', "sh", hosts, pictures)
        made = Cluster(apart, folder)
        figures("Ray: the cluster started in %.1f s" % made.start_s)
        made.add_command("stoker-ray", python_of("ray"), "stoker.workers.ray_launcher")
        made.add_command("stoker-train", sys.executable, "stoker.trainer.__main__")
        made.add_command("stoker-keys", sys.executable, "stoker.pipeline.transport.keys")
        yield made


@pytest.fixture(scope="session")
def functions(tmp_path_factory):
    """A folder with the module ``my_module`` of the user's own."""
    path = tmp_path_factory.mktemp("functions")
    (path / "my_module.py").write_text(FUNCTIONS)
    return path


@pytest.fixture(scope="session")
def undisturbed(pictures, tmp_path_factory):
    """The steps of an undisturbed run, with one local worker on the Python of the cluster."""
    with opened(pictures, tmp_path_factory.mktemp("undisturbed") / "audit", workers=1, worker_python=python_of("ray"),
                image_size=32, batch_size=BATCH, epochs=EPOCHS, seed=3, decode="exact") as run:
        run.take_all()
        return run.content()


def content(audit):
    """(step, epoch, indices, crc32) of each line of an audit."""
    with open(str(audit)) as lines:
        return [(entry["step"], entry["epoch"], entry["indices"], entry["crc32"]) for entry in map(json.loads, lines)]


class Trainer:
    """A trainer in the cluster's network, without local workers, that writes its audit to ``folder``."""

    def __init__(self, cluster, folder, functions, epochs, **arguments):
        self._pace, self.audit, self._apart = str(folder / "pace"), str(folder / "audit"), cluster.apart
        self.pace(SLOW_S)
        self._apart.run("rm", "-f", HURRY)
        options = dict(data="/mnt/photos", generator="my_module:my_function", image_size=32, batch_size=BATCH, seed=3,
                       epochs=epochs, decode="exact", workers=0, audit=self.audit, status=STATUS, max_workers=NODES,
                       bind="tcp://127.0.0.1:5555")
        options.update(arguments)
        nsenter, *command = cluster.apart.command(sys.executable, "-c", TRAINER, self._pace, json.dumps(options),
                                                  cwd=str(functions))
        self.program = Program(command, nsenter)

    def pace(self, seconds):
        """Of the steps from now on."""
        with open(self._pace + ".new", "w") as file:
            file.write("%g" % seconds)
        os.rename(self._pace + ".new", self._pace)

    def seconds_until(self, pattern, since=0):
        """Waits for a line after the first ``since``; how long that took."""
        began = time.monotonic()
        wait_for(lambda: any(re.search(pattern, line) for line in self.program.lines[since:])
                 or not self.program.running(), pattern, LIMIT_S)
        assert self.program.running(), self.program.text
        return time.monotonic() - began

    def wait_for_steps(self, count):
        """Until so many more steps are done."""
        since = len(self.program.lines)
        wait_for(lambda: sum(line.startswith("step ") for line in self.program.lines[since:]) >= count
                 or not self.program.running(), "%d steps" % count, LIMIT_S)
        assert self.program.running(), self.program.text

    def to_the_end(self):
        """Without pauses of trainer and workers."""
        self._apart.run("touch", HURRY)
        self.pace(0)
        assert self.program.wait(LIMIT_S) == 0, self.program.text

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        print("--- the trainer\n" + "\n".join(line for line in self.program.lines if not line.startswith("step ")))
        for pid in psutil.Process(self.program.pid).children(recursive=True) if self.program.running() else ():
            pid.kill()
        self.program.__exit__()


class Launcher:
    """``stoker-ray``, started in the folder of the user's functions."""

    def __init__(self, cluster, functions, *options, worker=("--allow-generator", "my_module:my_function")):
        command = ["stoker-ray", "--status", STATUS, "--working-dir", ".", *options, "--", *worker]
        nsenter, *command = cluster.apart.command(*command, cwd=str(functions))
        self.program = Program(command, nsenter, **cluster.environment)
        self._apart = cluster.apart

    def wait_for_line(self, pattern, count=1):
        """With the patience that a cluster needs."""
        wait_for(lambda: len([line for line in self.program.lines if re.search(pattern, line)]) >= count
                 or not self.program.running(), "%d lines with %s" % (count, pattern), LIMIT_S)
        return self.program.wait_for_line(pattern, count)

    def send_signal(self, signum):
        """To the launcher alone."""
        os.kill(only_child(self.program.pid), signum)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        print("--- the launcher\n" + self.program.text)
        if self.program.running():
            self.send_signal(signal.SIGKILL)
        self.program.__exit__()
        wait_for(lambda: not worker_pids(self._apart.pid), "the end of the workers")


def test_the_places_follow_the_trainer(cluster, tmp_path, functions, undisturbed, figures):
    """Ray: the trainer's pace changes: 1 -> 3 places on new nodes, -> 1, -> 3 on nodes that are there, -> 0"""
    with Trainer(cluster, tmp_path, functions, EPOCHS) as trainer, Launcher(cluster, functions) as launcher:
        figures("Ray: 0 -> 1 place on a new node: %.1f s from the launcher's start to the worker at the trainer"
                % trainer.seconds_until("status: wanted 1 ready 1"))
        trainer.wait_for_steps(6)
        for pace, wanted, name in ((QUICK_S, 3, "1 -> 3 places on new nodes"), (SLOW_S, 1, "3 -> 1 places"),
                                   (QUICK_S, 3, "1 -> 3 places on nodes that are there")):
            since = len(trainer.program.lines)
            trainer.pace(pace)
            until_wanted = trainer.seconds_until("status: wanted %d" % wanted, since)
            figures("Ray: %s: the trainer wants them after %.1f s, all are there after %.1f s more" % (
                name, until_wanted, trainer.seconds_until("status: wanted %d ready %d$" % (wanted, wanted), since)))
            launcher.wait_for_line("%d places? wanted: %d running$" % (wanted, wanted))
            trainer.wait_for_steps(3)
        trainer.to_the_end()
        assert launcher.program.wait() == 0 and "stoker-ray: the run is over" in launcher.program.lines
    assert content(trainer.audit) == undisturbed
    assert not worker_pids(cluster.apart.pid)


def test_a_node_and_a_worker_are_killed(cluster, tmp_path, functions, undisturbed):
    """Ray: a node is killed, and its place comes back on another one; a worker is killed"""
    with Trainer(cluster, tmp_path, functions, EPOCHS, min_workers=2) as trainer, Launcher(
            cluster, functions) as launcher:
        launcher.wait_for_line("2 places wanted: 2 running")
        trainer.seconds_until("ready 2")
        workers = worker_pids(cluster.apart.pid)
        assert len(workers) == 2
        kill(workers[0])
        launcher.wait_for_line(r"place \d on trainer: stoker-worker: worker 0 ended with SIGKILL")
        wait_for(lambda: len(worker_pids(cluster.apart.pid)) == 2, "another worker")
        node = raylet_of(workers[1])
        kill(node)
        launcher.wait_for_line("was lost: it starts again where there is room")
        wait_for(lambda: not alive(workers[1]), "the end of the worker of the killed node")
        launcher.wait_for_line("2 places wanted: 2 running", 2)
        wait_for(lambda: len(worker_pids(cluster.apart.pid)) == 2, "the worker on another node", LIMIT_S)
        trainer.wait_for_steps(5)
        trainer.to_the_end()
        assert launcher.program.wait() == 0
    assert content(trainer.audit) == undisturbed


def raylet_of(pid):
    """The process of Ray that stands for the node on which the process runs."""
    return next(parent.pid for parent in psutil.Process(pid).parents() if parent.name() == "raylet")


def test_the_launcher_ends(cluster, tmp_path, functions, undisturbed):
    """Ray: SIGKILL, Ctrl-C, SIGTERM of the launcher: no worker stays; the trainer is killed and goes on: they stay"""
    with Trainer(cluster, tmp_path, functions, EPOCHS) as trainer:
        for signum in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            with Launcher(cluster, functions) as launcher:
                launcher.wait_for_line("1 place wanted.*: 1 running")
                launcher.wait_for_line("connected to run")
                trainer.wait_for_steps(2)
                launcher.send_signal(signum)
                wait_for(lambda: not launcher.program.running(), "the end of the launcher")
                wait_for(lambda: not worker_pids(cluster.apart.pid), "the end of the workers")
                if signum != signal.SIGKILL:
                    assert launcher.program.wait() == 0
                    assert not any("killed" in line for line in launcher.program.lines), "a step was not finished"
        with Launcher(cluster, functions) as launcher:
            launcher.wait_for_line("connected to run")
            workers = worker_pids(cluster.apart.pid)
            trainer.wait_for_steps(2)
            kill(only_child(trainer.program.pid))
            launcher.wait_for_line("no answer from .* its places stay for at most 300 s")
            steps = len(content(trainer.audit))
            trainer.program.wait()
            with Trainer(cluster, tmp_path, functions, EPOCHS, start_step=steps) as second:
                launcher.wait_for_line("answers again")
                second.wait_for_steps(2)
                assert worker_pids(cluster.apart.pid) == workers
                second.to_the_end()
                assert launcher.program.wait() == 0
    assert content(trainer.audit) == undisturbed


def typed(cluster, folder, commands, **environment):
    """The commands of a document, typed in this folder."""
    nsenter, *command = cluster.apart.command("sh", "-ec", commands, cwd=str(folder))
    return Program(command, nsenter, **dict(cluster.environment, **environment))


def assert_secret(cluster, folder, texts):
    """The workers' key and the token are in no file of the cluster, in no command line and in none of the texts."""
    with open(os.path.join(str(folder), "keys", "workers", "ray", "worker.key_secret"), "rb") as file:
        key = re.search(rb'secret-key = "(.{40})"', file.read()).group(1)
    with open(os.path.join(str(folder), "token"), "rb") as file:
        secrets = [key, file.read().strip()]
    arguments = [os.fsencode(command_line(pid)) for pid in psutil.pids()]
    files, count = [os.path.join(where, name) for where, _, names in os.walk(cluster.folder) for name in names], 0
    for path in files:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                content, count = file.read(), count + 1
            assert not any(secret in content for secret in secrets), path
    assert count > 20
    assert not any(secret in text for secret in secrets for text in [os.fsencode(one) for one in texts] + arguments)


def test_the_documented_commands(cluster, tmp_path, undisturbed):
    """Ray: the commands of docs/RAY.md: keys, token, trainer, launcher; the keys are in no log and no command line"""
    options = {"STOKER_EPOCHS": str(EPOCHS), "STOKER_IMAGE_SIZE": "32", "STOKER_BATCH_SIZE": str(BATCH),
               "STOKER_SEED": "3", "STOKER_DECODE": "exact", "STOKER_AUDIT": "audit", "STOKER_MIN_WORKERS": "2",
               "STOKER_VALIDATION_SPLIT": "0"}
    with typed(cluster, tmp_path, block(GUIDE, "ray: trainer"), **options) as trainer:
        wait_for(lambda: "status: http" in trainer.text or not trainer.running(), "the status address", LIMIT_S)
        with typed(cluster, tmp_path, block(GUIDE, "ray: launcher")) as launcher:
            wait_for(lambda: "connected to run" in launcher.text or not launcher.running(), "a worker", LIMIT_S)
            os.kill(next(child.pid for child in psutil.Process(launcher.pid).children(recursive=True)
                         if "stoker.workers.ray_launcher" in " ".join(child.cmdline())), signal.SIGINT)
            assert launcher.wait() == 0
        with typed(cluster, tmp_path, block(GUIDE, "ray: own functions")) as launcher:
            wait_for(lambda: "connected to run" in launcher.text or not launcher.running(), "a worker", LIMIT_S)
            actors = cluster.apart.run("ray", "list", "actors", "--detail", env=cluster.environment)
            assert "class_name: Place" in actors
            assert_secret(cluster, tmp_path, [actors, launcher.text])
            try:
                assert trainer.wait(2 * LIMIT_S) == 0 and launcher.wait() == 0
            finally:
                print("--- the trainer", trainer.text, "--- the launcher", launcher.text, sep="\n")
            assert "stoker-ray: the run is over" in launcher.lines
            assert_secret(cluster, tmp_path, [launcher.text, trainer.text])
    assert content(tmp_path / "audit") == undisturbed


def test_a_ray_job(cluster, tmp_path, functions, undisturbed):
    """Ray: a Ray Job, as in docs/RAY.md, brings Stoker and a function of the user's own; the keys are in no log"""
    made = block(GUIDE, "ray: trainer").split("stoker-train")[0]
    with typed(cluster, tmp_path, made) as keys:
        assert keys.wait() == 0
    cluster.apart.run("sh", "-ec", "mkdir /mnt/secrets; cp -a keys/workers/ray token /mnt/secrets", cwd=str(tmp_path))
    with Trainer(cluster, tmp_path, functions, EPOCHS, bind="tcp://0.0.0.0:5555", keys=str(tmp_path / "keys"),
                 status="0.0.0.0:8266", status_token_file=str(tmp_path / "token")) as trainer:
        with typed(cluster, functions, block(GUIDE, "ray: job")) as job:
            try:
                wait_for(lambda: "connected to run" in job.text or not job.running(), "a worker", LIMIT_S)
                assert job.running()
                trainer.to_the_end()
                assert job.wait(LIMIT_S) == 0
            finally:
                print("--- the job\n" + job.text)
            assert "stoker-ray: the run is over" in job.text
            assert_secret(cluster, tmp_path, [job.text, trainer.program.text])
    assert content(trainer.audit) == undisturbed


def test_wrong_options(cluster, tmp_path, functions):
    """Ray: wrong options of the workers end the launcher, with the worker's own words"""
    with Trainer(cluster, tmp_path, functions, 1), Launcher(
            cluster, functions, worker=["--data", "/there is none"]) as launcher:
        launcher.wait_for_line("there is no folder '/there is none' on this host")
        assert launcher.program.wait() == 2
        assert "stoker-ray: error: its options are wrong: place 1 on trainer: the worker ended with exit code 2" in \
            launcher.program.text


def test_no_trainer(cluster, functions):
    """Ray: a launcher without a trainer waits, and ends with a sentence"""
    with Launcher(cluster, functions, "--hold-s", "6") as launcher:
        launcher.wait_for_line(r"no answer from %s .*: waiting for its trainer" % STATUS)
        assert launcher.program.wait() == 1
        assert "error: no answer from %s for 6 s (limit: --hold-s 6), last: Connection refused" % STATUS in \
            launcher.program.text
