"""What workers make of the host that they run on: its cores, quotas, threads, folders and interpreters."""

import os
import sys

import pytest

import stoker
from tests.support.processes import Program, free_port, wait_for

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
