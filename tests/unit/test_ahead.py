"""Reading ahead, the part that decides, on virtual time: what is fetched when, within which bounds, and what is learned
from what a generator reads."""

import heapq
import random
import sys
import threading
import time

import pytest

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import SamplePath, resolve
from stoker.pipeline.storage.place import place_of
from stoker.workers import ahead, fetching, read_pace, stopwatch
from stoker.workers.ahead import Ahead
from stoker.workers.held_lease import State
from stoker.workers.read_pace import Pace

JOB = Job("image", (ArraySpec("images", "uint8", (2, 2, 3)),), 32, 0, "fast", "/data")


def locate_in(job):
    def locate(text):
        place = place_of(text)
        found = SamplePath(("%s/%s" % (job.data_root, text if place is None else place.path)).encode())
        found.place = place
        return found
    return locate


LOCATE = locate_in(JOB)


def lease_of(number, paths, job=JOB, **fields):
    return job, Lease(number, number, 0, True, tuple(Sample(1000 * number + i, path, 0)
                                                     for i, path in enumerate(paths)), **fields)


def knowing(*leases, has_begun=True):
    """An Ahead whose generator has read the first sample of the first lease."""
    made = Ahead()
    made.hold(leases, has_begun, locate_in)
    made.was_read(LOCATE(leases[0][1].samples[0].path), 1000)
    return made


def fetched(made, threads=64):
    found = []
    while True:
        fetch = made.next_fetch(threads)
        if fetch is None:
            return found
        found.append(fetch)


def names(fetches):
    return [[item.path.decode().rpartition("/")[2] if item.place is None else str(item.place) for item in fetch.items]
            for fetch in fetches]


def test_nothing_is_fetched_before_the_generator_has_read_something():
    made = Ahead()
    made.hold([lease_of(1, "abc")], True, locate_in)
    assert made.next_fetch(64) is None and not made.has_queued


def test_what_follows_in_this_lease_and_the_next_is_fetched_in_order_up_to_the_number_of_threads():
    made = knowing(lease_of(1, "abc"), lease_of(2, "de"))
    first = fetched(made, 3)
    assert names(first) == [["b"], ["c"], ["d"]] and made.under_way == 3
    made.arrived(first[0], [b"..."], [3], 0.01)
    assert names(fetched(made, 3)) == [["e"]]


def test_what_arrived_is_taken_once_and_what_the_generator_reached_first_is_not_fetched():
    made = knowing(lease_of(1, "abcd"))
    fetch = made.next_fetch(1)
    made.arrived(fetch, [b"..."], [3], 0.01)
    item = made.find(LOCATE("b"))
    assert item.state is State.THERE and made.take(item) == b"..." and made.waiting_bytes == 0
    assert made.find(LOCATE("b")) is None
    assert made.find(LOCATE("c")) is None            # queued: the generator reads it itself
    assert names(fetched(made)) == [["d"]]


def test_what_was_revoked_is_dropped_there_or_under_way():
    one, two = lease_of(1, "ab"), lease_of(2, "cd")
    made = knowing(one, two)
    b, c, d = fetched(made)
    made.arrived(b, [b"b"], [1], 0.0)
    made.arrived(c, [b"c"], [1], 0.0)
    made.hold([one], True, locate_in)
    assert made.find(LOCATE("c")) is None and made.find(LOCATE("d")) is None
    made.arrived(d, [b"d"], [1], 0.0)
    assert made.waiting_bytes == 1 and made.under_way == 0
    made.hold([], False, locate_in)
    assert made.waiting_bytes == 0 and not made._by_path


def test_fields_of_rows_are_learned_and_partners_too():
    job = Job("my:function", JOB.arrays, 32, 0, "fast", "/data", columns=("left", "right", "note"))
    packed = [b"\x93\xa2l%d\xa2r%d\xa1x" % (i, i) for i in range(4)]
    lease = Lease(1, 1, 0, True, tuple(Sample(i, "", 0, packed[i], 0, (Sample(9, "p%d" % i, 0),)) for i in range(4)))
    made = Ahead()
    made.hold([(job, lease)], True, locate_in)
    made.was_read(LOCATE("r0"), 10)
    assert names(fetched(made)) == [["r1"], ["r2"], ["r3"]]
    made.was_read(LOCATE("p0"), 10)
    assert names(fetched(made)) == [["p1"], ["p2"], ["p3"]]
    made.was_read(LOCATE("elsewhere"), 10)
    assert fetched(made) == []


def test_a_field_that_is_not_used_is_forgotten_and_comes_back_only_if_most_samples_read_it():
    one, two, three = lease_of(1, "abcd"), lease_of(2, "efgh"), lease_of(3, "ijkl")
    made = knowing(one, two)
    for fetch in fetched(made):
        made.arrived(fetch, [b""] * len(fetch.items), [0], 0.0)
    made.hold([two, three], True, locate_in)             # nothing of it was taken
    assert fetched(made) == []
    made.was_read(LOCATE("e"), 10)
    assert fetched(made) == []
    made.was_read(LOCATE("f"), 10)
    assert names(fetched(made)) == [["g"], ["h"], ["i"], ["j"], ["k"], ["l"]]


def test_places_that_lie_close_are_one_fetch_and_far_or_large_ones_are_not():
    far = 400001 + ahead.MAX_GAP_BYTES
    paths = ["x.tar//0+100000", "x.tar//300000+100000", "x.tar//100512+100000", "y.tar//0+10", "x.tar//%d+10" % far,
             "x.tar//%d+10" % (far + 11), "big.tar//0+%d" % (17 << 20), "x.h5//hdf5:3:images", "empty.tar//512+0"]
    made = knowing(lease_of(1, ["first"] + paths))
    found = fetched(made)
    assert names(found) == [[paths[0], paths[2], paths[1]], [paths[3]], [paths[4], paths[5]]]
    assert found[0][1:] == (700000, 0, 400000) and found[1][1:] == (10, 0, 0)
    assert all(fetch.limit_bytes <= ahead.MAX_FETCH_BYTES for fetch in found)


def test_a_file_larger_than_the_limit_lets_the_next_ones_have_more():
    made = knowing(lease_of(1, "abcd"))
    fetch = made.next_fetch(1)
    assert fetch.limit_bytes == ahead.MIN_LIMIT_BYTES
    made.too_large(fetch)
    assert made.find(LOCATE("b")) is None
    assert made.next_fetch(1).limit_bytes == 2 * ahead.MIN_LIMIT_BYTES


def test_an_isolated_samples_path_that_cannot_be_found_is_left_to_the_generator():
    def locate(job):
        def fails(text):
            if text == "b":
                raise ValueError("no path")
            return LOCATE(text)
        return fails
    made = Ahead()
    made.hold([lease_of(1, "abc")], True, locate)
    made.was_read(LOCATE("a"), 1)
    assert names(fetched(made)) == [["c"]]


@pytest.mark.parametrize("seed", range(40))
def test_within_the_bounds_each_at_most_once_and_none_starves(seed):
    """A generator and fetches of random latency on virtual time; leases come, end, and are revoked."""
    rng = random.Random(seed)
    made, threads = Ahead(), rng.choice([1, 3, 64])
    size = rng.choice([1000, 100000, 5 << 20])
    several = rng.random() < 0.5
    numbers = iter(range(1, 1000))

    def new_lease():
        number = next(numbers)
        return lease_of(number, [("s.tar//%d+%d" % (rng.randrange(200) * 50000, size // 8) if several and
                                  rng.random() < 0.5 else "%d-%d" % (number, i)) for i in range(rng.randrange(1, 40))])

    held, under_way, now, count = [new_lease(), new_lease()], [], 0.0, 0
    made.hold(held, True, locate_in)
    begun = []

    def start_all():
        nonlocal count
        while True:
            fetch = made.next_fetch(threads)
            assert made.under_way <= min(threads, ahead.MAX_READS)
            assert 0 <= made.waiting_bytes <= ahead.MAX_WAITING_BYTES
            if fetch is None:
                return
            assert all(item.state is State.UNDER_WAY for item in fetch.items)
            assert all(item.lease.lease in [lease for _, lease in held] for item in fetch.items)
            begun.extend((item.lease.lease.lease, item.number, item.role) for item in fetch.items)
            count += 1
            heapq.heappush(under_way, (now + rng.expovariate(30), count, fetch))

    def finish(until):
        nonlocal now
        while under_way and (under_way[0][0] <= until):
            now, _, fetch = heapq.heappop(under_way)
            failed = rng.random() < 0.05
            made.arrived(fetch, None if failed else [(fetch, item.path) for item in fetch.items],
                         [min(size, fetch.limit_bytes // len(fetch.items))] * len(fetch.items), 0.01)
            start_all()
        now = max(now, until)

    for _ in range(8):
        for sample in held[0][1].samples:
            path = LOCATE(sample.path)
            item = made.find(path)
            while item is not None and item.state is State.UNDER_WAY:
                assert under_way, "it waits for what is not under way"
                finish(under_way[0][0])
            if item is None or item.state is not State.THERE:
                made.was_read(path, size)
            else:
                assert made.take(item)[1] == path
            start_all()
            finish(now + rng.expovariate(1000))
        held = [held[1], new_lease()]
        if rng.random() < 0.3:                      # the waiting one is revoked
            made.hold(held[:1], True, locate_in)
            start_all()
            held[1] = new_lease()
        made.hold(held, True, locate_in)
        start_all()
    assert len(begun) == len(set(begun)) and begun
    made.hold([], False, locate_in)
    finish(float("inf"))
    assert (made.waiting_bytes, made.under_way, made._by_path) == (0, 0, {})


# ---------------------------------------------------------------------------------------------------------- the pace

def played(pace, reads, between_s=0.001, now=0.0, is_probe=False):
    for took_s in reads:
        now += took_s + between_s
        pace.read(took_s, between_s, now, is_probe)
    return now


@pytest.mark.parametrize("reads, between_s, is_on", [
    ([0.00005] * 200, 0.0005, False),                        # a warm page cache
    (([0.00005] * 19 + [0.004]) * 20, 0.0005, False),        # on a busy machine
    ([0.03] * 4, 0.0005, True),                              # over a network: known after four reads
    ([0.003] * 40, 0.03, True), ([0.0004] * 40, 0.001, True),
    ([0.0004] * 40, 0.05, False),                            # a tenth of a sample's time would be 5 ms, but it is short
    ([0.00015] * 40, 0.0001, False),                         # much of the time, but a thread would not be faster
    ([0.00005, 0.01] * 20, 0.001, True)])                    # half of them are in a cache
def test_auto_reads_ahead_where_reads_take_long(reads, between_s, is_on):
    pace = Pace("auto")
    assert not pace.is_on and pace.threads == 0
    played(pace, reads, between_s)
    assert pace.is_on is is_on


def test_there_are_threads_for_what_reads_take_and_some_more():
    pace = Pace("auto")
    played(pace, [0.03] * 32, 0.001)
    assert 30 < pace.threads <= 45
    for _ in range(100):
        pace.fetched(0.005)
    assert 5 < pace.threads < 15
    for _ in range(100):
        pace.fetched(5.0)
    assert pace.threads == read_pace.MAX_READS


def test_long_reads_that_waited_for_nothing_are_no_reason_to_read_ahead():
    """As where more processes than cores read from memory."""
    pace = Pace("auto")
    now = 0.0
    for _ in range(400):
        now += 0.02
        pace.read(0.01, 0.001, now, waited=False)
    assert not pace.is_on
    for _ in range(16):
        pace.read(0.01, 0.001, now, waited=True)
    assert pace.is_on


def test_auto_tries_to_go_on_without_after_a_probe_that_was_fast():
    pace = Pace("auto")
    now = played(pace, [0.03] * 16)
    assert not pace.wants_probe(now) and pace.wants_probe(now + read_pace.PROBE_INTERVAL_S)
    assert not pace.wants_probe(now + read_pace.PROBE_INTERVAL_S)           # one at a time
    now = played(pace, [0.03], now=now + 5, is_probe=True)
    assert pace.is_on and not pace.wants_probe(now)
    now = played(pace, [0.00005] * 100, now=now)                         # no probes: a file that is read twice
    assert pace.is_on
    now = played(pace, [0.0005], now=now, is_probe=True)                 # many threads: a fast read takes longer
    assert not pace.is_on
    played(pace, [0.00005] * 1000, now=now)
    assert not pace.is_on


def test_tries_that_do_not_last_become_rarer():
    """Half of the files are in a cache: so half of the probes are fast."""
    pace, now, tries = Pace("auto"), 0.0, []
    for _ in range(40):
        now = played(pace, [0.00005, 0.03] * 8, now=now)
        assert pace.is_on
        while not pace.wants_probe(now):
            now += 0.5
        tries.append(now)
        now = played(pace, [0.00005], now=now, is_probe=True)
    between = [after - before for before, after in zip(tries, tries[1:])]
    assert between[0] < 2 * read_pace.PROBE_INTERVAL_S + 1 and between[-1] >= read_pace.MAX_PROBE_INTERVAL_S
    now = played(pace, [0.00005] * 100000, now=now)                      # much later, it begins as at first
    now = played(pace, [0.03] * 16, now=now)
    assert pace.is_on and pace.wants_probe(now + read_pace.PROBE_INTERVAL_S)


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux counts")
def test_a_wait_is_told_from_work():
    waits = stopwatch.times_waited()
    time.sleep(0.01)
    assert stopwatch.times_waited() != waits
    counts = []
    for _ in range(50):         # another process may take the core, but only by force
        waits = stopwatch.times_waited()
        end_s = time.perf_counter() + 0.001
        while time.perf_counter() < end_s:
            pass
        counts.append(stopwatch.times_waited() == waits)
    assert sum(counts) > 25


def test_a_number_and_0_are_as_they_say():
    assert (Pace(5).is_on, Pace(5).threads, Pace(0).is_on, Pace(0).threads) == (True, 5, False, 0)
    pace = Pace(5)
    played(pace, [0.00001] * 100, is_probe=True)
    assert pace.is_on and pace.threads == 5 and not pace.wants_probe(1e9)


def test_a_forked_child_reads_without_the_threads_and_the_lock_of_its_parent(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    fetcher, found = fetching.Fetcher(4, locate_in), []
    fetcher._process = -1           # as a child sees it
    reader = threading.Thread(target=lambda: found.append(fetcher.read(resolve(str(tmp_path), "a"), 10, "", True)),
                              daemon=True)
    with fetcher._lock:             # which a thread of the parent held when it was forked
        reader.start()
        reader.join(10)
        assert found and found[0][0] == b"x"


def test_a_short_last_batch_of_an_epoch_is_no_reason_to_hold_more_leases():
    made = knowing(lease_of(1, [str(i) for i in range(200)]), lease_of(2, "ab"))
    assert made.leases_wanted(64) == 2
    assert knowing(lease_of(1, "ab"), lease_of(2, "cd")).leases_wanted(4) == 3
