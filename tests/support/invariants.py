"""What must hold in a LeaseScheduler at any moment."""

from collections import Counter


def check_invariants(scheduler, rooms=False):
    """Raises AssertionError where its tables contradict each other or the rules at the top of
    pipeline/coordinator/leases.py.
    ``rooms``: workers may say Room, and so hold more for a moment than they have room for."""
    window = range(scheduler._head, min(scheduler._end, scheduler._head + scheduler._prefetch))
    assert scheduler._head <= scheduler._next_ungranted <= max(scheduler._head, window.stop)
    assert set(scheduler._open) | scheduler._ready == set(range(scheduler._head, scheduler._next_ungranted))
    assert not set(scheduler._open) & scheduler._ready
    for position, entry in scheduler._open.items():
        assert entry.live <= set(entry.issued)
        assert bool(entry.live) != (position in scheduler._unassigned), "position %d" % position
        assert all(scheduler._leases[lease].position == position for lease in entry.live)
    assert sum(len(entry.live) for entry in scheduler._open.values()) == len(scheduler._leases)
    for key, worker in scheduler._workers.items():
        assert rooms or max(len(worker.leases), len(worker.unacknowledged)) <= worker.capacity + worker.ahead
        assert not worker.leases & worker.unacknowledged
        assert all(scheduler._leases[lease].worker == key for lease in worker.leases)
        assert not (worker.silent and worker.leases)
        assert worker.waits or not worker.has_room or scheduler._records._records[worker.party].places is not None
        assert not worker.waits or key in scheduler._waiting
    assert sum(len(worker.leases) for worker in scheduler._workers.values()) == len(scheduler._leases)
    check_shortcuts(scheduler)
    assert all(scheduler._open[position].live for position in scheduler._stragglers)


def alive(scheduler):
    """Members that are neither silent nor set aside."""
    return [worker for worker in scheduler.workers.values() if worker.counts]


def check_shortcuts(scheduler):
    """What the scheduler keeps so that it need not look at everything: raises AssertionError unless it agrees."""
    for positions in (scheduler._unassigned, scheduler._stragglers):
        assert list(positions) == sorted(set(positions))
    leases = list(scheduler._leases)
    assert leases == sorted(leases)
    granted_s = [lease.granted_s for lease in scheduler._leases.values()]
    assert granted_s == sorted(granted_s)
    workers = scheduler._workers
    assert (workers.alive, workers.ready) == (len(alive(scheduler)), sum(bool(each.fit) for each in alive(scheduler)))
    assert workers.at_work == Counter(worker.party for worker in workers.values() if worker.is_at_work)
    heard_s = [workers[key].heard_s for key in workers._by_silence]
    assert heard_s == sorted(heard_s)
    assert workers._by_silence.keys() >= {key for key, worker in workers.items() if worker.counts}
    assert scheduler._may_be_idle or not any(scheduler._workers[key].has_room for key in scheduler._waiting)
    records = scheduler._records
    assert records.written_off == {number for number, lease in scheduler._leases.items() if lease.is_written_off}
    assert records._limited == {party for party, each in records._records.items() if each.places is not None}
    assert records._indebted >= {party for party, each in records._records.items() if each.score < 0}
    members = {}
    for key, worker in workers.items():
        members.setdefault(worker.party, set()).add(key)
    assert {party: each.workers for party, each in records._records.items() if each.workers} == members
    numbers = [worker.number for worker in workers.values()]
    assert numbers == sorted(numbers)
