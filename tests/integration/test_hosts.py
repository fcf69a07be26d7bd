"""What workers make of the host that they run on: its cores, quotas, threads, folders and interpreters."""

import glob
import os
import re
import sys

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import ConfigError
from tests.support.processes import ROOT, Program, free_port, wait_for

THREADS = """
import os, numpy, stoker
@stoker.sample({"threads": "int32", "openmp": "int32"})
def threads(sample, random):
    return {"threads": len(os.listdir("/proc/self/task")), "openmp": int(os.environ["OMP_NUM_THREADS"])}
"""


# ---------------------------------------------------------------------------------------------------- cores and threads

@pytest.fixture
def cpu_quota():
    """A function that makes a group of half a core, inside of one of five, and returns it; a process joins it by
    writing its number into ``cgroup.procs`` there."""
    made = []

    def make(parent):
        name = "stoker-%d" % os.getpid()
        for path, share in ((os.path.join(parent, name), 5.0), (os.path.join(parent, name, "inner"), 0.5)):
            os.mkdir(path)
            made.append(path)
            for limit, text in (("cpu.cfs_quota_us", "%d" % (share * 1e5)), ("cpu.max", "%d 100000" % (share * 1e5))):
                if os.path.exists(os.path.join(path, limit)):
                    with open(os.path.join(path, limit), "w") as file:
                        file.write(text)
                    break
            else:
                pytest.skip("no CPU quota can be set here")
        return path
    yield make
    for path in reversed(made):
        wait_for(lambda path=path: _removed(path), "the end of all processes in %s" % path)


def _removed(path):
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def test_a_cpu_quota_is_the_number_of_cores(cpu_quota):
    parents = [parent for parent in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup")
               if os.path.exists(os.path.join(parent, "cgroup.procs")) and os.access(parent, os.W_OK)]
    if not parents:
        pytest.skip("no cgroup can be made here: needs root")
    group = cpu_quota(parents[0])
    joins = "import os; open(%r, 'w').write(str(os.getpid()))\n" % os.path.join(group, "cgroup.procs")
    program = joins + "import stoker\n" \
                      "with stoker.open_stream(8, 'numerical', batch_size=4) as stream:\n" \
                      "    list(stream); print('workers', stream._worker_groups[0]._autoscaler.wanted)\n"
    with Program(["-c", program]) as ended:
        assert ended.wait() == 0 and ended.lines[-1] == "workers 1", ended.text
    shell = "echo $$ > %s; exec %s -m workers --connect tcp://127.0.0.1:%d" % (
        os.path.join(group, "cgroup.procs"), sys.executable, free_port())
    with Program(["-c", shell], python="/bin/sh") as workers:
        workers.wait_for_line("stoker-worker: 1 process ")


def test_numpy_starts_one_thread_unless_the_user_wants_more(tmp_path, monkeypatch, worker_python):
    (tmp_path / "counting.py").write_text(THREADS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for name in list(os.environ):
        if name.endswith("_NUM_THREADS"):
            monkeypatch.delenv(name)

    def counted(python, **environment):
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            with stoker.open_stream(1, "counting:threads", arrays={"threads": "int32", "openmp": "int32"}, workers=1,
                                    worker_python=python) as stream:
                batch, = stream
        return int(batch["threads"][0]), int(batch["openmp"][0])
    for python in (None, worker_python):
        least, openmp = counted(python)
        assert openmp == 1
        if os.cpu_count() > 1:              # OpenBLAS starts no more than there are cores
            assert counted(python, OPENBLAS_NUM_THREADS="2") == (least + 1, 1)
            assert counted(python, OMP_NUM_THREADS="2") == (least + 1, 2)


# --------------------------------------------------------------------------------------------------------- interpreters

def script(path, text):
    """An executable file with this text below its first line."""
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


NO_INTERPRETERS = {      # how it is made in a folder, and what the sentence says of it
    "missing": (lambda path: None, "No such file or directory"),
    "folder": (lambda path: (path / "bin").mkdir(parents=True) or script(path / "bin" / "python", ""),
               "it is a folder: name the interpreter in it, .*/folder/bin/python$"),
    "text": (lambda path: path.write_text("#!/bin/sh\n"), "it is not executable for this user"),
    "ends": (lambda path: script(path, "exit 3\n"), "it is no Python interpreter .it ended with exit code 3."),
    "endless": (lambda path: script(path, "exec yes\n"), "it is no Python interpreter .it did not end"),
    "old": (lambda path: script(path, "[ \"$1\" = -E ] && echo python 2.7 || { echo SyntaxError; exit 1; }\n"),
            "it runs Python 2.7, and workers need 3.6 or newer"),
    "failing": (lambda path: script(path, "[ \"$1\" = -E ] && echo python 3.9 || { echo trouble; exit 1; }\n"),
                "it fails at its start: trouble"),
}


@pytest.mark.parametrize("name", sorted(NO_INTERPRETERS))
def test_a_worker_python_that_cannot_run_workers_is_a_sentence_at_once(tmp_path, name):
    make, says = NO_INTERPRETERS[name]
    make(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot start workers with '.*/%s': %s" % (name, says)) as caught:
        stoker.open_stream(3, "numerical", workers=2, worker_python=str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_an_environment_without_packages_gets_the_command_that_installs_them():
    build = os.path.abspath(os.environ.get("STOKER_TEST_BUILD_PYTHON") or pytest.skip("no STOKER_TEST_BUILD_PYTHON"))
    says = "^%s cannot run workers: it has no numpy, .*: install them with  %s -m pip install 'numpy>=1.16.6' " % (
        (re.escape(build),) * 2)
    with pytest.raises(ConfigError, match=says):
        stoker.open_stream(3, "numerical", workers=1, worker_python=build)
    with Program(["-m", "stoker.workers", "--connect", "tcp://127.0.0.1:1"], python=build) as workers:
        assert workers.wait() == 1
    assert re.search("error: .* it has no numpy, .*configargparse: install them with  ", workers.text), workers.text
    assert "Traceback" not in workers.text


@pytest.mark.parametrize("program", [["stoker.workers", "--connect", "tcp://127.0.0.1:1"],
                                     ["stoker.inspection.check", "pictures"]])
def test_a_pillow_simd_for_another_cpu_is_a_sentence_before_it_is_imported(tmp_path, program):
    with open("/proc/cpuinfo") as cpuinfo:
        if "\nflags" not in cpuinfo.read():
            pytest.skip("this CPU tells no features")
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    (tmp_path / "pillow_simd.cpu").write_text("no_such_feature fpu\n")
    with Program(["-m"] + program, python=os.environ.get("STOKER_TEST_WORKER_PYTHON") or sys.executable,
                 PYTHONPATH=os.pathsep.join([ROOT, str(tmp_path)])) as started:
        assert started.wait() == 1
    assert re.search("error: .* its pillow-simd was built for a CPU with no_such_feature, which this", started.text)


@pytest.mark.parametrize("version", ["2.7", "3.13"])
def test_another_real_python(version):
    found = glob.glob(os.path.expanduser("~/.pyenv/versions/%s*/bin/python" % version)) or pytest.skip("none here")
    with pytest.raises(ConfigError, match="runs Python 2.7, and" if version == "2.7" else "it has no numpy"):
        stoker.open_stream(3, "numerical", workers=1, worker_python=found[0])


#: A variable of the trainer's environment that keeps interpreters of other versions from starting.
VARIABLES = {"PYTHONHOME": lambda: os.path.dirname(os.path.dirname(os.path.realpath(sys.executable))),
             "PYTHONPLATLIBDIR": lambda: "lib64", "PYTHON_GIL": lambda: "0", "PYTHONEXECUTABLE": lambda: "/nowhere",
             "PYTHONPATH": lambda: os.path.dirname(os.path.dirname(np.__file__)), "PYTHONWARNINGS": lambda: "error"}


@pytest.mark.parametrize("variable", sorted(VARIABLES))
def test_workers_of_another_python_start_in_the_environment_of_this_one(monkeypatch, worker_python, variable):
    if worker_python is None:
        pytest.skip("no second interpreter")
    monkeypatch.setenv(variable, VARIABLES[variable]())
    with stoker.open_stream(6, "numerical", batch_size=3, workers=1, worker_python=worker_python,
                            worker_timeout_s=60) as stream:
        assert len(list(stream)) == 2


def test_workers_that_are_started_by_hand_leave_out_packages_of_another_python(worker_python):
    if worker_python is None:
        pytest.skip("no second interpreter")
    packages = os.path.dirname(os.path.dirname(np.__file__))
    with stoker.open_stream(6, "numerical", batch_size=3, workers=0, worker_timeout_s=60) as stream, \
            Program(["-m", "stoker.workers", "--connect", stream.address, "--processes", "1", "--once"],
                    python=worker_python, PYTHONPATH=os.pathsep.join([ROOT, packages])):
        assert len(list(stream)) == 2
