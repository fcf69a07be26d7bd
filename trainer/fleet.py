"""Tells others on the network how many workers are wanted, until the stream ends."""

import logging
from typing import Optional

from stoker.pipeline.stream import BatchStream
from stoker.trainer.fleet_options import FleetOptions, host_and_port
from stoker.trainer.kubernetes import DeploymentScaler
from stoker.trainer.metrics import METRICS, metrics_page
from stoker.trainer.status import STATUS, Status
from stoker.trainer.status_server import StatusServer

log = logging.getLogger("stoker")


def announce(stream: BatchStream, options: FleetOptions, window: int, local: int) -> Optional[Status]:
    """Starts what ``options`` ask for; it ends with ``stream``. ``window``: the most steps that are leased or buffered
    at once; ``local``: the most local workers. Returns what knows the figures; None: it is not asked for. Raises
    ConfigError."""
    if not options.is_used:
        return None
    status = Status(stream, options.min_workers, options.max_workers, window, local)
    stream.pace.observers.append(status)
    if options.status is not None:
        host, port = host_and_port(options.status)
        server = StatusServer(host, port, options.token(), {STATUS: status.page, METRICS: lambda: metrics_page(status)},
                              status.asked, status.lingers)
        stream.attach(server)
        stream.status_url = server.url + STATUS
        log.info("status: %s", stream.status_url)
    if options.scale_deployment is not None:
        stream.attach(DeploymentScaler(options.scale_deployment, lambda: (status.wanted(), status.why()),
                                       lambda: stream.is_over, options.min_workers))
    return status
