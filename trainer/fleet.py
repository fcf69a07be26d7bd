"""Tells others on the network how many workers are wanted, until the stream ends."""

import logging
from typing import Optional

from stoker.pipeline.stream import BatchStream
from stoker.trainer.fleet_options import FleetOptions, host_and_port
from stoker.trainer.kubernetes import DeploymentScaler
from stoker.trainer.status.batch_page import BATCH, BatchPage
from stoker.trainer.status.details import DETAILS, Details
from stoker.trainer.status.metrics import METRICS, Metrics
from stoker.trainer.status.server import StatusServer
from stoker.trainer.status.static_pages import static_pages
from stoker.trainer.status.status import STATUS, Status

log = logging.getLogger("stoker")


def announce(stream: BatchStream, options: FleetOptions, window: int, local: int) -> Optional[Status]:
    """Starts what ``options`` ask for; it ends with ``stream``. ``window``: the most steps that are leased or buffered
    at once; ``local``: the most local workers. Returns what knows the figures; None: it is not asked for. Raises
    ConfigError."""
    if not options.is_used:
        return None
    insight = None if options.status is None else stream.insight()
    status = Status(stream, options.min_workers, options.max_workers, window, local, insight)
    stream.pace.observers.append(status)
    if insight is not None:
        host, port = host_and_port(options.status)
        details, batch = Details(stream, insight, status), BatchPage(stream, insight)
        pages = {STATUS: status.page, METRICS: Metrics(stream, insight, status, details).page, DETAILS: details.page,
                 BATCH: batch.page}
        server = StatusServer(host, port, options.token(), pages, status.asked, status.lingers, static_pages(),
                              (DETAILS, BATCH), batch.draw)
        insight.observation.wake = server.wake
        stream.attach(server)
        stream.status_url = server.url + STATUS
        log.info("status: %s/", server.url)
    if options.scale_deployment is not None:
        stream.attach(DeploymentScaler(options.scale_deployment, lambda: (status.wanted(), status.why()),
                                       lambda: stream.is_over, options.min_workers))
    return status
