"""The built-in models, those of the tutorial: a small CNN for pictures, logistic regression for numerical records.

They are model functions like a user's own: see ``trainer/model.py``.
"""

from typing import Any, Dict, Sequence

import tensorflow as tf

from stoker.pipeline.arrays import ArraySpec
from stoker.trainer.model import ModelFunction


def serves(arrays: Sequence[ArraySpec], classes: int) -> bool:
    """Whether the built-in model can train on ``arrays``: pictures or numerical records, and their labels."""
    inputs, labels = arrays[0], arrays[-1]
    return (len(arrays) == 2 and classes >= 2 and (labels.name, labels.dtype, labels.shape) == ("labels", "int32", (1,))
            and (inputs.name, inputs.dtype, inputs.upto) in (("features", "float32", ()), ("images", "uint8", ()))
            and len(inputs.shape) == (1 if inputs.name == "features" else 3))


def classifier(classes: int) -> ModelFunction:
    """The model function for two arrays, inputs and labels int32 [n, 1], the numbers of ``classes`` classes.

    Two classes get one sigmoid output, more classes a softmax. Its predictions are float32 [n, classes], which sum to 1
    for each sample. The initial weights depend on the graph's seed only.
    """
    def model(arrays: Dict[str, Any], training: Any) -> Dict[str, Any]:
        inputs, labels = arrays.values()
        if inputs.shape.ndims == 4:
            images = scaled(inputs) if inputs.dtype == tf.uint8 else inputs
            tf.summary.image("inputs", images, max_outputs=4)
            features = _convolutions(images)
        else:
            features = tf.cast(inputs, tf.float32)
        outputs = tf.layers.dense(features, 1 if classes == 2 else classes, name="outputs",
                                  kernel_initializer=_initial(4))
        if classes == 2:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, tf.float32), logits=outputs)
            predicted = tf.cast(outputs > 0, tf.int32)
            scores = tf.concat([tf.sigmoid(-outputs), tf.sigmoid(outputs)], axis=1)
        else:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels[:, 0], logits=outputs)
            predicted = tf.argmax(outputs, axis=1, output_type=tf.int32)[:, tf.newaxis]
            scores = tf.nn.softmax(outputs)
        correct = tf.cast(tf.equal(predicted, tf.cast(labels, tf.int32)), tf.float32)
        return {"loss": tf.reduce_mean(losses), "metrics": {"accuracy": tf.reduce_mean(correct)}, "predictions": scores}
    return model


def scaled(images: Any) -> Any:
    """uint8 -> float32 in 0..1, in the graph: the same bits as ``np.float32(np.array(image) / 255.0)``."""
    # a multiplication by 1/255 gives a wrong bit for half the values; TensorFlow's optimizer makes one of a constant
    return tf.div(tf.cast(images, tf.float32), tf.placeholder_with_default(255.0, ()))


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
