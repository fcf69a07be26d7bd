"""BatchMemory: the memory that the trainer shares with the workers of its host, a segment for each.

``slots.py`` decides which slot is used for what. Here are the segments themselves. What worked with one is a reason for
none: a worker that cannot be reached, or a limit of this system, costs shared memory with that worker alone.
"""

import logging
import os
from typing import Dict, FrozenSet, List, Optional, Tuple

import numpy as np

from stoker.pipeline.coordinator.effects import WorkerKey
from stoker.pipeline.options import JobOptions
from stoker.pipeline.protocol.layout import layout_of
from stoker.pipeline.transport.memory import NoSharedMemory, Segment, create
from stoker.pipeline.transport.memory_handover import hand_over

log = logging.getLogger("stoker")


class BatchMemory:
    """For the run named ``run``; for one thread. ``slots``: of each segment. ``folder``: see ``memory_handover.py``."""

    def __init__(self, run: str, job: JobOptions, slots: int, folder: Optional[str] = None) -> None:
        self._run, self._folder, self._slots = run, folder, slots
        self._slot_bytes = layout_of(job.arrays, job.batch_size, job.rows).slot_bytes
        self._segments: Dict[WorkerKey, Segment] = {}
        self._left: List[Tuple[Segment, List[int]]] = []     # of former members: the slots with batches

    def share(self, peer: WorkerKey, socket: str) -> str:
        """A new segment for a worker that has none, handed over at its socket. Returns '' or why that was not possible,
        in a clause."""
        try:
            segment, fd = create(self._slots, self._slot_bytes)
            try:
                hand_over(socket, self._folder, fd, self._run, self._slots, self._slot_bytes)
            finally:
                os.close(fd)
        except NoSharedMemory as error:
            return str(error)
        self._segments[peer] = segment
        return ""

    def drop(self, peer: WorkerKey, leased: FrozenSet[int]) -> None:
        """A worker's segment is used no more, but for the batches in it, and by the worker itself in the slots
        ``leased``. The memory of the others goes back to the system, of the rest with the last batch."""
        segment = self._segments.pop(peer, None)
        if segment is not None:
            self._left.append((segment, [slot for slot in segment.touched() if slot not in leased]))
            self.look_at_left()

    def close(self) -> None:
        """The run is over: what stays is the memory of the batches that are in use."""
        for peer in list(self._segments):
            self.drop(peer, frozenset())
        self._left = []

    def release(self, peer: WorkerKey, slot: int) -> None:
        """Gives the memory of a free slot back to the system."""
        if peer in self._segments:
            self._segments[peer].release(slot)

    def slot(self, peer: WorkerKey, number: int) -> "np.ndarray":
        """See ``contracts.SlotMemory``."""
        self.look_at_left()
        return self._segments[peer].slot(number)

    def is_free(self, peer: WorkerKey, number: int) -> bool:
        """See ``contracts.SlotMemory``."""
        return self._segments[peer].is_free(number)

    def look_at_left(self) -> None:
        """Gives back the memory of former members where the batches are gone."""
        if self._left:
            self._left = [entry for entry in map(_without_free, self._left) if entry[1]]


def _without_free(left: Tuple[Segment, List[int]]) -> Tuple[Segment, List[int]]:
    segment, kept = left[0], []
    for slot in left[1]:
        if segment.is_free(slot):
            segment.release(slot)
        else:
            kept.append(slot)
    return segment, kept
