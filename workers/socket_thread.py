"""SocketThread: the thread of a worker process that carries out what its sessions decide on messages, signals and the
clock, and says Alive while the main thread works.

While leases come one after the other, it rests, and the main thread reads messages in between: that saves two thread
switches for each lease. One of them waits at the sockets at a time: this thread, or, while it rests, the main thread.
"""

import math
import os
import queue
import threading
import time
import traceback
from dataclasses import replace
from typing import Callable, Iterable, List, Optional, Sequence, Set, Tuple, Union

from stoker.pipeline.errors import ProtocolError, VersionMismatch
from stoker.pipeline.monitoring.health import HealthFile
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.codec import decode_from_trainer, encode
from stoker.pipeline.protocol.messages import NO_SLOT, Job
from stoker.pipeline.storage import folder
from stoker.pipeline.transport.connections import Connections
from stoker.pipeline.transport.sockets import Waker
from stoker.workers import fetching
from stoker.workers.batch_memory import SharedMemory
from stoker.workers.conversations import Conversations, Said
from stoker.workers.effects import EXIT_FAILED, EXIT_REFUSED, Check, Close, End, HangUp, Note, Say, Work
from stoker.workers.intervals import REPORT_INTERVAL_S
from stoker.workers.main_wait import MainWait
from stoker.workers.runner import Checked, Finished
from stoker.workers.sandbox import Sandbox
from stoker.workers.session import CAPACITY
from stoker.workers.users_code import changed_file

CHECK_INTERVAL_S = 1.0   # between two looks at what does not wake the socket's thread: whether the supervisor lives
MIN_REST_S, MAX_REST_S = 0.001, 0.05     # so long the socket's thread does not read while the main thread works
END_WITHIN_S = 1.0       # how long an ending process waits for its generator before it ends all the same


class SocketThread(threading.Thread):
    """Carries out what the sessions decide. They and the sockets are used under the connections' lock."""

    def __init__(self, connections: Connections, waker: Waker, session: Conversations, options: WorkerOptions,
                 items: "queue.Queue[Union[Check, Work, None]]", parent: int, say_ended: Callable[[], None],
                 note: Callable[[str, bool], None], health: Optional[HealthFile] = None,
                 sandbox: Optional[Sandbox] = None) -> None:
        super().__init__(name="stoker-socket", daemon=True)
        self._connections, self._waker, self._session = connections, waker, session
        self._data_root, self._items, self._parent, self._note = options.data, items, parent, note
        self._lease_cost_bytes = int(options.max_batch_mb * 2**20) // 2
        self._say_ended, self._health = say_ended, health
        self._sandbox, self._resolver_checked_s = sandbox, time.monotonic()
        self._refusal_noted_s = [-REPORT_INTERVAL_S] * len(options.addresses)
        self._names, self._memory = options.addresses, SharedMemory(options, note)
        self._closed: Set[int] = set()      # conversations that have ended
        self._sent: Set[int] = set()        # those where something was sent since they were last read
        self._wanted = CAPACITY             # leases that it would hold
        self._rests = False                 # this thread leaves the reading to the main thread: see ``_rest_s``
        self._main_reads = False            # which does so now; never without ``_rests``
        self._main_wait = MainWait(connections)
        self._rests_until_s = 0.0           # unless it is woken
        self._has_begun = False             # the first of them is in work
        self._held: List[int] = []          # the leases of which ``fetching`` knows, by their ids
        self._jobs: Optional[Tuple[Job, Job]] = None    # the last job, and as it is here
        self.drain = False                  # set by a signal handler
        self.code: Optional[int] = None

    def run(self) -> None:
        try:
            while self.code is None:
                rest_s = self._rest_s(time.monotonic())
                if rest_s:
                    self._waker.wait(rest_s)
                else:
                    self._connections.wait(min(CHECK_INTERVAL_S, self._session.next_deadline() - time.monotonic()))
                with self._connections.lock:
                    self._run_once()
                    if self._main_reads:        # there may be an item for it, or another socket to wait at
                        self._main_wait.wake()
        except Exception:                   # a bug: a worker without its socket is of no use
            traceback.print_exc()
            self.code = EXIT_FAILED
        self._say_ended()
        with self._connections.lock:
            self._memory.close()
            self._connections.close()
            self._items.put(None)
            self._main_wait.wake()
        time.sleep(END_WITHIN_S)            # main thread ends the process before, unless its generator is stuck
        os._exit(self.code or 0)

    def _rest_s(self, now: float) -> float:
        """How long the main thread is left to read messages, which it does whenever it has nothing to do; 0: not."""
        with self._connections.lock:
            self._rests = self._main_reads or (
                len(self._connections) == 1 and self._session.held > 0 and self._wanted == CAPACITY)
            most_s = CHECK_INTERVAL_S if self._main_reads else MAX_REST_S
            rest_s = max(MIN_REST_S, min(most_s, self._session.next_deadline() - now)) if self._rests else 0.0
            self._rests_until_s = now + rest_s
            return rest_s

    def next_item(self) -> Union[Check, Work, None]:
        """What the main thread is to do next; it waits for it."""
        while True:
            with self._connections.lock:
                self._main_reads = self._rests and self.code is None and self._items.empty()
                rests_too_long = not self._main_reads and self._rests_until_s > time.monotonic() + MAX_REST_S
            if rests_too_long:      # the main thread has read meanwhile, and works from now on
                self._waker.wake()
            if not self._main_reads:
                return self._items.get()
            try:
                self._main_wait.wait(min(CHECK_INTERVAL_S, self._session.next_deadline() - time.monotonic()))
                with self._connections.lock:
                    self._main_reads = False
                    if self.code is None:
                        self._run_once()
            except Exception:               # a bug; or the other thread has ended, and closed the socket meanwhile
                self._main_reads = False
                if self.code is None:
                    traceback.print_exc()
                    self.code = EXIT_FAILED
            if self.code is not None:
                self._waker.wake()

    def finish(self, done: Union[Finished, Checked]) -> None:
        """Answers a lease or a Check. The main thread calls this."""
        sooner = False
        try:
            with self._connections.lock:
                deadline, now = self._session.next_deadline(), time.monotonic()
                if isinstance(done, Checked):
                    self._carry_out(self._session.checked(
                        done.trainer, done.run, done.reason, done.traceback, now), now)
                elif done.is_unfit and self._outdated():
                    self._note(self._outdated(), False)
                    self._carry_out(self._session.abandon(now, self._outdated()), now)
                elif done.is_unfit:
                    self._carry_out(self._session.unfit(done.error, done.traceback, now), now)
                elif done.output is not None:
                    # else the trainer has dropped that memory, and what lies there travels
                    slot = done.memory.slot if done.memory is not None and self._memory.has(done.memory) else NO_SLOT
                    self._carry_out(self._session.produced(
                        done.lease, len(done.output.arrays[0]), done.output.skipped,
                        done.output.arrays if slot == NO_SLOT else (), done.produce_s, done.timings, now,
                        done.output.rows, done.output.missing, done.output.aligned, done.remarks, slot), now)
                else:
                    self._note("failed at position %d%s: %s" % (
                        done.lease.position, done.sample and ", at %r" % done.sample, done.error), False)
                    self._carry_out(self._session.failed(
                        done.lease, done.error, done.traceback, done.sample, now, done.unreadable,
                        done.is_hopeless, done.is_starved), now)
                self._receive(now, self._sent)
                self._tell_held(now)
                # sooner than it wakes anyway: the run is over, and Hello to the next one is due
                sooner = self._session.next_deadline() < (min(deadline, now + MAX_REST_S) if self._rests else deadline)
        except Exception:                   # a bug here: a generator's exception is in ``done``
            traceback.print_exc()
            self.code = EXIT_FAILED
        if sooner or self.code is not None:
            self._waker.wake()

    def _receive(self, now: float, numbers: Iterable[int]) -> None:
        """Reads all that has come from these trainers, also in answer to what is sent meanwhile."""
        waiting = set(numbers)
        while waiting and self.code is None:
            number = waiting.pop()
            while self.code is None and number not in self._closed:
                frames = self._connections[number].receive()
                if frames is None:
                    break
                try:
                    self._carry_out(self._session.receive(number, decode_from_trainer(
                        frames, self._lease_cost_bytes), now), now)
                except VersionMismatch as error:
                    self._carry_out(self._session.leave(number, str(error), now), now)
                except ProtocolError as error:
                    self._carry_out(self._session.refused(number, str(error), now), now)
            self._sent.discard(number)
            waiting |= self._sent - self._closed

    def _run_once(self) -> None:
        now = time.monotonic()
        for number, connection in enumerate(self._connections):
            if number in self._closed:
                continue
            why_ended = connection.poll(now)
            if why_ended:
                self._carry_out(self._session.disconnected(number, now, why_ended), now)
            if connection.has_reconnected():
                self._session.connected(number)
        self._receive(now, range(len(self._connections)))
        if self.drain:
            self._carry_out(self._session.drain(now, "asked to stop"), now)
        self._carry_out(self._session.tick(now, lambda number: self._connections[number].trouble()), now)
        if self._session.is_seeking:
            folder.close_kept()
        if self._session.is_seeking and now - self._resolver_checked_s >= REPORT_INTERVAL_S:
            self._resolver_checked_s = now
            if self._sandbox is not None and self._sandbox.outdated_resolver():
                self._carry_out(self._session.drain(now, "names of hosts are found in another way now"), now)
        if self._health is not None and self._session.is_served(now):
            self._health.beat(now)
        self._note_refusals(now)
        if os.getppid() != self._parent:
            self._note("the supervisor is gone", False)
            self.code = EXIT_FAILED
        self._receive(now, self._sent)
        self._tell_held(now)

    def _tell_held(self, now: float) -> None:
        """Tells ``fetching`` which leases this worker holds, if that has changed, and asks for more if it needs them.
        """
        held = self._session.leases if fetching.is_started() else []
        ids = [id(lease) for _, _, lease in held]
        begun = bool(held) and held[0][0] == -math.inf
        if ids != self._held or begun != self._has_begun:
            self._held, self._has_begun = ids, begun
            wanted = fetching.hold([(self._here(job), lease) for _, job, lease in held], begun)
            if wanted > self._wanted:
                self._wanted = wanted
                self._carry_out(self._session.hold(wanted), now)

    def _note_refusals(self, now: float) -> None:
        for number, connection in enumerate(self._connections):
            refusal = "" if number in self._closed else connection.refusal()
            if refusal and now - self._refusal_noted_s[number] >= REPORT_INTERVAL_S:
                self._refusal_noted_s[number] = now
                self._note("the trainer%s rejects this worker's connection; still trying: %s" % (
                    " at " + self._names[number] if len(self._names) > 1 else "", refusal), True)

    def _carry_out(self, said: Sequence[Said], now: float) -> None:
        for number, effect in said if self.code is None else ():     # after the end, the connection may be closed
            if isinstance(effect, Say):
                self._sent.add(number)
                if not self._connections[number].send(encode(self._memory.completed(number, effect.message))):
                    self._carry_out(self._session.disconnected(number, now), now)
            elif isinstance(effect, Check):
                self._check(effect, now)
            elif isinstance(effect, Work):
                self._items.put(effect._replace(job=self._here(effect.job), memory=self._memory.of(
                    number, effect.job, effect.lease)))
            elif isinstance(effect, HangUp):
                self._connections[number].hang_up(now)
            elif isinstance(effect, Note):
                self._note(effect.text, (number, End(EXIT_REFUSED)) in said or (number, Close(EXIT_REFUSED)) in said)
            elif isinstance(effect, Close):
                self._closed.add(number)
                self._memory.drop(number)
                self._connections[number].leave()
            else:
                self.code = effect.code

    def _check(self, check: Check, now: float) -> None:
        changed, job = changed_file(), self._here(check.job)
        why = "%s has changed since it was imported" % changed if changed else self._outdated(job.data_root)
        if not why:
            self._items.put(check._replace(job=job))
        elif not changed and self._session.serves_others(check.trainer):
            self._carry_out(self._session.checked(check.trainer, check.run, "%s, which another trainer of this worker "
                                                  "uses: start it with --allow-data DIR, a folder above both" % why,
                                                  "", now), now)
        else:               # the supervisor starts another process, which imports it anew, or has other rights
            self._note("%s: this process starts again" % why, False)
            self._carry_out(self._session.drain(now, why), now)

    def _outdated(self, data_root: str = "") -> str:
        return "" if self._sandbox is None else self._sandbox.outdated(data_root)

    def _here(self, job: Job) -> Job:
        """``job`` with the folder or URL that the data has for this host."""
        if self._data_root is None:
            return job
        if self._jobs is None or self._jobs[0] is not job:
            self._jobs = job, replace(job, data_root=self._data_root, trainer_root=job.data_root)
        return self._jobs[1]
