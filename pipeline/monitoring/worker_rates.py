"""WorkerRates: what each worker and each host delivered, in all and lately. Pure: times come in; bounded."""

from collections import Counter
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

PERIOD_S = 10.0        # "lately": this period and the one before it
MAX_WORKERS = 4096     # that are remembered
MAX_HOSTS = 200        # that are counted; all further ones together are OTHERS
OTHERS = "other hosts"
STAGES = ("storage", "decode", "augment", "generator")


class Rate(NamedTuple):
    """What a worker delivered."""
    batches: int                   # in all
    samples_per_s: float           # lately
    stages_s: Optional[Tuple[float, ...]]     # the mean time of a batch in each of STAGES, lately; None: none came


class _Sums:
    __slots__ = ("samples", "batches", "produce_s", "storage_s", "decode_s", "augment_s")

    def __init__(self) -> None:
        self.samples = self.batches = 0
        self.produce_s = self.storage_s = self.decode_s = self.augment_s = 0.0


class _Worker:
    __slots__ = ("host", "batches", "begun_s", "ends_s", "now", "before")

    def __init__(self, host: List[int], now: float) -> None:
        self.host = host               # the batches of its host; shared with the others there
        self.batches = 0
        self.begun_s, self.ends_s = now, now + PERIOD_S      # of the present period
        self.now: _Sums = _Sums()
        self.before: Optional[_Sums] = None


class WorkerRates:
    """One thread calls ``add``; others may ask at any moment."""

    def __init__(self) -> None:
        self._workers: Dict[str, _Worker] = {}
        self._hosts: Dict[str, List[int]] = {}

    def add(self, name: str, samples: int, produce_s: float, storage_s: float, decode_s: float, augment_s: float,
            now: float) -> None:
        """A batch of the worker was taken."""
        worker = self._workers.get(name) or self._join(name, now)
        if now >= worker.ends_s:
            is_next = now < worker.ends_s + PERIOD_S
            worker.before = worker.now if is_next else None
            worker.now = _Sums()
            worker.begun_s = worker.ends_s if is_next else now
            worker.ends_s = worker.begun_s + PERIOD_S
        worker.host[0] += 1
        worker.batches += 1
        sums = worker.now
        sums.samples += samples
        sums.batches += 1
        sums.produce_s += produce_s
        sums.storage_s += storage_s
        sums.decode_s += decode_s
        sums.augment_s += augment_s

    def _join(self, name: str, now: float) -> _Worker:
        host = host_of(name)
        if host not in self._hosts and len(self._hosts) >= MAX_HOSTS:
            host = OTHERS
        if len(self._workers) >= MAX_WORKERS:      # the half that has not delivered for longest: not one at a time
            by_age = sorted(self._workers, key=lambda one: self._workers[one].ends_s)
            for one in by_age[:MAX_WORKERS // 2]:
                del self._workers[one]
        worker = self._workers[name] = _Worker(self._hosts.setdefault(host, [0]), now)
        return worker

    def hosts(self) -> Dict[str, int]:
        """host -> batches, in all."""
        return {host: count[0] for host, count in self._hosts.copy().items()}

    def rate(self, name: str, now: float) -> Rate:
        """Of this worker."""
        worker = self._workers.get(name)
        if worker is None:
            return Rate(0, 0.0, None)
        now_sums, before, passed_s = worker.now, worker.before, now - worker.begun_s
        if passed_s >= 2 * PERIOD_S:
            return Rate(worker.batches, 0.0, None)
        batches, samples = now_sums.batches, now_sums.samples
        storage_s, decode_s, augment_s, whole_s = (now_sums.storage_s, now_sums.decode_s, now_sums.augment_s,
                                                   now_sums.produce_s)
        if before is not None:
            passed_s += PERIOD_S
            batches, samples = batches + before.batches, samples + before.samples
            storage_s, decode_s, augment_s, whole_s = (storage_s + before.storage_s, decode_s + before.decode_s,
                                                       augment_s + before.augment_s, whole_s + before.produce_s)
        return Rate(worker.batches, samples / max(1.0, passed_s), (
            storage_s / batches, decode_s / batches, augment_s / batches,
            max(0.0, whole_s - storage_s - decode_s - augment_s) / batches) if batches else None)


def host_of(worker: str) -> str:
    """The host in the name of a worker, 'host:4711/0', or of its supervisor, 'host:4711'."""
    return worker.rpartition(":")[0] or worker


def hosts_of(by_supervisor: Mapping[str, int]) -> Dict[str, int]:
    """host -> its workers, of 'host:pid' -> number of its workers."""
    hosts: "Counter[str]" = Counter()
    for supervisor, count in by_supervisor.items():
        hosts[host_of(supervisor)] += count
    return dict(hosts)
