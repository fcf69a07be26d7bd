"""The trainer's session against any peers: several send whatever they like, then one honest worker finishes the run.

The real session without socket and thread, on virtual time. A story follows from one seed: strangers and members, valid
messages, mutated ones and garbage, broken connections, time. Half of the stories have own data: rows, partners, arrays
whose sides differ; in a third, half of the steps are made twice and compared, and batches are wrong at times; in three
of five, peers share memory with the trainer. No exception may escape, the scheduler's invariants hold, the tables stay
small, what is delivered fits the job and stays as it is while it is in use, and the honest worker finishes all that is
left of the run.
"""

import argparse
import logging
import os
import sys
import time
import traceback
from collections import deque
from dataclasses import replace

import numpy as np

from stoker.pipeline.coordinator.slots import EXTRA_BATCHES
from stoker.pipeline.errors import BatchesDiffer
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.layout import layout_of
from stoker.pipeline.protocol.messages import (
    MAX_SLOTS, NO_SLOT, Alive, Failed, Hello, Lease, Leaving, Produced, Ready, Returned, Revoked, Room, Skipped, Unfit,
    Welcome)
from stoker.pipeline.sources.dataset import Dataset, Splits
from tests.fuzz.mutation import Mutator
from tests.support.invariants import check_invariants
from tests.support.memory import rss_kb
from tests.support.own_data import Own
from tests.support.trainer import SilentMemory, SilentTrainer, batch
from tests.unit.test_codec import FROM_TRAINER, FROM_WORKER

JOB = JobOptions(image_size=(2, 3), batch_size=2)
OPTIONS = StreamOptions(prefetch=6, lease_s=2.0)
STEPS = 24
MESSAGES = 400          # of a story, before the honest worker comes
SOCKET = "@" + 32 * "0"
MAX_TABLE = 1000        # entries of any table of session and scheduler, tables within tables included
MAX_GROWTH_KB = 8192    # of this process, after the first tenth
DATASET = Dataset("/data", ("a", "b"), tuple("%d.jpg" % number for number in range(2 * STEPS)), (0, 1) * STEPS, ())
CORPUS = [[bytes(frame) for frame in codec.encode(message)] for message in FROM_WORKER + FROM_TRAINER]


class Peer:
    """What one connection was told."""

    def __init__(self):
        self.run, self.leases, self.is_new = "none", {}, False

    def heard(self, message):
        if isinstance(message, Welcome):
            self.run, self.leases, self.is_new = message.run, {}, True
        elif isinstance(message, Lease):
            self.leases[message.lease] = message
        elif isinstance(message, Revoked):
            self.leases.pop(message.lease, None)


class Story(SilentTrainer):
    """One seed's story. ``play`` raises for a broken promise; ``messages`` counts what peers sent."""

    def __init__(self, seed):
        self.own, options = Own(seed) if seed % 4 > 1 else None, replace(OPTIONS, verify=0.5 * (seed % 3 == 2))
        job = self.own.job if self.own else JOB
        self.layout = layout_of(job.arrays, job.batch_size, job.rows)
        memory = SilentMemory(self.layout.slot_bytes) if seed % 5 < 3 else None
        if self.own:
            super().__init__(job, self.own.splits, options, self.own.plan, 1000.0, memory)
        else:
            super().__init__(job, Splits(DATASET), options, Plan(2 * STEPS - 1, 2, 1, seed), 1000.0, memory)
        self.in_use = deque(maxlen=4)        # batches that the consumer has: (views, their bytes)
        self.in_slots = 0
        self.steps, self.compares = self.plan.positions, options.verify > 0
        self.mutator = Mutator(seed, CORPUS)
        self.peers, self.honest = {}, Peer()
        self.messages = self.names = 0
        if seed % 2:                       # else most runs end early, by workers that deliver and then fail
            scheduler = self.session._scheduler
            scheduler._max_failures = scheduler._max_deaths = 1 << 30

    def deliver(self, effect):
        super().deliver(effect._replace(views=()))
        message, views = effect.message, effect.views
        self.in_slots += message.slot != NO_SLOT
        self.in_use.append((views, [view.tobytes() for view in views]))
        assert 0 <= effect.planned.position < self.steps
        assert all(len(view) == message.count for view in views)
        assert len(effect.used_indices) == message.count + message.missing
        if self.own:
            assert all(size <= side for view, spec in zip(views, self.own.job.arrays)
                       for size, side in zip(view.shape[1:], spec.shape))
            assert len(effect.source.rows(effect.used_indices)) == len(effect.used_indices)
        else:
            assert views[0].shape[1:] == (2, 3, 3)
            assert message.count + len(message.skipped) == len(effect.planned.indices)

    def play(self):
        """The whole story."""
        for number in range(MESSAGES):
            self._one()
            if number % 20 == 0:
                self.check()
        going_on = self.mutator.below(3)   # what the others do meanwhile: vanish, keep silent, go on for a while
        if going_on == 0:
            self.gone.update(self.peers)
        for number in range(20000):
            if len(self.batches) == self.steps or self.errors:
                break
            if going_on == 2 and number < MESSAGES:
                self._one()
            self._work_honestly()
        self.check()
        assert len(self.batches) == self.steps or self.errors, (
            "the honest worker got %d of %d steps done" % (len(self.batches), self.steps))
        for error in self.errors:          # a step may fail by what members say; nothing else ends a run
            assert isinstance(error, BatchesDiffer) and self.compares or (
                "failed every time it was tried" in str(error) or "workers died" in str(error)), error

    def _one(self):
        """One message of a peer, or something else that happens."""
        mutator, what = self.mutator, self.mutator.below(100)
        self.now += 0.01 * mutator.below(4)
        if what < 3 or len(self.peers) < 4:
            self.names += 1
            self.peers[b"peer %d" % self.names] = Peer()
            self.hosts[b"peer %d" % self.names] = "10.0.0.%d" % (self.names % 5)
        key = mutator.pick(list(self.peers))
        if what > 95:
            self.gone.add(key)        # the next word to it shows it
            del self.peers[key]
        elif what > 90:
            self._one_turn()
        if what == 90:
            self.now += 3.0
        if key in self.peers:
            self._say(key, self._frames(key, self.peers[key]))

    def _frames(self, key, peer):
        """What this peer says next."""
        mutator, what = self.mutator, self.mutator.below(10)
        if peer.is_new and what:                 # most say Ready when they are welcomed
            peer.is_new = False
            return codec.encode(Ready(peer.run, mutator.pick((SOCKET, SOCKET, ""))))
        if what == 0:
            return mutator.garbage()
        if what == 1:
            return mutator.message()
        frames = [bytes(frame) for frame in codec.encode(self._sensible(key, peer))]
        return frames if what < 6 else mutator.mutated(frames)

    def _sensible(self, key, peer):
        mutator, what = self.mutator, self.mutator.below(20)
        lease = mutator.pick(list(peer.leases.values())) if peer.leases else Lease(mutator.below(40),
                                                                                  mutator.below(self.steps), 0, True,
                                                                                  ())
        if what < 5:
            return Hello("liar", 1, "none", mutator.below(5), "", trainers=1 + mutator.below(3))
        if what < 9:
            batch = self._batch(lease, peer.run)
            slot = mutator.pick((lease.slot, lease.slot, NO_SLOT, 0, MAX_SLOTS - 1))
            return batch if mutator.below(2) else self._placed(key, batch, slot)
        if what == 9:
            return Failed(peer.run, lease.lease, lease.position, "no", "", "")
        if what == 10:
            return Leaving(peer.run, mutator.pick((-1, lease.lease)), "bored")
        if what == 11:
            return Returned(peer.run, lease.lease)
        if what == 12:
            other = mutator.below(self.steps)
            return Produced(peer.run, lease.lease, other, 0, (Skipped(other, "gone"),), 0.1, ())
        if what == 13:
            return Ready(peer.run, mutator.pick((SOCKET, "")), mutator.pick(("", "it has none")))
        if what == 14:
            return Unfit(mutator.pick((peer.run, "")), mutator.pick(("no folder", "no module \x1b")), "a traceback")
        if what in (15, 16):
            return Room(peer.run, mutator.pick((0, 1, 2, 3, 1024)))
        return Alive(peer.run)

    def _batch(self, lease, run):
        """What a worker that does what it should makes of this lease."""
        if not self.own or not lease.samples:
            return batch(lease, run, value=7 + (self.compares and not self.mutator.below(20)))
        output = self.own.produce(self.session._job, lease)
        return Produced(run, lease.lease, lease.position, len(output.arrays[0]), output.skipped, 0.1, output.arrays,
                        rows=output.rows, missing=output.missing, aligned=output.aligned)

    def _placed(self, key, batch, slot):
        """The same batch in a slot, into which a member writes its arrays, if it has such a lease."""
        leased = {held for held, _ in self.session.slots._tables[key].leases.values()} if (
            key in self.session.slots._tables) else ()
        if self.memory is not None and slot in leased and slot != NO_SLOT:
            memory = self.memory.slot(key, slot)
            memory[:] = self.mutator.below(256)
            for array, start in zip(batch.arrays, self.layout.starts):
                memory[start:start + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
        return replace(batch, slot=slot, arrays=())

    def _work_honestly(self):
        """A turn of the worker that does what it should."""
        self.now += 0.05
        honest = self.honest
        if self.session.run != honest.run or not self.session._scheduler.is_member(b"honest"):
            self._say(b"honest", codec.encode(Hello("honest", 1, "none", 2, "")))
            self._say(b"honest", codec.encode(Ready(self.session.run, SOCKET)))
        elif honest.leases:
            lease = honest.leases.pop(min(honest.leases))
            batch = self._batch(lease, honest.run)
            self._say(b"honest", codec.encode(batch if lease.slot == NO_SLOT else self._placed(
                b"honest", batch, lease.slot)))
        else:
            self._say(b"honest", codec.encode(Alive(honest.run)))
        self._one_turn()

    def _say(self, key, frames):
        self.messages += 1
        self.receive(key, frames)
        self._hear()

    def _one_turn(self):
        self.tick()
        self._hear()

    def _hear(self):
        for key, message in self.sent:
            if key == b"honest":
                self.honest.heard(message)
            elif key in self.peers:
                self.peers[key].heard(message)
        del self.sent[:]
        del self.admitted[:]

    def check(self):
        """Between two messages."""
        check_invariants(self.session._scheduler, rooms=True)
        assert all(view.tobytes() == before for views, content in self.in_use for view, before in zip(views, content))
        for table in self.session.slots._tables.values():
            slots = [slot for slot, _ in table.leases.values() if slot != NO_SLOT] + table.free
            slots += [slot for _, slot in table.lent]
            assert len(slots) == len(set(slots)) and all(0 <= slot < table.slots for slot in slots)
        assert 0 <= self.session.slots.touched <= 2 * (OPTIONS.prefetch + EXTRA_BATCHES)
        for owner in (self.session, self.session._scheduler, self.session._limits, self.session.notices,
                      self.session._aside, self.session.verification, self.session._shared, self.session.slots):
            for name, table in vars(owner).items():
                assert _entries(table) <= MAX_TABLE, "%s of %s has %d entries" % (name, owner, _entries(table))


def _entries(table):
    """How much a table holds, whatever it is made of."""
    if isinstance(table, dict):
        return sum(1 + _entries(item) for item in table.values())
    if isinstance(table, (set, frozenset)) or type(table).__name__ == "deque":
        return len(table)
    if hasattr(table, "__dict__") and type(table).__module__ == "stoker.pipeline.coordinator.tables":
        return sum(_entries(item) for item in vars(table).values())
    return 0


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.fuzz_coordinator", description=__doc__)
    parser.add_argument("--runs", type=int, default=200000, help="messages")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from tqdm import tqdm
    logging.getLogger("stoker").setLevel(logging.CRITICAL)
    start, sent, aborted, in_slots, seed, first_kb = time.monotonic(), 0, 0, 0, args.seed, 0
    with tqdm(total=args.runs, unit="msg", disable=None) as bar:
        while sent < args.runs:
            story = Story(seed)
            try:
                story.play()
            except Exception:
                print("stoker: fuzz_coordinator: --seed %d --runs 1\n%s" % (seed, traceback.format_exc()))
                return 1
            seed, sent, aborted = seed + 1, sent + story.messages, aborted + bool(story.errors)
            in_slots += story.in_slots
            bar.update(story.messages)
            if not first_kb and sent >= args.runs / 10:
                first_kb = rss_kb(os.getpid())
    seconds, last_kb = time.monotonic() - start, rss_kb(os.getpid())
    print("coordinator: %d messages in %d runs (%d of which would have ended by what members said), %d batches in "
          "slots, in %.1f s: %.0f/s; RSS %d KB after a tenth, %d KB at the end"
          % (sent, seed - args.seed, aborted, in_slots, seconds, sent / seconds, first_kb, last_kb))
    if last_kb - first_kb > MAX_GROWTH_KB:
        print("stoker: fuzz_coordinator: grew by %d KB (limit %d)" % (last_kb - first_kb, MAX_GROWTH_KB))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
