"""stoker-top in a real terminal (tmux), over real runs."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.integration.conftest import draw
from tests.support.asking import TOKEN, token_file, url_of
from tests.support.documents import block
from tests.support.processes import ROOT, free_port, kill, opened, wait_for, with_environment, worker_pids
from tests.support.terminal import Terminal

pytestmark = pytest.mark.needs("tmux", "package rich")
TOP = [sys.executable, "-m", "stoker.inspection.top"]
BAD = "\x1b[2J[red]bad \x07.jpg"          # a file name that would clear the screen
TWO = "workers: (2 at work|1 idle, 1 at work|2 idle)"
COLOUR = r"\x1b\[[39][0-7]"
RESTORED = ("0", "1")                     # no other screen, a cursor


@contextlib.contextmanager
def training(data, tmp_path, worker_python, port=0, **options):
    """A run of two workers without end, whose batches a thread takes: 50 a second at most."""
    with opened(data, tmp_path / "audit", workers=2, worker_python=worker_python, image_size=32, batch_size=4,
                epochs=100000, status="127.0.0.1:%d" % port, **options) as run:
        def take():
            for _ in run.stream:
                time.sleep(0.02)
        taking = threading.Thread(target=take, name="taking")
        taking.start()
        try:
            yield run
        finally:
            run.stream.interrupt()
            taking.join(60)
            assert not taking.is_alive()


@pytest.fixture
def data(tmp_path):
    """Pictures in two classes, and one bad file."""
    root = tmp_path / "data"
    draw(str(root), "jpg", 400)
    (root / "left" / BAD).write_bytes(b"no picture")
    return str(root)


def steps(lines):
    return int(re.search(r"step ([\d,]+) of", lines[0]).group(1).replace(",", ""))


def ends(terminal, code):
    """The program ends with this code and leaves the terminal as it was."""
    terminal.wait_for("code %d" % code)
    assert terminal.state() == RESTORED
    terminal.enter("stty", "-a")
    lines = terminal.wait_for("code 0")
    assert " icanon" in "\n".join(lines) and " echo " in "\n".join(lines) and " -icanon" not in "\n".join(lines)


def test_a_run_as_it_is(data, tmp_path, worker_python):
    """stoker-top shows a run: rates, workers, bad files, a killed worker; at any size; q ends it"""
    with training(data, tmp_path, worker_python) as run, Terminal() as terminal:
        terminal.enter(*TOP, url_of(run.stream))
        lines = terminal.wait_for(TWO)
        assert terminal.state() == ("1", "0")
        terminal.wait_for(r"^rate +[1-9]\d* images/s +\S")
        first = steps(lines)
        wait_for(lambda: steps(terminal.lines()) > first, "a later step")
        terminal.wait_for(r"^1 bad file, the newest: left/" + re.escape(r"\x1b[2J[red]bad \x07.jpg: "))
        pids = worker_pids()
        table = [line for line in terminal.lines() if re.search(r"\b(works|idle)\b", line)]
        assert len(table) >= 2
        terminal.resize(160, 50)
        lines = terminal.wait_for("versions")
        assert sum(any(re.search(r"\b%d\b" % pid, line) for line in lines) for pid in pids) == 2
        kill(pids[0])
        terminal.wait_for("lost ")
        wait_for(lambda: len(worker_pids()) == 2 and re.search(TWO, terminal.text()), "the worker in its place")
        terminal.resize(40, 8)
        wait_for(lambda: "versions" not in terminal.text() and len(terminal.lines()) <= 8, "the small terminal")
        assert "stoker-top" in terminal.lines()[0] and "worker" in terminal.text()
        terminal.resize(80, 24)
        terminal.wait_for("now by state")
        terminal.keys("s")
        terminal.wait_for("now by rate")
        terminal.keys("q")
        ends(terminal, 0)


@pytest.mark.parametrize("how, code", [("ctrl-c", 130), ("sigterm", 143), ("hangup", None)])
def test_signals(data, tmp_path, worker_python, how, code):
    """Ctrl-C, SIGTERM and a closed terminal end it, and it leaves the terminal as it was"""
    with training(data, tmp_path, worker_python) as run, Terminal(TOP_MARK=str(tmp_path)) as terminal:
        terminal.enter(*TOP, url_of(run.stream))
        terminal.wait_for(TWO)
        pid = top_pid(tmp_path)
        if how == "ctrl-c":
            terminal.keys("C-c")
        elif how == "sigterm":
            os.kill(pid, 15)
        else:
            terminal.__exit__()
            wait_for(lambda: not with_environment("TOP_MARK=%s" % tmp_path), "its end")
            os.mkdir(terminal._folder)
            return
        ends(terminal, code)


def top_pid(tmp_path):
    def found():
        pids = [pid for pid in with_environment("TOP_MARK=%s" % tmp_path)
                if b"stoker.inspection.top" in open("/proc/%d/cmdline" % pid, "rb").read()]
        return pids and pids[0]
    return wait_for(found, "stoker-top")


def test_ctrl_z(data, tmp_path, worker_python):
    """Ctrl-Z gives the terminal back to the shell until it is continued"""
    with training(data, tmp_path, worker_python) as run, Terminal() as terminal:
        terminal.enter(*TOP, url_of(run.stream))
        terminal.wait_for(TWO)
        terminal.keys("C-z")
        terminal.wait_for("Stopped")
        assert terminal.state() == RESTORED
        terminal.enter("fg")
        terminal.wait_for(TWO)
        assert terminal.state() == ("1", "0")
        terminal.keys("q")
        ends(terminal, 0)


def test_a_trainer_that_is_gone_and_comes_back_and_the_end_of_the_run(data, tmp_path, worker_python):
    """A trainer that is gone: since when; it is tried again; the end of a run ends it with 0"""
    port = free_port()
    with Terminal() as terminal:
        terminal.enter(*TOP, "127.0.0.1:%d" % port)
        terminal.wait_for("Connection refused")
        with training(data, tmp_path, worker_python, port):
            terminal.wait_for(TWO)
            terminal.wait_for("no answer", absent=True)
        lines = terminal.wait_for("Connection refused")
        assert re.match(r"no answer since \d\d:\d\d:\d\d, for \d+ s: Connection refused\. It asks again", lines[1])
        assert re.search(TWO, terminal.text())         # the last figures stay
        with opened(data, tmp_path / "second", workers=1, worker_python=worker_python, image_size=32, batch_size=4,
                    epochs=1, status="127.0.0.1:%d" % port) as run:
            terminal.wait_for("no answer", absent=True)
            run.take_all()
        lines = terminal.wait_for("the run is over")
        assert "step 101 of 101" in "\n".join(lines)
        ends(terminal, 0)


def test_the_commands_of_the_document(data, tmp_path, worker_python):
    """The commands of docs/STATUS.md"""
    here, elsewhere, once = [re.sub(r" *#.*", "", line).split()[1:] for line in block(
        "docs/STATUS.md", "terminal: stoker-top").splitlines()]
    assert here == [] and elsewhere[0] == "trainer-host:8265" and once == ["--once", ">", "status.txt"]
    with training(data, tmp_path, worker_python, status_token_file=token_file(tmp_path)) as run, Terminal() as terminal:
        address = url_of(run.stream)[len("http://"):]
        terminal.enter("cd", str(tmp_path))
        os.rename(str(tmp_path / "status-token"), str(tmp_path / elsewhere[-1]))
        terminal.enter(*TOP, address, *elsewhere[1:])
        terminal.wait_for(TWO)
        terminal.keys("q")
        terminal.wait_for("code 0")
        terminal.enter("sh", "-c", " ".join(TOP + [address] + elsewhere[1:] + once))
        terminal.wait_for("code 0")
        assert re.search("^" + TWO, (tmp_path / "status.txt").read_text(encoding="utf-8"), re.MULTILINE)


def test_a_server_that_never_answers_holds_nothing_up(tmp_path):
    """q ends it at once while the network hangs"""
    with socket.socket() as silent, Terminal() as terminal:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        terminal.enter(*TOP, "127.0.0.1:%d" % silent.getsockname()[1])
        terminal.wait_for("it asks for the first time")
        connection, _ = silent.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\x1b[2J{")
            terminal.keys("q")
            ends(terminal, 0)


def test_without_colours_and_as_text(data, tmp_path, worker_python):
    """NO_COLOR, TERM=dumb, a pipe, another locale, a token"""
    with training(data, tmp_path, worker_python, status_token_file=token_file(tmp_path)) as run, \
            Terminal(100, 30) as terminal:
        url, token = url_of(run.stream), ["--token-file", str(tmp_path / "status-token")]
        terminal.enter(*TOP, url, *token)
        terminal.wait_for(TWO)
        assert re.search(COLOUR, "\n".join(terminal.lines(colours=True)))
        terminal.keys("q")
        terminal.wait_for("code 0")
        terminal.enter("env", "NO_COLOR=1", *TOP, url, *token)
        terminal.wait_for(TWO)
        assert not re.search(COLOUR, "\n".join(terminal.lines(colours=True)))
        terminal.keys("q")
        terminal.wait_for("code 0")
        terminal.enter("env", "TERM=dumb", *TOP, url, *token)
        lines = terminal.wait_for("code 0")
        assert any(line.startswith("stoker-top ") for line in lines) and re.search(TWO, "\n".join(lines))
        terminal.enter(*TOP, url)
        terminal.wait_for("401 Unauthorized: give the token that it needs with")
        terminal.keys("q")
        ends(terminal, 0)

        def piped(*options, **environment):
            return subprocess.run(TOP + list(options), env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [
                ROOT, os.environ.get("PYTHONPATH")])), **environment), cwd=str(tmp_path), stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, timeout=60)
        said = piped(url, STOKER_STATUS_TOKEN_FILE=token[1])
        assert said.returncode == 0 and b"\x1b" not in said.stdout and "images/s" in said.stdout.decode("utf-8")
        said = piped(url, *token, LC_ALL="C", PYTHONIOENCODING="ascii")
        assert said.returncode == 0 and said.stdout.decode("ascii").count("worker") >= 2
        assert TOKEN.encode() not in said.stdout + said.stderr
        said = piped(url)
        assert said.returncode == 1 and b"401 Unauthorized" in said.stderr and not said.stdout
    said = piped(url)
    assert said.returncode == 1 and said.stderr.startswith(b"stoker-top: error: no answer from 127.0.0.1:")
