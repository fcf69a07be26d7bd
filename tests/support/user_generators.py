"""Generators as users might write them, good and bad. Copied to where only the workers of one test find it.

Workers write a diary beside this file: a line 'begin POSITION PID' for each batch and, unless they were stopped in
between, 'end POSITION PID'.
"""

from __future__ import generator_stop

import os
import signal
import sys
import time
from dataclasses import replace

from stoker.workers.generators import pictures
from stoker.workers.generators.output import Output

FOLDER = os.path.dirname(os.path.abspath(__file__))


def _note(what, lease):
    line = "%s %d %d\n" % (what, lease.position, os.getpid())
    fd = os.open(os.path.join(FOLDER, "diary"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, line.encode("ascii"))     # one write: lines of several processes do not mix
    os.close(fd)


def _slowly(generator, leases, job, seconds):
    def begun():
        for lease in leases:
            if "tensorflow" in sys.modules:
                raise RuntimeError("a worker imported TensorFlow")
            _note("begin", lease)
            time.sleep(seconds)
            held.append(lease)
            yield lease
    held = []
    for output in generator(begun(), job):
        _note("end", held.pop())
        yield output


def slow(leases, job):
    """``image``, with a twentieth of a second more for each batch."""
    yield from _slowly(pictures.image, leases, job, 0.05)


def lying(leases, job):
    """``slow``; a worker with STOKER_TEST_LIES in its environment changes a byte in every third batch."""
    lies = "STOKER_TEST_LIES" in os.environ
    for number, output in enumerate(_slowly(pictures.image, leases, job, 0.05)):
        if lies and number % 3 == 2:
            output.arrays[0][-1, 5, 5, 1] ^= 1
        yield output


def failing(leases, job):
    """``slow``; a worker with STOKER_TEST_FAILS in its environment fails at each batch but its first."""
    for number, output in enumerate(_slowly(pictures.image, leases, job, 0.05)):
        if number and "STOKER_TEST_FAILS" in os.environ:
            raise ValueError("on purpose")
        yield output


def of_its_process(leases, job):
    """``slow``, but not deterministic: a pixel depends on the process."""
    for output in _slowly(pictures.image, leases, job, 0.05):
        output.arrays[0][0, 0, 0] = os.getpid() & 255, os.getpid() >> 8 & 255, 0
        yield output


def slow_augmented(leases, job):
    """``augmented``, slowed down likewise."""
    yield from _slowly(pictures.augmented, leases, job, 0.05)


def unhurried(leases, job):
    """``image``, with a fifth of a second more for each batch: long against what it costs on a busy machine."""
    yield from _slowly(pictures.image, leases, job, 0.2)


def slower(leases, job):
    """``image``, with half a second more for each batch."""
    yield from _slowly(pictures.image, leases, job, 0.5)


def reusing(leases, job):
    """``image`` in one array that is filled again and again, as "it may keep what it likes between leases" allows."""
    kept = None
    for output in pictures.image(leases, job):
        images, labels = output.arrays
        if kept is None:
            kept = images.copy()
        kept[:len(images)] = images
        yield Output((kept[:len(images)], labels))


def endless(leases, job):
    """Never done with its first batch."""
    yield from _slowly(pictures.image, leases, job, 3600)


def broken(leases, job):
    """Always raises at step 2."""
    for lease in leases:
        if lease.position == 2:
            raise ValueError("the label file is empty")
        yield from pictures.image(iter([lease]), job)


def broken_once(leases, job):
    """Raises at step 2, but the first time only."""
    for lease in leases:
        if lease.position == 2:
            try:
                os.mkdir(os.path.join(FOLDER, "broke"))
            except FileExistsError:
                pass
            else:
                raise ValueError("the label file is empty")
        yield from pictures.image(iter([lease]), job)


def yields_nothing(leases, job):
    """Ends at once."""
    return
    yield


def yields_twice(leases, job):
    """Two batches for each lease."""
    for lease in leases:
        yield from pictures.image(iter([lease]), job)
        yield from pictures.image(iter([lease]), job)


def wrong_shape(leases, job):
    """One row too few."""
    for output in pictures.image(leases, job):
        yield Output((output.arrays[0][:, 1:], output.arrays[1]), output.skipped)


def _dies(leases, job, die):
    def opened(samples):
        for sample in samples:
            if sample.path == "left/010.jpg":
                die()
            yield sample
    for lease in leases:
        yield from pictures.image(iter([replace(lease, samples=tuple(opened(lease.samples)))]), job)


def killed_by_a_file(leases, job):
    """A decoder with a hole in it."""
    yield from _dies(leases, job, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def exits_at_a_file(leases, job):
    """A library that gives up."""
    yield from _dies(leases, job, lambda: os._exit(3))


def out_of_memory_at_a_file(leases, job):
    """What the kernel does to a process that wants too much."""
    yield from _dies(leases, job, lambda: os.kill(os.getpid(), signal.SIGKILL))


def one_is_slow(leases, job):
    """A twentieth of a second a batch; ten times that in the process that comes first."""
    try:
        os.mkdir(os.path.join(FOLDER, "slow"))
        seconds = 0.5
    except FileExistsError:
        seconds = 0.05
    yield from _slowly(pictures.image, leases, job, seconds)


def one_hangs(leases, job):
    """A twentieth of a second a batch; the process that comes first never gets its first file."""
    try:
        os.mkdir(os.path.join(FOLDER, "hangs"))
        seconds = 3600
    except FileExistsError:
        seconds = 0.05
    yield from _slowly(pictures.image, leases, job, seconds)
