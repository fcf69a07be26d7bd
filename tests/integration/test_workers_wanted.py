"""The commands of docs/WORKERS_WANTED.md, word for word but for ports, and what its script does as the need changes."""

import os
import shutil
import sys
import time

import pytest

from tests.support.asking import figures, url_of
from tests.support.documents import ROOT, block
from tests.support.processes import Program, descendants, free_port, interpreter, kill, opened, wait_for

OPTIONS = dict(image_size=32, batch_size=8, epochs=1000)
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
LIMIT_S = 120.0


@pytest.fixture
def shell(tmp_path):
    """A function that starts the block ``mark`` of the document in a shell that knows Stoker's commands."""
    ports = {"8265": str(free_port()), "5555": str(free_port())}
    commands = tmp_path / "bin"
    commands.mkdir()
    worker_python = interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable
    for name, python, module in (("stoker-train", sys.executable, "trainer"),
                                 ("stoker-worker", worker_python, "workers")):
        (commands / name).write_text('#!/bin/sh\nexec "%s" -m %s "$@"\n' % (python, module))
        (commands / name).chmod(0o755)

    def start(mark, *changes):
        text = block("docs/WORKERS_WANTED.md", "wanted: " + mark)
        for old, new in tuple(ports.items()) + changes:
            assert old in text or old in ports
            text = text.replace(old, new)
        return Program(["-c", text], python="/bin/sh", cwd=str(tmp_path), STOKER_EPOCHS="2", STOKER_BATCH_SIZE="32",
                       STOKER_IMAGE_SIZE="32", PATH="%s:%s" % (commands, os.environ["PATH"]),
                       PYTHONPATH=os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")]))
    start.status, start.bind = "127.0.0.1:" + ports["8265"], "tcp://127.0.0.1:" + ports["5555"]
    return start


@needs_curl
def test_the_script_starts_workers_for_a_training_and_ends_with_it(shell, pictures, tmp_path):
    os.symlink(pictures, str(tmp_path / "photos"))
    with shell("trainer") as trainer:
        trainer.wait_for_line("waiting for workers: ")
        with shell("ask") as asked:
            assert asked.wait() == 0 and '"wanted": 1, "min": 1, "max": 6' in asked.text
        with shell("loop") as loop:
            assert trainer.wait(300) == 0, trainer.text
            assert "done after step 6:" in trainer.text
            assert loop.wait() in (0, 143), loop.text


@needs_curl
def test_another_host_asks_with_the_token(shell, pictures, tmp_path):
    os.symlink(pictures, str(tmp_path / "photos"))
    from stoker.pipeline.transport import keys
    keys.make(str(tmp_path / "keys"))
    with shell("token") as trainer:
        trainer.wait_for_line("waiting for workers: ")
        with shell("ask with a token", ("TRAINER-HOST", "127.0.0.1")) as asked:
            assert asked.wait() == 0 and '"wanted": 1' in asked.text
        with shell("ask with a token", ("TRAINER-HOST", "127.0.0.1"), ("Bearer ", "Bearer x")) as asked:
            assert asked.wait() == 0 and "wanted" not in asked.text and "needs the header" in asked.text
        assert (tmp_path / "status-token").read_text().strip() not in trainer.text
        child, = descendants(trainer.pid)
        kill(child)
        trainer.wait()


@needs_curl
def test_workers_come_and_go_with_the_need(shell, pictures, tmp_path, worker_python, own_generators):
    """Slow steps, fast ones, slow ones: up to three workers and back, and the bytes of a run with one."""
    generator = "user_generators:unhurried"
    with opened(pictures, tmp_path / "audit", workers=0, bind=shell.bind, status=shell.status, generator=generator,
                max_workers=6, **OPTIONS) as run, \
            shell("loop", ("--processes 1", "--processes 1 --allow-generator " + generator)) as loop:
        def places():
            return sum("stoker.workers.process" in " ".join(line) for line in map(arguments, descendants(loop.pid)))

        def iterate(step_s, until, what):
            begun = time.monotonic()
            for batch in run.stream:
                run.batches.append(batch)
                if until():
                    return time.monotonic() - begun
                assert time.monotonic() < begun + LIMIT_S, "%s: %s %s" % (what, figures(url), run.log.lines)
                time.sleep(step_s)

        url = url_of(run.stream)
        iterate(0.7, lambda: len(run.batches) >= 12 and figures(url)["workers"]["wanted"] == 1, "one worker")
        up_s = iterate(0.08, lambda: figures(url)["workers"]["ready"] >= 3, "three workers")
        assert places() >= 3
        down_s = iterate(0.7, lambda: figures(url)["workers"]["alive"] <= 2, "fewer workers")
        print("up %.1f s, down %.1f s" % (up_s, down_s))
        content = len(run.batches)
        run.stream.close()
        assert loop.wait() in (0, 143), loop.text
        wait_for(lambda: not places(), "the end of the workers")
        content = run.content()
    with opened(pictures, tmp_path / "exact", workers=1, worker_python=worker_python,
                **dict(OPTIONS, generator="image")) as exact:
        exact.take(len(content))
    assert exact.content() == content


def arguments(pid):
    """The command line of a process; [] if it has gone."""
    try:
        with open("/proc/%d/cmdline" % pid) as file:
            return file.read().split("\0")
    except OSError:
        return []
