"""The coordinator: the thread at the trainer's end of the socket, which carries out what the LeaseScheduler decides.

It owns the socket and the scheduler alone. Each accepted batch is checked against the job, copied once, into aligned
memory and without the GIL, and handed over; a message that is no message costs its sender the membership.
"""

import logging
import os
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import numpy as np

from stoker.pipeline.arrays import keep_freed_memory
from stoker.pipeline.batch import Batch
from stoker.pipeline.coordinator.bans import KINDS, PeerLimits
from stoker.pipeline.coordinator.buffers import BufferPool
from stoker.pipeline.coordinator.effects import Abort, Accept, Gone, Grant, Revoke, Unknown
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.errors import ProtocolError, RunFailed, StokerError, VersionMismatch
from stoker.pipeline.monitoring.health import HealthFile
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan, PlannedBatch, produced_indices
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Job, Lease, Produced, Refused, Revoked
from stoker.pipeline.protocol.messages import Stop
from stoker.pipeline.protocol.messages import Welcome, printable
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.transport.keys import TrainerKeys, WorkerKeys, advice, load_trainer, make_local
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.sockets import Waker

log = logging.getLogger("stoker")

MAX_DRAIN = 10000     # messages taken in one turn: a flood must not starve the clock
MAX_WARNINGS = 100    # about peers in a run, each once
STOP_S = 0.4           # how long the end of a run waits for workers that do not take notice of it ...
STOP_DONE_S = 1.5      # ... when all is done, and nobody waits for this process to be gone
AWAY_S = 2.0           # between two turns: far more than there is between any
CLOSE_S = 3.0          # the thread ends within this, or is left to die with the process
PROBES = 8             # files by which a worker sees whether its folder is the dataset's
EXTRA_BUFFERS = 4      # batches that consumer and TensorFlow may hold without costing new memory


class Coordinator(threading.Thread):
    """Hands every batch of ``plan`` from ``start`` on to ``deliver(position, batch)``, in any order and from this
    thread; what ends the run goes to ``fail``. Raises ConfigError if the address cannot be bound."""

    def __init__(self, start: int, plan: Plan, datasets: Splits, job: JobOptions,
                 options: StreamOptions, deliver: Callable[[int, Batch], None],
                 fail: Callable[[StokerError], None]) -> None:
        super().__init__(name="stoker-coordinator", daemon=True)
        training = datasets.training
        self._job = Job(job.generator, job.arrays, job.batch_size, job.seed, job.decode, training.root,
                        job.exif_rotate, job.follow_links,
                        tuple(sample.path for sample in training.samples(
                            range(0, len(training), -(-len(training) // PROBES)))) if training.root else ())
        self._replace = job.on_bad_image == "replace"
        self._plan, self._datasets, self._options = plan, datasets, options
        self._deliver, self._fail = deliver, fail
        self._run = os.urandom(4).hex()
        self._prefetch = options.prefetch_of(job)
        self._scheduler = LeaseScheduler(start, plan.positions, self._prefetch, options.lease_s)
        self._health = None if options.health_file is None else HealthFile(options.health_file)
        keep_freed_memory()       # libzmq's: each batch comes in a new piece
        self._pool = BufferPool(len(job.arrays) * (self._prefetch + EXTRA_BUFFERS))
        keys: Optional[TrainerKeys] = None
        self.local_keys: Optional[WorkerKeys] = None   # for workers that the trainer starts itself
        if options.keys is not None:
            keys = load_trainer(os.fspath(options.keys))
            self.local_keys = make_local(keys)
            if advice():
                log.info("%s", advice())
        self._peers = PeerLimits()
        self._header_bytes = codec.max_header_bytes(job.batch_size)
        arrays = [spec.sample_bytes * job.batch_size for spec in job.arrays]
        self._waker = Waker()
        try:
            self._listener = Listener(options.bind, self._waker, Limits(
                max(arrays + [self._header_bytes]), sum(arrays) + self._header_bytes, self._prefetch), keys)
        except BaseException:
            self._waker.close()
            raise
        self.address = self._listener.address
        self._members: Dict[Any, Hello] = {}  # whoever got a Welcome and is not gone
        self._planned: Dict[int, PlannedBatch] = {}   # of the open positions; with spares if they stand in
        self._taken = start       # below it, the consumer has everything
        self._unreachable: Set[Any] = set()   # members that are lost when their last words are read
        self._hungry = True       # somebody waits for the window to move: worth a wake
        self._stopping: Optional[str] = None
        self._stop_s = STOP_S
        self._pinged_s = 0.0
        self._turned_s = time.monotonic()
        self._none_since: Optional[float] = time.monotonic()  # since when no worker is alive
        self.fleet = Fleet(0, 0, {})
        self._status_line = "no worker yet"    # for the story; the scheduler itself is this thread's alone
        self._last_problem = ""          # the last thing that went wrong, likewise
        self._warned: Set[str] = set()   # what was said about peers
        self._narrow = False      # said that there are more workers than the prefetch keeps busy
        self._decoders: Set[str] = set()

    # ------------------------------------------------------------------------------------- called by other threads

    def take_up_to(self, position: int) -> None:
        """The consumer has all batches below ``position``."""
        self._taken = position
        if self._hungry:
            self._hungry = False      # once is enough
            self._waker.wake()

    def stop(self, reason: str, done: bool) -> None:
        """Ends the thread: workers are told, the port is free again. ``done``: in no hurry."""
        self._stop_s = STOP_DONE_S if done else STOP_S
        self._stopping = reason
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
        since = self._none_since
        return 0.0 if since is None else time.monotonic() - since

    def stall_report(self, waited_s: float, limit_s: float) -> str:
        """What a consumer that waits should know."""
        return "no batch for %.1f s (limit %g s): %s%s" % (
            waited_s, limit_s, self._status_line, self._last_problem and "; last: " + self._last_problem)

    # -------------------------------------------------------------------------------------------------- its thread

    def run(self) -> None:
        try:
            while self._stopping is None:
                deadline = min(self._scheduler.next_deadline(), self._pinged_s + self._options.heartbeat_s,
                               self._listener.next_deadline())
                # in this order: what the consumer takes from here on either is seen at once, or wakes
                self._hungry = self._scheduler.has_room
                taken = self._hungry and self._taken > self._scheduler.head
                self._listener.wait(0.0 if taken or self._unreachable else deadline - time.monotonic())
                self._turn()
            self._say_stop(self._stopping)
            scheduler = self._scheduler
            if scheduler.redone or scheduler.backups:
                log.info("leases: %d steps granted again because the first came to nothing, %d late steps granted to a "
                         "second worker as well, %d second batches dropped", scheduler.redone, scheduler.backups,
                         scheduler.duplicates)
            if self._peers.summary():
                log.info("at the door: %s", self._peers.summary())
        except Exception as error:
            log.exception("the coordinator failed")
            self._fail(RunFailed("the coordinator failed with %s: %s (a bug in Stoker; the log has the traceback)"
                                 % (type(error).__name__, error)))
        finally:
            self._listener.close()

    def _say_stop(self, reason: str) -> None:
        """Tells every worker, and waits until each has read it: it then says Hello to the next trainer, or hangs up.

        A worker's socket drops what it has not read when its connection breaks (ZMQ_IMMEDIATE): if this end closed at
        once, a worker could miss that the run is over, and with ``--once`` wait for ever.
        """
        stop, alive = codec.encode(Stop(reason)), codec.encode(Alive(self._run))
        unread = {key for key in self._members if self._listener.send(key, stop)}
        deadline = time.monotonic() + self._stop_s
        while unread and time.monotonic() < deadline:
            self._listener.wait(0.01)
            self._listener.poll(time.monotonic())    # else news of connections would leave nothing to wait for
            self._listener.incidents.clear()
            for key, frames in iter(self._listener.receive, None):
                if time.monotonic() >= deadline:     # a flood
                    break
                try:
                    if isinstance(codec.decode_from_worker(frames, self._header_bytes), Hello):
                        unread.discard(key)
                except ProtocolError:
                    pass                         # no business of a run that is over
            unread = {key for key in unread if self._listener.send(key, alive)}

    def _turn(self) -> None:
        now = time.monotonic()
        if now > self._turned_s + AWAY_S:        # a suspended process, or one that was busy since it bound its port
            self._peers.suspended_for(now - self._turned_s, now)
        self._turned_s = now
        for _ in range(MAX_DRAIN):              # all waiting messages before the clock
            received = self._listener.receive()
            if received is None:
                break
            self._receive(*received)
        self._lose_the_unreachable()
        self._check_connections()
        while self._scheduler.head < self._taken:
            self._carry_out(self._scheduler.take(time.monotonic()))
        now = time.monotonic()
        self._carry_out(self._scheduler.tick(now))
        if now >= self._pinged_s + self._options.heartbeat_s:
            self._pinged_s = now
            if self._health is not None:
                self._health.beat(now)
            self._status_line = self._scheduler.describe(now) + "".join(
                "; the next step is with %s for %.1f s" % (self._members[key].worker, held_s)
                for key, held_s in self._scheduler.holders(now))
            heard = [hello for key, hello in self._members.items() if self._scheduler.is_heard(key)]
            hosts = {hello.worker.rpartition(":")[0]: hello.cores for hello in heard}
            self.fleet = Fleet(len(heard), sum(hosts.values()), Counter(
                hello.worker.rpartition("/")[0] for hello in heard))
            alive = codec.encode(Alive(self._run))
            for key in list(self._members):
                self._send(key, alive)
        self._none_since = None if self._scheduler.has_workers else self._none_since or now

    def _lose_the_unreachable(self) -> None:
        """To be called when all waiting messages are read: who left in good order said so, and gave its last batch."""
        unreachable, self._unreachable = self._unreachable, set()
        for key in unreachable:
            self._carry_out(self._scheduler.lost(key, time.monotonic()))

    def _check_connections(self) -> None:
        self._listener.poll(time.monotonic())
        incidents, self._listener.incidents = self._listener.incidents, []
        for kind, host in incidents:
            self._peers.counts[kind] += 1
            if KINDS[kind][1]:
                self._warn_once(KINDS[kind][1] % host, stranger=True)

    def _receive(self, key: bytes, frames: List[Any]) -> None:
        now = time.monotonic()
        if self._peers.is_out(key):
            return
        try:
            message = codec.decode_from_worker(frames, self._header_bytes)
            if getattr(message, "run", self._run) != self._run:
                if key not in self._members:    # a worker that outlived another trainer, and does not know it yet
                    self._peers.counts["older"] += 1
                    log.debug("a message of run %.20r", message.run)
                    if self._peers.hello(key, now):
                        self._cast_out(key, "hellos", now)
                        return
                    self._listener.send(key, codec.encode(Refused("run %.20s is over" % message.run, False)))
                    return
                raise ProtocolError("it speaks of run %.20r" % message.run)
            arrays = self._check(message) if isinstance(message, Produced) else ()
        except VersionMismatch as error:
            self._complain(key, "refused", error)
            self._listener.send(key, codec.encode(Refused("the trainer and this worker differ: %s" % error, True)))
            if self._peers.nonsense(key, now):
                self._cast_out(key, "talker", now)
            return
        except ProtocolError as error:
            self._complain(key, "dropped a message", error)
            if key in self._members:      # whatever it holds cannot be told from its nonsense: it starts again
                self._carry_out(self._scheduler.protocol_violation(key, now, "sent nonsense (%s)" % error))
            self._listener.send(key, codec.encode(Refused(str(error), False)))
            if self._peers.nonsense(key, now):
                self._cast_out(key, "talker", now)
            return
        if isinstance(message, Hello):
            message = replace(message, worker=printable(message.worker), versions=printable(message.versions),
                              last_exit=printable(message.last_exit))
            if self._peers.hello(key, now):
                self._cast_out(key, "hellos", now)
                return
            if not self._welcome(key, message):
                return
        elif isinstance(message, Failed) and key in self._members:
            message = replace(message, error=printable(message.error), traceback=printable(message.traceback, True))
            self._last_problem = "%s failed%s: %s" % (self._members[key].worker, message.sample and " at %r" % message.sample,
                                               message.error)
            self._warn_once(self._last_problem, "\n" + message.traceback)
        self._carry_out(self._scheduler.receive(key, message, now), message, arrays)

    def _cast_out(self, key: bytes, kind: str, now: float) -> None:
        """Disconnects a peer that is out."""
        self._warn_once(KINDS[kind][1] % self._who(key), stranger=True)
        if key in self._members:
            self._carry_out(self._scheduler.protocol_violation(key, now, "is cut off"))
        self._listener.shut(key)

    def _check(self, message: Produced) -> Tuple[np.ndarray, ...]:
        """Views on the frames of a batch that may be accepted; () for one that comes too late."""
        if not self._scheduler.is_open(message.position):
            return ()
        planned = self._planned[message.position]
        return codec.check_arrays(message, self._job, planned.indices, planned.replacements)

    def _welcome(self, key: bytes, hello: Hello) -> bool:
        """False: whoever said Hello is gone. A connection that broke leaves its words behind, and must not become a
        member by them."""
        if not self._listener.send(key, codec.encode(Welcome(self._run, self._job, self._options.heartbeat_s))):
            self._carry_out(self._scheduler.lost(key, time.monotonic()))
            return False
        self._listener.admit(key, hello.capacity)
        if key not in self._members:
            self._members[key] = hello
            log.info("%s joined (pid %d, %s)%s", hello.worker, hello.pid, hello.versions,
                     hello.last_exit and "; its predecessor ended with " + hello.last_exit)
            if hello.last_exit:
                self._last_problem = "%s ended with %s" % (hello.worker, hello.last_exit)
            if len(self._members) * hello.capacity > self._prefetch and not self._narrow:
                self._narrow = True
                log.warning("%d workers could hold %d steps, but no more than %d are under way or buffered at once: "
                            "raise %s", len(self._members), len(self._members) * hello.capacity, self._prefetch,
                            "--prefetch" if self._prefetch == self._options.prefetch else "--prefetch-mb")
            decoder = hello.versions.partition(", ")[2]
            news = len(self._decoders) == 1 and decoder not in self._decoders     # said once, whoever else comes
            if news or not self._decoders:
                self._decoders.add(decoder)
            if news and self._job.data_root:
                log.warning("workers decode with different libraries (%s): the same picture may differ in its last "
                            "bits between them; a run that must be repeatable to the byte wants one Pillow version",
                            " and ".join(sorted(self._decoders)))
        return True

    def _carry_out(self, effects: List[Any], message: Any = None, arrays: Tuple[np.ndarray, ...] = ()) -> None:
        for effect in effects:
            if isinstance(effect, Grant):
                self._grant(effect)
            elif isinstance(effect, Accept):
                self._accept(effect, message, arrays)
            elif isinstance(effect, Revoke):
                self._send(effect.worker, codec.encode(Revoked(effect.lease)))
            elif isinstance(effect, Gone):
                self._gone(effect)
            elif isinstance(effect, Unknown):
                self._listener.send(effect.worker, codec.encode(Refused(effect.what, False)))
            elif isinstance(effect, Abort):
                self._fail(self._aborted(effect))

    def _grant(self, effect: Grant) -> None:
        planned = self._planned.get(effect.position) or self._plan.at(effect.position, self._replace)
        self._planned[effect.position] = planned
        dataset = self._datasets.of(planned.training)
        self._send(effect.worker, codec.encode(Lease(effect.lease, effect.position, planned.epoch, planned.training,
                                                     dataset.samples(planned.indices), dataset.samples(planned.replacements),
                                                     effect.isolated)))

    def _accept(self, effect: Accept, message: Produced, views: Tuple[np.ndarray, ...]) -> None:
        planned = self._planned.pop(effect.position)
        arrays = []
        for view in views:
            array = self._pool.empty(view.shape, view.dtype)
            np.copyto(array, view)       # the one copy; numpy releases the GIL for it
            arrays.append(array)
        used_indices = produced_indices(planned.indices, planned.replacements, [skip.index for skip in message.skipped], message.count)
        assert used_indices is not None       # it was checked
        self._deliver(effect.position, Batch(planned.step, planned.epoch, planned.training, planned.indices,
                                             tuple(arrays), message.skipped, self._members[effect.worker].worker,
                                             effect.attempt, message.produce_s, used_indices, message.timings,
                                             max(0.0, effect.took_s - message.timings.held_s)))

    def _gone(self, effect: Gone) -> None:
        """Silent workers may come back, and keep their membership; the scheduler knows the difference."""
        hello = self._members[effect.worker]
        if not self._scheduler.is_member(effect.worker):
            del self._members[effect.worker]
        text = "%s %s" % (hello.worker, effect.why)
        if effect.positions:
            self._last_problem = text
            log.warning("%s; its %s to others", text,
                        "step goes" if effect.positions == 1 else "%d steps go" % effect.positions)
        else:
            log.info("%s", text)

    def _send(self, key: Any, frames: List[Any]) -> None:
        if not self._listener.send(key, frames):
            self._unreachable.add(key)

    def _complain(self, key: bytes, what: str, error: ProtocolError) -> None:
        self._warn_once("%s of %s: %s" % (what, self._who(key), printable(str(error))), stranger=True)

    def _who(self, key: bytes) -> str:
        return self._members[key].worker if key in self._members else "an unknown peer"

    def _warn_once(self, what: str, more: str = "", stranger: bool = False) -> None:
        """A broken peer repeats itself; and what strangers say leaves room for the workers' own trouble."""
        most = MAX_WARNINGS // 2 if stranger else MAX_WARNINGS
        if what not in self._warned and len(self._warned) < most:
            self._warned.add(what)
            log.warning("%s%s", what, more)

    def _aborted(self, effect: Abort) -> RunFailed:
        planned = self._planned.get(effect.position) or self._plan.at(effect.position)
        paths = [sample.path for sample in self._datasets.of(planned.training).samples(planned.indices)]
        return RunFailed("step %d of epoch %d failed every time it was tried: %s; its samples: %s%s%s" % (
            planned.step, planned.epoch + 1, effect.error, ", ".join(paths[:8]), " ..." * (len(paths) > 8),
            effect.traceback and "\n" + effect.traceback.rstrip()))
