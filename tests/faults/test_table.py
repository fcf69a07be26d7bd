"""The fault table: where one of two workers is hit x how -> what the user sees, and what the audit shows.

After loky's ``crash_cases``. Each case is a run with real processes in which ``inject/sitecustomize.py`` hits one
worker once. Workers of the trainer's Python and of the newest take turns over the table like the colours of a
chessboard. The rows are printed, in markdown, at the end of the tests.
"""

import os
import re
import signal
import socket
import sys
import time

import pytest

from stoker.pipeline.errors import RunFailed
from tests.support.processes import (alive, consumer_program, descendants, diary, free_port, kill, opened,
                                     python_with_path, wait_for, worker_pids, workers_program)

INJECT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inject")
OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3, "prefetch": 4}      # 120 pictures: 15 steps an epoch
STEPS = 15
STEP = 4                # is hit; so early that nobody is late yet, and an undisturbed step has one attempt
LEASE_S = 1.0

WHERE = ("starting", "handshake", "loading", "pushing", "idle", "draining")
HOW = ("exception", "os._exit", "SIGKILL", "SIGSTOP", "SIGSTOP, SIGCONT", "SIGTERM", "memory")

EXITS = {"exception": "exit code 1", "os._exit": "exit code 7", "SIGTERM": "SIGTERM", "memory": "exit code 1",
         "SIGKILL": r"SIGKILL \(killed by hand or, if memory ran out, by the kernel\)"}
RAISED = {"exception": "RuntimeError: injected", "memory": "MemoryError"}
DRAINED = r"exit code 4 \(asked to leave\)"


def expected(where, how):
    """(lines that the user sees, in any order; what becomes of the worker; the attempt by which its step is done).

    The worker 'dies', 'leaves', 'stays' or 'hangs'. Attempt None: it held no step.
    """
    stops = how.startswith("SIGSTOP")
    holds = where not in ("starting", "idle")
    lost = [r"lost the connection; its (\d+ steps go|step goes) to others"] if holds else [r"lost the connection$"]
    # what it held may have been late before it was silent: then others have it already, and it has left if it drains
    silent = [r"was silent for \d\.\d s" + (r"(; its (\d+ steps go|step goes) to others)?$" if holds else "$")
              + "|drained$" * (where == "draining")]
    if where == "starting":                                   # nobody but the supervisor knows of it
        return [] if stops else [RAISED.get(how, "")], ("hangs" if stops else "dies"), None
    if stops:
        return silent, "hangs", 2 if holds else None
    if how == "SIGTERM":                                      # a second one, to the worker that drains, changes nothing
        # in the handshake: before or after it had read Welcome
        return ([r"worker \d ?(drained|asked to stop|lost the connection)"], "leaves",
                {"handshake": None, "idle": None}.get(where, 1))
    if how in RAISED and where in ("loading", "draining"):    # the generator's thread: the worker lives on
        at = " at 'left/004.jpg'" if where == "loading" else ""      # in draining, all pictures were opened by then
        return [r"failed%s: %s" % (at, RAISED[how])], ("leaves" if where == "draining" else "stays"), 2
    return lost + [RAISED.get(how, "")], "dies", 2 if holds else None


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """A function: the content of the undisturbed run of two epochs by one worker of an interpreter."""
    known = {}

    def content(python):
        if python not in known:
            with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=2,
                        worker_python=python, **OPTIONS) as run:
                run.take_all()
            known[python] = run.content()
        return known[python]
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
                            "a line with %r" % pattern, 20)
        except AssertionError as error:
            raise AssertionError("%s in\n%s" % (error, "\n".join(self.lines()))) from None


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("where", WHERE)
def test_one_worker(where, how, reference, pictures, tmp_path, monkeypatch, table, worker_python):
    python = worker_python if (WHERE.index(where) + HOW.index(how)) % 2 else sys.executable
    _one_worker(where, how, reference, pictures, tmp_path, monkeypatch, table, python)


def test_one_worker_and_the_kernels_memory_killer(reference, pictures, tmp_path, monkeypatch, table):
    group = _memory_group()
    try:
        monkeypatch.setenv("FAULT_CGROUP", group)
        _one_worker("loading", "OOM kill", reference, pictures, tmp_path, monkeypatch, table, sys.executable)
    finally:
        os.rmdir(group)


def _memory_group():
    """A memory cgroup of 32 MiB, which needs root and a writable hierarchy. What a process had before it joins stays
    counted where it was."""
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


def _one_worker(where, how, reference, pictures, tmp_path, monkeypatch, table, python):
    began = time.monotonic()
    woken = how.endswith("SIGCONT")
    same_as = "SIGKILL" if how == "OOM kill" else how
    seen, fate, attempt = expected(where, same_as)
    folder = tmp_path / "fault"
    folder.mkdir()
    for name, value in (("PYTHONDONTWRITEBYTECODE", "1"), ("FAULT_WHERE", where), ("FAULT_HOW", how.partition(",")[0]),
                        ("FAULT_STEP", str(STEP)), ("FAULT_FOLDER", str(folder))):
        monkeypatch.setenv(name, value)
    injected = python_with_path(tmp_path, INJECT, python)
    epochs = 2 if woken else 1                       # room for the woken worker to show that it works
    with opened(pictures, tmp_path / "audit", workers=2, epochs=epochs, lease_s=LEASE_S, worker_python=injected,
                **OPTIONS) as run:
        case = Case(run, folder)
        if where in ("loading", "pushing", "draining"):
            run.joined(2)                            # somebody else is there to go on
            run.take(STEP)
        elif where == "idle":
            run.take(1)
        pid, name = wait_for(case.struck, "the fault", 20)
        told = [case.see(pattern) for pattern in seen if pattern]
        if fate == "hangs":
            wait_for(lambda: _state(pid) == "T", "its suspension")
        if woken:
            run.take(STEP + 3)                       # its own step among them, which somebody else has done
            os.kill(pid, signal.SIGCONT)
            assert wait_for(lambda: _state(pid) != "T", "its waking")
        if fate in ("dies", "leaves") or (woken and where == "draining"):
            exits = DRAINED if fate != "dies" else EXITS[same_as]
            if fate == "dies":
                told.append(case.see(r"worker \d ended with %s, restart 1$" % exits))
            case.see(r" joined .*; its predecessor ended with %s.*, restart 1$" % exits)
            assert pid not in worker_pids()
        elif woken:
            while name not in {entry["worker"] for entry in run.entries()[-1:]}:
                assert len(run.batches) < epochs * STEPS - 1, "it did not work again"
                run.take(1)
                time.sleep(0.1)                      # a trainer that trains
        run.take_all()
        assert (pid in worker_pids()) == (fate in ("stays", "hangs") and not (woken and where == "draining"))
    assert not alive(pid)
    assert run.content() == reference(python)[:epochs * STEPS]
    lines = case.lines()
    assert bool([line for line in lines if "its predecessor ended with" in line]) == (
        fate in ("dies", "leaves") or (woken and where == "draining"))
    assert bool([line for line in lines if line.startswith("Traceback")]) == (how in RAISED)
    entries = run.entries()
    redone = [entry for entry in entries if entry["attempt"] != 1]
    if where in ("loading", "pushing", "draining"):
        assert entries[STEP]["attempt"] == attempt
        if attempt == 1 or fate in ("stays", "hangs"):         # else a successor of its name may have done it
            assert (entries[STEP]["worker"] == name) == (attempt == 1)
    elif attempt:                                    # in the handshake: the first steps, whichever it got
        assert [entry["step"] for entry in redone if entry["step"] < OPTIONS["prefetch"]]
    # no more than it can have held; on a slow machine others are late, which the log says
    late = re.search(r"came to nothing, (\d+) late steps", "\n".join(lines))
    most = (0 if where in ("starting", "idle") else 2) + (int(late.group(1)) if late else 0)
    assert len(redone) <= most and {entry["attempt"] for entry in redone} <= {2}
    if not woken and fate == "hangs":
        assert name not in {entry["worker"] for entry in entries[STEP + 1:]}
    table(where, how, "; ".join(told) or "nothing: the other worker does it all", _shown(redone, name, fate),
          time.monotonic() - began)


def _state(pid):
    with open("/proc/%d/stat" % pid) as stat:
        return stat.read().rpartition(")")[2].split()[0]


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
    assert sentence.startswith("step 2 of epoch 1 failed every time it was tried: ValueError: the label file is empty")
    assert 1 <= len(run.log.having(": ValueError")) <= 2     # once for each worker, though it tried again
    assert [entry["step"] for entry in run.entries()] == [0, 1]
    table("generator", "raises at step 2, always", _short(sentence), "steps 0 and 1", time.monotonic() - began)


def test_the_folder_of_the_pictures_vanishes(pictures, tmp_path, own_generators, table):
    began = time.monotonic()
    data = tmp_path / "data"
    data.symlink_to(pictures)
    with opened(str(data), tmp_path / "audit", workers=2, generator="user_generators:slow", **OPTIONS) as run:
        run.take(STEP)
        data.unlink()                                # as when a network file system is unmounted
        with pytest.raises(RunFailed) as caught:
            run.take_all()
    sentence = str(caught.value).splitlines()[0]
    assert re.match(r"step \d+ of epoch 1 failed every time it was tried: the dataset's folder %s is not there on "
                    % re.escape(str(data)), sentence)
    entries = run.entries()
    assert [entry["step"] for entry in entries] == list(range(len(entries))) and STEP <= len(entries) < STEPS
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
    line, = re.findall(r"worker \d ended 5 times before it had started.*", run.printed())
    assert "ImportError: msgpack is broken here" in run.printed()
    assert re.match(r"the local workers \(run by .*\) ended with exit code 1; see their output above",
                    str(caught.value))
    assert run.entries() == []
    table("starting", "exception, in every worker", "%s; %s" % (line, _short(caught.value)), "no step",
          time.monotonic() - began)


def test_the_supervisor_is_killed(pictures, tmp_path, own_generators, table):
    began = time.monotonic()
    with opened(pictures, tmp_path / "audit", workers=2, generator="user_generators:slow", **OPTIONS) as run:
        run.take(STEP)
        pids = worker_pids()
        supervisor, = set(descendants(os.getpid())) - set(pids)
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
        assert workers.wait() == 0                   # nobody wants it any more
    assert "still busy" not in workers.text and "Traceback" not in workers.text
    table("trainer", "SIGKILL, while the workers drain", "the workers leave, with exit code 0", "no step",
          time.monotonic() - began)


def _short(sentence):
    """For the table: without what is different on another machine, or long."""
    text = re.sub("; its samples: .*", "; its samples: ...", str(sentence)).replace(sys.executable, "PYTHON")
    return re.sub(r"\b%s\b" % re.escape(socket.gethostname()), "HOST", text)
