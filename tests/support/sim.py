"""A trainer, its workers and the network between them, on virtual time and in one thread.

The real LeaseScheduler and real WorkerSessions, and between them links that delay but keep the order. Whatever
happens is an event on one heap, every choice comes from one seeded generator: a seed is a whole story, and can be told
again. Faults are methods. After every event the promises of ``pipeline/leases.py`` are checked.
"""

import heapq
import itertools
import random
from collections import deque

import numpy as np

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.coordinator.effects import Abort, Accept, Gone, Grant, Revoke, Unknown
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Job, Lease, Leaving, Produced, Refused, Revoked
from stoker.pipeline.protocol.messages import Sample, Timings, Welcome
from stoker.workers.session import End, Say, Work, WorkerSession
from tests.support.invariants import check_invariants

RUN = "5eed"
BATCH = 2
JOB = Job("image", (ArraySpec("indices", "int64", (1,)),), BATCH, 0, "fast", "")


class Node:
    """One worker: its session, and a generator that takes its time."""

    def __init__(self, name, session, speed):
        self.name, self.session, self.speed = name, session, speed
        self.key = None         # of its present connection, None between two
        self.inbox = deque()
        self.finished = deque()  # leases the generator is done with
        self.alive = True
        self.stuck = False      # its generator never returns, though the process says Alive
        self.frozen = False     # SIGSTOP: no timers, no messages


class Simulation:
    """``run`` plays until all steps were consumed. Raises AssertionError for a broken promise.

    ``work_s``: the usual time for a step. ``fail``, ``repeat``: how likely a step fails, or a batch is sent twice.
    ``slow``: how many of the workers need ten times as long. ``stuck``: how many never finish a step. ``wire``: whether
    messages go through the codec.
    """

    def __init__(self, seed, steps=20, workers=4, prefetch=6, lease_s=4.0, work_s=0.2, consume_s=0.05, delay_s=0.02,
                 slow=0, stuck=0, fail=0.0, repeat=0.0, wire=False):
        self.random = random.Random(seed)
        self.plan = Plan(steps * BATCH - 1, BATCH, 1, seed)
        self.scheduler = LeaseScheduler(0, steps, prefetch, lease_s)
        self.steps, self.prefetch, self.heartbeat_s = steps, prefetch, min(0.5, lease_s / 4)
        self.work_s, self.consume_s, self.delay_s = work_s, consume_s, delay_s
        self.stuck = stuck
        self.slow, self.fail, self.repeat, self.wire = slow, fail, repeat, wire
        self.now = 0.0
        self.events, self.ticket = [], itertools.count()
        self.alarms = {}                      # actor -> when its next turn is due
        self.touched = False                  # the scheduler, since it was last checked
        self.nodes, self.owner = [], {}       # owner: connection -> Node
        self.arrived = {}                     # (connection, direction) -> when its last message arrives
        self.inbox = deque()                  # of the trainer: (connection, message)
        self.suspended = False                # the trainer
        self.gone = set()                     # connections that the trainer knows to be gone
        self.pinged_s = 0.0
        self.taken = 0                        # that the consumer took and the scheduler has not heard of
        self.consuming = False                # the consumer is busy with a batch, or writes a checkpoint
        self.last_lease = 0
        self.held = {}                        # position -> leases live on it, from the effects alone
        self.ready, self.delivered = {}, []
        self.failures = {}                    # position -> how often it failed
        self.expiries = self.grants = 0
        for _ in range(workers):
            self.join()
        self.trainer_turn()

    # -------------------------------------------------------------------------------------------------- the clock

    def after(self, delay_s, do, *args):
        """An event."""
        heapq.heappush(self.events, (self.now + delay_s, next(self.ticket), do, args))

    def run(self, limit_s=600.0):
        """Plays on until the run is complete, which must be so by ``limit_s``."""
        while self.scheduler.head < self.steps:
            self.now, _, do, args = heapq.heappop(self.events)
            assert self.now < limit_s, "no progress: " + self.scheduler.describe(self.now)
            do(*args)
            if self.touched:
                self.check()
        assert self.delivered == [self.plan.at(position).indices for position in range(self.steps)]

    def check(self):
        self.touched = False
        check_invariants(self.scheduler)
        buffered = self.scheduler._open.keys() | self.scheduler._ready
        assert len(buffered) <= self.prefetch, "%d steps are open or ready" % len(buffered)
        assert set(self.ready) <= self.scheduler._ready
        live = {}
        for lease, entry in self.scheduler._leases.items():
            live.setdefault(entry.position, set()).add(lease)
        assert live == {position: set(held) for position, held in self.held.items() if held}, "effects tell otherwise"

    def alarm(self, actor, turn, deadline_s):
        """``turn`` will happen by ``deadline_s``."""
        if deadline_s < self.alarms.get(actor, float("inf")):
            self.alarms[actor] = deadline_s
            self.after(max(0.0, deadline_s - self.now), self.ring, actor, turn, deadline_s)

    def ring(self, actor, turn, deadline_s):
        if self.alarms.get(actor) == deadline_s:
            del self.alarms[actor]
            turn()

    # ------------------------------------------------------------------------------------------------ the network

    def transmit(self, key, direction, message):
        """A message travels: late, but never before one that was sent earlier."""
        if self.wire:
            message = [bytes(frame) for frame in codec.encode(message)]
        arrival = max(self.now + self.random.expovariate(1 / self.delay_s), self.arrived.get((key, direction), 0.0))
        self.arrived[key, direction] = arrival
        self.after(arrival - self.now, self.arrive, key, direction, message)

    def arrive(self, key, direction, message):
        if key not in self.owner:             # the connection broke while it travelled
            return
        if direction == "up":
            self.inbox.append((key, codec.decode_from_worker(message) if self.wire else message))
            self.trainer_turn()
        elif self.owner[key].key == key:
            node = self.owner[key]
            node.inbox.append(codec.decode_from_trainer(message) if self.wire else message)
            self.node_turn(node)

    # ------------------------------------------------------------------- the trainer, as pipeline/coordinator.py is

    def trainer_turn(self):
        if self.suspended:
            return
        while self.inbox:
            self.hear(*self.inbox.popleft())
        while self.taken:
            self.taken -= 1
            self.carry_out(self.scheduler.take(self.now))
        self.carry_out(self.scheduler.tick(self.now))
        if self.now >= self.pinged_s + self.heartbeat_s:
            self.pinged_s = self.now
            for key in list(self.scheduler._workers):
                self.tell(key, Alive(RUN))
        self.consume()
        self.alarm("trainer", self.trainer_turn, min(self.scheduler.next_deadline(),
                                                     self.pinged_s + self.heartbeat_s))

    def tell(self, key, message):
        if key in self.gone:
            self.carry_out(self.scheduler.lost(key, self.now))
        elif key in self.owner:
            self.transmit(key, "down", message)

    def hear(self, key, message):
        if isinstance(message, Hello):
            self.tell(key, Welcome(RUN, JOB, self.heartbeat_s))
            if key in self.gone:              # a Hello from the grave is no member's
                return
        if isinstance(message, Failed):
            self.end(lambda lease, holder: (lease, holder) == (message.lease, key))
        elif isinstance(message, Leaving):
            self.end(lambda lease, holder: holder == key and lease != message.lease)
        self.carry_out(self.scheduler.receive(key, message, self.now), message)

    def end(self, which):
        """These leases are over."""
        for held in self.held.values():
            for lease in [lease for lease, holder in held.items() if which(lease, holder)]:
                del held[lease]

    def carry_out(self, effects, message=None):
        self.touched = True
        for effect in effects:                # all are noted before any is sent: sending may have effects of its own
            if isinstance(effect, Gone):
                self.expiries += "silent" in effect.why
                self.end(lambda lease, holder, gone=effect.worker: holder == gone)
            elif isinstance(effect, Accept):
                self.accept(effect.position, message, effects)
            elif isinstance(effect, Grant):
                held = self.held.setdefault(effect.position, {})
                assert effect.lease > self.last_lease, "lease ids must grow"
                assert effect.worker not in held.values()
                assert len(self.delivered) <= effect.position < self.steps and effect.position not in self.ready
                self.last_lease, self.grants = effect.lease, self.grants + 1
                held[effect.lease] = effect.worker
            elif isinstance(effect, Abort):
                raise AssertionError("aborted: %r" % (effect,))
        for effect in effects:
            if isinstance(effect, Grant):
                samples = tuple(Sample(index, "%d" % index, 0) for index in self.plan.at(effect.position).indices)
                self.tell(effect.worker, Lease(effect.lease, effect.position, 0, True, samples))
            elif isinstance(effect, Revoke):
                self.tell(effect.worker, Revoked(effect.lease))
            elif isinstance(effect, Unknown) and effect.worker not in self.gone:
                self.tell(effect.worker, Refused(effect.what, False))

    def accept(self, position, message, effects):
        assert position == message.position and len(self.delivered) <= position and position not in self.ready
        arrays = codec.check_arrays(message, JOB, self.plan.at(position).indices) if self.wire else message.arrays
        self.ready[position] = tuple(arrays[0].reshape(-1).tolist())
        others = set(self.held.pop(position, {})) - {message.lease}
        assert others == {effect.lease for effect in effects if isinstance(effect, Revoke)}

    def consume(self):
        """The consumer takes what is due, and is busy with it for a while."""
        if not self.consuming and len(self.delivered) in self.ready and not self.suspended:
            self.delivered.append(self.ready.pop(len(self.delivered)))
            self.taken += 1
            self.rest(self.random.expovariate(1 / self.consume_s))
            self.after(0.0, self.trainer_turn)

    def rest(self, seconds):
        self.consuming = True
        self.after(seconds, self.resume)

    def resume(self):
        self.consuming = False
        self.consume()

    # ---------------------------------------------------------------------------- a worker, as workers/worker.py is

    def node_turn(self, node):
        if not node.alive or node.frozen:
            return
        while node.inbox and node.alive:
            self.do(node, node.session.receive(node.inbox.popleft(), self.now))
        while node.finished and node.alive:
            self.finish(node, node.finished.popleft())
        if node.alive:
            self.do(node, node.session.tick(self.now))
            self.alarm(node, lambda: self.node_turn(node), node.session.next_deadline())

    def do(self, node, effects):
        for effect in effects:
            if isinstance(effect, Say):
                if node.key is None:
                    self.do(node, node.session.disconnected(self.now))
                else:
                    for _ in range(1 + (isinstance(effect.message, Produced)
                                        and self.random.random() < self.repeat)):
                        self.transmit(node.key, "up", effect.message)
            elif isinstance(effect, Work) and not node.stuck:
                self.after(self.random.expovariate(1 / node.speed), self.done, node, effect.lease)
            elif isinstance(effect, End):
                node.alive = False
                if node.key is not None:      # a closing socket sends what it holds, then the connection goes
                    self.after(10 * self.delay_s, self.hang_up, node.key, True)

    def done(self, node, lease):
        node.finished.append(lease)
        self.node_turn(node)

    def finish(self, node, lease):
        failed = self.failures.get(lease.position, 0)
        if failed < 2 and self.random.random() < self.fail:     # a third time would rightly end the run
            self.failures[lease.position] = failed + 1
            self.do(node, node.session.failed(lease, "ValueError: no", "traceback", "", self.now))
        else:
            indices = np.array([[sample.index] for sample in lease.samples], np.int64)
            self.do(node, node.session.produced(lease, len(indices), (), (indices,), 0.0, Timings(), self.now))

    # ------------------------------------------------------------------------------------- what may happen to them

    def join(self):
        """One more worker."""
        name = "sim/%d" % len(self.nodes)
        speed = self.work_s * (10 if len(self.nodes) < self.slow else 1)
        node = Node(name, WorkerSession(Hello(name, 1, "none", 2, ""), False, self.now), speed)
        node.stuck = len(self.nodes) < self.stuck
        self.nodes.append(node)
        self.connect(node)

    def connect(self, node):
        if node.alive:
            node.key = next(self.ticket)
            self.owner[node.key] = node
            self.node_turn(node)

    def hang_up(self, key, heard):
        """The connection is gone, with everything under way on it; the trainer hears of it later, or never."""
        node = self.owner.pop(key, None)
        if node is not None and node.key == key:
            node.key = None
        if heard:
            self.after(self.random.expovariate(1 / self.delay_s), self.notice, key)

    def notice(self, key):
        self.gone.add(key)                    # sending to it will fail

    def crash(self, node, heard=True):
        """The process is dead; its supervisor starts another one."""
        if node.alive:
            node.alive = False
            if node.key is not None:
                # what the kernel had already taken from it may still arrive
                self.after(self.random.choice((0.0, 10 * self.delay_s)), self.hang_up, node.key, heard)
            self.after(self.random.uniform(0.1, 1.0), self.join)

    def cut(self, node, heard=True, told=True):
        """The connection breaks and comes again as a new one. The worker is ``told`` or finds out by the answers."""
        if node.alive and node.key is not None:
            self.hang_up(node.key, heard)
            if told:
                self.do(node, node.session.disconnected(self.now))
            self.after(self.random.uniform(0.05, 3.0), self.connect, node)

    def freeze(self, node, seconds):
        """SIGSTOP, and SIGCONT some time later."""
        if node.alive and not node.frozen:
            node.frozen = True
            self.after(seconds, self.wake, node)

    def wake(self, node):
        node.frozen = False
        self.node_turn(node)

    def drain(self, node):
        """SIGTERM."""
        if node.alive and not node.frozen:
            self.do(node, node.session.drain(self.now, "asked to stop"))

    def suspend(self, seconds):
        """The trainer's whole process stops for a while: messages pile up."""
        if not self.suspended:
            self.suspended = True
            self.after(seconds, self.continue_trainer)

    def continue_trainer(self):
        self.suspended = False
        self.trainer_turn()
