"""Quarantine, with a stand-in for the processes in which it tests samples: what is left of a lease."""

import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.codec import encode
from stoker.pipeline.protocol.messages import Failed, Job, Lease, Produced, Sample, Skipped
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
                assert (alone.replacements, alone.isolated, alone.known) == ((), False, ())
                assert (alone.position, alone.epoch, alone.training) == (lease.position, lease.epoch, lease.training)
                tried.append(sample)
                verdict = verdicts.get((sample.index, sample.repeat))
                self.deadly = self.deadly or deadly and verdict is not None
                return verdict

            def end(self):
                tried.append("end")
        monkeypatch.setattr(quarantine, "_Children", Children)
        found = quarantine.test_in_quarantine(JOB, lease, WorkerOptions("tcp://trainer:5555"),
                                                  quarantine.Streak())
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


# ------------------------------------------------------------------ a function that kills whatever the sample

@pytest.fixture
def tested(monkeypatch):
    """Tests leases of one worker after the other; ``deadly``: the samples at which a child dies. Returns how often a
    child was asked about each."""
    def test(leases, deadly, job=JOB):
        asked, streak = [], quarantine.Streak()

        class Children(quarantine._Children):
            def answer_to(self, alone):
                index = alone.samples[0].index
                asked.append(index)
                return (b"", "exit code 3") if index in deadly else (good(), "")

            def end(self, wait_s=0.0):
                return 0
        monkeypatch.setattr(quarantine, "_Children", Children)
        for each in leases:
            quarantine.test_in_quarantine(job, each, WorkerOptions("tcp://trainer:5555"), streak)
        return asked
    return test


def good():
    return encode(Produced("run", 3, 9, 1, (), 0.0, ()))[0]


def unproven(*indices):
    return replace(lease(samples(*indices)), unproven=True)


@pytest.mark.parametrize("leases", [[range(20)], [range(3), range(3, 6), range(6, 9)]])
def test_a_function_that_kills_at_the_first_eight_samples_ends_the_run(tested, leases):
    with pytest.raises(quarantine.Hopeless) as caught:
        tested([unproven(*indices) for indices in leases], range(20))
    assert str(caught.value) == ("the function mine:make ends its process with exit code 3, whatever the sample: so it "
                                 "was at each of the first 8")


def test_it_is_the_samples_if_one_was_spared_or_the_run_has_some_or_the_generator_is_built_in(tested):
    assert len(tested([unproven(*range(8))], range(7))) == 8 + 7 * 3 + 1
    assert len(tested([unproven(*range(9))], range(1, 9))) == 1 + 1 + 8 * 3      # one is enough to know
    assert len(tested([unproven(20, 21), unproven(*range(8))], set(range(8)))) == 1 + 2 + 8 * 3
    assert len(tested([lease(samples(*range(9)))], range(9))) == 9 * 3
    assert len(tested([unproven(*range(9))], range(9), Job("image", (), 4, 0, "fast", ""))) == 9 * 3
    assert len(tested([unproven(1)] * 9, {1})) == 9 * (1 + 3)                    # it is one sample


def test_a_picture_that_reaches_the_limit_of_cpu_time_is_bad_at_once_and_no_fault_of_the_function(monkeypatch):
    asked, streak = [], quarantine.Streak()

    class Children(quarantine._Children):
        def answer_to(self, alone):
            asked.append(alone.samples[0].index)
            self._exit = -signal.SIGPROF if asked[-1] < 9 else 0
            return (b"", "SIGPROF") if self._exit else (good(), "")

        def end(self, wait_s=0.0):
            return 0
    monkeypatch.setattr(quarantine, "_Children", Children)
    job = replace(JOB, picture_cpu_s=2.5)
    found = quarantine.test_in_quarantine(job, unproven(*range(1, 10)), WorkerOptions("tcp://trainer:5555"), streak)
    assert asked == [1, *range(1, 10)]
    assert {skip.reason for skip in found.skipped} == {
        "takes more than 2.5 s of CPU time to decode; picture_cpu_s (--picture-cpu-s) permits more"}
    assert [sample.index for sample in found.lease.samples] == [9]
    with pytest.raises(quarantine.Hopeless):       # without the limit, it is the function's own
        quarantine.test_in_quarantine(JOB, unproven(*range(9)), WorkerOptions("tcp://trainer:5555"),
                                      quarantine.Streak())


# ------------------------------------------------------------------------------------------- known ones; no memory

def test_known_killers_are_not_tried_and_the_batch_is_as_when_they_were_found(isolated):
    own, more = samples(1, 2, 3), samples(7, 8, 9)
    kills, bad = Skipped(2, "kills", deadly=True), Skipped(7, "no picture")
    found, tried = isolated(lease(own, more), {(2, 0): kills, (7, 0): bad})
    known, again = isolated(replace(lease(own, more), known=(kills,)), {(7, 0): bad}, deadly=False)
    assert known == found and tried == [1, 2, 3, 7, 8] and again == [1, 3, 7, 8]
    known, again = isolated(replace(lease(own, more), known=(kills, Skipped(7, "kills", deadly=True))), {}, False)
    assert [sample.index for sample in known.lease.samples] == [1, 8, 3] and again == [1, 3, 8]


@pytest.fixture
def starving(monkeypatch):
    """Tests leases of one worker; in a child there is no memory for the samples ``hungry``. Returns what is left."""
    def test(leases, hungry, job=JOB):
        asked, streak = [], quarantine.Streak()

        class Children(quarantine._Children):
            def _start(self):
                return SimpleNamespace(stdin=None)

            def end(self, wait_s=0.0):
                asked.append("end")
                return 0
        monkeypatch.setattr(quarantine, "_Children", Children)
        monkeypatch.setattr(quarantine, "_write", lambda pipe, message: asked.append(message.samples[0].index))
        monkeypatch.setattr(quarantine, "_answer", lambda process: encode(Failed(
            "run", 3, 9, "no memory", "", starved=True))[0] if asked[-1] in hungry else good())
        return [quarantine.test_in_quarantine(job, each, WorkerOptions("tcp://trainer:5555"), streak)
                for each in leases], asked
    return test


def test_a_sample_that_finds_no_memory_in_three_processes_is_bad_while_others_find_some(starving):
    (found,), asked = starving([lease(samples(1, 2, 3))], {2})
    assert found.skipped == (Skipped(2, quarantine.NO_MEMORY, deadly=True),)
    assert [sample.index for sample in found.lease.samples] == [1, 3]
    assert asked == [1, 2, "end", 2, "end", 2, "end", 3, "end"]


def test_where_none_finds_memory_it_is_the_host(starving):
    with pytest.raises(quarantine.Hopeless, match="no memory for any of 3 samples, each alone in a process of its own"):
        starving([lease(samples(1, 2, 3))], {1, 2, 3})
    with pytest.raises(quarantine.Hopeless, match="no memory for any of 8 samples"):
        starving([lease(samples(number)) for number in range(20)], set(range(20)))
    found, _ = starving([lease(samples(number)) for number in range(20)], set(range(20)) - {6, 12})
    assert len([each for each in found if each.skipped]) == 18
    found, _ = starving([unproven(*range(1, 12))], {1, 2})             # no death of the function
    assert [skip.index for skip in found[0].skipped] == [1, 2]
