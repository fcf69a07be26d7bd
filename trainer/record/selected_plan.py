"""Some positions of a run's plan as a plan of their own, in any order: so that one stream, with one group of workers,
makes the batches of any steps. Pure."""

from typing import Dict, Optional, Sequence, Tuple

from stoker.pipeline.plan import Plan, PlannedBatch

PLANNED_BEFORE = 4096      # as many different positions are planned when the view is made, epoch by epoch


class SelectedPlan(Plan):
    """The positions ``selected`` of ``plan``. Its own positions are numbered from FIRST on.

    Position FIRST + k is the batch of ``selected[k]``, with its step and epoch. A stream over it begins at FIRST, not
    at 0: a run that begins at position 0 forgets the samples that a user's function was killed by, since it may do all
    steps anew. The view has one epoch of no steps, so that a stream judges no epoch by some of its batches.
    """
    FIRST = 1

    def __init__(self, plan: Plan, selected: Sequence[int]) -> None:
        """Raises what an order of the user's raises."""
        vars(self).update(vars(plan))          # it is asked for all that its plan is asked for
        self._whole, self._selected = plan, tuple(selected)
        self.steps, self.positions, self.epochs = 0, self.FIRST + len(self._selected), 1
        self.steps_per_epoch, self.evaluations_per_epoch = 1 << 62, 0
        distinct = sorted(set(self._selected))
        # one epoch after the other, since a plan keeps the order of the last one only
        self._planned: Dict[int, PlannedBatch] = {
            position: plan.at(position) for position in distinct} if len(distinct) <= PLANNED_BEFORE else {}

    def name_of(self, planned: PlannedBatch) -> str:
        """As a replay's arguments, batches, and sheets count."""
        return "step %d of epoch %d (the first is 0)" % (planned.step, planned.epoch)

    def position_of(self, step: int) -> int:
        """Where a stream over it begins, and then it has to be at step 0."""
        return self.FIRST

    def at(self, position: int, with_replacements: bool = True) -> PlannedBatch:
        """See ``Plan.at``."""
        if not self.FIRST <= position < self.positions:
            raise IndexError("position %d is not within %d..%d" % (position, self.FIRST, self.positions - 1))
        selected = self._selected[position - self.FIRST]
        planned = self._planned.get(selected) or self._whole.at(selected, with_replacements)
        if not with_replacements:
            planned = planned._replace(replacements=(), replacement_repeats=())
        return planned._replace(position=position)

    def is_empty(self, position: int) -> bool:
        """See ``Plan.is_empty``."""
        return self._whole.is_empty(self._selected[position - self.FIRST])

    def has_empty_parts(self, training: bool) -> bool:
        """See ``Plan.has_empty_parts``."""
        return self._whole.has_empty_parts(training)

    def training_indices(self, step: int, rank: Optional[int] = None, ranks: Optional[int] = None) -> Tuple[int, ...]:
        """Of the step ``step`` of the run: see ``Plan.training_indices``."""
        return self._whole.training_indices(step, rank, ranks)

    def partners_of(self, training: bool, epoch: int, index: int, repeat: int = 0) -> Tuple[int, ...]:
        """See ``Plan.partners_of``."""
        return self._whole.partners_of(training, epoch, index, repeat)
