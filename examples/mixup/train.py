"""Mixup: each picture is mixed with another one, which travels with it as its partner."""

import collections

import numpy as np
import tensorflow as tf
from batches import CLASSES, mixed

import stoker


def train(data, checkpoint=None, epochs=12, **options):
    """Trains. ``options``: further ones of open_stream, as workers=3. Returns the loss of each epoch."""
    images, targets, loss, correct, train_op = model()
    losses, held_out = collections.defaultdict(list), collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(data, mixed, partners=1, validation=0.2, batch_size=16, epochs=epochs,
                               start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            feed = batch.feed(image=images, target=targets)
            if batch.training:
                losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
            else:
                held_out[batch.epoch].extend(session.run(correct, feed))
    for epoch in sorted(held_out):
        print("epoch %d: right for %.0f%% of the held-out pictures" % (epoch + 1, 100 * np.mean(held_out[epoch])))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the loss, which are right, and the training step."""
    images = tf.placeholder(tf.float32, [None, 32, 32, 3])
    targets = tf.placeholder(tf.float32, [None, CLASSES])
    x = images
    for filters in (16, 32):
        x = tf.layers.max_pooling2d(tf.layers.conv2d(x, filters, 5, activation=tf.nn.relu), 2, 2)
    logits = tf.layers.dense(tf.layers.flatten(x), CLASSES)
    loss = tf.losses.softmax_cross_entropy(targets, logits)
    correct = tf.to_float(tf.equal(tf.argmax(logits, axis=1), tf.argmax(targets, axis=1)))
    train_op = tf.train.AdamOptimizer(0.003).minimize(loss, tf.train.create_global_step())
    return images, targets, loss, correct, train_op
