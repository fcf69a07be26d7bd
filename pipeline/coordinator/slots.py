"""Slots: which slot of its shared memory a worker may write the batch of a lease to. Pure.

    free ──grant──> leased ──its worker answers──> lent ──the last view is gone──> free
                      └── never answered: it stays out, as long as the worker is a member

A slot is leased to one lease of one worker, and comes back only by an answer of that worker that names the lease:
Produced, Failed or Returned. A lease that was revoked, or lost by silence, keeps its slot until then. So a frozen
worker that wakes writes only to a slot in which no batch is, and which no other lease has. A slot is lent while arrays
of the batch exist, in the consumer's hands or TensorFlow's.

Each worker has a segment of its own, with a slot for each batch that can be under way. A segment costs no memory until
it is touched: so what is bounded are the touched slots of all workers together. That is the window and what its
consumer holds, and a slot for each lease that the workers may hold, at most as many again. At the bound a free slot of
another worker is given back to the system; if there is none, the batch travels in frames. A consumer that keeps all
batches therefore gets copies, as without shared memory. Of the free slots a lease gets the lowest: the processor's
cache knows it best.
"""

from collections import OrderedDict
from functools import partial
from heapq import heappop, heappush
from itertools import islice
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from stoker.pipeline.contracts import SlotMemory
from stoker.pipeline.coordinator.effects import Effects, Release, Unshare, WorkerKey
from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.protocol.messages import MAX_SLOTS, NO_SLOT, Failed, FromWorker, Produced, Ready
from stoker.pipeline.protocol.messages import Returned

EXTRA_BATCHES = 4      # that consumer and TensorFlow may hold besides the window
LEASES = 2             # of a worker, in most cases
SPARE_SLOTS = 8        # of a segment, for leases that are never answered
LOOKED_AT = 8          # workers among which one with a free slot is sought


def slots_of(prefetch: int) -> int:
    """How many slots a segment has."""
    return min(MAX_SLOTS, prefetch + EXTRA_BATCHES + SPARE_SLOTS)


class SlotTable:
    """The slots of one member, ``slots`` in number; 0: it shares no memory. ``is_free``: no view of a slot exists."""

    def __init__(self, slots: int, is_free: Callable[[int], bool]) -> None:
        self.slots, self._is_free = slots, is_free
        self.leases: Dict[int, Tuple[int, int]] = {}       # lease -> (its slot or NO_SLOT, its position)
        self.lent: List[Tuple[int, int]] = []              # (position, slot): answered, and perhaps still in use
        self.free: List[int] = []                          # touched, and in no use: a heap
        self._untouched: List[int] = []                    # a heap of those below _next
        self._next = 0                                     # it and all above were never used

    def reclaim(self, head: int) -> bool:
        """Finds the slots that are free again, of batches below ``head``: the others wait for the consumer. Returns
        whether some slot is free."""
        for entry in [entry for entry in self.lent if entry[0] < head and self._is_free(entry[1])]:
            self.lent.remove(entry)
            heappush(self.free, entry[1])
        return bool(self.free)

    @property
    def has_untouched(self) -> bool:
        """Some slot costs no memory yet."""
        return bool(self._untouched) or self._next < self.slots

    def touch(self) -> int:
        """The lowest untouched slot, which is in the caller's hands now."""
        if self._untouched:
            return heappop(self._untouched)
        self._next += 1
        return self._next - 1

    def give_back(self) -> int:
        """The highest free slot, whose memory the caller releases."""
        slot = max(self.free)
        self.free.remove(slot)
        self.free.sort()
        heappush(self._untouched, slot)
        return slot

    def answered(self, lease: int, used: int) -> Optional[int]:
        """The worker answered a lease, and wrote the batch to the slot ``used``: the slot of the lease, which it writes
        to no more; None if it is not a lease of this table, or was answered before."""
        held = self.leases.pop(lease, None)
        if held is None:
            return None
        slot, position = held
        if slot != NO_SLOT and slot == used:
            self.lent.append((position, slot))
        elif slot != NO_SLOT:
            heappush(self.free, slot)
        return slot


class Slots:
    """Those of all members. ``prefetch``: the most steps that are leased or buffered at once. ``memory``: that they
    share with the trainer; None: all batches come in frames."""

    def __init__(self, prefetch: int, memory: Optional[SlotMemory]) -> None:
        self._window, self._memory, self._slots = prefetch + EXTRA_BATCHES, memory, slots_of(prefetch)
        self._tables: Dict[WorkerKey, SlotTable] = {}
        self._sharing = 0                  # members that share memory
        self._holders: "OrderedDict[WorkerKey, SlotTable]" = OrderedDict()     # tables that may have free slots
        self.touched = 0                   # slots that cost memory
        self.in_frames = 0                 # leases of members that share memory for which there was no slot

    @property
    def most_touched(self) -> int:
        """The most slots that may cost memory."""
        return self._window + min(self._window, LEASES * self._sharing)

    def reason(self, ready: Ready) -> str:
        """Why a member that says this shares no memory, in a clause; '': it may."""
        if self._memory is None:
            return "the trainer has --no-shared-memory"
        return "" if ready.socket else ready.no_memory or "it offers no memory"

    def memory_of(self, peer: WorkerKey, produced: Produced) -> "Optional[np.ndarray]":
        """The slot that holds the arrays of a batch, which ``answer`` let pass; None: they are in frames."""
        return None if self._memory is None or produced.slot == NO_SLOT else self._memory.slot(peer, produced.slot)

    def joined(self, peer: WorkerKey, shares: bool) -> Effects:
        """The member is ready for leases, and has a new segment if it ``shares`` memory: then ``left`` came first."""
        effects = self.left(peer)
        self._tables[peer] = SlotTable(self._slots if shares else 0, partial(self._memory.is_free, peer)
                                       if self._memory is not None else bool)
        self._sharing += shares
        return effects

    def left(self, peer: WorkerKey) -> Effects:
        """It is no member any more, or gets another segment."""
        table = self._tables.pop(peer, None)
        if table is None or not table.slots:
            return []
        self._sharing -= 1
        self._holders.pop(peer, None)
        leased = frozenset(slot for slot, _ in table.leases.values() if slot != NO_SLOT)
        self.touched -= len(table.free) + len(table.lent) + len(leased)
        return [Unshare(peer, leased)]

    def grant(self, peer: WorkerKey, lease: int, position: int, head: int) -> Tuple[int, List[Release]]:
        """The slot for a lease, or NO_SLOT. The caller first carries out the effects."""
        table = self._tables.get(peer)
        if table is None:
            return NO_SLOT, []
        slot, effects = NO_SLOT, []       # type: int, List[Release]
        if table.lent or table.free:
            if table.reclaim(head):
                slot = heappop(table.free)
        if slot == NO_SLOT and table.has_untouched:
            if self.touched >= self.most_touched:
                effects = self._release_one(head)
            if self.touched < self.most_touched:
                slot = table.touch()
                self.touched += 1
        self.in_frames += slot == NO_SLOT and table.slots > 0
        table.leases[lease] = slot, position
        return slot, effects

    def answer(self, peer: WorkerKey, message: FromWorker) -> FromWorker:
        """``message`` as it counts: a batch in a slot of which nothing is known any more, as that of an older segment,
        or of a lease that was answered before, is worth nothing. Raises ProtocolError."""
        if not isinstance(message, (Produced, Failed, Returned)):
            return message
        table = self._tables.get(peer)
        used = message.slot if isinstance(message, Produced) else NO_SLOT
        slot = None if table is None else table.answered(message.lease, used)
        if table is not None and slot is not None and slot != NO_SLOT:
            self._holders[peer] = table
        if used in (NO_SLOT, slot):
            return message
        if slot is None:
            return Returned(message.run, message.lease)
        raise ProtocolError("its batch is in slot %d, and the lease has %s" % (
            used, "none" if slot == NO_SLOT else "slot %d" % slot))

    def _release_one(self, head: int) -> List[Release]:
        """A free slot of some member costs no memory from now on, if one can be found."""
        for peer, table in list(islice(self._holders.items(), LOOKED_AT)):
            if table.reclaim(head):
                self.touched -= 1
                return [Release(peer, table.give_back())]
            if table.lent:
                self._holders.move_to_end(peer)
            else:
                del self._holders[peer]
        return []
