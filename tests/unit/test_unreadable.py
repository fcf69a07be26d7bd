"""A file with an I/O error: which file a worker blames, when the trainer leaves its sample out, and what is then in the
batch."""

import errno
import os
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from stoker.pipeline.coordinator.effects import Abort, Grant, LeaveOut
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.coordinator.open_positions import GONE, OpenPositions
from stoker.pipeline.options import JobOptions
from stoker.pipeline.orders import weighted
from stoker.pipeline.plan import Plan, produced_indices
from stoker.pipeline.protocol.codec import decode_from_worker, encode
from stoker.pipeline.protocol.messages import Failed, Hello, Job, Lease, Produced, Ready, Sample, Skipped
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.storage import folder
from stoker.workers import unreadable as module
from stoker.workers.generators.user_sample import UserSample
from stoker.workers.readers import Readers
from stoker.workers.unreadable import unreadable
from tests.support.trainer import SilentTrainer, batch

FILES = tuple("%d.bin" % number for number in range(6))
HELLO = Hello("host:1/0", 1, "", 1, "")


# ------------------------------------------------------------------------------------------------------- on the worker

class Disk(dict):
    """File -> the error of each read."""
    job = Job("image", (), 6, 0, "fast", "")


@pytest.fixture
def a_disk(tmp_path, monkeypatch):
    """A Disk with FILES in the folder of its job."""
    disk, original = Disk(), os.read
    disk.job = replace(Disk.job, data_root=str(tmp_path), probes=FILES[:2])
    for name in FILES:
        (tmp_path / name).write_bytes(b"data")

    def read(fd, size):
        number = disk.get(os.path.basename(os.readlink("/proc/self/fd/%d" % fd)))
        if number:
            raise OSError(number, os.strerror(number))
        return original(fd, size)
    monkeypatch.setattr(folder.os, "read", read)
    return disk


def lease_of(*names, replacements=()):
    return Lease(1, 0, 0, True, tuple(Sample(FILES.index(name), name, 0) for name in names),
                 tuple(Sample(FILES.index(name), name, 0) for name in replacements))


def io_error(number=errno.EIO):
    return OSError(number, os.strerror(number))


def test_the_file_that_cannot_be_read_while_others_can(a_disk):
    a_disk["2.bin"] = errno.EIO
    found, = unreadable(io_error(), lease_of(*FILES), a_disk.job)
    assert found == Skipped(2, "cannot be read on any try (Input/output error)")
    caused = RuntimeError("of the user")
    caused.__cause__ = io_error()
    assert unreadable(caused, lease_of("0.bin", "2.bin"), a_disk.job) == (found,)
    assert unreadable(io_error(), lease_of("2.bin"), a_disk.job) == (found,)         # alone in its lease: probes
    assert unreadable(io_error(), lease_of("0.bin", replacements=["2.bin"]), a_disk.job) == (found,)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EMFILE, errno.ENOMEM,
                                    errno.EHOSTDOWN, errno.EAGAIN, errno.EACCES, errno.ENOENT, errno.ENODEV])
def test_trouble_on_the_way_to_a_file_is_not_its_fault(a_disk, number):
    a_disk["2.bin"] = number
    assert unreadable(io_error(number), lease_of(*FILES), a_disk.job) == ()


def test_no_file_is_to_blame_if_none_can_be_read_or_all_can(a_disk):
    assert unreadable(io_error(), lease_of(*FILES), a_disk.job) == ()         # it was another file, or it passed
    a_disk.update(dict.fromkeys(FILES, errno.EIO))
    assert unreadable(io_error(), lease_of(*FILES), a_disk.job) == ()
    assert unreadable(io_error(), lease_of("2.bin"), a_disk.job) == ()
    assert unreadable(io_error(), lease_of("2.bin"), replace(a_disk.job, data_root="")) == ()
    assert unreadable(ValueError("no"), lease_of(*FILES), a_disk.job) == ()


def test_two_bad_files_are_found_one_after_the_other(a_disk):
    a_disk.update({"1.bin": errno.EIO, "4.bin": errno.EUCLEAN})
    assert unreadable(io_error(), lease_of(*FILES), a_disk.job)[0].index == 1
    assert unreadable(io_error(), lease_of(*FILES[2:]), a_disk.job)[0].index == 4


def test_a_file_that_a_row_names(a_disk):
    """The reader tells which file it was, and whose: a row has no path."""
    a_disk["3.bin"] = errno.EIO
    sample = UserSample(Sample(7, "", -1, b"\xa1x"), 0, True, None, a_disk.job, Readers(a_disk.job))
    for path in ("3.bin", os.path.join(a_disk.job.data_root, "3.bin")):
        with pytest.raises(OSError) as caught:
            sample.bytes(path)
        lease = Lease(1, 0, 0, True, (Sample(7, "", -1, b"\xa1x"),))
        assert unreadable(caught.value, lease, a_disk.job) == (
            Skipped(7, "cannot be read on any try (Input/output error)", "3.bin"),)


def test_it_travels():
    failed = Failed("run", 1, 0, "OSError", "", "a", (Skipped(3, "cannot be read", "b"),))
    assert decode_from_worker(encode(failed)) == failed and module.OTHERS > 1


# ------------------------------------------------------------------------------------------------------- in the trainer

class Fleet:
    """A scheduler and its workers."""

    def __init__(self, *workers):
        self.scheduler = LeaseScheduler(0, 8, 1, 5.0)
        self.scheduler.tick(0.0)
        self.effects = [effect for worker in workers for message in (HELLO, Ready("r"))
                        for effect in self.scheduler.receive(worker, message, 0.0)]

    def fail(self, *indices):
        """The worker that has position 0 fails, because of each of these samples in turn. Returns who did."""
        workers = []
        for index in indices:
            (lease, live), = self.scheduler._leases.items()
            workers.append(live.worker)
            skipped = () if index is None else (Skipped(index, "cannot be read"),)
            self.effects += self.scheduler.receive(live.worker, Failed("r", lease, 0, "E", "", "", skipped), 0.0)
        return workers

    def left_out(self):
        return [effect.skipped.index for effect in self.effects if isinstance(effect, LeaveOut)]


@pytest.mark.parametrize("workers", [("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")])
def test_a_few_tries_on_as_many_workers_as_there_are(workers):
    fleet = Fleet(*workers)
    tried = fleet.fail(5, 5)
    assert not fleet.left_out()
    tried += fleet.fail(5)
    assert fleet.left_out() == [5] and len(set(tried)) == min(3, len(workers))
    assert not [effect for effect in fleet.effects if isinstance(effect, Abort)]
    tried = fleet.fail(6, 7, 6, 7, 6, 7)        # two more files, in turns
    assert fleet.left_out() == [5, 6, 7] and not [one for one in fleet.effects if isinstance(one, Abort)]
    assert isinstance(fleet.effects[-1], Grant) and fleet.effects[-1].position == 0


def test_other_failures_end_the_run_as_before():
    fleet = Fleet("a")
    fleet.fail(5, None, 5, None)
    assert not [effect for effect in fleet.effects if isinstance(effect, Abort)]
    fleet.fail(None)
    assert [effect.position for effect in fleet.effects if isinstance(effect, Abort)] == [0]


def data(size, gone=()):
    return Dataset("/data", ("a", "b"), tuple("%d.bin" % number for number in range(size)), (0,) * size, (), gone)


@pytest.mark.parametrize("order", [None, weighted([1.0] * 12).bind(data(12), 4, 3)])
def test_what_is_left_out_depends_on_the_samples_alone_and_not_on_the_order_in_which_they_are_found(order):
    plan = Plan(12, 4, 1, 7, order=order)
    planned = plan.at(1)
    bad = [planned.indices[1], planned.indices[3], planned.replacements[0]]
    seen = set()
    for found in permutations(bad):
        positions = OpenPositions(plan, Splits(data(12)), True)
        positions.lease(Grant(b"w", 1, 1, 1))
        for number, index in enumerate(found, 2):
            positions.leave_out(LeaveOut(1, Skipped(index, "x")))
            lease = positions.lease(Grant(b"w", number, 1, 1))
        content = positions.content(1, 4)
        assert not set(content.indices + content.replacements) & set(bad)
        assert [sample.index for sample in lease.samples] == list(content.indices)
        assert {skip.index for skip in content.skipped} <= set(bad)
        # the same as if a worker had found that they are bad
        assert content.indices == produced_indices(planned.indices, planned.replacements, bad, len(content.indices))
        seen.add((content.indices, content.replacements, content.repeats, content.skipped))
    assert len(seen) == 1


def test_leases_that_were_granted_before_keep_their_samples():
    plan = Plan(12, 4, 1, 7)
    positions = OpenPositions(plan, Splits(data(12)), False)
    first = positions.lease(Grant(b"a", 1, 0, 1))
    bad = plan.at(0).indices[2]
    positions.leave_out(LeaveOut(0, Skipped(bad, "cannot be read")))
    second = positions.lease(Grant(b"b", 2, 0, 2))
    assert [len(lease.samples) for lease in (first, second)] == [4, 3]
    assert positions.content(0, 1).indices == plan.at(0).indices and positions.content(0, 3) is None
    assert positions.among(0, 1, (Skipped(bad, ""), Skipped(99, ""))) == (Skipped(bad, ""),)
    planned, message, used, _ = positions.close(0, Produced("r", 2, 0, 3, (), 0.1, ()))
    assert used == tuple(index for index in plan.at(0).indices if index != bad) and planned == plan.at(0, False)
    assert message.skipped == (Skipped(bad, "cannot be read"),) and positions.content(0, 2) is None


def test_a_sample_that_is_gone_is_left_out_of_its_first_lease():
    plan = Plan(12, 4, 1, 7)
    gone = plan.at(0).indices[2]
    positions = OpenPositions(plan, Splits(data(12, frozenset([gone]))), False)
    assert gone not in [sample.index for sample in positions.lease(Grant(b"a", 1, 0, 1)).samples]
    assert positions.content(0, 1).skipped == (Skipped(gone, GONE),)


def test_a_run_goes_on_without_the_file():
    trainer = SilentTrainer(JobOptions(image_size=(2, 3), batch_size=2))
    trainer.say(b"a", HELLO)
    bad = trainer.plan.at(0).indices[0]
    for _ in range(3):
        lease = [each for each in trainer.to(b"a", Lease) if each.position == 0][-1]
        trainer.say(b"a", Failed(trainer.session.run, lease.lease, 0, "OSError: [Errno 5]", "", "x",
                                 (Skipped(bad, "cannot be read"),)))
    lease = [each for each in trainer.to(b"a", Lease) if each.position == 0][-1]
    assert [sample.index for sample in lease.samples] == [trainer.plan.at(0).indices[1]] and not trainer.errors
    trainer.say(b"a", batch(lease))
    delivered = trainer.batches[0]
    assert delivered.message.skipped == (Skipped(bad, "cannot be read"),) and delivered.used_indices == (
        trainer.plan.at(0).indices[1],)


def test_a_worker_that_blames_a_sample_of_another_lease_just_fails():
    trainer = SilentTrainer(JobOptions(image_size=(2, 3), batch_size=2))
    trainer.say(b"a", HELLO)
    for _ in range(3):
        lease = [each for each in trainer.to(b"a", Lease) if each.position == 0][-1]
        trainer.say(b"a", Failed(trainer.session.run, lease.lease, 0, "no", "", "", (Skipped(1 << 40, "x"),)))
    assert len(trainer.errors) == 1


def test_a_lease_without_samples_needs_no_generator():
    import queue
    from stoker.pipeline.arrays import ArraySpec, UpTo
    from stoker.workers.runner import answer_leases
    from stoker.workers.effects import Work
    job = Job("mine:f", (ArraySpec("x", "float32", (UpTo(3), 2)),), 4, 0, "fast", "")
    items, answers = queue.Queue(), []
    items.put(Work(job, Lease(1, 0, 0, True, ())))
    items.put(None)

    def no_generator(job):
        class Producer:
            makes_fresh = True

            def finish(self):
                pass
        made = Producer()
        made.job = job
        return made
    answer_leases(items.get, answers.append, no_generator, None)
    answer, = answers
    assert [array.shape for array in answer.output.arrays] == [(0, 0, 2), (0,)] and not answer.error
    assert np.array_equal(answer.output.arrays[1], np.empty(0, np.int32))
