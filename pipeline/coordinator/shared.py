"""SharedMembers: the members that serve other trainers, too, and how they are told how much this one needs them. Pure.

Such a worker has few places for leases, and gives each to the trainer that needs it most (see its module
``conversations``). So it is told, with each lease and each heartbeat, how many leases this trainer could grant, and how
soon its consumer needs the next one: the distance of that position from the head, times the recent time of a step. All
trainers compute it alike, so the worker can compare them.

A worker that has room here and gets nothing is told so at once: its place may be of use elsewhere. Once there is
something to grant, and no worker has room, some of those are told that have heard that there is nothing. The others
know, and will come when they can.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Dict, Iterable, List, Sequence, Tuple

from stoker.pipeline.coordinator.effects import Effect, Effects, Send, WorkerKey
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.options import MAX_BATCH
from stoker.pipeline.protocol.messages import Alive, FromWorker, Hello, Lease, Need, Ready

ASK_INTERVAL_S = 0.02    # between two rounds of such news ...
MAX_ASKED = 8            # ... to so many workers
FIRST_ROOMS = 60         # Rooms that a member may say ...
ROOMS_A_MESSAGE = 4      # ... and so many more for each lease and each Need; an honest worker says half of them at most
MAX_ROOMS = 600          # that it may have saved up
FEW_ROOMS = 200          # that a member of this trainer alone may say: an honest one says one each time it is ready
MAX_SLACK_S = 1e6


class SharedMembers:
    """``step_s``: the recent time in which the consumer uses a batch; 0: not yet known."""

    def __init__(self, scheduler: LeaseScheduler) -> None:
        self._scheduler = scheduler
        self._rooms: Dict[WorkerKey, int] = {}      # that each may still say
        self._few: Dict[WorkerKey, int] = {}        # the same for the others, which read ahead
        self._unaware: "OrderedDict[WorkerKey, None]" = OrderedDict()    # those that last heard that there is nothing
        self._asked_s = 0.0
        self.step_s = 0.0

    @property
    def may_be_asked(self) -> bool:
        """The window is full: if it moves, one of them may have to be asked."""
        return bool(self._rooms) and not self._scheduler.outstanding()[0]

    def next_deadline(self) -> float:
        """When ``tick`` wants to be called, at the latest."""
        if not self._unaware or not self._scheduler.outstanding()[0]:
            return float("inf")
        return self._asked_s + ASK_INTERVAL_S

    def joined(self, peer: WorkerKey, hello: Hello) -> None:
        """A member was welcomed."""
        if hello.trainers > 1:
            self._rooms[peer] = max(FIRST_ROOMS, self._rooms.get(peer, 0))
        else:
            self._few[peer] = min(FEW_ROOMS, self._few.get(peer, FEW_ROOMS))

    def left(self, peer: WorkerKey) -> None:
        """It is no member any more."""
        self._rooms.pop(peer, None)
        self._few.pop(peer, None)
        self._unaware.pop(peer, None)

    def said_room(self, peer: WorkerKey) -> bool:
        """It said Room. True: too often, or it is none of these: no Stoker worker does that."""
        rooms = self._few if peer in self._few else self._rooms
        if not rooms.get(peer):
            return True
        rooms[peer] -= 1
        return False

    def lease(self, peer: WorkerKey, lease: Lease) -> Lease:
        """``lease`` as this member gets it."""
        if peer not in self._rooms:
            return lease
        need = self._need()
        self._tells((peer,), need)
        return replace(lease, wanted=need.wanted, slack_s=need.slack_s)

    def heartbeat(self, run: str, members: Iterable[WorkerKey]) -> Effects:
        """A sign of life for all members."""
        if not self._rooms:
            return [Send(tuple(members), Alive(run))]
        return [Send(tuple(peer for peer in members if peer not in self._rooms), Alive(run)),
                self._tells(tuple(self._rooms), self._need())]

    def answer(self, peer: WorkerKey, message: FromWorker, effects: Sequence[Effect]) -> Effects:
        """It sent ``message``, of which ``effects`` come."""
        if peer not in self._rooms:
            return []
        worker, is_new = self._scheduler.workers.get(peer), isinstance(message, Ready)
        if (worker is None or isinstance(message, Alive)
                or not (worker.has_room or is_new and worker.fit)
                or any(isinstance(effect, Send) and isinstance(effect.message, Lease) and effect.peers == (peer,)
                       for effect in effects)):
            return []
        need = self._need()
        return [self._tells((peer,), need if is_new else replace(need, wanted=0))]

    def tick(self, now: float) -> Effects:
        """All that could be granted was granted: asks those that have no room here, if there is more."""
        if now < self.next_deadline():
            return []
        self._asked_s = now
        need = self._need()
        asked: List[WorkerKey] = []
        while self._unaware and len(asked) < min(MAX_ASKED, need.wanted):
            peer, _ = self._unaware.popitem(last=False)
            worker = self._scheduler.workers.get(peer)
            if worker is not None and worker.fit and worker.is_at_work and not worker.capacity:
                asked.append(peer)
        return [self._tells(tuple(asked), need)] if asked else []

    def _need(self) -> Need:
        wanted, distance = self._scheduler.outstanding()
        return Need(min(MAX_BATCH, wanted), min(MAX_SLACK_S, distance * self.step_s))

    def _tells(self, peers: Tuple[WorkerKey, ...], need: Need) -> Send:
        for peer in peers:
            self._rooms[peer] = min(MAX_ROOMS, self._rooms[peer] + ROOMS_A_MESSAGE)
            if need.wanted:
                self._unaware.pop(peer, None)
            else:
                self._unaware[peer] = None
        return Send(peers, need)
