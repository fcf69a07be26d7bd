"""A GAN: pictures without labels, and full batches only, so that the graph can have a fixed batch size."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import face

import stoker

BATCH_SIZE = 16


def train(data, checkpoint=None, epochs=10, **options):
    """Trains. ``options``: further ones of open_stream, as workers=3. Returns the discriminator's loss of each epoch.
    """
    real, loss, train_op = model()
    losses = collections.defaultdict(list)
    # drop_last leaves out the short batch at the end of an epoch; "replace" takes another picture for a bad one
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(stoker.files(os.path.join(data, "**/*.png")), face, batch_size=BATCH_SIZE,
                               drop_last=True, on_bad_image="replace", epochs=epochs,
                               start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            losses[batch.epoch].append(session.run([loss, train_op], batch.feed(image=real))[0])
        for path, reason in stream.skipped.items():
            print("replaced %s: %s" % (path, reason))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """The placeholder, the discriminator's loss, and the training step of both networks."""
    real = tf.placeholder(tf.uint8, [BATCH_SIZE, 32, 32, 3])
    with tf.variable_scope("generator"):
        x = tf.layers.dense(tf.random_normal([BATCH_SIZE, 32]), 8 * 8 * 32, tf.nn.relu)
        x = tf.layers.conv2d_transpose(tf.reshape(x, [BATCH_SIZE, 8, 8, 32]), 16, 4, 2, "same", activation=tf.nn.relu)
        made = tf.layers.conv2d_transpose(x, 3, 4, 2, "same", activation=tf.tanh)

    def looks_real(pictures):
        with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE):
            for filters in (16, 32):
                pictures = tf.layers.conv2d(pictures, filters, 4, 2, "same", activation=tf.nn.leaky_relu)
            return tf.layers.dense(tf.layers.flatten(pictures), 1)

    of_real, of_made = looks_real(tf.cast(real, tf.float32) / 127.5 - 1), looks_real(made)
    ones, zeros = tf.ones_like(of_real), tf.zeros_like(of_made)
    loss = tf.losses.sigmoid_cross_entropy(ones, of_real) + tf.losses.sigmoid_cross_entropy(zeros, of_made)
    steps = [tf.train.AdamOptimizer(0.001, 0.5).minimize(value, step, tf.trainable_variables(network))
             for value, step, network in (
                 (loss, tf.train.create_global_step(), "discriminator"),
                 (tf.losses.sigmoid_cross_entropy(ones, of_made), None, "generator"))]
    return real, loss, tf.group(*steps)
