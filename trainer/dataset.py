"""A stream as a ``tf.data.Dataset``."""

from typing import Dict

import numpy as np
import tensorflow as tf

from stoker.pipeline.arrays import ArraySpec, UpTo, framed
from stoker.pipeline.batch import Batch
from stoker.pipeline.stream import BatchStream
from stoker.trainer.sides import Side, check_parts, not_empty


def dataset(stream: BatchStream, training: bool = True) -> tf.data.Dataset:
    """The batches of ``stream`` as a dataset, each a dict {array's name: tensor}, without a copy:

        with stoker.open_stream("photos", image_size=64, epochs=5) as stream:
            batch = stoker.dataset(stream).make_one_shot_iterator().get_next()
            train_op = train(batch["images"], batch["labels"])
            ...
            session.run(train_op)       # until tf.errors.OutOfRangeError

    Shapes are [None, ...] as declared, with None for a side that is ``UpTo``, and dtypes as declared. The sizes of an
    array with such sides are there as "NAME.sizes". Batches come in the stream's order, each once, so read the dataset
    by one iterator, and neither cache, repeat nor shuffle it.

    A stream with a validation part needs two datasets, one with ``training=False``. Each ends where the other one is
    due: run the initializer of the training iterator once per epoch and read it to its end, then that of the
    evaluation. A training dataset that is made while an evaluation is due, as at the begin of a resumed stream, leaves
    that evaluation out. ``training`` does not matter for a stream that was opened with ``training=False``.

    Each of several ranks (``open_stream(ranks=)``) gets its part of each batch; that of an evaluation may be empty.
    Raises ConfigError if a training batch has no sample for some ranks.

    The graph raises tf.errors.UnknownError with the message of an error of the stream, for a training batch that is
    empty because all its samples were skipped, or if an iterator is read whose batches are not due. Close the session
    before the stream if you use ``prefetch``.
    """
    if training and stream.plan.training:
        check_parts(stream.plan, True, "a graph")
    side = Side(stream, training)
    specs = framed(stream.arrays)

    def arrays(batch: Batch) -> Dict[str, np.ndarray]:
        if batch.training:
            not_empty(batch, "a graph")
        return {spec.name: batch[spec.name] for spec in specs}

    return tf.data.Dataset.from_generator(lambda: map(arrays, side.until_border()),
                                          {spec.name: tf.as_dtype(spec.dtype) for spec in specs},
                                          {spec.name: shape_of(spec) for spec in specs})


def shape_of(spec: ArraySpec) -> tf.TensorShape:
    """The static shape of a batch of this array."""
    return tf.TensorShape([None] + [None if isinstance(side, UpTo) else side for side in spec.shape])
