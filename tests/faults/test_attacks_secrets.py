"""What leaks keys, and what misleads a terminal: core dumps, files that others can read, names with escapes."""

import os
import pty
import re
import resource
import signal
import stat
import subprocess
import sys
import threading

import pytest
from PIL import Image

from tests.support.documents import documents, read
from tests.support.processes import ROOT, descendants, opened, wait_for, worker_pids
from tests.support.training import Finished, Trainer

#: Red from here on, a new line that looks like one of the program's, another direction of writing.
EVIL = "\x1b[31m\nstoker: all is well\r\u202e"


@pytest.fixture
def core_dumps(tmp_path, monkeypatch):
    """A folder into which the processes of the test would dump, and this process's descendants may."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    if before[1] == 0 and os.geteuid() != 0:
        pytest.skip("this user may not have core dumps")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (tmp_path / "dumps").mkdir()
    monkeypatch.chdir(tmp_path / "dumps")
    yield tmp_path / "dumps"
    resource.setrlimit(resource.RLIMIT_CORE, before)


def core_limit(pid):
    with open("/proc/%d/limits" % pid) as limits:
        return re.search(r"Max core file size +(\S+) +(\S+)", limits.read()).groups()


def test_a_worker_that_crashes_leaves_no_core_dump(pictures, tmp_path, core_dumps, attacks):
    with opened(pictures, tmp_path / "audit", image_size=8, batch_size=4, epochs=9, workers=1) as run:
        run.take(1)
        worker, = worker_pids()
        assert {core_limit(pid) for pid in descendants(os.getpid())} == {("0", "0")}     # the supervisor's too
        os.kill(worker, signal.SIGSEGV)
        run.take_all()
        wait_for(lambda: worker not in worker_pids(), "the end of the worker")
    assert list(core_dumps.iterdir()) == []
    attacks("a picture, or another user of the host",
            "makes a worker crash, for a core dump with its keys and pictures",
            "no process of Stoker leaves one: the limit is 0 for workers, supervisor and command lines")


def test_nor_does_the_trainers_command_line(pictures, tmp_path, core_dumps):
    pytest.importorskip("tensorflow")
    with Trainer(tmp_path, pictures, "--workers", 0) as trainer:
        trainer.wait_until(lambda: "waiting for workers" in trainer.stdout, "its first line")
        assert core_limit(trainer.pid) == ("0", "0")


def test_keys_in_a_file_of_a_documented_command_are_for_its_user_alone(tmp_path, attacks):
    commands = [line for path in documents()
                for line in re.findall(r"^.*\bkeys \w+ > \S+.*$", read(path), re.MULTILINE)]
    assert len(commands) >= 2
    (tmp_path / "docker-compose").write_text("#!/bin/sh\necho secret\n")
    (tmp_path / "docker-compose").chmod(0o755)
    for command in commands:
        subprocess.run(["sh", "-c", "umask 022; " + command], cwd=str(tmp_path), check=True,
                       env=dict(os.environ, PATH="%s:%s" % (tmp_path, os.environ["PATH"])))
        file = tmp_path / "worker-keys.tar"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and file.read_text() == "secret\n"
        file.unlink()
    attacks("another user of the host", "reads the file of keys that the documented commands write",
            "it is for its user alone (`umask 077`)")


# ------------------------------------------------------------------------------------------------------------ names

@pytest.fixture
def dataset(tmp_path):
    """A folder of that name, with classes and files of such names, good ones and bad ones."""
    root = tmp_path / ("data" + EVIL)
    for label in ("cat" + EVIL, "dog"):
        (root / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (0, 40 * number, 90)).save(str(root / label / ("%d%s.jpg" % (number, EVIL))))
        (root / label / ("bad%s.jpg" % EVIL)).write_bytes(b"no picture")
        (root / label / ("gone%s.jpg" % EVIL)).symlink_to("nowhere" + EVIL)
        (root / label / ("out%s.jpg" % EVIL)).symlink_to("/etc/passwd")
        (root / label / ("text%s" % EVIL)).write_bytes(b"no picture")
    return root


def obeys(text):
    """What of it a terminal would obey, or a reader take for a line of Stoker's own."""
    return [line for line in text.splitlines(True) if "all is well" in line and "\\nstoker: all is well" not in line
            or re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202e]|\r(?!\n)(?!epoch)(?!predict)(?!$)", line)]


def in_a_terminal(command, folder):
    """All that a program writes to a terminal."""
    main, terminal = pty.openpty()
    environment = dict(os.environ, PYTHONPATH=ROOT, PYTHONIOENCODING="utf-8")
    process = subprocess.Popen(command, cwd=str(folder), env=environment, stdin=subprocess.DEVNULL, stdout=terminal,
                               stderr=subprocess.PIPE)
    threading.Thread(target=process.stderr.read, daemon=True).start()
    os.close(terminal)
    said = b""
    try:
        while True:
            part = os.read(main, 4096)
            said += part
            if not part:
                break
    except OSError:                     # EIO: the other end is closed
        pass
    os.close(main)
    assert process.wait(60) == 0
    process.stderr.close()
    return said.decode("utf-8", "replace")


def test_no_name_reaches_a_terminal_a_log_or_a_file_as_it_is(dataset, tmp_path, attacks):
    pytest.importorskip("tensorflow")
    run = str(tmp_path / ("run" + EVIL))
    options = ["--workers", 1, "--image-size", 8, "--batch-size", 2, "--checkpoint-dir", run, "--validation", 0]
    audit, cache = str(tmp_path / ("audit" + EVIL)), tmp_path / ("cache" + EVIL)
    cache.write_text("no folder")

    def said(*more, code=0):
        with Trainer(tmp_path, *options, *more, PYTHONIOENCODING="utf-8") as trainer:
            done = Finished(trainer)
        assert done.code == code, done
        assert obeys(done.stdout + done.stderr) == [], done
        return done.stdout + done.stderr
    assert "bad file" in said(dataset, "--audit", audit, "--cache", cache)
    for path in [audit, os.path.join(run, "bad-samples.tsv"), os.path.join(run, "stoker.json"),
                 os.path.join(run, "stoker-run.json")]:
        with open(path, encoding="utf-8") as file:
            assert obeys(file.read()) == [], path
    said(dataset, "--seed", 3, code=2)
    said(dataset, "--on-bad-image", "raise", "--checkpoint-dir", tmp_path / "other", code=1)
    said(tmp_path / ("nowhere" + EVIL), code=2)
    (dataset / "dog").rename(dataset / ("dog" + EVIL))
    said(dataset, "--epochs", 9, code=2)
    (dataset / ("dog" + EVIL)).rename(dataset / "dog")
    shown = in_a_terminal([sys.executable, "-m", "trainer.predict", run, str(dataset), "--workers", "1"], tmp_path)
    assert shown.count("score_dog") == 1 and "\x1b" not in shown and "\u202e" not in shown, shown
    attacks("a downloaded dataset", "names of folders and files with escape sequences, ends of lines, other "
            "directions of writing", "terminal, log, audit and lists get them escaped; the CSV file of predictions has "
            "them as they are")
