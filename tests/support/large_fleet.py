"""A LeaseScheduler with thousands of workers, on virtual time and in one thread: what an event costs, and whether each
worker gets its share.

``sim.py`` plays real sessions over a network that loses messages, with a few workers. Here workers are as small as can
be, and messages arrive at once, so that ten thousand of them work for minutes of virtual time in seconds.
"""

import gc
import hashlib
import heapq
import random
import sys
import time
from collections import Counter, deque

from stoker.pipeline.coordinator.effects import Accept, Grant, Revoke
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.coordinator.party import Party
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Leaving, Produced, Ready, Returned

LEASE_S = 5.0              # StreamOptions.lease_s ...
HEARTBEAT_S = 0.5          # ... and what follows from it
CAPACITY = 2               # leases of a worker
BACK_S = 1.0               # after which a worker that was lost comes back


class _Worker:
    __slots__ = ("key", "number", "work_s", "leases", "busy", "hangs", "frozen_until_s", "spoke_s", "is_gone")

    def __init__(self, key, number, work_s, hangs):
        self.key, self.number, self.work_s, self.hangs = key, number, work_s, hangs
        self.leases, self.busy = deque(), False      # (lease, position); the first one is in work
        self.frozen_until_s = self.spoke_s = 0.0
        self.is_gone = False


class LargeFleet:
    """``workers`` on ``hosts`` hosts, which need ``work_s`` for a batch, more or less, and each tenth of them ``slow``
    times as much; ``hanging`` of them never deliver. ``window``: the positions at once; the consumer takes a batch
    every ``consume_s``, 0: as soon as it is there. ``faults``: so many workers are lost, are frozen, or leave in a
    second, all together.

    ``spent_s`` and ``events``: the scheduler's CPU time, and its calls, by their kind; after each call it is asked for
    its deadline, which counts as time and not as an event. ``batches``: of each worker, by
    its number, since ``join`` or ``forget``. ``history``: a digest of all that the scheduler decided.
    """

    def __init__(self, workers, window, seed=0, hosts=64, work_s=1.0, consume_s=0.0, slow=1.0, hanging=0, faults=0.0,
                 heartbeat_s=HEARTBEAT_S, after=None, make=LeaseScheduler):
        self.random, self.hosts, self.workers = random.Random(seed), hosts, workers
        self.work_s, self.consume_s, self.slow, self.hanging = work_s, consume_s, slow, hanging
        self.faults, self.heartbeat_s, self.after = faults, heartbeat_s, after
        self.party = {}                      # connection -> Party
        self.scheduler = make(0, 1 << 40, window, LEASE_S, party_of=self.party.__getitem__)
        self.now, self.ticket = 0.0, 0
        self.due = []                        # (when, ticket, what, worker)
        self.members = {}                    # connection -> _Worker
        self.ready, self.accepted = set(), 0
        self.consumes = False                # the consumer is busy
        self.spent_s, self.events, self.batches = Counter(), Counter(), Counter()
        self.history = hashlib.blake2b()
        self._alive, self._ready = Alive("run"), Ready("run")

    def join(self, seconds=1.0):
        """All workers connect within so many seconds, and are ready at once."""
        for number in range(self.workers):
            self._at(seconds * number / self.workers, self._connect, number)
        if self.faults:
            self._at(seconds, self._fault, None)

    def forget(self):
        """Counts and times begin again."""
        for counted in (self.spent_s, self.events, self.batches):
            counted.clear()

    def play(self, events=1 << 60, seconds=1e9):
        """So many calls of the scheduler, or so many seconds."""
        end, end_s = sum(self.events.values()) + events, self.now + seconds
        while sum(self.events.values()) < end and self.due and self.due[0][0] <= end_s:
            self.now, _, what, subject = heapq.heappop(self.due)
            what(subject)
            self._tick()

    def share(self):
        """The batches of the usual worker with fewest, by their mean."""
        counts = [self.batches[number] for number in range(self.workers) if not self._is_odd(number)]
        return min(counts) / (sum(counts) / len(counts))

    def us_an_event(self):
        """The scheduler's CPU time by its events, in microseconds."""
        return 1e6 * sum(self.spent_s.values()) / sum(self.events.values())

    def report(self):
        """Lines about each kind of event."""
        counts = dict(self.events, deadline=sum(self.events.values()))
        return ["%-10s %9d times, %8.2f us each" % (kind, count, 1e6 * self.spent_s[kind] / count)
                for kind, count in sorted(counts.items())]

    @staticmethod
    def blocks():
        """How many pieces of memory Python holds."""
        gc.collect()
        return sys.getallocatedblocks()

    # ------------------------------------------------------------------------------------------------ the scheduler

    def _call(self, kind, call, *args):
        start = time.process_time()
        effects = call(*args)
        self.spent_s[kind] += time.process_time() - start
        self.events[kind] += 1
        if effects:
            self.history.update(repr(effects).encode("utf-8"))
        if self.after is not None:
            self.after(self.scheduler)
        for effect in effects:
            if isinstance(effect, Grant):
                self._granted(effect)
            elif isinstance(effect, Revoke):
                self._revoked(effect)
            elif isinstance(effect, Accept):
                assert effect.position not in self.ready and effect.position >= self.scheduler.head
                self.ready.add(effect.position)
                self.accepted += 1
                self.batches[self.members[effect.worker].number] += 1
        return effects

    def _say(self, worker, message):
        worker.spoke_s = self.now
        self._call(type(message).__name__, self.scheduler.receive, worker.key, message, self.now)

    def _tick(self):
        start = time.process_time()
        is_due = self.now >= self.scheduler.next_deadline()
        self.spent_s["deadline"] += time.process_time() - start
        if is_due:
            self._call("tick", self.scheduler.tick, self.now)
        if not self.consumes and self.scheduler.head in self.ready:
            self._take(None)

    def _take(self, _):
        self.consumes = False
        while self.scheduler.head in self.ready:
            self.ready.remove(self.scheduler.head)
            self._call("take", self.scheduler.take, self.now)
            if self.consume_s:
                self.consumes = True
                self._at(self.consume_s, self._take, None)
                break

    # --------------------------------------------------------------------------------------------------- the workers

    def _at(self, delay_s, what, subject):
        self.ticket += 1
        heapq.heappush(self.due, (self.now + delay_s, self.ticket, what, subject))

    def _is_odd(self, number):
        return number < self.hanging or (self.slow != 1.0 and number % 10 == 9)

    def _connect(self, number):
        slow = self.slow if number % 10 == 9 else 1.0
        self.ticket += 1
        key = b"%d" % self.ticket
        host = number * self.hosts // self.workers
        self.party[key] = Party("key", "10.0.%d.%d" % divmod(host, 256))
        worker = self.members[key] = _Worker(key, number, self.work_s * slow, number < self.hanging)
        self._say(worker, Hello("w%d" % number, 1, "", CAPACITY, ""))
        self._say(worker, self._ready)
        self._at(self.heartbeat_s * self.random.uniform(0.5, 1.0), self._beat, worker)

    def _granted(self, grant):
        worker = self.members[grant.worker]
        worker.leases.append((grant.lease, grant.position))
        assert len(worker.leases) <= CAPACITY
        if not worker.busy:
            self._begin(worker)

    def _begin(self, worker):
        worker.busy = bool(worker.leases)
        if worker.leases and not worker.hangs:
            self._at(worker.work_s * self.random.uniform(0.7, 1.3), self._finish, worker)

    def _revoked(self, revoke):
        worker = self.members[revoke.worker]
        for place, (lease, _) in enumerate(worker.leases):
            if place and lease == revoke.lease:
                del worker.leases[place]
                self._at(0.0, self._return, (worker, lease))
                break

    def _return(self, returned):
        worker, lease = returned
        if not worker.is_gone:
            self._say(worker, Returned("run", lease))

    def _finish(self, worker):
        if worker.is_gone:
            return
        if worker.frozen_until_s > self.now:
            self._at(worker.frozen_until_s - self.now, self._finish, worker)
            return
        lease, position = worker.leases.popleft()
        worker.busy = False
        self._begin(worker)
        if self.faults and self.random.random() < 0.001:
            self._say(worker, Failed("run", lease, position, "OSError: no", ""))
        else:
            self._say(worker, Produced("run", lease, position, 1, (), 0.1, ()))

    def _beat(self, worker):
        if worker.is_gone:
            return
        if worker.frozen_until_s <= self.now and self.now - worker.spoke_s >= 0.999 * self.heartbeat_s:
            self._say(worker, self._alive)
        self._at(max(worker.spoke_s + self.heartbeat_s - self.now, 0.1 * self.heartbeat_s), self._beat, worker)

    def _fault(self, _):
        self._at(self.random.expovariate(self.faults), self._fault, None)
        if not self.members:
            return
        worker = self.random.choice(list(self.members.values()))
        kind = self.random.random()
        if kind < 0.3:
            worker.frozen_until_s = self.now + self.random.uniform(1.0, 3 * LEASE_S)
            return
        del self.members[worker.key]
        if kind < 0.5:
            self.members[worker.key] = worker
            self._say(worker, Leaving("run", -1, "drained"))
            self.members.pop(worker.key, None)
        else:
            self._call("lost", self.scheduler.lost, worker.key, self.now)
        worker.is_gone = True
        del self.party[worker.key]
        self._at(BACK_S, self._connect, worker.number)
