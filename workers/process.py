"""One worker process: connect, hold leases, run the generator, send the batches.

Two threads. The main thread runs the generator, because user code may take seconds for a batch, and sends finished
batches itself, which saves two thread switches per batch, and reads the next leases while it has nothing to do, which
saves two more. The socket's thread carries out what ``WorkerSession`` decides on messages, signals and the clock, and
says Alive meanwhile.
"""

import os
import queue
import signal
import sys
import time
from contextlib import suppress
from typing import Any, Sequence, Union

from stoker.pipeline.arrays import keep_freed_memory
from stoker.pipeline.cores import cores
from stoker.pipeline.errors import StokerError
from stoker.pipeline.formats import note as note_of
from stoker.pipeline.monitoring.health import HealthFile
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.codec import MAX_LEASE_BYTES
from stoker.pipeline.protocol.messages import Hello, Job, sendable
from stoker.pipeline.storage import folder, retrying
from stoker.pipeline.storage.retries import seldom
from stoker.pipeline.text import printable
from stoker.pipeline.transport.connection import checks_user
from stoker.pipeline.transport.connections import Connections
from stoker.pipeline.transport.keys import LOCAL, from_environment, load_worker
from stoker.pipeline.transport.owners import SocketOwners
from stoker.pipeline.transport.sockets import Waker
from stoker.workers import fetching, formats
from stoker.workers.cache import Cache
from stoker.workers.conversations import Conversations
from stoker.workers.effects import EXIT_CONFIG, EXIT_FAILED, Check, Work
from stoker.workers.generators.registry import Producer, apply_limits, open_producer
from stoker.workers.host import ENDED, STARTED, die_with_parent
from stoker.workers.launch import add_current_folder
from stoker.workers.quarantine import Streak, test_in_quarantine
from stoker.workers.readers import Readers
from stoker.workers.runner import answer_leases
from stoker.workers.sandbox import Sandbox
from stoker.workers.session import CAPACITY
from stoker.workers.socket_thread import SocketThread
from stoker.workers.supervisor import CRASHES
from stoker.workers.versions import versions


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

    retrying.finds_names = False
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
    thread = SocketThread(connections, waker, session, options, items, parent, lambda: say(ENDED), note, health,
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

    answer_leases(thread.next_item, thread.finish, make, lambda job, lease: test_in_quarantine(
        job, lease, options, streak), apply_limits, len(options.addresses))
    if cache is not None:
        cache.close()
    return thread.code or 0
