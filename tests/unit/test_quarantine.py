"""Quarantine, with a stand-in for the processes in which it tests samples: what is left of a lease."""

import pytest

from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.messages import Job, Lease, Sample, Skipped
from stoker.workers import quarantine

JOB = Job("mine:make", (), 4, 0, "fast", "")


@pytest.fixture
def isolated(monkeypatch):
    """Tests a lease; ``verdicts``: of the (index, repeat) that are not good."""
    def test(lease, verdicts, deadly=True):
        tried = []

        class Children:
            def __init__(self, job, options):
                self.deadly = False

            def verdict_on(self, alone):
                sample, = alone.samples
                assert (alone.replacements, alone.isolated) == ((), False)
                assert (alone.position, alone.epoch, alone.training) == (lease.position, lease.epoch, lease.training)
                tried.append(sample)
                verdict = verdicts.get((sample.index, sample.repeat))
                self.deadly = self.deadly or deadly and verdict is not None
                return verdict

            def end(self):
                tried.append("end")
        monkeypatch.setattr(quarantine, "_Children", Children)
        found = quarantine.test_in_quarantine(JOB, lease, WorkerOptions("tcp://trainer:5555"))
        assert tried.pop() == "end"
        return found, [sample.index for sample in tried]
    return test


def lease(own, replacements=()):
    return Lease(3, 9, 2, True, tuple(own), tuple(replacements), True)


def samples(*indices):
    return [Sample(index, "", -1) for index in indices]


def test_samples_that_kill_are_replaced_in_their_place_and_told(isolated):
    partners = tuple(samples(50, 51))
    own = samples(1, 2, 3)
    own[2] = own[2]._replace(partners=partners)
    kills, bad = Skipped(2, "kills"), Skipped(7, "no picture", "partner.png")
    found, tried = isolated(lease(own, samples(7, 8, 9)), {(2, 0): kills, (7, 0): bad})
    assert found.skipped == (kills, bad) and tried == [1, 2, 3, 7, 8]
    assert [sample.index for sample in found.lease.samples] == [1, 8, 3]
    assert found.lease.samples[2].partners == partners
    assert (found.lease.replacements, found.lease.isolated, found.lease.position) == ((), False, 9)


def test_without_one_that_kills_the_lease_stays_as_it_is(isolated):
    whole = lease(samples(1, 2), samples(3))
    found, _ = isolated(whole, {(2, 0): Skipped(2, "no face", chosen=True)}, deadly=False)
    assert found.lease.samples == whole.samples and found.lease.replacements == whole.replacements
    assert found.skipped == () and not found.lease.isolated


def test_an_index_that_repeats_is_out_in_all_its_places(isolated):
    own = [Sample(5, "", -1), Sample(1, "", -1), Sample(5, "", -1, repeat=1)]
    found, tried = isolated(lease(own, samples(8)), {(5, 1): Skipped(5, "kills")})
    assert [sample.index for sample in found.lease.samples] == [8, 1] and tried == [5, 1, 5, 8]
    found, tried = isolated(lease(own), {(5, 0): Skipped(5, "kills")})
    assert [sample.index for sample in found.lease.samples] == [1] and tried == [5, 1]
