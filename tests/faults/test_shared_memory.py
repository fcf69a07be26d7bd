"""Memory that trainer and workers share, under faults: what is lent out keeps its bytes, and nothing is left."""

import array
import gc
import os
import signal
import socket
import time

import numpy as np
import pytest

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.coordinator import batch_memory
from stoker.pipeline.monitoring.audit import batch_crc
from stoker.pipeline.protocol.layout import layout_of
from stoker.pipeline.protocol.messages import MAX_SLOTS, NO_SLOT, Hello, Lease, Leaving, Produced, Ready, Welcome
from stoker.pipeline.transport import memory_handover
from stoker.pipeline.transport.memory_handover import Offer
from tests.faults.test_workers import Liar
from tests.support.memory import mappings
from tests.support.processes import (consumer_program, free_port, kill, opened, wait_for, worker_pids,
                                     workers_program)
from tests.support.strangers import as_stranger, needs_root

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}      # 120 pictures: 15 steps an epoch
SLOW = "user_generators:slow"
SHARES = " come through shared memory"
MEMFD = "memfd:stoker"
ARRAYS = ArraySpec("images", "uint8", (32, 32, 3)), ArraySpec("labels", "int32", (1,))
LAYOUT = layout_of(ARRAYS, OPTIONS["batch_size"], 1)


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of the run of four epochs without shared memory: a shorter run is its beginning."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=4, shared_memory=False,
                **OPTIONS) as run:
        run.take_all()
    assert not run.log.having(SHARES)
    return run.content()


def crcs(batches):
    return [batch_crc(batch) for batch in batches]


def let_go(run, reference, kept=4):
    """The program no longer uses the batches before the last few: until now they kept their bytes."""
    gone = max(0, len(run.batches) - kept)
    for batch in run.batches[:gone]:
        assert batch_crc(batch) == reference[batch.step][3], "step %d changed while it was in use" % batch.step
    del run.batches[:gone]


def in_frames(run):
    """How many leases got no slot, though their workers share memory."""
    return run.stream._coordinator._session.slots.in_frames


# --------------------------------------------------------------------------------------------------- what is lent out

def test_a_program_that_keeps_every_batch_gets_copies_once_the_memory_is_used_up(reference, pictures, tmp_path, table):
    began = time.monotonic()
    with opened(pictures, tmp_path / "audit", workers=2, epochs=4, prefetch=4, **OPTIONS) as run:
        run.take_all()
        copied = in_frames(run)
    assert run.content() == reference and crcs(run.batches) == [crc for _, _, _, crc in reference]
    assert run.log.having(SHARES) and 0 < copied < len(run.batches)
    assert all(batch.images.flags.writeable for batch in run.batches)
    table("trainer", "keeps every batch of the run", "nothing; once the shared memory is in use, batches come over TCP",
          "every step: attempt 1", time.monotonic() - began)


def test_batches_outlive_their_worker_and_the_stream(reference, pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=2, epochs=4, generator=SLOW, prefetch=4, **OPTIONS) as run:
        run.take(2)
        for _ in range(3):
            pids = worker_pids()
            for pid in pids:
                kill(pid)
            run.take(4)
    assert crcs(run.batches) == [crc for _, _, _, crc in reference[:14]]
    run.batches[0].images[:] = 7                     # a program's own, as any other array
    assert crcs(run.batches[1:]) == [crc for _, _, _, crc in reference[1:14]]
    del run
    wait_for(lambda: gc.collect() >= 0 and not mappings(os.getpid(), MEMFD), "the end of the mappings")


def test_a_fork_of_the_trainers_program_and_its_end_change_nothing(reference, pictures, tmp_path):
    with opened(pictures, tmp_path / "audit", workers=2, epochs=2, prefetch=4, **OPTIONS) as run:
        run.take(3)
        pid = os.fork()
        if not pid:                                  # as a multiprocessing.Pool of the user's: it reads, and ends
            os._exit(int(crcs(run.batches) != [crc for _, _, _, crc in reference[:3]]))
        assert os.waitpid(pid, 0)[1] == 0
        run.take_all()
    assert run.content() == reference[:30] and crcs(run.batches) == [crc for _, _, _, crc in reference[:30]]


# --------------------------------------------------------------------------------------------------- what is left over

@pytest.mark.parametrize("with_folder", [False, True], ids=["abstract", "folder"])
def test_a_killed_trainer_and_killed_workers_leave_nothing(with_folder, reference, pictures, tmp_path,
                                                           own_generators, table):
    began, address, folder = time.monotonic(), "tcp://127.0.0.1:%d" % free_port(), tmp_path / "sockets"
    folder.mkdir()
    options = dict(data=pictures, generator=SLOW, workers=0, bind=address, epochs=4, **OPTIONS)
    more = ["--shared-memory-folder", str(folder)] * with_folder
    if with_folder:
        options.update(shared_memory_folder=str(folder))
    with workers_program(address, "--processes", "2", "--allow-generator", SLOW, *more) as workers:
        with consumer_program(**options) as trainer:
            trainer.wait_for_line("^step 3$")
            pids = wait_for(lambda: len(worker_pids(workers.pid)) == 2 and worker_pids(workers.pid), "two workers")
            wait_for(lambda: all(mappings(pid, MEMFD) for pid in pids), "the memory that they share")
            wait_for(lambda: not [pid for pid in [trainer.pid] + pids if descriptors(pid, MEMFD)],
                     "the end of the descriptors by which they got it")
            trainer.send_signal(signal.SIGKILL)
            trainer.wait()
        wait_for(lambda: not any(mappings(pid, MEMFD) for pid in pids), "the end of what they shared")
        for pid in pids:
            kill(pid)
        with opened(options.pop("data"), tmp_path / "audit", **options) as run:
            run.log.wait_for(SHARES)
            run.take_all()
        assert run.content() == reference
    assert os.listdir(str(folder)) == []
    table("trainer", "SIGKILL, and its workers, which share memory with it" + ", through a folder" * with_folder,
          "the next trainer shares memory with the next workers",
          "every step: attempt 1; no mapping, socket or file is left", time.monotonic() - began)


def descriptors(pid, name):
    """Those of a process that are open on files with ``name`` in their names."""
    folder = "/proc/%d/fd" % pid
    return [target for target in [_target(os.path.join(folder, fd)) for fd in os.listdir(folder)] if name in target]


def _target(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def test_where_descriptors_run_out_batches_travel(reference, pictures, tmp_path, own_generators, monkeypatch):
    """In the trainer: whatever happens where it shares memory, the worker works."""
    def full(*args):
        raise batch_memory.NoSharedMemory("this system makes no memory to share: Too many open files")
    monkeypatch.setattr(batch_memory, "create", full)
    with opened(pictures, tmp_path / "audit", workers=2, epochs=4, **OPTIONS) as run:
        run.take_all()
    assert run.content() == reference and not run.log.having(SHARES)
    assert len(run.log.having("Too many open files")) == 1


# ------------------------------------------------------------------------------------------------------------ strangers

def knock(asked, answers):
    """For each line "ADDRESS TIMES" in the pipe ``asked``: connects to this socket so many times, each time with 253
    descriptors, and stays. Then a byte goes into the pipe ``answers``."""
    files, stays = [os.open("/dev/null", os.O_RDONLY) for _ in range(253)], []
    with os.fdopen(asked) as lines:
        for line in lines:
            address, times = line.split()
            for _ in range(int(times)):
                stays.append(socket.socket(socket.AF_UNIX))
                stays[-1].setblocking(False)
                try:
                    stays[-1].connect("\0" + address)
                    stays[-1].sendmsg([memory_handover.MAGIC + bytes(memory_handover.HEADER.size - 16)],
                                      [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
                except BlockingIOError:
                    break
            os.write(answers, b"!")


@needs_root
def test_another_user_is_first_at_the_workers_sockets(reference, pictures, tmp_path, own_generators, monkeypatch,
                                                      attacks):
    (reads, asks), (hears, answers), times = os.pipe(), os.pipe(), [1]
    hand_over = batch_memory.hand_over

    def after_the_stranger(name, *more):
        with memory_handover._address(name, None) as address:
            os.write(asks, ("%s %d\n" % (address[1:], times[0])).encode())
        assert os.read(hears, 1) == b"!"
        return hand_over(name, *more)
    monkeypatch.setattr(batch_memory, "hand_over", after_the_stranger)
    try:
        with as_stranger(knock, reads, answers), \
                opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, epochs=4, **OPTIONS) as run:
            run.joined(2)
            run.take(6)
            assert run.log.having(SHARES) and any(mappings(pid, MEMFD) for pid in worker_pids())
            times[0] = 2 * memory_handover.BACKLOG
            for pid in worker_pids():
                kill(pid)
            run.log.wait_for("too many connections wait at its socket")
            run.take_all()
    finally:
        for end in (reads, asks, hears, answers):
            os.close(end)
    assert run.content() == reference
    attacks("another user of the trainer's host", "connects to a worker's socket before the trainer, and sends 253 "
            "other descriptors; or fills its queue", "the worker takes nothing of another user, and the trainer's "
            "memory after it; with a full queue its batches come over TCP, which the log says; the run's bytes are "
            "those of an undisturbed one")


# ----------------------------------------------------------------------------------------------------------------- lies

def lies(run, lease):
    """Batches of a member that shares memory and holds this lease; none may be believed."""
    count = len(lease.samples)

    def produced(slot, *arrays, count=count, position=lease.position):
        return Produced(run, lease.lease, position, count, (), 0.1, arrays, slot=slot)
    pixels, labels = np.zeros((count, 32, 32, 3), np.uint8), np.zeros((count, 1), np.int32)
    return {
        "a slot of no lease": produced(lease.slot + 1),
        "the last slot": produced(MAX_SLOTS - 1),
        "no slot and no arrays": produced(NO_SLOT),
        "a slot and arrays": produced(lease.slot, pixels, labels),
        "fewer samples": produced(lease.slot, count=count - 1),
        "more samples": produced(lease.slot, count=count + 1),
        "another step for its lease": produced(lease.slot, position=lease.position + 1),
    }


def test_members_that_lie_about_slots(reference, pictures, tmp_path, own_generators, table):
    began, told = time.monotonic(), []
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, epochs=4, prefetch=8, **OPTIONS) as run:
        run.joined(2)
        run.take(1)
        for name in lies("", Lease(0, 0, 0, True, ())):
            with Liar(run.stream.address) as liar:
                liar.say(Hello("liar", 1, "none", 1, ""))
                welcome, offer = liar.hear(Welcome), Offer()
                liar.say(Ready(welcome.run, offer.name))
                run.joined(3 + len(told))
                run.take(3)
                lease = liar.hear(Lease)
                assert lease.slot >= 0
                segment = offer.take(welcome.run, LAYOUT.slot_bytes)
                segment.slot(lease.slot)[:] = 0xee
                liar.say(lies(welcome.run, lease)[name])
                liar.say(Leaving(welcome.run, -1, "done with lying"))
                told.append(name)
                let_go(run, reference)
                for slot in range(segment.slots):        # it goes on writing: nothing of it is lent out
                    segment.slot(slot)[:] = 0xdd
        run.take_all()
    assert len(told) == 7
    let_go(run, reference, 0)
    assert run.content() == reference
    assert "liar" not in {entry["worker"] for entry in run.entries()}
    table("pushing", "seven lies about the slot of the batch", "broke the protocol, with what was wrong",
          "steps that it held: attempt 2", time.monotonic() - began)


def test_a_batch_of_an_older_segment_is_worth_nothing(reference, pictures, tmp_path, own_generators):
    """A worker that was silent, came again and was welcomed anew delivers a batch from before."""
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, epochs=4, prefetch=8, **OPTIONS) as run:
        run.joined(2)
        run.take(1)
        with Liar(run.stream.address) as liar:
            leases = []
            for _ in range(2):
                liar.say(Hello("liar", 1, "none", 1, ""))
                welcome, offer = liar.hear(Welcome), Offer()
                liar.say(Ready(welcome.run, offer.name))
                # it may become a member only when the two good ones have all that the window has room for
                leases.append(wait_for(lambda: run.take(1) or liar.heard(Lease), "a lease", every_s=0.1))
                let_go(run, reference)
                segment = offer.take(welcome.run, LAYOUT.slot_bytes)
                segment.slot(leases[-1].slot)[:] = 0xee
            old = leases[0]
            liar.say(Produced(welcome.run, old.lease, old.position, len(old.samples), (), 0.1, (), slot=old.slot))
            run.take(3)
            liar.say(Leaving(welcome.run, -1, "done"))
            run.take_all()
    let_go(run, reference, 0)
    assert run.content() == reference
