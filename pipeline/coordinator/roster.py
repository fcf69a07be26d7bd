"""Roster: the members of a run as a table for people. Pure: time comes in.

Any thread may ask for it: what it reads are copies of the coordinator's tables, each made by one call that no other
thread interrupts, and values that are replaced as a whole. So the coordinator's thread spends nothing on it. The reader
looks at a part of the members at a time, and rests between the parts, so that it never keeps the interpreter for long.
"""

import re
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from stoker.pipeline.coordinator.aside import SetAside
from stoker.pipeline.coordinator.effects import WorkerKey
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.coordinator.members import Worker
from stoker.pipeline.protocol.messages import Hello

MAX_ROWS = 500
PART = 100             # members between two rests
#: The states of a member; those that need a look come first in a table that has no room for all.
SET_ASIDE, SILENT, STARTING, LEAVING, WORKS, IDLE = STATES = (
    "set aside", "silent", "starting", "leaving", "works", "idle")


class Row(NamedTuple):
    """A member; its texts are printable. Times are seconds until now."""
    name: str
    pid: int
    versions: str
    state: str
    joined_s: float
    silent_s: Optional[float]      # not heard for so long; None unless it is silent
    restarts: int                  # so often its supervisor started a process in its place anew
    why: str                       # it is set aside; ''


class Counts(NamedTuple):
    """What changes all the time."""
    leased: int        # steps that a worker holds
    reassigned: int    # steps that were granted again after a lost lease, so far
    joined: int        # workers that were welcomed, so far


class Roster(NamedTuple):
    """All members by their state, and at most MAX_ROWS of them."""
    states: Dict[str, int]
    rows: List[Row]


def state_of(worker: Worker) -> str:
    """One of STATES."""
    if worker.fit is False:
        return SET_ASIDE
    if worker.silent:
        return SILENT
    if worker.leaving:
        return LEAVING
    if worker.fit is None:
        return STARTING
    return WORKS if worker.leases or worker.unacknowledged else IDLE


def restarts_of(last_exit: str) -> int:
    """As the supervisor wrote it: see ``workers/supervisor.py``."""
    match = re.search(r"restart (\d{1,9})$", last_exit)
    return int(match.group(1)) if match else 0


def roster_of(members: Mapping[WorkerKey, Hello], scheduler: LeaseScheduler, aside: SetAside, now: float,
              rest: Callable[[], None] = lambda: None) -> Roster:
    """The table. ``members``: a copy of the session's; ``rest`` is called every PART members."""
    workers = scheduler.workers.copy()
    states = dict.fromkeys(STATES, 0)
    found: Dict[str, List[Tuple[Hello, Worker]]] = {state: [] for state in STATES}
    for number, (peer, worker) in enumerate(workers.items(), 1):
        hello = members.get(peer)
        if hello is not None:
            state = state_of(worker)
            states[state] += 1
            if states[state] <= MAX_ROWS:      # one more object for each member would wake the garbage collector
                found[state].append((hello, worker))
        if not number % PART:
            rest()
    chosen = [(state, *entry) for state in STATES for entry in found[state]][:MAX_ROWS]
    rows = []
    for number, (state, hello, worker) in enumerate(sorted(chosen, key=lambda entry: entry[2].number), 1):
        rows.append(Row(hello.worker, hello.pid, hello.versions, state, max(0.0, now - worker.joined_s),
                        max(0.0, now - worker.heard_s) if state == SILENT else None, restarts_of(hello.last_exit),
                        aside.reason_of(hello.worker) if state == SET_ASIDE else ""))
        if not number % PART:
            rest()
    return Roster(states, rows)
