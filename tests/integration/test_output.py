"""Output never ends a run: a reader that has gone, a closed terminal, a full disk, closed outputs, broken handlers."""

import fcntl
import logging
import os
import pty
import termios

import pytest
from PIL import Image

from tests.support.processes import Program, free_port, opened, workers_program
from tests.support.training import Trainer, audit

AUGMENT = """
import sys
def talk(picture, random):
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    return picture
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty-four pictures in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(24):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (9 * number, 90, 200)).save(str(folder / "ab"[number % 2] / ("%d.png" % number)))
    return folder


class Ends:
    """Two descriptors for a program's outputs, and what breaks them."""

    def __init__(self, kind):
        self.kind, self.kept, self.before = kind, [], None
        if kind == "terminal":
            self.kept = list(pty.openpty())
            self.output = self.errors = self.kept[1]
            self.before = lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0)      # SIGHUP comes when the other end is closed
        elif kind == "disk and reader":
            self.output = os.open("/dev/full", os.O_WRONLY)
            reader, self.errors = os.pipe()
            self.kept = [reader, self.errors, self.output]
        else:
            self.output = self.errors = None
            self.before = lambda: [os.close(fd) for fd in (0, 1, 2)]

    def lose(self):
        """The program's outputs break, if they are not broken from the start."""
        for _ in {"terminal": (1, 2), "disk and reader": (1,)}.get(self.kind, ()):
            os.close(self.kept.pop(0))

    def close(self):
        for fd in self.kept:
            os.close(fd)


@pytest.mark.parametrize("kind", ["disk and reader", "terminal", "closed"])
def test_a_training_goes_on_without_its_outputs(photos, tmp_path, kind):
    pytest.importorskip("tensorflow")
    here = tmp_path / "here"
    here.mkdir()
    (here / "talking.py").write_text(AUGMENT)
    ends = Ends(kind)
    with Trainer(here, photos, "--image-size", 8, "--batch-size", 4, "--epochs", 12, "--workers", 1, "--augment",
                 "talking:talk", "--audit", "audit.jsonl", output=ends.output, errors=ends.errors,
                 before=ends.before, PYTHONDONTWRITEBYTECODE="1") as trainer:
        trainer.wait_until(lambda: len(audit(here / "audit.jsonl")) >= 3, "a step")
        ends.lose()
        assert trainer.wait_gone() == 0
    ends.close()
    assert [line["step"] for line in audit(here / "audit.jsonl")] == list(range(60))
    if kind == "closed":        # no file of the run, or socket of it, took the place of an output, and got its lines
        for folder, _, names in os.walk(str(here)):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    assert b"to standard" not in file.read() or name == "talking.py", name


def test_workers_that_were_started_by_hand_go_on_without_their_terminal(photos, tmp_path, worker_python):
    bind = "tcp://127.0.0.1:%d" % free_port()
    first, second = pty.openpty()

    def before():
        os.dup2(second, 1), os.dup2(second, 2)
        os.setsid()
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        os.close(first)
        os.close(second)
    with workers_program(bind, "--processes", "1", "--once", python=worker_python, before=before) as program, \
            opened(str(photos), tmp_path / "audit", workers=0, bind=bind, batch_size=4, image_size=8,
                   epochs=4) as run:
        os.close(second)
        run.take(3)
        os.close(first)                          # SIGHUP; from now on each line is an EIO
        run.take_all()
        run.stream.close()
        assert program.wait() == 0
    assert len(run.content()) == 24


def test_a_log_handler_that_raises(photos, tmp_path, worker_python, capsys):
    class Broken(logging.Handler):
        def emit(self, record):
            raise ValueError("this handler is broken")
    handler = Broken()
    logging.getLogger("stoker").addHandler(handler)
    try:
        with opened(str(photos), tmp_path / "audit", workers=1, worker_python=worker_python, batch_size=4,
                    image_size=8) as run:
            run.take_all()
    finally:
        logging.getLogger("stoker").removeHandler(handler)
    assert len(run.content()) == 6
    assert "this handler is broken" in capsys.readouterr().err


def test_a_program_whose_outputs_were_closed_keeps_their_numbers_free(photos):
    """Of a program of the user's own: what C code prints to descriptor 2 must not get into a socket."""
    script = ("import os, sys, stoker\nwith stoker.open_stream(%r, image_size=8, workers=1) as stream:\n"
              "    next(stream)\n    found = [os.readlink('/proc/self/fd/%%d' %% fd) for fd in (0, 1, 2)]\n"
              "open(sys.argv[1], 'w').write(' '.join(found))" % str(photos))
    path = os.path.join(os.environ["TMPDIR"], "found")
    with Program(["-c", script, path], before=lambda: [os.close(fd) for fd in (0, 1, 2)]) as program:
        assert program.wait() == 0
    with open(path) as file:
        assert file.read() == "/dev/null /dev/null /dev/null"
    os.remove(path)


@pytest.mark.parametrize("closed", [False, True], ids=["full", "closed"])
def test_the_command_that_makes_keys(tmp_path, closed):
    full = os.open("/dev/full", os.O_WRONLY)
    before = (lambda: [os.close(1), os.close(2)]) if closed else (lambda: [os.dup2(full, fd) for fd in (1, 2)])
    with Program(["-m", "stoker.pipeline.transport.keys", str(tmp_path / "keys")], before=before) as program:
        assert program.wait() == 0
    os.close(full)
    assert (tmp_path / "keys" / "workers" / "worker" / "worker.key_secret").exists()
