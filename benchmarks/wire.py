"""The wire: bytes and batches a second from real worker processes, whose batches are ready, through coordinator and
stream to the consumer; compared with bare ZeroMQ with messages of the same size, which is the limit.

All over TCP on this host. A batch is 32 pictures of 64 x 64 or 224 x 224 pixels, and their labels.
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

from stoker.pipeline.cores import cores
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
LEAST_OF_BARE = 0.85


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


def stoker(side: int, workers: int, seconds: float, folder: Optional[str] = None,
           python: Optional[str] = None) -> Measured:
    """Real workers, coordinator and stream; ``folder``: of the keys."""
    with ready_stream(side, keys=folder) as stream:
        environment = keys.to_environment(stream.local_keys) if stream.local_keys is not None else {}
        with programs(workers, ["worker", stream.address], python, environment) as pids:
            return paced(lambda: next(stream), pids, seconds)


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
    rounds, seconds = (1, 0.4) if quick else (5, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        keys.make(folder, ["alpha"])
        own = keys.load_trainer(folder), keys.load_worker(os.path.join(folder, "workers", "alpha"))
        return [_table(side, rounds, seconds, folder, own, say) for side in SIDES]


def _table(side: int, rounds: int, seconds: float, folder: str, own: Tuple[TrainerKeys, WorkerKeys],
           say: Say) -> Table:
    contenders = {
        "bare ZeroMQ, PUSH to PULL": lambda: bare(("PUSH", "PULL"), side, seconds),
        "bare ZeroMQ, DEALER to ROUTER": lambda: bare(("DEALER", "ROUTER"), side, seconds),
        "the same, and one copy": lambda: bare(("DEALER", "ROUTER"), side, seconds, copied=True),
        "Stoker, 1 worker": lambda: stoker(side, 1, seconds),
        "Stoker, 2 workers": lambda: stoker(side, 2, seconds),
        "bare DEALER to ROUTER, CURVE": lambda: bare(("DEALER", "ROUTER"), side, seconds, own),
        "Stoker, 2 workers, CURVE": lambda: stoker(side, 2, seconds, folder),
    }
    measured: Dict[str, List[Measured]] = {name: [] for name in contenders}
    for number in range(rounds):
        say("%d pixels, round %d of %d" % (side, number + 1, rounds))
        for name, measure in contenders.items():
            measured[name].append(measure())
    size = BATCH_SIZE * (side * side * 3 + 4)
    medians, rows = {}, []
    for name, results in measured.items():
        rate = spread([result.batches_s for result in results])
        medians[name] = rate.median
        trainer, workers = (spread([result[i] for result in results]).median for i in (1, 2))
        rows.append([name, rate.median, rate.least, rate.most, rate.median * size / 1e9, trainer * 1e6, workers * 1e6,
                     trainer * 1e9 / size, workers * 1e9 / size])
    limit = max(medians["bare ZeroMQ, PUSH to PULL"], medians["bare ZeroMQ, DEALER to ROUTER"])
    reached = max(medians["Stoker, 1 worker"], medians["Stoker, 2 workers"])
    return Table(
        "wire-%d" % side, "The wire: batches of 32 pictures of %d x %d (%d KB)" % (side, side, size // 1000),
        ["", "batches/s", "least", "most", "GB/s", "CPU us/batch, receiver", "CPU us/batch, senders",
         "CPU s/GB, receiver", "CPU s/GB, senders"], rows,
        notes=["Workers whose batches are ready, so that only moving them counts. Stoker's receiver ends with every "
               "batch in 64-byte aligned memory, in order; the bare one drops each message as it came.",
               "The receiver is the whole trainer process: main thread, coordinator, and libzmq's own.",
               "%d cores carry all of it: what CPU time a batch takes on both sides together bounds the rate."
               % cores()],
        goals=[Goal("of the better bare ZeroMQ's batches a second, %d KB" % (size // 1000), reached / limit,
                    LEAST_OF_BARE)],
        plot="bars", value_column="batches/s", spread_columns=("least", "most"))


if __name__ == "__main__":
    main(run, __doc__)
