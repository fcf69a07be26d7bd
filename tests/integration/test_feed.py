"""Feeding a batch makes no copy, and a buffer is used again if and only if TensorFlow has released it."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from stoker.pipeline.coordinator.buffers import ALIGNMENT, RECYCLE_FROM_BYTES
from tests.support.processes import ROOT, interpreter

tf = pytest.importorskip("tensorflow")

from stoker.trainer.feed import feed_dict, open_stream  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:inspect.getargspec")     # TensorFlow's own, in tf.contrib

BATCH_SIZE, SIDE = 8, 64      # 98,304 bytes: large enough for recycling
HELD = 8                      # batches that TensorFlow holds meanwhile


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 pictures of noise, so that no two batches are alike."""
    from PIL import Image
    folder = tmp_path_factory.mktemp("photos")
    for index in range(24):
        picture = np.random.RandomState(index).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        place = folder / ("class%d" % (index % 2))
        place.mkdir(exist_ok=True)
        Image.fromarray(picture).save(str(place / ("%d.png" % index)))
    return str(folder)


def stream_of(photos, epochs, shared_memory=True, workers=2):
    assert BATCH_SIZE * SIDE * SIDE * 3 >= RECYCLE_FROM_BYTES
    return open_stream(photos, image_size=SIDE, batch_size=BATCH_SIZE, epochs=epochs, workers=workers, prefetch=4,
                       worker_python=interpreter("STOKER_TEST_WORKER_PYTHON"), shared_memory=shared_memory)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def placeholders():
    return tf.placeholder(tf.uint8, (None, SIDE, SIDE, 3)), tf.placeholder(tf.int32, (None, 1))


def address(array):
    return array.ctypes.data


# --------------------------------------------------------------------------------------------------------- no copy

#: Runs in a process of its own, because a process has one peak of memory. Prints by how many bytes session.run
#: raised it.
MEASURE = """
import sys
import numpy as np
import tensorflow as tf
from stoker.pipeline.coordinator.buffers import BufferPool

NBYTES, kind = 96 << 20, sys.argv[1]

def memory(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what + ":")) << 10

placeholder = tf.placeholder(tf.uint8, (None,))
few_bytes = placeholder[NBYTES // 2:NBYTES // 2 + 16]
array = BufferPool(1).empty((NBYTES + 1,), np.uint8)
array[:] = 7
array = array[1:] if kind == "unaligned" else array[:-1]
array.setflags(write=kind != "read-only")
with tf.Session() as session:
    session.run(few_bytes, {placeholder: np.zeros(NBYTES // 2 + 16, np.uint8)})     # the first run allocates more
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")                            # resets the peak to the current use
    before = memory("VmHWM")
    got = session.run(few_bytes, {placeholder: array})
    assert got.tolist() == [7] * 16
    print(memory("VmHWM") - before)
"""


def growth(kind):
    """By how much feeding 96 MiB raised the peak, in units of the array's size."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2", PYTHONPATH=ROOT)
    output = subprocess.check_output([sys.executable, "-c", MEASURE, kind], cwd=ROOT, env=environment, timeout=120)
    return int(output) / (96 << 20)


def can_reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not can_reset_peak(), reason="this kernel does not let a process reset its peak of memory")
def test_session_run_takes_no_copy_of_a_pools_array():
    assert growth("pool") < 0.25
    # the measurement notices a copy
    assert growth("unaligned") > 0.75
    assert growth("read-only") > 0.75


def test_tensorflow_reads_a_streams_batch_where_it_is(photos):
    """It does so if it sees what is written into the array after the feed."""
    images, labels = placeholders()
    queue = tf.FIFOQueue(1, (tf.uint8, tf.int32))
    enqueue, dequeue = queue.enqueue((images, labels)), queue.dequeue()
    with stream_of(photos, 1) as stream, tf.Session() as session:
        batch = next(stream)
        for array in batch.arrays:
            assert address(array) % ALIGNMENT == 0
            assert array.flags.writeable and array.flags.c_contiguous
        assert batch.images.dtype == np.uint8 and batch.images.shape == (BATCH_SIZE, SIDE, SIDE, 3)
        assert batch.labels.dtype == np.int32 and batch.labels.shape == (BATCH_SIZE, 1)
        session.run(enqueue, feed_dict(batch, images, labels))
        batch.images[:] = 77
        batch.labels[:] = 78
        got_images, got_labels = session.run(dequeue)
    assert (got_images == 77).all() and (got_labels == 78).all()


def test_tensorflow_reads_the_parts_of_a_split_batch_where_they_are(photos):
    """For two towers: each part of the images begins at a multiple of 64 bytes. The last labels do not: a copy."""
    images, labels = placeholders()
    queue = tf.FIFOQueue(2, (tf.uint8, tf.int32))
    enqueue, dequeue = queue.enqueue((images, labels)), queue.dequeue()
    with stream_of(photos, 1) as stream, tf.Session() as session:
        batch = next(stream)
        parts = batch.split(2)
        for part in parts:
            assert address(part.images) % ALIGNMENT == 0 and np.shares_memory(part.images, batch.images)
            session.run(enqueue, feed_dict(part, images, labels))
        kept = parts[1].labels.copy()
        batch.images[:], batch.labels[:] = 77, 78
        first, second = session.run(dequeue), session.run(dequeue)
    assert (first[0] == 77).all() and (second[0] == 77).all() and (first[1] == 78).all()
    assert address(parts[1].labels) % ALIGNMENT and (second[1] == kept).all()


def test_the_memory_of_a_batch_is_not_used_again_while_a_part_is_held(photos):
    with stream_of(photos, 20) as stream:
        part = next(stream).split(2)[1]
        kept = part.images.copy()
        assert address(part.images) not in {address(batch.images) + kept.nbytes for batch in stream}
        assert (part.images == kept).all()


# ------------------------------------------------------------------------------------------------------- recycling

def fifo_queue():
    queue = tf.FIFOQueue(HELD, (tf.uint8, tf.int32))
    return queue.enqueue, queue.dequeue


def staging_area():
    area = tf.contrib.staging.StagingArea((tf.uint8, tf.int32), capacity=HELD)
    return area.put, area.get


@pytest.mark.parametrize("holder, shared_memory", [(fifo_queue, False), (staging_area, True)])
def test_a_buffer_that_tensorflow_holds_is_not_used_again(photos, holder, shared_memory):
    images, labels = placeholders()
    put, get = holder()
    put, get = put((images, labels)), get()
    with stream_of(photos, 20, shared_memory) as stream, tf.Session() as session:
        copies, places = [], set()
        for _ in range(HELD):
            batch = next(stream)
            session.run(put, feed_dict(batch, images, labels))
            copies.append([array.copy() for array in batch.arrays])
            places.add(address(batch.images))
        del batch
        gc.collect()
        later = [address(batch.images) for batch in stream]       # only TensorFlow refers to the eight
        assert len(later) == stream.plan.steps - HELD
        assert not places & set(later)
        for wanted in copies:
            for array, got in zip(wanted, session.run(get)):
                np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_released_buffer_is_used_again(photos, shared_memory):
    images, labels = placeholders()
    total = tf.reduce_sum(tf.cast(images, tf.int64))
    with stream_of(photos, 20, shared_memory) as stream, tf.Session() as session:
        places = []
        for batch in stream:
            assert session.run(total, feed_dict(batch, images, labels)) == batch.images.sum(dtype=np.int64)
            places.append(address(batch.images))
    assert len(places) == 60
    # at most: prefetch=4 buffered batches, one at the consumer, one or two not yet released; with shared memory four
    # at the consumer, and two more for each of two workers
    assert len(set(places)) <= 12


def test_a_buffer_is_used_again_after_tensorflow_releases_it(photos):
    images, labels = placeholders()
    put, get = fifo_queue()
    put, get = put((images, labels)), get()
    # one worker: of two, the one whose memory these are might stand still, and the other one makes the rest
    with stream_of(photos, 40, workers=1) as stream, tf.Session() as session:
        places = set()
        for _ in range(HELD // 2):
            batch = next(stream)
            session.run(put, feed_dict(batch, images, labels))
            places.add(address(batch.images))
        for _ in range(HELD // 2):
            session.run(get)
        del batch
        assert places & {address(batch.images) for batch in stream}


def test_a_batch_of_which_all_samples_were_skipped_is_fed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "broken.png").write_bytes(b"no picture")
    images, labels = placeholders()
    stream = open_stream(str(tmp_path), image_size=SIDE, batch_size=2, workers=1,
                         worker_python=interpreter("STOKER_TEST_WORKER_PYTHON"))
    with stream, tf.Session() as session:
        batch = next(stream)
        assert len(batch) == 0 and len(batch.skipped) == 2
        shape, = session.run([tf.shape(images)], feed_dict(batch, images, labels))
        assert shape.tolist() == [0, SIDE, SIDE, 3]
