"""Batches in memory that the trainer shares with workers: what the trainer's session says and reads, and what happens
to the memory."""

import gc
import os
from dataclasses import replace

import numpy as np
import pytest

from stoker.pipeline.arrays import framed
from stoker.pipeline.coordinator.batch_memory import BatchMemory
from stoker.pipeline.coordinator.slots import slots_of
from stoker.pipeline.errors import BatchesDiffer, ConfigError, ProtocolError
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.protocol.batch_arrays import check_arrays, with_frames
from stoker.pipeline.protocol.layout import ALIGNMENT, layout_of
from stoker.pipeline.protocol.messages import NO_SLOT, Failed, Hello, Lease, Ready, Refused
from stoker.pipeline.transport import memory_handover
from stoker.pipeline.transport.memory_handover import Offer
from tests.support.memory import mappings
from tests.support.trainer import SilentTrainer, batch
from tests.unit.test_codec import INDICES, OWN_JOB, own

JOB = JobOptions(image_size=(2, 3), batch_size=2)
HELLO = Hello("host:1/0", 1, "python 3.13.0, pillow 13.0.0", 2, "")


class Worker:
    """A peer of a SilentTrainer that shares memory with it."""

    def __init__(self, trainer, peer=b"a", hello=HELLO):
        self.trainer, self.peer = trainer, peer
        self.layout = layout_of(JOB.arrays, trainer.session._job.batch_size, 1)
        trainer.are_ready = False
        trainer.say(peer, hello)
        self.ready()

    def ready(self, socket=None):
        self.offer = Offer()
        self.trainer.say(self.peer, Ready("5eed", self.offer.name if socket is None else socket))
        self.segment = None

    def leases(self):
        return self.trainer.to(self.peer, Lease)

    def write(self, lease, value=7):
        """The batch of a lease, in its slot."""
        if self.segment is None:
            self.segment = self.offer.take("5eed", self.layout.slot_bytes)
        made = batch(lease, value=value)
        for array, start in zip(made.arrays, self.layout.starts):
            np.ndarray(array.shape, array.dtype, self.segment.slot(lease.slot), start)[...] = array
        return replace(made, arrays=(), slot=lease.slot)

    def say(self, *messages):
        self.trainer.say(self.peer, *messages)


def shared(options=None, job=JOB):
    options = options or StreamOptions()
    return SilentTrainer(job, options=options, memory=BatchMemory("5eed", job, slots_of(options.prefetch)))


@pytest.fixture
def trainer():
    return shared()


@pytest.fixture
def others():
    """The mappings of what tests before left in this process: they may end at any moment."""
    gc.collect()
    return mappings(os.getpid(), "memfd:stoker")


def lines(caplog, word):
    return [record.getMessage() for record in caplog.records if word in record.getMessage()]


def test_a_batch_is_delivered_as_writable_aligned_views_on_the_slot(trainer):
    worker = Worker(trainer)
    first, second = worker.leases()
    assert (first.slot, second.slot) == (0, 1)
    worker.say(worker.write(second, 9), worker.write(first))
    for lease, value in ((first, 7), (second, 9)):
        views = trainer.batches[lease.position].views
        assert [(view.shape, view.dtype.name) for view in views] == [((2, 2, 3, 3), "uint8"), ((2, 1), "int32")]
        assert (views[0] == value).all() and (views[1] == 1).all()
        assert all(view.flags.writeable and view.ctypes.data % ALIGNMENT == 0 for view in views)
        assert all(np.shares_memory(view, trainer.memory.slot(b"a", lease.slot)) for view in views)
    trainer.batches[first.position].views[0][:] = 3              # by the consumer
    assert (worker.segment.slot(0)[:36] == 3).all()


def test_a_slot_is_leased_again_once_no_view_of_it_is_left(trainer):
    worker = Worker(trainer)
    while len(trainer.batches) < 3:
        worker.say(worker.write(worker.leases()[len(trainer.batches)]))
    kept = trainer.batches[1].views[1][:1]
    assert [lease.slot for lease in worker.leases()] == [0, 1, 2, 3]
    for position in (0, 1, 2):
        trainer.batches[position] = None
    trainer.tick()
    worker.say(worker.write(worker.leases()[3]))
    trainer = shared(StreamOptions(prefetch=2))
    worker = Worker(trainer)
    used = []
    for number in range(4):
        lease = worker.leases()[number]
        used.append(lease.slot)
        worker.say(worker.write(lease, number))
        held = trainer.batches[lease.position].views if number == 1 else None      # by the consumer, for ever
        if number == 1:
            kept = held
        trainer.batches[lease.position] = None
        trainer.tick()
    assert used == [0, 1, 0, 2] and (kept[0] == 1).all()


def test_a_worker_without_memory_sends_frames_and_the_log_says_why_once(trainer, caplog):
    caplog.set_level("INFO")
    shares = Worker(trainer)
    Worker(trainer, b"b")
    for number, ready in enumerate([Ready("5eed", "", "it has --no-shared-memory"), Ready("5eed"),
                                    Ready("5eed", "@" + "0" * 32), Ready("5eed", "0" * 32), Ready("5eed", "/etc")]):
        for peer in (b"far %d" % number, b"again %d" % number):
            trainer.say(peer, replace(HELLO, worker=peer.decode()))
            trainer.say(peer, ready)
            assert all(lease.slot == NO_SLOT for lease in trainer.to(peer, Lease))
    assert lines(caplog, "batches of") == [
        "batches of host:1/0 come through shared memory, and so do those of other workers on this host",
        "batches of far 0 come over TCP: it has --no-shared-memory",
        "batches of far 1 come over TCP: it offers no memory",
        "batches of far 2 come over TCP: it is on another host, or in a container of its own",
        "batches of far 3 come over TCP: it has --shared-memory-folder, and the trainer has not",
        "batches of far 4 come over TCP: the name of its socket is no possible one"]
    shares.say(shares.write(shares.leases()[0]))
    assert len(trainer.batches) == 1


def test_a_program_that_keeps_all_batches_gets_the_rest_in_frames():
    trainer = shared(StreamOptions(prefetch=1), replace(JOB, batch_size=1))
    worker = Worker(trainer)
    for number in range(8):
        lease = worker.leases()[number]
        worker.say(batch(lease, value=number) if lease.slot == NO_SLOT else worker.write(lease, number))
        trainer.tick()
    slots = [lease.slot for lease in worker.leases()]
    assert slots == [0, 1, 2, 3, 4, 5, 6, NO_SLOT] and "no slot was free for 1 steps" in trainer.summary()
    assert [int(trainer.batches[number].views[0].max()) for number in range(8)] == list(range(8))


def test_a_trainer_that_shares_no_memory_says_so_and_leases_no_slot(caplog):
    caplog.set_level("INFO")
    worker = Worker(SilentTrainer(JOB))
    assert [lease.slot for lease in worker.leases()] == [NO_SLOT] * 2
    assert lines(caplog, "over TCP") == ["batches of host:1/0 come over TCP: the trainer has --no-shared-memory"]
    worker.say(replace(batch(worker.leases()[0]), arrays=(), slot=0))
    assert "in slot 0, and the lease has none" in worker.trainer.to(b"a", Refused)[0].reason


@pytest.mark.parametrize("wrong, reason", [
    ({"slot": 1}, "in slot 1, and the lease has slot 0"), ({"slot": 500}, "in slot 500, and the lease has slot 0"),
    ({"arrays": batch(Lease(0, 0, 0, True, ((), ()), ())).arrays}, "has 2 arrays besides those in its slot")])
def test_a_worker_that_names_another_slot_is_no_member_any_more(trainer, wrong, reason):
    worker = Worker(trainer)
    lease = worker.leases()[0]
    worker.say(replace(worker.write(lease), **wrong))
    assert reason in trainer.to(b"a", Refused)[0].reason
    assert not trainer.batches and b"a" not in trainer.members() and not trainer.memory._segments
    other = Worker(trainer, b"b")
    other.say(other.write(other.leases()[0]))
    assert len(trainer.batches) == 1


def test_what_comes_late_or_twice_is_never_read_from_a_slot_that_is_another_leases(trainer):
    worker = Worker(trainer)
    first, second = worker.leases()
    late = worker.write(first)
    worker.say(late, late)
    assert len(trainer.batches) == 1 and not trainer.to(b"a", Refused)
    old = worker.segment
    worker.ready()                          # it has come back: a new segment; the second lease is of the old one
    assert worker.offer.take("5eed", worker.layout.slot_bytes) is not old
    worker.say(replace(batch(second), arrays=(), slot=second.slot))
    assert len(trainer.batches) == 1 and b"a" in trainer.members()
    assert second.position in [lease.position for lease in worker.leases()[2:]]      # it is granted again


def test_the_batch_of_a_lease_that_ended_is_taken_from_its_slot_if_it_is_the_first(trainer):
    frozen = Worker(trainer)
    lease = frozen.leases()[0]
    for _ in range(12):
        trainer.tick(0.5)
    other = Worker(trainer, b"b", replace(HELLO, worker="host:1/1"))
    again = [each for each in other.leases() if each.position == lease.position]
    assert again and again[0].slot != NO_SLOT
    written = frozen.write(lease, 3)                              # it wakes
    frozen.say(written)
    other.say(other.write(again[0], 4))
    assert (trainer.batches[lease.position].views[0] == 3).all()


def test_a_worker_that_never_answers_keeps_its_slots_and_one_that_fails_gives_them_back(trainer):
    worker = Worker(trainer)
    first, second = worker.leases()
    worker.say(Failed("5eed", first.lease, first.position, "ValueError: no", ""))
    assert worker.leases()[2].slot == 0
    for number in range(2, 20):
        worker.say(worker.write(worker.leases()[number]))
        trainer.batches = dict.fromkeys(trainer.batches)
        trainer.tick()
        if len(worker.leases()) < number + 2:
            break
    assert second.slot == 1 and all(lease.slot != 1 for lease in worker.leases()[2:])


def test_the_memory_of_a_worker_that_is_gone_goes_but_for_what_is_used(trainer, others):
    worker = Worker(trainer)
    first, second = worker.leases()
    worker.say(worker.write(first))
    kept = trainer.batches[first.position].views
    worker.segment.slot(second.slot)[:] = 5                       # it is at work
    segment = trainer.memory._segments[b"a"]
    trainer.memory.slot(b"a", 3)[:], trainer.memory.slot(b"a", second.slot)[:3] = 8, 5
    trainer.session.unreachable(b"a")
    trainer.tick()
    assert not trainer.memory._segments and (kept[0] == 7).all()
    assert not segment.slot(3).any()                              # its memory is gone
    assert (segment.slot(second.slot) == 5).all()                 # it may come in frames yet
    del segment, worker, kept, trainer.batches[first.position]
    other = Worker(trainer, b"b")
    other.say(other.write(other.leases()[0]))                     # any further batch
    del other
    trainer.batches.clear()
    trainer.session.unreachable(b"b")
    trainer.tick()
    gc.collect()
    assert mappings(os.getpid(), "memfd:stoker") <= others


def test_the_memory_of_workers_that_all_left_goes_with_their_batches(trainer, others):
    """No batch of another worker comes, in whose turn that would be seen."""
    worker = Worker(trainer)
    worker.say(worker.write(worker.leases()[0]))
    del worker
    trainer.session.unreachable(b"a")
    trainer.tick()
    trainer.memory.look_at_left()
    assert mappings(os.getpid(), "memfd:stoker") > others
    trainer.batches.clear()
    trainer.memory.look_at_left()                                 # each turn of the coordinator's thread does that
    gc.collect()
    assert mappings(os.getpid(), "memfd:stoker") <= others


def test_a_run_that_is_over_keeps_the_memory_of_batches_in_use_alone(trainer, others):
    worker = Worker(trainer)
    first, second = worker.leases()
    worker.say(worker.write(first), worker.write(second))
    kept = trainer.batches.pop(first.position).views
    freed = trainer.memory.slot(b"a", second.slot)
    trainer.batches.clear()
    assert freed.any()
    segment = worker.segment
    del freed
    trainer.memory.close()
    assert (kept[0] == 7).all() and not segment.slot(second.slot).any()
    del kept, worker, segment
    gc.collect()
    assert mappings(os.getpid(), "memfd:stoker") <= others


def test_a_system_that_has_no_more_memory_or_descriptors_costs_shared_memory_only(trainer, monkeypatch, caplog):
    caplog.set_level("INFO")

    def fails(*arguments):
        raise OSError(24, "Too many open files")
    before = sorted(os.listdir("/proc/self/fd"))
    offer = Offer()
    monkeypatch.setattr(memory_handover, "_unix_socket", fails)
    trainer.are_ready = False
    trainer.say(b"a", HELLO)
    trainer.say(b"a", Ready("5eed", offer.name))
    assert lines(caplog, "over TCP") == [
        "batches of host:1/0 come over TCP: its socket cannot be reached: Too many open files"]
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"a", batch(lease))
    assert (trainer.batches[lease.position].views[0] == 7).all() and not trainer.memory._segments
    offer.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------------------------------------------- arrays in a slot

def in_a_slot(message, job):
    """The same batch in a slot, and the slot: uint8, aligned."""
    layout = layout_of(job.arrays, job.batch_size, job.rows)
    room = np.full(layout.slot_bytes + ALIGNMENT, 255, np.uint8)
    slot = room[-room.ctypes.data % ALIGNMENT:][:layout.slot_bytes]
    for frame, start in zip(message.arrays, layout.starts):
        slot[start:start + len(frame)] = np.frombuffer(frame, np.uint8)
    return replace(message, arrays=(), slot=0), slot


@pytest.mark.parametrize("changes", [{}, {"count": 2, "sizes": (1, 1), "depth": ((3, 2),) * 2, "missing": 1},
                                     {"sizes": (0, 0, 0), "boxes": 0},
                                     {"sizes": (20, 1, 0), "depth": ((3, 2), (1, 1), (2, 2))}])
def test_a_slot_has_the_same_arrays_as_frames(changes):
    message = own(**changes)
    in_slot, slot = in_a_slot(message, OWN_JOB)
    framed_views, views = check_arrays(message, OWN_JOB, INDICES), check_arrays(in_slot, OWN_JOB, INDICES, (), slot)
    for spec, one, other in zip(framed(OWN_JOB.arrays), framed_views, views):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes(), spec.name
        assert other.flags.writeable and (not other.size or other.ctypes.data % ALIGNMENT == 0)
        # a worker could yet change what was checked: so that is a copy
        assert np.shares_memory(other, slot) == bool(other.size and spec.dtype != "bool" and "sizes" not in spec.name)
    assert list(map(bytes, with_frames(in_slot, views).arrays)) == list(map(bytes, message.arrays))
    assert with_frames(message, views) is message


@pytest.mark.parametrize("wrong, reason", [
    ({"sizes": (0, 21, 1)}, "boxes.sizes has 21, the job permits 0 to 20"), ({"sizes": (0, -1, 1)}, "sizes has -1"),
    ({"face": b"\1\2\0"}, "face is of bool and has another byte than 0 and 1")])
def test_what_is_wrong_in_a_slot_is_refused(wrong, reason):
    message = own(**dict({"boxes": 0}, **wrong))
    in_slot, slot = in_a_slot(message, OWN_JOB)
    with pytest.raises(ProtocolError, match=reason):
        check_arrays(in_slot, OWN_JOB, INDICES, (), slot)


def test_a_batch_that_is_larger_than_its_slot_is_refused():
    in_slot, slot = in_a_slot(own(), OWN_JOB)
    small = replace(OWN_JOB, batch_size=2, rows=1)       # nothing of the sort passes the checks of a lease
    with pytest.raises(ProtocolError, match="and its place in the slot"):
        check_arrays(in_slot, small, INDICES, (), slot)


# ------------------------------------------------------------------------------------------------------- verification

@pytest.mark.parametrize("other_shares", [True, False])
@pytest.mark.parametrize("value", [7, 8])
def test_second_batches_are_compared_wherever_they_lie(other_shares, value):
    trainer = shared(StreamOptions(verify=1.0, prefetch=2))
    one = Worker(trainer)
    other = Worker(trainer, b"b", replace(HELLO, worker="host:1/1"))
    if not other_shares:
        other.ready("")
    made = {b"a": one, b"b": other}
    done = set()
    for _ in range(30):
        for peer, worker in made.items():
            for lease in worker.leases():
                if lease.lease not in done:
                    done.add(lease.lease)
                    number = value if peer == b"b" else 7
                    worker.say(worker.write(lease, number) if lease.slot != NO_SLOT else batch(lease, value=number))
        trainer.batches = dict.fromkeys(trainer.batches)
        trainer.tick(0.5)
    assert trainer.session.verification.verified > 2 if value == 7 else isinstance(trainer.errors[0], BatchesDiffer)


# ------------------------------------------------------------------------------------------------------------ options

def test_options_of_shared_memory(tmp_path):
    assert StreamOptions().shared_memory and StreamOptions().shared_memory_folder is None
    assert StreamOptions(shared_memory_folder=tmp_path).shared_memory_folder == str(tmp_path)
    for wrong in ({"shared_memory": "no"}, {"shared_memory_folder": str(tmp_path / "absent")},
                  {"shared_memory_folder": 3}):
        with pytest.raises(ConfigError, match="shared_memory"):
            StreamOptions(**wrong)
