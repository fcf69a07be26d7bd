"""A trainer, its workers and the network between them, on virtual time and in one thread.

The real CoordinatorSession and real WorkerSessions, every message through the real codec, and between them links that
delay but keep the order. Whatever happens is an event on one heap, every choice comes from one seeded generator: a
seed is a whole story, and can be told again. Faults are methods. After every event the promises of
``pipeline/coordinator/leases.py`` are checked.
"""

import heapq
import itertools
import random
from collections import deque

from stoker.pipeline.coordinator.effects import Log
from stoker.pipeline.coordinator.farewell import State
from stoker.pipeline.coordinator.session import CoordinatorSession
from stoker.pipeline.coordinator.thread import carry_out
from stoker.pipeline.errors import BatchesDiffer
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Hello, Lease, Produced, Timings
from stoker.workers.effects import Check, End, Say, Work
from stoker.workers.session import WorkerSession
from tests.support.hostile_members import Hostile
from tests.support.invariants import alive, check_invariants
from tests.support.own_data import Labels, Own
from tests.support.sim_memory import SimMemory, WorkerMemory


PING_TIMEOUT_S = 12.5       # a worker's libzmq sends a ping every 2.5 s, and waits 10 s for the answer


def with_a_wrong_byte(output):
    """An Output of which a byte is changed, if it has any."""
    arrays = list(output.arrays)
    for number, array in enumerate(arrays):
        if array.dtype.kind in "iu" and array.size:
            arrays[number] = array.copy()
            arrays[number].reshape(-1)[0] ^= 1
            return output._replace(arrays=tuple(arrays))
    return output


class Node:
    """One worker: its session, and a generator that takes its time."""

    def __init__(self, name, session, speed):
        self.name, self.session, self.speed = name, session, speed
        self.key = None         # of its present connection, None between two
        self.inbox = deque()
        self.finished = deque()  # leases the generator is done with
        self.alive = True
        self.stuck = False      # its generator never returns, though the process says Alive
        self.hung = False       # nor does its import
        self.unfit = False      # its folder is gone, or was never there
        self.frozen = False     # SIGSTOP: no timers, no messages
        self.memory = None      # that it shares with the trainer


class Simulation:
    """``run`` plays until all steps were consumed, ``end`` until every worker knows that the run is over. Both raise
    AssertionError for a broken promise.

    ``work_s``: the usual time for a step. ``fail``, ``repeat``: how likely a step fails, or a batch is sent twice.
    ``slow``: how many of the workers need ten times as long. ``stuck``: how many never finish a step; ``hung``: how
    many of them do not even finish their import. ``own``: the run has own data, and its length follows from the seed.
    ``verify``: the share of the steps that is made twice; two workers are on one host. The last ``liars`` of the
    workers change a byte in the share ``lies`` of their batches. ``parties``: the (key, host) of the workers, in turn.
    ``ahead``: how likely a worker finds at a lease that it should hold more, to read ahead. ``shared``: the share of
    the workers that offer memory; the consumer then keeps some batches for long.
    """

    def __init__(self, seed, steps=20, workers=4, prefetch=6, lease_s=4.0, work_s=0.2, consume_s=0.05, delay_s=0.02,
                 slow=0, stuck=0, hung=0, fail=0.0, repeat=0.0, own=False, verify=0.0, liars=0, lies=0.0,
                 parties=(), ahead=0.0, shared=0.7):
        self.random = random.Random(seed)
        self.memory_random, self.shared = random.Random(seed), shared
        self.data = Own(seed) if own else Labels(seed, steps)
        self.now = 0.0
        self.memory = SimMemory("5eed", self.data.job, StreamOptions(prefetch=prefetch).prefetch_of(self.data.job),
                                self.memory_random) if shared else None
        self.session = CoordinatorSession("5eed", self.data.start, self.data.plan, self.data.splits, self.data.job,
                                          StreamOptions(prefetch=prefetch, lease_s=lease_s, verify=verify), self.now,
                                          lambda key: self.party[key][1], lambda key: self.party[key][0],
                                          secret=b"%d" % seed, memory=self.memory)
        self.ahead, self.most_held = ahead, 0
        self.liars, self.lies = range(workers - liars, workers), lies
        self.wrong = {}                       # (name of a worker, position) -> its batch has a changed byte
        self.again = 0                        # leases for second batches
        self.accused = None                   # the error that ended the run because two batches differ
        self.scheduler = self.session._scheduler      # for the invariants
        self.steps, self.prefetch = self.data.plan.positions, prefetch
        self.work_s, self.consume_s, self.delay_s = work_s, consume_s, delay_s
        self.stuck, self.hung = stuck, hung
        self.slow, self.fail, self.repeat = slow, fail, repeat
        self.events, self.ticket = [], itertools.count()
        self.alarms = {}                      # actor -> when its next turn is due
        self.nodes, self.owner = [], {}       # owner: connection -> Node
        self.parties, self.party = parties, {}      # party: connection -> (key, host), also of one that is gone
        self.arrived = {}                     # (connection, direction) -> when its last message arrives
        self.inbox = deque()                  # of the trainer: (connection, frames)
        self.waiting = []                     # messages in it at each turn
        self.suspended = False                # the trainer
        self.gone = set()                     # connections that the trainer knows to be gone
        self.consuming = False                # the consumer is busy with a batch, or writes a checkpoint
        self.last_lease = 0
        self.ready, self.delivered = {}, list(range(self.data.start))     # positions
        self.failures = {}                    # position -> how often it failed
        self.expiries = self.grants = self.losses = self.returns = self.unfit_leases = 0
        self.attempts = set()
        for _ in range(workers):
            self.join()
        self.trainer_turn()

    # -------------------------------------------------------------------------------------------------- the clock

    def after(self, delay_s, do, *args):
        """An event."""
        heapq.heappush(self.events, (self.now + delay_s, next(self.ticket), do, args))

    def run(self, limit_s=600.0):
        """Plays on until the run is complete, which must be so by ``limit_s``, or two batches differ."""
        self.play(lambda: self.session.head == self.steps or self.accused, limit_s)
        assert self.accused or self.delivered == list(range(self.steps))

    def settle(self):
        """As a stream does at the end: plays on until nothing more is to be compared, or ten seconds are over."""
        end_s = self.now + 10.0
        self.play(lambda: not self.session.verification.is_busy or self.now > end_s or self.accused, self.now + 60.0)

    def end(self, limit_s=2.0):
        """The run is over: plays on until the session has nothing left to say."""
        self.do_trainer(self.session.stop("all steps are done", self.now, limit_s))
        self.alarm("trainer", self.trainer_turn, self.now)
        self.play(lambda: self.session.state is State.OVER, self.now + limit_s + 60.0)

    def play(self, done, limit_s):
        while not done():
            self.now, _, do, args = heapq.heappop(self.events)
            assert self.now < limit_s, "no progress: " + self.scheduler.describe(self.now)
            do(*args)
            check_invariants(self.scheduler)
            if self.memory is not None:
                self.memory.check(self.session)
            assert set(self.ready) <= self.scheduler._ready

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

    def transmit(self, key, direction, frames):
        """A message travels: late, but never before one that was sent earlier."""
        arrival = max(self.now + self.random.expovariate(1 / self.delay_s), self.arrived.get((key, direction), 0.0))
        self.arrived[key, direction] = arrival
        self.after(arrival - self.now, self.arrive, key, direction, [bytes(frame) for frame in frames])

    def arrive(self, key, direction, frames):
        if key not in self.owner:             # the connection broke while it travelled
            return
        if direction == "up":
            self.inbox.append((key, frames))
            self.trainer_turn()
        elif self.owner[key].key == key:
            node = self.owner[key]
            node.inbox.append(codec.decode_from_trainer(frames))
            self.node_turn(node)

    # ------------------------------------------- the trainer, as pipeline/coordinator/thread.py is; also its Wire

    def trainer_turn(self):
        if self.suspended:
            return
        self.session.wake(self.now)
        self.waiting.append(len(self.inbox))
        while self.inbox:
            key, frames = self.inbox.popleft()
            self.do_trainer(self.session.receive(key, frames, self.now))
        self.do_trainer(self.session.answer_hellos())
        self.do_trainer(self.session.tick(self.now, len(self.delivered)))
        members, standing = alive(self.scheduler), self.session.standing
        assert (standing.without_workers_s(self.now + 1.0) == 0.0) == bool(members)
        assert standing.may_come == any(worker.fit is None for worker in members)
        self.consume()
        self.alarm("trainer", self.trainer_turn, max(self.now, self.session.next_deadline()))

    def do_trainer(self, effects):
        self.returns += sum(isinstance(effect, Log) and "said Hello again" in effect.text for effect in effects)
        self.losses += sum(isinstance(effect, Log) and effect.text.endswith("reassigned") for effect in effects)
        self.expiries += sum(isinstance(effect, Log) and "was silent" in effect.text for effect in effects)
        carry_out(effects, self.now, self.session, self, self.accept, self.give_up, memory=self.memory)

    def send(self, peer, frames):
        message = codec.decode_from_trainer(frames)
        if isinstance(message, Lease):
            assert message.lease > self.last_lease, "lease ids must grow"
            if message.position in self.session.verification._checks:
                self.again += 1
                assert message.position in self.ready or message.position < len(self.delivered)
            else:
                assert len(self.delivered) <= message.position < self.steps and message.position not in self.ready
            self.data.check_lease(message)
            self.last_lease, self.grants = message.lease, self.grants + 1
        if peer in self.gone:
            return False
        if peer in self.owner:
            self.transmit(peer, "down", frames)
        return True

    def admit(self, peer):
        pass

    def shut(self, peer):
        raise AssertionError("an honest worker was cut off")

    def accept(self, effect):
        position = effect.planned.position
        assert len(self.delivered) <= position and position not in self.ready
        if not self.wrong.get((effect.worker, position)):
            self.data.check_batch(effect)
        if self.memory is not None:
            self.memory.deliver(effect.views, effect.message)
        self.attempts.add(effect.attempt)
        self.ready[position] = position

    def give_up(self, error):
        assert isinstance(error, BatchesDiffer) and self.lies, "the run ended: %s" % error
        self.accused = error

    def consume(self):
        """The consumer takes what is due, and is busy with it for a while."""
        if not self.consuming and len(self.delivered) in self.ready and not self.suspended:
            self.delivered.append(self.ready.pop(len(self.delivered)))
            if self.memory is not None:
                self.memory.take(len(self.ready) + 2)
            self.rest(self.random.expovariate(1 / self.consume_s))
            self.after(0.0, self.trainer_turn)

    def rest(self, seconds):
        self.consuming = True
        self.after(seconds, self.resume)

    def resume(self):
        self.consuming = False
        self.consume()

    # ---------------------------------------------------------------------------- a worker, as workers/process.py is

    def node_turn(self, node):
        if not node.alive or node.frozen:
            return
        while node.inbox and node.alive:
            self.do(node, node.session.receive(node.inbox.popleft(), self.now))
        while node.finished and node.alive:
            self.finish(node, *node.finished.popleft())
        if node.alive:
            self.do(node, node.session.tick(self.now))
            self.alarm(node, lambda: self.node_turn(node), node.session.next_deadline())

    def do(self, node, effects):
        for effect in effects:
            if isinstance(effect, Say):
                message = node.memory.completed(effect.message)
                if node.key is None:
                    self.do(node, node.session.disconnected(self.now))
                else:
                    for _ in range(1 + (isinstance(effect.message, Produced)
                                        and self.random.random() < self.repeat)):
                        self.transmit(node.key, "up", codec.encode(message))
            elif isinstance(effect, Check) and not node.hung:      # imports the user's module
                self.after(self.random.expovariate(1 / node.speed), self.checked, node, effect.run)
            elif isinstance(effect, Work):
                node.memory.begin(effect.job, effect.lease)
                if node.stuck:
                    continue
                produce_s = self.random.expovariate(1 / node.speed)
                self.after(produce_s, self.done, node, effect.job, effect.lease, produce_s)
            elif isinstance(effect, End):
                node.alive = False
                if node.key is not None:      # a closing socket sends what it holds, then the connection goes
                    self.after(10 * self.delay_s, self.hang_up, node.key, True)

    def checked(self, node, run):
        if node.alive:          # told later if it is frozen
            node.finished.append((None, run, 0.0))
            self.node_turn(node)

    def done(self, node, job, lease, produce_s):
        node.finished.append((job, lease, produce_s))
        self.node_turn(node)

    def finish(self, node, job, lease, produce_s):
        if self.ahead and self.random.random() < self.ahead:
            self.do(node, node.session.hold(self.random.randrange(2, 9)))
        self.most_held = max([self.most_held] + [len(worker.leases) for worker in self.scheduler.workers.values()])
        if job is None:
            self.do(node, node.session.checked(lease, "no folder" * node.unfit, "", self.now))
            return
        if node.unfit:
            self.unfit_leases += 1
            self.do(node, node.session.unfit("no folder", "", self.now))
            return
        failed = self.failures.get(lease.position, 0)
        if failed < 2 and self.random.random() < self.fail:     # a third time would rightly end the run
            self.failures[lease.position] = failed + 1
            self.do(node, node.session.failed(lease, "ValueError: no", "traceback", "", self.now))
        else:
            output = self.data.produce(job, lease)
            if self.nodes.index(node) in self.liars and self.random.random() < self.lies:
                right, output = output, with_a_wrong_byte(output)
                self.wrong[node.name, lease.position] = output is not right
            arrays, slot = node.memory.finish(lease, output.arrays)
            self.do(node, node.session.produced(
                lease, len(output.arrays[0]), output.skipped, arrays, produce_s, Timings(), self.now, output.rows,
                output.missing, output.aligned, slot=slot))

    # ------------------------------------------------------------------------------------- what may happen to them

    def join(self):
        """One more worker."""
        name = "sim/%d" % len(self.nodes)
        speed = self.work_s * (10 if len(self.nodes) < self.slow else 1)
        node = Node(name, WorkerSession(Hello(name, 1, "none", 2, ""), False, self.now), speed)
        node.memory = WorkerMemory(self.memory_random.random() < self.shared)
        node.stuck, node.hung = len(self.nodes) < self.stuck, len(self.nodes) < self.hung
        place = len(self.nodes)
        node.party = self.parties[place % len(self.parties)] if self.parties else ("", "10.0.0.%d" % (place // 2))
        self.nodes.append(node)
        self.connect(node)

    def join_hostile(self, kind, party):
        """One more member that does harm: see ``hostile_members.py``."""
        node = Node("hostile", None, 0.0)
        node.memory = WorkerMemory(False)
        node.session, node.party = Hostile(kind, self, lambda: self._come_again(node)), party
        self.connect(node)

    def _come_again(self, node):
        if node.key is not None:
            self.hang_up(node.key, True)
            self.after(self.random.expovariate(1 / self.delay_s), self.connect, node)

    def connect(self, node):
        if node.alive:
            node.key = b"%d" % next(self.ticket)
            self.party[node.key] = node.party
            self.owner[node.key] = node
            node.session.connected()
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
            node.memory.close()
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

    def misconfigure(self, node, seconds):
        """Its folder is not there for so long."""
        node.unfit = True
        self.after(seconds, self.configure, node)

    def configure(self, node):
        node.unfit = False

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

    def stop_trainer(self, seconds):
        """SIGSTOP, and SIGCONT some time later: unlike in ``suspend``, no thread of libzmq's answers the pings, so that
        workers give up their connections. New ones are made when it goes on."""
        self.suspend(seconds)
        if seconds > PING_TIMEOUT_S:
            self.after(PING_TIMEOUT_S, self._give_up_connections, self.now + seconds)

    def _give_up_connections(self, until_s):
        for node in self.nodes:
            if node.alive and node.key is not None:
                self.hang_up(node.key, True)
                self.after(until_s - self.now + self.random.uniform(0.0, 0.3), self.connect, node)
