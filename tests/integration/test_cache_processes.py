"""The cache with real processes and real time: processes that are killed, that are suspended or that crash."""

import errno
import glob
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from stoker.pipeline.storage import folder as storage
from stoker.workers import cache as cache_module
from stoker.workers.cache_file import CacheFile
from tests.support.caching import (
    IN_TRANSACTION, WORKER, Host, batch, digest, draw, draw_photos, entries, file_of, same)
from tests.support.processes import LIMIT_S, ROOT, wait_for

COUNT = 20


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_RACY_S", 0.0)       # the files of a test are made the moment before
    host = Host(tmp_path / "cache")
    yield host
    host.end()


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos", COUNT)


def test_within_one_process_too(host, photos):
    wanted, cache = host.decoded(photos), host.worker()
    deadline = time.monotonic() + LIMIT_S
    while cache.hits < COUNT and time.monotonic() < deadline:    # the writer takes its time
        assert same(batch(photos)[0], wanted)
    assert cache.hits >= COUNT


def test_a_thread_that_ends_unexpectedly_does_not_close_the_file_under_a_reader(host, photos, monkeypatch):
    """The disk is full, and with it the log of standard error: LMDB's map must stay while the main thread may read."""
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")
    wanted, cache = host.decoded(photos), host.worker()
    monkeypatch.setattr(CacheFile, "_store", full)
    assert same(batch(photos)[0], wanted)
    file = file_of(cache)
    file._report = full
    wait_for(lambda: file.fault is not None, "the end of the thread's work")
    assert file.is_alive() and file.env.stat()["psize"]          # not closed
    monkeypatch.undo()
    assert same(batch(photos)[0], wanted)                         # ends the thread, and goes on without the file
    wait_for(lambda: not file.is_alive(), "the end of the thread")


def test_file_changed_just_now_is_not_kept(photos, tmp_path):
    host = Host(tmp_path / "cache")
    draw(photos / "07.png", 7)
    host.batch(photos)
    assert host.batch(photos)[1] < COUNT              # the others may be old enough by now
    deadline = time.monotonic() + LIMIT_S
    while host.batch(photos)[1] < COUNT:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert time.time() - os.stat(str(photos / "07.png")).st_ctime > 2
    host.end()


def test_file_that_changes_while_it_is_read_is_not_relied_on(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_RACY_S", -1e9)
    path = str(tmp_path / "growing")
    with open(path, "wb") as file:
        file.write(bytes(64 << 20))
    assert storage.read_file(path)[1] is not None
    ended = threading.Event()

    def change():
        with open(path, "r+b", 0) as file:
            while not ended.is_set():
                file.write(b"1")
                os.utime(path)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        # nearly always; but on a busy machine a read may find the other thread asleep
        assert None in [storage.read_file(path)[1] for _ in range(10)]
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("seed", range(4))
def test_garbage_in_the_file(host, photos, seed):
    """A process may die of it; those after it may not, and none may give another picture."""
    wanted, _ = host.batch(photos)
    host.end()
    choice = random.Random(seed)
    with open(host.file, "r+b") as file:
        pages = os.path.getsize(host.file) // 4096
        small = [page for page in range(2, pages) if _page(file, page)[10] & 3]     # branches and leaves, no pixels
        for page in small + choice.sample(range(pages), pages // 4):
            file.seek(page * 4096 + choice.choice([0, 8, 12, 16]) + choice.randrange(60))
            file.write(bytes(choice.randrange(256) for _ in range(choice.choice([1, 8, 200]))))
    crashed = False
    for _ in range(6):
        worker = subprocess.run([sys.executable, "-c", WORKER, host.folder, str(photos), "crashed" * crashed], cwd=ROOT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        assert worker.returncode in (0, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT), worker.stderr.decode()
        crashed = worker.returncode != 0
        if worker.returncode == 0:
            assert worker.stdout.splitlines()[-1] == digest(wanted), worker.stdout.decode()
    assert not crashed and int(worker.stdout.split()[-2]) == COUNT


def _page(file, number):
    file.seek(number * 4096)
    return file.read(4096)


def test_file_that_another_process_removed(host, photos, monkeypatch):
    monkeypatch.setattr(cache_module, "REOPEN_INTERVAL_S", 0.0)
    wanted, cache = host.decoded(photos), host.worker()
    batch(photos, ["00.png"])
    wait_for(lambda: entries(cache) == 1, "the first entry")
    for path in glob.glob(os.path.join(host.folder, "*.lmdb*")):
        os.remove(path)
    deadline = time.monotonic() + LIMIT_S
    while entries(cache) < COUNT:                    # in the new one
        assert same(batch(photos)[0], wanted) and time.monotonic() < deadline
    assert os.path.exists(host.file)


@pytest.mark.parametrize("name", ["caf\u00e9", "caf\udce9"])
def test_folder_with_any_name(photos, tmp_path, name):
    """As bytes, for not every name is text in every locale."""
    folder = os.path.join(os.fsencode(str(tmp_path)), name.encode("utf-8", "surrogateescape"))
    script = "import os, sys\nsys.argv[1] = os.fsdecode(%r)\n" % folder + WORKER
    for hits in (0, COUNT):
        worker = subprocess.run([sys.executable, "-c", script, "", str(photos), ""], cwd=ROOT, timeout=LIMIT_S,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, LC_ALL="C"))
        assert worker.returncode == 0, worker.stderr.decode()
        assert int(worker.stdout.split()[-2]) == hits


def test_disk_that_is_full(host, photos):
    """A limit on the size of files is what a test can have of it."""
    script = ("import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
              "resource.setrlimit(resource.RLIMIT_FSIZE, (90000, 90000))\n") + WORKER
    wanted = host.decoded(photos)
    for _ in range(2):
        worker = subprocess.run([sys.executable, "-c", script, host.folder, str(photos), ""], cwd=ROOT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        assert worker.returncode == 0, worker.stderr.decode()
        lines = worker.stdout.splitlines()
        assert lines[-1] == digest(wanted) and len([line for line in lines if b"cannot write: " in line]) == 1
    assert same(host.batch(photos)[0], wanted) and host.batch(photos)[1] == COUNT


def _stopped_amid_a_transaction(host, photos):
    process = subprocess.Popen([sys.executable, "-c", IN_TRANSACTION, host.folder, str(photos)], cwd=ROOT,
                               stdout=subprocess.PIPE)
    for line in process.stdout:
        if line == b"amid\n":
            return process
    raise AssertionError("it ended")


def test_process_killed_in_a_transaction(host, photos):
    host.batch(photos, ["%02d.png" % number for number in range(10)])
    host.end()
    for _ in range(3):
        process = _stopped_amid_a_transaction(host, photos)
        process.kill()
        process.wait()
        process.stdout.close()
    wanted = host.decoded(photos)
    found, hits = host.batch(photos)
    assert hits == 10 and same(found, wanted)
    cache = host.worker()
    assert same(batch(photos)[0], wanted) and cache.hits == COUNT
    assert entries(cache) == COUNT                   # and nothing of what was not committed
    assert not [line for line in file_of(cache).env.readers().splitlines() if str(process.pid) in line]
    assert host.logged("damaged") == []


def test_process_suspended_in_a_transaction_does_not_hold_up_others(host, photos):
    wanted = host.decoded(photos)
    host.batch(photos, ["%02d.png" % number for number in range(10)])
    cache = host.worker()
    batch(photos, ["00.png"])
    process = _stopped_amid_a_transaction(host, photos)
    try:
        process.send_signal(signal.SIGSTOP)
        before_s = time.monotonic()
        for _ in range(20):
            assert same(batch(photos)[0], wanted)
        assert cache.hits >= 10 * 20 + 1
        host.end()
        assert time.monotonic() - before_s < LIMIT_S
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert same(host.decoded(photos), wanted)
    host.batch(photos)
    assert host.batch(photos)[1] == COUNT


def test_without_lmdb_the_error_names_the_command(tmp_path):
    script = ("import sys; sys.modules['lmdb'] = None\nfrom stoker.workers.__main__ import main\n"
              "sys.exit(main(['--connect', 'tcp://127.0.0.1:1', '--cache', %r]))" % str(tmp_path / "cache"))
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, timeout=LIMIT_S)
    assert run.returncode == 2 and b"%s -m pip install lmdb" % sys.executable.encode() in run.stderr
    assert b"Traceback" not in run.stderr


def test_without_the_option_lmdb_is_not_imported():
    script = "import sys, stoker.workers.process, stoker.workers.__main__\nassert 'lmdb' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=LIMIT_S)
