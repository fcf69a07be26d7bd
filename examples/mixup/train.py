"""Mixup: each picture is mixed with another one, which travels with it as its partner."""

import batches
import tensorflow as tf

import stoker


def train(data, checkpoint=None, epochs=20, audit=None, **options):
    """Trains. ``options``: further ones of stoker.open_stream. Returns the loss of each epoch."""
    with tf.Graph().as_default():
        images, targets, loss, correct, train_op = model()
        with tf.train.MonitoredTrainingSession(checkpoint_dir=checkpoint, save_checkpoint_steps=10,
                                               save_summaries_steps=None, log_step_count_steps=None) as session, \
                stoker.open_stream(data, batches.mixed, partners=1, validation=0.2, batch_size=16, epochs=epochs,
                                   start_step=session.run(tf.train.get_global_step()), audit=audit,
                                   **options) as stream:
            of_epochs, held_out = [[] for _ in range(epochs)], [[] for _ in range(epochs)]
            for batch in stream:
                feed = batch.feed(image=images, target=targets)
                if batch.training:
                    of_epochs[batch.epoch].append(session.run([loss, train_op], feed)[0])
                else:
                    held_out[batch.epoch].extend(session.run(correct, feed))
    print("held out: right in each epoch: %s" % ", ".join("%.0f%%" % (100 * sum(part) / len(part))
                                                          for part in held_out if part))
    return [sum(values) / len(values) for values in of_epochs if values]


def model():
    """Placeholders, the loss, what is right, and the training step."""
    images = tf.placeholder(tf.float32, [None, 32, 32, 3])
    targets = tf.placeholder(tf.float32, [None, batches.CLASSES])
    x = images
    for filters in (16, 32):
        x = tf.layers.max_pooling2d(tf.layers.conv2d(x, filters, 5, activation=tf.nn.relu), 2, 2)
    logits = tf.layers.dense(tf.layers.flatten(x), batches.CLASSES)
    loss = tf.losses.softmax_cross_entropy(targets, logits)
    correct = tf.to_float(tf.equal(tf.argmax(logits, axis=1), tf.argmax(targets, axis=1)))
    return images, targets, loss, correct, tf.train.AdamOptimizer(0.003).minimize(loss, tf.train.create_global_step())
