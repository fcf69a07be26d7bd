"""The fault table: one of two workers is hit, and CASES says what the user sees and what becomes of the worker.

In the manner of loky's ``crash_cases``. Each case is a run with real processes in which ``inject/sitecustomize.py``
hits one worker once. The workers' Python is in turns the trainer's and the newest. A table of what happened is printed,
in markdown, at the end of the tests.
"""

import os
import re
import signal
import socket
import sys
import time

import pytest

import stoker
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.monitoring.audit import batch_crc
from stoker.pipeline.options import StreamOptions
from tests.integration.conftest import draw
from tests.support.own_functions import write_table
from tests.support.processes import (alive, consumer_program, diary, free_port, kill, opened, python_with_path,
                                     supervisor_pids, suspended, wait_for, worker_pids, workers_program)

INJECT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inject")
OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3, "prefetch": 4}      # 120 pictures: 15 steps an epoch
OWN = {"generator": "tests.support.own_functions:points", "order": stoker.weighted("importance"), "partners": 1}
STEPS = 15
AT_STEP = ("loading", "writing", "function", "pushing", "draining")    # of the places, those that are at a step
IN_FRAMES = ("loading", "pushing")      # places where batches travel, though trainer and workers could share memory
STEP = 4                # the step that is hit: so early that no step counts as late yet
LEASE_S = 1.0           # of a worker that is suspended; others get no new lease only because they wait for a core

# Lines that the user sees, as regular expressions. SIGTERM comes before or after a message was read.
# The leases of a silent worker may have been late before: then other workers have them already.
LOST = r"lost the connection; its (\d+ steps are|step is) reassigned"
LOST_IDLE = r"lost the connection$"
SILENT = r"was silent for [\d.]+ s(; its (\d+ steps are|step is) reassigned)?$"
SILENT_IDLE = r"was silent for [\d.]+ s$"
SILENT_OR_DRAINED = SILENT + "|drained$"
LEAVES = r"worker \d ?(drained|asked to stop|lost the connection)"
INJECTED = "RuntimeError: injected"
NO_MEMORY = "MemoryError"

# How the supervisor describes the end of the worker.
KILLED = r"SIGKILL \(killed by hand or, if memory ran out, by the kernel\)"
DRAINED = r"exit code 4 \(asked to leave\)"

#: Where and how the worker is hit. The lines that the user sees, in any order. What the worker does then: it "dies",
#: "leaves", "stays", "hangs" or "wakes". How it ends, if it does. The attempt by which its step is done;
#: None if it had no step.
CASES = [
    ("starting", "exception", [INJECTED], "dies", "exit code 1", None),
    ("starting", "os._exit", [], "dies", "exit code 7", None),
    ("starting", "SIGKILL", [], "dies", KILLED, None),
    ("starting", "SIGSTOP", [], "hangs", None, None),
    ("starting", "SIGSTOP, SIGCONT", [], "wakes", None, None),
    ("starting", "SIGTERM", [], "dies", "SIGTERM", None),
    ("starting", "memory", [NO_MEMORY], "dies", "exit code 1", None),

    ("handshake", "exception", [LOST_IDLE, INJECTED], "dies", "exit code 1", None),
    ("handshake", "SIGKILL", [LOST_IDLE], "dies", KILLED, None),
    ("handshake", "SIGSTOP", [SILENT_IDLE], "hangs", None, None),
    ("handshake", "SIGTERM", [LEAVES], "leaves", DRAINED, None),

    ("joining", "exception", [LOST, INJECTED], "dies", "exit code 1", 2),
    ("joining", "os._exit", [LOST], "dies", "exit code 7", 2),
    ("joining", "SIGKILL", [LOST], "dies", KILLED, 2),
    ("joining", "SIGSTOP", [SILENT], "hangs", None, 2),
    ("joining", "SIGSTOP, SIGCONT", [SILENT], "wakes", None, 2),
    ("joining", "SIGTERM", [LEAVES], "leaves", DRAINED, None),
    ("joining", "memory", [LOST, NO_MEMORY], "dies", "exit code 1", 2),

    ("loading", "exception", ["failed: generator 'image', sample 'left/004.jpg': " + INJECTED], "stays", None, 2),
    ("loading", "os._exit", [LOST], "dies", "exit code 7", 2),
    ("loading", "SIGKILL", [LOST], "dies", KILLED, 2),
    ("loading", "SIGSTOP", [SILENT], "hangs", None, 2),
    ("loading", "SIGSTOP, SIGCONT", [SILENT], "wakes", None, 2),
    ("loading", "SIGTERM", [LEAVES], "leaves", DRAINED, 1),
    ("loading", "memory", ["failed: generator 'image', sample 'left/004.jpg': " + NO_MEMORY], "stays", None, 2),

    ("writing", "os._exit", [LOST], "dies", "exit code 7", 2),
    ("writing", "SIGKILL", [LOST], "dies", KILLED, 2),
    ("writing", "SIGSTOP", [SILENT], "hangs", None, 2),
    ("writing", "SIGSTOP, SIGCONT", [SILENT], "wakes", None, 2),

    ("function", "exception", ["failed: .* sample .*: " + INJECTED], "stays", None, 2),
    ("function", "os._exit", [LOST], "dies", "exit code 7", 2),
    ("function", "SIGKILL", [LOST], "dies", KILLED, 2),
    ("function", "SIGSTOP", [SILENT], "hangs", None, 2),
    ("function", "SIGSTOP, SIGCONT", [SILENT], "wakes", None, 2),
    ("function", "SIGTERM", [LEAVES], "leaves", DRAINED, 1),
    ("function", "memory", ["failed: .* sample .*: " + NO_MEMORY], "stays", None, 2),

    ("pushing", "exception", [LOST, INJECTED], "dies", "exit code 1", 2),
    ("pushing", "os._exit", [LOST], "dies", "exit code 7", 2),
    ("pushing", "SIGKILL", [LOST], "dies", KILLED, 2),
    ("pushing", "SIGSTOP", [SILENT], "hangs", None, 2),
    ("pushing", "SIGSTOP, SIGCONT", [SILENT], "wakes", None, 2),
    ("pushing", "SIGTERM", [LEAVES], "leaves", DRAINED, 1),
    ("pushing", "memory", [LOST, NO_MEMORY], "dies", "exit code 1", 2),

    ("idle", "exception", [LOST_IDLE, INJECTED], "dies", "exit code 1", None),
    ("idle", "os._exit", [LOST_IDLE], "dies", "exit code 7", None),
    ("idle", "SIGKILL", [LOST_IDLE], "dies", KILLED, None),
    ("idle", "SIGSTOP", [SILENT_IDLE], "hangs", None, None),
    ("idle", "SIGSTOP, SIGCONT", [SILENT_IDLE], "wakes", None, None),
    ("idle", "SIGTERM", [LEAVES], "leaves", DRAINED, None),
    ("idle", "memory", [LOST_IDLE, NO_MEMORY], "dies", "exit code 1", None),

    ("draining", "exception", ["failed: generator 'image': " + INJECTED], "leaves", DRAINED, 2),
    ("draining", "os._exit", [LOST], "dies", "exit code 7", 2),
    ("draining", "SIGKILL", [LOST], "dies", KILLED, 2),
    ("draining", "SIGSTOP", [SILENT_OR_DRAINED], "hangs", None, 2),
    ("draining", "SIGSTOP, SIGCONT", [SILENT_OR_DRAINED], "wakes, leaves", DRAINED, 2),
    ("draining", "SIGTERM", [LEAVES], "leaves", DRAINED, 1),
    ("draining", "memory", ["failed: generator 'image': " + NO_MEMORY], "leaves", DRAINED, 2),

    ("loading", "OOM kill", [LOST], "dies", KILLED, 2),
]
#: The most steps that a worker can have held when it was hit there. At the handshake SIGTERM waits for the main thread,
#: which a busy machine may keep waiting until the worker is Ready and holds leases.
HELD = {"starting": 0, "handshake": 2, "joining": 2, "loading": 2, "writing": 2, "function": 2, "pushing": 2, "idle": 0,
        "draining": 2}


@pytest.fixture(scope="module")
def own_table(tmp_path_factory):
    """A table of 120 pictures."""
    folder = str(tmp_path_factory.mktemp("own"))
    draw(folder, "jpg", 120, (24, 24))
    return write_table(folder)


@pytest.fixture(scope="module")
def arguments(pictures, own_table):
    """A function: the data and options of a run that is hit there."""
    return lambda where: dict(OPTIONS, data=own_table, **OWN) if where == "function" else dict(OPTIONS, data=pictures)


@pytest.fixture(scope="module")
def reference(arguments, tmp_path_factory):
    """A function: the content of the undisturbed run of four epochs by one worker of an interpreter."""
    known = {}

    def content(where, python):
        key = where == "function", python
        if key not in known:
            with opened(audit=tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=4,
                        worker_python=python, **arguments(where)) as run:
                run.take_all()
            known[key] = run.content()
        return known[key]
    return content


class Case:
    """A run with one fault, and all that its user sees: log, and what the workers print."""

    def __init__(self, run, folder):
        self.run, self._folder = run, folder

    def struck(self):
        """(pid, name) of the worker that was hit, once it is."""
        path = self._folder / "struck"
        said = path.read_text() if path.exists() else ""
        return said.endswith("\n") and (int(said.split()[0]), said.split()[1])

    def lines(self):
        """Log and prints, with each worker by its place: 'worker 0'."""
        return [re.sub(r"\S+:\d+/(\d+)", r"worker \1", line)
                for line in "\n".join(self.run.log.lines + [self.run.printed()]).splitlines()]

    def see(self, pattern):
        """Waits for the first line in which this is found."""
        try:
            return wait_for(lambda: next((line for line in self.lines() if re.search(pattern, line)), None),
                            "a line with %r" % pattern)
        except AssertionError as error:
            raise AssertionError("%s in\n%s" % (error, "\n".join(self.lines()))) from None


@pytest.fixture
def memory_group(monkeypatch):
    """A function that makes a memory cgroup of 32 MiB. The worker joins it when it is hit, and the kernel kills it."""
    made = []

    def make():
        made.append(_memory_group())
        monkeypatch.setenv("FAULT_CGROUP", made[0])
    yield make
    for group in made:
        os.rmdir(group)


def _memory_group():
    """Its path. Needs root and a writable hierarchy. Memory that a process has before it joins is not counted there."""
    for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = os.path.join(parent, "stoker-test-%d" % os.getpid())
        if os.path.exists(os.path.join(parent, "cgroup.procs")) and os.access(parent, os.W_OK):
            os.mkdir(group)
            if os.path.exists(os.path.join(group, limit)):
                with open(os.path.join(group, limit), "w") as file:
                    file.write(str(32 << 20))
                return group
            os.rmdir(group)
    return pytest.skip("no memory cgroup can be made here: needs root")


@pytest.mark.parametrize("number, where, how, seen, fate, ends, attempt", [
    pytest.param(number, *case, id="%s-%s" % case[:2]) for number, case in enumerate(CASES)])
def test_one_worker(number, where, how, seen, fate, ends, attempt, reference, arguments, tmp_path, monkeypatch, table,
                    worker_python, memory_group):
    began = time.monotonic()
    python = worker_python if number % 2 else sys.executable
    folder = tmp_path / "fault"
    folder.mkdir()
    for name, value in (("PYTHONDONTWRITEBYTECODE", "1"), ("FAULT_WHERE", where), ("FAULT_HOW", how.partition(",")[0]),
                        ("FAULT_STEP", str(STEP)), ("FAULT_FOLDER", str(folder))):
        monkeypatch.setenv(name, value)
    injected = python_with_path(tmp_path, INJECT, python)
    if how == "OOM kill":
        memory_group()
    wakes = fate.startswith("wakes")
    epochs = 4 if wakes else 1                       # room for the woken worker to show that it works
    lease_s = LEASE_S if "SIGSTOP" in how else StreamOptions().lease_s
    with opened(audit=tmp_path / "audit", workers=2, epochs=epochs, lease_s=lease_s, worker_python=injected,
                sandbox="off", shared_memory=where not in IN_FRAMES, **arguments(where)) as run:
        # no sandbox: what strikes writes a file, and listens
        case = Case(run, folder)
        if where in AT_STEP:
            run.joined(2)                            # the other worker is there to go on
            run.take(STEP)
        elif where == "idle":
            run.take(1)
        pid, name = wait_for(case.struck, "the fault")
        place = "worker %s .*" % name.rpartition("/")[2]           # others may be silent, too
        told = [case.see(place + "(%s)" % pattern if "silent" in pattern else pattern) for pattern in seen]
        if fate == "hangs" or wakes:
            wait_for(lambda: suspended(pid), "its suspension")
        if wakes:
            run.take(STEP + 3)                       # its own step among them, which the other worker has done
            os.kill(pid, signal.SIGCONT)
            wait_for(lambda: not suspended(pid), "its waking")
        if ends is not None:
            if fate == "dies":
                told.append(case.see(r"worker \d ended with %s, restart 1$" % ends))
            case.see(r" joined .*; its predecessor ended with %s.*, restart 1$" % ends)
            assert pid not in worker_pids()
        elif wakes:
            run.ready(2)
            while name not in {entry["worker"] for entry in run.entries()[-1:]}:
                assert len(run.batches) < epochs * STEPS - 1, "it did not work again: %s" % run.workers()
                run.take(1)
                time.sleep(0.1 if len(run.batches) < STEPS + STEP else 0.5)      # a trainer that trains
        run.take_all()
        assert (pid in worker_pids()) == (ends is None)
    assert not alive(pid)
    assert run.content() == reference(where, python)[:epochs * STEPS]
    # also those that a worker which woke could have written to
    assert [batch_crc(batch) for batch in run.batches] == [entry["crc32"] for entry in run.entries()]
    lines = case.lines()
    assert bool([line for line in lines if "its predecessor ended with" in line]) == (ends is not None)
    assert bool([line for line in lines if line.startswith("Traceback")]) == (how in ("exception", "memory"))
    entries = run.entries()
    redone = [entry for entry in entries if entry["attempt"] != 1]
    others = _lost_in_silence(lines, name)
    if where in AT_STEP:
        assert attempt <= entries[STEP]["attempt"] <= attempt + others
        if attempt == 1 or fate not in ("dies", "leaves") and not others:   # else a worker of its name may have done it
            assert (entries[STEP]["worker"] == name) == (attempt == 1)
    elif attempt:                                    # while joining: the first steps, whichever it got
        assert [entry["step"] for entry in redone if entry["step"] < OPTIONS["prefetch"]]
    # no more than it can have held; on a slow machine other steps are late, or others are silent, which the log says
    late = re.search(r"after a lost lease, (\d+) slow steps", "\n".join(lines))
    assert len(redone) <= HELD[where] + (int(late.group(1)) if late else 0) + others
    assert late or {entry["attempt"] for entry in redone} <= {2}
    if fate == "hangs":
        assert name not in {entry["worker"] for entry in entries[STEP + 1:]}
    table(where, how, "; ".join(told) or "nothing: the other worker does it all", _shown(redone, name, fate),
          time.monotonic() - began)


def _lost_in_silence(lines, name):
    """How many steps were reassigned because a worker was silent, but for the first silence of the worker ``name``."""
    place, counts = "worker " + name.rpartition("/")[2], []
    for who, steps in re.findall(r"^(worker \d+) was silent for .*; its (\d+|step is)", "\n".join(lines), re.MULTILINE):
        counts.append((who, int(steps) if steps.isdigit() else 1))
    own = [count for who, count in counts if who == place]
    return sum(count for _, count in counts) - sum(own[:1])


def _shown(redone, name, fate):
    """The audit in words."""
    if not redone:
        return "every step: attempt 1"
    who = "another worker" if name not in {entry["worker"] for entry in redone} else (
        "the next worker in its place" if fate in ("dies", "leaves") else "the same worker")
    steps = [str(entry["step"]) for entry in redone]
    return "step%s %s: attempt 2, by %s" % ("s" * (len(steps) > 1), " and ".join(steps), who)


# ------------------------------------------------------------------------------------------- what hits more than one

def test_a_generator_that_raises_at_one_step_for_everybody(pictures, tmp_path, own_generators, table):
    began = time.monotonic()
    with opened(pictures, tmp_path / "audit", workers=2, generator="user_generators:broken", **OPTIONS) as run:
        with pytest.raises(RunFailed) as caught:
            run.take_all()
    sentence = str(caught.value).splitlines()[0]
    assert sentence.startswith("step 2 of epoch 1 failed every time it was tried: generator 'user_generators:broken': "
                               "ValueError: the label file is empty (user_generators.py, line ")
    assert 1 <= len(run.log.having(": ValueError")) <= 2     # once for each worker, though it tried again
    assert [entry["step"] for entry in run.entries()] == [0, 1]
    table("generator", "raises at step 2, always", _short(sentence), "steps 0 and 1", time.monotonic() - began)


def test_the_folder_of_the_pictures_vanishes(pictures, tmp_path, own_generators, table):
    began = time.monotonic()
    data = tmp_path / "data"
    data.symlink_to(pictures)
    epochs = 40                                      # its folders stay open for two seconds
    with opened(str(data), tmp_path / "audit", workers=2, generator="user_generators:slow", epochs=epochs,
                **OPTIONS) as run:
        run.take(STEP)
        data.unlink()                                # as when a network file system is unmounted
        with pytest.raises(RunFailed) as caught:
            run.take_all()
    sentence = str(caught.value).splitlines()[0]
    assert re.match("none of the local workers can do this job: the dataset's folder %s is not there on "
                    % re.escape(str(data)), sentence)
    entries = run.entries()
    assert [entry["step"] for entry in entries] == list(range(len(entries)))
    assert STEP <= len(entries) < epochs * STEPS
    assert not any(entry["skipped"] for entry in entries)          # no picture was taken for a bad one
    table("pictures", "their folder vanishes after step %d" % (STEP - 1), _short(sentence.replace(str(data), "DATA")),
          "steps 0 to %d, nothing skipped" % (len(entries) - 1), time.monotonic() - began)


def test_no_worker_can_start(pictures, tmp_path, monkeypatch, table):
    began = time.monotonic()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "msgpack.py").write_text("raise ImportError('msgpack is broken here')\n")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    broken = python_with_path(tmp_path, tmp_path / "broken")
    with opened(pictures, tmp_path / "audit", workers=2, worker_python=broken, **OPTIONS) as run:
        with pytest.raises(RunFailed) as caught:
            run.take_all()
    line, = re.findall(r"error: (.* cannot run workers .ImportError: msgpack is broken here.: install .*)",
                       run.printed())
    first, *said = str(caught.value).splitlines()
    assert re.match(r"the local workers \(run by .*\) ended with exit code 1; the last lines that they wrote:$", first)
    assert any(line in one for one in said)
    assert run.entries() == []
    trouble = _short("%s %s" % (first.replace(broken, "PYTHON"), line))
    table("starting", "exception, in every worker", trouble, "no step", time.monotonic() - began)


def test_the_supervisor_is_killed(pictures, tmp_path, own_generators, table):
    began = time.monotonic()
    with opened(pictures, tmp_path / "audit", workers=2, generator="user_generators:slow", **OPTIONS) as run:
        run.joined(2)                                # none is just being forked
        run.take(STEP)
        pids = worker_pids()
        supervisor, = supervisor_pids()
        kill(supervisor)
        with pytest.raises(RunFailed) as caught:
            run.take_all()
        wait_for(lambda: not any(alive(pid) for pid in pids), "the workers' end")
    assert len(pids) == 2
    assert re.match(r"the local workers \(run by .*\) ended with SIGKILL", str(caught.value))
    entries = run.entries()
    assert [entry["step"] for entry in entries] == list(range(len(entries))) and STEP <= len(entries) < STEPS
    table("supervisor", "SIGKILL", _short(caught.value), "steps 0 to %d" % (len(entries) - 1),
          time.monotonic() - began)


def test_the_trainer_is_killed_while_workers_drain(pictures, own_generators, table):
    began = time.monotonic()
    address = "tcp://127.0.0.1:%d" % free_port()
    with consumer_program(data=pictures, generator="user_generators:endless", workers=0, bind=address,
                          image_size=[32, 32], batch_size=8) as trainer, \
            workers_program(address, "--processes", "2", "--allow-generator", "user_generators:endless") as workers:
        wait_for(lambda: len(diary(own_generators, "begin")) == 2, "both at work")
        workers.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert len(worker_pids(workers.pid)) == 2    # they finish what they do
        trainer.send_signal(signal.SIGKILL)
        assert workers.wait() == 0                   # there is no trainer any more
    assert "still busy" not in workers.text and "Traceback" not in workers.text
    table("trainer", "SIGKILL, while the workers drain", "the workers leave, with exit code 0", "no step",
          time.monotonic() - began)


def _short(sentence):
    """For the table: without what is different on another machine, or long."""
    text = re.sub("; its samples: .*", "; its samples: ...", str(sentence)).replace(sys.executable, "PYTHON")
    return re.sub(r"\b%s\b" % re.escape(socket.gethostname()), "HOST", text)
