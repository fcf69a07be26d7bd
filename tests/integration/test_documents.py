"""The commands of docs/HOSTS.md, word for word but for the names of hosts, ports, folders and interpreters."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support.documents import ROOT, block
from tests.support.processes import consecutive_ports, interpreter, wait_for


class Hosts:
    """The folders of a trainer's host and of a worker host, in which blocks of the document are typed."""

    def __init__(self, path, pictures):
        self.trainer, self.worker = path / "trainer", path / "worker"
        for host in (self.trainer, self.worker):
            host.mkdir()
        os.symlink(pictures, str(self.trainer / "photos"))
        self._port = consecutive_ports(4)
        self._python = (interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable) + " -m"
        self._pictures, self._started = pictures, []

    def make_keys(self):
        """On the trainer's host; the worker host gets a copy of its own."""
        assert self.start(self.trainer, "make keys").wait(60) == 0
        shutil.copytree(str(self.trainer / "keys" / "workers" / "alpha"), str(self.worker / "alpha"))

    def start_workers(self, name):
        return self.start(self.worker, name, ("python -m", self._python), ("TRAINER-HOST", "127.0.0.1"),
                          ("/mnt/photos", self._pictures))

    def start(self, host, name, *changes, port=0, log=None, **environment):
        """Types a block. ``port``: which of the four ports is the trainer's."""
        commands = block("docs/HOSTS.md", "hosts: " + name)
        for old, new in ((".venv/trainer/bin/python", sys.executable),) + changes:
            commands = commands.replace(old, new)
        commands = re.sub(r"555\d", lambda found: str(int(found.group()) - 5555 + self._port + port), commands)
        environment = dict(os.environ, PYTHONPATH=ROOT, STOKER_EPOCHS="1", STOKER_BATCH_SIZE="32",
                           STOKER_IMAGE_SIZE="32", **environment)
        with open(str(host / ((log or name) + ".log")), "wb") as output:
            self._started.append(subprocess.Popen(["sh", "-e", "-c", commands], cwd=str(host), env=environment,
                                                  stdout=output, stderr=output, start_new_session=True))
        return self._started[-1]

    def end(self):
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for host in (self.trainer, self.worker):
            for path in sorted(host.glob("*.log")):
                print("--- %s\n%s" % (path.name, path.read_text()))


@pytest.fixture
def hosts(tmp_path, pictures):
    made = Hosts(tmp_path, pictures)
    yield made
    made.end()


def assert_they_wait_for_the_next_run(hosts, workers, name, runs):
    """They have served so many runs, and end when they are told to."""
    wait_for(lambda: (hosts.worker / (name + ".log")).read_text().count("is over: all steps are done") >= runs,
             "the end of %d runs" % runs)
    assert workers.poll() is None
    os.killpg(workers.pid, signal.SIGTERM)
    assert workers.wait(20) in (0, -signal.SIGTERM)


def test_several_hosts(hosts):
    """Keys, a trainer without local workers, and workers that connect with a copy of their keys."""
    hosts.make_keys()
    trainer, workers = hosts.start(hosts.trainer, "trainer"), hosts.start_workers("workers")
    assert trainer.wait(120) == 0
    assert "done after step 3:" in (hosts.trainer / "trainer.log").read_text()
    assert_they_wait_for_the_next_run(hosts, workers, "workers", 1)


def test_one_fleet_for_several_trainers(hosts):
    """The same workers serve trainers at the first and the last of four ports, with copies of one folder of keys."""
    hosts.make_keys()
    workers = hosts.start_workers("one fleet")
    trainers = [hosts.start(hosts.trainer, "trainer", port=port, log="trainer-%d" % port,
                            STOKER_CHECKPOINT_DIR="runs/%d" % port) for port in (0, 3)]
    for trainer, port in zip(trainers, (0, 3)):
        assert trainer.wait(120) == 0
        assert "done after step 3:" in (hosts.trainer / ("trainer-%d.log" % port)).read_text()
    assert_they_wait_for_the_next_run(hosts, workers, "one fleet", 2)
