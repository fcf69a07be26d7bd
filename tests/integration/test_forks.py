"""A stream in a fork of the process that opened it: taking batches is an error, all else changes nothing."""

import json
import re

import pytest

from tests.support.processes import Program, worker_pids

#: What each program begins with: a stream that forks get hold of, of 2 epochs of 10 batches.
OPEN = """
import gc, json, multiprocessing, os, sys, threading, time
import stoker
multiprocessing.set_start_method("fork")
AUDIT = sys.argv[1]

def tries(stream):
    try:
        return "took %d" % next(stream).step
    except BaseException as error:
        return "%s: %s" % (type(error).__name__, error)

def opened(**options):
    return stoker.open_stream(40, "numerical", batch_size=4, epochs=2, workers=1, audit=AUDIT, **options)

def forked(child):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            child(write)
        finally:
            os._exit(9)
    os.close(write)
    with open(read) as said:
        print(json.dumps([said.read(), os.waitpid(pid, 0)[1] >> 8]), flush=True)
"""
FORKS = """
stream = opened()
first = next(stream).step

def child(write):
    text = tries(stream)
    stream.close()
    with stream:
        pass
    os.write(write, text.encode())
    os._exit(0)

forked(child)
print(len(list(stream)), flush=True)
stream.close()
"""
UNWINDS = """
def child(write):
    global stream
    os.write(write, tries(stream).encode())
    for group in stream._worker_groups:
        group.stop()
    stream.__exit__(None, None, None)
    del stream
    gc.collect()
    sys.exit(0)                     # through all ``with`` blocks, finally and what atexit knows

if __name__ == "__main__":
    with opened() as stream:
        next(stream)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            child(write)
        os.close(write)
        with open(read) as said:
            print(json.dumps([said.read(), os.waitpid(pid, 0)[1] >> 8]), flush=True)
        print(len(list(stream)), flush=True)
"""
WHILE_TAKING = """
stream = opened()
next(stream)
taken = []
thread = threading.Thread(target=lambda: taken.extend(stream))
thread.start()
for _ in range(20):                 # some while the other thread is inside
    forked(lambda write: os.write(write, tries(stream).encode()) and os._exit(0))
thread.join()
print(len(taken), flush=True)
stream.close()
"""
MULTIPROCESSING = """
def child(queue):
    queue.put(tries(stream))

with opened() as stream:
    next(stream)
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=child, args=(queue,))
    process.start()
    text = queue.get()
    process.join()
    print(json.dumps([text, process.exitcode]), flush=True)
    print(len(list(stream)), flush=True)
"""
#: A stream of the fork's own, after one of its parent is closed and while another one is open.
OWN_STREAM = """
def child(write):
    with opened() as own:
        os.write(write, ("took %d" % len(list(own))).encode())
    os._exit(0)

with stoker.open_stream(40, "numerical", batch_size=4, epochs=2, workers=1) as stream:
    list(stream)
with stoker.open_stream(40, "numerical", batch_size=4, epochs=2, workers=1) as stream:
    next(stream)
    forked(child)
    print(len(list(stream)), flush=True)
"""
REFUSED = r"RuntimeError: process (\d+) takes batches from the stream that process (\d+) opened, of which it is a fork"


@pytest.mark.parametrize("program, refused, rest", [
    (FORKS, True, 19), (UNWINDS, True, 19), (WHILE_TAKING, True, 19), (MULTIPROCESSING, True, 19),
    (OWN_STREAM, False, 19),
], ids=["os.fork", "leaves by sys.exit", "while a thread takes", "multiprocessing", "its own stream"])
def test_a_fork(tmp_path, program, refused, rest):
    with Program(["-c", OPEN + program, str(tmp_path / "audit")]) as run:
        assert run.wait() == 0, run.text
        assert not worker_pids(run.pid)
    *forks, left = [json.loads(line) for line in run.lines if line[:1] in "[0123456789"]
    assert left == rest and forks, run.text
    for text, code in forks:
        assert code == 0, run.text
        if refused:
            own, parent = re.match(REFUSED, text).groups()
            assert int(parent) == run.pid != int(own)
        else:
            assert text == "took 20"
    entries = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(20))
    assert "Traceback" not in run.text


KERAS = """
import multiprocessing, stoker, sys
multiprocessing.current_process()._config["tempdir"] = "."     # the path of a socket has 107 characters at most
from tensorflow import keras as K
picture = K.layers.Input((10,))
model = K.models.Model(picture, K.layers.Dense(1)(picture))
model.compile("sgd", "mse")

class Batches(K.utils.Sequence):
    def __init__(self, generator):
        self.generator = generator

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return next(self.generator)

with stoker.open_stream(40, "numerical", batch_size=4, epochs=2, workers=1) as stream:
    arguments = dict(stoker.keras(stream, "features", "labels"), workers=1, use_multiprocessing=True, verbose=0)
    if sys.argv[1] == "OrderedEnqueuer":
        arguments["generator"] = Batches(arguments["generator"])
    try:
        model.fit_generator(**arguments)
    except (RuntimeError, StopIteration) as error:              # which OrderedEnqueuer makes of any error
        print("refused:", error, flush=True)
    arguments.update(stoker.keras(stream, "features", "labels"), use_multiprocessing=False)
    print("epochs", model.fit_generator(**arguments).epoch, flush=True)
"""


@pytest.mark.parametrize("enqueuer", ["GeneratorEnqueuer", "OrderedEnqueuer"])
def test_keras_with_processes_is_told_to_use_none(tmp_path, enqueuer):
    with Program(["-c", KERAS, enqueuer], cwd=str(tmp_path), TF_CPP_MIN_LOG_LEVEL="3") as run:
        assert run.wait() == 0, run.text
    refused = [line for line in run.lines if line.startswith("refused:")]
    assert len(refused) == 1 and "workers=0 and use_multiprocessing=False" in refused[0], run.text
    assert run.lines[-1] == "epochs [0, 1]"
