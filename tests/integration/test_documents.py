"""The commands of docs/HOSTS.md, word for word but for the names of hosts, ports, folders and interpreters."""

import os
import shutil
import signal
import subprocess
import sys

from tests.support.documents import ROOT, block
from tests.support.processes import free_port, interpreter, wait_for


def test_several_hosts(pictures, tmp_path):
    """Keys, a trainer without local workers, and workers that connect with a copy of their keys."""
    port, python = str(free_port()), interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable
    trainer_host, worker_host = tmp_path / "trainer", tmp_path / "worker"
    for host in (trainer_host, worker_host):
        host.mkdir()
    os.symlink(pictures, str(trainer_host / "photos"))
    environment = dict(os.environ, PYTHONPATH=ROOT, STOKER_EPOCHS="1", STOKER_BATCH_SIZE="32", STOKER_IMAGE_SIZE="32")

    def start(host, name, *changes):
        commands = block("docs/HOSTS.md", "hosts: " + name)
        for old, new in ((".venv/trainer/bin/python", sys.executable),) + changes + (("5555", port),):
            commands = commands.replace(old, new)
        output = open(str(host / (name + ".log")), "wb")
        return subprocess.Popen(["sh", "-e", "-c", commands], cwd=str(host), env=environment, stdout=output,
                                stderr=output, start_new_session=True)

    def log(host, name):
        return (host / (name + ".log")).read_text()

    assert start(trainer_host, "make keys").wait(60) == 0
    shutil.copytree(str(trainer_host / "keys" / "workers" / "alpha"), str(worker_host / "alpha"))
    started = [start(trainer_host, "trainer"),
               start(worker_host, "workers", ("python -m", python + " -m"), ("TRAINER-HOST", "127.0.0.1"),
                     ("/mnt/photos", pictures))]
    try:
        trainer, workers = started
        assert trainer.wait(120) == 0, log(trainer_host, "trainer")
        assert "done after step 3:" in log(trainer_host, "trainer")
        wait_for(lambda: "is over: all steps are done" in log(worker_host, "workers"), "the end of the run")
        assert workers.poll() is None                   # they wait for the next trainer
        os.killpg(workers.pid, signal.SIGTERM)
        assert workers.wait(20) in (0, -signal.SIGTERM)
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        print(log(trainer_host, "trainer"), log(worker_host, "workers"))
