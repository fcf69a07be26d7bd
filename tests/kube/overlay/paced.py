"""A model and a worker's function that take their time: so a test decides how many workers are needed, and when."""

import os
import time

PICTURE_S = float(os.environ.get("PACED_PICTURE_S", "0"))       # of a worker, for each picture
PACE_FILE = os.environ.get("PACED_FILE", "")                    # seconds of the trainer, for each step


def picture(picture, random):
    """The same picture, later."""
    time.sleep(PICTURE_S)
    return picture


def _pause(value):
    try:
        with open(PACE_FILE) as file:
            time.sleep(float(file.read()))
    except (OSError, ValueError):       # no file, or one that is just being written
        pass
    return value


def model(arrays, training):
    """Logistic regression on the pixels."""
    import tensorflow as tf             # not in a worker
    pixels = tf.layers.flatten(tf.cast(arrays["images"], tf.float32) / 255.0)
    loss = tf.losses.sigmoid_cross_entropy(arrays["labels"], tf.layers.dense(pixels, 1))
    paused = tf.py_func(_pause, [loss], tf.float32)
    with tf.control_dependencies([paused]):
        return {"loss": tf.identity(loss)}
