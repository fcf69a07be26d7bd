"""A siamese network that tells whether two drawings show the same character, tried on characters it has never seen."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import SIZE, pair

import stoker


def half_of_them_same(index, random, drawings):
    """The partner of a drawing: half of the pairs are of the same character."""
    same, character = random.random() < 0.5, drawings.labels[index]
    others = [other for other, label in enumerate(drawings.labels) if (label == character) == same and other != index]
    return [random.choice(others)]


def train(data, checkpoint=None, epochs=10, audit=None, **options):
    """Trains. ``options``: further ones of open_stream, as workers=3. Returns the loss of each epoch."""
    left, right, same, loss, correct, train_op = model()
    losses = collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session:
        with stoker.open_stream(os.path.join(data, "seen"), pair, partners=half_of_them_same, batch_size=16,
                                epochs=epochs, start_step=session.run(tf.train.get_global_step()), audit=audit,
                                **options) as stream:
            for batch in stream:
                feed = batch.feed(left=left, right=right, same=same)
                losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
        with stoker.open_stream(os.path.join(data, "new"), pair, partners=half_of_them_same, training=False,
                                **options) as stream:
            found = [session.run(correct, batch.feed(left=left, right=right, same=same)) for batch in stream]
    print("right for %.0f%% of the pairs of new characters" % (100 * np.concatenate(found).mean()))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the contrastive loss (Hadsell et al., 2006), which are right, and the training step."""
    left, right = (tf.placeholder(tf.uint8, (None,) + SIZE) for _ in range(2))
    same = tf.placeholder(tf.float32, [None])

    def embedding(drawings):
        with tf.variable_scope("embedding", reuse=tf.AUTO_REUSE):
            x = tf.expand_dims(tf.cast(drawings, tf.float32) / 255.0, -1)
            for filters in (16, 32):
                x = tf.layers.max_pooling2d(tf.layers.conv2d(x, filters, 5, activation=tf.nn.relu), 2, 2)
            return tf.layers.dense(tf.layers.flatten(x), 16)

    distance = tf.sqrt(tf.reduce_sum(tf.square(embedding(left) - embedding(right)), axis=1) + 1e-6)
    loss = tf.reduce_mean(same * tf.square(distance) + (1 - same) * tf.square(tf.maximum(0.0, 1 - distance)))
    correct = tf.to_float(tf.equal(distance < 0.5, same > 0.5))
    train_op = tf.train.AdamOptimizer(0.002).minimize(loss, tf.train.create_global_step())
    return left, right, same, loss, correct, train_op
