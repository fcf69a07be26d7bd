"""The memory that a simulation's trainer shares with its workers: real memory, handed over at real sockets, by the real
parts of both ends. After every event it is checked that no batch changes while it is in use."""

import zlib
from collections import deque

import numpy as np

from stoker.pipeline.coordinator.batch_memory import BatchMemory
from stoker.pipeline.coordinator.slots import EXTRA_BATCHES, slots_of
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.messages import NO_SLOT
from stoker.workers.batch_memory import SharedMemory

TRAINER = 0


class SimMemory(BatchMemory):
    """The trainer's side. Some handovers fail."""

    def __init__(self, run, job, prefetch, random):
        super().__init__(run, job, slots_of(prefetch))
        self._random, self._most = random, 2 * (prefetch + EXTRA_BATCHES)
        self.batches = deque()           # in use by the consumer: [views, their checksum]
        self.in_slots = self.refused = 0

    def share(self, peer, socket):
        """Sometimes it is not possible."""
        if self._random.random() < 0.1:
            self.refused += 1
            return "it is elsewhere"
        return super().share(peer, socket)

    def deliver(self, views, message):
        """A batch came; it is in use for as long as ``taken`` leaves it."""
        self.in_slots += message.slot != NO_SLOT
        if message.slot == NO_SLOT:
            views = tuple(view.copy() for view in views)
        self.batches.append((views, checksum(views)))

    def take(self, held):
        """The consumer uses all but the last ``held`` batches no more, and keeps a few of them for long."""
        while len(self.batches) > held:
            views, before = self.batches.popleft()
            assert checksum(views) == before, "a batch changed while it was in use"
            if self._random.random() < 0.2 and len(self.batches) < 2 * held:
                self.batches.append((views, before))
                break

    def check(self, session):
        """After every event."""
        slots = session.slots
        assert slots.touched <= self._most and slots._tables.keys() <= session._members.keys()
        assert self._segments.keys() >= {peer for peer, table in slots._tables.items() if table.slots}
        assert self._segments.keys() <= session._members.keys()
        for peer, table in slots._tables.items():
            leased = [slot for slot, _ in table.leases.values() if slot != NO_SLOT]
            assert len(leased) == len(set(leased))
            assert all(self._segments[peer].is_free(slot) for slot in leased + table.free), "a slot is leased and lent"


def checksum(views):
    return [zlib.crc32(np.ascontiguousarray(view).tobytes()) for view in views]


class WorkerMemory:
    """A worker's side, as in ``workers/process.py``: it writes into a slot at any time from when it gets the lease."""

    def __init__(self, shares):
        self._memory = SharedMemory(WorkerOptions("tcp://127.0.0.1:1", shared_memory=shares), lambda text, loud: None)
        self._slots = {}                 # lease -> its BatchMemory or None

    def completed(self, message):
        """As it is to be sent."""
        return self._memory.completed(TRAINER, message)

    def begin(self, job, lease):
        """The lease is in work: there is something in its slot soon."""
        self._slots = {lease.lease: self._memory.of(TRAINER, job, lease)}
        self._scribble(lease)

    def _scribble(self, lease):
        slot = self._slots.get(lease.lease)
        if slot is not None:
            slot._room[:] = lease.lease % 251

    def finish(self, lease, arrays):
        """The arrays are made: (what of them travels in frames, the slot)."""
        self._scribble(lease)
        slot = self._slots.pop(lease.lease, None)
        if slot is None:
            return arrays, NO_SLOT
        placed = slot.placed(arrays)
        return ((), slot.slot) if self._memory.has(slot) else (placed, NO_SLOT)

    def close(self):
        """The process ends."""
        self._memory.close()

    def __del__(self):
        self.close()
