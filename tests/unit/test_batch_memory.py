"""A batch in a slot of shared memory is the batch that it is elsewhere. A user's code never gets memory of a slot."""

import gc
import os
import socket
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

import stoker
from stoker.pipeline.arrays import ArraySpec, declared, framed
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.layout import layout_of
from stoker.pipeline.protocol.messages import NO_SLOT, Alive, Hello, Job, Lease, Ready, Sample
from stoker.pipeline.transport.memory import create
from stoker.pipeline.transport.memory_handover import _address, hand_over
from stoker.workers import batch_memory
from stoker.workers.batch_memory import BatchMemory, SharedMemory, SlotLease, memory_of
from stoker.workers.effects import Work
from stoker.workers.generators.batch import call_for_batches
from stoker.workers.generators.numerical import numerical
from stoker.workers.generators.output import Output, batch_of, check
from stoker.workers.generators.pictures import augmented, image
from stoker.workers.generators.registry import Producer
from stoker.workers.generators.sample import call_for_samples
from stoker.workers.heap import usage
from stoker.workers.runner import _produced, answer_leases
from tests.support.memory import mappings

STALE = 0xA5       # what was in the slot before
PLAIN = WorkerOptions("tcp://127.0.0.1:1")


def job_of(arrays, **fields):
    return replace(Job("mine:make", arrays, 4, 7, "exact", ""), **fields)


def lease_of(*indices, **fields):
    samples = tuple(Sample(index, "", index % 3) for index in indices)
    return replace(Lease(1, 17, 0, True, samples), **fields)


def slot_of(job):
    layout = layout_of(job.arrays, job.batch_size, job.rows)
    names = [spec.name for spec in framed(job.arrays)]
    room = np.full(layout.slot_bytes, STALE, np.uint8)
    return BatchMemory(None, 3, room, layout, {name: place for place, name in enumerate(names)}), room, layout


def answer(generator, lease, job, memory=None):
    """As the runner makes it."""
    producer = Producer(generator, job)
    output = _produced(producer, lease, memory if producer.makes_fresh else None)
    return check(output, lease, job, producer.makes_fresh, memory)


def check_in_slot(generator, lease, job):
    """Its batch in a slot is its batch elsewhere; nothing else in the slot has changed. Returns the batch."""
    expected = answer(generator, lease, job)
    memory, room, layout = slot_of(job)
    found = answer(generator, lease, job, memory)
    assert found._replace(arrays=()) == expected._replace(arrays=())
    untouched = np.ones(len(room), bool)
    for array, wanted, start, size in zip(found.arrays, expected.arrays, layout.starts, layout.sizes):
        assert array.dtype == wanted.dtype and np.array_equal(array, wanted)
        assert room[start:start + array.nbytes].tobytes() == wanted.tobytes()
        untouched[start:start + size] = False
    assert len(found.arrays) == len(layout.starts) and (room[untouched] == STALE).all()
    return found


# ------------------------------------------------------------------------------------- what is made in the slot

@pytest.fixture
def photos(tmp_path):
    for index in range(5):
        Image.fromarray(np.full((20, 30, 3), index * 40, np.uint8)).save(str(tmp_path / ("%d.png" % index)))
    (tmp_path / "bad.png").write_text("no picture")
    return [Sample(index, "%d.png" % index, index) for index in range(5)] + [
        Sample(5 + number, "bad.png", 0) for number in range(3)]


IMAGES = declared({"images": ("uint8", (12, 20, 3)), "labels": ("int32", (1,))})


@pytest.mark.parametrize("generator", [image, augmented])
@pytest.mark.parametrize("chosen, replacements", [
    ([0, 1, 2, 3], []), ([5, 1, 6, 3], []), ([0, 5, 2, 6], [7, 4]), ([5, 6, 7], []), ([4], [])])
def test_pictures(photos, tmp_path, generator, chosen, replacements):
    job = job_of(IMAGES, data_root=str(tmp_path), image_size=(12, 20))
    lease = lease_of(samples=tuple(photos[i] for i in chosen), replacements=tuple(photos[i] for i in replacements))
    good = [i for i in chosen if i < 5] + ([4] if replacements else [])
    assert sorted(check_in_slot(generator, lease, job).arrays[1][:, 0].tolist()) == sorted(good)


def test_numbers():
    job = job_of(declared({"features": ("float32", (10,)), "labels": ("int32", (1,))}))
    check_in_slot(numerical, lease_of(samples=(Sample(0, "0", 0), Sample(9, "9", 0))), job)


@stoker.sample({"pixels": ("uint8", (2, 3)), "flag": "bool", "angle": "float32"})
def of_samples(sample, random):
    if sample.index == 2:
        raise stoker.Skip("two")
    return {"pixels": np.full((2, 3), sample.index, np.uint8), "flag": sample.index % 2, "angle": random.random()}


@stoker.sample({"words": ("int32", (stoker.UpTo(5, pad=-1),)), "boxes": ("float32", (stoker.UpTo(3), stoker.UpTo(4)))})
def of_lengths(sample, random):
    if sample.index == 2:
        raise stoker.Skip("two")
    boxes = np.ones((sample.index % 3, sample.index % 4)) * sample.index
    return {"words": list(range(sample.index % 5)), "boxes": boxes}


@stoker.sample({"part": ("int16", (2,)), "words": ("uint8", (stoker.UpTo(4),))}, rows=3)
def of_several_rows(sample, random):
    return [{"part": [sample.index, row], "words": [row] * row} for row in range(sample.index % 4)]


@stoker.batch({"x": "float32", "words": ("int32", (stoker.UpTo(6),)), "flag": "bool"}, may_skip=True)
def of_batches(samples, random):
    kept = [sample for sample in samples if sample.index != 3]
    return {"x": np.array([random.random() for _ in kept]), "words": [[1] * (sample.index % 6) for sample in kept],
            "flag": [sample.index > 1 for sample in kept]}


@pytest.mark.parametrize("indices", [(0, 1, 3, 4), (2, 1, 2, 5), (2,), (7, 2), (3,), (0, 4)], ids=str)
@pytest.mark.parametrize("function", [of_samples, of_lengths, of_several_rows, of_batches],
                         ids=lambda function: function.__name__)
def test_a_user_s_function(function, indices):
    call = call_for_batches if function is of_batches else call_for_samples
    job = job_of(function.arrays, rows=getattr(function, "rows", 1), may_skip=getattr(function, "may_skip", False))
    check_in_slot(lambda leases, job: call(function, leases, job), lease_of(*indices), job)    # copied into the slot
    check_in_slot(partial(call, function), lease_of(*indices), job)


@pytest.mark.parametrize("function", [of_samples, of_lengths, of_several_rows, of_batches],
                         ids=lambda function: function.__name__)
def test_nothing_is_copied_that_stoker_makes(function, monkeypatch):
    """But for the true sizes."""
    copied, original = [], BatchMemory._placed

    def placed(memory, place, array):
        made = original(memory, place, array)
        if made is not array:
            copied.append(framed(function.arrays)[place].name)
        return made
    monkeypatch.setattr(BatchMemory, "_placed", placed)
    call = call_for_batches if function is of_batches else call_for_samples
    job = job_of(function.arrays, rows=getattr(function, "rows", 1), may_skip=getattr(function, "may_skip", False))
    memory, _, _ = slot_of(job)
    answer(partial(call, function), lease_of(1, 2, 5, 7), job, memory)
    assert [name for name in copied if not name.endswith(".sizes")] == []


# ------------------------------------------------------------------------------ a user's generator over leases

def test_a_user_s_generator_gets_no_memory_of_a_slot():
    """It could write there when the trainer feeds that batch."""
    job = job_of((ArraySpec("x", "int32", ()), ArraySpec("flag", "bool", ())))
    kept, seen = [], []

    def over_leases(leases, job):
        for lease in leases:
            seen.append((type(lease), memory_of(lease)))
            kept.append(batch_of(lease, job, lambda sample: [sample.index, sample.index == 4]))
            yield kept[-1]
    memory, room, layout = slot_of(job)
    output = answer(over_leases, lease_of(4, 5, 6), job, memory)
    assert seen == [(Lease, None)] and output.arrays[0].tolist() == [4, 5, 6]
    before = room.copy()
    for array in kept[0].arrays:
        assert not np.shares_memory(array, room)
        array[:] = 0
    assert (room == before).all() and output.arrays[0].tolist() == [4, 5, 6]
    assert room[:12].view(np.int32).tolist() == [4, 5, 6]
    assert room[layout.starts[1]:layout.starts[1] + 4].tolist() == [1, 0, 0, STALE]


def test_a_bool_that_is_a_view_of_other_bytes_is_0_or_1_in_the_slot():
    job = job_of((ArraySpec("flag", "bool", ()),))

    def over_leases(leases, job):
        for _ in leases:
            yield Output((np.array([0, 255, 2], np.uint8).view(bool),))
    memory, room, _ = slot_of(job)
    answer(over_leases, lease_of(4, 5, 6), job, memory)
    assert room[:3].tolist() == [0, 1, 1]


def test_an_array_that_is_not_contiguous_is_copied():
    job = job_of((ArraySpec("x", "int32", (2,)),))

    def over_leases(leases, job):
        for _ in leases:
            yield Output((np.arange(6, dtype=np.int32).reshape(2, 3).T,))
    memory, room, _ = slot_of(job)
    answer(over_leases, lease_of(4, 5, 6), job, memory)
    assert room[:24].view(np.int32).tolist() == [0, 3, 1, 4, 2, 5]


def test_a_place_in_a_slot_is_given_once():
    job = job_of((ArraySpec("x", "int32", ()), ArraySpec("y", "uint8", ())))
    memory, room, layout = slot_of(job)
    first, second, other = (memory.empty(name, (4,), kind) for name, kind in (
        ("x", "int32"), ("x", "int32"), ("unknown", "int32")))
    assert np.shares_memory(first, room) and not np.shares_memory(second, room) and not np.shares_memory(other, room)
    assert not np.shares_memory(memory.empty("y", (5,), "uint8"), room)      # too long for its place
    second[:] = [1, 2, 3, 4]
    placed = memory.placed([second, np.zeros(4, np.uint8)])
    assert all(np.shares_memory(array, room) for array in placed) and first.tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="20 bytes in a place of 16"):
        memory.placed([np.zeros(5, np.int32)])


# ----------------------------------------------------------------------------- with a trainer, and without one

JOB = job_of((ArraySpec("x", "int32", ()),))
SLOT_BYTES = layout_of(JOB.arrays, JOB.batch_size, JOB.rows).slot_bytes


class Worker:
    """Its SharedMemory, and what it notes."""

    def __init__(self, options=PLAIN):
        self.notes = []
        self.memory = SharedMemory(options, lambda text, error: self.notes.append(text))

    def ready(self, run="run1", trainer=0):
        return self.memory.completed(trainer, Ready(run))

    def of(self, slot, trainer=0):
        return self.memory.of(trainer, JOB, replace(lease_of(1, 2), slot=slot))


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.memory.close()


def share(ready, slots=2, run="run1", slot_bytes=SLOT_BYTES, folder=None):
    """As the trainer does; returns its segment."""
    segment, fd = create(slots, slot_bytes)
    hand_over(ready.socket, folder, fd, run, slots, slot_bytes)
    os.close(fd)
    return segment


def test_what_a_worker_makes_in_a_slot_is_in_the_trainer_s(worker):
    ready = worker.ready()
    assert ready == Ready("run1", ready.socket) and ready.socket.startswith("@")
    segment = share(ready)
    memory = worker.of(1)
    assert memory.slot == 1 and worker.memory.has(memory)
    memory.empty("x", (2,), "int32")[:] = [7, 8]
    assert segment.slot(1)[:8].view(np.int32).tolist() == [7, 8] and not segment.slot(0).any()
    assert worker.of(0).slot == 0 and worker.of(NO_SLOT) is None and worker.of(2) is None and not worker.notes


def test_memory_of_one_conversation_is_not_that_of_another(worker):
    segments = [share(worker.ready("run%d" % trainer, trainer), run="run%d" % trainer) for trainer in range(2)]
    for trainer in range(2):
        worker.of(0, trainer).empty("x", (1,), "int32")[:] = 100 + trainer
    assert [segment.slot(0)[:4].view(np.int32)[0] for segment in segments] == [100, 101]
    first, second = worker.of(0, 0), worker.of(0, 1)
    worker.memory.drop(0)
    assert not worker.memory.has(first) and worker.memory.has(second) and worker.of(0, 0) is None


@pytest.mark.parametrize("message", [Ready("run1"), Hello("host/0", 1, "python 3", 2, "")], ids=["Ready", "Hello"])
def test_what_was_shared_before_is_over_with_the_next_welcome(worker, message):
    """A batch that is still in work lies where only this worker looks: it travels."""
    segment = share(worker.ready())
    in_work = worker.of(0)
    worker.memory.completed(0, message)
    assert not worker.memory.has(in_work) and worker.of(0) is None
    in_work.empty("x", (1,), "int32")[:] = 5              # its mapping stays
    assert segment.slot(0)[0] == 5


def test_a_worker_that_waits_for_a_trainer_keeps_no_memory_of_the_last_one(worker):
    """Its generator waits, too, and still has the last lease."""
    job = Job("numerical", declared({"features": ("float32", (10,)), "labels": ("int32", (1,))}), 4, 7, "exact", "")
    share(worker.ready(), slot_bytes=layout_of(job.arrays, 4, 1).slot_bytes)
    lease = replace(lease_of(), slot=1, samples=(Sample(3, "3", 0),))
    answers, maps, before = [], [], mappings(os.getpid(), "memfd:stoker")

    def next_item():
        if not answers:
            return Work(job, lease, worker.memory.of(0, job, lease))
        worker.memory.drop(0)
        answers.clear()
        gc.collect()
        maps.append(mappings(os.getpid(), "memfd:stoker"))
        return None

    def finish(done):
        assert worker.memory.has(done.memory) and len(done.output.arrays[0]) == 1
        answers.append(done)
    answer_leases(next_item, finish, lambda job: Producer(numerical, job), None)
    assert maps[0] <= before


def test_a_trainer_that_shares_nothing_is_no_trouble(worker):
    first = worker.ready()
    assert worker.of(NO_SLOT) is None and not worker.notes
    assert not is_listened_at(first.socket)                # from the first lease on


def test_a_lease_of_memory_that_is_over_does_not_end_the_offer_of_the_next(worker):
    """It was under way while this worker said Ready a second time."""
    share(worker.ready())
    ready = worker.ready()
    assert worker.of(0) is None and worker.of(1) is None and not worker.notes
    segment = share(ready)
    worker.of(1).empty("x", (1,), "int32")[:] = 5
    assert segment.slot(1)[0] == 5


def test_a_connection_that_brings_no_memory_is_told(worker):
    with socket.socket(socket.AF_UNIX) as one, _address(worker.ready().socket, None) as address:
        one.connect(address)
        assert worker.of(0) is None
    assert worker.notes == ["batches go over the connection, since the trainer's memory cannot be shared: the trainer "
                            "sent no memory"]


@pytest.mark.parametrize("changed, why", [
    (dict(run="run2"), "of another run"), (dict(slot_bytes=2 * SLOT_BYTES), "have %d bytes, not" % (2 * SLOT_BYTES))])
def test_memory_that_is_not_that_of_the_job_is_not_used(worker, changed, why):
    share(worker.ready(), **changed)
    assert worker.of(0) is None and why in worker.notes[0]


def test_memory_for_which_the_container_has_no_room_is_not_used(worker, monkeypatch):
    """It would count as this worker's, and the kernel would kill it."""
    monkeypatch.setattr(batch_memory, "memory_bytes", lambda: 4.0 * SLOT_BYTES)
    share(worker.ready(), slots=2)
    assert worker.of(0) is not None and not worker.notes
    share(worker.ready(), slots=3)
    assert worker.of(0) is None and "it is up to 0 MB, and all processes of this container" in worker.notes[0]


def is_listened_at(name):
    with socket.socket(socket.AF_UNIX) as one, _address(name, None) as address:
        return one.connect_ex(address) == 0


@pytest.mark.parametrize("end", [lambda worker: worker.memory.completed(0, Hello("host/0", 1, "python 3", 2, "")),
                                 lambda worker: worker.memory.drop(0), lambda worker: worker.memory.close(),
                                 lambda worker: worker.ready(), lambda worker: worker.of(NO_SLOT)],
                         ids=["Hello", "drop", "close", "Ready", "first lease"])
def test_the_socket_is_closed(worker, end):
    name = worker.ready().socket
    assert is_listened_at(name)
    end(worker)
    assert not is_listened_at(name)


def test_shared_memory_is_none_of_what_a_picture_may_take():
    """It is neither in RLIMIT_DATA nor in what ``heap`` gives back."""
    before = usage()
    segment, fd = create(16, 4 << 20)
    os.close(fd)
    for slot in range(16):
        segment.slot(slot).fill(1)
    assert [after - was < 32 << 20 for after, was in zip(usage(), before)] == [True, True]


def test_without_shared_memory_the_trainer_hears_why(tmp_path):
    off = Worker(replace(PLAIN, shared_memory=False))
    assert off.ready() == Ready("run1", "", "it has --no-shared-memory") and off.of(0) is None
    lost = Worker(replace(PLAIN, shared_memory_folder=str(tmp_path / "gone")))
    assert lost.ready().socket == "" and "--shared-memory-folder" in lost.ready().no_memory
    assert Worker().memory.completed(0, Alive("run1")) == Alive("run1")


def test_a_folder_holds_the_socket_until_the_trainer_has_come(tmp_path):
    worker = Worker(replace(PLAIN, shared_memory_folder=str(tmp_path)))
    ready = worker.ready()
    assert not ready.socket.startswith("@") and len(os.listdir(str(tmp_path))) == 1
    segment = share(ready, folder=str(tmp_path))
    assert os.listdir(str(tmp_path)) == []
    worker.of(0).empty("x", (1,), "int32")[:] = 5
    assert segment.slot(0)[0] == 5
    worker.ready()
    worker.memory.close()
    assert os.listdir(str(tmp_path)) == []


def test_a_part_of_a_lease_has_the_same_memory():
    lease = lease_of(1, 2)
    one = SlotLease(**dict(vars(lease), memory=slot_of(JOB)[0]))
    assert memory_of(lease) is None and memory_of(replace(one, samples=lease.samples[:1])) is one.memory
