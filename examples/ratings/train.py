"""Predicts how ten ratings are distributed (Talebi and Milanfar, "NIMA", 2017), from a file with JSON lines."""

import os

import batches
import tensorflow as tf

import stoker


def train(data, checkpoint=None, epochs=10, audit=None, **options):
    """Trains. ``options``: further ones of stoker.open_stream. Returns the loss of each epoch."""
    with tf.Graph().as_default():
        photos, ratings, loss, train_op = model()
        with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10,
                                               save_summaries_steps=None, log_step_count_steps=None) as session, \
                stoker.open_stream(stoker.jsonl(os.path.join(data, "ratings.jsonl")), batches.rated, validation=0.2,
                                   batch_size=16, epochs=epochs, start_step=session.run(tf.train.get_global_step()),
                                   audit=audit, **options) as stream:
            of_epochs, held_out = [[] for _ in range(epochs)], [[] for _ in range(epochs)]
            for batch in stream:
                feed = batch.feed(photo=photos, ratings=ratings)
                if batch.training:
                    of_epochs[batch.epoch].append(session.run([loss, train_op], feed)[0])
                else:
                    held_out[batch.epoch].append(session.run(loss, feed))
    print("held out: loss of each epoch: %s" % ", ".join("%.3f" % (sum(part) / len(part)) for part in held_out if part))
    return [sum(values) / len(values) for values in of_epochs if values]


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
