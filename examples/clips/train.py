"""Clips of 16 frames, each frame a file of its own, and a network with 3D convolutions."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import FRAMES, clip

import stoker


def train(data, checkpoint=None, epochs=8, **options):
    """Trains. ``options``: further ones of open_stream, as workers=3. Returns the loss of each epoch."""
    clips, directions, loss, train_op = model()
    losses = collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10,
                                           save_summaries_steps=None, log_step_count_steps=None) as session, \
            stoker.open_stream(stoker.csv(os.path.join(data, "clips.csv")), clip, batch_size=8, epochs=epochs,
                               start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            feed = batch.feed(clip=clips, direction=directions)
            losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
        print(stream.report())              # among others, which clips were skipped, and why
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the loss and the training step."""
    clips, directions = tf.placeholder(tf.uint8, [None, FRAMES, 16, 16, 3]), tf.placeholder(tf.int32, [None])
    x = tf.cast(clips, tf.float32) / 255.0
    for filters in (8, 16):
        x = tf.layers.conv3d(x, filters, 3, 2, activation=tf.nn.relu)
    loss = tf.losses.sparse_softmax_cross_entropy(directions, tf.layers.dense(tf.reduce_max(x, axis=[1, 2, 3]), 4))
    return clips, directions, loss, tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
