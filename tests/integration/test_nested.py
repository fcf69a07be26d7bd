"""Programs that would start processes without end: each way ends with a sentence, after a few starts."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT, wait_for, with_environment

#: At the head of each program, and how it opens its stream. A start is a line in the file ``starts``.
HEAD = """
import multiprocessing, os, subprocess, sys
import stoker
with open("starts", "a") as file:
    file.write("%d %s\\n" % (os.getpid(), __name__))
@stoker.sample({"x": "int8"})
def one(sample, random):
    return 1
def train():
    with stoker.open_stream(4, "program:one", arrays={"x": "int8"}, workers=1, worker_timeout_s=60) as stream:
        return list(stream)
"""
PROGRAMS = {
    # the child of an import is a program of its own
    "a program that starts itself": "if __name__ != '__main__':\n"
                                    "    subprocess.Popen([sys.executable, 'program.py'])\ntrain()\n",
    "multiprocessing": "multiprocessing.get_context('fork').Process(target=train).start()\n",
    "the command line": "from stoker.trainer.__main__ import main\n"
                        "sys.argv[1:] = ['rows.csv', '--sample', 'program:one', '--workers', '1']\nmain()\n",
    "workers by hand": "if __name__ != '__main__':\n"
                       "    subprocess.Popen([sys.executable, '-m', 'stoker.workers', '--once', '--connect',\n"
                       "                      'tcp://127.0.0.1:1', '--processes', '1'])\ntrain()\n",
}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_without_a_guard_ends_soon_whatever_it_starts(tmp_path, name):
    (tmp_path / "program.py").write_text(HEAD + PROGRAMS[name])
    (tmp_path / "rows.csv").write_text("a\n1\n2\n")
    with open(str(tmp_path / "said"), "wb") as said:
        process = subprocess.Popen([sys.executable, "program.py"], cwd=str(tmp_path), stdout=said, stderr=said,
                                   env=dict(os.environ, PYTHONPATH=ROOT))
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
    mark = "TMPDIR=" + os.environ["TMPDIR"]
    wait_for(lambda: not with_environment(mark), "the end of what it started")
    assert '__name__ == "__main__":' in (tmp_path / "said").read_text()
    assert len((tmp_path / "starts").read_text().splitlines()) <= 6, (tmp_path / "starts").read_text()


def test_a_worker_starts_no_training(tmp_path):
    """A function of the user's that trains, in its process or in one that it starts."""
    (tmp_path / "program.py").write_text(HEAD.replace("open_stream(4", "open_stream(1").replace("    return 1\n", """\
    for command in ([sys.executable, "other.py"], [sys.executable, "-m", "stoker.workers", "--connect",
                                                   "tcp://127.0.0.1:1", "--processes", "1"]):
        done = subprocess.run(command, stderr=subprocess.PIPE, universal_newlines=True, timeout=50,
                              env=dict(os.environ, PYTHONPATH=%r))
        assert done.returncode and "a program that one started" in done.stderr, done.stderr
    try:
        train()
    except stoker.ConfigError as error:
        return {"x": "a program that one started" in str(error)}
""" % ROOT) + "if __name__ == '__main__':\n    print([batch['x'].tolist() for batch in train()])\n")
    (tmp_path / "other.py").write_text("import stoker\nstoker.open_stream(3, 'numerical', workers=1)\n")
    done = subprocess.run([sys.executable, "program.py"], cwd=str(tmp_path), env=dict(os.environ, PYTHONPATH=ROOT),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert done.stdout == "[[1]]\n", done.stderr
