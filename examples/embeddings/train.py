"""Embeddings: P people with K pictures each in a batch, by an order of one's own; triplets are mined in the graph
(Hermans et al., 2017, "batch all")."""

import collections

import numpy as np
import tensorflow as tf
from batches import portrait

import stoker

P, K = 6, 4          # people, pictures of each
STEPS = 10           # an epoch


def order(epoch, random, source):
    """The indices of all batches of an epoch, one after the other."""
    pictures = collections.defaultdict(list)
    for index, person in enumerate(source.labels):
        pictures[person].append(index)
    return [index for _ in range(STEPS) for person in random.sample(sorted(pictures), P)
            for index in random.sample(pictures[person], K)]


def train(data, checkpoint=None, epochs=4, **options):
    """``options``: further ones of stoker.open_stream, as workers=3. Returns the loss of each epoch."""
    picture, person, loss, correct, train_op = model()
    losses, right = collections.defaultdict(list), collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(data, portrait, order=order, batch_size=P * K, epochs=epochs,
                               start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            values = session.run([loss, correct, train_op], batch.feed(picture=picture, person=person))
            losses[batch.epoch].append(values[0])
            right[batch.epoch].append(values[1])
    for epoch in sorted(right):
        print("epoch %d: the nearest picture is of the same person for %.0f%%" % (
            epoch + 1, 100 * np.mean(right[epoch])))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the loss, the share of pictures whose nearest one is of the same person, and the training step."""
    picture, person = tf.placeholder(tf.uint8, [None, 32, 32, 3]), tf.placeholder(tf.int32, [None])
    layer = tf.layers.conv2d(tf.to_float(picture) / 127.5 - 1, 16, 5, 2, activation=tf.nn.relu)
    layer = tf.layers.conv2d(layer, 16, 5, 2, activation=tf.nn.relu)
    embedding = tf.nn.l2_normalize(tf.layers.dense(tf.layers.flatten(layer), 16), axis=1)
    distance = 1 - tf.matmul(embedding, embedding, transpose_b=True)
    same = tf.equal(person[:, None], person[None, :])
    triplets = tf.to_float(same[:, :, None] & ~same[:, None, :])      # anchor, one of the same person, one of another
    violations = tf.nn.relu(0.2 + distance[:, :, None] - distance[:, None, :])
    loss = tf.reduce_sum(triplets * violations) / tf.reduce_sum(triplets)
    own = tf.eye(tf.shape(person)[0]) * 9       # a picture's distance to itself does not count
    neighbour = tf.gather(person, tf.argmin(distance + own, axis=1))
    correct = tf.reduce_mean(tf.to_float(tf.equal(neighbour, person)))
    return picture, person, loss, correct, tf.train.AdamOptimizer(0.002).minimize(loss, tf.train.create_global_step())
