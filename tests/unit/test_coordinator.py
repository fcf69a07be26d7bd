"""The coordinator's decisions about peers, turn by turn: the real one, on a wire that is a list."""

import time
from dataclasses import replace

import msgpack
import numpy as np
import pytest

from stoker.pipeline.coordinator import bans
from stoker.pipeline.coordinator.thread import Coordinator
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Lease, Leaving, Produced, Refused, Skipped, Timings
from stoker.pipeline.protocol.messages import Welcome
from stoker.pipeline.sources.dataset import Dataset, Splits

JOB = JobOptions(image_size=(2, 3), batch_size=2)
HELLO = Hello("host:1/0", 1, "python 3.13.0, pillow 13.0.0", 2, "")


class Wire:
    """Stands for the ROUTER: what was sent to whom, and who is gone."""

    def __init__(self):
        self.sent, self.gone = [], set()

    def send(self, peer, frames):
        if peer in self.gone:
            return False
        self.sent.append((peer, codec.decode_from_trainer(frames)))
        return True

    def to(self, peer, kind):
        return [message for receiver, message in self.sent if receiver == peer and isinstance(message, kind)]

    def admit(self, peer, capacity):
        pass

    def shut(self, peer):
        self.gone.add(peer)


@pytest.fixture
def coordinator():
    return made_for(JOB)


def made_for(job, validation=None):
    batches, errors = {}, []
    dataset = Dataset("/data", ("a", "b"), tuple("%d.jpg" % number for number in range(8)), (0, 1) * 4, ())
    plan = Plan(8, 2, 1, 0, len(validation or ()))
    made = Coordinator(0, plan, Splits(dataset, validation or dataset), job, StreamOptions(),
                       batches.__setitem__, errors.append)
    made.abandon()                      # of the socket; the thread was never started
    made._listener = Wire()
    made.batches, made.errors = batches, errors
    return made


def say(coordinator, peer, message):
    coordinator._receive(peer, [bytes(frame) for frame in codec.encode(message)])


def batch(coordinator, lease, count=2, run=None, value=7):
    arrays = (np.full((count, 2, 3, 3), value, np.uint8), np.ones((count, 1), np.int32))
    return Produced(run or coordinator._run, lease.lease, lease.position, count, (), 0.1, arrays)


def test_a_batch_arrives_whole_and_its_memory_is_its_own(coordinator):
    say(coordinator, b"a", HELLO)
    welcome, = coordinator._listener.to(b"a", Welcome)
    assert welcome.job.arrays == JOB.arrays
    first, second = coordinator._listener.to(b"a", Lease)
    assert [sample.index for sample in first.samples] == list(coordinator._plan.at(0).indices)
    say(coordinator, b"a", batch(coordinator, first))
    delivered = coordinator.batches[first.position]
    assert delivered.images.flags.writeable and delivered.images.ctypes.data % 64 == 0
    assert (delivered.images == 7).all() and (delivered.labels == 1).all()
    assert (delivered.worker, delivered.attempt, delivered.step) == ("host:1/0", 1, 0)


def test_a_batch_tells_where_its_time_went(coordinator, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    say(coordinator, b"a", HELLO)
    first, second = coordinator._listener.to(b"a", Lease)
    now[0] += 3.0
    timings = Timings(0.25, 0.5, 0.125, 2.0)
    say(coordinator, b"a", replace(batch(coordinator, first), timings=timings))
    say(coordinator, b"a", replace(batch(coordinator, second), timings=timings._replace(held_s=4.0)))   # by its clock
    assert [coordinator.batches[lease.position].wire_s for lease in (first, second)] == [1.0, 0.0]
    assert coordinator.batches[first.position].timings == timings


def test_leases_have_spares_only_to_replace_with_and_only_in_training():
    validation = Dataset("/data", ("a", "b"), ("8.jpg", "9.jpg"), (0, 1), ())
    for policy in ("skip", "replace", "raise"):
        coordinator = made_for(replace(JOB, on_bad_image=policy, exif_rotate=True), validation)
        say(coordinator, b"a", replace(HELLO, capacity=9))
        assert coordinator._listener.to(b"a", Welcome)[0].job.exif_rotate
        for lease in coordinator._listener.to(b"a", Lease):
            replacements = tuple(sample.index for sample in lease.replacements)
            assert replacements == (coordinator._plan.at(lease.position).replacements if policy == "replace" else ())
            assert bool(replacements) == (policy == "replace" and lease.training)


def test_a_batch_says_which_samples_it_holds():
    coordinator = made_for(replace(JOB, on_bad_image="replace"))
    say(coordinator, b"a", HELLO)
    first, second = coordinator._listener.to(b"a", Lease)
    planned = coordinator._plan.at(0)
    bad = (Skipped(planned.indices[0], "bad"), Skipped(planned.replacements[0], "bad"))
    say(coordinator, b"a", replace(batch(coordinator, first), skipped=bad))
    say(coordinator, b"a", batch(coordinator, second))
    assert coordinator.batches[0].used_indices == (planned.replacements[1], planned.indices[1])
    assert coordinator.batches[1].used_indices == coordinator.batches[1].indices


def test_words_of_a_broken_connection_make_no_member(coordinator):
    coordinator._listener.gone.add(b"a")
    for _ in range(20):                 # as many as a suspended trainer may find waiting
        say(coordinator, b"a", HELLO)
    assert not coordinator._members and not coordinator._scheduler.workers
    assert not coordinator.errors       # and are no deaths of workers at a step


def test_hello_again_of_a_member_that_is_gone(coordinator):
    say(coordinator, b"a", HELLO)
    coordinator._listener.gone.add(b"a")
    say(coordinator, b"a", HELLO)
    assert not coordinator._members and not coordinator._scheduler.workers
    say(coordinator, b"b", HELLO)       # and its positions go out again
    assert [lease.position for lease in coordinator._listener.to(b"b", Lease)] == [0, 1]


@pytest.mark.parametrize("capacity, words", [(1, "its step goes to others"), (2, "its 2 steps go to others")])
def test_what_a_lost_worker_held_goes_to_others(coordinator, caplog, capacity, words):
    say(coordinator, b"a", replace(HELLO, capacity=capacity))
    coordinator._listener.gone.add(b"a")
    coordinator._send(b"a", [])
    assert not caplog.text
    coordinator._lose_the_unreachable()
    assert words in caplog.text


def test_the_last_words_of_a_drained_worker_count(coordinator, caplog):
    """It says all of it and hangs up while the trainer is busy: then the answer to the first fails."""
    say(coordinator, b"a", HELLO)
    first, second = coordinator._listener.to(b"a", Lease)
    coordinator._listener.gone.add(b"a")
    for message in (batch(coordinator, first), Leaving(coordinator._run, second.lease, "asked to stop"),
                    batch(coordinator, second)):
        say(coordinator, b"a", message)
    coordinator._lose_the_unreachable()
    assert sorted(coordinator.batches) == [0, 1] and not coordinator._members
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    say(coordinator, b"b", HELLO)
    assert [lease.position for lease in coordinator._listener.to(b"b", Lease)] == [2, 3]
    assert not any(entry.deaths for entry in coordinator._scheduler._open.values())


@pytest.mark.parametrize("spoil", [
    lambda coordinator, lease: batch(coordinator, lease, run="another"),
    lambda coordinator, lease: batch(coordinator, lease, count=1),
    lambda coordinator, lease: replace(batch(coordinator, lease), arrays=(np.zeros((2, 1), np.int32),)),
], ids=["another run", "a sample missing", "an array missing"])
def test_nonsense_costs_the_membership_and_the_step_is_done_by_another(coordinator, spoil):
    say(coordinator, b"a", HELLO)
    lease = coordinator._listener.to(b"a", Lease)[0]
    say(coordinator, b"b", HELLO)
    say(coordinator, b"a", spoil(coordinator, lease))
    assert not coordinator.batches and b"a" not in coordinator._members
    refused, = coordinator._listener.to(b"a", Refused)
    assert not refused.final            # it may begin again


def test_a_stranger_is_told_to_say_hello(coordinator):
    say(coordinator, b"a", Alive(coordinator._run))
    refused, = coordinator._listener.to(b"a", Refused)
    assert not refused.final and "Hello" in refused.reason


def test_peers_with_ever_other_libraries_cost_no_memory_and_one_warning(coordinator, caplog):
    for number in range(50):
        say(coordinator, b"%d" % number, replace(HELLO, versions="python 3.13.0, pillow %d" % number))
    assert len(coordinator._decoders) == 2
    assert len([line for line in caplog.messages if "different libraries" in line]) == 1


def test_another_version_is_refused_for_good(coordinator):
    coordinator._receive(b"a", [msgpack.packb([99, "hello", ["whatever", {}]])])
    refused, = coordinator._listener.to(b"a", Refused)
    assert refused.final and "99" in refused.reason


def test_a_worker_that_outlived_another_trainer_is_no_offender(coordinator, caplog):
    for _ in range(50):                     # far more than it has under way
        say(coordinator, b"a", Alive("another"))
    assert not any(refused.final for refused in coordinator._listener.to(b"a", Refused))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    say(coordinator, b"a", HELLO)
    assert coordinator._listener.to(b"a", Welcome)
    assert coordinator._peers.summary() == "50 messages of older runs answered"


def test_whoever_talks_nonsense_is_cut_off_and_not_heard_again(coordinator):
    say(coordinator, b"a", HELLO)
    say(coordinator, b"b", HELLO)
    for _ in range(50):
        coordinator._receive(b"b", [b"nonsense"])
    assert coordinator._listener.gone == {b"b"}
    assert len(coordinator._listener.to(b"b", Refused)) == bans.MAX_MALFORMED
    say(coordinator, b"b", HELLO)
    assert len(coordinator._listener.to(b"b", Welcome)) == 1 and b"b" not in coordinator._members
    assert b"a" in coordinator._members


def test_hello_without_end(coordinator):
    for _ in range(200):
        say(coordinator, b"a", HELLO)
    assert coordinator._listener.gone == {b"a"} and not coordinator._scheduler.workers


def test_a_header_is_no_longer_than_the_job_needs(coordinator):
    coordinator._receive(b"a", [bytes(2 << 20)])
    refused, = coordinator._listener.to(b"a", Refused)
    assert "limit 1053776" in refused.reason


@pytest.mark.parametrize("flood", [
    lambda coordinator, number: say(coordinator, b"a", Alive("another")),
    lambda coordinator, number: coordinator._receive(b"a", [msgpack.packb([100 + number, "hello", []])]),
], ids=["of another run", "of other versions"])
def test_no_flood_goes_on_for_ever(coordinator, flood):
    for number in range(1000):
        flood(coordinator, number)
    assert coordinator._listener.gone == {b"a"} and coordinator._peers.summary()


def test_strangers_leave_room_in_the_log_for_the_workers_own_trouble(coordinator, caplog):
    for number in range(1000):
        coordinator._receive(b"%d" % number, [msgpack.packb([1, "hello %d" % number, []])])
    say(coordinator, b"a", HELLO)
    lease = coordinator._listener.to(b"a", Lease)[0]
    say(coordinator, b"a", Failed(coordinator._run, lease.lease, lease.position, "ValueError: no", "a traceback", "x"))
    assert any("failed at 'x': ValueError: no" in line and "a traceback" in line for line in caplog.messages)


def test_nobody_writes_lines_or_colours_into_the_log(coordinator, caplog):
    caplog.set_level("INFO")
    say(coordinator, b"a", replace(HELLO, worker="a\nstoker: done", versions="python \x1b[31m"))
    lease = coordinator._listener.to(b"a", Lease)[0]
    say(coordinator, b"a", Failed(coordinator._run, lease.lease, lease.position, "E\x1b[0m\nx", "line\n\x07line", ""))
    said = "".join(caplog.messages)
    assert "\x1b" not in said and "\x07" not in said
    assert "a\\nstoker: done joined" in said and "line\n\\x07line" in said


def test_the_consumer_wakes_the_coordinator_only_where_somebody_waits_for_it(coordinator):
    wakes = []
    coordinator._waker = type("Counted", (), {"wake": lambda self: wakes.append(1)})()
    coordinator._hungry = False          # everybody is at work: the next batch wakes it anyway
    coordinator.take_up_to(1)
    assert not wakes and coordinator._taken == 1
    coordinator._hungry = True
    coordinator.take_up_to(2)
    coordinator.take_up_to(3)
    assert len(wakes) == 1 and coordinator._taken == 3
