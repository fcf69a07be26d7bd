"""The commands of docs/STATUS.md, word for word but for ports and folders."""

import json
import os
import shutil
import sys

import pytest

from tests.support.asking import ask
from tests.support.documents import ROOT, block, read
from tests.support.processes import Program, descendants, free_port, interpreter, kill, wait_for


@pytest.fixture
def shell(pictures, tmp_path):
    """A function that types the block ``mark`` of the document where there is a folder photos/. ``port`` of it: the
    one that stands for 8265."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "stoker-train").write_text('#!/bin/sh\nexec "%s" -m trainer "$@"\n' % sys.executable)
    (commands / "stoker-train").chmod(0o755)
    os.symlink(pictures, str(tmp_path / "photos"))

    def start(mark):
        text = block("docs/STATUS.md", "status: " + mark).replace("8265", str(start.port))
        return Program(["-c", text], python="/bin/sh", cwd=str(tmp_path), STOKER_EPOCHS="200", STOKER_BATCH_SIZE="8",
                       STOKER_IMAGE_SIZE="32", PATH="%s:%s" % (commands, os.environ["PATH"]),
                       STOKER_WORKER_PYTHON=interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable,
                       PYTHONPATH=os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")]))
    start.port = free_port()
    return start


def end(program):
    """Kills the trainer below a shell; its workers end with it."""
    kill(descendants(program.pid)[0])
    program.wait()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_training_with_its_page(shell):
    url = "http://127.0.0.1:%d" % shell.port
    with shell("trainer") as trainer:
        trainer.wait_for_line("status: %s/" % url)
        assert ask(url, "/")[2].decode() == read("trainer/status/page/index.html")
        with shell("ask") as asked:
            assert asked.wait() == 0
        said = json.loads(next(line for line in asked.lines if line.startswith("{")))
        for field in ("next_s", "samples_per_s", "unit", "waiting_share", "stages", "epoch", "history", "worker_table",
                      "states", "now_s"):
            assert field in said and "`%s`" % field in read("docs/STATUS.md"), field
        end(trainer)


def test_a_page_for_other_hosts(shell, tmp_path):
    url = "http://127.0.0.1:%d" % shell.port
    with shell("token") as trainer:
        trainer.wait_for_line("status: http://")
        token = (tmp_path / "status-token").read_text().strip()
        assert token.isalnum() and len(token) >= 32      # it needs no escapes behind a #
        assert ask(url, "/details.json")[0] == 401
        wait_for(lambda: ask(url, "/details.json", token)[0] == 200, "the figures")
        assert ask(url, "/")[0] == 200 and token not in trainer.text
        end(trainer)
