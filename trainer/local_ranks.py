"""Ranks: several trainers of one run. How many of them share the cores of this host, and what the log says. Pure."""

from typing import Mapping, Optional

from stoker.pipeline.options import check_whole, is_loopback
from stoker.pipeline.plan import Plan, part_of

#: Set by horovodrun, and by Open MPI's mpirun: the number of processes on this host.
LAUNCHERS = ("HOROVOD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")


def trainers_here(given: Optional[int], ranks: int, bind: str, environment: Mapping[str, str]) -> int:
    """How many of ``ranks`` trainers run on this host. ``given``: what the user says; None: what the launcher says,
    else all of them if only this host can reach the address ``bind``, else 1. Raises ConfigError."""
    if given is not None:
        return check_whole("local_ranks (of %d ranks)" % ranks, given, 1, ranks)
    for name in LAUNCHERS:
        try:
            return max(1, min(int(environment[name]), ranks))
        except (KeyError, ValueError):
            continue
    return ranks if is_loopback(bind) else 1


def share(cores: int, trainers: int) -> int:
    """Of the cores of a host, those for the workers of one of its ``trainers``."""
    return max(1, cores // trainers)


def line_of(plan: Plan, cores: int, trainers: int, chosen: bool) -> str:
    """What one of several ranks logs when it opens its stream. ``chosen``: Stoker chooses the number of its workers."""
    own = part_of(range(plan.batch_size), plan.rank, plan.ranks)
    line = "rank %d of %d: samples %d to %d of each batch of %d" % (
        plan.rank, plan.ranks, own.start, own.stop - 1, plan.batch_size)
    if not chosen:
        return line
    most = share(cores, trainers)
    return line + "; up to %d local worker%s: its share of %d core%s, for %d rank%s on this host" % (
        most, "s" * (most > 1), cores, "s" * (cores > 1), trainers, "s" * (trainers > 1))
