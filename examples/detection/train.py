"""Detection with Keras: the model has four inputs and computes its own loss from them, as YOLO programs do."""

import os

import tensorflow as tf
from batches import GRIDS, SIDE, TARGET, detection

import stoker

layers, K = tf.keras.layers, tf.keras.backend


def train(data, checkpoint=None, epochs=4, **options):
    """``options``: further ones of stoker.open_stream, as workers=3. Returns the loss of each epoch."""
    network, callbacks = model(checkpoint)
    with stoker.open_stream(stoker.jsonl(os.path.join(data, "boxes.jsonl")), detection, batch_size=8, epochs=epochs,
                            start_step=int(K.get_value(network.optimizer.iterations)), **options) as stream:
        arguments = stoker.keras(stream, x=["picture", "boxes", "fine", "coarse"])      # no y: the loss is in the model
        history = network.fit_generator(callbacks=callbacks, verbose=2, **arguments)
    return history.history.get("loss", [])


def model(checkpoint):
    """A network whose output is its loss, restored from the newest checkpoint, and the callbacks that save others."""
    picture = layers.Input((SIDE, SIDE, 3), dtype="uint8", name="picture")
    boxes = layers.Input((None, 4), name="boxes")
    targets = [layers.Input((cells, cells, TARGET), name=name) for name, cells in GRIDS.items()]
    layer, outputs = layers.Lambda(lambda x: tf.to_float(x) / 127.5 - 1)(picture), []
    for filters, cells in ((16, 32), (24, 16), (32, 8)):
        layer = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(layer)
        if cells in GRIDS.values():
            outputs.append(layers.Conv2D(TARGET, 1)(layer))
    loss = layers.Lambda(loss_of, name="loss")([boxes] + targets + outputs)
    network = tf.keras.Model([picture, boxes] + targets, loss)
    network.compile(tf.keras.optimizers.Adam(0.003), loss=lambda zeros, loss: loss)
    if not checkpoint:
        return network, []
    saver = tf.train.Saver(network.weights + [network.optimizer.iterations])     # Adam's moments begin anew
    if tf.train.latest_checkpoint(checkpoint):
        saver.restore(K.get_session(), tf.train.latest_checkpoint(checkpoint))

    def save(epoch, logs):
        saver.save(K.get_session(), os.path.join(checkpoint, "model"), epoch)

    return network, [tf.keras.callbacks.LambdaCallback(on_epoch_end=save)]


def loss_of(inputs):
    """[n, 1]: the loss of each picture. A cell in a box of another cell's object is neither right nor wrong."""
    boxes, targets, outputs = inputs[0], inputs[1:3], inputs[3:5]
    total = 0.0
    for target, output in zip(targets, outputs):
        cells = int(target.shape[1])
        middles = (tf.range(cells, dtype=tf.float32) + 0.5) / cells
        # boxes that batches are padded with are empty: no cell lies in them
        inside = [(middles > boxes[:, :, i, None]) & (middles < boxes[:, :, i + 2, None]) for i in (0, 1)]
        covered = tf.reduce_any(inside[0][:, :, None, :] & inside[1][:, :, :, None], axis=1)
        there = target[..., 0]
        counts = tf.where(covered, there, tf.ones_like(there))
        found = tf.nn.sigmoid_cross_entropy_with_logits(labels=there, logits=output[..., 0])
        place = tf.reduce_sum(tf.square(target[..., 1:5] - tf.sigmoid(output[..., 1:5])), axis=-1)
        kind = tf.nn.softmax_cross_entropy_with_logits_v2(labels=target[..., 5:], logits=output[..., 5:])
        total += tf.reduce_sum(counts * found + there * (5 * place + kind), axis=[1, 2])
    return total[:, None]
