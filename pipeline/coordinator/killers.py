"""Killers: the samples that ended the processes that opened them, or found no memory, as workers found out in
quarantine. Pure.

Leases tell which of their samples are killers, so each costs its deaths once, in all epochs and after a restart. What a
batch holds does not depend on whether a killer is known or is found anew. For pictures of the built-in generators it is
the file that kills, in any step. A function of the user may do something else with a sample in each epoch: what it did
is remembered for that step only, which a resume may do again.
"""

from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

from stoker.pipeline.options import GENERATORS, JobOptions
from stoker.pipeline.plan import PlannedBatch
from stoker.pipeline.protocol.messages import Skipped
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.text import own_letters

MAX_KILLERS = 10000      # that are remembered
ANY_STEP = -1
_OF_CPU_TIME = "picture_cpu_s"       # in the reason of those that took too much


class Killer(NamedTuple):
    """A sample that kills."""
    training: bool       # of the training data, or of the validation data
    index: int  # type: ignore[assignment]  # hides tuple.index
    step: int            # in which it killed; an evaluation has the number of the next step; ANY_STEP: in each
    cpu_s: float         # the limit of CPU time that it reached; 0.0: another reason
    name: str            # of the sample
    reason: str


class Killers:
    """Those of one run. ``remembered``: of former processes; those count whose samples are still there, and that did
    not reach a limit of CPU time which is higher by now. A run that begins anew (``is_new``) has done no step."""

    def __init__(self, job: JobOptions, datasets: Splits, cpu_s: float, remembered: Iterable[Killer] = (),
                 is_new: bool = False) -> None:
        self.of_files = job.generator in GENERATORS and job.augment is None
        self._datasets, self._cpu_s = datasets, cpu_s
        self._known: Dict[Tuple[bool, int, int], Killer] = {}
        for killer in remembered:
            if self._counts(killer) and not (is_new and killer.step != ANY_STEP):
                self._known[killer.training, killer.index, killer.step] = killer
        self.changes = 0         # how often one was added

    @property
    def all(self) -> Tuple[Killer, ...]:
        """Each once, in the order in which they were found."""
        return tuple(self._known.values())

    def among(self, planned: PlannedBatch, indices: Sequence[int]) -> Tuple[Skipped, ...]:
        """Those of ``indices``, samples of the batch ``planned``, that are known to kill."""
        if not self._known:
            return ()
        found: List[Skipped] = []
        for index in dict.fromkeys(indices):
            killer = self._known.get((planned.training, index, self._step_of(planned)))
            if killer is not None:
                found.append(Skipped(index, killer.reason, deadly=True))
        return tuple(found)

    def learn(self, planned: PlannedBatch, skipped: Iterable[Skipped]) -> None:
        """These samples of ``planned`` were found in quarantine, if they are marked as deadly."""
        for skip in skipped:
            key = planned.training, skip.index, self._step_of(planned)
            if skip.deadly and key not in self._known and len(self._known) < MAX_KILLERS:
                name = own_letters(self._datasets.of(planned.training).samples((skip.index,))[0].name)
                self._known[key] = Killer(*key, self._cpu_s if _OF_CPU_TIME in skip.reason else 0.0, name, skip.reason)
                self.changes += 1

    def _step_of(self, planned: PlannedBatch) -> int:
        return ANY_STEP if self.of_files else planned.step

    def _counts(self, killer: Killer) -> bool:
        source = self._datasets.of(killer.training)
        if killer.index >= len(source) or (killer.step == ANY_STEP) != self.of_files or (
                killer.cpu_s and not 0 < self._cpu_s <= killer.cpu_s):
            return False
        return own_letters(source.samples((killer.index,))[0].name) == killer.name
