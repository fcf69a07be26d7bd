"""A segment of shared memory: its slots, when they are free, what of it is checked, and that nothing is left."""

import contextlib
import gc
import multiprocessing
import os
import resource
import tempfile
import time

import numpy as np
import pytest

from stoker.pipeline.transport import memory
from stoker.pipeline.transport.memory import NoSharedMemory, create, mapped

BYTES = 8192


def mappings():
    with open("/proc/self/maps") as file:
        return sum("memfd:stoker" in line for line in file)


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def both(slots=4):
    """The segment on both sides; both were mapped in this process."""
    ours, fd = create(slots, BYTES)
    theirs = mapped(fd, slots, BYTES)
    os.close(fd)
    yield ours, theirs


def test_both_sides_see_the_same_bytes_in_aligned_writable_slots():
    with both() as (ours, theirs):
        for number in range(4):
            theirs.slot(number)[:] = number + 1
            ours.slot(number)[-1] = 9
        for number in range(4):
            assert ours.slot(number)[:-1].tolist() == [number + 1] * (BYTES - 1) and theirs.slot(number)[-1] == 9
            assert ours.slot(number).ctypes.data % 64 == 0 and ours.slot(number).flags.writeable
        for wrong in (-1, 4):
            with pytest.raises(IndexError):
                ours.slot(wrong)


def test_a_slot_is_free_once_the_last_view_of_it_is_gone():
    with both() as (ours, theirs):
        assert ours.is_free(2)
        view = ours.slot(2)[64:128].view(np.float32).reshape(4, 4)
        part = view[1:, 0].T
        assert [ours.is_free(number) for number in range(4)] == [True, True, False, True]
        del view
        assert not ours.is_free(2) and theirs.is_free(2)         # of this side's views only
        del part
        assert ours.is_free(2)


def test_released_memory_is_zeros_on_both_sides():
    with both() as (ours, theirs):
        theirs.slot(0)[:], theirs.slot(1)[:], theirs.slot(2)[:] = 1, 1, 1
        assert ours.release(1)
        assert [theirs.slot(number)[::BYTES - 1].tolist() for number in range(3)] == [[1, 1], [0, 0], [1, 1]]


def test_the_mapping_lives_as_long_as_a_view_and_needs_no_descriptor():
    gc.collect()
    before, at_first = mappings(), descriptors()
    with both() as (ours, theirs):
        assert descriptors() == at_first
        view = ours.slot(1)[100:]
        view[:] = 3
    del ours, theirs
    gc.collect()
    assert view.sum() == 3 * (BYTES - 100) and mappings() == before + 1
    del view
    gc.collect()
    assert mappings() == before


@pytest.mark.parametrize("slots, slot_bytes", [(0, BYTES), (-1, BYTES), (4, 0), (1 << 16, 1 << 40)])
def test_impossible_sizes_are_refused_before_memory_is_touched(slots, slot_bytes):
    for call in (lambda: create(slots, slot_bytes), lambda: mapped(0, slots, slot_bytes)):
        with pytest.raises(NoSharedMemory, match="no possible size"):
            call()


def test_no_peer_can_make_the_memory_smaller():
    _, fd = create(2, BYTES)
    for size in (0, BYTES, 3 * BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)


def test_memory_of_another_size_or_without_seals_or_of_a_file_is_refused():
    _, fd = create(2, BYTES)
    with pytest.raises(NoSharedMemory, match="has 16384 bytes, not 24576"):
        mapped(fd, 3, BYTES)
    os.close(fd)
    with pytest.raises(NoSharedMemory, match="not one of memory"):
        mapped(fd, 2, BYTES)                        # it is closed
    fd = memory._memfd()
    os.ftruncate(fd, 2 * BYTES)
    with pytest.raises(NoSharedMemory, match="not sealed"):
        mapped(fd, 2, BYTES)
    os.close(fd)
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * BYTES)
        with pytest.raises(NoSharedMemory, match="not"):
            mapped(file.fileno(), 2, BYTES)


def test_a_system_that_gives_none_is_named(monkeypatch, tmp_path):
    at_first = descriptors()
    (tmp_path / "overcommit").write_text("2\n")
    monkeypatch.setattr(memory, "OVERCOMMIT", str(tmp_path / "overcommit"))
    with pytest.raises(NoSharedMemory, match="vm.overcommit_memory is 2"):
        create(2, BYTES)
    monkeypatch.setattr(memory, "OVERCOMMIT", str(tmp_path / "absent"))
    with pytest.raises(NoSharedMemory, match="cannot be mapped: Cannot allocate memory"):
        with contextlib.ExitStack() as made:
            for _ in range(2):              # of more addresses than a process has
                segment, fd = create(1 << 6, 1 << 40)
                made.callback(os.close, fd)
                made.callback(segment.is_free, 0)       # keeps it until then
    assert descriptors() == at_first

    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 46, limits[1]))
    try:
        with pytest.raises(NoSharedMemory, match="ulimit -v"):
            create(2, BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)

    class OldLibc:
        """Without the function; its system call says no."""
        syscall = staticmethod(lambda *arguments: -1)
    monkeypatch.setattr(memory, "_libc", OldLibc)
    with pytest.raises(NoSharedMemory, match="makes no memory to share"):
        create(2, BYTES)
    monkeypatch.setattr(memory, "NUMBERS", {})
    with pytest.raises(NoSharedMemory, match="no memfd_create"):
        create(2, BYTES)


def test_where_libc_has_no_function_the_system_call_does_it(monkeypatch):
    class WithoutIt:
        """All of libc but one function."""
        def __getattr__(self, name):
            if name == "memfd_create":
                raise AttributeError(name)
            return getattr(libc, name)
    libc = memory._libc
    monkeypatch.setattr(memory, "_libc", WithoutIt())
    with both() as (ours, theirs):
        theirs.slot(3)[:] = 5
        assert ours.slot(3).sum() == 5 * BYTES


def test_a_fork_of_the_trainer_sees_what_is_written_over_a_batch_that_was_not_copied():
    ours, fd = create(2, BYTES)
    os.close(fd)
    batch, copied = ours.slot(1), ours.slot(1).copy()
    read, write = os.pipe()
    process = os.fork()
    if not process:
        os.read(read, 1)                        # the program has let go of it, and the next batch has come
        os._exit(int(batch[0]) * 10 + int(copied[0]))
    batch[:] = 7
    os.write(write, b"x")
    assert os.WEXITSTATUS(os.waitpid(process, 0)[1]) == 70
    for end in (read, write):
        os.close(end)


def test_a_process_of_multiprocessing_keeps_the_batches_that_it_was_given():
    ours, fd = create(3, BYTES)
    theirs = mapped(fd, 3, BYTES)
    os.close(fd)
    batch = ours.slot(1)[10:20]
    batch[:], ours.slot(2)[:] = 5, 6
    read, write = os.pipe()

    def child():
        os.write(write, b"begun")
        time.sleep(0.2)
        batch[0] += 1                           # nor does the program see what the process writes
        os._exit(int(batch[0]) * 10 + int(batch[9]))
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    os.read(read, 5)
    theirs.slot(1)[:] = 7
    process.join()
    assert (process.exitcode, batch.tolist()) == (65, [7] * 10)
    for end in (read, write):
        os.close(end)


def test_a_fork_of_the_worker_has_no_part_of_the_memory_and_one_of_the_trainer_has():
    ours, fd = create(2, BYTES)
    for segment, count in ((ours, 1), (mapped(fd, 2, BYTES), 0)):
        process = os.fork()
        if not process:
            number = sum("%x-" % segment._address in line for line in open("/proc/self/maps"))
            os._exit(number)
        assert os.WEXITSTATUS(os.waitpid(process, 0)[1]) == count
    os.close(fd)
