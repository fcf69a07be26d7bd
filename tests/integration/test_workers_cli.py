"""``python -m workers`` as its users and the trainer see it: life, death, options, and the errors of generators."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.protocol.messages import PROTOCOL_VERSION
from stoker.trainer.feed import open_stream
from tests.support.processes import (ROOT, Program, alive, consumer_program, diary, free_port, kill, opened, suspended,
                                     wait_for, worker_pids, workers_program)

OPTIONS = {"image_size": (32, 32), "batch_size": 16}     # 120 pictures: 8 steps


# ---------------------------------------------------------------------------------------------------------- one life

def test_serves_one_trainer_after_the_other(pictures, tmp_path):
    address = "tcp://127.0.0.1:%d" % free_port()
    with workers_program(address, "--processes", "2") as workers:
        wait_for(lambda: len(worker_pids(workers.pid)) == 2, "two workers")
        first_pids = worker_pids(workers.pid)
        for number in (1, 2):
            with opened(pictures, tmp_path / str(number), workers=0, bind=address, **OPTIONS) as run:
                run.joined(2)
                run.take_all()
            workers.wait_for_line("run [0-9a-f]+ is over: all steps are done", 2 * number)
        assert worker_pids(workers.pid) == first_pids       # the same processes served both
        assert len([line for line in workers.lines if "connected to run" in line]) == 4
        assert len([line for line in workers.lines if "job: image, images uint8[32, 32, 3]" in line]) == 4
        for text in ("this Pillow has", " sandbox"):          # an old Pillow; what the kernel has: once, if at all
            assert workers.text.count(text) <= 1, workers.text
        of_the_host = [line for line in workers.lines if "this Pillow has" in line or " sandbox" in line]
        assert len(workers.lines) == 1 + 4 * 3 + len(of_the_host), workers.text
        workers.send_signal(signal.SIGTERM)
        assert workers.wait() == 0
    assert "Traceback" not in workers.text


@pytest.mark.parametrize("processes", [1, 3])
def test_once_ends_with_the_run(pictures, tmp_path, processes):
    with opened(pictures, tmp_path / "audit", workers=0, **OPTIONS) as run, \
            workers_program(run.stream.address, "--processes", str(processes), "--once") as workers:
        run.joined(processes)
        run.take_all()
        run.stream.close()
        assert workers.wait() == 0
    assert len(workers.wait_for_line("is over: all steps are done")) == 1


def test_once_ends_also_if_one_worker_missed_the_end(pictures, tmp_path):
    with opened(pictures, tmp_path / "audit", workers=0, **OPTIONS) as run, \
            workers_program(run.stream.address, "--processes", "3", "--once") as workers:
        run.joined(3)
        run.take_all()
        kill(worker_pids(workers.pid)[0])
        run.stream.close()                                  # before its successor can have joined
        assert workers.wait() == 0


def test_options_by_environment(pictures, tmp_path):
    with opened(pictures, tmp_path / "audit", workers=0, **OPTIONS) as run, \
            Program(["-m", "workers"], STOKER_CONNECT=run.stream.address, STOKER_PROCESSES="2") as workers:
        workers.wait_for_line("connected to run", 2)
        run.take_all()
        assert len(worker_pids(workers.pid)) == 2


def test_data_by_another_name_on_this_host(pictures, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(pictures)
    moved = tmp_path / "moved"
    moved.symlink_to(pictures)
    with opened(str(moved), tmp_path / "audit", workers=0, **OPTIONS) as run:
        moved.unlink()                                      # the trainer's name for the folder means nothing any more
        with workers_program(run.stream.address, "--processes", "1", "--data", str(elsewhere)):
            run.take_all()
    assert [len(batch) for batch in run.batches] == [16] * 7 + [8]


# -------------------------------------------------------------------------------------------------------------- ends

def test_sigterm_drains_and_loses_no_work(pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=0, generator="user_generators:slower", **OPTIONS) as run:
        options = (run.stream.address, "--processes", "1", "--allow-generator", "user_generators:slower")
        with workers_program(*options) as leaving:
            run.take(1)
            wait_for(lambda: len(diary(own_generators, "begin")) >= 2, "the second step")
            leaving.send_signal(signal.SIGTERM)
            assert leaving.wait() == 0
        leaving.wait_for_line("drained")
        begun = diary(own_generators, "begin")
        assert diary(own_generators, "end") == begun and len(begun) < 8
        with workers_program(*options):
            run.take_all()
    # what the first one had begun was used: nobody did any of it again
    assert sorted(position for position, _ in diary(own_generators, "begin")) == list(range(8))
    assert len({pid for _, pid in diary(own_generators, "begin")}) == 2
    assert {entry["attempt"] for entry in run.entries() if entry["step"] in dict(begun)} == {1}


def test_the_second_sigterm_kills(pictures, own_generators):
    from stoker.workers.host import DRAIN_S
    with open_stream(pictures, generator="user_generators:endless", workers=0, **OPTIONS) as stream, \
            workers_program(stream.address, "--processes", "2",
                            "--allow-generator", "user_generators:endless") as workers:
        wait_for(lambda: len(diary(own_generators, "begin")) == 2, "both at work")
        workers.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert workers.running() and len(worker_pids(workers.pid)) == 2    # they finish what they do
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(DRAIN_S - 2) == 0
    assert "still busy" not in workers.text


def test_workers_die_with_their_supervisor(pictures, own_generators):
    with open_stream(pictures, generator="user_generators:endless", workers=0, **OPTIONS) as stream, \
            workers_program(stream.address, "--processes", "3",
                            "--allow-generator", "user_generators:endless") as workers:
        wait_for(lambda: len(diary(own_generators, "begin")) == 3, "all at work")
        pids = worker_pids(workers.pid)
        os.kill(pids[0], signal.SIGSTOP)                    # a suspended one, too
        kill(workers.pid)
        wait_for(lambda: not any(alive(pid) for pid in pids), "their end")
    assert len(pids) == 3


def test_a_worker_that_is_suspended_while_it_starts_dies_with_its_supervisor(pictures, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os, signal\n"
                                               "with open('/proc/self/cmdline') as line:\n"
                                               "    if 'stoker.workers.process' in line.read():\n"
                                               "        os.kill(os.getpid(), signal.SIGSTOP)\n")
    with workers_program("tcp://127.0.0.1:%d" % free_port(), "--processes", "2",
                         PYTHONPATH=os.pathsep.join([str(tmp_path), ROOT])) as workers:
        pids = wait_for(lambda: len(worker_pids(workers.pid)) == 2 and worker_pids(workers.pid), "two workers")
        wait_for(lambda: all(suspended(pid) for pid in pids), "their suspension")
        kill(workers.pid)
        wait_for(lambda: not any(alive(pid) for pid in pids), "their end")


def test_a_killed_worker_is_replaced(pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=2, generator="user_generators:slower", **OPTIONS) as run:
        run.joined(2)
        killed = worker_pids()[0]
        kill(killed)
        run.take_all()
        line, = run.log.having("its predecessor ended with")
        assert len(worker_pids()) == 2 and killed not in worker_pids()
    assert re.search(r" joined \(pid \d+, python .*\); its predecessor ended with SIGKILL", line)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_leaves_no_worker(pictures, own_generators, signum):
    with consumer_program(data=pictures, generator="user_generators:slower", workers=3, image_size=[32, 32],
                          batch_size=16) as program:
        program.wait_for_line("step 0")
        wait_for(lambda: len(worker_pids(program.pid)) == 3, "three workers")
        pids = worker_pids(program.pid)
        program.send_signal(signum)
        assert program.wait() == -signum                    # its output has ended: nobody else holds it
        wait_for(lambda: not any(alive(pid) for pid in pids), "their end")


def test_an_exception_in_the_loop_ends_the_workers(pictures, own_generators):
    with pytest.raises(ZeroDivisionError):
        with open_stream(pictures, generator="user_generators:slower", workers=2, **OPTIONS) as stream:
            for batch in stream:
                batch.step / 0
    assert worker_pids() == []


# ---------------------------------------------------------------------------------------------------------- refusals

@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["", "quiet"])
def test_another_version_of_the_protocol_is_refused_for_good(pictures, tmp_path, quiet):
    # imported at the start of each interpreter, before any of Stoker's own modules
    (tmp_path / "sitecustomize.py").write_text("import stoker.pipeline.protocol.messages as messages\n"
                                               "messages.PROTOCOL_VERSION = 99\n")
    path = os.pathsep.join([str(tmp_path), ROOT])
    with opened(pictures, tmp_path / "audit", workers=0, **OPTIONS) as run, \
            workers_program(run.stream.address, "--processes", "2", *quiet, PYTHONPATH=path) as other, \
            workers_program(run.stream.address, "--processes", "1"):
        assert other.wait() == 3
        run.take_all()                                      # those of the right version are not disturbed
    refusals = [line for line in other.lines if "protocol version 99, this side speaks %d" % PROTOCOL_VERSION in line]
    assert 1 <= len(refusals) <= 2 and "install the same Stoker release" in refusals[0]
    assert "Traceback" not in other.text and "restart" not in other.text
    line, = run.log.having("another release")
    assert line == ("a worker of another release (protocol version 99, this is %d) was refused: it connects from "
                    "127.0.0.1; install the same Stoker release on trainer and workers" % PROTOCOL_VERSION)


def test_workers_that_cannot_start_are_given_up(tmp_path):
    (tmp_path / "PIL.py").write_text("raise ImportError('PIL is broken here')\n")
    path = os.pathsep.join([str(tmp_path), ROOT])
    with workers_program("tcp://127.0.0.1:%d" % free_port(), "--processes", "2", PYTHONPATH=path) as workers:
        assert workers.wait() == 1
    assert "PIL is broken here" in workers.text
    assert len(workers.wait_for_line("ended 5 times before it had started.*giving up")) == 1


@pytest.mark.parametrize("options, sentence", [
    ([], "--connect"),
    (["--connect", "127.0.0.1:5555"], "not '127.0.0.1:5555'"),
    (["--connect", "tcp://127.0.0.1"], "--connect must look like"),
    (["--connect", "tcp://no port:here"], "--connect must look like tcp://HOST:5555"),
    (["--connect", "tcp://127.0.0.1:5555", "--processes", "0"], "--processes must be at least 1, not 0"),
    (["--connect", "tcp://127.0.0.1:5555", "--processes", "two"], "--processes"),
    (["--connect", "tcp://127.0.0.1:5555", "--data", "/no/such/folder"], "there is no folder '/no/such/folder'"),
    (["--connect", "tcp://127.0.0.1:5555", "--prosesses", "2"], "--prosesses"),
    (["--connect", "tcp://trainer:5555"], "--data DIR says which folder the trainer at tcp://trainer:5555 may read"),
    (["--connect", "tcp://10.0.0.5:5555", "--allow-data", "/no/such"], "--allow-data: there is no folder '/no/such'"),
    (["--connect", "tcp://10.0.0.5:5555", "--allow-data", "/", "--data", "/"], "exclude each other"),
    (["--connect", "tcp://127.0.0.1:5555", "--max-batch-mb", "0"], "--max-batch-mb must be a number above 0"),
], ids=lambda value: " ".join(value[-1:]) if isinstance(value, list) else "")
def test_bad_options_are_one_sentence(options, sentence):
    with Program(["-m", "workers", "--quiet"] + options) as workers:
        assert workers.wait() == 2
    assert sentence in workers.text and "Traceback" not in workers.text
    assert len([line for line in workers.lines if "error: " in line]) == 1


def test_help():
    text = subprocess.check_output([sys.executable, "-m", "workers", "--help"], cwd=ROOT, universal_newlines=True,
                                   env=dict(os.environ, COLUMNS="100"))
    for word in ("--connect", "--processes", "--allow-generator", "--once", "STOKER_CONNECT", "SIGTERM"):
        assert word in text


def test_what_was_tried_where_no_trainer_is_found():
    with socket.socket() as stopped:          # the kernel takes its connections
        stopped.bind(("127.0.0.1", 0))
        stopped.listen(5)
        says = {"tcp://nohost.invalid:5555": "the name 'nohost.invalid' does not resolve",
                "tcp://localhost:%d" % free_port(): "refuses connections",
                "tcp://127.0.0.1:%d" % stopped.getsockname()[1]: "takes connections, but does not answer"}
        with ExitStack() as stack:
            for program, text in [
                    (stack.enter_context(workers_program(address, "--processes", "1", "--data", ".")), text)
                    for address, text in says.items()]:
                line, = program.wait_for_line("no trainer for [0-9]+ s, still trying: .*" + text)
                assert "rejects" not in program.text, line


def test_the_port_of_another_trainer(pictures, tmp_path):
    with opened(pictures, tmp_path / "audit", workers=1, **OPTIONS) as run:
        run.take_all()
    finished = run.entries()
    with open_stream(pictures, workers=0, **OPTIONS) as first:
        with pytest.raises(ConfigError) as caught:
            open_stream(pictures, workers=0, bind=first.address, audit=str(tmp_path / "audit"), **OPTIONS)
    assert "cannot bind %s: the port is in use" % first.address in str(caught.value)
    assert run.entries() == finished          # a run that did not begin has not touched it


def test_no_worker_at_all(pictures):
    with open_stream(pictures, workers=0, worker_timeout_s=0.5, **OPTIONS) as stream:
        with pytest.raises(RunFailed) as caught:
            next(stream)
    assert "no worker is connected" in str(caught.value)
    assert "python -m workers --connect %s" % stream.address in str(caught.value)


def test_a_worker_python_that_is_none(pictures, tmp_path):
    with pytest.raises(ConfigError) as caught:
        open_stream(pictures, workers=1, worker_python=str(tmp_path / "python"), **OPTIONS)
    assert "cannot start workers with" in str(caught.value) and "No such file" in str(caught.value)
    with pytest.raises(ConfigError, match="'/bin/false': it is no Python interpreter .it ended with exit code 1."):
        open_stream(pictures, workers=1, worker_python="/bin/false", **OPTIONS)


# ------------------------------------------------------------------------------------------------ the users' generators

@pytest.mark.parametrize("name, sentence", [
    ("broken", "ValueError: the label file is empty"),
    ("yields_nothing", "ended without a batch"),
    ("yields_twice", "yielded more than one batch for a lease"),
    ("wrong_shape", "'images' is of shape [16, 31, 32, 3], must be [n, 32, 32, 3]"),
    ("missing", "has no missing"),
])
def test_a_bad_generator_ends_the_run_with_its_own_words(pictures, own_generators, name, sentence):
    # yields_twice fails at each second lease of a worker: that it does so three times at one step is chance
    with open_stream(pictures, generator="user_generators:" + name, workers=2, epochs=30, **OPTIONS) as stream:
        with pytest.raises(RunFailed) as caught:
            for _ in stream:
                pass
    text = str(caught.value)
    first = text.splitlines()[0]
    assert sentence in first
    if name == "missing":
        assert re.match("none of the local workers can do this job: cannot load the function ", first)
        assert "samples" not in first
    else:
        assert re.match(r"step \d+ of epoch \d+ failed every time it was tried: .*; its samples: ", first)
        assert len(re.findall(r"(left|right)/\d{3}\.jpg", first)) == 8
    # our own sentences about a generator need none
    assert ("Traceback (most recent call last)" in text) == (name == "broken")
    if name == "broken":
        assert first.startswith("step 2 ") and "user_generators.py\", line" in text.splitlines()[2]


def test_a_generator_that_fills_one_array_again_and_again(pictures, tmp_path, own_generators):
    options = dict(OPTIONS, epochs=20)     # enough batches for some to wait for the wire while the next is made
    with opened(pictures, tmp_path / "own", workers=2, generator="user_generators:reusing", **options) as run:
        run.take_all()
    with opened(pictures, tmp_path / "built-in", workers=1, **options) as reference:
        reference.take_all()
    assert run.content() == reference.content()


def test_a_resumed_step_as_tensorflow_hands_it_out(pictures, tmp_path):
    with open_stream(pictures, workers=1, start_step=np.int64(3), **OPTIONS) as stream:
        assert next(stream).step == 3


def test_an_interrupted_stream_ends_also_while_it_waits(pictures):
    with open_stream(pictures, workers=0, **OPTIONS) as stream:
        threading.Timer(0.3, stream.interrupt).start()
        assert list(stream) == []


def test_the_address_that_users_are_told(pictures):
    with open_stream(pictures, workers=0, bind="tcp://0.0.0.0:%d" % free_port(), insecure=True,
                     **OPTIONS) as stream:
        assert stream.worker_command.endswith(" %s --data DIR" % stream.address.replace("0.0.0.0",
                                                                                         socket.gethostname()))


def test_a_generator_that_recovers(pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "own", workers=2, generator="user_generators:broken_once", **OPTIONS) as run:
        run.take_all()
    with opened(pictures, tmp_path / "built-in", workers=1, **OPTIONS) as reference:
        reference.take_all()
    assert run.content() == reference.content()
    assert run.entries()[2]["attempt"] == 2
    assert "ValueError: the label file is empty" in run.log.having(" failed: ")[0]
