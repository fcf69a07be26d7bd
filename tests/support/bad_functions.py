"""Functions of users that break the rules, one rule each. Copied to where only the workers of one test find them."""

import sys
import threading

import numpy as np

import stoker

X, TWO = {"x": "float32"}, {"x": "float32", "y": ("int32", (2,))}


@stoker.sample(TWO)
def good(sample, random):
    return random.random(), [sample.index, 0]


@stoker.sample(X)
def nan(sample, random):
    return {"x": float("nan")}


@stoker.sample(TWO)
def undeclared(sample, random):
    return {"x": 1.0, "y": [1, 2], "z": 3}


@stoker.sample(TWO)
def missing(sample, random):
    return {"x": 1.0}


@stoker.sample(TWO)
def too_few(sample, random):
    return 1.0,


@stoker.sample(TWO)
def wrong_shape(sample, random):
    return {"x": 1.0, "y": [1, 2, 3]}


@stoker.sample({"x": ("float32", (stoker.UpTo(3),))})
def too_long(sample, random):
    return {"x": [1, 2, 3, 4]}


@stoker.sample(TWO)
def ragged(sample, random):
    return {"x": 1.0, "y": [[1], [1, 2]]}


@stoker.sample(TWO)
def loses_a_fraction(sample, random):
    return {"x": 1.0, "y": [1.5, 2.0]}


@stoker.sample(X)
def text(sample, random):
    return {"x": "abc"}


@stoker.sample(X)
def none_in_it(sample, random):
    return {"x": None}


@stoker.sample({"x": "uint8"})
def out_of_range(sample, random):
    return {"x": 300}


@stoker.sample(X)
def too_large(sample, random):
    return {"x": 1e300}


@stoker.sample(X, rows=2)
def too_many_rows(sample, random):
    return [{"x": 1}] * 3


@stoker.sample(X)
def returns_none(sample, random):
    pass


@stoker.sample(X)
def column(sample, random):
    return {"x": sample.row["nope"]}


@stoker.sample(X)
def reads(sample, random):
    return {"x": len(sample.bytes(sample.row["b"]))}


@stoker.sample(X)
def no_partners(sample, random):
    return {"x": sample.partners[0].index}


@stoker.sample(X)
def exits(sample, random):
    sys.exit(3)


@stoker.sample(X)
def leaves_a_thread(sample, random):
    threading.Thread(target=threading.Event().wait, name="mine", daemon=True).start()
    return {"x": 1}


def fails(job):
    raise ValueError("no vocabulary")


@stoker.sample(X, setup=fails)
def setup_fails(sample, random):
    return {"x": 1}


@stoker.batch(X)
def returns_fewer(samples, random):
    return {"x": np.zeros(len(samples) - 1)}


def undecorated(sample, random):
    return {"x": 1}


no_function = 7
