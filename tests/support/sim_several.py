"""Several trainers and the workers that serve all of them, on virtual time and in one thread.

As ``sim.py``, which has one trainer and more faults: the real CoordinatorSessions, the real Conversations of each
worker, every message through the real codec, links that delay and keep the order. Trainers hang, die and start again;
workers die; connections break. After every event, no worker holds more than two leases, and each batch of each trainer
comes once.
"""

import heapq
import itertools
import random
from collections import Counter, deque

from stoker.pipeline.coordinator.farewell import State
from stoker.pipeline.coordinator.session import CoordinatorSession
from stoker.pipeline.coordinator.thread import carry_out
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Hello, Lease, Need, Room, Timings
from stoker.workers.conversations import Conversations
from stoker.workers.effects import Check, Close, End, HangUp, Say, Work
from tests.support.invariants import check_invariants
from tests.support.own_data import Labels

NOTICED_S = 12.5            # until the other end of a connection knows that a stopped process does not answer


class Trainer:
    """A rank: its session, and its consumer, which takes ``step_s`` for a step. Also its Wire."""

    def __init__(self, sim, number, seed, steps, prefetch, step_s):
        self.sim, self.number, self.prefetch, self.step_s = sim, number, prefetch, step_s
        self.data = Labels(seed, steps)
        self.taken = self.starts = 0
        self.ready, self.inbox, self.times = set(), deque(), []     # times: when each batch was taken
        self.waited_s, self.idle_since_s = 0.0, 0.0
        self.is_stopped = self.is_dead = False
        self.granted = Counter()             # leases, by worker
        self.start()

    def start(self):
        """A process of it, which goes on where the last one ended."""
        self.starts += 1
        self.is_dead, self.is_busy, self.ready, self.gone = False, False, set(), set()
        self.inbox.clear()
        self.session = CoordinatorSession("%d-%d" % (self.number, self.starts), self.taken, self.data.plan,
                                          self.data.splits, self.data.job, StreamOptions(prefetch=self.prefetch),
                                          self.sim.now, lambda key: "10.0.0.%d" % (self.sim.owner_number(key)))
        self.turn()

    @property
    def is_done(self):
        """All its batches were taken."""
        return self.taken == self.data.plan.positions

    def turn(self):
        if self.is_stopped or self.is_dead or self.session.state is State.OVER:
            return
        now, session = self.sim.now, self.session
        session.wake(now)
        while self.inbox:
            key, frames = self.inbox.popleft()
            self.do(session.receive(key, frames, now))
        self.do(session.answer_hellos())
        self.do(session.tick(now, self.taken, self.step_s))
        check_invariants(session._scheduler, rooms=True)
        self.consume()
        self.sim.alarm(("trainer", self.number, self.starts), self.turn, max(now, session.next_deadline()))

    def do(self, effects):
        carry_out(effects, self.sim.now, self.session, self, self.accept, self.fail)

    def send(self, peer, frames):
        message = codec.decode_from_trainer(frames)
        if isinstance(message, Lease):
            assert self.taken <= message.position < self.data.plan.positions and message.position not in self.ready
            self.data.check_lease(message)
            self.granted[self.sim.owner_number(peer)] += 1
        self.sim.needs += isinstance(message, Need)
        if peer in self.gone:
            return False
        self.sim.transmit(peer, "down", frames)
        return True

    def admit(self, peer):
        pass

    def shut(self, peer):
        raise AssertionError("an honest worker was cut off")

    def fail(self, error):
        raise AssertionError("the run ended: %s" % error)

    def accept(self, effect):
        position = effect.planned.position
        assert self.taken <= position and position not in self.ready
        self.data.check_batch(effect)
        self.ready.add(position)

    def consume(self):
        if self.is_busy or self.is_stopped or self.is_dead or self.taken not in self.ready:
            return
        if self.sim.lockstep and any(each.taken < self.taken for each in self.sim.trainers):
            return                           # the others wait for one in the step before
        self.ready.remove(self.taken)
        self.taken += 1
        self.times.append(self.sim.now)
        self.waited_s += self.sim.now - self.idle_since_s
        self.is_busy = True
        self.sim.after(self.step_s, self.resume, self.starts)
        self.sim.after(0.0, self.turn)
        for each in self.sim.trainers if self.sim.lockstep else ():
            if each is not self:
                self.sim.after(0.0, each.consume)

    def resume(self, starts):
        if starts == self.starts and not self.is_dead:
            self.is_busy, self.idle_since_s = False, self.sim.now
            self.consume()

    def stop(self, seconds):
        """SIGSTOP, and SIGCONT some time later."""
        self.is_stopped = True
        self.sim.after(seconds, self.go_on)
        if seconds > NOTICED_S:
            self.sim.after(NOTICED_S, self.sim.break_connections, self, seconds - NOTICED_S)

    def go_on(self):
        self.is_stopped = False
        self.turn()
        self.consume()

    def die(self, for_s):
        """The process is killed, and started again after a while."""
        self.is_dead = True
        self.sim.after(0.01, self.sim.break_connections, self, for_s)
        self.sim.after(for_s, self.start)


class Worker:
    """A worker: its conversations, and a generator that takes its time. ``keys``: of its present connections."""

    def __init__(self, sim, number, work_s):
        self.sim, self.number, self.work_s = sim, number, work_s
        self.is_alive = True
        self.names = ["tcp://trainer:%d" % each.number for each in sim.trainers]
        self.talks = Conversations(Hello("sim:%d/0" % number, 1, "none", 2, ""), self.names, False, sim.now)
        self.keys = [None] * len(sim.trainers)
        self.idle_since_s, self.idle_s = sim.now, 0.0      # without a lease in work
        self.closed = set()
        for trainer in range(len(sim.trainers)):
            self.connect(trainer)

    def connect(self, trainer):
        if self.is_alive and trainer not in self.closed and self.keys[trainer] is None:
            if self.sim.trainers[trainer].is_dead:
                self.sim.after(0.2, self.connect, trainer)
                return
            self.keys[trainer] = key = b"%d" % next(self.sim.tickets)
            self.sim.owners[key] = self, trainer
            self.talks.connected(trainer)
            self.turn()

    def turn(self):
        if self.is_alive:
            self.do(self.talks.tick(self.sim.now))
            self.wait()

    def wait(self):
        if self.is_alive:
            self.sim.alarm(self, self.turn, max(self.sim.now, self.talks.next_deadline()))

    def hear(self, trainer, message):
        if self.is_alive:
            self.do(self.talks.receive(trainer, message, self.sim.now))
            self.wait()

    def do(self, said):
        for trainer, effect in said:
            if isinstance(effect, Say):
                self.sim.rooms += isinstance(effect.message, Room)
                if self.keys[trainer] is None:
                    self.do(self.talks.disconnected(trainer, self.sim.now))
                else:
                    self.sim.transmit(self.keys[trainer], "up", codec.encode(effect.message))
            elif isinstance(effect, Check):
                self.sim.after(0.05, self.checked, trainer, effect.run)
            elif isinstance(effect, Work):
                self.idle_s += self.sim.now - self.idle_since_s
                self.sim.after(self.sim.random.uniform(0.8, 1.2) * self.work_s, self.done, trainer, effect)
            elif isinstance(effect, (Close, HangUp)):
                assert not isinstance(effect, HangUp), "an honest trainer was left"
                self.closed.add(trainer)
            elif isinstance(effect, End):
                self.is_alive = False
        held = [one.session.held for one in self.talks._trainers]
        assert sum(held) <= 2, held
        assert sum(one.taken for one in self.talks._trainers) <= 2

    def checked(self, trainer, run):
        if self.is_alive:
            self.do(self.talks.checked(trainer, run, "", "", self.sim.now))
            self.wait()

    def done(self, trainer, work):
        if self.is_alive:
            self.idle_since_s = self.sim.now
            output = self.sim.trainers[trainer].data.produce(work.job, work.lease)
            self.do(self.talks.produced(work.lease, len(output.arrays[0]), (), output.arrays, 0.0, Timings(),
                                        self.sim.now))
            self.wait()

    def crash(self, again_s):
        """Its process dies, and another one starts."""
        self.is_alive = False
        for key in self.keys:
            if key is not None:
                self.sim.after(0.05, self.sim.hang_up, key)
        self.sim.after(again_s, self.sim.join, self.number, self.work_s)


class Several:
    """``steps``, ``step_s``, ``prefetch``, ``delay_s``: of each trainer, in turn. ``lockstep``: all take step n before
    one takes n + 1, as ranks do. ``play`` until a condition holds."""

    def __init__(self, seed, trainers=2, workers=3, steps=(60,), step_s=(0.05,), prefetch=(8,), work_s=(0.1,),
                 delay_s=(0.005,), lockstep=False):
        self.random, self.delay_s, self.lockstep = random.Random(seed), delay_s, lockstep
        self.now, self.events, self.tickets = 0.0, [], itertools.count()
        self.alarms, self.owners, self.arrived = {}, {}, {}
        self.rooms = self.needs = 0          # messages
        self.trainers, self.workers = [], []
        for number in range(trainers):
            self.trainers.append(Trainer(self, number, seed, *(each[number % len(each)]
                                                               for each in (steps, prefetch, step_s))))
        for number in range(workers):
            self.join(number, work_s[number % len(work_s)])

    def join(self, number, work_s):
        self.workers.append(Worker(self, number, work_s))

    def owner_number(self, key):
        return self.owners[key][0].number if key in self.owners else -1

    def after(self, delay_s, do, *args):
        heapq.heappush(self.events, (self.now + delay_s, next(self.tickets), do, args))

    def alarm(self, actor, turn, deadline_s):
        if deadline_s < self.alarms.get(actor, float("inf")):
            self.alarms[actor] = deadline_s
            self.after(max(0.0, deadline_s - self.now), self.ring, actor, turn, deadline_s)

    def ring(self, actor, turn, deadline_s):
        if self.alarms.get(actor) == deadline_s:
            del self.alarms[actor]
            turn()

    def play(self, done, limit_s=600.0):
        """Until ``done()``."""
        while not done():
            self.now, _, do, args = heapq.heappop(self.events)
            assert self.now < limit_s, "no progress: " + "; ".join("%d: step %d, %s" % (
                each.number, each.taken, each.session._scheduler.describe(self.now)) for each in self.trainers)
            do(*args)

    def run(self, limit_s=600.0):
        """Until every trainer has taken all its batches."""
        self.play(lambda: all(each.is_done for each in self.trainers), limit_s)

    def play_for(self, seconds):
        """So long."""
        end_s = self.now + seconds
        self.after(seconds, lambda: None)
        self.play(lambda: self.now >= end_s)

    def transmit(self, key, direction, frames):
        number = self.owners[key][1] if key in self.owners else 0
        delay_s = self.random.expovariate(1 / self.delay_s[number % len(self.delay_s)])
        arrival = max(self.now + delay_s, self.arrived.get((key, direction), 0.0))
        self.arrived[key, direction] = arrival
        self.after(arrival - self.now, self.arrive, key, direction, [bytes(frame) for frame in frames])

    def arrive(self, key, direction, frames):
        if key not in self.owners:
            return
        worker, trainer = self.owners[key]
        if worker.keys[trainer] != key:
            return
        if direction == "down":
            worker.hear(trainer, codec.decode_from_trainer(frames))
        elif not self.trainers[trainer].is_dead:
            self.trainers[trainer].inbox.append((key, frames))
            self.trainers[trainer].turn()

    def hang_up(self, key):
        """The connection is gone; the trainer knows."""
        worker, trainer = self.owners.pop(key, (None, None))
        if worker is not None:
            worker.keys[trainer] = None
            self.trainers[trainer].gone.add(key)

    def break_connections(self, trainer, again_s):
        """All of one trainer, as the workers notice; they come again."""
        for key, (worker, number) in list(self.owners.items()):
            if self.trainers[number] is trainer:
                self.hang_up(key)
                if worker.is_alive:
                    worker.do(worker.talks.disconnected(number, self.now))
                    worker.wait()
                self.after(again_s + self.random.uniform(0.0, 0.3), worker.connect, number)

    def end(self, trainer, limit_s=2.0):
        """The run of this trainer is over: until its workers know."""
        trainer.do(trainer.session.stop("all steps are done", self.now, limit_s))
        self.alarm(("trainer", trainer.number, trainer.starts), trainer.turn, self.now)
        self.play(lambda: trainer.session.state is State.OVER, self.now + 60.0)
