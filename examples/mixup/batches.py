"""Mixup (Zhang et al., 2017): two pictures mixed, and their classes likewise. Workers import this file: no TensorFlow.
"""

import numpy as np

import stoker

CLASSES = 3


def picture_and_class(sample):
    return np.asarray(sample.image(size=(32, 32)), np.float32) / 255, np.eye(CLASSES, dtype=np.float32)[sample.label]


@stoker.sample({"image": ("float32", (32, 32, 3)), "target": ("float32", (CLASSES,))})
def mixed(sample, random):
    image, target = picture_and_class(sample)
    if sample.training:
        other_image, other_target = picture_and_class(sample.partners[0])
        share = random.betavariate(0.4, 0.4)
        image, target = share * image + (1 - share) * other_image, share * target + (1 - share) * other_target
    return {"image": image, "target": target}
