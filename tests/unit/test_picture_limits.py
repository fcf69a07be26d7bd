"""What one picture may cost: the limits hold while it is decoded, and only then; and memory goes back to the system."""

import io
import mmap
import resource
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from stoker.pipeline.options import FORMER, JobOptions, StreamOptions
from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage.folder import BadFile
from stoker.workers import heap, images, picture_limits
from stoker.workers.picture_limits import limited
from tests.support.bad_pictures import photo
from tests.support.hostile_pictures import png

JOB = Job("image", (), 8, 0, "exact", "/", picture_cpu_s=50.0, picture_memory_mb=48)
LARGE = png(6000, 6000, 6, 8)       # RGBA: 144 MB


@pytest.fixture(autouse=True)
def none_left():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    heap.free_memory()          # that other tests have left
    yield
    picture_limits.lift()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


@limited
def seen(takes_much=True):
    if takes_much:
        picture_limits.limit_memory()
    return signal.getitimer(signal.ITIMER_PROF)[0], resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_the_limits_hold_while_a_picture_is_decoded_and_not_after_it():
    outside = resource.getrlimit(resource.RLIMIT_DATA)
    picture_limits.apply(JOB)
    seconds, most = seen()
    assert 49 < seconds < 51
    assert heap.usage()[0] - (8 << 20) < most - (48 << 20) <= heap.usage()[0] + (8 << 20)
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0 and resource.getrlimit(resource.RLIMIT_DATA) == outside
    assert seen(takes_much=False)[1] == outside[0]
    with pytest.raises(ValueError):
        limited(lambda: picture_limits.limit_memory() or int("no number"))()
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0 and resource.getrlimit(resource.RLIMIT_DATA) == outside


def test_there_are_none_without_a_job_with_zeros_or_in_another_thread():
    nothing = 0.0, resource.getrlimit(resource.RLIMIT_DATA)[0]
    assert seen() == nothing
    picture_limits.apply(replace(JOB, picture_cpu_s=0.0, picture_memory_mb=0))
    assert seen() == nothing
    picture_limits.apply(JOB)
    found = []
    thread = threading.Thread(target=lambda: found.append(seen()))
    thread.start()
    thread.join()
    assert found == [nothing]


def test_an_ignored_signal_kills_again_and_a_profilers_stays():
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    try:
        picture_limits.apply(JOB)
        assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL and seen()[0] > 0
        signal.signal(signal.SIGPROF, lambda *event: None)
        picture_limits.apply(JOB)
        assert seen()[0] == 0 and signal.getsignal(signal.SIGPROF) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("decode", ["exact", "fastest"])
def test_a_picture_that_takes_more_memory_is_bad_and_one_that_takes_less_is_not(decode):
    picture_limits.apply(JOB)
    with pytest.raises(BadFile) as caught:
        images.decoded(LARGE, (8, 8), decode)
    assert str(caught.value) == ("takes more than 48 MB of memory to decode; picture_memory_mb (--picture-memory-mb) "
                                 "permits more")
    with pytest.raises(BadFile, match="takes more than 48 MB"):
        images.converted(LARGE, None, "RGB", None)
    assert images.decoded(png(2000, 1500, 6, 8), (8, 8), decode).size == (8, 8)
    picture_limits.apply(replace(JOB, picture_memory_mb=640))
    assert images.decoded(LARGE, (8, 8), decode).size == (8, 8)


def test_an_ordinary_jpeg_has_the_limit_if_its_header_says_that_it_may_take_more(monkeypatch):
    limits = []
    monkeypatch.setattr(images, "limit_memory", lambda: limits.append(1))
    file = io.BytesIO()
    photo(0, (600, 800)).save(file, "JPEG")
    for memory_mb, limited_ones in ((0, 0), (6, 0), (5, 1)):        # 480,000 pixels of 12 bytes are 5.5 MB
        picture_limits.apply(replace(JOB, picture_memory_mb=memory_mb))
        assert images.decoded(file.getvalue(), (8, 8), "fastest").size == (8, 8)
        assert len(limits) == limited_ones


def test_what_the_worker_has_itself_does_not_count():
    picture_limits.apply(replace(JOB, picture_memory_mb=112))
    own = bytearray(b"x") * (160 << 20)          # a user's function keeps it
    assert images.decoded(png(3000, 3000, 6, 8), (8, 8), "exact").size == (8, 8)
    assert len(own) == 160 << 20


def test_a_limit_from_outside_is_no_fault_of_the_file():
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    picture_limits.apply(replace(JOB, picture_memory_mb=4096))
    resource.setrlimit(resource.RLIMIT_DATA, (heap.usage()[0] + (48 << 20), hard))
    picture_limits.apply(replace(JOB, picture_memory_mb=4096))
    try:
        with pytest.raises(MemoryError, match="less than picture_memory_mb"):
            images.decoded(LARGE, (8, 8), "exact")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_by_default_the_memory_follows_from_the_largest_picture():
    usual = StreamOptions().memory_mb_of(JobOptions())
    assert 1400 < usual < 1600
    assert StreamOptions().memory_mb_of(JobOptions(max_pixels=FORMER["max_pixels"])) > 2.5 * usual - 300
    assert StreamOptions(picture_memory_mb=0).memory_mb_of(JobOptions()) == 0
    assert StreamOptions(picture_memory_mb=np.int64(7)).memory_mb_of(JobOptions()) == 7


# --------------------------------------------------------------------------------------------- memory that goes back

def test_a_large_picture_leaves_nothing_behind():
    picture_limits.apply(replace(JOB, picture_memory_mb=0))
    images.decoded(LARGE, (8, 8), "exact")
    before = heap.usage()[1]
    for _ in range(3):
        images.decoded(LARGE, (8, 8), "exact")
    assert heap.usage()[1] - before < 16 << 20


@pytest.fixture
def told(monkeypatch):
    """A function that tells a Heap of a lease, with the MB that are in memory then, and how many are left if it frees
    some. Returns whether it did."""
    used, freed, watched = [0, 0], [], heap.Heap()

    def free():
        freed.append(used[0])
        used[0] = used[1]
    monkeypatch.setattr(heap, "free_memory", free)
    monkeypatch.setattr(heap, "usage", lambda: (0, used[0] << 20))

    def tell(used_mb, left_mb, produce_s=1.0, batch_mb=0):
        used[:] = used_mb, left_mb
        before = len(freed)
        watched.settle(produce_s, batch_mb << 20)
        return len(freed) > before
    return tell


def test_memory_is_given_back_when_much_is_kept_and_not_for_usual_batches(told):
    assert told(100, 90)                    # the first time, to learn how much it needs
    assert not told(150, 90)
    assert told(900, 110)
    assert not told(170, 110)
    assert told(180, 110)
    assert not told(900, 100, produce_s=0.01)
    assert not told(400, 100, batch_mb=100)
    assert told(700, 100, batch_mb=100)


def test_a_worker_that_has_become_smaller_is_looked_at_from_there(told):
    assert told(900, 800)
    assert not told(100, 100)
    assert told(500, 100)


def test_usage_counts_what_the_process_may_write():
    before = heap.usage()
    mapped = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE)
    assert heap.usage()[0] - before[0] >= 64 << 20
    mapped.close()


def test_one_timer_serves_several_pictures(monkeypatch):
    picture_limits.apply(JOB)
    monkeypatch.setattr(picture_limits, "TIMER_S", 20.0)
    with picture_limits.one_timer():
        assert signal.getitimer(signal.ITIMER_PROF)[0] == 0         # no picture is decoded yet
        first = seen()[0]
        assert 69 < first < 71 and 49 < signal.getitimer(signal.ITIMER_PROF)[0] <= first
        signal.setitimer(signal.ITIMER_PROF, 30.0)
        assert seen()[0] < 31                                       # not set for each one
        monkeypatch.setattr(picture_limits._State, "timer_until_s", 1e-9)
        assert seen()[0] > 69                                       # each has all of its time
        found = []
        thread = threading.Thread(target=lambda: found.append(images.decoded(png(9, 9, 6, 8), (8, 8), "fast").size))
        thread.start()
        thread.join()
        assert found == [(8, 8)] and signal.getitimer(signal.ITIMER_PROF)[0] > 49
        with pytest.raises(BadFile):
            images.decoded(LARGE, (8, 8), "exact")                  # the limit of memory holds, too
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
    with pytest.raises(ValueError):
        with picture_limits.one_timer():
            limited(lambda: int("no number"))()
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
    with picture_limits.one_timer():
        pass
    picture_limits.apply(replace(JOB, picture_cpu_s=0.0))
    with picture_limits.one_timer():
        assert seen()[0] == 0
