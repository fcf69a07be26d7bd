"""Two ways to feed a step: *direct*, with the batch it computes, or *staged*, with the next batch.

Staged, the same ``session.run`` takes batch n out of a StagingArea, trains on it, and puts batch n + 1 into the area.
So the copy to a GPU runs in parallel to the computation. TensorFlow places the area on the GPU if there is one. A
staged batch is trained on at the end of a run, even if the run is asked to stop; after a crash the batch comes again.

(The technique is that of TensorFlow's benchmarks: gpu_compute_stage of ``variable_mgr`` in tf_cnn_benchmarks.)
"""

from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

# tf.contrib.staging has the same class, but importing tf.contrib takes a second
from tensorflow.python.ops.data_flow_ops import StagingArea

from stoker.pipeline.batch import Batch
from stoker.trainer.feed import feed_dict


class Stage(NamedTuple):
    """Puts a batch on the device for the next step."""
    inputs: Any        # placeholders
    labels: Any
    put: Any           # op


class StepInput(NamedTuple):
    """One ``session.run``: trains or evaluates on ``batch`` (None: neither) with ``feed``, and runs ``put``, if any."""
    batch: Optional[Batch]
    feed: Dict[Any, Any]
    put: Any = None


def stage(inputs: Any, labels: Any) -> Tuple[Stage, Any, Any]:
    """The stage after these placeholders, and the two tensors that take a batch out of it. A run that feeds the tensors
    leaves the stage unchanged."""
    area = StagingArea([inputs.dtype, labels.dtype], [inputs.shape, labels.shape])
    return (Stage(inputs, labels, area.put([inputs, labels])), *area.get())


class Direct:
    """Feeds each batch to the step that computes it."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def step_inputs(self, batch: Batch) -> Iterator[StepInput]:
        """The inputs of the runs to do when ``batch`` is the next of the stream."""
        yield StepInput(batch, feed_dict(batch, self._model.inputs, self._model.labels))

    def last(self) -> Iterator[StepInput]:
        """The inputs of the runs to do when the stream has ended."""
        return iter(())


class Staged(Direct):
    """Stages training batches. Evaluation batches and empty batches are fed directly, after all batches before them."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._staged: Optional[Batch] = None      # on the device, and not yet trained on

    def step_inputs(self, batch: Batch) -> Iterator[StepInput]:
        if not batch.training or not len(batch):
            yield from self.last()
            yield from super().step_inputs(batch)
            return
        before, self._staged = self._staged, batch
        stage_ = self._model.stage
        yield StepInput(before, feed_dict(batch, stage_.inputs, stage_.labels), stage_.put)

    def last(self) -> Iterator[StepInput]:
        before, self._staged = self._staged, None
        if before is not None:
            yield StepInput(before, {})
