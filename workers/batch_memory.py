"""Where a worker makes the arrays of a batch: in the slot of shared memory that its lease names, from which the trainer
takes them as they are; else in memory of its own.

Only Stoker's own code ever gets arrays in a slot. A user's code could keep one and write to it later, when the slot is
that of another batch which the trainer feeds: so what a user's generator yields is copied into the slot.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.arrays import framed
from stoker.pipeline.cores import memory_bytes
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.layout import Layout, layout_of
from stoker.pipeline.protocol.messages import NO_SLOT, FromWorker, Hello, Job, Lease, Ready, sendable
from stoker.pipeline.transport.memory import NoSharedMemory, Segment
from stoker.pipeline.transport.memory_handover import Offer, remove_stale

SHARE_OF_LIMIT = 0.5       # of the memory that this process may have: at most so much is shared with a trainer


class BatchMemory:
    """The slot of one lease. ``room``: uint8 [layout.slot_bytes]. Attributes: ``slot``, its number; ``segment``, of
    which it is a part."""

    def __init__(self, segment: Optional[Segment], slot: int, room: "np.ndarray", layout: Layout,
                 places: Dict[str, int]) -> None:
        self.segment, self.slot = segment, slot
        self._room, self._layout, self._places = room, layout, places
        self._given: Dict[int, "np.ndarray"] = {}       # by their places

    def empty(self, name: str, shape: Tuple[int, ...], dtype: Any) -> "np.ndarray":
        """An array, with arbitrary content, for the array ``name`` of framed(job.arrays): where it belongs in the slot,
        if it fits; the first one of this name only."""
        place = self._places.get(name, -1)
        if place < 0 or place in self._given or _size(shape, np.dtype(dtype)) > self._layout.sizes[place]:
            return np.empty(shape, dtype)
        self._given[place] = made = self._array(place, shape, np.dtype(dtype))
        return made

    def placed(self, arrays: Sequence["np.ndarray"]) -> Tuple["np.ndarray", ...]:
        """``arrays``, those of framed(job.arrays), where they belong in the slot: those that lie elsewhere are copied.
        """
        return tuple([self._placed(place, array) for place, array in enumerate(arrays)])

    def let_go(self) -> None:
        """The batch was handed on: who still has this object, as a generator has its last lease, keeps no memory."""
        self.segment, self._room = None, self._room[:0].copy()
        self._given.clear()

    def _placed(self, place: int, array: "np.ndarray") -> "np.ndarray":
        if array is self._given.get(place):
            return array
        own = self._array(place, array.shape, array.dtype)
        if array.flags.c_contiguous and _address(array) == _address(own):
            return array
        if array.dtype == np.bool_:
            np.not_equal(array, False, out=own)     # a view of other numbers may have other bytes than 0 and 1
        else:
            own[...] = array
        return own

    def _array(self, place: int, shape: Tuple[int, ...], dtype: "np.dtype[Any]") -> "np.ndarray":
        if _size(shape, dtype) > self._layout.sizes[place]:
            raise ValueError("an array of %d bytes in a place of %d" % (_size(shape, dtype), self._layout.sizes[place]))
        return np.ndarray(shape, dtype, self._room, self._layout.starts[place])


def _size(shape: Tuple[int, ...], dtype: "np.dtype[Any]") -> int:
    size: int = dtype.itemsize
    for side in shape:
        size *= side
    return size


def _address(array: "np.ndarray") -> int:
    return int(array.__array_interface__["data"][0])


@dataclass(frozen=True)
class SlotLease(Lease):
    """A lease whose arrays are to be made in this memory. Only Stoker's own generators get one."""
    memory: Optional[BatchMemory] = field(default=None, compare=False, repr=False)


def memory_of(lease: Lease) -> Optional[BatchMemory]:
    """Where the arrays of the batch are to be made; None: in new memory."""
    return lease.memory if isinstance(lease, SlotLease) else None


def empty(memory: Optional[BatchMemory], name: str, shape: Tuple[int, ...], dtype: Any) -> "np.ndarray":
    """See ``BatchMemory.empty``."""
    return np.empty(shape, dtype) if memory is None else memory.empty(name, shape, dtype)


def compacted(array: "np.ndarray", places: Sequence[int]) -> "np.ndarray":
    """The rows of these places, which ascend, moved to the front of ``array`` itself."""
    for row, place in enumerate(places):
        if row != place:
            array[row] = array[place]
    return array[:len(places)]


class _Shared:
    """With one trainer, since this worker said Ready."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.offer: Optional[Offer] = None          # until the first lease comes
        self.segment: Optional[Segment] = None
        self.layout: Optional[Layout] = None        # of its slots
        self.places: Dict[str, int] = {}            # of each array in ``layout``, by its name


class SharedMemory:
    """What this process shares with each of its trainers, by their numbers. Called under one lock. ``note``: tells the
    user."""

    def __init__(self, options: WorkerOptions, note: Callable[[str, bool], None]) -> None:
        self._folder, self._note = options.shared_memory_folder, note
        self._shared: Dict[int, _Shared] = {}
        self._problem = "" if options.shared_memory else "it has --no-shared-memory"
        if self._folder is not None and options.shared_memory:
            try:
                remove_stale(self._folder)
            except NoSharedMemory as error:
                self._problem = str(error)

    def completed(self, trainer: int, message: FromWorker) -> FromWorker:
        """``message`` as it is to be sent. With Ready, the trainer hears where to hand over memory, and what was shared
        before is over; with Hello, too."""
        if isinstance(message, (Ready, Hello)):
            self.drop(trainer)
        if not isinstance(message, Ready):
            return message
        problem = self._problem
        try:
            if not problem:
                shared = _Shared(message.run)
                shared.offer = Offer(self._folder)
                self._shared[trainer] = shared
                return replace(message, socket=shared.offer.name)
        except NoSharedMemory as error:
            problem = str(error)
        return replace(message, no_memory=sendable(problem))

    def of(self, trainer: int, job: Job, lease: Lease) -> Optional[BatchMemory]:
        """The slot that ``lease`` names; None if it names none, or there is no memory."""
        shared = self._shared.get(trainer)
        if shared is None:
            return None
        if shared.offer is not None and lease.slot != NO_SLOT and not shared.offer.was_answered():
            return None         # it was granted before the trainer read Ready, with memory that is over
        if shared.offer is not None:
            self._take(shared, shared.offer, job, lease.slot != NO_SLOT)
        segment, layout = shared.segment, shared.layout
        if segment is None or layout is None or not 0 <= lease.slot < segment.slots:
            return None
        return BatchMemory(segment, lease.slot, segment.slot(lease.slot), layout, shared.places)

    def has(self, memory: Optional[BatchMemory]) -> bool:
        """Whether the trainer has this memory, too, and reads it there."""
        return memory is not None and any(memory.segment is one.segment for one in self._shared.values())

    def drop(self, trainer: int) -> None:
        """Nothing is shared with this trainer any more. Memory stays mapped while a batch is in it."""
        shared = self._shared.pop(trainer, None)
        if shared is not None and shared.offer is not None:
            shared.offer.close()

    def close(self) -> None:
        """Leaves no file."""
        for trainer in list(self._shared):
            self.drop(trainer)

    def _take(self, shared: _Shared, offer: Offer, job: Job, is_needed: bool) -> None:
        shared.offer, shared.layout = None, layout_of(job.arrays, job.batch_size, job.rows)
        shared.places = {spec.name: place for place, spec in enumerate(framed(job.arrays))}
        try:
            segment = offer.take(shared.run, shared.layout.slot_bytes)
            check_room(segment.slots * segment.slot_bytes, memory_bytes())
            shared.segment = segment
        except NoSharedMemory as error:
            if is_needed:           # else the trainer has said why it shares none
                self._note("batches go over the connection, since the trainer's memory cannot be shared: %s" % error,
                           False)


def check_room(segment_bytes: float, limit_bytes: float) -> None:
    """Batches in shared memory count as memory of the worker that wrote them: where a container gives it little, it
    would be killed for them, and good pictures would be taken for the cause. Raises NoSharedMemory."""
    if segment_bytes > SHARE_OF_LIMIT * limit_bytes:
        raise NoSharedMemory("it is up to %.0f MB, and all processes of this container or cgroup may have %.0f MB" % (
            segment_bytes / 1e6, limit_bytes / 1e6))
