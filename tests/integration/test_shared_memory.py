"""Batches of real workers that come through shared memory: what each kind of function and generator makes is what
comes, while the batches before are still in use."""

import sys
import textwrap

import numpy as np
import pytest

import stoker

MODULE = '''
    import os
    import numpy as np
    import stoker

    @stoker.sample({"pixels": ("uint8", (40, 50, 3)), "words": ("int32", (stoker.UpTo(9, pad=-1),))}, rows=3)
    def of_samples(sample, random):
        if sample.index % 7 == 3:
            raise stoker.Skip("three")
        if sample.index == 5:
            pid = os.fork()             # as a library may: what it does here is no matter of Stoker's memory
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
        return [{"pixels": np.full((40, 50, 3), sample.index, np.uint8), "words": [sample.index] * (sample.index % 10)}
                for _ in range(1 + sample.index % 3)]

    @stoker.batch({"pixels": ("uint8", (40, 50, 3)), "odd": "bool"}, may_skip=True)
    def of_batches(samples, random):
        kept = [sample.index for sample in samples if sample.index % 7 != 3]
        return {"pixels": [np.full((40, 50, 3), index, np.uint8) for index in kept],
                "odd": np.array([index % 2 * 255 for index in kept], np.uint8).view(bool)}

    @stoker.generator({"index": "int32", "pixels": ("uint8", (40, 50, 3))})
    def over_leases(leases, job):
        """It fills the arrays again that it yielded, and spoils those that Stoker made for it."""
        index, pixels, before = np.zeros(6, np.int32), np.zeros((6, 40, 50, 3), np.uint8), []
        for lease in leases:
            for arrays in before:
                for array in arrays:
                    array.fill(99)
            made = stoker.batch_of(lease, job, lambda sample: [sample.index, np.full((40, 50, 3), sample.index)])
            before.append(made.arrays)
            if lease.position % 2:
                yield made
                continue
            count = len(lease.samples)
            index[:count] = [sample.index for sample in lease.samples]
            pixels[:count] = index[:count, None, None, None]
            yield stoker.Output((index[:count], pixels[:count]))
'''
SAMPLES, BATCH_SIZE = 30, 6      # few enough for a slot for each batch, though all are kept


@pytest.fixture
def batches(tmp_path, monkeypatch, worker_python, caplog):
    """A function that takes a stream's batches, and checks that all came through shared memory."""
    (tmp_path / "kinds.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kinds", raising=False)

    def taken(*data, **options):
        options = dict(dict(batch_size=BATCH_SIZE, workers=1, worker_python=worker_python), **options)
        with caplog.at_level("INFO", "stoker"), stoker.open_stream(*data, **options) as stream:
            found = list(stream)
        assert "come through shared memory" in caplog.text
        for array in (array for batch in found for array in batch.arrays):
            assert array.flags.writeable and array.flags.aligned and array.ctypes.data % 64 == 0 or not array.size
        return found
    return taken


@pytest.mark.parametrize("options", [{}, dict(worker_python=sys.executable)], ids=["newest", "same"])
def test_a_function_of_samples(batches, options):
    found = batches(SAMPLES, "kinds:of_samples", order="sequential", **options)
    rows = [index for index in range(SAMPLES) if index % 7 != 3 for _ in range(1 + index % 3)]
    assert np.concatenate([batch.arrays[0][:, 0, 0, 0] for batch in found]).tolist() == rows
    assert all((batch.arrays[0] == batch.arrays[0][:, :1, :1, :1]).all() for batch in found)
    words = [line[:size].tolist() for batch in found
             for line, size in zip(batch.arrays[1], batch.sizes["words"].tolist())]
    assert words == [[index] * (index % 10) for index in rows]
    assert sum(len(batch.skipped) for batch in found) == 4


def test_a_function_of_batches(batches):
    found = batches(SAMPLES, "kinds:of_batches", order="sequential")
    rows = [index for index in range(SAMPLES) if index % 7 != 3]
    assert np.concatenate([batch.arrays[0][:, 7, 7, 0] for batch in found]).tolist() == rows
    assert np.concatenate([batch.arrays[1].view(np.uint8) for batch in found]).tolist() == [row % 2 for row in rows]


def test_a_generator_that_writes_to_arrays_of_former_batches(batches):
    found = batches(SAMPLES, "kinds:over_leases", order="sequential")
    assert [batch.arrays[0].tolist() for batch in found] == [
        list(range(start, start + BATCH_SIZE)) for start in range(0, SAMPLES, BATCH_SIZE)]
    assert all((batch.arrays[1] == batch.arrays[0][:, None, None, None]).all() for batch in found)


def test_the_built_in_numbers_are_those_that_come_over_tcp(batches, worker_python):
    options = dict(generator="numerical", batch_size=BATCH_SIZE, seed=5, workers=1, worker_python=worker_python)
    with stoker.open_stream(SAMPLES, shared_memory=False, **options) as stream:
        expected = [[array.tobytes() for array in batch.arrays] for batch in stream]
    assert [[array.tobytes() for array in batch.arrays] for batch in batches(
        SAMPLES, generator="numerical", seed=5)] == expected
