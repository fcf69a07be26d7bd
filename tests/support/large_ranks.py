"""The real sessions of both ends with thousands of workers and several trainers, on virtual time and in one thread:
what a message costs a trainer, and what each trainer gets.

Unlike in ``sim.py``, nothing is lost on the way, and what arrives at a trainer within ``TURN_S`` is read in one turn.
"""

import heapq
import time
from collections import Counter, deque

import numpy as np

from stoker.pipeline.coordinator.effects import Deliver, Fail, Invite, Send
from stoker.pipeline.coordinator.session import CoordinatorSession
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Hello, Timings
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated
from stoker.workers.conversations import Conversations
from stoker.workers.effects import Check, Say, Work
from stoker.workers.session import CAPACITY

TURN_S = 0.001             # from a message's way to the trainer to its turn
SAMPLES = 1000             # in an epoch, of batches


class _Rank:
    """One trainer: its session, the messages that wait, and its consumer."""

    def __init__(self, fleet, number, samples, batch_size, ranks, options, consume_s):
        self.number, self.consume_s = number, consume_s
        plan = Plan(len(samples), batch_size * ranks, 1 << 20, 0, rank=number, ranks=ranks)
        self.session = CoordinatorSession("run%d" % number, 0, plan, Splits(samples),
                                          JobOptions("image", (1, 1), plan.part_size), options, fleet.now,
                                          fleet.host_of, lambda peer: "key", b"%d" % number)
        self.inbox, self.ready, self.taken = deque(), set(), 0
        self.consumes = self.hangs = False
        self.turn_s = float("inf")           # when its next turn is due


class LargeRanks:
    """``workers`` on ``hosts`` hosts, each a worker of ``ranks`` trainers; a batch takes ``work_s``, more or less. The
    consumer of a trainer takes a batch every ``consume_s``, 0: as soon as it is there. ``window``: of each trainer.

    ``spent_s`` and ``calls``: CPU time of all trainers and what they did, by kind: messages read, encoded, turns.
    ``events``: messages read, batches taken. ``batches``: {(worker, rank): batches}, since the beginning or ``forget``.
    """

    def __init__(self, workers, ranks, window, hosts=64, work_s=1.0, consume_s=0.0, batch_size=2, join_s=1.0,
                 lease_s=5.0):
        self.now, self.ticket, self.due = 0.0, 0, []
        self.work_s, self.hosts = work_s, hosts
        self.spent_s, self.calls, self.events, self.batches = Counter(), Counter(), Counter(), Counter()
        samples = generated(SAMPLES * batch_size * ranks)
        options = StreamOptions(prefetch=window, lease_s=lease_s)
        self.ranks = [_Rank(self, number, samples, batch_size, ranks, options, consume_s) for number in range(ranks)]
        self.workers = [Conversations(Hello("h%d:1/%d" % (number * hosts // workers, number), 1, "none", CAPACITY, ""),
                                      ["rank %d" % each for each in range(ranks)], True, 0.0)
                        for number in range(workers)]
        self.alarm = [float("inf")] * workers
        for number in range(workers):
            self.at(join_s * number / workers, self._wake, number)

    def host_of(self, peer):
        """The address of the host of a worker."""
        return "10.0.%d.%d" % divmod(int(peer) * self.hosts // len(self.workers), 256)

    def at(self, delay_s, what, *about):
        """An event."""
        self.ticket += 1
        heapq.heappush(self.due, (self.now + delay_s, self.ticket, what, about))

    def play(self, seconds):
        """Plays on for so long."""
        end_s = self.now + seconds
        while self.due and self.due[0][0] <= end_s:
            self.now, _, what, about = heapq.heappop(self.due)
            what(*about)
        self.now = end_s

    def forget(self):
        """Counts and times begin again."""
        for counted in (self.spent_s, self.calls, self.events, self.batches):
            counted.clear()

    def share_of_workers(self):
        """The batches of the worker with fewest, by their mean."""
        counts = Counter()
        for (worker, _), count in self.batches.items():
            counts[worker] += count
        return min(counts[number] for number in range(len(self.workers))) * len(self.workers) / sum(counts.values())

    def batches_of(self, rank):
        """That arrived at this trainer."""
        return sum(count for (_, number), count in self.batches.items() if number == rank)

    def us_an_event(self):
        """CPU time of the trainers by their events, in microseconds."""
        return 1e6 * sum(self.spent_s.values()) / sum(self.events.values())

    def report(self):
        """Lines about each kind of event."""
        return ["%-10s %9d times, %8.2f us each" % (kind, count, 1e6 * self.spent_s[kind] / max(1, count))
                for kind, count in sorted(self.calls.items())]

    # ------------------------------------------------------------------------------------------------- the trainers

    def _timed(self, kind, call, *args):
        """The time counts always, the call as an event if it is about a message that came."""
        start = time.process_time()
        found = call(*args)
        self.spent_s[kind] += time.process_time() - start
        self.calls[kind] += 1
        self.events[kind] += kind[0].isupper()
        return found

    def _arrives(self, number, worker, message):
        rank = self.ranks[number]
        rank.inbox.append((b"%d" % worker, [bytes(frame) for frame in codec.encode(message)], type(message).__name__))
        self._turn_by(rank, self.now + TURN_S)

    def _turn_by(self, rank, turn_s):
        if turn_s < rank.turn_s:
            rank.turn_s = turn_s
            self.at(turn_s - self.now, self._turn, rank, turn_s)

    def _turn(self, rank, turn_s):
        if rank.hangs or turn_s != rank.turn_s:
            return
        rank.turn_s = float("inf")
        session = rank.session
        session.wake(self.now)
        while rank.inbox:
            peer, frames, kind = rank.inbox.popleft()
            self._do(rank, self._timed(kind, session.receive, peer, frames, self.now))
        self._do(rank, session.answer_hellos())
        self._do(rank, self._timed("turn", session.tick, self.now, rank.taken, rank.consume_s))
        self._turn_by(rank, max(self.now + TURN_S, self._timed("deadline", session.next_deadline)))

    def _do(self, rank, effects):
        for effect in effects:
            if isinstance(effect, Send):
                kind = "send " + type(effect.message).__name__
                frames = self._timed(kind, codec.encode, effect.message)
                message = codec.decode_from_trainer([bytes(frame) for frame in frames])
                for peer in effect.peers:
                    self.at(TURN_S, self._hears, int(peer), rank.number, message)
                self.calls[kind] += len(effect.peers) - 1
            elif isinstance(effect, Deliver):
                position = effect.planned.position
                assert position >= rank.taken and position not in rank.ready
                rank.ready.add(position)
                self.batches[int(effect.worker.rpartition("/")[2]), rank.number] += 1
                self._consume(rank)
            elif isinstance(effect, Invite):
                self.at(TURN_S, self._hears, int(effect.peer), rank.number, effect.welcome)
                self._do(rank, self._timed("joined", rank.session.joined, effect.peer, effect.hello, self.now))
            else:
                assert not isinstance(effect, Fail), effect

    def _consume(self, rank):
        while not rank.consumes and rank.taken in rank.ready and not rank.hangs:
            rank.ready.remove(rank.taken)
            rank.taken += 1
            self.events["take"] += 1
            self._turn_by(rank, self.now + TURN_S)
            if rank.consume_s:
                rank.consumes = True
                self.at(rank.consume_s, self._rested, rank)

    def _rested(self, rank):
        rank.consumes = False
        self._consume(rank)

    # -------------------------------------------------------------------------------------------------- the workers

    def _wake(self, number):
        """The worker's alarm, or its start."""
        self.alarm[number] = float("inf")
        self._said(number, self.workers[number].tick(self.now))

    def _hears(self, number, rank, message):
        self._said(number, self.workers[number].receive(rank, message, self.now))

    def _said(self, number, said):
        worker = self.workers[number]
        for rank, effect in said:
            if isinstance(effect, Say):
                self._arrives(rank, number, effect.message)
            elif isinstance(effect, Check):
                self._said(number, worker.checked(rank, effect.run, "", "", self.now))
            elif isinstance(effect, Work):
                work_s = self.work_s * (0.7 + 0.6 * (self.ticket * 7919 % 1000) / 1000)
                self.at(work_s, self._done, number, effect.lease)
        deadline_s = worker.next_deadline()
        if deadline_s < self.alarm[number]:
            self.alarm[number] = deadline_s
            self.at(max(TURN_S, deadline_s - self.now), self._rings, number, deadline_s)

    def _rings(self, number, deadline_s):
        if self.alarm[number] == deadline_s:
            self._wake(number)

    def _done(self, number, lease):
        count = len(lease.samples)
        arrays = np.zeros((count, 1, 1, 3), np.uint8), np.zeros((count, 1), np.int32)
        self._said(number, self.workers[number].produced(lease, count, (), arrays, self.work_s, Timings(), self.now))


