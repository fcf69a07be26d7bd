"""The tutorial's three generators, untouched, on worker processes: see batches.py."""

import collections
import os

import batches
import numpy as np
import tensorflow as tf

import stoker


def train(data, checkpoint=None, epochs=5, audit=None, **options):
    """Trains a model for each generator, with a checkpoint and an audit of its own. Returns the loss of each epoch."""
    for generator, source in ((batches.numerical, 128), (batches.image, data), (batches.augmented, data)):
        name = generator.__name__
        losses = train_one(generator, source, checkpoint and os.path.join(checkpoint, name), epochs,
                           audit=audit and "%s-%s" % (audit, name), **options)
        if losses:
            print("%s: loss of each epoch: %s" % (name, ", ".join("%.3f" % loss for loss in losses)))
    return losses


def train_one(generator, source, checkpoint, epochs, **options):
    """``options``: further ones of stoker.open_stream."""
    losses = collections.defaultdict(list)
    with tf.Graph().as_default():
        x, y, loss, train_op = model(generator.arrays[0].shape)
        with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
                stoker.open_stream(source, generator, batch_size=16, epochs=epochs,
                                   start_step=session.run(tf.train.get_global_step()), **options) as stream:
            for batch in stream:
                losses[batch.epoch].append(session.run([loss, train_op], batch.feed(x=x, y=y))[0])
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model(shape):
    """Placeholders, loss and training step of a small network for inputs of this shape."""
    x, y = tf.placeholder(tf.float32, (None,) + shape), tf.placeholder(tf.int32, [None, 1])
    layer = x
    if len(shape) == 3:
        layer = tf.layers.flatten(tf.layers.max_pooling2d(tf.layers.conv2d(x, 16, 5, 2, activation=tf.nn.relu), 2, 2))
    loss = tf.losses.sigmoid_cross_entropy(y, tf.layers.dense(layer, 1))
    return x, y, loss, tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
