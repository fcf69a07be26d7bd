"""Clips of 16 frames, each frame a file of its own, and a network with 3D convolutions."""

import os

import batches
import tensorflow as tf

import stoker


def train(data, checkpoint=None, epochs=6, audit=None, **options):
    """Trains. ``options``: further ones of stoker.open_stream. Returns the loss of each epoch."""
    with tf.Graph().as_default():
        clips, directions, loss, train_op = model()
        with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10,
                                               save_summaries_steps=None, log_step_count_steps=None) as session, \
                stoker.open_stream(stoker.csv(os.path.join(data, "clips.csv")), batches.clip, batch_size=8,
                                   epochs=epochs, start_step=session.run(tf.train.get_global_step()), audit=audit,
                                   **options) as stream:
            of_epochs = [[] for _ in range(epochs)]
            for batch in stream:
                feed = batch.feed(clip=clips, direction=directions)
                of_epochs[batch.epoch].append(session.run([loss, train_op], feed)[0])
            print(stream.report())          # among others, which clips were skipped, and why
    return [sum(values) / len(values) for values in of_epochs if values]


def model():
    """Placeholders, the loss and the training step."""
    clips, directions = tf.placeholder(tf.uint8, [None, batches.FRAMES, 32, 32, 3]), tf.placeholder(tf.int32, [None])
    x = tf.cast(clips, tf.float32) / 255.0
    for filters in (8, 16):
        x = tf.layers.max_pooling3d(tf.layers.conv3d(x, filters, 3, padding="same", activation=tf.nn.relu), 2, 2)
    loss = tf.losses.sparse_softmax_cross_entropy(directions, tf.layers.dense(tf.reduce_max(x, axis=[1, 2, 3]), 4))
    return clips, directions, loss, tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
