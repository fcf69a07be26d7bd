"""The trainer's session without socket and thread: a wire that is a list, a clock that tests move."""

import sys

import numpy as np

from stoker.pipeline.coordinator.session import CoordinatorSession
from stoker.pipeline.coordinator.thread import carry_out
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Alive, Produced, Ready, Welcome
from stoker.pipeline.sources.dataset import Dataset, Splits

DATASET = Dataset("/data", ("a", "b"), tuple("%d.jpg" % number for number in range(8)), (0, 1) * 4, ())
SPLITS = Splits(DATASET)


class SilentMemory:
    """Stands for memory that is shared with workers: slots of so many bytes, made when they are asked for."""

    def __init__(self, slot_bytes):
        self._slot_bytes, self._slots = slot_bytes, {}

    def share(self, peer, socket):
        self._forget(peer)
        return ""

    def drop(self, peer, leased):
        self._forget(peer)

    def release(self, peer, slot):
        self._slots.pop((peer, slot), None)

    def slot(self, peer, number):
        return self._slots.setdefault((peer, number), np.empty(self._slot_bytes, np.uint8))

    def is_free(self, peer, number):
        return (peer, number) not in self._slots or sys.getrefcount(self._slots[peer, number]) == 2

    def _forget(self, peer):
        for key in [key for key in self._slots if key[0] == peer]:
            del self._slots[key]


class SilentTrainer:
    """The session of a run over ``datasets``, and what it asked for: messages sent, batches, errors. Stands for the
    thread and, as the Wire, for the ROUTER: peers in ``gone`` cannot be reached."""

    def __init__(self, job, datasets=SPLITS, options=None, plan=None, now=100.0, memory=None):
        self.now, self.taken, self.memory = now, 0, memory
        self.plan = plan or Plan(len(datasets.training), job.batch_size, 1, 0, len(datasets.validation))
        self.hosts = {}
        self.session = CoordinatorSession("5eed", 0, self.plan, datasets, job, options or StreamOptions(), self.now,
                                          lambda peer: self.hosts.get(peer, ""), secret=b"of the test",
                                          memory=memory)
        self.sent, self.gone, self.admitted = [], set(), []
        self.batches, self.errors = {}, []
        self.are_ready = True

    # ------------------------------------------------------------------------------------------------- the Wire

    def send(self, peer, frames):
        if peer in self.gone:
            return False
        self.sent.append((peer, codec.decode_from_trainer(frames)))
        return True

    def admit(self, peer):
        self.admitted.append(peer)

    def shut(self, peer):
        self.gone.add(peer)

    # ----------------------------------------------------------------------------------------------- what happens

    def do(self, effects):
        carry_out(effects, self.now, self.session, self, self.deliver, self.errors.append, memory=self.memory)

    def deliver(self, effect):
        assert effect.planned.position not in self.batches
        self.batches[effect.planned.position] = effect

    def receive(self, peer, *messages):
        """So many messages of a peer wait at once; each is the frames of one."""
        for frames in messages:
            self.do(self.session.receive(peer, [memoryview(bytes(frame)) for frame in frames], self.now))
        self.do(self.session.answer_hellos())

    def say(self, peer, *messages):
        """A peer sends messages, which wait at once. A worker that was welcomed says Ready at once."""
        welcomes = len(self.to(peer, Welcome))
        self.receive(peer, *map(codec.encode, messages))
        if len(self.to(peer, Welcome)) > welcomes and self.are_ready:
            self.receive(peer, codec.encode(Ready(self.session.run)))

    def tick(self, seconds=0.0):
        """Time passes, and the thread has a turn."""
        self.now += seconds
        self.session.wake(self.now)
        while self.taken in self.batches:
            self.taken += 1
        self.do(self.session.tick(self.now, self.taken))

    # ----------------------------------------------------------------------------------------------- what was seen

    def to(self, peer, kind):
        """The messages of this kind that the peer was sent."""
        return [message for receiver, message in self.sent if receiver == peer and isinstance(message, kind)]

    def members(self):
        """The peers that are sent a heartbeat."""
        before = len(self.sent)
        self.tick(1.0)
        return {peer for peer, message in self.sent[before:] if isinstance(message, Alive)}

    def summary(self):
        """The closing lines of the log."""
        return "\n".join(effect.text for effect in self.session.summary())


def batch(lease, run="5eed", count=None, value=7):
    """The batch of a lease, of pictures of 2x3 pixels, all ``value``."""
    count = len(lease.samples) if count is None else count
    arrays = np.full((count, 2, 3, 3), value, np.uint8), np.ones((count, 1), np.int32)
    return Produced(run, lease.lease, lease.position, count, (), 0.1, arrays)
