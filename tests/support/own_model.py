"""A data set of rows, with functions and models of a user's own, for the command line."""

import os

import numpy as np
from PIL import Image

FUNCTIONS = '''
import numpy as np
import stoker

@stoker.sample({"image": ("uint8", (6, 8, 3)), "value": "float32", "marks": ("int16", (stoker.UpTo(4), 2))})
def drive(sample, random):
    value = float(sample.row.get("value", -1))
    image = np.asarray(sample.image(sample.row["picture"], size=(6, 8)))
    if sample.training and random.random() < 0.5:
        image = image[:, ::-1]
    return {"image": image, "value": value, "marks": np.full((random.randrange(5), 2), sample.index, np.int16)}

@stoker.sample({"images": ("uint8", (6, 8, 3)), "labels": ("int32", (1,))})
def pictures(sample, random):
    return sample.image(size=(6, 8)), [sample.label]

@stoker.batch({"image": ("uint8", (6, 8, 3)), "value": "float32"})
def old(samples, random):
    images = [np.asarray(sample.image(sample.row["picture"], size=(6, 8))) for sample in samples]
    return np.stack(images), np.random.uniform(size=len(samples))

def darker(picture, random):
    return picture.point(lambda value: value // 2)

def nothing(sample, random):
    return {}
'''

MODELS = '''
import tensorflow as tf

def mean(arrays):
    return tf.reduce_mean(tf.to_float(arrays["image"]), axis=[1, 2, 3]) / 255

def model(arrays, training):
    hidden = tf.layers.dense(tf.layers.flatten(tf.to_float(arrays["image"]) / 255), 4,
                             kernel_initializer=tf.glorot_uniform_initializer(seed=1))
    hidden = tf.layers.batch_normalization(hidden, momentum=0.7, training=training)
    value = tf.layers.dense(hidden, 1, kernel_initializer=tf.glorot_uniform_initializer(seed=2))[:, 0]
    error = tf.abs(value - arrays["value"])
    marks = tf.to_float(tf.reduce_max(arrays["marks.sizes"]))
    return {"loss": tf.reduce_mean(error ** 2), "metrics": {"error": tf.reduce_mean(error), "most marks": marks},
            "predictions": value}

def brightness(arrays, training):
    count = tf.get_variable("count", (), tf.float32, tf.zeros_initializer())
    return {"loss": tf.reduce_mean(mean(arrays)), "train": tf.assign_add(count, 1), "predictions": mean(arrays)}

def twice(arrays, training):
    weight = tf.get_variable("weight", ())
    loss, step = (weight - tf.reduce_mean(mean(arrays))) ** 2, tf.train.get_global_step()
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    return {"loss": loss, "train": [optimizer.minimize(loss, step), optimizer.minimize(-loss, step)]}

def silent(arrays, training):
    return {"loss": tf.reduce_mean(tf.layers.dense(mean(arrays)[:, tf.newaxis], 1))}

def fails(arrays, training):
    values = tf.layers.dense(mean(arrays)[:, tf.newaxis], 1)
    odd = tf.reshape(values, (17, -1))
    return {"loss": tf.reduce_mean(odd), "predictions": values}

def divides(arrays, training):
    zero = 0 * tf.reduce_sum(arrays["value"])
    return {"loss": zero / zero, "train": tf.no_op()}

constant = 3
'''


def write(folder, rows):
    """Makes ``folder`` with functions.py, models.py, ``rows`` pictures of one gray each, and log.csv (picture, value,
    side), where value is the gray in 0..1. Returns the values."""
    os.makedirs(os.path.join(str(folder), "pictures"))
    for name, text in (("functions.py", FUNCTIONS), ("models.py", MODELS)):
        with open(os.path.join(str(folder), name), "w") as file:
            file.write(text)
    grays = np.random.RandomState(0).randint(0, 256, rows)
    for number, gray in enumerate(grays):
        Image.new("RGB", (16, 12), (int(gray),) * 3).save(os.path.join(str(folder), "pictures", "%03d.png" % number))
    lines = ["pictures/%03d.png,%.4f,%s" % (number, gray / 255, "left" if number % 4 else "right")
             for number, gray in enumerate(grays)]
    with open(os.path.join(str(folder), "log.csv"), "w") as file:
        file.write("\n".join(["picture,value,side"] + lines) + "\n")
    return grays / 255
