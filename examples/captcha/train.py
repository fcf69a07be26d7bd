"""Text recognition with CTC: texts and pictures of different lengths, which become harder with each epoch."""

import collections
import os

import numpy as np
import tensorflow as tf
from batches import HEIGHT, written

import stoker


def train(data, checkpoint=None, epochs=6, **options):
    """``options``: further ones of stoker.open_stream, as workers=3. Returns the loss of each epoch."""
    inputs, loss, wrong, train_op = model()
    losses, errors = collections.defaultdict(list), collections.defaultdict(list)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10) as session, \
            stoker.open_stream(stoker.lines(os.path.join(data, "texts.txt"), str), written, validation=0.2,
                               batch_size=8, epochs=epochs, start_step=session.run(tf.train.get_global_step()),
                               **options) as stream:
        for batch in stream:
            feed = batch.feed(**inputs)      # "text.sizes": the true lengths of the texts, which are padded
            if batch.training:
                losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
            else:
                errors[batch.epoch].append(session.run(wrong, feed))
    for epoch in sorted(errors):
        print("epoch %d: %.0f%% of the characters are wrong" % (epoch + 1, 100 * np.mean(errors[epoch])))
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders by the arrays' names, the loss, the share of wrong characters, and the training step."""
    sizes = {name: tf.placeholder(tf.int32, [None]) for name in ("picture.sizes", "text.sizes")}
    inputs = dict(sizes, picture=tf.placeholder(tf.uint8, [None, HEIGHT, None]),
                  text=tf.placeholder(tf.int32, [None, None]))
    # the pixels of a column are its features
    columns = tf.transpose(tf.to_float(inputs["picture"]) / 255, [0, 2, 1])
    layer = tf.layers.conv1d(columns, 128, 12, 5, padding="same", activation=tf.nn.relu)
    logits = tf.transpose(tf.layers.conv1d(layer, 11, 3, padding="same"), [1, 0, 2])      # ten digits and the blank
    lengths = inputs["picture.sizes"] // 5
    labels = tf.keras.backend.ctc_label_dense_to_sparse(inputs["text"], inputs["text.sizes"])
    loss = tf.reduce_mean(tf.nn.ctc_loss(labels, logits, lengths) / tf.to_float(inputs["text.sizes"]))
    read, _ = tf.nn.ctc_greedy_decoder(logits, lengths)
    wrong = tf.reduce_mean(tf.edit_distance(tf.to_int32(read[0]), labels))
    return inputs, loss, wrong, tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())
