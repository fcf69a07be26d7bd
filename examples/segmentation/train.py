"""Segmentation: a class for each pixel. Pictures and masks lie in two folders."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import SIDE, cropped

import stoker

CLASSES = 3


def train(data, checkpoint=None, epochs=4, **options):
    """``options``: further ones of stoker.open_stream, as workers=3. Returns the loss of each epoch."""
    rows = [{"picture": "pictures/" + name, "mask": "masks/" + name}
            for name in sorted(os.listdir(os.path.join(data, "pictures")))]
    picture, mask, loss, correct, train_op = model()
    losses, right = collections.defaultdict(list), collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(rows, cropped, root=data, validation=0.2, batch_size=8, epochs=epochs,
                               start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            feed = batch.feed(picture=picture, mask=mask)
            if batch.training:
                losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
            else:
                right[batch.epoch].append(session.run(correct, feed))
    for epoch in sorted(right):
        print("epoch %d: %.1f%% of the pixels are right" % (epoch + 1, 100 * np.mean(right[epoch])))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, loss, the share of pixels that are right, and the training step."""
    picture = tf.placeholder(tf.uint8, [None, SIDE, SIDE, 3])
    mask = tf.placeholder(tf.uint8, [None, SIDE, SIDE])
    layer, labels = tf.to_float(picture) / 127.5 - 1, tf.to_int32(mask)
    for rate in (1, 2, 4):
        layer = tf.layers.conv2d(layer, 8, 3, padding="same", dilation_rate=rate, activation=tf.nn.relu)
    logits = tf.layers.conv2d(layer, CLASSES, 1)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    correct = tf.reduce_mean(tf.to_float(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), labels)))
    return picture, mask, loss, correct, tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
