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
from typing import Any, Callable, List, Optional, Sequence

from stoker.pipeline.arrays import keep_freed_memory
from stoker.pipeline.errors import ProtocolError, StokerError, VersionMismatch
from stoker.pipeline.monitoring.health import HealthFile
from stoker.pipeline.protocol.codec import MAX_HEADER_BYTES, decode_from_trainer, encode
from stoker.pipeline.protocol.messages import Hello, printable
from stoker.pipeline.storage import folder as storage
from stoker.pipeline.transport.connection import Connection
from stoker.pipeline.transport.keys import LOCAL, from_environment, load_worker
from stoker.pipeline.transport.sockets import Waker
from stoker.workers.cache import Cache
from stoker.workers.generators import pictures, registry
from stoker.workers.quarantine import test_in_quarantine
from stoker.workers.runner import Finished, run_generators
from stoker.workers.session import EXIT_CONFIG, EXIT_REFUSED, REPORT_S, End, Note, Say, Work, WorkerSession
from stoker.workers.supervisor import CRASHES, ENDED, STARTED, cores, die_with_parent

CAPACITY = 2             # leases a worker holds: one in work, one so that the next can start at once
END_WITHIN_S = 1.0       # how long an ending worker waits for its generator before it leaves all the same


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
    parser = argparse.ArgumentParser(prog="stoker.workers.process")
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
    storage.may_follow_links = args.follow_links
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
            pictures.cache = Cache(args.cache, args.cache_gb, note, args.name.endswith("/0"),
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
    run_generators(items, thread.finish, lambda name: registry.find(name, args.allow_generator),
                   lambda job, lease: test_in_quarantine(job, lease, args.allow_generator))
    if pictures.cache is not None:
        pictures.cache.close()
    return thread.code or 0


if __name__ == "__main__":
    sys.exit(main())
