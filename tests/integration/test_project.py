"""A user's project whose modules have the names of Stoker's folders and of the standard library's modules."""

import os
import re
import sys
import textwrap

import pytest

from tests.support.processes import LIMIT_S, ROOT, Program, free_port, python_with_path

#: A module of these names in the project breaks every process that imports it instead of the right one.
WRONG = ("pipeline.py", "workers.py", "queue.py", "random.py", "stopwatch.py")

PROGRAM = """
import os, sys
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import trainer.task
from stoker.trainer.feed import open_stream
with open_stream(sys.argv[1], generator="mine:make", workers=int(sys.argv[2]), worker_python=sys.argv[3] or None,
                 bind=sys.argv[4], image_size=32, batch_size=16) as stream:
    print(trainer.task.NAME, len(list(stream)), "steps", flush=True)
"""

GENERATOR = """
from __future__ import generator_stop
import queue, random                    # the standard library's
from stoker.workers.generators import pictures

def make(leases, job):
    assert queue.Queue and random.Random
    yield from pictures.image(leases, job)
"""


@pytest.fixture
def project(tmp_path):
    """The project's folder; beside it a folder site-packages with Stoker, and an empty folder."""
    folder = tmp_path / "project"
    (folder / "trainer").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in WRONG:
        (folder / name).write_text("raise ImportError('the wrong %s')\n" % name)
    (folder / "trainer" / "__init__.py").write_text("")
    (folder / "trainer" / "task.py").write_text("NAME = 'my own task'\n")
    (folder / "jobs" / "train.py").write_text(textwrap.dedent(PROGRAM))
    (folder / "mine.py").write_text(textwrap.dedent(GENERATOR))
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "stoker").symlink_to(os.path.join(ROOT, "stoker"))
    # PYTHONPATH of the trainer, with a package that is broken for workers of another Python
    (tmp_path / "of-this-python" / "PIL").mkdir(parents=True)
    (tmp_path / "of-this-python" / "PIL" / "__init__.py").write_text("raise ImportError('the PIL of another Python')\n")
    (tmp_path / "elsewhere").mkdir()
    return folder


def environment(project, *folders):
    return {"PYTHONPATH": os.pathsep.join([str(project.parent / "site-packages")] + [str(each) for each in folders]),
            "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("newest", [False, True], ids=["trainer's Python", "newest Python"])
@pytest.mark.parametrize("folder", ["project", "elsewhere"])
def test_it_trains_with_local_workers(project, pictures, worker_python, newest, folder):
    # such an interpreter has what workers import, but not what a command line does
    (project.parent / "without").mkdir()
    (project.parent / "without" / "configargparse.py").write_text("raise ImportError('not installed')\n")
    script = python_with_path(project.parent, project.parent / "without", worker_python, with_stoker=False)
    command = [str(project / "jobs" / "train.py"), pictures, "2", script if newest else "", "tcp://127.0.0.1:*"]
    # a worker of the same Python is to have what is on the trainer's PYTHONPATH, as the trainer has it
    of_this_python = [project.parent / "of-this-python"] if newest and worker_python else []
    with Program(command, cwd=str(project.parent / folder), **environment(project, *of_this_python)) as program:
        assert program.wait(LIMIT_S) == 0, program.text
    assert program.lines == ["my own task 8 steps"]


def test_workers_do_not_get_pythonhome(project, pictures, worker_python, python36):
    home = os.path.dirname(os.path.dirname(os.path.realpath(python36)))
    command = [str(project / "jobs" / "train.py"), pictures, "1", worker_python or "", "tcp://127.0.0.1:*"]
    with Program(command, cwd=str(project), PYTHONHOME=home, **environment(project)) as program:
        assert program.wait(LIMIT_S) == 0, program.text


@pytest.mark.parametrize("newest", [False, True], ids=["trainer's Python", "newest Python"])
def test_workers_that_the_user_starts_in_the_project(project, pictures, worker_python, newest):
    address = "tcp://127.0.0.1:%d" % free_port()
    workers = Program(["-m", "stoker.workers", "--connect", address, "--processes", "1", "--once",
                       "--allow-generator", "mine:make"], worker_python if newest else None, cwd=str(project),
                      **environment(project))
    with workers, Program([str(project / "jobs" / "train.py"), pictures, "0", "", address], cwd=str(project),
                          **environment(project)) as program:
        assert program.wait(LIMIT_S) == 0, program.text + workers.text
        assert workers.wait(LIMIT_S) == 0, workers.text


def test_a_worker_python_that_lacks_packages_is_named(project, pictures, tmp_path):
    script = tmp_path / "bare-python"
    script.write_text('#!/bin/sh\nexec "%s" -S "$@"\n' % os.path.realpath(sys.executable))   # no site-packages
    script.chmod(0o755)
    with Program([str(project / "jobs" / "train.py"), pictures, "1", str(script), "tcp://127.0.0.1:*"],
                 cwd=str(project), **environment(project)) as program:
        assert program.wait(LIMIT_S) == 1
    wanted = "numpy>=1.16.6' 'pillow>=8.4' 'pyzmq>=25.1' 'msgpack>=1.0.5"
    assert re.search("%s cannot run workers: it has no numpy, no pillow, no pyzmq, no msgpack.*: install them with  "
                     "%s -m pip install '%s'" % (script, script, wanted), program.text), program.text
    assert program.text.count("Traceback") == 1         # the program's own
