"""A stream without workers: its batches are made in this process. For what happens to batches that are there."""

from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from stoker.pipeline.arrays import framed
from stoker.pipeline.batch import Batch
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan, PlannedBatch
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.stream import BatchStream

#: Makes the arrays of a batch, and those of the sizes after them; None: the batch does not come.
Make = Callable[[PlannedBatch], Optional[Tuple[np.ndarray, ...]]]


class _Coordinator:
    """In a coordinator's place: delivers so many batches ahead of the consumer."""

    def __init__(self, make: Make, ahead: int, start: int, plan: Plan, job: JobOptions, deliver: Any) -> None:
        self._make, self._ahead, self._next = make, ahead, start
        self._plan, self._job, self._deliver = plan, job, deliver
        self.address, self.local_keys, self.run_id, self.fleet = "none", None, "made", Fleet(1, 1, {})

    def start(self) -> None:
        self.take_up_to(self._next)

    def take_up_to(self, position: int, step_s: float = 0.0) -> None:
        while self._next < min(position + self._ahead, self._plan.positions):
            self._next += 1
            self._make_and_deliver(self._next - 1)

    def _make_and_deliver(self, position: int) -> None:
        planned = self._plan.at(position)
        made = self._make(planned)
        if made is None:
            return
        own = self._job.arrays
        sizes: Dict[str, np.ndarray] = dict(zip((spec.name for spec in own if spec.upto), made[len(own):]))
        assert len(made) == len(framed(own))
        self._deliver(position, Batch(planned.step, planned.epoch, planned.training, planned.indices, made[:len(own)],
                                      (), "none", 1, 0.0, planned.indices, specs=own, sizes=sizes,
                                      global_size=planned.global_size))

    def without_workers_s(self) -> float:
        return 0.0

    def stall_report(self, waited_s: float, limit_s: float) -> str:
        return "nothing is made"

    def abandon(self) -> None:
        pass

    def stop(self, reason: str, done: bool) -> None:
        pass


def made_stream(make: Make, job: JobOptions, plan: Plan, start_step: int = 0, ahead: int = 1, **replaced: Any
                ) -> BatchStream:
    """The stream of ``plan`` with the batches that ``make`` makes, so many ``ahead``. ``replaced``: see BatchStream."""
    datasets = Splits(generated(plan.train_size), generated(max(1, plan.validation_size)))
    return BatchStream(plan, datasets, job, StreamOptions(), start_step,
                       lambda start, plan, datasets, job, options, deliver, fail: _Coordinator(  # type: ignore
                           make, ahead, start, plan, job, deliver), **replaced)
