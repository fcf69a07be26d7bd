"""Windows of a text, by where they start. Workers import this file: no TensorFlow in here."""

import os

import numpy as np

import stoker

LENGTH = 20


def text(job):
    """The bytes of the book. A worker process calls this once."""
    return np.fromfile(os.path.join(job.data_root, "book.txt"), np.uint8)


@stoker.sample({"now": ("uint8", (LENGTH,)), "next": ("uint8", (LENGTH,))}, setup=text)
def window(sample, random):
    start = sample.row
    return {"now": sample.shared[start:start + LENGTH], "next": sample.shared[start + 1:start + 1 + LENGTH]}
