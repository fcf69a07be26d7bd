"""A rank that trains an Estimator and a model of tf.keras with Horovod, each on the batches of the example.

    horovodrun -np 2 PYTHON -m tests.engines.horovod_adapters FOLDER DATA WORKER_PYTHON EPOCHS estimator keras

Writes the audits FOLDER/estimator-RANK and FOLDER/keras-RANK, and prints "weights of rank R: ..." of each. The
Estimator resumes from rank 0's checkpoint; Keras begins anew.
"""

import os
import sys
import zlib

import horovod.tensorflow as hvd
import horovod.tensorflow.keras as hvd_keras
import tensorflow as tf

from examples import run

import stoker


def layers(pixels):
    """Four scores of each picture."""
    layer = tf.layers.conv2d(tf.to_float(pixels) / 127.5 - 1, 8, 5, 2, activation=tf.nn.relu)
    return tf.layers.dense(tf.layers.flatten(layer), 4)


def train_keras(data, options):
    scale = tf.keras.layers.Lambda(lambda pixels: tf.to_float(pixels) / 127.5 - 1)
    pixels = tf.keras.layers.Input((32, 32, 3), dtype="uint8")
    layer = tf.keras.layers.Flatten()(tf.keras.layers.Conv2D(8, 5, strides=2, activation="relu")(scale(pixels)))
    model = tf.keras.models.Model(pixels, tf.keras.layers.Dense(4, activation="softmax")(layer))
    model.compile(hvd_keras.DistributedOptimizer(tf.keras.optimizers.Adam(0.002)), "sparse_categorical_crossentropy")
    with stoker.open_stream(data, picture(), **options) as stream:
        model.fit_generator(**stoker.keras(stream, x="picture", y="label"), verbose=0,
                            callbacks=[hvd_keras.callbacks.BroadcastGlobalVariablesCallback(0)])
    return model.get_weights()


def train_estimator(data, model_dir, options):
    def model(features, labels):
        loss = tf.losses.sparse_softmax_cross_entropy(labels, layers(features))
        optimizer = hvd.DistributedOptimizer(tf.train.AdamOptimizer(0.002))
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(tf.estimator.ModeKeys.TRAIN, loss=loss, train_op=train_op)

    config = tf.estimator.RunConfig(save_checkpoints_steps=10)
    estimator = tf.estimator.Estimator(model, model_dir, config)
    estimator.train(stoker.input_fn(data, picture(), features="picture", labels="label", **options),
                    hooks=[hvd.BroadcastGlobalVariablesHook(0)])
    return [estimator.get_variable_value(name) for name in estimator.get_variable_names() if "/" in name]


def picture():
    import batches
    return batches.picture


def main(folder, data, worker_python, epochs, *names):
    run.load("horovod", data)
    hvd.init()
    for name in names:
        options = {"batch_size": 24, "epochs": int(epochs), "drop_last": True, "rank": hvd.rank(), "ranks": hvd.size(),
                   "workers": 2, "worker_python": worker_python,
                   "audit": os.path.join(folder, "%s-%d" % (name, hvd.rank()))}
        with tf.Graph().as_default():
            weights = (train_keras(data, options) if name == "keras" else
                       train_estimator(data, os.path.join(folder, "model-%d" % hvd.rank()), options))
        checksum = sum(zlib.crc32(array.tobytes()) for array in weights)
        print("weights of rank %d: %d" % (hvd.rank(), checksum), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
