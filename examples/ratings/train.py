"""Predicts how ten ratings are distributed (Talebi and Milanfar, "NIMA", 2017), from a file with JSON lines."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import rated

import stoker


def train(data, checkpoint=None, epochs=10, **options):
    """Trains. ``options``: further ones of open_stream, as workers=3. Returns the loss of each epoch."""
    photos, ratings, loss, train_op = model()
    losses, held_out = collections.defaultdict(list), collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(stoker.jsonl(os.path.join(data, "ratings.jsonl")), rated, validation=0.2, batch_size=16,
                               epochs=epochs, start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            feed = batch.feed(photo=photos, ratings=ratings)
            if batch.training:
                losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
            else:
                held_out[batch.epoch].append(session.run(loss, feed))
    for epoch in sorted(held_out):
        print("epoch %d: loss of held-out photos %.3f" % (epoch + 1, np.mean(held_out[epoch])))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the earth mover's distance between the distributions, and the training step."""
    photos, ratings = tf.placeholder(tf.uint8, [None, 32, 32, 3]), tf.placeholder(tf.float32, [None, 10])
    x = tf.cast(photos, tf.float32) / 127.5 - 1
    for filters in (8, 16):
        x = tf.layers.max_pooling2d(tf.layers.conv2d(x, filters, 3, activation=tf.nn.relu), 2, 2)
    predicted = tf.nn.softmax(tf.layers.dense(tf.layers.flatten(x), 10))
    moved = tf.square(tf.cumsum(predicted, axis=1) - tf.cumsum(ratings, axis=1))
    loss = tf.reduce_mean(tf.sqrt(tf.reduce_mean(moved, axis=1) + 1e-6))
    return photos, ratings, loss, tf.train.AdamOptimizer(0.002).minimize(loss, tf.train.create_global_step())
