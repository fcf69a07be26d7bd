"""Coordinator: the thread at the trainer's end of the wire, which carries out what ``session.py`` decides.

It owns socket, clock and shared memory, copies each accepted batch that came in frames once into aligned memory, and
hands it over.
"""

import itertools
import logging
import os
import threading
import time
from typing import Callable, FrozenSet, Iterable, List, Optional, Tuple

from stoker.pipeline.arrays import framed, keep_freed_memory
from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import SharedMemory, Wire
from stoker.pipeline.coordinator.batch_memory import BatchMemory
from stoker.pipeline.coordinator.buffers import BatchBuffers
from stoker.pipeline.coordinator.effects import Deliver, Effect, Fail, Invite, Log, Release, Send, Share, Shut, Unshare
from stoker.pipeline.coordinator.farewell import State
from stoker.pipeline.coordinator.killers import Killer, Killers
from stoker.pipeline.coordinator.lease_size import check_leases
from stoker.pipeline.coordinator.roster import Counts, Roster
from stoker.pipeline.coordinator.session import CoordinatorSession
from stoker.pipeline.coordinator.slots import EXTRA_BATCHES, slots_of
from stoker.pipeline.errors import RunFailed, StokerError
from stoker.pipeline.monitoring.health import HealthFile
from stoker.pipeline.monitoring.killer_list import read_list, write_list
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import NO_SLOT
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.text import printable, printable_path
from stoker.pipeline.transport.keys import WorkerKeys, advice, load_trainer, make_local
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.sockets import Waker

log = logging.getLogger("stoker")

DELIVERED_AT_ONCE = 8  # batches, at most: a turn may be long
MAX_DRAIN = 10000      # messages read in one turn: a flood must not starve the clock
STOP_S = 0.4           # how long the end of a run waits for workers that do not read Stop ...
STOP_DONE_S = 1.5      # ... when all steps are done, and the user does not wait for this process to end
CLOSE_S = 3.0          # the thread ends within this, or is left to die with the process


def carry_out(effects: Iterable[Effect], now: float, session: CoordinatorSession, wire: Wire,
              deliver: Callable[[Deliver], None], fail: Callable[[StokerError], None],
              heard: Optional[Callable[[Log], None]] = None, memory: Optional[SharedMemory] = None) -> None:
    """Carries out ``effects`` in their order, and tells the session what could not be sent. ``heard`` gets the lines of
    the log, too. ``memory``: the one that the session has."""
    for effect in effects:
        if isinstance(effect, Send):
            frames = codec.encode(effect.message)
            for peer in effect.peers:
                if not wire.send(peer, frames):
                    session.unreachable(peer)
        elif isinstance(effect, Deliver):
            deliver(effect)
        elif isinstance(effect, Log):
            level = logging.WARNING if effect.is_warning else logging.DEBUG if effect.is_debug else logging.INFO
            log.log(level, "%s", printable(effect.text, lines=True))
            if heard is not None:
                heard(effect)
        elif isinstance(effect, Invite):
            if wire.send(effect.peer, codec.encode(effect.welcome)):
                wire.admit(effect.peer)
                following = session.joined(effect.peer, effect.hello, now)
            else:
                following = session.lost(effect.peer, now)
            carry_out(following, now, session, wire, deliver, fail, heard, memory)
        elif isinstance(effect, Shut):
            wire.shut(effect.peer)
        elif isinstance(effect, Fail):
            fail(effect.error)
        elif memory is None:
            raise AssertionError("a session without shared memory asks for some")
        elif isinstance(effect, Share):
            following = session.shared(effect.peer, effect.ready, memory.share(effect.peer, effect.ready.socket), now)
            carry_out(following, now, session, wire, deliver, fail, heard, memory)
        elif isinstance(effect, Unshare):
            memory.drop(effect.peer, effect.leased)
        elif isinstance(effect, Release):
            memory.release(effect.peer, effect.slot)


class Coordinator(threading.Thread):
    """Hands every batch of ``plan`` from position ``start`` on to ``deliver(position, batch)``, in any order and from
    this thread; what ends the run goes to ``fail``. Raises ConfigError if the address cannot be bound."""

    def __init__(self, start: int, plan: Plan, datasets: Splits, job: JobOptions, options: StreamOptions,
                 deliver: Callable[[int, Batch], None], fail: Callable[[StokerError], None]) -> None:
        super().__init__(name="stoker-coordinator", daemon=True)
        self._deliver, self._fail = deliver, fail
        self._made: List[Tuple[int, Batch]] = []      # in this turn, and not yet delivered: with their positions
        check_leases(plan, datasets, job)
        self._killers_path = options.killers
        remembered = itertools.starmap(Killer, read_list(options.killers) if options.killers is not None else [])
        self._killers = Killers(job, datasets, options.picture_cpu_s, remembered, start == 0)
        self._say_remembered()
        self._killers_written = 0     # how many of their changes are in the file
        self.run_id = os.urandom(4).hex()
        prefetch = options.prefetch_of(job)
        self._memory = None if not options.shared_memory else BatchMemory(
            self.run_id, job, slots_of(prefetch), options.shared_memory_folder)
        self._session = CoordinatorSession(self.run_id, start, plan, datasets, job, options, time.monotonic(),
                                           lambda peer: self._listener.host_of(peer),
                                           lambda peer: self._listener.key_of(peer), os.urandom(16), self._killers,
                                           self._memory)
        self._health = None if options.health_file is None else HealthFile(options.health_file)
        keep_freed_memory()       # libzmq's: each batch comes in a new piece
        self._arrays, self._buffers = job.arrays, BatchBuffers(job, prefetch + EXTRA_BATCHES)
        keys = None if options.keys is None else load_trainer(os.fspath(options.keys))
        self.local_keys: Optional[WorkerKeys] = None if keys is None else make_local(keys)     # for local workers
        if keys is not None and advice():
            log.info("%s", advice())
        header_bytes = codec.max_header_bytes(job.batch_size)
        arrays = [spec.sample_bytes * job.batch_size * job.rows for spec in framed(job.arrays)]
        self._waker = Waker()
        try:
            self._listener = Listener(options.bind, self._waker, Limits(
                max(arrays + [header_bytes]), sum(arrays) + header_bytes, prefetch), keys, self._session.leases_of,
                options.insecure)
        except BaseException:
            self._waker.close()
            raise
        self.address = self._listener.address
        self._taken = start           # the consumer has every batch below it
        self._step_s = 0.0            # the recent time in which it uses one
        self._is_waited_for = True    # some worker waits for the window to move: worth a wake
        self.heard: Optional[Callable[[Log], None]] = None     # gets each line of the log, in this thread
        self._stopping: Optional[Tuple[str, float]] = None     # why, and how long to wait for the workers

    @property
    def decoders(self) -> FrozenSet[str]:
        """Those of workers that have joined."""
        return self._session.notices.decoders

    @property
    def fleet(self) -> Fleet:
        """The workers, as of the last heartbeat."""
        return self._session.standing.fleet

    @property
    def counts(self) -> Counts:
        """What changes all the time."""
        return self._session.standing.counts

    def roster(self, now: float, rest: Callable[[], None]) -> Roster:
        """The members, for any thread: see ``roster.py``."""
        return self._session.standing.roster(now, rest)

    @property
    def is_verifying(self) -> bool:
        """A comparison of two batches of a position is to be expected soon."""
        return self._session.verification.is_busy

    def verification_report(self) -> str:
        """How many batches were made twice and compared, in a sentence; '' without ``StreamOptions.verify``."""
        return self._session.verification.report()

    def take_up_to(self, position: int, step_s: float = 0.0) -> None:
        """The consumer has all batches below ``position``, and used the last ones in ``step_s`` each."""
        self._taken, self._step_s = position, step_s
        if self._is_waited_for:
            self._is_waited_for = False      # one wake is enough
            self._waker.wake()

    def stop(self, reason: str, done: bool) -> None:
        """Ends the thread: workers are told, the port is free again. ``done``: in no hurry."""
        self._stopping = reason, STOP_DONE_S if done else STOP_S
        self._waker.wake()
        self.join(CLOSE_S)
        if not self.is_alive():  # else it may still poll it
            self._waker.close()

    def abandon(self) -> None:
        """Frees the port of a coordinator that was never started."""
        self._listener.close()
        self._waker.close()

    def without_workers_s(self) -> float:
        """For how long no worker has been alive."""
        return self._session.standing.without_workers_s(time.monotonic())

    def stall_report(self, waited_s: float, limit_s: float) -> str:
        """What the user of a consumer that waits should know."""
        problem = self._session.last_problem
        return "no batch for %.1f s (limit %g s): %s%s" % (
            waited_s, limit_s, self._session.standing.status_line, problem and "; last problem: " + problem)

    def run(self) -> None:      # all from here on is called only by this thread
        session = self._session
        try:
            while session.state is not State.OVER:
                if self._stopping is not None and session.state is State.RUNNING:
                    now = time.monotonic()
                    self._do(session.stop(self._stopping[0], now, self._stopping[1]), now)
                self._wait()
                self._turn()
            self._do(session.summary(), time.monotonic())
        except StokerError as error:     # the user's order, for example
            self._fail_with(error)
        except Exception as error:
            log.exception("the coordinator failed")
            self._fail_with(RunFailed("the coordinator failed with %s: %s (a bug in Stoker; the log has the traceback)"
                                      % (type(error).__name__, error)))
        finally:
            self._listener.close()
            if self._memory is not None:
                self._memory.close()

    def _wait(self) -> None:
        session = self._session
        deadline = min(session.next_deadline(), self._listener.next_deadline())
        # in this order: a batch that the consumer takes from here on either is seen at once, or wakes
        self._is_waited_for = session.has_room
        taken = self._is_waited_for and self._taken > session.head and session.state is State.RUNNING
        self._listener.wait(0.0 if taken else deadline - time.monotonic())

    def _turn(self) -> None:
        session, listener = self._session, self._listener
        session.wake(time.monotonic())
        for _ in range(MAX_DRAIN):               # all waiting messages before the clock
            received = listener.receive()
            if received is None or session.state is State.OVER:
                break
            now = time.monotonic()
            session.wake(now)                    # the user's order may have taken long for the message before
            self._do(session.receive(received[0], received[1], now), now)
            if len(self._made) >= DELIVERED_AT_ONCE:
                self._hand_over()
            if now >= listener.next_deadline():  # a flood may go on for a while
                self._hand_over()
                listener.poll(now)
        now = time.monotonic()
        self._do(session.answer_hellos(), now)
        listener.poll(now)
        incidents, listener.incidents = listener.incidents, []
        for kind, host in incidents:
            self._do(session.incident(kind, host), now)
        self._do(session.tick(now, self._taken, self._step_s), now)
        self._hand_over()
        if self._memory is not None:
            self._memory.look_at_left()
        if self._health is not None and session.state is State.RUNNING:
            self._health.beat(now)

    def _hand_over(self) -> None:
        """Delivers what was made. A consumer that wakes wants Python's lock, which this thread gives up each time that
        it sends or receives: so first the workers get their leases, and then the consumer its batches."""
        made, self._made = self._made, []
        for position, batch in made:
            self._deliver(position, batch)

    def _fail_with(self, error: StokerError) -> None:
        self._hand_over()                  # what came before can be used
        self._fail(error)

    def _do(self, effects: Iterable[Effect], now: float) -> None:
        carry_out(effects, now, self._session, self._listener, self._copy_and_deliver, self._fail_with, self.heard,
                  self._memory)

    def _say_remembered(self) -> None:
        """Only those that count: the list may have lines of samples that are gone, or twice."""
        count = len(self._killers.all)
        if count:
            log.info("%d sample%s ended workers, or found no memory, in former runs, and count as bad; to "
                     "try one again, remove its line in %s", count, "s" * (count > 1),
                     printable_path(self._killers_path or ""))

    def _remember(self) -> None:
        """Writes the killers that were found, before their batch can be used."""
        path = self._killers_path
        try:
            if path is not None:
                write_list(path, self._killers.all)
        except OSError as error:         # each will cost some workers again after a restart
            log.warning("%s cannot be written: %s", printable_path(path or ""), error.strerror or error)
            self._killers_path = None

    def _copy_and_deliver(self, effect: Deliver) -> None:
        if self._killers.changes != self._killers_written:
            self._killers_written = self._killers.changes
            self._remember()
        arrays = self._buffers.copies(effect.views) if effect.message.slot == NO_SLOT else effect.views
        planned, message, own = effect.planned, effect.message, self._arrays
        sizes = dict(zip([spec.name for spec in own if spec.upto], arrays[len(own):])) if len(arrays) > len(own) else {}
        self._made.append((planned.position, Batch(
            planned.step, planned.epoch, planned.training, planned.indices, arrays[:len(own)], message.skipped,
            effect.worker, effect.attempt, message.produce_s, effect.used_indices, message.timings, effect.wire_s, own,
            sizes, effect.source if message.aligned else None, message.missing, planned.global_size)))
