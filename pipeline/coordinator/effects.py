"""What the pure parts of the trainer's end ask their caller to do, in the order returned: the LeaseScheduler asks the
session for every ``SchedulerEffect``, the session asks the thread for every ``Effect``."""

from dataclasses import dataclass, field
from typing import FrozenSet, List, NamedTuple, Tuple, Union

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import StokerError
from stoker.pipeline.plan import PlannedBatch
from stoker.pipeline.protocol.messages import Alive, Hello, Lease, Need, Produced, Ready, Refused, Revoked
from stoker.pipeline.protocol.messages import Skipped, Stop, Welcome

WorkerKey = bytes  # names one connection of one worker


class Grant(NamedTuple):
    """Send the worker a lease for this position. ``attempt`` counts the position's leases from 1. ``isolated``:
    workers died at this position, so the worker first tries each sample in a process of its own."""
    worker: WorkerKey
    lease: int
    position: int
    attempt: int
    isolated: bool = False


class Revoke(NamedTuple):
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
    isolated: bool = field(default=False, compare=False)    # leases for it are isolated: see Grant


class Unknown(NamedTuple):
    """The message was dropped: this worker is no member, or names a lease that never was. It may say Hello."""
    worker: WorkerKey
    what: str


class Gone(NamedTuple):
    """The worker is no member any more, or silent. Its open positions are reassigned. ``is_lost``: its connection
    was lost, while it had not said that it leaves or still held leases; or it broke the protocol."""
    worker: WorkerKey
    why: str
    positions: int
    is_lost: bool = False


class Abort(NamedTuple):
    """The run cannot be completed: ``position`` failed too often, last with ``error``."""
    position: int
    error: str
    traceback: str


class LeaveOut(NamedTuple):
    """Further leases of the position are without this sample: its file could not be read in several tries."""
    position: int
    skipped: Skipped


class Fill(NamedTuple):
    """Hand over a batch without a sample: this trainer's part of the position is empty, so no worker is needed."""
    position: int


SchedulerEffect = Union[Grant, Revoke, Accept, Unknown, Gone, Abort, LeaveOut, Fill]
SchedulerEffects = List[SchedulerEffect]


class Invite(NamedTuple):
    """Send ``welcome``. If it can be sent, admit the peer and call ``session.joined(peer, hello, now)``, else
    ``session.lost(peer, now)``: the message came from a connection that is broken by now."""
    peer: WorkerKey
    hello: Hello
    welcome: Welcome


class Send(NamedTuple):
    """Send ``message`` to each of ``peers``; tell ``session.unreachable`` about those to which it cannot be sent."""
    peers: Tuple[WorkerKey, ...]
    message: Union[Lease, Revoked, Refused, Alive, Need, Stop]


class Share(NamedTuple):
    """Make memory for the peer and hand it over, at the socket that ``ready`` names. Then call ``session.shared(peer,
    ready, reason, now)``; ``reason``: a clause that says why it failed, or ''."""
    peer: WorkerKey
    ready: Ready


class Unshare(NamedTuple):
    """The peer's memory is no longer used, but for the batches in it. ``leased``: slots to which its worker may still
    write; after it has come again, it may send what is there in frames."""
    peer: WorkerKey
    leased: FrozenSet[int] = frozenset()


class Release(NamedTuple):
    """Give the memory of a free slot back to the system."""
    peer: WorkerKey
    slot: int


class Deliver(NamedTuple):
    """Hand the batch of ``planned`` to the consumer. Copy ``views`` into memory of the trainer's own, unless they are
    in a slot."""
    planned: PlannedBatch
    message: Produced
    views: Tuple["np.ndarray", ...]     # on the frames that came, or on the slot; checked against the job
    used_indices: Tuple[int, ...]
    worker: str
    attempt: int
    wire_s: float
    source: Source


class Shut(NamedTuple):
    """Disconnect the peer."""
    peer: WorkerKey


class Log(NamedTuple):
    """Write a line to the log. ``kind``: one of monitoring.events.KINDS, for the status address; '': for the log only.
    ``reassigned``: the steps that others produce because of it, such as "2 steps of alpha:1/0"."""
    text: str
    is_warning: bool = False
    is_debug: bool = False
    kind: str = ""
    reassigned: str = ""


class Fail(NamedTuple):
    """End the run with this error."""
    error: StokerError


Effect = Union[Invite, Send, Share, Unshare, Release, Deliver, Shut, Log, Fail]
Effects = List[Effect]
