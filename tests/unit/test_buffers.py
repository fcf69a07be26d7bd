"""The memory of batches: when it is used again, and that it is bounded."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.coordinator.buffers import ALIGNMENT, RECYCLE_FROM_BYTES, BatchBuffers, BufferPool
from stoker.pipeline.options import JobOptions

LARGE = (2, RECYCLE_FROM_BYTES)


def memory(array):
    """The addresses that the array covers: [first, behind the last)."""
    start = array.__array_interface__["data"][0]
    return start, start + array.nbytes


@pytest.mark.parametrize("shape, dtype", [((1,), "u1"), ((3, 5), "<i4"), ((0, 7), "f4"), ((), "f8"), (LARGE, "u1"),
                                          ((9, 100, 100, 3), "f4"), ((0, 1 << 20), "u1")])
def test_arrays_are_aligned_writable_and_contiguous(shape, dtype):
    pool = BufferPool(4)
    for _ in range(20):
        array = pool.empty(shape, np.dtype(dtype))
        assert array.shape == shape and array.dtype == np.dtype(dtype)
        assert memory(array)[0] % ALIGNMENT == 0 or not array.nbytes
        assert array.flags.writeable and array.flags.c_contiguous and array.flags.aligned
        array[...] = 1


def test_memory_is_used_again_when_nothing_refers_to_it():
    pool = BufferPool(4)
    array = pool.empty(LARGE, np.uint8)
    used = memory(array)
    assert memory(pool.empty(LARGE, np.uint8)) != used
    del array
    assert used in {memory(array) for array in [pool.empty(LARGE, np.uint8) for _ in range(2)]}


@pytest.mark.parametrize("view", [
    lambda array: array[1:], lambda array: array.reshape(-1)[7:9], lambda array: array.T, lambda array: array[0, 0:0],
    lambda array: array.view(np.int32), lambda array: memoryview(array), lambda array: array.reshape(-1).data[5:6],
    lambda array: np.frombuffer(memoryview(array).cast("B"), np.uint8), lambda array: np.asarray(array)[::2],
    lambda array: np.broadcast_to(array, (2,) + array.shape), lambda array: iter(array)],
    ids=["slice", "reshape", "transpose", "empty", "dtype", "memoryview", "cut memoryview", "frombuffer", "stride",
         "broadcast", "iterator"])
def test_memory_is_kept_while_any_view_is_left(view):
    pool = BufferPool(4)
    array = pool.empty(LARGE, np.uint8)
    used = memory(array)
    kept = view(array)
    del array
    for _ in range(3):
        assert memory(pool.empty(LARGE, np.uint8)) != used
    del kept
    assert used in {memory(array) for array in [pool.empty(LARGE, np.uint8) for _ in range(3)]}


def test_a_steady_stream_needs_no_new_memory():
    pool = BufferPool(6)
    seen, held = set(), []
    for _ in range(200):
        held.append(pool.empty(LARGE, np.uint8))
        seen.add(memory(held[-1]))
        if len(held) == 4:
            held.pop(0)
    assert len(seen) <= 6


def test_a_steady_stream_needs_no_new_memory_however_much_is_held():
    pool = BufferPool(40)
    seen, held = set(), []
    for number in range(400):
        held.append(pool.empty(LARGE, np.uint8))
        seen.add(memory(held[-1]))
        if len(held) == 30:
            held.pop(number % 3)
    assert len(seen) <= 31


def test_the_memory_used_last_is_preferred():
    pool = BufferPool(40)
    held = [pool.empty(LARGE, np.uint8) for _ in range(30)]
    del held
    assert len({memory(pool.empty(LARGE, np.uint8)) for _ in range(30)}) == 1


@pytest.mark.parametrize("least, power", [(0.1, 1), (0.0, 4), (0.9, 1)])
def test_sizes_that_vary_stay_within_the_bound_and_are_recycled(least, power):
    """A window of batches, each of another size, takes no more memory than the same window of the largest."""
    chance, most, window = random.Random(0), 1 << 20, 16
    pool = BufferPool(4 * window, window * most * 9 // 8)
    held, known, new = [], set(), 0
    for number in range(2000):
        size = int(most * (least + (1 - least) * chance.random() ** power))
        held.append(pool.empty((size,), np.uint8, varies=True))
        blocks = {memory(block) for block in pool._blocks}
        if number >= 1000:
            new += bool(size >= RECYCLE_FROM_BYTES and not blocks <= known)
        known = blocks
        assert pool._bytes == sum(block.size for block in pool._blocks) <= window * most * 9 // 8
        while len(held) > chance.randint(1, window - 4):
            held.pop(0)
    assert new <= 20


def test_over_the_bound_only_free_buffers_are_let_go_of():
    """Those in use would take as much memory if the pool did not know them, and could not be used again."""
    pool = BufferPool(4, 1 << 20)
    held, free = pool.empty((1 << 20,), np.uint8), pool.empty((1 << 19,), np.uint8)
    del free
    more = pool.empty((1 << 21,), np.uint8)
    assert [block.size - ALIGNMENT for block in pool._blocks] == [1 << 20, 1 << 21] and memory(held) != memory(more)
    assert pool._bytes == sum(block.size for block in pool._blocks)


@pytest.mark.parametrize("upto, rows", [(UpTo(300), 1), (300, 3)])
def test_batches_of_sizes_that_vary_are_copied_into_memory_that_is_used_again(upto, rows):
    job = JobOptions("own:f", batch_size=40, rows=rows, declared=(
        ArraySpec("points", "float32", (upto, 9)), ArraySpec("kind", "int32", ())))
    buffers, chance, held, known, new = BatchBuffers(job, 12), random.Random(0), [], set(), 0
    for number in range(600):
        count = chance.randint(40, 40 * rows)
        points = np.full((count, chance.randint(100, 300) if rows == 1 else 300, 9), number, "<f4")
        views = [points, np.full(count, number, "<i4")] + [np.full(count, points.shape[1], "<i4")] * (rows == 1)
        held.append(buffers.copies(views))
        assert [(array.shape, array.dtype) for array in held[-1]] == [(view.shape, view.dtype) for view in views]
        assert all((array == view).all() for array, view in zip(held[-1], views))
        blocks = {memory(block) for block in buffers._pool._blocks}
        new += number >= 300 and not blocks <= known
        known = blocks
        while len(held) > chance.randint(1, 10):
            held.pop(0)
    assert new <= 20 and buffers._pool._bytes <= 12 * 40 * rows * (300 * 9 + 2) * 4 * 9 // 8


def test_small_arrays_are_not_kept():
    pool = BufferPool(4)
    arrays = [pool.empty((10,), np.uint8) for _ in range(100)]
    assert len({memory(array) for array in arrays}) == 100
    assert not pool._blocks


@given(st.lists(st.tuples(st.sampled_from([RECYCLE_FROM_BYTES, RECYCLE_FROM_BYTES + 4, 2 * RECYCLE_FROM_BYTES, 64]),
                          st.integers(0, 5)), max_size=40), st.integers(0, 6))
def test_no_two_arrays_in_use_overlap_and_the_pool_is_bounded(requests, keep):
    pool = BufferPool(keep)
    in_use = []
    for number, (nbytes, drop) in enumerate(requests):
        array = pool.empty((nbytes,), np.uint8)
        array[:8] = number
        in_use.append((number, array[:8], array[8:] if number % 2 else None))
        del array
        spans = sorted(memory(first) for _, first, rest in in_use)
        assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:]))
        assert all((first == number % 256).all() for number, first, rest in in_use)
        assert len(pool._blocks) <= keep
        if drop < len(in_use):
            del in_use[drop]
