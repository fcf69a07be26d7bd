"""OpenPositions: the samples of the positions that are leased: what a lease says, and which samples a batch holds."""

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Deque, Dict, List, NamedTuple, Optional, Set, Tuple

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.contracts import Source
from stoker.pipeline.coordinator.buffers import without_samples
from stoker.pipeline.coordinator.effects import Abort, Deliver, Grant, LeaveOut
from stoker.pipeline.coordinator.killers import Killers
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.plan import Plan, PlannedBatch, produced_indices
from stoker.pipeline.protocol.messages import NO_SLOT, Lease, Produced, Sample, Skipped
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.text import name_list, printable
from stoker.pipeline.user_errors import is_about_samples

GONE = "no longer among the data"      # why a sample of a checkpoint's list is bad


class Content(NamedTuple):
    """What a lease is about: the planned batch, without samples that no worker is to try."""
    indices: Tuple[int, ...]
    repeats: Tuple[int, ...]                # () : all are 0
    replacements: Tuple[int, ...]
    replacement_repeats: Tuple[int, ...]
    skipped: Tuple[Skipped, ...]            # the samples that are left out


@dataclass
class _Open:
    planned: PlannedBatch
    bad: Dict[int, Skipped]                 # samples that no worker is to try
    leases: Dict[int, Content] = field(default_factory=dict)      # by their number: each is fixed once it is granted
    tested: Set[int] = field(default_factory=set)   # those whose samples are tried one by one


class OpenPositions:
    """The planned batches of the positions that were granted and have no batch yet. ``replaces``: leases carry
    replacements for bad samples."""

    def __init__(self, plan: Plan, datasets: Splits, replaces: bool, killers: Optional[Killers] = None) -> None:
        self._killers = killers
        self._plan, self._datasets, self._replaces = plan, datasets, replaces
        self._open: Dict[int, _Open] = {}
        self.made = False                   # a batch with a sample was received

    def content(self, position: int, lease: int) -> Optional[Content]:
        """What a lease of this position is about; None if the position has no batch to come, or no such lease."""
        entry = self._open.get(position)
        return None if entry is None else entry.leases.get(lease)

    def lease(self, grant: Grant, slot: int = NO_SLOT, again: Optional[Tuple[PlannedBatch, Content]] = None) -> Lease:
        """The lease of ``grant``, whose position is open from now on, with its slot; of a position that has a batch,
        ``again`` says what its lease was about. Raises what an order of the user raises."""
        if again is not None:
            return self._lease(grant, slot, *again)
        entry = self._open.get(grant.position) or self._opened(self._plan.at(grant.position, self._replaces))
        self._open[grant.position] = entry
        content = entry.leases[grant.lease] = _without(entry.planned, entry.bad)
        if grant.isolated:
            entry.tested.add(grant.lease)
        return self._lease(grant, slot, entry.planned, content)

    def _lease(self, grant: Grant, slot: int, planned: PlannedBatch, content: Content) -> Lease:
        known = () if self._killers is None else self._killers.among(planned, content.indices + content.replacements)
        # samples that only a user's function could leave out are tried one by one, as when they were found
        isolated = grant.isolated or bool(known) and self._killers is not None and not self._killers.of_files
        return Lease(grant.lease, grant.position, planned.epoch, planned.training,
                     self._samples(planned, content.indices, content.repeats),
                     self._samples(planned, content.replacements, content.replacement_repeats), isolated,
                     not self.made, known, slot=slot)

    def among(self, position: int, lease: int, skipped: Tuple[Skipped, ...]) -> Tuple[Skipped, ...]:
        """Those of ``skipped`` that are samples of the lease."""
        content = self.content(position, lease)
        known = () if content is None else content.indices + content.replacements
        return tuple(skip for skip in skipped if skip.index in known)

    def leave_out(self, effect: LeaveOut) -> None:
        """From now on, leases of an open position are without a sample."""
        self._open[effect.position].bad[effect.skipped.index] = effect.skipped

    def close(self, position: int, message: Produced) -> Tuple[PlannedBatch, Produced, Tuple[int, ...], Source]:
        """The position has a batch, ``message``, which the codec checked: its plan, the message with all samples that
        are not in it, the sample of each of its rows, and the source of the samples."""
        entry = self._open.pop(position)
        content = entry.leases[message.lease]
        if self._killers is not None and message.lease in entry.tested:
            self._killers.learn(entry.planned, message.skipped)
        self.made = self.made or message.count > 0
        used = produced_indices(content.indices, content.replacements, [skip.index for skip in message.skipped],
                                len(message.rows) if message.rows else message.count + message.missing)
        assert used is not None          # the codec checked it
        if message.rows:
            used = tuple(index for index, rows in zip(used, message.rows) for _ in range(rows))
        if content.skipped:
            message = replace(message, skipped=content.skipped + message.skipped)
        return entry.planned, message, used, self._datasets.of(entry.planned.training)

    def filled(self, position: int, run: str, arrays: Tuple[ArraySpec, ...]) -> Deliver:
        """The batch of a position without a sample, which no worker makes. Raises what an order of the user raises."""
        planned = self._plan.at(position, False)
        return Deliver(planned, Produced(run, 0, position, 0, (), 0.0, ()), without_samples(arrays), (), "", 0, 0.0,
                       self._datasets.of(planned.training))

    def step_of(self, position: int) -> str:
        """The name of an open position for people."""
        return self._plan.name_of(self._open[position].planned)

    def failure(self, abort: Abort) -> RunFailed:
        """The error of a run that cannot be completed."""
        entry = self._open.get(abort.position)
        planned = self._plan.at(abort.position) if entry is None else entry.planned
        names = [sample.name for sample in self._datasets.of(planned.training).samples(planned.indices)]
        samples = "; its samples: " + name_list(names)
        is_about_them = is_about_samples(abort.error)
        if not is_about_them or any(printable(name) in abort.error for name in names):
            samples = ""
        return RunFailed("%s %s: %s%s%s" % (
            self._plan.name_of(planned),
            "failed every time it was tried" if is_about_them else "could not be produced", abort.error, samples,
            abort.traceback and "\n" + abort.traceback.rstrip()))

    def _opened(self, planned: PlannedBatch) -> _Open:
        gone = getattr(self._datasets.of(planned.training), "gone", ())
        bad = {index: Skipped(index, GONE) for index in planned.indices + planned.replacements if index in gone
               } if gone else {}
        return _Open(planned, bad)

    def _samples(self, planned: PlannedBatch, indices: Tuple[int, ...], repeats: Tuple[int, ...]
                 ) -> Tuple[Sample, ...]:
        if not indices:
            return ()
        source = self._datasets.of(planned.training)
        samples = source.samples(indices)
        if repeats:
            samples = tuple(sample._replace(repeat=repeat) for sample, repeat in zip(samples, repeats))
        if not self._plan.has_partners:
            return samples
        return tuple(sample._replace(partners=source.samples(self._plan.partners_of(
            planned.training, planned.epoch, sample.index, sample.repeat))) for sample in samples)


def _without(planned: PlannedBatch, bad: Dict[int, Skipped]) -> Content:
    """The batch without the samples ``bad``: each place gets the next replacement that is not bad itself, or is left
    out. It depends on the two arguments alone, so every run with the same bad samples has the same batches."""
    if not bad:
        return Content(planned.indices, planned.repeats, planned.replacements, planned.replacement_repeats, ())
    spare: Deque[Tuple[int, int]] = deque(zip(planned.replacements, planned.replacement_repeats or repeat(0)))
    used: List[Tuple[int, int]] = []
    skipped: Dict[int, Skipped] = {}
    for index, times in zip(planned.indices, planned.repeats or repeat(0)):
        if index not in bad:
            used.append((index, times))
            continue
        skipped[index] = bad[index]
        while spare and spare[0][0] in bad:
            replacement = spare.popleft()[0]
            skipped[replacement] = bad[replacement]
        if spare:
            used.append(spare.popleft())
    rest = [each for each in spare if each[0] not in bad]
    return Content(*_columns(used), *_columns(rest), tuple(skipped.values()))


def _columns(pairs: List[Tuple[int, int]]) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    numbers, times = tuple(number for number, _ in pairs), tuple(each for _, each in pairs)
    return numbers, times if any(times) else ()
