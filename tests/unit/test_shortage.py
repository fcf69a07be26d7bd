"""A lack of memory is told from other errors, however it is wrapped."""

import errno

import pytest

from stoker.pipeline.protocol.messages import Job, Lease, Sample, Skipped
from stoker.workers.generators.output import batch_of, check
from stoker.workers.shortage import is_shortage
from stoker.pipeline.arrays import ArraySpec

JOB = Job("mine:make", (ArraySpec("numbers", "int32", (1,)),), 4, 0, "fast", "")


def wrapped(error):
    try:
        try:
            raise error
        except BaseException as inner:
            raise ValueError("the function failed") from inner
    except ValueError as outer:
        return outer


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("x"), OSError(errno.ENOMEM, "no memory")])
def test_no_memory(error):
    assert is_shortage(error) and is_shortage(wrapped(error)) and is_shortage(wrapped(wrapped(error)))


@pytest.mark.parametrize("error", [ValueError("memory"), OSError(errno.EIO, "x"), KeyError(1), SystemExit()])
def test_other_errors(error):
    assert not is_shortage(error) and not is_shortage(wrapped(error))


def test_a_circle_of_errors_ends():
    one, other = ValueError(1), ValueError(2)
    one.__cause__, other.__cause__ = other, one
    assert not is_shortage(one)


def test_what_a_lease_says_of_killers_is_as_if_they_were_found_bad():
    """In all their places, with replacements in the order in which others are found bad too."""
    own = tuple(Sample(index, "", -1) for index in (1, 2, 3))
    more = tuple(Sample(index, "", -1) for index in (7, 8, 9))
    kills = (Skipped(3, "kills", deadly=True), Skipped(7, "kills too", deadly=True))
    lease = Lease(1, 0, 0, True, own, more, known=kills)
    tried = []

    def make(sample):
        tried.append(sample.index)
        return [sample.index],
    output = check(batch_of(lease, JOB, make), lease, JOB)
    assert output.arrays[0].tolist() == [[1], [2], [8]] and tried == [1, 2, 8]
    assert output.skipped == kills
