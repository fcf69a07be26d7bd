"""Moving a batch: what it costs on both sides, and batches a second, from real worker processes, whose batches are
ready, through coordinator and stream to the consumer: by shared memory, over TCP on this host, and encrypted; beside
bare ZeroMQ with messages of the same size.

A batch is 32 pictures of 64 x 64 or 224 x 224 pixels, and their labels.
"""

import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import zmq

from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.transport import keys
from stoker.pipeline.transport.keys import TrainerKeys, WorkerKeys
from benchmarks.ready import HWM
from benchmarks.table import Goal, Say, Table, main, spread

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SIDES = (64, 224)            # of the pictures, in pixels
BATCH_SIZE = 32
WARM_UP, WARM_UP_S = 50, 0.5  # batches, or seconds, before the clock runs: memory is there, TCP has found its pace
TINY = 4                     # the side of pictures whose bytes cost nothing: what is left is the same for all sizes
MOVED_MS = 0.35              # at most, of CPU on both sides, for the bytes of a batch of 224 x 224
TRAINER_MS, FED_MS = 0.3, 0.5   # at most, of the trainer's CPU for a batch of 64 x 64; with a session.run


class Measured(NamedTuple):
    """One round of one contender."""

    batches_s: float         # a second
    trainer_cpu_s: float     # per batch
    worker_cpu_s: float      # per batch, of all workers together


def quiet() -> None:
    """Logs only errors: workers that join or are killed are expected here."""
    logging.getLogger("stoker").setLevel(logging.ERROR)


def worker_python() -> str:
    """The workers' Python: the newest one if ``make setup`` made its environment."""
    own = os.path.join(ROOT, ".venv", "workers", "bin", "python")
    return own if os.path.exists(own) else sys.executable


def cpu_s(pid: int) -> float:
    """CPU seconds that the living threads of a process used."""
    total = 0
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as file:
            total += int(file.read().split()[0])
    return total / 1e9


@contextmanager
def programs(count: int, arguments: List[str], python: Optional[str] = None,
             environment: Optional[Dict[str, str]] = None) -> Iterator[List[int]]:
    """``count`` processes of benchmarks/ready.py, killed at the end. Gives their pids."""
    running = []
    try:
        for _ in range(count):
            running.append(subprocess.Popen([python or worker_python(), "-m", "benchmarks.ready"] + arguments, cwd=ROOT,
                                            env=dict(os.environ, **(environment or {}))))
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def paced(take: Callable[[], Any], pids: List[int], seconds: float) -> Measured:
    """The rate at which ``take`` returns batches, and the CPU time of it here and in the processes ``pids``."""
    take()
    warm = time.monotonic() + WARM_UP_S
    for _ in range(WARM_UP):
        if time.monotonic() < warm:
            take()
    count, here, there, start = 0, cpu_s(os.getpid()), sum(map(cpu_s, pids)), time.monotonic()
    while time.monotonic() < start + seconds:
        take()
        count += 1
    took = time.monotonic() - start
    return Measured(count / took, (cpu_s(os.getpid()) - here) / count, (sum(map(cpu_s, pids)) - there) / count)


@contextmanager
def ready_stream(side: int, **options: Any) -> Iterator[BatchStream]:
    """A stream of pictures that are never decoded, longer than any benchmark iterates."""
    samples = generated(1000 * BATCH_SIZE)
    plan = Plan(len(samples), BATCH_SIZE, 1000000, 0)
    stream = BatchStream(plan, Splits(samples), JobOptions("image", (side, side), BATCH_SIZE), StreamOptions(**options))
    with stream:
        yield stream


def stoker(side: int, workers: int, seconds: float, folder: Optional[str] = None, python: Optional[str] = None,
           shared: bool = True, kind: str = "ready", use: Callable[[Any], None] = lambda batch: None) -> Measured:
    """Real workers, coordinator and stream; ``folder``: of the keys; ``kind``: see benchmarks/ready.py; ``use``: what
    the consumer does with a batch."""
    with ready_stream(side, keys=folder, shared_memory=shared) as stream:
        environment = keys.to_environment(stream.local_keys) if stream.local_keys is not None else {}
        with programs(workers, ["worker", stream.address, kind], python, environment) as pids:
            return paced(lambda: use(next(stream)), pids, seconds)


def feeding(side: int) -> Callable[[Any], None]:
    """Feeds a batch to a ``session.run`` of TensorFlow 1.9 that does next to nothing."""
    import tensorflow as tf
    images, labels = tf.placeholder(tf.uint8, [None, side, side, 3]), tf.placeholder(tf.int32, [None, 1])
    step, session = tf.group(images, labels), tf.Session()
    return lambda batch: session.run(step, {images: batch.images, labels: batch.labels})


def bare(kinds: Tuple[str, str], side: int, seconds: float, own: Optional[Tuple[TrainerKeys, WorkerKeys]] = None,
         copied: bool = False) -> Measured:
    """One sender, and one receiver that does nothing with the messages; ``copied``: but copy each to the same place."""
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kinds[1]))
    socket.setsockopt(zmq.RCVHWM, HWM)
    environment = {}
    if own is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, own[0].secret)
        environment = keys.to_environment(own[1])
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    try:
        size = BATCH_SIZE * side * side * 3
        target = np.empty(size, np.uint8)

        def take() -> None:
            parts = socket.recv_multipart(copy=False)
            if copied:
                np.copyto(target, np.frombuffer(parts[-1].buffer, np.uint8))

        with programs(1, ["bare", kinds[0], "tcp://127.0.0.1:%d" % port, str(size)], None, environment) as pids:
            return paced(take, pids, seconds)
    finally:
        context.destroy(0)


def run(quick: bool, say: Say) -> List[Table]:
    quiet()
    rounds, seconds = (1, 0.3) if quick else (7, 0.4)
    with tempfile.TemporaryDirectory() as folder:
        keys.make(folder, ["alpha"])
        own = keys.load_trainer(folder), keys.load_worker(os.path.join(folder, "workers", "alpha"))
        return [_table(side, rounds, seconds, folder, own, say) for side in SIDES]


SHARED, FED, SMALL = "Stoker, shared memory", "the same, into a session.run", "the same, a batch of 2 KB"


def _table(side: int, rounds: int, seconds: float, folder: str, own: Tuple[TrainerKeys, WorkerKeys],
           say: Say) -> Table:
    use = feeding(side)
    contenders = {
        SHARED: lambda: stoker(side, 1, seconds),
        FED: lambda: stoker(side, 1, seconds, use=use),
        SMALL: lambda: stoker(TINY, 1, seconds),
        "Stoker, shared memory, copied from a generator's": lambda: stoker(side, 1, seconds, kind="elsewhere"),
        "Stoker, shared memory, keys": lambda: stoker(side, 1, seconds, folder),
        "Stoker, TCP": lambda: stoker(side, 1, seconds, shared=False),
        "Stoker, TCP, encrypted": lambda: stoker(side, 1, seconds, folder, shared=False),
        "bare ZeroMQ, DEALER to ROUTER": lambda: bare(("DEALER", "ROUTER"), side, seconds),
        "bare ZeroMQ, encrypted": lambda: bare(("DEALER", "ROUTER"), side, seconds, own),
    }
    measured: Dict[str, List[Measured]] = {name: [] for name in contenders}
    for number in range(rounds):
        say("%d pixels, round %d of %d" % (side, number + 1, rounds))
        for name, measure in contenders.items():
            measured[name].append(measure())
    return table_of(side, measured)


def table_of(side: int, measured: Dict[str, List[Measured]]) -> Table:
    """Of all rounds."""
    size = BATCH_SIZE * (side * side * 3 + 4)
    rows, trainer_ms, both_ms = [], {}, {}
    for name, results in measured.items():
        rate = spread([result.batches_s for result in results])
        trainer, workers = (1000 * spread([result[i] for result in results]).median for i in (1, 2))
        trainer_ms[name], both_ms[name] = trainer, trainer + workers
        rows.append([name, trainer, workers, trainer + workers, rate.median, rate.least, rate.most,
                     rate.median * (size if name != SMALL else BATCH_SIZE * (TINY * TINY * 3 + 4)) / 1e9])
    if side == 224:
        goals = [Goal("CPU ms of both sides for the bytes of a batch of %d KB, shared memory" % (size // 1000),
                      max(0.0, both_ms[SHARED] - both_ms[SMALL]), MOVED_MS, True)]
    else:
        goals = [Goal("CPU ms of the trainer for a batch of %d KB, shared memory" % (size // 1000),
                      trainer_ms[SHARED], TRAINER_MS, True),
                 Goal("the same, fed to a session.run", trainer_ms[FED], FED_MS, True)]
    return Table(
        "wire-%d" % side, "Moving a batch of 32 pictures of %d x %d (%d KB): CPU time" % (side, side, size // 1000),
        ["", "CPU ms, trainer", "CPU ms, worker", "CPU ms, both", "batches/s", "least", "most", "GB/s"], rows,
        notes=["Medians of %d rounds. One worker, whose batches are ready, made in their slot of shared memory: so "
               "only granting and moving them counts. Stoker's trainer ends with each batch in 64-byte aligned memory, "
               "in order; bare ZeroMQ drops each message as it came." % len(measured[SHARED]),
               "The trainer is its whole process: consumer, coordinator, and libzmq's thread. The bytes of a batch: "
               "what it costs beyond one of 2 KB.",
               "Encrypted: by CURVE. libsodium alone takes 2.2 GB/s of a core on either side of this kind of machine; "
               "with shared memory only the control messages are encrypted."],
        goals=goals, plot="bars", value_column="CPU ms, both")


if __name__ == "__main__":
    main(run, __doc__)
