"""/metrics: the figures of a run for Prometheus. The package prometheus_client writes them, where it is installed."""

from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple

from stoker.pipeline.insight import Insight
from stoker.pipeline.monitoring.throughput import NAMES
from stoker.pipeline.monitoring.worker_rates import MAX_HOSTS, OTHERS, STAGES, hosts_of
from stoker.pipeline.stream import BatchStream
from stoker.trainer.status.details import Details
from stoker.trainer.status.figures import Kept, memory_bytes
from stoker.trainer.status.status import Page, Status, text_page

METRICS = "/metrics"
INTERVAL_S = 0.5       # between two makings
#: name -> what it is
GAUGES = {
    "stoker_workers_wanted": "Worker processes that the run can use now, beyond the trainer's own",
    "stoker_workers_alive": "Worker processes that are connected, beyond the trainer's own",
    "stoker_workers_ready": "Those of them that can do the job",
    "stoker_step": "The number of the next training step",
    "stoker_steps": "All training steps of the run",
}
#: name -> what it is, and its key among the figures; a figure that is not known is left out
RUN_GAUGES = {
    "stoker_epoch": ("The present epoch, from 1", "epoch"),
    "stoker_epochs": ("All epochs of the run", "epochs"),
    "stoker_waiting_share": ("The share of its time that the trainer waited for data lately, 0 to 1", "waiting_share"),
    "stoker_samples_per_second": ("Samples that the trainer took lately", "samples_per_s"),
    "stoker_since_last_batch_seconds": ("Time since the trainer took its last batch", "since_last_batch_s"),
    "stoker_over": ("1: all batches were handed out; 0: not yet", "over"),
    "stoker_bad_files": ("Files that could not be used", "bad_files"),
    "stoker_workers_needed": ("Workers with which the trainer would not wait, all together", "workers_needed"),
}
#: name without _total -> what it is, and its name among the counters
COUNTERS = {
    "stoker_batches": ("Batches that the trainer took", "batches"),
    "stoker_samples": ("Samples in these batches", "samples"),
    "stoker_waiting_seconds": ("Time that the trainer waited for batches", "waiting_s"),
    "stoker_using_seconds": ("Time that the trainer used batches, from one to its next question", "using_s"),
    "stoker_skipped_samples": ("Samples that were left out or replaced", "skipped"),
}


class Metrics:
    """Makes the page. All methods are called in the server's thread."""

    def __init__(self, stream: BatchStream, insight: Insight, status: Status, details: Details) -> None:
        self._stream, self._insight, self._status, self._details = stream, insight, status, details
        self._page = Kept(self._make, INTERVAL_S, insight.now)

    def page(self) -> Page:
        """The figures in the text format of Prometheus."""
        made: Page = self._page.get(self._stream.is_over)
        return made

    def _make(self) -> Page:
        return metrics_page(self)

    def collect(self) -> Iterator[Any]:
        """All gauges and counters whose values are known."""
        return (family for family in self._families() if family.samples)

    def _families(self) -> Iterator[Any]:
        figures, seen = self._status.figures(), self._insight.observation
        yield from gauges_of(figures)
        for name, (text, key) in RUN_GAUGES.items():
            yield _gauge(name, text, figures[key])
        window = figures["window"]
        free = max(0, window["size"] - window["ready"] - window["leased"])
        yield _labelled("stoker_window_batches", "Batches that may be leased or ready at once", "state",
                        dict(ready=window["ready"], leased=window["leased"], free=free))
        yield _gauge("stoker_memory_bytes", "Memory of the trainer's process", memory_bytes())
        yield _labelled("stoker_workers_state", "Workers by their state, the trainer's own included", "state",
                        self._details.roster().states)
        found = figures["bottleneck"] and figures["bottleneck"]["name"]
        yield _labelled("stoker_bottleneck", "1: this is the bottleneck of the last seconds", "name",
                        {name: int(name == found) for name in NAMES})
        yield _labelled("stoker_host_workers", "Workers of a host that are connected", "host",
                        _bounded(hosts_of(self._stream.fleet.by_supervisor)))
        counts = seen.counters
        for name, (text, key) in COUNTERS.items():
            yield _counter(name, text, [((), getattr(counts, key))])
        yield _counter("stoker_stage_seconds", "Time of workers, and on the wire, for these batches",
                       [((stage,), getattr(counts, stage + "_s")) for stage in (*STAGES, "wire")], "stage")
        yield _counter("stoker_read_seconds", "Time of the reads of files for these batches, also ahead of time",
                       [((), counts.read_s)])
        workers = self._insight.counts
        yield _counter("stoker_workers_joined", "Workers that were welcomed", [((), workers.joined)])
        yield _counter("stoker_workers_lost", "Workers whose connection was lost, or that broke the protocol",
                       [((), seen.events.counts["lost"])])
        yield _counter("stoker_steps_reassigned", "Steps that were granted again after a lost lease",
                       [((), workers.reassigned)])
        yield _counter("stoker_host_batches", "Batches that the trainer took from workers of a host",
                       [((host,), batches) for host, batches in seen.workers.hosts().items()], "host")


def metrics_page(collector: Any) -> Page:
    """What the collector gives in the text format of Prometheus; with code 501, a sentence, if prometheus_client is
    missing."""
    try:
        import prometheus_client
    except ImportError:
        return text_page(501, "the trainer lacks the package prometheus_client: pip install 'stoker[metrics]'")
    return Page(200, prometheus_client.CONTENT_TYPE_LATEST, prometheus_client.generate_latest(collector))


def gauges_of(figures: Mapping[str, Any]) -> Iterator[Any]:
    """Those of GAUGES."""
    for name, text in GAUGES.items():
        key = name[len("stoker_"):]
        yield _gauge(name, text, figures["workers"][key[len("workers_"):]] if key.startswith("workers_")
                     else figures[key])


def _gauge(name: str, text: str, value: Optional[float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily
    family = GaugeMetricFamily(name, text, labels=[label])
    for value in values:
        family.add_metric([value], values[value])
    return family


def _counter(name: str, text: str, values: Iterable[Tuple[Tuple[str, ...], float]], label: str = "") -> Any:
    from prometheus_client.core import CounterMetricFamily
    family = CounterMetricFamily(name, text, labels=[label] * bool(label))
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _bounded(hosts: Dict[str, int]) -> Dict[str, int]:
    """The workers of MAX_HOSTS hosts, and of all others together."""
    names = sorted(hosts)
    kept = {name: hosts[name] for name in names[:MAX_HOSTS]}
    if len(names) > MAX_HOSTS:
        kept[OTHERS] = sum(hosts[name] for name in names[MAX_HOSTS:])
    return kept
