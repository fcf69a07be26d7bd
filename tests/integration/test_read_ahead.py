"""Reading ahead: what the threads fetch is what the generator would have read, also when files change, are bad, or
workers die."""

import glob
import os
import random
import threading
import time

import pytest

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.checks import AUTO
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import BadFile, resolve
from stoker.workers import far_files, fetching, stopwatch
from stoker.workers.readers import Readers
from tests.support.processes import kill, kill_one, opened, wait_for, worker_pids
from tests.support.range_server import serving

COUNT = 40


def locate(job):
    return Readers(job).locate


class Files:
    """Files whose reads take long, as from a store that is far; ``reads``: those that were made."""

    def __init__(self, root, monkeypatch, took_s):
        self.root, self.took_s, self.reads, self.most, self.now = root, took_s, [], 0, 0
        self.gates = {}             # name -> an Event for which its read waits
        self._lock, self._read_file = threading.Lock(), folder.read_file
        self.fails = {}
        monkeypatch.setattr(far_files, "read_file", self.read_file)
        self.job = Job("image", (ArraySpec("images", "uint8", (2, 2, 3)),), 64, 0, "fast", str(root))
        for number in range(COUNT):
            (root / ("%d" % number)).write_bytes(b"%d" % number * (1 + number))

    def read_file(self, path, max_bytes=1 << 30, advice="", needs_version=True):
        name = os.path.basename(os.fsdecode(bytes(path)))
        with self._lock:
            self.reads.append(name)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            time.sleep(self.took_s)
            assert name not in self.gates or self.gates[name].wait(60)
            error = self.fails.get(name)
            if error is not None:
                raise error
            return self._read_file(path, max_bytes, advice, needs_version)
        finally:
            with self._lock:
                self.now -= 1

    def forked(self):
        """In a child that was forked: a thread that it does not have may have held the lock."""
        self._lock = threading.Lock()

    def path(self, number):
        return resolve(str(self.root), "%d" % number)

    def lease(self, number, samples, **fields):
        return self.job, Lease(number, number, 0, True, tuple(Sample(i, "%d" % i, 0) for i in samples), **fields)

    def wanted(self, number):
        return b"%d" % number * (1 + number)


@pytest.fixture
def files(tmp_path, monkeypatch):
    yield Files(tmp_path, monkeypatch, 0.02)
    fetching.start(0, locate)
    wait_for(lambda: not any(thread.name == "stoker-fetch" for thread in threading.enumerate()), "the threads' end")


def test_threads_read_what_follows_and_the_generator_waits_less_than_the_reads_take(files):
    fetching.start("auto", locate)
    fetching.permit(files.job)
    leases = [files.lease(1, range(20)), files.lease(2, range(20, COUNT))]
    stopwatch.take()
    for begin in (0, 20):
        fetching.hold(leases[begin // 20:], True)
        for number in range(begin, begin + 20):
            assert fetching.read(files.path(number))[0] == files.wanted(number)
    spent = stopwatch.take()
    assert sorted(files.reads) == sorted("%d" % number for number in range(COUNT))      # each once
    assert files.most > 1
    # by their difference: if this process stands still in a read of the generator itself, both grow by that
    assert spent.read_s >= 0.02 * COUNT and spent.read_s - spent.storage_s > 0.2 * 0.02 * COUNT
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "stoker-fetch")


@pytest.mark.parametrize("why", ["not permitted", "isolated", "0"])
def test_nothing_is_read_ahead(files, why):
    fetching.start(0 if why == "0" else 8, locate)
    if why != "not permitted":
        fetching.permit(files.job)
    fetching.hold([files.lease(1, range(10), isolated=why == "isolated")], True)
    for number in range(3):
        assert fetching.read(files.path(number))[0] == files.wanted(number)
    time.sleep(0.1)
    assert files.reads == ["0", "1", "2"]


def test_an_error_reaches_the_generator_and_only_for_the_sample_that_has_it(files):
    fetching.start(8, locate)
    fetching.permit(files.job)
    files.fails = {"5": OSError(5, "Input/output error"), "7": BadFile("no such file"), "9": ValueError("strange")}
    fetching.hold([files.lease(1, range(12))], True)
    for number in range(12):
        if number in (5, 7, 9):
            with pytest.raises(type(files.fails[str(number)]), match=str(files.fails[str(number)])[-9:]):
                fetching.read(files.path(number))
        else:
            assert fetching.read(files.path(number))[0] == files.wanted(number)


def test_a_file_that_is_too_large_is_bad_as_without(files):
    fetching.start(8, locate)
    fetching.permit(files.job)
    fetching.hold([files.lease(1, range(30))], True)
    for number in range(20):
        fetching.read(files.path(number))
    time.sleep(0.1)
    with pytest.raises(BadFile, match="a file of more than 3 bytes; permit more"):
        fetching.read(files.path(25), 3, "; permit more")
    assert fetching.read(files.path(25))[0] == files.wanted(25)


def test_a_file_that_changed_after_the_fetch_has_the_version_of_the_bytes_that_were_fetched(files, monkeypatch):
    monkeypatch.setattr(folder, "_RACY_S", -1.0)
    fetching.start(8, locate)
    fetching.permit(files.job)
    fetching.hold([files.lease(1, range(4))], True)
    fetching.read(files.path(0))
    fetching.read(files.path(1))
    wait_for(lambda: "3" in files.reads and not files.now, "the fetch")
    before = folder.version_of(os.stat(files.path(3)))
    (files.root / "3").write_bytes(b"other")
    data, version = fetching.read(files.path(3))
    assert data == files.wanted(3) and version == before != folder.version_of(os.stat(files.path(3)))


def test_a_bug_in_a_thread_ends_reading_ahead_and_fails_no_read(files, monkeypatch, capsys):
    fetching.start(4, locate)
    fetching.permit(files.job)
    fetching.hold([files.lease(1, range(10))], True)
    monkeypatch.setattr(fetching.Ahead, "arrived", lambda *args: 1 / 0)
    for number in range(10):
        assert fetching.read(files.path(number))[0] == files.wanted(number)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_question_for_the_version_of_what_is_under_way_ends_with_it(files, monkeypatch):
    monkeypatch.setattr(fetching, "WAIT_S", 3600.0)
    gate = files.gates["4"] = threading.Event()
    fetching.start(8, locate)
    fetching.permit(files.job)
    fetching.hold([files.lease(1, range(20))], True)
    fetching.read(files.path(0))
    fetching.read(files.path(1))
    wait_for(lambda: "4" in files.reads, "its fetch")
    monkeypatch.setattr(far_files, "known_version", lambda path: "a version")
    answers = []
    threading.Thread(target=lambda: answers.append(fetching.version_of(files.path(4))), daemon=True).start()
    time.sleep(0.1)
    assert not answers
    gate.set()
    wait_for(lambda: answers == ["a version"], "the answer")
    assert fetching.read(files.path(4))[0] == files.wanted(4)


def test_a_forked_process_reads_itself(files):
    fetching.start(8, locate)
    fetching.permit(files.job)
    fetching.hold([files.lease(1, range(20))], True)
    fetching.read(files.path(0))
    fetching.read(files.path(1))
    child = os.fork()
    if not child:
        code = 1
        try:
            files.forked()
            code = not all(fetching.read(files.path(number))[0] == files.wanted(number) for number in range(20))
        finally:
            os._exit(code)

    def ended():
        pid, status = os.waitpid(child, os.WNOHANG)
        return pid and (pid, status)
    try:
        assert wait_for(ended, "the child") == (child, 0)
    except AssertionError:
        kill(child)
        raise


# ------------------------------------------------------------------------------------------------------------ streams

@pytest.mark.parametrize("generator", ["augmented", "user_generators:slow"])
def test_the_same_audit_without_with_and_by_itself_while_workers_are_killed(pictures, tmp_path, own_generators,
                                                                            generator):
    options = dict(image_size=(48, 64), batch_size=16, epochs=6, seed=5, generator=generator, workers=2, prefetch=6)
    wanted, choice = None, random.Random(generator)
    for setting in (0, 6, AUTO):
        with opened(pictures, tmp_path / str(setting), read_ahead=setting, **options) as run:
            run.joined(2)
            for step in range(run.stream.plan.steps):
                run.take(1)
                if setting != 0 and step % 6 == 2:
                    kill_one(choice)
        wanted = wanted or run.content()
        assert run.content() == wanted


def test_the_same_audit_from_a_web_server_that_is_far_also_with_a_cache_while_workers_are_killed(pictures, tmp_path):
    paths = [os.path.relpath(path, pictures) for path in sorted(glob.glob(os.path.join(pictures, "*", "*")))]
    options = dict(labels=False, image_size=(48, 64), batch_size=16, epochs=5, seed=5, workers=2, prefetch=12)
    with opened(paths, tmp_path / "folder", root=pictures, read_ahead=0, **options) as run:
        run.take_all()
    wanted = run.content()
    with serving(pictures, 0.02) as url:
        for name in ("far", "cold", "warm"):
            more = {} if name == "far" else {"cache": tmp_path / "cache"}
            with opened(paths, tmp_path / name, root=url, **dict(options, **more)) as run:
                run.joined(2)
                run.take(12)
                if name != "far":
                    kill(worker_pids()[0])
                run.take_all()
            assert run.content() == wanted, name
            if name == "far":
                read_s, waited_s = (sum(getattr(batch.timings, field) for batch in run.batches[8:])
                                    for field in ("read_s", "storage_s"))
                assert read_s > 1.5 * waited_s
