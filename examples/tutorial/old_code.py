"""The three generators of many a tutorial, as they were: nothing here knows Stoker."""

import random

import numpy as np
from PIL import Image, ImageEnhance


def numerical_data_generator(batch_size, features=10):
    while True:
        x = np.random.randn(batch_size, features)
        y = (x.sum(axis=1, keepdims=True) > 0).astype(int)
        yield x, y


def image_data_generator(paths, batch_size, size):
    while True:
        order = np.random.permutation(len(paths))
        for start in range(0, len(paths), batch_size):
            x, y = [], []
            for i in order[start:start + batch_size]:
                image = Image.open(paths[i]).convert("RGB").resize(size)
                x.append(np.array(image) / 255.0)
                y.append([1 if "positive" in paths[i] else 0])
            yield np.array(x), np.array(y)


def augment(image):
    if random.random() < 0.5:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    if random.random() < 0.5:
        image = ImageEnhance.Brightness(image).enhance(random.uniform(0.8, 1.2))
    return image


def augmented_image_data_generator(paths, batch_size, size):
    while True:
        order = np.random.permutation(len(paths))
        for start in range(0, len(paths), batch_size):
            x, y = [], []
            for i in order[start:start + batch_size]:
                image = augment(Image.open(paths[i]).convert("RGB").resize(size))
                x.append(np.array(image) / 255.0)
                y.append([1 if "positive" in paths[i] else 0])
            yield np.array(x), np.array(y)
