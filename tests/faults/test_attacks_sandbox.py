"""A picture takes over the process that decodes it: what the sandbox lets it do, and that it costs nothing else."""

import json
import os
import re
import shutil
import socket
import sys

import numpy as np
import pytest

from stoker.workers import landlock
from tests.support.processes import (
    Log, opened, python_with_path, supervisor_pids, wait_for, worker_pids, workers_program)

TAKEN_OVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "taken_over")
OPTIONS = dict(image_size=8, batch_size=8, epochs=2)


def version():
    try:
        return landlock.version()
    except landlock.Unavailable:
        return 0


needs_landlock = pytest.mark.skipif(version() < 6, reason="this kernel has no Landlock, or an old one")


@pytest.fixture
def secrets(tmp_path, pictures):
    """What an attacker wants, and what each attempt is called."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id").write_text("secret")
    data = tmp_path / "data"
    shutil.copytree(pictures, str(data))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(5)
        yield data, {
            "the user's ssh key": ("read", str(home / ".ssh" / "id")),
            "the same, in another thread": ("other thread", str(home / ".ssh" / "id")),
            "/etc/shadow": ("read", "/etc/shadow"),
            "the user's folder": ("list", str(home)),
            "a file at home": ("write", str(home / "new")),
            "a file among the data": ("write", str(data / "left" / "new.jpg")),
            "a picture of the data": ("remove", str(data / "left" / "000.jpg")),
            "a file in /tmp": ("write", "/tmp/stoker-test-%d" % os.getpid()),
            "Stoker's code": ("write", os.path.join(os.path.dirname(landlock.__file__), "new.py")),
            "a shell": ("run", "/bin/sh"),
            "another port": ("connect", other.getsockname()[1]),
            "a port of its own": ("listen", 0),
            "SIGKILL to the trainer": ("kill", os.getpid()),
            "the trainer's environment": ("trace", os.getpid()),
        }


def results(text):
    return dict(json.loads(line) for line in re.findall(r"^ATTACK (.*)$", text, re.MULTILINE))


def content_of(run):
    run.take_all()
    return run.content()


@needs_landlock
@pytest.mark.parametrize("python", ["trainer", "workers"])
def test_a_worker_that_a_picture_takes_over_can_do_nothing(secrets, tmp_path, monkeypatch, worker_python, attacks, python):
    data, attempts = secrets
    monkeypatch.setenv("ATTACKS", json.dumps(attempts))
    script = python_with_path(tmp_path, TAKEN_OVER, None if python == "trainer" else worker_python)
    with opened(str(data), tmp_path / "audit", workers=1, worker_python=script, **OPTIONS) as run:
        attacked = content_of(run)
        found = results(run.printed())
        line, = run.log.having("has a sandbox: ")
        assert "reads %s, Python; writes nothing; starts no program but Python" % data in line
    assert {name: found.get(name) for name in attempts if not str(found.get(name)).startswith("refused: ")} == {}
    monkeypatch.delenv("ATTACKS")
    with opened(str(data), tmp_path / "other-audit", workers=1, sandbox="off",
                worker_python=None if python == "trainer" else worker_python, **OPTIONS) as run:
        assert content_of(run) == attacked
        assert run.log.having("sandbox") == []
    attacks("a picture that takes over its worker", "reads an ssh key, /etc/shadow, the trainer's environment; writes into "
            "data, home and /tmp; runs a shell; connects to another port, listens, sends signals",
            "each is refused (Landlock), in all threads; the run goes on with the same bytes")


@needs_landlock
def test_without_the_sandbox_it_can(secrets, tmp_path, monkeypatch):
    """So the attempts above are worth something."""
    data, attempts = secrets
    del attempts["SIGKILL to the trainer"], attempts["Stoker's code"], attempts["a file in /tmp"]
    monkeypatch.setenv("ATTACKS", json.dumps(attempts))
    script = python_with_path(tmp_path, TAKEN_OVER)
    with opened(str(data), tmp_path / "audit", workers=1, worker_python=script, sandbox="off", on_bad_image="skip",
                **OPTIONS) as run:
        run.take(2)
        found = results(run.printed())
    assert {name for name, result in found.items() if result == "done"} == set(attempts), found


@needs_landlock
@pytest.mark.parametrize("options", [["--data", "{data}"], []], ids=["data known", "only by the job"])
def test_a_worker_that_is_started_by_hand(secrets, tmp_path, monkeypatch, worker_python, options):
    data, attempts = secrets
    if not options:         # then other threads can read
        del attempts["the same, in another thread"]
    monkeypatch.setenv("ATTACKS", json.dumps(attempts))
    script = python_with_path(tmp_path, TAKEN_OVER, worker_python)
    with opened(str(data), tmp_path / "audit", workers=0, **OPTIONS) as run, workers_program(
            run.stream.address, "--processes", "1", *[option.format(data=data) for option in options],
            python=script) as workers:
        run.take_all()
        workers.wait_for_line("a sandbox: reads ")
        found = results(workers.text)
    assert {name: found.get(name) for name in attempts if not str(found.get(name)).startswith("refused: ")} == {}
