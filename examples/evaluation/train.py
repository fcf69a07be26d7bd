"""Trains; then evaluates and predicts in order, with ten crops of each picture, whose predictions are averaged."""

import collections
import csv
import os

import batches
import numpy as np
import tensorflow as tf

import stoker

CLASSES = ["circle", "cross", "square"]


def train(data, checkpoint=None, epochs=20, audit=None, **options):
    """Trains, evaluates, predicts. ``options``: further ones of stoker.open_stream. Returns the loss of each epoch."""
    train_on, test, unlabelled = (os.path.join(data, part) for part in ("train", "test", "unlabelled"))
    with tf.Graph().as_default():
        crops, labels, loss, probabilities, train_op = model()

        def averages(stream):
            """{path: probabilities, the average of all its crops}"""
            of_paths = collections.OrderedDict()
            for batch in stream:
                for path, values in zip(batch.paths, session.run(probabilities, batch.feed(crop=crops))):
                    of_paths.setdefault(path, []).append(values)
            return collections.OrderedDict((path, np.mean(values, axis=0)) for path, values in of_paths.items())

        with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10,
                                               save_summaries_steps=None, log_step_count_steps=None) as session:
            with stoker.open_stream(train_on, batches.crops, classes=CLASSES, batch_size=12, epochs=epochs, audit=audit,
                                    start_step=session.run(tf.train.get_global_step()), **options) as stream:
                of_epochs = [[] for _ in range(epochs)]
                for batch in stream:
                    feed = batch.feed(crop=crops, label=labels)
                    of_epochs[batch.epoch].append(session.run([loss, train_op], feed)[0])
            with stoker.open_stream(test, batches.crops, classes=CLASSES, training=False, **options) as stream:
                right = [path.startswith(CLASSES[values.argmax()]) for path, values in averages(stream).items()]
            print("right for %.0f%% of %d pictures" % (100 * np.mean(right), len(right)))
            with stoker.open_stream(unlabelled, batches.crops, labels=False, training=False, **options) as stream, \
                    open(os.path.join(checkpoint or data, "predictions.csv"), "w", newline="") as file:
                csv.writer(file).writerows([path, CLASSES[values.argmax()], "%.3f" % values.max()]
                                           for path, values in averages(stream).items())
                print("%s; bad files: %s" % (file.name, stream.skipped))
    return [sum(values) / len(values) for values in of_epochs if values]


def model():
    """Placeholders, the loss, the probabilities of the classes, and the training step."""
    crops, labels = tf.placeholder(tf.uint8, [None, 32, 32, 3]), tf.placeholder(tf.int32, [None])
    x = tf.cast(crops, tf.float32) / 255.0
    for filters in (16, 32):
        x = tf.layers.max_pooling2d(tf.layers.conv2d(x, filters, 5, activation=tf.nn.relu), 2, 2)
    logits = tf.layers.dense(tf.layers.flatten(x), len(CLASSES))
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    return crops, labels, loss, tf.nn.softmax(logits), tf.train.AdamOptimizer(0.003).minimize(
        loss, tf.train.create_global_step())
