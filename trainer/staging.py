"""How batches get into a step: *direct*, fed when it is computed, or *staged*, one batch ahead on the device.

Staged, batch n + 1 is put into a StagingArea in the same ``session.run`` that trains on batch n, which it takes out of
there: so the copy to a GPU runs beside the computation, without a thread of our own. The area lies where TensorFlow
places it by itself, on the GPU if there is one, and holds one batch of its memory. What is staged is not yet trained
on, and does not count. At the end of a run it is, also where the run is asked to stop; after a crash it comes again.

(As in TensorFlow's own benchmarks: tf_cnn_benchmarks, ``variable_mgr``'s gpu_compute_stage.)
"""

from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

# not tf.contrib.staging, where the same class is: tf.contrib takes a second to import
from tensorflow.python.ops.data_flow_ops import StagingArea

from stoker.pipeline.batch import Batch
from stoker.trainer.feed import feed_dict


class Stage(NamedTuple):
    """Where a batch is put so that it is on the device for the next step."""

    inputs: Any        # placeholders
    labels: Any
    put: Any           # op


class StepInput(NamedTuple):
    """What the loop is to do next, in one call: train or evaluate on ``batch`` (None: neither) with ``feed``, and run
    ``put``, if any."""

    batch: Optional[Batch]
    feed: Dict[Any, Any]
    put: Any = None


def stage(inputs: Any, labels: Any) -> Tuple[Stage, Any, Any]:
    """The stage behind these placeholders, and the tensors that take a batch out of it. To feed those instead is to
    leave the stage as it is."""
    area = StagingArea([inputs.dtype, labels.dtype], [inputs.shape, labels.shape])
    put = area.put([inputs, labels])
    staged_inputs, staged_labels = area.get()
    return Stage(inputs, labels, put), staged_inputs, staged_labels


class Direct:
    """Each batch when its turn comes."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def turns(self, batch: Batch) -> Iterator[StepInput]:
        """What ``batch``, the next of the stream, leads to."""
        yield StepInput(batch, feed_dict(batch, self._model.inputs, self._model.labels))

    def last(self) -> Iterator[StepInput]:
        """What there is to do when the stream has ended."""
        return iter(())


class Staged(Direct):
    """Training batches one ahead; those of evaluations, and empty ones, directly, when all before them are done."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._staged: Optional[Batch] = None      # put, and not yet trained on

    def turns(self, batch: Batch) -> Iterator[StepInput]:
        if not batch.training or not len(batch):
            yield from self.last()
            yield from super().turns(batch)
            return
        before, self._staged = self._staged, batch
        stage_ = self._model.stage
        yield StepInput(before, feed_dict(batch, stage_.inputs, stage_.labels), stage_.put)

    def last(self) -> Iterator[StepInput]:
        before, self._staged = self._staged, None
        if before is not None:
            yield StepInput(before, {})
