"""Trains; then evaluates and predicts in order, with ten crops of each picture, whose predictions are averaged."""

import collections
import csv
import itertools
import os

import numpy as np
import tensorflow as tf
from batches import crops

import stoker


def train(data, checkpoint=None, epochs=12, audit=None, **options):
    """Trains, evaluates and predicts. ``options``: further ones of open_stream. Returns the loss of each epoch."""
    pictures, labels, loss, probabilities, train_op = model()
    losses = collections.defaultdict(list)

    def averaged(stream):
        """The path of each picture, and the probabilities of its classes: the average of its crops."""
        for batch in stream:
            of_crops = zip(batch.paths, session.run(probabilities, batch.feed(crop=pictures)))
            for path, group in itertools.groupby(of_crops, lambda crop: crop[0]):
                yield path, np.mean([values for _, values in group], axis=0)

    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session:
        with stoker.open_stream(os.path.join(data, "train"), crops, batch_size=12, epochs=epochs, audit=audit,
                                start_step=session.run(tf.train.get_global_step()), **options) as stream:
            for batch in stream:
                losses[batch.epoch].append(session.run([loss, train_op], batch.feed(crop=pictures, label=labels))[0])
        names = stream.classes
        with stoker.open_stream(os.path.join(data, "test"), crops, training=False, classes=names, **options) as stream:
            print("right: %.0f%%" % (100 * np.mean([path.startswith(names[values.argmax()] + "/")
                                                    for path, values in averaged(stream)])))
        with stoker.open_stream(os.path.join(data, "unlabelled"), crops, training=False, labels=False,
                                **options) as stream, open(os.path.join(data, "predictions.csv"), "w") as file:
            csv.writer(file).writerows((path, names[values.argmax()]) for path, values in averaged(stream))
            print("%s is written; bad files: %s" % (file.name, stream.skipped))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the loss, the probabilities of the classes, and the training step."""
    pictures, labels = tf.placeholder(tf.uint8, [None, 32, 32, 3]), tf.placeholder(tf.int32, [None])
    x = tf.cast(pictures, tf.float32) / 255.0
    for filters in (16, 32):
        x = tf.layers.max_pooling2d(tf.layers.conv2d(x, filters, 5, activation=tf.nn.relu), 2, 2)
    logits = tf.layers.dense(tf.layers.flatten(x), 3)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    train_op = tf.train.AdamOptimizer(0.003).minimize(loss, tf.train.create_global_step())
    return pictures, labels, loss, tf.nn.softmax(logits), train_op
