"""Forty attributes a face from a text file, with a validation list, and predictions that name their files."""

import collections
import csv
import os

import numpy as np
import tensorflow as tf
from batches import SIZE, face

import stoker


def faces(data, part):
    """The faces of this part: "0" training, "1" validation, "2" testing."""
    with open(os.path.join(data, "list_eval_partition.txt")) as file:
        parts = dict(line.split() for line in file)

    def parse(line):
        name, *values = line.split()
        if parts.get(name) == part:      # the first two lines are no faces
            return {"file": "img_align_celeba/" + name, "attributes": [int(value) for value in values]}

    return stoker.lines(os.path.join(data, "list_attr_celeba.txt"), parse)


def train(data, checkpoint=None, epochs=4, **options):
    """``options``: further ones of stoker.open_stream, as workers=3. Returns the loss of each epoch."""
    picture, attributes, scores, loss, train_op = model()
    losses, errors = collections.defaultdict(list), collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10,
                                           save_summaries_steps=None, log_step_count_steps=None) as session:
        with stoker.open_stream(faces(data, "0"), face, validation=faces(data, "1"), batch_size=16, epochs=epochs,
                                start_step=session.run(tf.train.get_global_step()), **options) as stream:
            for batch in stream:
                feed = batch.feed(face=picture, attributes=attributes)
                if batch.training:
                    losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
                else:
                    wrong = (session.run(scores, feed) > 0) != batch["attributes"]
                    errors[batch.epoch].append(wrong.mean())
        predict(data, session, picture, scores, options.get("worker_python"))
    for epoch in sorted(errors):
        print("epoch %d: %.1f%% of the attributes are right" % (epoch + 1, 100 - 100 * np.mean(errors[epoch])))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def predict(data, session, picture, scores, worker_python):
    """Writes DATA/predictions.csv: a file name and forty scores for each face of the test set, in its order."""
    with open(os.path.join(data, "predictions.csv"), "w", newline="") as file, \
            stoker.open_stream(faces(data, "2"), face, training=False, batch_size=16, workers=1,
                               worker_python=worker_python) as stream:
        table = csv.writer(file)
        for batch in stream:
            for row, values in zip(batch.rows, session.run(scores, batch.feed(face=picture))):
                table.writerow([row["file"]] + ["%.3f" % value for value in values])


def model():
    """Placeholders, forty scores (above 0: it has the attribute), loss and training step."""
    picture, attributes = tf.placeholder(tf.uint8, (None,) + SIZE + (3,)), tf.placeholder(tf.bool, [None, 40])
    layer = tf.layers.average_pooling2d(tf.to_float(picture) / 127.5 - 1, 2, 2)
    scores = tf.layers.dense(tf.layers.flatten(layer), 40)
    loss = tf.losses.sigmoid_cross_entropy(attributes, scores)
    train_op = tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
    return picture, attributes, scores, loss, train_op
