"""Farewell: the end of a run, until every member has read Stop. Pure: messages and time come in.

A worker's socket drops what it has not read when its connection breaks: if the trainer closed its end at once, a worker
could miss the end of the run. A member that has read Stop says Hello again, or hangs up.
"""

from contextlib import suppress
from enum import Enum
from typing import Any, Iterable, Sequence, Set

from stoker.pipeline.coordinator.effects import Effects, Send, WorkerKey
from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Alive, Hello

STOP_POLL_S = 0.01         # between two messages to members that may not have read Stop


class State(Enum):
    """What the session of a run is doing."""
    RUNNING = "running"        # it welcomes workers and grants leases
    STOPPING = "stopping"      # it waits until every member has read Stop: such a worker says Hello again, or hangs up
    OVER = "over"              # nothing is left to say


class Farewell:
    """Waits for ``members``, ``limit_s`` at most. All times in seconds."""

    def __init__(self, run: str, members: Iterable[WorkerKey], now: float, limit_s: float, header_bytes: int) -> None:
        self._run, self._header_bytes = run, header_bytes
        self._unread: Set[WorkerKey] = set(members)      # may not have read Stop yet
        self._end_s, self._spoke_s = now + limit_s, now
        self.is_over = False

    def next_deadline(self) -> float:
        """When ``tick`` wants to be called, at the latest."""
        return self._spoke_s + STOP_POLL_S

    def suspended_for(self, gap_s: float) -> None:
        """The caller was absent for so long: the time does not count."""
        self._end_s += gap_s

    def lost(self, peer: WorkerKey) -> None:
        """Nothing can be sent to the peer."""
        self._unread.discard(peer)

    def receive(self, peer: WorkerKey, frames: Sequence[Any], now: float) -> None:
        """A message arrived."""
        with suppress(ProtocolError):         # of no interest to a run that is over
            if isinstance(codec.decode_from_worker(frames, self._header_bytes), Hello):
                self._unread.discard(peer)
        self.is_over = self.is_over or now >= self._end_s            # even amid a flood

    def tick(self, now: float) -> Effects:
        """All waiting messages were handed in."""
        if not self._unread or now >= self._end_s:
            self.is_over = True
        if self.is_over or now < self.next_deadline():
            return []
        self._spoke_s = now
        return [Send(tuple(self._unread), Alive(self._run))]      # fails where the peer hung up
