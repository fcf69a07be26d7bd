"""What a status address costs the consumer of a stream while no client asks: a part of ``benchmarks/looking.py``."""

import logging
import time
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional

import numpy as np

from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan
from stoker.trainer.fleet import announce
from stoker.trainer.fleet_options import NO_FLEET, FleetOptions
from benchmarks.looked_at import BATCH
from benchmarks.made import made_stream
from benchmarks.table import Goal, Say, Table, spread

UNSEEN_US = 20.0              # a batch, while no client asks


def consumer_us(status: Optional[str], batches: int) -> float:
    """CPU microseconds of the consumer's thread for a batch that is there, with a status address or without."""
    job = JobOptions("image", (8, 8), BATCH)
    arrays = tuple(np.zeros((BATCH,) + tuple(spec.shape), spec.dtype) for spec in job.arrays)
    with made_stream(lambda planned: arrays, job, Plan(BATCH * 1000, BATCH, 1000, 0), ahead=8) as stream:
        announce(stream, NO_FLEET if status is None else FleetOptions(status=status), 8, 1)
        for _ in range(300):
            next(stream)
        begun_s = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
        for _ in range(batches):
            next(stream)
        return (time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - begun_s) / batches * 1e6


@contextmanager
def _without_log() -> Iterator[None]:
    """Only errors are logged: each stream would say its address."""
    logger = logging.getLogger("stoker")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)       # others in this process want to hear of their streams


def unseen(quick: bool, say: Say) -> Table:
    rounds, batches = (2, 500) if quick else (9, 4000)
    found: Dict[Optional[str], List[float]] = {None: [], "127.0.0.1:0": []}
    say("a status address that is not looked at")
    with _without_log():
        for _ in range(rounds):
            for status, took in found.items():
                took.append(consumer_us(status, batches))
    without, with_status = (spread(took) for took in found.values())
    # the least: a thread that others interrupt takes longer, and never less long
    added = with_status.least - without.least
    return Table("looking-unseen", "What a status address costs while no client asks: CPU us of the consumer's thread "
                 "for a batch that is there", ["", "least us", "median us", "most us"],
                 [["no status address", without.least, without.median, without.most],
                  ["--status, not looked at", with_status.least, with_status.median, with_status.most]],
                 goals=[Goal("us more for a batch", added, UNSEEN_US, at_most=True)])
