"""Two ways to feed a step: *direct*, with the batch it computes, or *staged*, with the next batch.

Staged, the same ``session.run`` takes batch n out of a StagingArea, trains on it, and puts batch n + 1 into the area.
So the copy to a GPU runs in parallel to the computation. TensorFlow places the area on the GPU if there is one. A
staged batch is trained on at the end of a run, even if the run is asked to stop; after a crash the batch comes again.

(The technique is that of TensorFlow's benchmarks: gpu_compute_stage of ``variable_mgr`` in tf_cnn_benchmarks.)
"""

from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Tuple

# tf.contrib.staging has the same class, but importing tf.contrib takes a second
from tensorflow.python.ops.data_flow_ops import StagingArea

from stoker.pipeline.batch import Batch


class Stage(NamedTuple):
    """Puts a batch on the device for the next step."""
    arrays: Dict[str, Any]     # placeholders by the array's name
    put: Any                   # op


class StepInput(NamedTuple):
    """One ``session.run``: trains or evaluates on ``batch`` (None: neither) with ``feed``, and runs ``put``, if any."""
    batch: Optional[Batch]
    feed: Dict[Any, Any]
    put: Any = None


def stage(arrays: Dict[str, Any]) -> Tuple[Stage, Dict[str, Any]]:
    """The stage after these placeholders, and the tensors that take a batch out of it. A run that feeds the tensors
    leaves the stage unchanged."""
    tensors = list(arrays.values())
    area = StagingArea([tensor.dtype for tensor in tensors], [tensor.shape for tensor in tensors])
    put = area.put(tensors)
    return Stage(arrays, put), dict(zip(arrays, area.get()))


def feed_of(batch: Batch, tensors: Dict[str, Any]) -> Dict[Any, Any]:
    """``batch`` as the values of ``tensors``, by its arrays' names. TensorFlow 1.9 feeds them without a copy."""
    return {tensor: batch[name] for name, tensor in tensors.items()}


def feed_direct(model: Any, batches: Iterable[Batch]) -> Iterator[StepInput]:
    """Feeds each batch to the step that computes it."""
    for batch in batches:
        yield StepInput(batch, feed_of(batch, model.arrays))


def feed_staged(model: Any, batches: Iterable[Batch]) -> Iterator[StepInput]:
    """Stages training batches. Evaluation batches and empty batches are fed directly, after all batches before them."""
    staged: Optional[Batch] = None      # on the device, and not yet trained on
    for batch in batches:
        if batch.training and len(batch):
            yield StepInput(staged, feed_of(batch, model.stage.arrays), model.stage.put)
            staged = batch
        else:
            if staged is not None:
                yield StepInput(staged, {})
                staged = None
            yield StepInput(batch, feed_of(batch, model.arrays))
    if staged is not None:
        yield StepInput(staged, {})
