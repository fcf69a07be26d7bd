"""What the LeaseScheduler asks its caller to do, or to know. Carried out in the order in which they are returned."""

from dataclasses import dataclass, field
from typing import Any

WorkerKey = Any  # hashable; names one connection of one worker


@dataclass(frozen=True)
class Grant:
    """Send the worker a lease for this position; ``attempt`` counts the position's leases from 1. ``careful``: workers
    died of it."""

    worker: WorkerKey
    lease: int
    position: int
    attempt: int
    isolated: bool = False


@dataclass(frozen=True)
class Revoke:
    """Tell the worker that this lease is not needed any more."""

    worker: WorkerKey
    lease: int


@dataclass(frozen=True)
class Accept:
    """Keep the batch that was just received: it is the first for its position."""

    worker: WorkerKey
    position: int
    attempt: int
    took_s: float = field(default=0.0, compare=False)    # since its lease was granted; 0 if that had ended before


@dataclass(frozen=True)
class Duplicate:
    """Drop the batch that was just received: its position had one already."""

    worker: WorkerKey
    position: int


@dataclass(frozen=True)
class Unknown:
    """The message was dropped: this worker is no member, or speaks of a lease that never was. It may say Hello."""

    worker: WorkerKey
    what: str


@dataclass(frozen=True)
class Gone:
    """The worker is no member any more, or silent; its open positions go elsewhere."""

    worker: WorkerKey
    why: str
    positions: int


@dataclass(frozen=True)
class Abort:
    """The run cannot be completed: ``position`` failed too often, last with ``error``."""

    position: int
    error: str
    traceback: str
