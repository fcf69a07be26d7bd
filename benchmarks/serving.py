"""What one trainer process serves: the CPU time of each of its threads for a batch, by the size of a batch; and what a
connected worker costs it that only says that it is alive. docs/SCALING.md says what follows for large fleets.

CPU times hold on a busy machine, and for workers on other hosts, too: they bound the rate, where rates that were
measured on one machine are bounded by the workers beside.
"""

import ctypes
import os
import tempfile
import time
from contextlib import ExitStack
from typing import Any, Dict, List, NamedTuple, Optional

import psutil

from stoker.pipeline.coordinator.thread import Coordinator
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.transport import keys
from benchmarks.scale import A_PROCESS, SAMPLES, SIDE
from benchmarks.table import Say, Table, main, spread
from benchmarks.wire import BATCH_SIZE, WARM_UP_S, programs, quiet, ready_stream

SIDES = (16, 64, 128, 224)   # of the pictures, in pixels
MEMBERS = (100, 500, 2000)
JOIN_S = 120.0               # for all members
SETTLE_S = 2.0               # from the last one's Hello until the clock runs

_names: Dict[int, str] = {}      # thread -> its word


class Served(NamedTuple):
    """One round: CPU seconds of the threads for a batch."""

    batches_s: float
    main_s: float            # the consumer
    coordinator_s: float
    network_s: float         # libzmq's own thread: TCP, and encryption

    @property
    def most_s(self) -> float:
        """Batches a second, if workers and cores are no limit: Python runs one of its threads at a time."""
        return 1 / max(self.main_s + self.coordinator_s, self.network_s)


class Members(NamedTuple):
    """One round with connected workers: per second, of all."""

    cpu_s: float
    python_s: float
    network_s: float
    memory_mb: float         # more than before they came
    files: int               # the same


def threads_s() -> Dict[str, float]:
    """CPU seconds of this process's threads: main, coordinator, network."""
    found = {"main": 0.0, "coordinator": 0.0, "network": 0.0}
    for thread in os.listdir("/proc/self/task"):
        with open("/proc/self/task/%s/schedstat" % thread) as file:
            found[_names.get(int(thread), "network")] += int(file.read().split()[0]) / 1e9
    return found


def _note_threads() -> None:
    """From now on ``threads_s`` knows the threads that are not libzmq's."""
    gettid, run_coordinator = ctypes.CDLL(None).gettid, Coordinator.run
    _names[os.getpid()] = "main"

    def run_noted(self: Coordinator) -> None:
        _names[gettid()] = "coordinator"
        run_coordinator(self)

    Coordinator.run = run_noted  # type: ignore[method-assign]


def serve(side: int, seconds: float, folder: Optional[str]) -> Served:
    """Two workers, whose batches are ready, send as fast as they are read."""
    with ready_stream(side, keys=folder) as stream:
        environment = keys.to_environment(stream.local_keys) if stream.local_keys is not None else {}
        with programs(2, ["worker", stream.address], None, environment):
            next(stream)
            warm = time.monotonic() + WARM_UP_S
            while time.monotonic() < warm:
                next(stream)
            count, before, start = 0, threads_s(), time.monotonic()
            while time.monotonic() < start + seconds:
                next(stream)
                count += 1
            took, after = time.monotonic() - start, threads_s()
    return Served(count / took, *[(after[name] - before[name]) / count for name in ("main", "coordinator", "network")])


def members(count: int, seconds: float, folder: Optional[str]) -> Members:
    """``count`` workers that are connected, of which one at a time has something to do."""
    samples = generated(1000 * SAMPLES)
    stream = BatchStream(Plan(len(samples), SAMPLES, 1000000, 0), Splits(samples),
                         JobOptions("image", (SIDE, SIDE), SAMPLES), StreamOptions(prefetch=1, keys=folder))
    with stream, ExitStack() as processes:
        environment = keys.to_environment(stream.local_keys) if stream.local_keys is not None else {}
        time.sleep(0.5)
        process = psutil.Process()
        memory, files = process.memory_info().rss, process.num_fds()
        for first in range(0, count, A_PROCESS):
            processes.enter_context(programs(1, ["sleepers", stream.address, str(min(A_PROCESS, count - first)), "0.5"],
                                             None, environment))
        limit = time.monotonic() + JOIN_S
        while stream.fleet.ready < count:
            next(stream)
            if time.monotonic() > limit:
                raise RuntimeError("only %d of %d workers joined within %g s" % (stream.fleet.ready, count, JOIN_S))
        settled = time.monotonic() + SETTLE_S
        while time.monotonic() < settled:
            next(stream)
        before, start = threads_s(), time.monotonic()
        while time.monotonic() < start + seconds:
            next(stream)
        took, after = time.monotonic() - start, threads_s()
        spent = {name: (after[name] - before[name]) / took for name in after}
        return Members(sum(spent.values()), spent["main"] + spent["coordinator"], spent["network"],
                       (process.memory_info().rss - memory) / 1e6, process.num_fds() - files)


def run(quick: bool, say: Say) -> List[Table]:
    quiet()
    _note_threads()
    with tempfile.TemporaryDirectory() as folder:
        keys.make(folder, ["alpha"])
        return [_served(quick, say, folder), _members(quick, say, folder)]


def _served(quick: bool, say: Say, folder: str) -> Table:
    rounds, seconds = (1, 0.4) if quick else (5, 1.0)
    found: Dict[Any, List[Served]] = {(side, kept): [] for side in SIDES for kept in (None, folder)}
    for number in range(rounds):
        say("batches, round %d of %d" % (number + 1, rounds))
        for (side, kept), results in found.items():
            results.append(serve(side, seconds, kept))
    rows: List[List[Any]] = []
    for (side, kept), results in found.items():
        size = BATCH_SIZE * (side * side * 3 + 4)
        most = spread([result.most_s for result in results])
        own = [spread(values).median for values in zip(*results)]
        rows.append([side, size // 1000, "yes" if kept else "no", own[0]] + [each * 1e6 for each in own[1:]]
                    + [most.median, most.least, most.most, most.median * size / 1e6])
    return Table("serving-batches", "What one trainer serves: batches of %d pictures" % BATCH_SIZE, [
        "pixels", "KB", "keys", "batches/s here", "main us", "coordinator us", "network us", "most batches/s", "least",
        "most", "MB/s"], rows,
        notes=["Microseconds of CPU time for a batch, of the consumer's thread, the coordinator's, and libzmq's.",
               "Most batches a second: one by the CPU time of main and coordinator together, which share Python's "
               "lock, or of the network thread if that takes more: what the process could take if workers and cores "
               "were no limit. Batches/s here: with two workers on the same cores."])


def _members(quick: bool, say: Say, folder: str) -> Table:
    rounds, seconds = (1, 1.0) if quick else (3, 4.0)
    counts = MEMBERS[:1] if quick else MEMBERS
    found: Dict[Any, List[Members]] = {(count, kept): [] for count in counts for kept in (None, folder)}
    for number in range(rounds):
        for (count, kept), results in found.items():
            say("%d members, keys: %s, round %d of %d" % (count, bool(kept), number + 1, rounds))
            results.append(members(count, seconds, kept))
    rows: List[List[Any]] = []
    for (count, kept), results in found.items():
        cpu, python, network, memory, files = [spread(values).median for values in zip(*results)]
        rows.append([count, "yes" if kept else "no", 100 * cpu, 100 * python, 100 * network, 1e6 * cpu / count,
                     1000 * memory / count, files / count])
    return Table("serving-members", "What connected workers cost one trainer that only say that they are alive", [
        "members", "keys", "CPU %", "Python's threads %", "network %", "us a second each", "KB each", "files each"],
        rows,
        notes=["Real sessions and sockets, up to %d in one process. Each member says Alive twice a second, and so does "
               "the trainer to each. CPU: 100 %% is one core." % A_PROCESS])


if __name__ == "__main__":
    main(run, __doc__)
