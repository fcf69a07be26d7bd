"""/metrics: the figures of a run for Prometheus. The package prometheus_client writes them, where it is installed."""

from typing import Any, Iterator

from stoker.trainer.status import Page, Status

METRICS = "/metrics"
#: name -> what it is
GAUGES = {
    "stoker_workers_wanted": "Worker processes that the run can use now, beyond the trainer's own",
    "stoker_workers_alive": "Worker processes that are connected, beyond the trainer's own",
    "stoker_workers_ready": "Those of them that can do the job",
    "stoker_step": "The number of the next training step",
    "stoker_steps": "All training steps of the run",
}


def metrics_page(status: Status) -> Page:
    """The figures in the text format of Prometheus; with code 501, a sentence, if prometheus_client is missing."""
    try:
        import prometheus_client
    except ImportError:
        return Page(501, "text/plain; charset=utf-8", b"the trainer lacks the package prometheus_client: "
                                                      b"pip install 'stoker[metrics]'\n")
    registry = prometheus_client.CollectorRegistry()
    registry.register(_Collector(status))
    return Page(200, prometheus_client.CONTENT_TYPE_LATEST, prometheus_client.generate_latest(registry))


class _Collector:
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Any]:
        """The gauges with their values."""
        from prometheus_client.core import GaugeMetricFamily
        figures = self._status.figures()
        for name, text in GAUGES.items():
            key = name[len("stoker_"):]
            value = figures["workers"][key[len("workers_"):]] if key.startswith("workers_") else figures[key]
            yield GaugeMetricFamily(name, text, value=value)
