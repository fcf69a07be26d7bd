"""OpenPositions: the samples of the positions that are leased: what a lease says, and which samples a batch holds."""

from typing import Dict, Tuple

from stoker.pipeline.contracts import Source
from stoker.pipeline.coordinator.effects import Abort, Grant
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.plan import Plan, PlannedBatch, produced_indices
from stoker.pipeline.protocol.messages import Lease, Produced, Sample
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.text import name_list, printable
from stoker.pipeline.user_errors import is_about_samples


class OpenPositions:
    """The planned batches of the positions that were granted and have no batch yet. ``replaces``: leases carry
    replacements for bad samples."""

    def __init__(self, plan: Plan, datasets: Splits, replaces: bool) -> None:
        self._plan, self._datasets, self._replaces = plan, datasets, replaces
        self._planned: Dict[int, PlannedBatch] = {}

    def __getitem__(self, position: int) -> PlannedBatch:
        """The batch that was planned for a position that was granted. Raises KeyError."""
        return self._planned[position]

    def lease(self, grant: Grant) -> Lease:
        """The lease of ``grant``, whose position is open from now on. Raises what an order of the user raises."""
        planned = self._planned.get(grant.position) or self._plan.at(grant.position, self._replaces)
        self._planned[grant.position] = planned
        return Lease(grant.lease, grant.position, planned.epoch, planned.training,
                     self._samples(planned, planned.indices, planned.repeats),
                     self._samples(planned, planned.replacements, planned.replacement_repeats), grant.isolated)

    def close(self, position: int, message: Produced) -> Tuple[PlannedBatch, Tuple[int, ...], Source]:
        """The position has a batch, ``message``, which the codec checked: its plan, the sample of each of its rows, and
        the source of the samples."""
        planned = self._planned.pop(position)
        used = produced_indices(planned.indices, planned.replacements, [skip.index for skip in message.skipped],
                                len(message.rows) if message.rows else message.count + message.missing)
        assert used is not None          # the codec checked it
        if message.rows:
            used = tuple(index for index, rows in zip(used, message.rows) for _ in range(rows))
        return planned, used, self._datasets.of(planned.training)

    def failure(self, abort: Abort) -> RunFailed:
        """The error of a run that cannot be completed."""
        planned = self._planned.get(abort.position) or self._plan.at(abort.position)
        names = [sample.name for sample in self._datasets.of(planned.training).samples(planned.indices)]
        samples = "; its samples: " + name_list(names)
        is_about_them = is_about_samples(abort.error)
        if not is_about_them or any(printable(name) in abort.error for name in names):
            samples = ""
        return RunFailed("step %d of epoch %d %s: %s%s%s" % (
            planned.step, planned.epoch + 1,
            "failed every time it was tried" if is_about_them else "could not be produced", abort.error, samples,
            abort.traceback and "\n" + abort.traceback.rstrip()))

    def _samples(self, planned: PlannedBatch, indices: Tuple[int, ...], repeats: Tuple[int, ...]
                 ) -> Tuple[Sample, ...]:
        source = self._datasets.of(planned.training)
        samples = source.samples(indices)
        if repeats:
            samples = tuple(sample._replace(repeat=repeat) for sample, repeat in zip(samples, repeats))
        if not self._plan.has_partners:
            return samples
        return tuple(sample._replace(partners=source.samples(self._plan.partners_of(
            planned.training, planned.epoch, sample.index, sample.repeat))) for sample in samples)
