"""A place of stoker-ray, without Ray: the worker as its child, and the command line."""

import os
import subprocess
import sys

import pytest

from stoker.workers import ray_launcher
from stoker.workers.ray_place import Place
from tests.support.processes import LIMIT_S, ROOT, Program, alive, opened, wait_for

HOLDER = """
import sys, time
from stoker.workers.ray_place import Place
place = Place()
place.start(sys.argv[1:])
seen = 0
while True:
    lines, seen, code = place.poll(seen)
    print(place._process.pid, code, lines, flush=True)
"""


def news_until(place, condition):
    """The lines and the exit code of a place once ``condition(lines, code)``."""
    lines, seen, code = [], 0, None

    def reached():
        nonlocal seen, code
        new, seen, code = place.poll(seen)
        lines.extend(new)
        return condition(lines, code)
    wait_for(reached, "news of the place")
    return lines, code


def test_a_place_runs_a_worker_and_drains_it(pictures, tmp_path):
    with opened(pictures, tmp_path / "audit", workers=0, image_size=32, batch_size=8) as run:
        place = Place()
        where = place.start(["--connect", run.stream.address])
        assert place.start(["--connect", run.stream.address]) == where      # Ray may make a call again
        run.joined(1)
        run.take(3)
        place.drain()
        lines, code = news_until(place, lambda lines, code: code is not None)
        assert code == 0 and any("connected to run" in line for line in lines)
        assert place.poll(0).lines == lines and len(run.log.having(" joined (")) == 1


def test_wrong_options_are_told_with_the_workers_own_words():
    place = Place()
    place.start(["--connect", "tcp://127.0.0.1:1", "--data", "/there is none"])
    lines, code = news_until(place, lambda lines, code: code is not None)
    assert code == 2 and "there is no folder '/there is none' on this host" in lines[-1]


def test_the_worker_ends_with_its_place_however_that_ends(pictures, tmp_path):
    with opened(pictures, tmp_path / "audit", workers=0, image_size=32, batch_size=8) as run:
        with Program(["-c", HOLDER, "--connect", run.stream.address]) as holder:
            run.joined(1)
            worker = int(holder.wait_for_line("connected")[0].split()[0])
            assert alive(worker)
        wait_for(lambda: not alive(worker), "the end of the worker")


@pytest.mark.parametrize("arguments, said", [
    ([], "--status"), (["--status", "trainer"], "--status must look like HOST:PORT"),
    (["--status", "t:1", "--connect", "t:1"], "--connect must look like tcp://"),
    (["--status", "t:1", "--keys", "/there is none"], "there is no worker.key_secret"),
    (["--status", "t:1", "--working-dir", "/there is none"], "--working-dir: there is no folder"),
    (["--status", "t:1", "--status-token-file", "/there is none"], "--status-token-file: cannot read"),
    (["--status", "t:1", "--cpus", "0"], "must be above 0"),
    (["--status", "t:1", "--", "--connect", "tcp://t:1"], "--connect does not belong behind --"),
    (["--status", "t:1", "--", "--processes=4"], "--processes does not belong behind --"),
    (["--status", "t:1", "--", "--allow-generators", "my_module:f"], "--allow-generators"),
    (["--status", "t:1", "--", "--sandbox", "maybe"], "--sandbox")])
def test_wrong_options_end_it_before_it_joins_a_cluster(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        ray_launcher.main(arguments)
    assert caught.value.code == 2 and said in capsys.readouterr().err


def launcher(folder):
    """The end of ``stoker-ray``, which finds the module ``ray`` in this folder."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run([sys.executable, "-m", "stoker.workers.ray_launcher", "--status", "t:1"],
                          env=dict(environment, PYTHONPATH=os.pathsep.join([str(folder), ROOT])), timeout=LIMIT_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)


def test_without_ray_it_says_what_to_install(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('none here')")
    done = launcher(tmp_path)
    assert done.returncode == 2 and "pip install 'stoker[ray]'" in done.stdout and "Traceback" not in done.stdout


#: In place of Ray: a cluster that can be joined, and then fails.
FAILING_RAY = """
import types
class RayError(Exception): pass
exceptions = types.SimpleNamespace(RayError=RayError)
def init(**options): pass
def shutdown(): pass
def remote(**options): raise RayError("the head node\\nis gone")
"""


def test_an_error_of_ray_ends_it_with_a_sentence(tmp_path):
    (tmp_path / "ray.py").write_text(FAILING_RAY)
    done = launcher(tmp_path)
    assert done.returncode == 1 and done.stdout.endswith(
        "stoker-ray: error: the Ray cluster at auto fails: the head node is gone\n") and "Traceback" not in done.stdout
