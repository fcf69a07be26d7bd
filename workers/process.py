"""One worker process: connect, hold leases, run the generator, send the batches.

Two threads. The main thread runs the generator, because user code may take seconds for a batch, and sends finished
batches itself, which saves two thread switches per batch. The socket's thread carries out what ``WorkerSession``
decides on messages, signals and the clock, and says Alive meanwhile.
"""

import glob
import math
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from typing import Any, Callable, Iterable, List, Optional, Sequence, Set, Tuple, Union

from stoker.pipeline.arrays import keep_freed_memory
from stoker.pipeline.cores import cores
from stoker.pipeline.errors import ProtocolError, StokerError, VersionMismatch
from stoker.pipeline.formats import described, note as note_of
from stoker.pipeline.monitoring.health import HealthFile
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.codec import MAX_LEASE_BYTES, decode_from_trainer, encode
from stoker.pipeline.protocol.messages import NO_SLOT, Hello, Job, sendable
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.retries import seldom
from stoker.pipeline.text import printable
from stoker.pipeline.transport.connection import checks_user
from stoker.pipeline.transport.connections import Connections
from stoker.pipeline.transport.keys import LOCAL, from_environment, load_worker
from stoker.pipeline.transport.owners import SocketOwners
from stoker.pipeline.transport.sockets import Waker
from stoker.workers import fetching, formats
from stoker.workers.batch_memory import SharedMemory
from stoker.workers.cache import Cache
from stoker.workers.conversations import Conversations, Said
from stoker.workers.effects import EXIT_CONFIG, EXIT_FAILED, EXIT_REFUSED, Check, Close, End, HangUp, Note, Say, Work
from stoker.workers.generators.registry import Producer, apply_limits, open_producer
from stoker.workers.host import ENDED, STARTED, die_with_parent
from stoker.workers.intervals import REPORT_INTERVAL_S
from stoker.workers.launch import add_current_folder
from stoker.workers.quarantine import Streak, test_in_quarantine
from stoker.workers.readers import Readers
from stoker.workers.runner import Checked, Finished, answer_leases
from stoker.workers.sandbox import Sandbox
from stoker.workers.session import CAPACITY
from stoker.workers.supervisor import CRASHES
from stoker.workers.users_code import changed_file

CHECK_INTERVAL_S = 1.0   # between two looks at what does not wake the socket's thread: whether the supervisor lives
MAX_REST_S = 0.05        # so long the socket's thread does not read, while there is enough to do
END_WITHIN_S = 1.0       # how long an ending process waits for its generator before it ends all the same


class _SocketThread(threading.Thread):
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
        self._rests = False                 # see ``_rest_s``
        self._has_begun = False             # the first of them is in work
        self._held: List[int] = []          # the leases of which ``fetching`` knows, by their ids
        self._jobs: Optional[Tuple[Job, Job]] = None    # the last job, and as it is here
        self.drain = False                  # set by a signal handler
        self.code: Optional[int] = None

    def run(self) -> None:
        try:
            while self.code is None:
                rest_s = self._rest_s(time.monotonic())
                if not (rest_s and self._waker.wait(rest_s)):
                    self._connections.wait(min(CHECK_INTERVAL_S, self._session.next_deadline() - time.monotonic()))
                with self._connections.lock:
                    self._run_once()
        except Exception:                   # a bug: a worker without its socket is of no use
            traceback.print_exc()
            self.code = EXIT_FAILED
        self._say_ended()
        with self._connections.lock:
            self._memory.close()
            self._connections.close()
        self._items.put(None)
        time.sleep(END_WITHIN_S)            # main thread ends the process before, unless its generator is stuck
        os._exit(self.code or 0)

    def _rest_s(self, now: float) -> float:
        """How long no message matters: the worker has a lease in work and the next one. When the main thread has
        finished a batch, it reads all that came, which saves two thread switches for each lease."""
        with self._connections.lock:
            self._rests = len(self._connections) == 1 and self._session.held > 1 and self._wanted == CAPACITY
            return max(0.0, min(MAX_REST_S, self._session.next_deadline() - now)) if self._rests else 0.0

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
                # the run is over: Hello to the next one; or there is nothing to do until a lease comes
                sooner = self._session.next_deadline() < deadline or self._rests and not self._session.held
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


def versions() -> str:
    """The versions that may make pictures differ between workers: of Python, Pillow (or pillow-simd), its decoder."""
    import PIL
    from PIL import features
    site = os.path.dirname(os.path.dirname(os.path.abspath(PIL.__file__)))
    pillow = "pillow-simd" if glob.glob(os.path.join(glob.escape(site), "[Pp]illow_[Ss][Ii][Mm][Dd]-*")) else "pillow"
    jpeg = ("libjpeg-turbo %s" % features.version_feature("libjpeg_turbo") if features.check("libjpeg_turbo")
            else "libjpeg %s" % features.version_codec("jpg"))
    return "python %s, %s %s, %s, %s" % (platform.python_version(), pillow, PIL.__version__, jpeg,
                                         described(formats.versions()))


def main(argv: Sequence[str]) -> int:
    """The entry: (name, exit of its predecessor, pid of the supervisor, file descriptor for STARTED and ENDED, options
    as JSON). Returns the exit code."""
    name, last_exit, parent, status_fd = argv[0], argv[1], int(argv[2]), int(argv[3])
    options = WorkerOptions.from_json(argv[4])
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)     # the terminal's Ctrl-C is for the supervisor
    die_with_parent()
    if os.getppid() != parent:
        return EXIT_FAILED

    if options.allow_generators:
        add_current_folder()

    def note(text: str, error: bool = False) -> None:
        if error or not options.quiet:
            print("stoker-worker %s: %s" % (name, printable(text)), file=sys.stderr, flush=True)

    def say(word: bytes) -> None:
        with suppress(BrokenPipeError):              # the supervisor has ended, and this process will
            os.write(status_fd, word)

    folder.note_of_store = seldom(lambda text: note(text, True))     # the trainer tells only that no batch comes
    waker, cache, sandbox = Waker(), None, Sandbox(options)
    try:
        keys = from_environment(os.environ) if options.keys is None else load_worker(options.keys)
        os.environ.pop(LOCAL, None)                  # hidden from generators and their child processes
        health = None if options.health_file is None else HealthFile(options.health_file)
        owners = SocketOwners() if any(checks_user(address, keys) for address in options.addresses) else None
        sandbox.enter()                              # before libzmq has threads
        connections = Connections(options.addresses, waker, MAX_LEASE_BYTES, keys, owners)
        if options.cache is not None:
            cache = Cache(options.cache, options.cache_gb, note, name.endswith("/0"), last_exit.startswith(CRASHES))
    except StokerError as error:
        print("stoker-worker: error: %s" % error, file=sys.stderr)
        say(ENDED)
        return EXIT_CONFIG
    if sandbox.summary and name.endswith("/0") and not last_exit:
        note(sandbox.summary)
    hello = Hello(name, os.getpid(), versions(), CAPACITY, last_exit, cores(), sendable(sandbox.summary))
    items: "queue.Queue[Union[Check, Work, None]]" = queue.Queue()
    session = Conversations(hello, options.addresses, options.once, time.monotonic())
    thread = _SocketThread(connections, waker, session, options, items, parent, lambda: say(ENDED), note, health,
                           sandbox)

    def on_sigterm(signum: int, frame: Any) -> None:
        thread.drain = True
        waker.wake()

    signal.signal(signal.SIGTERM, on_sigterm)        # until here it kills: there was nothing to drain
    if name.endswith("/0") and not last_exit and note_of(formats.versions()):
        note(note_of(formats.versions()))
    fetching.start(options.read_ahead, lambda job: Readers(job).locate, cache)
    say(STARTED)                                     # from here on a death is not a failure to start
    thread.start()
    streak = Streak()

    def make(job: Job) -> Producer:
        sandbox.enter_job(job.data_root)
        producer = open_producer(job, options, cache)
        fetching.permit(job)        # from now on its leases may be read ahead: it reads what this worker may read
        return producer

    answer_leases(items, thread.finish, make, lambda job, lease: test_in_quarantine(job, lease, options, streak),
                  apply_limits, len(options.addresses))
    if cache is not None:
        cache.close()
    return thread.code or 0
