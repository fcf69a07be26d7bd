"""What local workers write: on the terminal as it is, and in the error in which they end."""

import os
import re
import pty
import subprocess
import sys
import termios
import threading
import tty

import pytest

from stoker.pipeline.errors import RunFailed
from stoker.trainer.feed import open_stream
from stoker.trainer.worker_output import PATIENCE_S, Terminal
from tests.support.processes import ROOT, opened, python_with_path

CHATTY = """
import os, signal, sys
import stoker

@stoker.sample({"x": "int32"})
def loud(sample, random):
    sys.stderr.write(("%d " % sample.index) + "x" * 99990 + "\\n")
    return {"x": sample.index}

@stoker.sample({"x": "int32"})
def last_words(sample, random):
    sys.stderr.write("\\x1b[31mthe disk is on fire\\n")      # not flushed
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""
PROGRAM = """
import sys, stoker
with stoker.open_stream(40, "chatty:loud", batch_size=4, workers=2) as stream:
    print(sorted(value for batch in stream for value in batch["x"].tolist()) == list(range(40)))
"""


@pytest.fixture
def chatty(tmp_path, monkeypatch):
    (tmp_path / "chatty.py").write_text(CHATTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


def test_workers_that_cannot_start_say_why_in_the_error(pictures, tmp_path):
    (tmp_path / "PIL.py").write_text("raise ImportError('PIL is broken \\x1b[31mhere')\n")
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=python_with_path(tmp_path, tmp_path)) as run:
        with pytest.raises(RunFailed) as caught:
            run.take_all()
    first, *said = str(caught.value).splitlines()
    assert re.match(r"the local workers \(run by .*\) ended with exit code 1; the last lines that they wrote:$", first)
    assert len([line for line in said if "PIL is broken \\x1b[31mhere" in line]) == 1 and len(said) <= 10
    assert "giving up" in said[-1]
    assert "PIL is broken \x1b[31mhere" in run.printed()               # live, and as it is


@pytest.mark.parametrize("newest", [False, True], ids=["trainer's Python", "newest Python"])
def test_killed_workers_leave_their_last_words_in_the_error(chatty, newest, worker_python):
    with open_stream(4, "chatty:last_words", workers=1, worker_python=worker_python if newest else None) as stream:
        with pytest.raises(RunFailed, match="ended with SIGKILL; the last lines that they wrote:\n"
                                            r"    \\x1b\[31mthe disk is on fire$"):
            next(stream)


def test_workers_that_write_nothing(pictures, tmp_path):
    silent = tmp_path / "silent"              # it answers only what is asked before the run
    silent.write_text('#!/bin/sh\n[ "$2" != stoker.workers.host ] && exec "%s" "$@"\nexit 1\n' % sys.executable)
    silent.chmod(0o755)
    with open_stream(pictures, workers=1, worker_python=str(silent)) as stream:
        with pytest.raises(RunFailed, match="ended with exit code 1 and wrote nothing$"):
            next(stream)


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "2>&1 >&3 3>&- | head -c 9 >/dev/null"],
                         ids=["closed", "disk full", "reader gone"])
def test_much_output_to_a_lost_terminal_stops_no_worker(chatty, tmp_path, redirect):
    """4 MB, more than any pipe holds."""
    (tmp_path / "program.py").write_text(PROGRAM)
    found = subprocess.run(["sh", "-c", "exec 3>&1; %s program.py %s" % (sys.executable, redirect)], timeout=60,
                           stdout=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=ROOT, TMPDIR=str(tmp_path)))
    assert found.stdout.split() == [b"True"]


def test_workers_do_not_wait_for_a_pipe_that_nobody_reads(chatty, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen([sys.executable, "program.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, PYTHONPATH=ROOT, TMPDIR=str(tmp_path))) as program:
        timer = threading.Timer(60, program.kill)
        timer.start()
        assert program.stdout.read().split() == [b"True"]           # all 4 MB were read
        timer.cancel()
        assert re.match(b"[0-9]+ xxx", program.stderr.read())           # what the pipe holds


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_what_was_left_out_is_said_once_when_it_goes_on(kind):
    """The sum is right, and what comes after is written again."""
    if kind == "pipe":
        read_fd, write_fd = os.pipe()
    else:
        read_fd, write_fd = pty.openpty()
        tty.setraw(write_fd)
        termios.tcflow(write_fd, termios.TCOOFF)         # Ctrl-S
    terminal = Terminal(os.dup(write_fd), PATIENCE_S if kind == "pipe" else 0.01)
    for _ in range(100):
        terminal.pass_on(b"x" * (1 << 16))
    if kind == "terminal":
        termios.tcflow(write_fd, termios.TCOON)
    read = b""
    while not read.endswith(b"\n"):
        read += os.read(read_fd, 1 << 16)
    left_out = re.fullmatch(b"x+\nstoker: ([0-9,]+) bytes that workers wrote here were left out, because .*\n", read)
    assert int(left_out.group(1).replace(b",", b"")) + read.split(b"\n")[0].count(b"x") == 100 << 16
    terminal.pass_on(b"more\n")
    assert os.read(read_fd, 100) == b"more\n"
    terminal.end()
    assert not terminal.is_alive()
    for fd in (read_fd, write_fd):
        os.close(fd)
