"""The old generators, one line each. Workers import this file: no TensorFlow in here.

The random numbers that they draw are seeded for each batch, so that every worker makes the same one.
"""

from old_code import augmented_image_data_generator, image_data_generator, numerical_data_generator

import stoker

PICTURES = {"x": ("float32", (32, 32, 3)), "y": ("int32", (1,))}


@stoker.batch({"x": ("float32", (10,)), "y": ("int32", (1,))})
def numerical(samples, random):
    return next(numerical_data_generator(len(samples)))


@stoker.batch(PICTURES)
def image(samples, random):
    return next(image_data_generator([sample.file for sample in samples], len(samples), (32, 32)))


@stoker.batch(PICTURES)
def augmented(samples, random):
    return next(augmented_image_data_generator([sample.file for sample in samples], len(samples), (32, 32)))
