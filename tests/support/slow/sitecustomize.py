"""Slow workers, for interpreters with this folder on their PYTHONPATH (``processes.python_with_path``): each call of
SLOW_WHERE, which is 'storage' or 'augment', takes SLOW_S more.

Below Stoker's own functions, so that what they measure is what is slow. Python 3.6 and newer.
"""

import os
import time


def _later(function):
    def call(*args, **kwargs):
        time.sleep(float(os.environ["SLOW_S"]))
        return function(*args, **kwargs)
    return call


def storage():
    """Each file that is read."""
    from stoker.pipeline.storage import folder
    folder.read_file = _later(folder.read_file)


def augment():
    """Each picture whose brightness is changed."""
    from PIL import ImageEnhance
    ImageEnhance.Brightness.enhance = _later(ImageEnhance.Brightness.enhance)


with open("/proc/self/cmdline", "rb") as line:
    if b"stoker.workers.process" in line.read().split(b"\0"):
        globals()[os.environ["SLOW_WHERE"]]()
