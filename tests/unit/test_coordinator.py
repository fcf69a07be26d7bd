"""What the trainer's session decides about peers, message by message."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest

from stoker.pipeline.coordinator import aside, bans, notices
from stoker.pipeline.coordinator.members import Workers
from stoker.pipeline.coordinator.farewell import State
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.protocol.codec import encode
from stoker.pipeline.protocol.messages import (
    CUT, PROTOCOL_VERSION, UNSCALED, Alive, Failed, Hello, Lease, Leaving, Ready, Refused, Remark, Revoked, Skipped,
    Stop, Timings, Unfit, Welcome)
from stoker.pipeline.sources.dataset import Dataset, Splits
from tests.support.trainer import DATASET, SilentTrainer, batch

JOB = JobOptions(image_size=(2, 3), batch_size=2)
HELLO = Hello("host:1/0", 1, "python 3.13.0, pillow 13.0.0", 2, "")


@pytest.fixture
def trainer():
    return SilentTrainer(JOB)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


# --------------------------------------------------------------------------------------------------------- batches

def test_a_welcome_brings_the_job_and_leases_follow_in_order(trainer):
    trainer.say(b"a", HELLO)
    assert [type(message) for _, message in trainer.sent] == [Welcome, Lease, Lease]
    assert trainer.admitted == [b"a"]
    welcome, = trainer.to(b"a", Welcome)
    assert welcome.job.arrays == JOB.arrays and welcome.run == trainer.session.run
    assert welcome.job.probes == DATASET.paths
    first, second = trainer.to(b"a", Lease)
    assert [sample.index for sample in first.samples] == list(trainer.plan.at(0).indices)
    assert (first.position, second.position) == (0, 1)


def test_a_batch_is_delivered_as_views_on_what_came(trainer):
    trainer.say(b"a", HELLO)
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"a", batch(lease))
    delivered = trainer.batches[lease.position]
    assert [view.shape for view in delivered.views] == [(2, 2, 3, 3), (2, 1)]
    assert (delivered.views[0] == 7).all() and (delivered.views[1] == 1).all()
    assert (delivered.worker, delivered.attempt, delivered.planned.indices) == (
        "host:1/0", 1, trainer.plan.at(0).indices)


def test_a_second_batch_for_a_position_is_dropped(trainer):
    trainer.say(b"a", HELLO)
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"a", batch(lease))
    trainer.say(b"a", batch(lease, value=8))         # SilentTrainer.deliver fails at a second one
    assert (trainer.batches[0].views[0] == 7).all() and not trainer.to(b"a", Refused)


def test_a_batch_tells_where_its_time_went(trainer):
    trainer.say(b"a", HELLO)
    first, second = trainer.to(b"a", Lease)
    trainer.now += 3.0
    timings = Timings(0.25, 0.5, 0.125, 2.0)
    trainer.say(b"a", replace(batch(first), timings=timings))
    trainer.say(b"a", replace(batch(second), timings=timings._replace(held_s=4.0)))   # by the worker's own clock
    assert [trainer.batches[lease.position].wire_s for lease in (first, second)] == [1.0, 0.0]
    assert trainer.batches[first.position].message.timings == timings


def test_leases_have_replacements_only_with_that_option_and_only_in_training():
    validation = Dataset("/data", ("a", "b"), ("8.jpg", "9.jpg"), (0, 1), ())
    for policy in ("skip", "replace", "raise"):
        trainer = SilentTrainer(replace(JOB, on_bad_image=policy, exif_rotate=True), Splits(DATASET, validation))
        trainer.say(b"a", replace(HELLO, capacity=9))
        assert trainer.to(b"a", Welcome)[0].job.exif_rotate
        leases = trainer.to(b"a", Lease)
        assert [lease.training for lease in leases] == [True] * 4 + [False]
        for lease in leases:
            replacements = tuple(sample.index for sample in lease.replacements)
            assert replacements == (trainer.plan.at(lease.position).replacements if policy == "replace" else ())
            assert bool(replacements) == (policy == "replace" and lease.training)


def test_a_batch_says_which_samples_it_holds():
    trainer = SilentTrainer(replace(JOB, on_bad_image="replace"))
    trainer.say(b"a", HELLO)
    first, second = trainer.to(b"a", Lease)
    planned = trainer.plan.at(0)
    bad = (Skipped(planned.indices[0], "bad"), Skipped(planned.replacements[0], "bad"))
    trainer.say(b"a", replace(batch(first), skipped=bad))
    trainer.say(b"a", batch(second))
    assert trainer.batches[0].used_indices == (planned.replacements[1], planned.indices[1])
    assert trainer.batches[1].used_indices == trainer.batches[1].planned.indices


def test_the_window_moves_with_what_the_consumer_took():
    trainer = SilentTrainer(JOB, options=StreamOptions(prefetch=2))
    trainer.say(b"a", replace(HELLO, capacity=4))
    assert [lease.position for lease in trainer.to(b"a", Lease)] == [0, 1] and trainer.session.has_room
    trainer.say(b"a", batch(trainer.to(b"a", Lease)[0]))
    assert [lease.position for lease in trainer.to(b"a", Lease)] == [0, 1]
    trainer.tick()
    assert [lease.position for lease in trainer.to(b"a", Lease)] == [0, 1, 2] and trainer.session.head == 1


# ------------------------------------------------------------------------------------------------------- members

def test_messages_of_a_broken_connection_make_no_member(trainer):
    trainer.gone.add(b"a")
    for _ in range(20):                 # as many as a suspended trainer may find waiting
        trainer.say(b"a", HELLO)
    assert not trainer.admitted and not trainer.members()
    assert not trainer.errors           # and are no deaths of workers at a step


def test_hello_again_of_a_member_that_is_gone(trainer):
    trainer.say(b"a", HELLO)
    trainer.gone.add(b"a")
    trainer.say(b"a", HELLO)
    assert not trainer.members()
    trainer.say(b"b", HELLO)            # and its positions are reassigned
    assert [lease.position for lease in trainer.to(b"b", Lease)] == [0, 1]


@pytest.mark.parametrize("capacity, words", [(1, "its step is reassigned"), (2, "its 2 steps are reassigned")])
def test_what_a_lost_worker_held_is_reassigned(trainer, caplog, capacity, words):
    trainer.say(b"a", replace(HELLO, capacity=capacity))
    trainer.gone.add(b"a")
    trainer.tick(1.0)                   # the heartbeat cannot be sent
    assert not warnings(caplog) and trainer.session.next_deadline() <= trainer.now
    trainer.tick()
    assert words in warnings(caplog)[0] and "lost the connection" in warnings(caplog)[0]


def test_the_last_messages_of_a_drained_worker_count(trainer, caplog):
    """It sends all of it and hangs up while the trainer is busy: then the answer to the first fails."""
    trainer.say(b"a", HELLO)
    first, second = trainer.to(b"a", Lease)
    trainer.gone.add(b"a")
    for message in (batch(first), Leaving(trainer.session.run, second.lease, "asked to stop"), batch(second)):
        trainer.say(b"a", message)
    trainer.tick()
    assert sorted(trainer.batches) == [0, 1] and not trainer.members() and not warnings(caplog)
    trainer.say(b"b", HELLO)
    assert [lease.position for lease in trainer.to(b"b", Lease)] == [2, 3]
    assert not any(lease.isolated for lease in trainer.to(b"b", Lease))     # leaving is no death


def test_a_silent_worker_loses_its_leases_and_keeps_its_membership(trainer, caplog):
    trainer.say(b"a", HELLO)
    for _ in range(8):
        trainer.tick(1.0)
    assert "was silent for" in warnings(caplog)[0] and len(trainer.to(b"a", Revoked)) == 2
    assert trainer.members() == {b"a"} and trainer.session.standing.fleet.workers == 0
    trainer.say(b"a", Alive(trainer.session.run))
    trainer.tick(1.0)
    assert trainer.session.standing.fleet.workers == 1


def test_an_absence_of_the_trainer_costs_no_worker_its_leases(trainer, caplog):
    trainer.say(b"a", HELLO)
    trainer.tick(1.0)
    trainer.tick(3600.0)
    assert not warnings(caplog) and not trainer.to(b"a", Revoked)
    for _ in range(400):                # what the worker and others sent meanwhile
        trainer.say(b"seeks", HELLO)
    assert b"seeks" in trainer.members()


@pytest.mark.parametrize("busy_s, hellos", [(0.5, 2), (1.9, 40), (60.0, 240), (3600.0, 10000)])
def test_the_last_of_several_waiting_hellos_counts(trainer, caplog, busy_s, hellos):
    """The trainer was busy, if only for a moment, and the worker had no answer."""
    trainer.say(b"b", HELLO)
    trainer.tick()
    trainer.now += busy_s
    trainer.session.wake(trainer.now)
    trainer.say(b"a", *[replace(HELLO, capacity=1)] * (hellos - 1) + [HELLO])
    assert len(trainer.to(b"a", Welcome)) == 1 and trainer.admitted == [b"b", b"a"]
    assert [lease.position for lease in trainer.to(b"a", Lease)] == [2, 3]
    assert trainer.members() == {b"a", b"b"} and not warnings(caplog) and not trainer.summary()
    trainer.say(b"a", HELLO)
    assert len(trainer.to(b"a", Welcome)) == 2


def test_a_batch_before_a_waiting_hello_counts(trainer):
    trainer.say(b"a", HELLO)
    trainer.tick()
    first, second = trainer.to(b"a", Lease)
    trainer.say(b"a", batch(first), HELLO, HELLO)
    assert list(trainer.batches) == [0] and len(trainer.to(b"a", Welcome)) == 2
    assert [lease.position for lease in trainer.to(b"a", Lease)][2:] == [2, 1, 2]      # the batch made room for 2


def test_a_peer_that_is_banned_while_its_hello_waits_is_not_welcomed(trainer):
    trainer.receive(b"a", encode(HELLO), *[[b"nonsense"]] * bans.MAX_MALFORMED)
    assert trainer.gone == {b"a"} and not trainer.to(b"a", Welcome)


def test_handshakes_that_ended_in_an_absence_of_the_trainer_are_no_one_s_fault(trainer, caplog):
    """Workers wait ten seconds for an answer of the trainer's, then they try again."""
    trainer.tick(1.0)
    trainer.tick(30.0)
    for kind in ("handshake", "silent", "handshake"):
        assert trainer.session.incident(kind, "127.0.0.1") == []
    assert not trainer.summary()
    for _ in range(10):
        trainer.tick(1.0)
    trainer.do(trainer.session.incident("handshake", "127.0.0.1"))
    assert len(warnings(caplog)) == 1 and trainer.summary() == "rejected connections: 1 handshakes failed"


def test_an_absence_of_the_trainer_is_no_time_without_workers(trainer):
    trainer.tick(1.0)
    trainer.tick(600.0)
    trainer.tick(1.0)
    assert trainer.session.standing.without_workers_s(trainer.now) == 2.0


def test_an_absence_at_the_end_leaves_workers_their_time_to_read_stop(trainer):
    trainer.say(b"a", HELLO)
    trainer.do(trainer.session.stop("the trainer closed the stream", trainer.now, 0.4))
    trainer.tick(30.0)
    assert trainer.session.state is State.STOPPING
    trainer.say(b"a", HELLO)
    trainer.tick(0.1)
    assert trainer.session.state is State.OVER


def test_how_long_there_has_been_no_worker(trainer):
    assert trainer.session.standing.without_workers_s(trainer.now + 3.0) == 3.0
    trainer.say(b"a", HELLO)
    trainer.tick()
    assert trainer.session.standing.without_workers_s(trainer.now + 3.0) == 0.0
    trainer.gone.add(b"a")
    trainer.tick(1.0)
    trainer.tick()
    assert trainer.session.standing.without_workers_s(trainer.now + 3.0) == 3.0


def test_the_fleet_by_host_and_supervisor(trainer):
    for peer, name in ((b"a", "one:7/0"), (b"b", "one:7/1"), (b"c", "two:9/0")):
        trainer.say(peer, replace(HELLO, worker=name, cores=4))
    trainer.tick(1.0)
    fleet = trainer.session.standing.fleet
    assert (fleet.workers, fleet.cores, dict(fleet.by_supervisor)) == (3, 8, {"one:7": 2, "two:9": 1})
    assert "3 of 3 connected workers alive" in trainer.session.standing.status_line
    assert "one:7/0 has worked on the next step for 1.0 s" in trainer.session.standing.status_line


def test_a_worker_that_serves_several_trainers_counts_in_part(trainer):
    """For the number of workers that are wanted."""
    for peer, trainers in ((b"a", 1), (b"b", 4)):
        trainer.say(peer, replace(HELLO, trainers=trainers))
    trainer.tick(1.0)
    fleet = trainer.session.standing.fleet
    assert (fleet.ready, fleet.worth) == (2, 1.25)


def test_more_workers_than_prefetch_keeps_busy_are_noticed_once(caplog):
    trainer = SilentTrainer(JOB, options=StreamOptions(prefetch=3))
    for peer in (b"a", b"b", b"c"):
        trainer.say(peer, HELLO)
    assert [line for line in warnings(caplog) if "raise --prefetch" in line] == [
        "2 workers could hold 4 steps, but at most 3 are leased or buffered at once: raise --prefetch"]


# ------------------------------------------------------------------------------- workers that cannot do the job

def unfit(trainer, peer, reason="no folder", traceback="", hello=HELLO):
    trainer.are_ready = False
    trainer.say(peer, hello)
    trainer.are_ready = True
    trainer.say(peer, Unfit(trainer.session.run, reason, traceback))


def test_leases_are_granted_from_ready_on_and_only_then_a_worker_has_joined(trainer, caplog):
    caplog.set_level("INFO")
    trainer.are_ready = False
    trainer.say(b"a", replace(HELLO, last_exit="SIGSEGV, restart 1"))
    trainer.tick(1.0)
    assert not trainer.to(b"a", Lease) and "joined" not in caplog.text and trainer.session.standing.fleet.workers == 1
    assert trainer.session.standing.without_workers_s(trainer.now) == 0             # one may come
    assert trainer.session.last_problem == "host:1/0 ended with SIGSEGV, restart 1"
    trainer.say(b"a", Ready(trainer.session.run))
    assert len(trainer.to(b"a", Lease)) == 2 and "host:1/0 joined (pid 1, python" in caplog.text
    trainer.say(b"a", Ready(trainer.session.run))
    assert len(trainer.to(b"a", Lease)) == 2 and caplog.text.count("joined") == 1


def test_what_the_sandbox_of_workers_does_is_logged_once(trainer, caplog):
    caplog.set_level("INFO")
    for peer in (b"a", b"b"):
        trainer.say(peer, replace(HELLO, sandbox="a sandbox:\x1b[31m reads"))
    trainer.tick(1.0)
    assert caplog.text.count("host:1/0 has a sandbox:\\x1b[31m reads") == 1


def test_a_worker_that_cannot_do_the_job_is_named_once_and_counts_nowhere(trainer, caplog):
    unfit(trainer, b"a", "no module \x1b[31m'x'", "Traceback\n\x07line\n")
    for number in range(1, 30):
        unfit(trainer, b"%d" % number, "no module \x1b[31m'x'", "Traceback\n\x07line\n",
              replace(HELLO, worker="host:1/%d" % number))
    line, = warnings(caplog)
    assert line == ("host:1/0 is set aside, because it cannot do this job: no module \\x1b[31m'x'\nTraceback\n"
                    "\\x07line")
    for _ in range(3):
        trainer.tick(1.0)
    fleet, session = trainer.session.standing.fleet, trainer.session
    assert (fleet.workers, fleet.ready, dict(fleet.by_supervisor)) == (0, 0, {})
    assert fleet.set_aside == {"host:1": ["no module \\x1b[31m'x'"] * 30}
    assert session.standing.without_workers_s(trainer.now + 2.0) == 5.0
    assert session.standing.status_line == (
        "no worker is connected that can do this job; set aside: host:1/0, host:1/1, host:1/2, host:1/3 and 26 more "
        "(no module \\x1b[31m'x')")
    assert not trainer.errors and not session.last_problem


def test_what_is_wrong_with_workers_that_have_left_is_still_said(trainer):
    unfit(trainer, b"a")
    unfit(trainer, b"b", "another\nreason", hello=replace(HELLO, worker="other:7/0"))
    trainer.gone.update((b"a", b"b"))
    trainer.tick(1.0)
    trainer.tick(1.0)
    trainer.tick(1.0)
    assert trainer.session.standing.status_line == (
        "no worker is connected; set aside: host:1/0 (no folder); other:7/0 (another\\nreason)")
    assert trainer.session.standing.fleet.set_aside == {}


def test_a_worker_that_can_do_the_job_again_gets_leases(trainer, caplog):
    caplog.set_level("INFO")
    trainer.say(b"a", HELLO)
    held = trainer.to(b"a", Lease)
    trainer.say(b"a", Unfit(trainer.session.run, "the folder is gone"))
    trainer.say(b"b", replace(HELLO, worker="other:7/0"))
    assert [lease.position for lease in trainer.to(b"b", Lease)] == [lease.position for lease in held]
    trainer.say(b"b", batch(trainer.to(b"b", Lease)[0]))
    assert trainer.batches[0].attempt == 1                    # no attempt was used up
    trainer.say(b"a", Ready(trainer.session.run))
    assert len(trainer.to(b"a", Lease)) == 3 and "host:1/0 can do this job now" in caplog.text
    trainer.tick(1.0)
    assert trainer.session.standing.fleet.set_aside == {} and "set aside" not in trainer.session.standing.status_line
    trainer.say(b"a", Unfit(trainer.session.run, "the folder is gone"))
    assert len(warnings(caplog)) == 2


def test_a_worker_that_cannot_read_welcome_knows_no_run(trainer, caplog):
    trainer.are_ready = False
    trainer.say(b"a", HELLO)
    trainer.say(b"a", Unfit("", "it cannot read a message of the trainer: welcome.job must be"))
    assert trainer.members() == {b"a"} and "welcome.job must be" in warnings(caplog)[0]
    trainer.say(b"stranger", Unfit("", "no"))
    assert not trainer.to(b"stranger", Refused)[0].final and len(warnings(caplog)) == 1


def test_workers_whose_process_ends_while_they_import_are_no_workers(trainer, caplog):
    trainer.are_ready = False
    for number in range(11):
        trainer.say(b"%d" % number, HELLO)
        trainer.tick(1.0)
        trainer.gone.add(b"%d" % number)
        trainer.tick(1.0)
        trainer.tick(1.0)
    line, = warnings(caplog)
    assert line == ("host:1/0 is set aside, because it cannot do this job: its process was lost at least 5 times "
                    "before it could do the job: does importing image end it, or take all memory?")
    assert trainer.session.standing.without_workers_s(trainer.now) == 33.0
    assert trainer.session.standing.fleet.lost == {"host:1": 11}
    trainer.are_ready = True
    trainer.say(b"good", HELLO)
    trainer.tick(1.0)
    assert trainer.session.standing.fleet.lost == {} and not trainer.errors


def test_tables_of_workers_that_cannot_do_the_job_are_bounded(trainer, caplog):
    for number in range(300):
        unfit(trainer, b"%d" % number, "reason %d " % number + "x" * 5000,
              hello=replace(HELLO, worker="h%d:1/0" % number))
    trainer.tick(1.0)
    status_line = trainer.session.standing.status_line
    assert len(status_line) < 8000 and "and others for 252 more reasons" in status_line
    assert len(warnings(caplog)) == aside.MAX_WORKERS


def test_the_log_does_not_grow_with_a_folder_that_comes_and_goes(trainer, caplog):
    caplog.set_level("INFO")
    trainer.say(b"a", HELLO)
    for _ in range(50):
        trainer.tick(1.0)
        trainer.say(b"a", Unfit(trainer.session.run, "no folder", "a traceback"), Ready(trainer.session.run))
    assert len(warnings(caplog)) == 3 and "(the log does not say so again)" in warnings(caplog)[2]
    assert caplog.text.count("can do this job now") == 3 and caplog.text.count("a traceback") == 1
    assert trainer.members() == {b"a"}                        # once a second is no flood


def test_who_floods_with_reasons_is_cut_off_and_fills_no_log(trainer, caplog):
    caplog.set_level("INFO")
    looks = []
    for peer in (b"a", b"b", b"c", b"d", b"e", b"f"):
        trainer.say(peer, HELLO)
        for number in range(200):
            trainer.say(peer, Unfit(trainer.session.run, "%s %d" % (peer, number) + "x" * 900,
                                    "%d" % number + "y" * 60000), Ready(trainer.session.run))
            looks.append(trainer.session.standing.status_line)
        assert peer in trainer.gone
    assert len(set(looks)) == 1                               # the workers are looked at in ``tick`` only
    size = sum(len(record.getMessage()) for record in caplog.records)
    assert size < aside.MAX_TRACEBACKS * 64000 + 2 * aside.MAX_WORKERS * (aside.MAX_CHARS + 200), size
    assert any("sends Hello, Ready or Unfit too often" in line for line in warnings(caplog))


def test_a_turn_looks_at_each_worker_only_at_a_heartbeat(trainer, monkeypatch):
    """With hundreds of workers, a look at each would take longer than all else that a batch costs."""
    for number in range(3):
        trainer.say(b"%d" % number, HELLO)
    trainer.tick(1.0)
    looks = []
    for name in ("values", "items"):
        look = getattr(Workers, name)
        monkeypatch.setattr(Workers, name, lambda self, look=look: looks.append(1) or look(self))
    for lease in trainer.to(b"0", Lease):
        trainer.say(b"0", batch(lease))
        trainer.tick(0.01)
    assert len(trainer.batches) == 2 and not looks
    trainer.tick(1.0)
    assert looks


# ------------------------------------------------------------------------------------------------------- failures

def test_a_failure_is_logged_with_its_traceback_and_another_worker_tries(trainer, caplog):
    trainer.say(b"a", HELLO)
    trainer.say(b"b", HELLO)
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"a", Failed(trainer.session.run, lease.lease, lease.position, "ValueError: no", "a traceback",
                             "x.jpg"))
    assert any("failed at 'x.jpg': ValueError: no" in line and "a traceback" in line for line in warnings(caplog))
    assert "ValueError: no" in trainer.session.last_problem
    assert not trainer.errors


def test_a_step_that_fails_every_time_ends_the_run_with_its_samples(trainer):
    trainer.say(b"a", HELLO)
    for attempt in range(3):
        lease = [lease for lease in trainer.to(b"a", Lease) if lease.position == 0][attempt]
        trainer.say(b"a", Failed(trainer.session.run, lease.lease, 0, "ValueError: no", "a traceback", ""))
    error, = trainer.errors
    paths = [DATASET.paths[index] for index in trainer.plan.at(0).indices]
    assert "step 0 of epoch 1 failed every time it was tried: ValueError: no" in str(error)
    assert all(path in str(error) for path in paths) and "a traceback" in str(error)


@pytest.mark.parametrize("text", ["cannot load the function 'm:f': no f",
                                  "function 'm:f', its setup load: OSError: no such file (m.py, line 3)"])
def test_an_error_before_the_first_sample_names_no_samples(trainer, text):
    trainer.say(b"a", HELLO)
    for attempt in range(3):
        lease = [lease for lease in trainer.to(b"a", Lease) if lease.position == 0][attempt]
        trainer.say(b"a", Failed(trainer.session.run, lease.lease, 0, text, "trace"))
    error, = trainer.errors
    assert str(error) == "step 0 of epoch 1 could not be produced: %s\ntrace" % text


@pytest.mark.parametrize("sample", ["", "x.jpg"])
def test_a_sample_that_the_error_names_is_named_once(trainer, sample):
    trainer.say(b"a", HELLO)
    path = DATASET.paths[trainer.plan.at(0).indices[0]]
    for attempt in range(3):
        lease = [lease for lease in trainer.to(b"a", Lease) if lease.position == 0][attempt]
        trainer.say(b"a", Failed(trainer.session.run, lease.lease, 0, "function 'f', sample %r: no" % path, "trace\n"))
    error, = trainer.errors
    assert str(error) == ("step 0 of epoch 1 failed every time it was tried: function 'f', sample %r: no\ntrace" % path)


def test_an_error_with_a_name_that_is_not_unicode_can_be_printed():
    dataset = Dataset("/data", (), ("a\udcff.jpg", "b\udcff.jpg"), (-1, -1), ())
    trainer = SilentTrainer(JOB, Splits(dataset))
    trainer.say(b"a", HELLO)
    for attempt in range(3):
        lease = [lease for lease in trainer.to(b"a", Lease) if lease.position == 0][attempt]
        trainer.say(b"a", Failed(trainer.session.run, lease.lease, 0, "no", ""))
    error, = trainer.errors
    assert "a\\xff.jpg" in str(error) and str(error).encode("utf-8")


def test_the_same_traceback_is_logged_once(trainer, caplog):
    trainer.say(b"a", HELLO)
    for lease, trace in zip(trainer.to(b"a", Lease), ("first\n", "first\n")):
        trainer.say(b"a", Failed(trainer.session.run, lease.lease, lease.position, "no %d" % lease.position, trace))
    lines = [line for line in warnings(caplog) if "failed" in line]
    assert ["first" in line for line in lines] == [True, False] and not any(line.endswith("\n") for line in lines)


@pytest.mark.parametrize("spoil", [
    lambda lease: batch(lease, run="another"),
    lambda lease: batch(lease, count=1),
    lambda lease: replace(batch(lease), arrays=(np.zeros((2, 1), np.int32),)),
], ids=["another run", "a sample missing", "an array missing"])
def test_a_malformed_message_ends_the_membership_and_another_worker_does_the_step(trainer, spoil):
    trainer.say(b"a", HELLO)
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"b", replace(HELLO, capacity=9))
    trainer.say(b"a", spoil(lease))
    assert not trainer.batches and trainer.members() == {b"b"}
    refused, = trainer.to(b"a", Refused)
    assert not refused.final            # it may begin again
    assert lease.position in [other.position for other in trainer.to(b"b", Lease)]


# ------------------------------------------------------------------------------------------------------ strangers

def test_a_stranger_is_told_to_say_hello(trainer):
    trainer.say(b"a", Alive(trainer.session.run))
    refused, = trainer.to(b"a", Refused)
    assert not refused.final and "Hello" in refused.reason


def test_peers_with_ever_other_libraries_cost_no_memory_and_one_warning(trainer, caplog):
    for number in range(50):
        trainer.say(b"%d" % number, replace(HELLO, versions="python 3.13.0, pillow %d" % number))
    lines = [line for line in warnings(caplog) if "different libraries" in line]
    assert len(lines) == 1 and "pillow 0 and pillow 1" in lines[0]
    assert "a few files, TIFFs and BMPs of rare kinds, are bad for one of them only, or for another reason" in lines[0]


def test_remarks_about_pictures_are_logged_once_for_each_kind_with_the_first_file(trainer, caplog):
    trainer.say(b"a", HELLO)
    first, second = trainer.to(b"a", Lease)
    trainer.say(b"stranger", replace(batch(first), remarks=(Remark(UNSCALED, "x"),)))
    trainer.say(b"a", replace(batch(first), remarks=(Remark(CUT, "g\n\udcff.png"),)))
    trainer.say(b"a", replace(batch(second), remarks=(Remark(CUT, "i"), Remark(UNSCALED, "f.tif"))))
    cut, unscaled = [line for line in warnings(caplog) if "a picture holds" in line]
    assert "decode 'exact'" in cut and cut.endswith("the first one: g\\n\\udcff.png")
    assert "floating-point" in unscaled and unscaled.endswith("the first one: f.tif")


def test_a_welcome_brings_pils_limits():
    job = replace(JOB, max_pixels=10 ** 9, max_text_mb=7, truncated="use")
    trainer = SilentTrainer(job)
    trainer.say(b"a", HELLO)
    welcome, = trainer.to(b"a", Welcome)
    assert (welcome.job.max_pixels, welcome.job.max_text_mb, welcome.job.truncated) == (10 ** 9, 7, "use")


def test_another_version_is_refused_for_good_and_its_host_is_named_once(trainer, caplog):
    trainer.hosts = {b"a": "10.0.0.5", b"c": "10.0.0.5"}
    for peer in (b"a", b"b", b"c"):
        trainer.receive(peer, [msgpack.packb([99, "hello", ["whatever", {}]])])
        refused, = trainer.to(peer, Refused)
        assert refused.final and refused.reason == (
            "this worker is of another release than the trainer: the peer speaks protocol version 99, this side speaks "
            "%d: install the same Stoker release on trainer and workers" % PROTOCOL_VERSION)
    assert warnings(caplog) == [
        "a worker of another release (protocol version 99, this is %d) was refused: %s; install the same Stoker "
        "release on trainer and workers" % (PROTOCOL_VERSION, where)
        for where in ("it connects from 10.0.0.5", "its address is unknown")]


def test_the_host_of_a_peer_that_sends_what_is_no_message_is_named(trainer, caplog):
    trainer.hosts = {b"a": "10.0.0.5"}
    for peer in (b"a", b"b"):
        trainer.receive(peer, [b"\xc1"])
    assert [line.partition(": ")[0] for line in warnings(caplog)] == [
        "dropped a message of an unknown peer at 10.0.0.5", "dropped a message of an unknown peer"]


def test_a_worker_that_outlived_another_trainer_did_nothing_wrong(trainer, caplog):
    for _ in range(50):                     # far more than it has under way
        trainer.say(b"a", Alive("another"))
    assert len(trainer.to(b"a", Refused)) == 50 and not any(refused.final for refused in trainer.to(b"a", Refused))
    assert not warnings(caplog)
    trainer.say(b"a", HELLO)
    assert trainer.to(b"a", Welcome)
    assert trainer.summary() == "rejected connections: 50 messages of older runs answered"


def test_a_peer_that_sends_malformed_messages_is_cut_off_and_not_read_again(trainer):
    trainer.say(b"a", HELLO)
    trainer.say(b"b", HELLO)
    for _ in range(50):
        trainer.receive(b"b", [b"nonsense"])
    assert trainer.gone == {b"b"}
    assert len(trainer.to(b"b", Refused)) == bans.MAX_MALFORMED
    trainer.gone.clear()
    trainer.say(b"b", HELLO)
    assert len(trainer.to(b"b", Welcome)) == 1 and trainer.members() == {b"a"}


def test_hello_without_end(trainer):
    for _ in range(200):
        trainer.say(b"a", HELLO)
    assert trainer.gone == {b"a"} and not trainer.members()
    assert len(trainer.to(b"a", Welcome)) == bans.MAX_HELLOS


def test_a_header_is_no_longer_than_the_job_needs(trainer):
    trainer.receive(b"a", [bytes(2 << 20)])
    refused, = trainer.to(b"a", Refused)
    assert "limit 1061968" in refused.reason


@pytest.mark.parametrize("flood", [
    lambda trainer, number: trainer.say(b"a", Alive("another")),
    lambda trainer, number: trainer.receive(b"a", [msgpack.packb([100 + number, "hello", []])]),
], ids=["of another run", "of other versions"])
def test_no_flood_goes_on_for_ever(trainer, flood):
    for number in range(1000):
        flood(trainer, number)
    assert trainer.gone == {b"a"} and "connections cut off" in trainer.summary()


def test_strangers_leave_room_in_the_log_for_the_workers_own_trouble(trainer, caplog):
    for number in range(1000):
        trainer.receive(b"%d" % number, [msgpack.packb([1000 + number, "hello", []])])
    assert len(set(warnings(caplog))) == len(warnings(caplog)) == notices.MAX_WARNINGS // 2
    trainer.say(b"a", HELLO)
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"a", Failed(trainer.session.run, lease.lease, lease.position, "ValueError: no", "a traceback", "x"))
    assert "failed at 'x': ValueError: no" in warnings(caplog)[-1] and "a traceback" in warnings(caplog)[-1]


def test_no_peer_writes_lines_or_colours_into_the_log(trainer, caplog):
    caplog.set_level("INFO")
    trainer.say(b"a", replace(HELLO, worker="a\nstoker: done", versions="python \x1b[31m"))
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"a", Failed(trainer.session.run, lease.lease, lease.position, "E\x1b[0m\nx", "line\n\x07line", ""))
    said = "".join(caplog.messages)
    assert "\x1b" not in said and "\x07" not in said
    assert "a\\nstoker: done joined" in said and "line\n\\x07line" in said


def test_an_incident_of_the_socket_is_counted_and_warned_about_once(trainer, caplog):
    for kind in ("key", "key", "silent"):
        trainer.do(trainer.session.incident(kind, "10.0.0.7"))
    assert len(warnings(caplog)) == 1 and "10.0.0.7" in warnings(caplog)[0]
    assert trainer.summary() == ("rejected connections: 2 connections with an unknown key refused, "
                                 "1 connections closed before any handshake")


# ------------------------------------------------------------------------------------------------------- the end

def test_the_end_waits_until_every_member_has_read_stop(trainer):
    for peer in (b"a", b"b", b"c"):
        trainer.say(peer, HELLO)
    trainer.do(trainer.session.stop("all steps are done", trainer.now, 1.0))
    assert [len(trainer.to(peer, Stop)) for peer in (b"a", b"b", b"c")] == [1, 1, 1]
    trainer.say(b"a", HELLO)                  # it seeks the next trainer
    trainer.tick(0.1)
    assert trainer.session.state is State.STOPPING
    trainer.gone.add(b"b")                    # it hung up, which the next message shows
    trainer.tick(0.1)
    assert trainer.session.state is State.STOPPING
    trainer.say(b"c", Alive(trainer.session.run))      # sent before it read Stop
    trainer.tick(0.1)
    assert trainer.session.state is State.STOPPING
    trainer.say(b"c", HELLO)
    trainer.tick(0.1)
    assert trainer.session.state is State.OVER and len(trainer.to(b"c", Welcome)) == 1


@pytest.mark.parametrize("flooded", [False, True])
def test_the_end_does_not_wait_longer_than_its_limit(trainer, flooded):
    trainer.say(b"a", HELLO)
    trainer.do(trainer.session.stop("the trainer closed the stream", trainer.now, 0.4))
    trainer.tick(0.3)
    assert trainer.session.state is State.STOPPING
    trainer.now += 0.2
    if flooded:
        trainer.receive(b"flood", [b"nonsense"])
    else:
        trainer.tick()
    assert trainer.session.state is State.OVER


def test_a_run_without_workers_ends_at_once(trainer):
    trainer.do(trainer.session.stop("the trainer closed the stream", trainer.now, 0.4))
    trainer.tick(0.01)
    assert trainer.session.state is State.OVER


def test_the_closing_lines_count_what_was_done_twice(trainer):
    trainer.say(b"a", HELLO)
    trainer.gone.add(b"a")
    trainer.tick(1.0)
    trainer.tick()
    trainer.say(b"b", HELLO)
    assert "2 steps reassigned after a lost lease" in trainer.summary()
