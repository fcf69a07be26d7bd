"""Steering angles from a CSV with three cameras; pictures are shifted and flipped together with their angle."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import SIZE, drive

import stoker


def train(data, checkpoint=None, epochs=4, **options):
    """``options``: further ones of stoker.open_stream, as workers=3. Returns the loss of each epoch."""
    image, steering, loss, train_op = model()
    losses, errors = collections.defaultdict(list), collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(stoker.csv(os.path.join(data, "driving_log.csv")), drive, validation=0.2, batch_size=8,
                               epochs=epochs, start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            feed = batch.feed(image=image, steering=steering)
            if batch.training:
                losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
            else:
                errors[batch.epoch].append(session.run(loss, feed))
    for epoch in sorted(errors):
        print("epoch %d: error of the angle %.3f" % (epoch + 1, np.sqrt(np.mean(errors[epoch]))))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the mean squared error of the angle, and the training step."""
    image, steering = tf.placeholder(tf.uint8, (None,) + SIZE + (3,)), tf.placeholder(tf.float32, [None])
    layer = tf.to_float(image) / 127.5 - 1
    for filters in (8, 16):
        layer = tf.layers.conv2d(layer, filters, 5, 2, activation=tf.nn.relu)
    angle = tf.layers.dense(tf.layers.dense(tf.layers.flatten(layer), 32, tf.nn.relu), 1)[:, 0]
    loss = tf.losses.mean_squared_error(steering, angle)
    return image, steering, loss, tf.train.AdamOptimizer(0.003).minimize(loss, tf.train.create_global_step())
