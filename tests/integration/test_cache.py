"""A run consumes the same bytes without a cache, with an empty one and with a warm one, even if workers are killed."""

import glob
import os
import random
import signal
import time

import pytest

from stoker.pipeline.options import FORMER
from stoker.pipeline.sources.folder import scan_folder
from stoker.workers import formats, limits
from stoker.workers.cache import Cache
from tests.support.caching import batch, closed, in_use, job, looking, same
from tests.support.processes import kill_one, opened, wait_for, worker_pids, workers_program
from tests.support.training import audit, consumed, finished

OPTIONS = {"image_size": (48, 64), "decode": "fast", "batch_size": 16, "epochs": 2, "seed": 5}
COUNT = 120
EPOCH = 8                   # steps


@pytest.fixture(autouse=True)
def a_workers_limits():
    """This process looks into caches as a worker of these runs does: with the same limits of pictures and formats.
    They are part of the name of a cache's file."""
    limits.apply(job("/"))
    formats.apply()
    yield
    limits.apply(job("/", **FORMER))


@pytest.fixture(scope="session")
def settled(pictures):
    """The pictures, old enough to be stored."""
    newest = max(os.stat(path).st_ctime for path in glob.glob(os.path.join(pictures, "*", "*")))
    wait_for(lambda: time.time() > newest + 2.5, "the pictures' age")
    return pictures


def run_of(data, path, workers=1, **options):
    """(step, epoch, indices, crc32) of each step of a run. With a cache, all samples are in it at the end."""
    with opened(data, path, workers=workers, **dict(OPTIONS, prefetch=max(2, workers), **options)) as run:
        run.joined(max(1, workers))
        if "cache" in options:
            run.take(EPOCH)
            wait_until_stored(options["cache"], data)
        run.take_all()
    return run.content()


def wait_until_stored(folder, root, count=COUNT):
    """Until so many samples are in the cache of a run that goes on: at its end, workers write no longer than a moment,
    and what a slow disk has not taken by then is lost."""
    with looking(folder, root, OPTIONS["image_size"]) as stored:
        wait_for(lambda: stored() >= count, "%d samples in the cache" % count)


def kept(folder, root):
    """(pixels by path, number of samples that were copied) by a worker in this process."""
    in_use.cache = Cache(str(folder), 1.0, lambda text, error: None)
    try:
        names = list(scan_folder(root).paths)
        pixels, _ = batch(root, names, size=OPTIONS["image_size"])
        return pixels, in_use.cache.hits
    finally:
        closed(in_use.cache)
        in_use.cache = None


@pytest.mark.parametrize("generator", ["image", "augmented"])
def test_audit_is_the_same_without_with_a_cold_and_with_a_warm_cache(settled, tmp_path, generator):
    wanted = run_of(settled, tmp_path / "without", generator=generator)
    for workers in (1, 3):
        folder = tmp_path / ("cache-%d" % workers)
        for state in ("cold", "warm"):
            path = tmp_path / ("%s-%d" % (state, workers))
            assert run_of(settled, path, workers, generator=generator, cache=folder, cache_gb=0.1) == wanted, state
        assert kept(folder, settled)[1] == COUNT


@pytest.mark.parametrize("generator", ["image", "user_generators:slow"])
def test_workers_killed_all_the_time_leave_a_sound_cache(settled, tmp_path, own_generators, generator):
    wanted = run_of(settled, tmp_path / "without")
    decoded, _ = batch(settled, list(scan_folder(settled).paths), size=OPTIONS["image_size"])
    choice, copied = random.Random(generator), 0
    for number in range(2):
        folder = tmp_path / ("cache-%d" % number)
        with opened(settled, tmp_path / ("audit-%d" % number), workers=3, prefetch=6, generator=generator, cache=folder,
                    cache_gb=0.1, **dict(OPTIONS, epochs=OPTIONS["epochs"] + 6)) as run:
            run.joined(3)
            for step in range(len(wanted) + 24):
                run.take(1)
                if step % 4 == 0 and step < len(wanted) + 12:       # then they may store what is left
                    kill_one(choice)
                if step == len(wanted) + 16:
                    wait_until_stored(folder, settled, COUNT // 4)
                time.sleep(0.02)
        assert run.content()[:len(wanted)] == wanted
        pixels, hits = kept(folder, settled)          # each entry against a fresh decode
        assert same(pixels, decoded)
        copied += hits
    assert copied > COUNT // 4, "next to nothing was stored: this proves nothing"


def test_a_worker_whose_predecessor_crashed_does_not_use_its_file(settled, tmp_path):
    """The file may be damaged and the reason for the crash. Without this, each worker might crash in turn."""
    wanted = run_of(settled, tmp_path / "without", cache=tmp_path / "cache", cache_gb=0.1)
    with opened(settled, tmp_path / "audit", workers=0, prefetch=2, **OPTIONS) as run, workers_program(
            run.stream.address, "--processes", "1", "--cache", str(tmp_path / "cache")) as host:
        run.take(2)
        os.kill(worker_pids(host.pid)[0], signal.SIGSEGV)
        run.take_all()
        host.wait_for_line("may be damaged: a worker that used it has crashed")
    assert run.content() == wanted


def hosts(run):
    """The supervisors whose workers have made steps of it."""
    return {entry["worker"].split("/")[0] for entry in run.entries()}


def test_two_supervisors_share_a_folder(settled, tmp_path):
    wanted = run_of(settled, tmp_path / "without")
    for state in ("cold", "warm"):
        options = ["--processes", "2", "--once", "--cache", str(tmp_path / "cache"), "--cache-gb", "0.5"]
        with opened(settled, tmp_path / state, workers=0, prefetch=8, **dict(OPTIONS, epochs=8)) as run, \
                workers_program(run.stream.address, *options) as one, \
                workers_program(run.stream.address, *options) as other:
            run.joined(4)
            while len(hosts(run)) < 2 and run.stream.step < 7 * EPOCH:
                run.take(1)
                time.sleep(0.02)            # else one of them makes all steps before the other one has a core
            wait_until_stored(tmp_path / "cache", settled)
            run.take_all()
            run.stream.close()
            assert (one.wait(), other.wait()) == (0, 0)
        assert run.content()[:len(wanted)] == wanted
        assert len(hosts(run)) == 2
    for program in (one, other):
        line, = program.wait_for_line("samples of this kind")
        assert " %d samples" % COUNT in line and "of 0.5 GB" in line
        assert not [each for each in program.lines if "samples copied" in each and not each.endswith(", 0 decoded")]


def test_folder_that_cannot_be_made_is_logged_once_and_the_run_continues(settled, tmp_path):
    (tmp_path / "file").write_text("")
    wanted = run_of(settled, tmp_path / "without")
    with opened(settled, tmp_path / "audit", workers=0, prefetch=4, **OPTIONS) as run, workers_program(
            run.stream.address, "--processes", "2", "--once", "--cache", str(tmp_path / "file" / "cache")) as host:
        run.take_all()
        run.stream.close()
        assert host.wait() == 0
    assert run.content() == wanted
    assert len([line for line in host.lines if "no cache: " in line and "Not a directory" in line]) == 1


def test_folder_removed_during_the_run(settled, tmp_path):
    wanted = run_of(settled, tmp_path / "without")
    folder = tmp_path / "cache"
    with opened(settled, tmp_path / "audit", workers=2, prefetch=4, cache=folder, cache_gb=0.1,
                **dict(OPTIONS, epochs=8)) as run:
        run.take(len(wanted))
        wait_for(lambda: glob.glob(str(folder / "*.lmdb")), "the cache's file")
        for path in glob.glob(str(folder / "*")):
            os.remove(path)
        run.take_all()
    assert run.content()[:len(wanted)] == wanted


def test_the_trainers_command_line(settled, tmp_path):
    pytest.importorskip("tensorflow")
    audits = []
    with_cache = {"STOKER_CACHE": str(tmp_path / "cache"), "STOKER_CACHE_GB": "0.2"}
    for number, cache in enumerate([{}, with_cache, with_cache]):
        path = tmp_path / ("audit-%d" % number)
        run = finished(tmp_path / ("run-%d" % number), settled, "--epochs", 2, "--image-size", "48x64",
                       "--decode", "fast", "--workers", 2, "--audit", path, TMPDIR=os.environ["TMPDIR"], **cache)
        assert run.code == 0, run
        audits.append(consumed(audit(path)))
    assert audits[1:] == audits[:1] * 2
    assert kept(tmp_path / "cache", settled)[1] == COUNT
    run = finished(tmp_path / "none", settled, "--workers", 0, "--cache", tmp_path / "cache",
                   TMPDIR=os.environ["TMPDIR"])
    assert run.code == 2 and "use stoker-worker --cache" in run.stderr


def test_entries_are_counted_where_others_write(settled, tmp_path):
    """What one process stores, another that had the file open before finds."""
    with looking(tmp_path / "cache", settled, OPTIONS["image_size"]) as stored, \
            opened(settled, tmp_path / "audit", workers=2, prefetch=2, cache=tmp_path / "cache", **OPTIONS) as run:
        assert stored() == 0
        run.take(EPOCH)
        wait_for(lambda: stored() == COUNT, "all samples in the cache")
