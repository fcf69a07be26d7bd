"""``batch.split``: the parts of a batch for several GPUs in one process."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.protocol.messages import Skipped, Timings
from stoker.pipeline.sources.table import Table

SPECS = (ArraySpec("image", "uint8", (4, 16)), ArraySpec("boxes", "float32", (UpTo(5), 4)),
         ArraySpec("label", "int32", ()))


SOURCE = Table.of([{"row": number} for number in range(99)], "")


def batch_of(count, used=None, source=SOURCE):
    random = np.random.RandomState(count)
    arrays = (random.randint(0, 256, (count, 4, 16)).astype(np.uint8), random.rand(count, 3, 4).astype(np.float32),
              np.arange(count, dtype=np.int32))
    used = tuple(range(10, 10 + count)) if used is None else used
    return Batch(7, 1, True, tuple(used) + (98,), arrays, (Skipped(98, "broken"),), "host:1/0", 2, 0.5, used,
                 Timings(decode_s=0.2), 0.1, SPECS, {"boxes": np.arange(count, dtype=np.int32) % 4}, source, 3, 40)


@given(st.integers(0, 40), st.integers(1, 45))
def test_the_parts_are_views_that_together_are_the_batch(count, n):
    batch = batch_of(count)
    parts = batch.split(n)
    sizes = [len(part) for part in parts]
    assert len(parts) == n and sum(sizes) == count and max(sizes) - min(sizes) <= 1
    for name in ("image", "boxes", "label", "boxes.sizes"):
        assert np.array_equal(np.concatenate([part[name] for part in parts]), batch[name])
        for part in parts:
            assert len(part[name]) == len(part) and part[name].flags.c_contiguous and part[name].flags.writeable
            assert not len(part) or np.shares_memory(part[name], batch[name])
    assert sum((part.used_indices for part in parts), ()) == batch.used_indices
    assert sum((part.rows for part in parts), []) == batch.rows
    for part in parts:
        assert part.indices == part.used_indices and part.skipped == () and part.missing == 0
        assert (part.step, part.epoch, part.training, part.worker, part.global_size) == (7, 1, True, "host:1/0", 40)


def test_of_a_sample_with_several_rows_each_part_has_its_own():
    parts = batch_of(4, (5, 5, 5, 6)).split(2)
    assert [part.used_indices for part in parts] == [(5, 5), (5, 6)]
    assert [part.rows for part in parts] == [[{"row": 5}] * 2, [{"row": 5}, {"row": 6}]]


def test_the_rows_of_a_batch_function_are_of_unknown_samples():
    batch = batch_of(4, (5, 6, 7, 8, 9), source=None)
    for part in batch.split(2):
        assert part.indices == batch.indices and part.used_indices == batch.used_indices and len(part) == 2
        with pytest.raises(ConfigError, match="any order"):
            assert part.rows


def test_a_part_can_be_split_again():
    first, second = batch_of(8).split(2)[1].split(2)
    assert first.used_indices == (14, 15) and second.used_indices == (16, 17)
    assert first["label"].tolist() == [4, 5] and second["label"].tolist() == [6, 7]


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True, None])
def test_a_wrong_number_of_parts_is_an_error(n):
    with pytest.raises(ConfigError, match="n must be a whole number from 1"):
        batch_of(4).split(n)
