"""Several trainers with Horovod: each rank trains on its part of every batch, and they average their gradients."""

import collections

import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf
from batches import picture

import stoker


def train(data, checkpoint=None, epochs=4, audit=None, port=None, **options):
    """``port``: rank r listens at ``port`` + r of this host (None: any port). ``options``: further ones of
    stoker.open_stream, as workers=3. Returns the loss of each epoch, which is the same on every rank."""
    hvd.init()
    rank, losses = hvd.rank(), collections.defaultdict(list)
    bind = "tcp://127.0.0.1:%s" % ("*" if port is None else port + rank)
    pixels, label, loss, train_op = model()
    config = tf.ConfigProto()
    config.gpu_options.visible_device_list = str(hvd.local_rank())      # one GPU for each rank; no effect without GPUs
    # Rank 0 alone restores and checkpoints. When the session is there, the hook has sent its variables to every rank,
    # global_step among them.
    with tf.train.MonitoredTrainingSession(
            checkpoint_dir=checkpoint if rank == 0 else None, save_checkpoint_steps=10, config=config,
            hooks=[hvd.BroadcastGlobalVariablesHook(0)]) as session, \
        stoker.open_stream(
            data, picture, batch_size=24, epochs=epochs, rank=rank, ranks=hvd.size(),
            # Parts of a short last batch differ in size or are empty: their mean gradients must not weigh the same.
            drop_last=True,
            start_step=session.run(tf.train.get_global_step()), bind=bind,
            audit=audit and "%s-%d" % (audit, rank), **options) as stream:
        for batch in stream:
            feed = batch.feed(picture=pixels, label=label)
            losses[batch.epoch].append(session.run([loss, train_op], feed)[0])
    return [np.mean(losses[epoch]) for epoch in sorted(losses)]


def model():
    """Placeholders, the loss of the whole batch, and the training step."""
    pixels, label = tf.placeholder(tf.uint8, [None, 32, 32, 3]), tf.placeholder(tf.int32, [None])
    layer = tf.layers.conv2d(tf.to_float(pixels) / 127.5 - 1, 16, 5, 2, activation=tf.nn.relu)
    layer = tf.layers.conv2d(layer, 16, 5, 2, activation=tf.nn.relu)
    loss = tf.losses.sparse_softmax_cross_entropy(label, tf.layers.dense(tf.layers.flatten(layer), 4))
    optimizer = hvd.DistributedOptimizer(tf.train.AdamOptimizer(0.002))
    return pixels, label, hvd.allreduce(loss), optimizer.minimize(loss, tf.train.create_global_step())
