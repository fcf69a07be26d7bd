"""A language model of characters that keeps its state: row b of each batch continues row b of the batch before."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import LENGTH, window

import stoker

BATCH_SIZE = 16


def train(data, checkpoint=None, epochs=3, **options):
    """Trains. ``options``: further ones of open_stream, as workers=3. Returns the loss of each epoch."""
    # the text in BATCH_SIZE parts, side by side: a batch has one window of each part
    windows = (os.path.getsize(os.path.join(data, "book.txt")) - 1) // LENGTH // BATCH_SIZE      # of a part
    starts = [(part * windows + number) * LENGTH for number in range(windows) for part in range(BATCH_SIZE)]
    now, following, forget, loss, train_op = model()
    losses = collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(starts, window, root=data, order="sequential", batch_size=BATCH_SIZE, epochs=epochs,
                               start_step=session.run(tf.train.get_global_step()), **options) as stream:
        for batch in stream:
            if batch.rows[0] == 0:          # the text begins again
                session.run(forget)
            losses[batch.epoch].append(session.run([loss, train_op], batch.feed(now=now, next=following))[0])
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, what clears the state, the loss, and the training step."""
    now, following = (tf.placeholder(tf.uint8, [BATCH_SIZE, LENGTH]) for _ in range(2))
    cell = tf.nn.rnn_cell.GRUCell(64)
    state = tf.get_variable("state", [BATCH_SIZE, 64], trainable=False)       # a variable: checkpoints have it too
    outputs, last = tf.nn.dynamic_rnn(cell, tf.one_hot(now, 128), initial_state=state)
    loss = tf.losses.sparse_softmax_cross_entropy(tf.to_int32(following), tf.layers.dense(outputs, 128))
    step = tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
    with tf.control_dependencies([step]):
        train_op = tf.assign(state, last)
    return now, following, tf.assign(state, tf.zeros_like(state)), loss, train_op
