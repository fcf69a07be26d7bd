"""The tutorial's models as TF 1.9 graphs: a small CNN for images, logistic regression for numerical records."""

from typing import Any, NamedTuple, Optional, Tuple

import tensorflow as tf

from stoker.pipeline.arrays import ArraySpec
from stoker.trainer.staging import Stage, stage


class Model(NamedTuple):
    """The tensors and ops that the training loop runs."""
    inputs: Any        # to feed: uint8 [n, height, width, 3], or float32 [n, features]
    labels: Any        # to feed: int32 [n, 1]
    loss: Any          # float32: mean over the batch
    correct: Any       # int32: number of samples in the batch that are classified correctly
    train: Any         # one step of Adam; increments global_step
    pass_over: Any     # increments global_step for a step without samples
    global_step: Any
    pictures: Any      # summary of a few inputs; None for numerical records
    stage: Optional[Stage] = None      # provides inputs and labels if they are not fed


def scaled(images: Any) -> Any:
    """uint8 -> float32 in 0..1, in the graph: the same bits as ``np.float32(np.array(image) / 255.0)``."""
    # a multiplication by 1/255 gives a wrong bit for half the values; TensorFlow's optimizer makes one of a constant
    return tf.div(tf.cast(images, tf.float32), tf.placeholder_with_default(255.0, ()))


def build(arrays: Tuple[ArraySpec, ...], classes: int, staged: bool = False) -> Model:
    """Builds the model for batches of ``arrays`` in the default graph, with a stage before it if ``staged``.

    Two classes get one sigmoid output, more classes a softmax; the optimizer is Adam. The initial weights depend on the
    graph's seed only, and not on ``staged``.
    """
    inputs_spec, labels_spec = arrays
    inputs = tf.placeholder(tf.as_dtype(inputs_spec.dtype), (None,) + inputs_spec.shape, inputs_spec.name)
    labels = tf.placeholder(tf.as_dtype(labels_spec.dtype), (None,) + labels_spec.shape, labels_spec.name)
    placed: Optional[Stage] = None
    if staged:
        placed, inputs, labels = stage(inputs, labels)
    pictures = None
    if len(inputs_spec.shape) == 3:
        images = scaled(inputs) if inputs_spec.dtype == "uint8" else inputs
        pictures = tf.summary.image("inputs", images, max_outputs=4)
        features = _convolutions(images)
    else:
        features = tf.cast(inputs, tf.float32)
    outputs = tf.layers.dense(features, 1 if classes == 2 else classes, name="outputs", kernel_initializer=_initial(4))
    if classes == 2:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, tf.float32), logits=outputs)
        predictions = tf.cast(outputs > 0, tf.int32)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels[:, 0], logits=outputs)
        predictions = tf.argmax(outputs, axis=1, output_type=tf.int32)[:, tf.newaxis]
    loss = tf.reduce_mean(losses)
    correct = tf.reduce_sum(tf.cast(tf.equal(predictions, tf.cast(labels, tf.int32)), tf.int32))
    global_step = tf.train.get_or_create_global_step()
    train = tf.train.AdamOptimizer(learning_rate=0.001).minimize(loss, global_step=global_step)
    return Model(inputs, labels, loss, correct, train, tf.assign_add(global_step, 1), global_step, pictures, placed)


def _convolutions(images: Any) -> Any:
    for number, filters in enumerate((32, 64), 1):
        images = tf.layers.conv2d(images, filters, 3, padding="same", activation=tf.nn.relu, name="conv%d" % number,
                                  kernel_initializer=_initial(number))
        images = tf.layers.max_pooling2d(images, 2, 2, padding="same", name="pool%d" % number)
    return tf.layers.dense(tf.layers.flatten(images), 128, activation=tf.nn.relu, name="dense",
                           kernel_initializer=_initial(3))


def _initial(layer: int) -> Any:
    # the default of tf.layers, but with a seed that does not depend on the number of ops before
    return tf.glorot_uniform_initializer(seed=layer)
