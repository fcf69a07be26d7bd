"""Each arrow in the table of workers/session.py, and what happens beside them."""

import collections
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.protocol.codec import encode
from stoker.pipeline.protocol.messages import MAX_TEXT, Alive, Failed, Hello, Job, Lease, Leaving, Produced, Ready
from stoker.pipeline.protocol.messages import Refused, Returned, Revoked, Room, Sample, Stop, Timings, Unfit, Welcome
from stoker.workers.effects import EXIT_DRAINED, EXIT_ENDED, EXIT_REFUSED, Check, End, HangUp, Note, Say, Work
from stoker.workers.session import HELLO_INTERVAL_S, MAX_CHECKS, MAX_INTERVAL_S, MIN_HEARTBEAT_S, REPORT_INTERVAL_S
from stoker.workers.session import MAX_AHEAD, SessionState, WorkerSession
from tests.conftest import EFFORT
from tests.unit.test_codec import ANY_FROM_TRAINER

HELLO = Hello("host/0", 1, "python 3.13.0", 2, "")
JOB = Job("image", (ArraySpec("images", "uint8", (64, 48, 3)),), 8, 0, "fast", "/data")
HEARTBEAT_S = 0.5
WELCOME = Welcome("run1", JOB, HEARTBEAT_S)
TIMINGS = Timings(0.01, 0.02, 0.03)


def lease(number, position=None):
    return Lease(number, number if position is None else position, 0, True, ())


def seeking(once=False):
    return WorkerSession(HELLO, once, 100.0)


def serving(*leases, **options):
    session = seeking(**options)
    welcomed(session)
    for one in leases:
        session.receive(one, 100.0)
    return session


def welcomed(session, welcome=WELCOME, now=100.0):
    """Welcome came, and the worker can do the job."""
    effects = session.receive(welcome, now)
    assert not isinstance(effects[-1], Check) or (
        session.checked(welcome.run, "", "", now) == [Say(Ready(welcome.run))])
    return [effect for effect in effects if not isinstance(effect, Check)]


def draining(*leases, **options):
    session = serving(*leases, **options)
    session.drain(100.0, "asked to stop")
    return session


def done(session, one, now=100.0):
    return session.produced(one, 2, (), ("arrays",), 0.1, TIMINGS, now)


def produced(one, run="run1", held_s=0.0):
    return Say(Produced(run, one.lease, one.position, 2, (), 0.1, ("arrays",), TIMINGS._replace(held_s=held_s)))


def without_notes(effects):
    return [effect for effect in effects if not isinstance(effect, Note)]


def test_a_worker_that_reads_ahead_says_how_many_leases_it_would_hold_and_again_to_each_trainer():
    session = serving(lease(1))
    assert session.hold(2) == [] and session.hold(3) == [Say(Room("run1", 3))] and session.hold(3) == []
    for number in range(2, 5):
        session.receive(lease(number), 100.0)
    assert [each.lease for _, _, each in session.leases] == [1, 2, 3, 4] and session.held == 4
    assert session.hold(100) == [Say(Room("run1", MAX_AHEAD))] and session.hold(2) == []
    session.disconnected(101.0)
    assert session.receive(WELCOME, 102.0)[-2:] == [Say(Ready("run1")), Say(Room("run1", MAX_AHEAD))]
    other = replace(WELCOME, run="run2")
    session.disconnected(103.0)
    assert session.hold(4) == []                             # no trainer is there
    session.receive(other, 104.0)
    assert session.checked("run2", "", "", 104.0) == [Say(Ready("run2")), Say(Room("run2", MAX_AHEAD))]


def test_a_worker_whose_folder_comes_and_goes_says_its_room_once():
    """A trainer cuts off a peer that says it too often."""
    session, now = serving(lease(1)), 100.0
    assert session.hold(4) == [Say(Room("run1", MAX_AHEAD))]
    for _ in range(3):
        said = session.unfit("the folder is gone", "", now)
        now = session.next_deadline()
        said += session.tick(now) + session.checked("run1", "", "", now) + session.receive(lease(2), now)
        assert Say(Ready("run1")) in said
        assert not [each for each in said if isinstance(each, Say) and isinstance(each.message, Room)]


# ----------------------------------------------------------------------------------------- what no Stoker trainer sends

def test_more_leases_than_a_worker_can_hold_end_the_connection():
    session = serving(lease(1), lease(2), lease(3))         # the first is in work: it may be of a former connection
    effects = session.receive(lease(4), 101.0)
    assert effects[0] == HangUp() and "more leases than this worker can hold" in effects[1].text
    assert session.state is SessionState.SEEKING and done(session, lease(1)) == []      # nothing waits any more


def test_the_leases_after_a_new_connection_are_not_too_many():
    session = serving(lease(1), lease(2))
    session.disconnected(101.0)
    welcomed(session, now=102.0)
    assert session.receive(lease(3), 102.0) == session.receive(lease(4), 102.0) == []
    assert Work(JOB, lease(3)) in done(session, lease(1), 103.0)


@pytest.mark.parametrize("samples, replacements", [(9, 0), (8, 9)])
def test_a_lease_of_more_samples_than_a_batch_has_ends_the_connection(samples, replacements):
    session, some = serving(), tuple(Sample(number, "%d" % number, 0) for number in range(9))
    assert HangUp() not in session.receive(Lease(1, 1, 0, True, some[:8], some[:8]), 101.0)
    effects = session.receive(Lease(2, 2, 0, True, some[:samples], some[:replacements]), 101.0)
    assert effects[0] == HangUp() and "more samples than a batch" in effects[1].text


def test_one_job_after_the_other_ends_the_connection():
    session = seeking()
    for number in range(MAX_CHECKS):
        assert isinstance(session.receive(replace(WELCOME, run="run%d" % number), 100.0)[-1], Check)
    assert HangUp() in session.receive(replace(WELCOME, run="another"), 100.0)
    assert HangUp() in session.receive(replace(WELCOME, run="another"), 101.0)     # also over the next connection
    for number in range(MAX_CHECKS):
        session.checked("run%d" % number, "", "", 102.0)
    assert isinstance(session.receive(WELCOME, 103.0)[-1], Check)


def test_a_trainer_cannot_make_a_worker_speak_all_the_time():
    session = seeking()
    welcomed(session, replace(WELCOME, heartbeat_s=0.0))
    assert session.next_deadline() == 100.0 + MIN_HEARTBEAT_S


# -------------------------------------------------------------------------------------------------------- SEEKING

def hellos(session, start_s, end_s, is_connected=True):
    """Calls tick when it wants to be called; returns when it said Hello. Without a connection that fails."""
    said = []
    while session.next_deadline() < end_s:
        now = max(start_s, session.next_deadline())
        for _ in [effect for effect in session.tick(now) if isinstance(effect, Say)]:
            said.append(now)
            if not is_connected:
                assert session.disconnected(now) == []
    return said


def test_a_worker_that_abandons_its_lease_leaves_without_it():
    session = serving(lease(1), lease(2))
    effects = without_notes(session.abandon(101.0, "its folder is another one"))
    assert effects == [Say(Leaving("run1", -1, "its folder is another one")), End(EXIT_DRAINED)]
    session = serving(lease(1))
    session.drain(101.0, "asked to stop")
    assert session.abandon(102.0, "") == [End(EXIT_DRAINED)]


def test_a_hello_without_an_answer_is_said_ever_more_rarely():
    session = seeking()
    assert session.state is SessionState.SEEKING and session.next_deadline() <= 100.0
    assert hellos(session, 100.0, 112.0) == [100.0, 100.25, 100.75, 101.75, 103.75, 107.75, 111.75]
    assert len(hellos(session, 112.0, 172.0)) == 60 / MAX_INTERVAL_S


def test_on_a_new_connection_hello_is_said_soon():
    session = seeking()
    last_s = hellos(session, 100.0, 140.0)[-1]
    session.connected()
    assert session.next_deadline() == last_s + HELLO_INTERVAL_S
    assert hellos(session, 141.0, 143.0) == [141.0, 141.5, 142.5]


def test_without_a_connection_one_is_sought_four_times_a_second():
    assert len(hellos(seeking(), 100.0, 110.0, is_connected=False)) == 10 / HELLO_INTERVAL_S


def test_a_long_search_is_reported_once_in_a_while():
    session = seeking()
    effects = []
    for tick in range(int(3 * REPORT_INTERVAL_S / HELLO_INTERVAL_S) + 1):
        effects += session.tick(100.0 + tick * HELLO_INTERVAL_S, "the name 'x' does not resolve" * (tick > 50))
        session.disconnected(100.0)
    assert [effect.text for effect in effects if isinstance(effect, Note)] == [
        "no trainer for 10 s, still trying"] + [
        "no trainer for %d s, still trying: the name 'x' does not resolve" % seconds for seconds in (20, 30)]


def test_welcome_leads_to_serving_and_tells_the_job():
    session = seeking()
    assert session.receive(WELCOME, 100.0) == [
        Note("connected to run run1"), Note("job: image, images uint8[64, 48, 3], batches of 8"), Check(JOB, "run1")]
    assert session.state is SessionState.SERVING


# ---------------------------------------------------------------------------------------- whether it can do the job

def test_ready_is_said_when_the_worker_knows_that_it_can_do_the_job():
    session = seeking()
    session.receive(WELCOME, 100.0)
    assert session.tick(100.5) == [Say(Alive("run1"))]                  # importing takes a while
    session.receive(Alive("run1"), 130.0)
    assert session.checked("run1", "", "", 130.0) == [Say(Ready("run1"))] and session.is_served(130.0)
    assert session.receive(lease(1), 130.0) == [Work(JOB, lease(1))]


def test_a_worker_that_cannot_do_the_job_says_why_and_tries_again_after_longer_and_longer_times():
    session, said, now = seeking(), [], 100.0
    session.receive(WELCOME, now)
    assert session.checked("run1", "no module 'x'", "trace", now) == [
        Note("cannot do this job: no module 'x'"), Say(Unfit("run1", "no module 'x'", "trace"))]
    assert not session.is_served(100.0)
    tries = []
    while len(tries) < 8:
        now += 0.5
        session.receive(Alive("run1"), now)
        for effect in session.tick(now):
            if isinstance(effect, Check):
                tries.append(now - 100.0)
                assert session.checked("run1", "no module 'x'", "trace", now) == []      # nothing new
            else:
                said.append(effect)
    assert tries == [1, 3, 7, 15, 31, 61, 91, 121]
    assert set(said) == {Say(Alive("run1"))} and len(said) > 100
    assert session.checked("run1", "another reason", "", now) == [
        Note("cannot do this job: another reason"), Say(Unfit("run1", "another reason"))]
    assert session.checked("run1", "", "", now) == [Say(Ready("run1"))] and session.is_served(now)
    assert session.next_deadline() == now + HEARTBEAT_S


def test_a_lease_that_was_on_its_way_to_a_worker_that_became_unfit_is_not_begun():
    session = serving(lease(1), lease(2))
    assert without_notes(session.unfit("the folder is gone", "", 100.0)) == [Say(Unfit("run1", "the folder is gone"))]
    assert session.receive(lease(3), 100.0) == []
    assert session.tick(101.0) == [Check(JOB, "run1")]
    assert session.checked("run1", "", "", 101.0) == [Say(Ready("run1"))]
    assert session.receive(lease(4), 101.0) == [Work(JOB, lease(4))]


def test_a_worker_that_is_unfit_at_each_lease_does_not_try_all_the_time():
    """Its check finds nothing wrong, and its setup fails."""
    session, now, tries = serving(), 100.0, []
    for number in range(6):
        session.receive(lease(number), now)
        before = now
        session.unfit("its setup load: OSError", "", now)
        while not any(isinstance(effect, Check) for effect in session.tick(now)):
            now += 0.5
            session.receive(Alive("run1"), now)
        tries.append(now - before)
        session.checked("run1", "", "", now)
    assert tries == [1, 2, 4, 8, 16, 30]


def test_the_answer_to_a_check_of_a_run_that_is_over_is_dropped():
    session = seeking()
    session.receive(WELCOME, 100.0)
    session.disconnected(101.0)
    assert session.checked("run1", "", "", 101.0) == []
    session.receive(Welcome("run2", JOB, HEARTBEAT_S), 102.0)
    assert session.checked("run1", "no folder", "", 102.0) == []
    assert session.checked("run2", "", "", 103.0) == [Say(Ready("run2"))]


def test_a_worker_that_was_lost_for_a_moment_is_ready_at_once():
    """It may be in the middle of a long batch, and a check would have to wait for its end."""
    session = serving(lease(1))
    session.disconnected(101.0)
    assert Say(Ready("run1")) in session.receive(WELCOME, 102.0)


def test_a_worker_whose_folder_comes_and_goes_tries_ever_more_rarely():
    """It brings batches in between, and each change is a line in two logs."""
    session = serving()
    now, changes = 100.0, 0
    while now < 400.0:
        session.receive(lease(1), now)
        session.produced(lease(1), 1, (), (), 0.0, Timings(), now + 0.1)
        session.receive(lease(2), now + 0.1)
        session.unfit("the folder is gone", "", now + 0.2)
        now, changes = session._retry_at_s, changes + 1
        session.tick(now)
        session.checked("run1", "", "", now)
    assert changes < 20
    now += 100.0                                   # it has worked for long since: this is another trouble
    session.receive(lease(3), now - 1.0)
    session.produced(lease(3), 1, (), (), 0.0, Timings(), now)
    session.receive(lease(4), now)
    session.unfit("the folder is gone", "", now)
    assert session._retry_at_s == now + 1.0


def test_a_batch_for_another_run_or_a_drain_ends_what_a_worker_that_became_unfit_has_in_work():
    session = serving(lease(1))
    session.receive(Stop("over"), 100.0)
    welcomed(session, Welcome("run2", JOB, HEARTBEAT_S))
    session.receive(lease(5), 100.0)
    assert session.unfit("the folder is gone", "", 100.0) == [Work(JOB, lease(5))]
    session = draining(lease(1))
    assert without_notes(session.unfit("the folder is gone", "", 100.0)) == [
        Say(Unfit("run1", "the folder is gone")), End(EXIT_DRAINED)]


def test_an_unfit_worker_drains_at_once_and_without_a_busy_loop():
    session = seeking()
    session.receive(WELCOME, 100.0)
    session.checked("run1", "no folder", "", 100.0)
    assert without_notes(session.drain(100.0, "asked to stop")) == [
        Say(Leaving("run1", -1, "asked to stop")), End(EXIT_DRAINED)]


def test_a_message_that_cannot_be_read_is_told_and_not_tried_again():
    session = serving(lease(1), lease(2))
    note, said = session.refused("lease.samples must be ...", 100.0)
    assert said.message.run == "run1" and "lease.samples must be ..." in said.message.reason
    assert "a row or a path that cannot travel, or a bug in Stoker" in said.message.reason
    assert session.refused("lease.samples must be ...", 100.0) == [] and not session.is_served(100.0)
    assert done(session, lease(1)) == [produced(lease(1))]              # what was in work is no fault of it
    for tick in range(100):
        now = 100.0 + tick
        session.receive(Alive("run1"), now)
        assert Check(JOB, "run1") not in session.tick(now)
    session = seeking()                                                 # Welcome itself
    assert session.refused("welcome.job must be ...", 100.0)[1].message.run == ""
    assert session.state is SessionState.SEEKING


@pytest.mark.parametrize("message", [lease(1), Revoked(1), Alive("run1"), Stop("over"), Refused("busy", False)])
def test_seeking_goes_on_whatever_else_comes(message):
    session = seeking()
    assert without_notes(session.receive(message, 100.0)) == []
    assert session.state is SessionState.SEEKING


def test_draining_while_seeking_ends_at_once():
    session = seeking()
    assert session.drain(100.0, "asked to stop") == [End(EXIT_DRAINED)]
    assert session.state is SessionState.ENDED


def test_a_connection_that_cannot_be_made_changes_nothing():
    session = seeking()
    assert session.disconnected(100.0) == [] and session.state is SessionState.SEEKING


# -------------------------------------------------------------------------------------------------------- SERVING

def test_one_lease_is_in_work_at_a_time_in_their_order():
    session = serving()
    assert session.receive(lease(1), 100.0) == [Work(JOB, lease(1))]
    assert session.receive(lease(2), 100.0) == []
    assert session.receive(lease(3), 100.0) == []
    assert done(session, lease(1)) == [produced(lease(1)), Work(JOB, lease(2))]
    assert done(session, lease(2)) == [produced(lease(2)), Work(JOB, lease(3))]
    assert done(session, lease(3)) == [produced(lease(3))]


def test_a_batch_tells_how_long_its_lease_was_here():
    session = serving(lease(1))
    session.receive(lease(2), 100.5)
    assert done(session, lease(1), 102.0)[0] == produced(lease(1), held_s=2.0)
    assert done(session, lease(2), 103.0)[0] == produced(lease(2), held_s=2.5)      # the wait for the first included
    session.receive(lease(3), 103.0)
    session.disconnected(104.0)
    welcomed(session, Welcome("run2", JOB, HEARTBEAT_S), 105.0)
    session.receive(lease(3), 105.0)                                                # an id of another run
    assert done(session, lease(3), 106.0) == [Work(JOB, lease(3))]
    assert done(session, lease(3), 107.0)[0] == produced(lease(3), "run2", held_s=2.0)


def test_a_failure_is_told_and_the_next_lease_begins():
    session = serving(lease(1), lease(2))
    assert session.failed(lease(1), "ValueError: x", "t" * MAX_TEXT + "the end", "a.jpg", 100.0) == [
        Say(Failed("run1", 1, 1, "ValueError: x", "t" * (MAX_TEXT - 7) + "the end", "a.jpg")), Work(JOB, lease(2))]


def test_any_error_text_can_be_sent():
    said, = serving(lease(1)).failed(lease(1), "no \ud800 text", "\udcff", "", 100.0)
    assert said.message.error == "no \\ud800 text"
    encode(said.message)


def test_a_revoked_lease_is_not_begun():
    session = serving(lease(1), lease(2), lease(3))
    assert session.receive(Revoked(2), 100.0) == [Say(Returned("run1", 2))]
    assert session.receive(Revoked(1), 100.0) == []             # in work: its batch will be the answer
    assert done(session, lease(1)) == [produced(lease(1)), Work(JOB, lease(3))]


def test_a_revoked_lease_in_work_is_finished_all_the_same():
    session = serving(lease(1))
    assert session.receive(Revoked(1), 100.0) == []
    assert done(session, lease(1)) == [produced(lease(1))]


def test_serving_says_alive_every_heartbeat():
    session = serving()
    assert session.next_deadline() == 100.0 + HEARTBEAT_S
    assert session.tick(100.4) == []
    assert session.tick(100.5) == [Say(Alive("run1"))]
    assert session.tick(100.6) == []
    assert session.next_deadline() == 101.0


def test_a_batch_is_a_sign_of_life():
    session = serving(lease(1), lease(2))
    done(session, lease(1), 100.4)
    assert session.tick(100.0 + HEARTBEAT_S) == [] and session.next_deadline() == 100.4 + HEARTBEAT_S
    assert session.tick(session.next_deadline()) == [Say(Alive("run1"))]
    session.failed(lease(2), "E", "", "", 101.2)
    assert session.next_deadline() == 101.2 + HEARTBEAT_S


def test_welcome_again_forgets_what_was_held_but_not_what_is_in_work():
    session = serving(lease(1), lease(2))
    assert session.receive(WELCOME, 100.0) == [Say(Ready("run1"))]
    assert session.receive(lease(5), 100.0) == []
    assert done(session, lease(1)) == [produced(lease(1)), Work(JOB, lease(5))]


@pytest.mark.parametrize("leave", [
    lambda session: session.receive(Stop("the trainer closed"), 101.0),
    lambda session: session.receive(Refused("Alive before Hello", False), 101.0),
    lambda session: session.disconnected(101.0)],
    ids=["Stop", "Refused", "connection lost"])
def test_what_leads_back_to_seeking(leave):
    session = serving(lease(1), lease(2))
    assert without_notes(leave(session)) == []
    assert session.state is SessionState.SEEKING
    now = 110.0
    assert session.tick(now) == [Say(HELLO)]
    assert done(session, lease(1), now) == []                  # no trainer to tell; lease 2 is forgotten
    assert without_notes(welcomed(session, Welcome("run2", JOB, HEARTBEAT_S), now)) == []
    assert session.receive(lease(9), now) == [Work(JOB, lease(9))]


def test_seeking_again_says_hello_at_once():
    session = serving()
    session.tick(105.0)
    session.disconnected(105.1)
    assert session.next_deadline() <= 105.1 + 1e-9


def test_a_trainer_that_is_heard_is_not_silent():
    session = serving()
    for tick in range(1, 100):
        now = 100.0 + tick * HEARTBEAT_S
        assert session.receive(Alive("run1"), now) == [] and session.tick(now) == [Say(Alive("run1"))]
        assert session.is_served(now)


def test_a_trainer_that_is_silent_for_a_minute_finds_all_as_it_was():
    """It is busy in one long call: its connection stands, and all that is said now has to be read afterwards."""
    session = serving(lease(1), lease(2))
    said, notes, now = 0, [], 100.0
    while now < 160.0:
        now = session.next_deadline()
        effects = session.tick(now)
        said += Say(Alive("run1")) in effects
        notes += [effect.text for effect in effects if isinstance(effect, Note)]
    assert session.state is SessionState.SERVING and not session.is_served(now)
    assert 20 < said < 50
    assert [text.partition(" s,")[0] for text in notes] == [
        "the trainer has said nothing for %d" % seconds for seconds in (6, 13, 27, 56)]
    assert done(session, lease(1), now) == [produced(lease(1), held_s=now - 100.0), Work(JOB, lease(2))]
    assert done(session, lease(2), now) == [produced(lease(2), held_s=now - 100.0)]
    assert session.receive(lease(3), now) == [Note("the trainer is back after %.0f s" % (now - 100.0)),
                                              Work(JOB, lease(3))]
    assert session.is_served(now) and session.next_deadline() == now + HEARTBEAT_S
    assert session.receive(Alive("run1"), now) == []


def test_a_trainer_that_is_silent_for_hours_is_not_forgotten():
    session = serving()
    now = 100.0
    while now < 20000.0:
        now = session.next_deadline()
        session.tick(now)
    assert session.next_deadline() - now <= MAX_INTERVAL_S      # so soon the end of its connection is noticed
    assert without_notes(session.disconnected(now)) == [] and session.next_deadline() == now
    assert [type(effect) for effect in session.receive(WELCOME, now)] == [Note, Note, Say]


def test_what_is_finished_for_a_run_that_is_over_is_dropped():
    session = serving(lease(1))
    session.receive(Stop("over"), 100.0)
    welcomed(session, Welcome("run2", JOB, HEARTBEAT_S), 101.0)
    assert session.receive(lease(1, 77), 101.0) == []          # the generator is still at the old one
    assert done(session, lease(1)) == [Work(JOB, lease(1, 77))]
    assert done(session, lease(1, 77), 101.0) == [produced(lease(1, 77), "run2")]


def test_what_is_finished_for_the_same_run_counts_after_a_broken_connection():
    session = serving(lease(1))
    session.disconnected(100.0)
    session.receive(WELCOME, 101.0)
    assert done(session, lease(1)) == [produced(lease(1))]


# --------------------------------------------------------------------------------------------------- the end of it

@pytest.mark.parametrize("make", [seeking, serving], ids=["SEEKING", "SERVING"])
def test_once_ends_with_stop(make):
    session = make(once=True)
    assert without_notes(session.receive(Stop("done"), 100.0)) == [End(EXIT_ENDED)]
    assert session.state is SessionState.ENDED


@pytest.mark.parametrize("make", [seeking, serving, lambda: draining(lease(1))], ids=["SEEKING", "SERVING", "DRAINING"])
def test_a_final_refusal_ends_in_every_state(make):
    session = make()
    assert session.receive(Refused("other version", True), 100.0) == [
        Note("the trainer refuses this worker: other version"), End(EXIT_REFUSED)]


def test_draining_keeps_the_lease_in_work_and_gives_back_the_others():
    session = serving(lease(1), lease(2))
    assert session.drain(100.0, "asked to stop") == [Say(Leaving("run1", 1, "asked to stop"))]
    assert session.state is SessionState.DRAINING
    assert session.drain(100.0, "again") == []
    assert session.tick(100.5) == [Say(Alive("run1"))]
    assert done(session, lease(1)) == [produced(lease(1)), Note("drained"), End(EXIT_DRAINED)]


def test_draining_with_nothing_in_work_ends_at_once():
    assert serving().drain(100.0, "asked to stop") == [
        Say(Leaving("run1", -1, "asked to stop")), Note("drained"), End(EXIT_DRAINED)]


def test_draining_does_not_wait_for_work_of_a_run_that_is_over():
    session = serving(lease(1))
    session.receive(Stop("over"), 100.0)
    welcomed(session, Welcome("run2", JOB, HEARTBEAT_S), 100.0)
    assert session.drain(100.0, "bye")[0] == Say(Leaving("run2", -1, "bye")) and session.state is SessionState.ENDED


def test_a_failure_ends_draining_too():
    effects = draining(lease(1)).failed(lease(1), "E", "", "", 100.0)
    assert effects == [Say(Failed("run1", 1, 1, "E", "")), Note("drained"), End(EXIT_DRAINED)]


@pytest.mark.parametrize("message", [lease(3), Revoked(1), WELCOME, Alive("run1"), Refused("who?", False)])
def test_draining_goes_on_whatever_else_comes(message):
    session = draining(lease(1))
    assert session.receive(message, 100.0) == [] and session.state is SessionState.DRAINING
    assert done(session, lease(1))[0] == produced(lease(1))


def test_draining_survives_a_silent_trainer():
    session = draining(lease(1))
    assert without_notes(session.tick(1000.0)) == [Say(Alive("run1"))] and session.state is SessionState.DRAINING


@pytest.mark.parametrize("once, code", [(False, EXIT_DRAINED), (True, EXIT_ENDED)])
def test_stop_ends_draining(once, code):
    assert without_notes(draining(lease(1), once=once).receive(Stop("over"), 100.0)) == [End(code)]


def test_a_broken_connection_ends_draining():
    assert draining(lease(1)).disconnected(100.0) == [End(EXIT_DRAINED)]


def test_after_the_end_nothing_happens():
    session = draining()
    assert session.state is SessionState.ENDED
    for message in (WELCOME, lease(1), Revoked(1), Stop("x"), Refused("x", True), Alive("run1")):
        assert session.receive(message, 100.0) == []
    assert session.tick(200.0) == session.drain(200.0, "x") == session.disconnected(200.0) == []
    assert [effect for effect in done(session, lease(1)) if not isinstance(effect, End)] == []
    assert session.state is SessionState.ENDED


# ------------------------------------------------------------------------------------- whatever the trainer says

#: What can happen to a session, most of all what happens in a healthy one: with arbitrary messages alone, hardly any
#: lease would be produced.
KINDS = ["lease"] * 6 + ["produced"] * 4 + ["failed"] * 4 + ["checked"] * 4 + ["unfit"] * 3 + [
    "refused", "welcome", "tick", "message", "end"]
INPUTS = st.sampled_from(KINDS).flatmap({
    "lease": st.integers(1, 3).map(lambda number: ("receive", lease(number))),
    "produced": st.just(("produced", None)),
    "failed": st.just(("failed", None)),
    "unfit": st.just(("unfit", None)),
    "checked": st.sampled_from(["", "", "", "no folder"]).map(lambda reason: ("checked", reason)),
    "refused": st.just(("refused", None)),
    "welcome": st.just(("receive", WELCOME)),
    "tick": st.just(("tick", None)),
    "message": ANY_FROM_TRAINER.map(lambda message: ("receive", message)),
    "end": st.sampled_from([("receive", Stop("over")), ("disconnected", None), ("drain", None)])}.get)


def any_history(inputs, once, happened):
    """Plays ``inputs``; counts the kinds of those that happened. 'produced' and 'failed' need a lease in work."""
    session, now, in_work, checks, ended = seeking(once), 100.0, [], [], False
    for what, message in [("receive", WELCOME), ("checked", "")] + inputs:
        now += 0.3
        if what in ("produced", "failed", "unfit") and not in_work or what == "checked" and not checks:
            continue
        happened[what] += 1
        if what == "receive":
            effects = session.receive(message, now)
        elif what == "produced":
            effects = done(session, in_work.pop(), now)
        elif what == "failed":
            effects = session.failed(in_work.pop(), "no", "traceback", "a.jpg", now)
        elif what == "unfit":
            in_work.pop()
            effects = session.unfit("the folder is gone", "", now)
        elif what == "checked":
            effects = session.checked(checks.pop(0), message, "", now)
        elif what == "refused":
            effects = session.refused("no", now)
        elif what == "tick":
            effects = session.tick(now)
        else:
            effects = getattr(session, what)(now, "a reason")
        assert not (ended and effects), "it goes on after its end"
        in_work += [effect.lease for effect in effects if isinstance(effect, Work)]
        checks += [effect.run for effect in effects if isinstance(effect, Check)]
        ended = ended or any(isinstance(effect, End) for effect in effects)
        assert ended == (session.state is SessionState.ENDED) and len(in_work) <= 1
        for effect in effects:
            if isinstance(effect, Say) and not isinstance(effect.message, Produced):
                encode(effect.message)


def test_any_history_has_one_lease_in_work_and_nothing_after_the_end():
    happened = collections.Counter()

    @settings(max_examples=200 * EFFORT)
    @given(st.lists(INPUTS, min_size=5, max_size=30), st.booleans())
    def histories(inputs, once):
        any_history(inputs, once, happened)

    histories()
    assert min(happened["produced"], happened["failed"], happened["unfit"]) >= 20 * EFFORT, happened
