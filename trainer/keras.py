"""A stream as the arguments of Keras's ``fit_generator``: for tf.keras of TensorFlow 1.9 and for Keras 2.2. Imports
neither."""

from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np

from stoker.pipeline.arrays import framed
from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.stream import BatchStream
from stoker.trainer.sides import Names, Side, check_names, check_parts, not_empty


def keras(stream: BatchStream, x: Names, y: Optional[Names] = None, weights: Optional[Names] = None) -> Dict[str, Any]:
    """The arguments of ``fit_generator``, of tf.keras 1.9 and Keras 2.2:

        with stoker.open_stream("photos", image_size=64, epochs=5, validation=0.2) as stream:
            model.fit_generator(**stoker.keras(stream, x=["images"], y=["labels"]), callbacks=[...])

    ``x``, ``y``, ``weights``: names of arrays; "NAME.sizes" is one too. One name gives an array [n, ...], several give
    a list of them, and {"layer's name": "array's name"} gives a dict. ``y`` None gives zeros, float32 [n, 1], for
    models that compute their loss from their inputs; ``y=[]`` gives None, for models without a target. ``weights``:
    sample weights, [n]. Nothing is copied. Declare uint8 inputs as such: ``Input((64, 64, 3), dtype="uint8")``. Keras
    casts others on the host.

    Training and evaluation get an iterator each, which gives batches only when they are due. Keras must take them in
    its own thread, so ``workers`` is 0. To resume, open the stream with ``start_step``, at the end of an epoch: for
    example ``int(K.get_value(model.optimizer.iterations))`` of a loaded model.

    Of a stream with ``training=False``: the arguments of ``evaluate_generator`` and ``predict_generator``. Their
    results do not name the samples, and have no row for a bad file: open the stream with ``on_bad_image="raise"``, or
    call ``predict_on_batch`` for each batch and take ``batch.used_indices``.

    Each of several ranks (``open_stream(ranks=)``) gets its part of each batch, in the same number of steps.

    Raises ConfigError if there is no such array, if some of several ranks get no sample of a short last batch, or the
    stream begins in the middle of an epoch, because Keras knows one number of steps for all epochs. The iterators raise
    DatasetError for a batch that is empty because all its samples were skipped, and RuntimeError for a batch that is
    not due, or if two threads ask at the same time.
    """
    specs = framed(stream.arrays)
    check_names(specs, "x", x)
    check_names(specs, "y", () if y is None else y)
    check_names(specs, "weights", () if weights is None else weights)
    plan = stream.plan
    for training in (plan.training, False):
        check_parts(plan, training, "Keras")
    batches = _Generator(Side(stream, True), x, y, weights)
    if not plan.training:
        return {"generator": batches, "steps": plan.steps_per_epoch, "workers": 0}
    epoch, within = divmod(stream.step, plan.steps_per_epoch)
    if within:
        border = stream.step - within
        raise ConfigError("the stream is at step %d, in the middle of an epoch, and Keras can only begin one: resume "
                          "from step %d or %d" % (stream.step, border, border + plan.steps_per_epoch))
    arguments = {"generator": batches, "steps_per_epoch": plan.steps_per_epoch, "epochs": plan.epochs,
                 "initial_epoch": epoch, "workers": 0}
    if plan.evaluations_per_epoch:
        arguments.update(validation_data=_Generator(Side(stream, False), x, y, weights),
                         validation_steps=plan.evaluations_per_epoch)
    return arguments


class _Generator(Iterator[Tuple[Any, ...]]):
    """What Keras iterates: (x, y) or (x, y, weights) of each batch of one side."""

    def __init__(self, side: Side, x: Names, y: Optional[Names], weights: Optional[Names]) -> None:
        self._side, self._x, self._y, self._weights = side, x, y, weights

    def __next__(self) -> Tuple[Any, ...]:
        batch = not_empty(next(self._side), "Keras")
        targets = np.zeros((len(batch), 1), np.float32) if self._y is None else _arrays(batch, self._y)
        inputs = _arrays(batch, self._x)
        return (inputs, targets) if self._weights is None else (inputs, targets, _arrays(batch, self._weights))


def _arrays(batch: Batch, names: Names) -> Any:
    if isinstance(names, str):
        return batch[names]
    if isinstance(names, Mapping):
        return {key: batch[name] for key, name in names.items()}
    if len(names) == 1:
        return batch[names[0]]
    return [batch[name] for name in names] or None
