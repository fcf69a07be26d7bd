"""Forty attributes a face from a text file, with a validation list; predictions by the names of their files."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import SIZE, face

import stoker


def faces(data, part):
    """The faces of this part: "0" for training, "1" for validation."""
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
    losses, right, predictions = collections.defaultdict(list), collections.defaultdict(list), {}
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(faces(data, "0"), face, validation=faces(data, "1"), batch_size=16, epochs=epochs,
                               start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            feed = batch.feed(face=picture, attributes=attributes)
            if batch.training:
                losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
            else:
                found = session.run(scores, feed) > 0
                right[batch.epoch].append(found == batch["attributes"])
                predictions.update(zip((row["file"] for row in batch.rows), found))
    for epoch in sorted(right):
        print("epoch %d: %.1f%% of the attributes are right" % (epoch + 1, 100 * np.concatenate(right[epoch]).mean()))
    for file in sorted(predictions)[:3]:
        print("%s has %d of the attributes" % (file, predictions[file].sum()))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, forty scores (above 0: it has the attribute), loss and training step."""
    picture, attributes = tf.placeholder(tf.uint8, (None,) + SIZE + (3,)), tf.placeholder(tf.bool, [None, 40])
    layer = tf.layers.average_pooling2d(tf.to_float(picture) / 127.5 - 1, 2, 2)
    scores = tf.layers.dense(tf.layers.flatten(layer), 40)
    loss = tf.losses.sigmoid_cross_entropy(attributes, scores)
    train_op = tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
    return picture, attributes, scores, loss, train_op
