"""What must hold in a LeaseScheduler at any moment."""


def check_invariants(scheduler, rooms=False):
    """Raises AssertionError where its tables contradict each other or the rules at the top of pipeline/leases.py.
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
        assert rooms or max(len(worker.leases), len(worker.unacknowledged)) <= worker.capacity
        assert not worker.leases & worker.unacknowledged
        assert all(scheduler._leases[lease].worker == key for lease in worker.leases)
        assert not (worker.silent and worker.leases)
        assert worker.waits or not worker.has_room or scheduler._records._records[worker.party].places is not None
        assert not worker.waits or key in scheduler._waiting
    assert sum(len(worker.leases) for worker in scheduler._workers.values()) == len(scheduler._leases)
    assert all(scheduler._open[position].live for position in scheduler._stragglers)
