"""One worker process: connect, hold leases, run the generator, push the batches.

Two threads. The main thread runs the generator, because user code may take seconds a batch. The other one carries
out what ``WorkerSession`` decides on messages, signals and the clock, and says Alive meanwhile. Only what is finished
the main thread sends itself: the way through the other one would cost two changes of threads a batch.

Started by ``workers/supervisor.py``; a process of its own dies with its parent, even if it is suspended.
"""

import argparse
import glob
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pipeline.buffers import keep_freed_memory
from pipeline.codec import MAX_HEADER_BYTES, decode_from_trainer, encode
from pipeline.errors import ProtocolError, StokerError, VersionMismatch
from pipeline.health import HealthFile
from pipeline.keys import LOCAL, from_environment, load_worker
from pipeline.messages import Hello, Job, Lease, Sample, Skipped, Timings, printable
from pipeline.transport import Connection, Waker
from workers import generators, images, stopwatch
from workers.cache import Cache
from workers.expendable import Tried, try_samples
from workers.session import EXIT_CONFIG, EXIT_REFUSED, REPORT_S, End, Note, Say, Work, WorkerSession
from workers.supervisor import CRASHES, ENDED, STARTED, cores, die_with_parent

CAPACITY = 2             # leases a worker holds: one in work, one so that the next can start at once
END_WITHIN_S = 1.0       # how long an ending worker waits for its generator before it leaves all the same


class Finished(NamedTuple):
    """What the generator's thread hands to the socket's: an output, or what went wrong."""

    lease: Lease
    output: Optional[generators.Output]
    error: str
    traceback: str
    sample: str              # path of the one that the generator had taken up last
    produce_s: float
    timings: Timings = Timings()


class _Watched(tuple):
    """Samples that remember which of them is at work: the file to name when the generator raises. '' when all were
    taken up, which may be long before they are opened."""

    last = ""

    def __iter__(self) -> Iterator[Sample]:
        for sample in super().__iter__():
            self.last = sample.path
            yield sample
        self.last = ""


def run_generators(items: "queue.Queue[Any]", finish: Callable[[Finished], None], find: Callable[[str], Any],
                   try_carefully: Callable[[Job, Lease], Tried]) -> None:
    """Runs ``find(job.generator)`` over the (job, lease) pairs of ``items`` until a None comes.

    Every lease is answered once through ``finish``: a generator that raises, ends early, or yields something else than
    the batch of its lease fails that lease, and is started anew for the next one.
    """
    item = items.get()
    while item is not None:
        feed = _LeaseFeed(items, item, try_carefully)
        try:
            for output in find(feed.job.generator)(feed.leases(), feed.job):
                feed.answer(output, finish)
            if feed.lease is not None or feed.is_between():
                raise RuntimeError("generator %s ended without a batch for its lease" % feed.job.generator)
        except Exception as error:
            kind = [] if isinstance(error, StokerError) else [type(error).__name__]
            text = ": ".join(kind + [str(error)] * bool(str(error)))      # a MemoryError says nothing
            trace = traceback.format_exc() if kind else ""                 # our own sentences need none
            if feed.is_between():            # the next lease shows it, if it is this generator's
                feed.fetch()
            if feed.lease is not None and feed.item[0] == feed.job:
                finish(Finished(feed.lease, None, text, trace, feed.samples.last or feed.spares.last, 0.0))
                feed.fetch()
        item = feed.item


class _LeaseFeed:
    """The leases of one job, one after the other, as the iterator that a generator is handed."""

    def __init__(self, items: "queue.Queue[Any]", item: Any, try_carefully: Callable[[Job, Lease], Tried]) -> None:
        self._items, self._try_carefully = items, try_carefully
        self.item = item                       # the pair to go on with, None at the end
        self.job: Job = item[0]
        self.lease: Optional[Lease] = item[1]  # handed out and not yet answered
        self.answered: Optional[Lease] = None  # the last one that was
        self.samples = self.spares = _Watched()   # of the lease handed out
        self._handed: Lease = item[1]          # what the generator got of it: less, after a trial
        self._bad: Tuple[Skipped, ...] = ()    # what the trial found
        self._started_s = time.monotonic()

    def is_between(self) -> bool:
        """The pair at hand was answered, and the generator has not asked for the next one."""
        return self.item is not None and self.item[1] is self.answered

    def fetch(self) -> None:
        """Waits for the next pair."""
        self.item = self._items.get()
        self.lease = self.item[1] if self.item is not None else None
        self._started_s = time.monotonic()
        stopwatch.take()                       # what was spent on a lease that failed

    def leases(self) -> Iterator[Lease]:
        """What the generator iterates; ends when the job changes."""
        while self.item is not None and self.item[0] == self.job:
            assert self.lease is not None
            self.samples = self.spares = _Watched()
            self._handed, self._bad = self.lease, ()
            if self.lease.careful:
                self._handed, self._bad = self._try_carefully(self.job, self.lease)
            self.samples, self.spares = _Watched(self._handed.samples), _Watched(self._handed.spares)
            yield replace(self._handed, samples=self.samples, spares=self.spares)
            if self.lease is not None:
                raise RuntimeError("generator %s asked for another lease before it yielded the batch of the first"
                                   % self.job.generator)
            self.fetch()
        self.lease = None                      # of another job: not this generator's to answer

    def answer(self, output: Any, finish: Callable[[Finished], None]) -> None:
        """The generator yielded."""
        self.samples.last = self.spares.last = ""     # whatever is wrong now, it is no file
        if self.lease is None:
            raise RuntimeError("generator %s yielded more than one batch for a lease" % self.job.generator)
        arrays, skipped = generators.check(output, self._handed, self.job)
        finish(Finished(self.lease, generators.Output(arrays, skipped + self._bad), "", "", "",
                        time.monotonic() - self._started_s, _stages()))
        self.answered, self.lease = self.lease, None


def _stages() -> Timings:
    spent = stopwatch.take()
    return Timings(spent["storage"], spent["decode"], spent["augment"])


class _SocketThread(threading.Thread):
    """Carries out what the session decides. Its lock is the connection's: session and socket are used under it."""

    def __init__(self, connection: Connection, waker: Waker, session: WorkerSession, data_root: Optional[str],
                 items: "queue.Queue[Any]", parent: int, say_ended: Callable[[], None],
                 note: Callable[..., None], health: Optional[HealthFile] = None) -> None:
        super().__init__(name="stoker-socket", daemon=True)
        self._connection, self._waker, self._session = connection, waker, session
        self._data_root, self._items, self._parent, self._note = data_root, items, parent, note
        self._say_ended, self._health = say_ended, health
        self._refusal_noted_s = -REPORT_S
        self.drain = ""                     # set by a signal handler: why to leave
        self.code: Optional[int] = None

    def run(self) -> None:
        try:
            while self.code is None:
                self._connection.wait(max(0.0, self._session.next_deadline() - time.monotonic()))
                with self._connection.lock:
                    self._turn()
        except Exception:                   # a bug: a worker without its socket is of no use
            traceback.print_exc()
            self.code = 1
        self._say_ended()
        with self._connection.lock:
            self._connection.close()
        self._items.put(None)
        time.sleep(END_WITHIN_S)            # main thread ends the process before, unless its generator is stuck
        os._exit(self.code or 0)

    def finish(self, done: Finished) -> None:
        """Called by the generator's thread, which so sends its batch, and finds its next lease, without waiting for
        the other thread to wake up."""
        sooner = False
        try:
            with self._connection.lock:
                if self.code is None:
                    deadline, now = self._session.next_deadline(), time.monotonic()
                    self._carry_out(self._finished(done, now), now)
                    self._receive(now)
                    sooner = self._session.next_deadline() < deadline    # the run is over: Hello to the next one
        except Exception:                   # a bug, and none of the generator's
            traceback.print_exc()
            self.code = 1
        if sooner or self.code is not None:
            self._waker.wake()

    def _finished(self, done: Finished, now: float) -> List[Any]:
        if done.output is not None:
            arrays = done.output.arrays
            return self._session.produced(done.lease, len(arrays[-1]), done.output.skipped, arrays, done.produce_s,
                                          done.timings, now)
        self._note("failed at position %d%s: %s" % (
            done.lease.position, done.sample and ", at %r" % done.sample, done.error))
        return self._session.failed(done.lease, done.error, done.traceback, done.sample, now)

    def _receive(self, now: float) -> None:
        while self.code is None:
            frames = self._connection.receive()
            if frames is None:
                break
            try:
                self._carry_out(self._session.receive(decode_from_trainer(frames), now), now)
            except VersionMismatch as error:
                self._carry_out([Note(str(error)), End(EXIT_REFUSED)], now)
            except ProtocolError as error:
                self._note("ignored a message: %s" % error)

    def _turn(self) -> None:
        now = time.monotonic()
        self._receive(now)
        if self.drain and self.code is None:
            self._carry_out(self._session.drain(now, self.drain), now)
        if self.code is None:
            self._carry_out(self._session.tick(now), now)
        if self._health is not None and self._session.state in ("SERVING", "DRAINING"):
            self._health.beat(now)
        refusal = self._connection.refusal()
        if refusal and now - self._refusal_noted_s >= REPORT_S:
            self._refusal_noted_s = now
            self._note("the trainer does not let this worker in, which keeps trying: " + refusal, True)
        if os.getppid() != self._parent and self.code is None:
            self._carry_out([Note("the supervisor is gone"), End(1)], now)

    def _carry_out(self, effects: List[Any], now: float) -> None:
        for effect in effects:
            if isinstance(effect, Say):
                if not self._connection.send(encode(effect.message)):
                    self._carry_out(self._session.disconnected(now), now)
            elif isinstance(effect, Work):
                job = effect.job
                if self._data_root is not None:
                    job = replace(job, data_root=self._data_root)
                self._items.put((job, effect.lease))
            elif isinstance(effect, Note):
                self._note(effect.text, End(EXIT_REFUSED) in effects)
            else:
                self.code = effect.code


def versions() -> str:
    """What may make pictures differ between workers: Python, Pillow or its faster drop-in pillow-simd, and the JPEG
    decoder inside it."""
    import PIL
    from PIL import features
    site = os.path.dirname(os.path.dirname(os.path.abspath(PIL.__file__)))
    pillow = "pillow-simd" if glob.glob(os.path.join(glob.escape(site), "[Pp]illow_[Ss][Ii][Mm][Dd]-*")) else "pillow"
    jpeg = ("libjpeg-turbo %s" % features.version_feature("libjpeg_turbo") if features.check("libjpeg_turbo")
            else "libjpeg %s" % features.version_codec("jpg"))
    return "python %s, %s %s, %s" % (platform.python_version(), pillow, PIL.__version__, jpeg)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The process's entry; its arguments are the supervisor's business. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="workers.worker")
    for name in ("--connect", "--name", "--last-exit", "--data", "--keys"):
        parser.add_argument(name)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    parser.add_argument("--allow-generator", action="append", default=[])
    parser.add_argument("--follow-links", action="store_true")
    parser.add_argument("--cache")
    parser.add_argument("--cache-gb", type=float)
    parser.add_argument("--health-file")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args(argv)

    keep_freed_memory()
    images.may_follow_links = args.follow_links
    signal.signal(signal.SIGINT, signal.SIG_IGN)     # the terminal's Ctrl-C is the supervisor's to translate
    die_with_parent()
    if os.getppid() != args.parent:
        return 1

    def note(text: str, error: bool = False) -> None:
        if error or not args.quiet:
            print("stoker-worker %s: %s" % (args.name, printable(text)), file=sys.stderr, flush=True)

    def say(word: bytes) -> None:
        try:
            os.write(args.status_fd, word)
        except BrokenPipeError:                      # the supervisor is gone, and so will be this process
            pass

    waker = Waker()
    try:
        keys = from_environment(os.environ) if args.keys is None else load_worker(args.keys)
        os.environ.pop(LOCAL, None)                  # no business of the generators' and their children
        connection = Connection(args.connect, waker, MAX_HEADER_BYTES, keys)
        health = None if args.health_file is None else HealthFile(args.health_file)
        if args.cache is not None:
            generators.cache = Cache(args.cache, args.cache_gb, note, args.name.endswith("/0"),
                                     (args.last_exit or "").startswith(CRASHES))
    except StokerError as error:
        print("stoker-worker: error: %s" % error, file=sys.stderr)
        say(ENDED)
        return EXIT_CONFIG
    hello = Hello(args.name, os.getpid(), versions(), CAPACITY, args.last_exit or "", cores())
    items: "queue.Queue[Any]" = queue.Queue()
    thread = _SocketThread(connection, waker, WorkerSession(hello, args.once, time.monotonic()), args.data, items,
                           args.parent, lambda: say(ENDED), note, health)

    def on_sigterm(signum: int, frame: Any) -> None:
        thread.drain = "asked to stop"
        waker.wake()

    signal.signal(signal.SIGTERM, on_sigterm)        # until here it kills: there was nothing to drain
    say(STARTED)                                     # from here on a death is not a failure to start
    thread.start()
    run_generators(items, thread.finish, lambda name: generators.find(name, args.allow_generator),
                   lambda job, lease: try_samples(job, lease, args.allow_generator))
    if generators.cache is not None:
        generators.cache.close()
    return thread.code or 0


if __name__ == "__main__":
    sys.exit(main())
