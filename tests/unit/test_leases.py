"""Each rule in the docstring of pipeline/coordinator/leases.py, as a short history."""

import copy

import pytest

from stoker.pipeline.coordinator.effects import Abort, Accept, Gone, Grant, Revoke, Unknown
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.coordinator.stragglers import MIN_DURATIONS, MIN_STRAGGLER_S
from stoker.pipeline.coordinator.tables import ISOLATION_DEATHS
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Leaving, Produced, Ready, Returned, Room
from stoker.pipeline.protocol.messages import Unfit
from tests.support.invariants import alive, check_invariants

LEASE_S = 4.0


class Fleet:
    """A scheduler, a clock, and short words for what workers do."""

    def __init__(self, steps=100, prefetch=8, **limits):
        self.scheduler = LeaseScheduler(0, steps, prefetch, LEASE_S, **limits)
        self.now = 0.0
        self.scheduler.tick(self.now)

    def _after(self, effects):
        check_invariants(self.scheduler)
        return effects

    def say(self, worker, message):
        return self._after(self.scheduler.receive(worker, message, self.now))

    def hello(self, worker, capacity=1):
        """Hello, and Ready."""
        return self.say(worker, Hello(worker, 1, "", capacity, "")) + self.say(worker, Ready("run"))

    def batch(self, worker, lease, position):
        return self.say(worker, Produced("run", lease, position, 1, (), 0.1, ()))

    def fail(self, worker, lease, position, error="ValueError: bad", starved=False):
        return self.say(worker, Failed("run", lease, position, error, "the traceback", starved=starved))

    def leave(self, worker, lease=-1):
        return self.say(worker, Leaving("run", lease, "asked to stop"))

    def lost(self, worker):
        return self._after(self.scheduler.lost(worker, self.now))

    def take(self):
        return self._after(self.scheduler.take(self.now))

    def pass_time(self, seconds, alive=()):
        """Ticks in time, and hears ``alive`` all the while. Returns the effects of all."""
        effects = []
        end_s = self.now + seconds
        while self.now < end_s:
            self.now = min(end_s, self.now + 0.1)
            for worker in alive:
                effects += self.say(worker, Alive("run"))
            effects += self._after(self.scheduler.tick(self.now))
        return effects

    def tables(self):
        """All that the scheduler knows, but for who was heard when."""
        tables = copy.deepcopy(self.scheduler.__dict__)
        for name in ("_rule", "_records", "_verification"):
            tables[name] = vars(tables[name])
        for name in ("_unassigned", "_stragglers"):
            tables[name] = list(tables[name])
        for worker in tables["_workers"].values():
            worker.heard_s = 0.0
        return tables


def grants(effects):
    return [(one.worker, one.lease, one.position) for one in effects if isinstance(one, Grant)]


def aborts(effects):
    return [one for one in effects if isinstance(one, Abort)]


@pytest.fixture
def fleet():
    return Fleet()


def test_a_worker_that_reads_ahead_gets_more_only_while_the_window_has_two_for_each_worker():
    fleet = Fleet(steps=100, prefetch=10)
    assert len(grants(fleet.hello("a", 2))) == 2
    assert [each[0] for each in grants(fleet.say("a", Room("run", 100)))] == ["a", "a"]        # four at most
    assert len(grants(fleet.hello("b", 2))) == 2
    assert grants(fleet.say("b", Room("run", 4))) == []         # 6 of 10 are granted: two are left for each worker
    assert grants(fleet.batch("a", 1, 0)) == []                 # it has three
    assert len(grants(fleet.batch("b", 5, 4))) == 1             # with less than two, it gets one as any worker
    assert grants(fleet.batch("a", 3, 2)) == []
    assert [each[0] for each in grants(fleet.batch("a", 2, 1))] == ["a"]


# ------------------------------------------------------------------------------------------------ who gets what

def test_positions_are_granted_in_order_one_a_worker_at_a_time(fleet):
    assert grants(fleet.hello("a", 2)) == [("a", 1, 0), ("a", 2, 1)]
    assert grants(fleet.hello("b", 2)) == [("b", 3, 2), ("b", 4, 3)]


def test_a_worker_never_holds_more_than_its_capacity(fleet):
    fleet.hello("a", 3)
    assert grants(fleet.say("a", Alive("run"))) == []
    assert grants(fleet.batch("a", 1, 0)) == [("a", 4, 3)]


def test_no_more_than_prefetch_positions_are_open_or_ready():
    fleet = Fleet(prefetch=2)
    assert grants(fleet.hello("a", 5)) == [("a", 1, 0), ("a", 2, 1)]
    assert grants(fleet.batch("a", 2, 1)) == []     # ready, and still in the window
    assert grants(fleet.batch("a", 1, 0)) == []
    assert grants(fleet.take()) == [("a", 3, 2)]    # only the consumer moves it


def test_nothing_is_granted_behind_the_end():
    fleet = Fleet(steps=1)
    assert grants(fleet.hello("a", 5)) == [("a", 1, 0)]
    fleet.batch("a", 1, 0)
    assert fleet.take() == [] and fleet.scheduler.head == 1


def test_taking_what_is_not_there_is_an_error_and_changes_nothing(fleet):
    fleet.hello("a")
    before = fleet.tables()
    with pytest.raises(RuntimeError, match="position 0 was taken before its batch came"):
        fleet.scheduler.take(fleet.now)
    assert fleet.tables() == before


def test_a_resumed_run_starts_where_it_says():
    scheduler = LeaseScheduler(7, 9, 5, LEASE_S)
    assert grants(scheduler.receive("a", Hello("a", 1, "", 5, ""), 0.0)) == []
    assert [position for _, _, position in grants(scheduler.receive("a", Ready("run"), 0.0))] == [7, 8]


# ------------------------------------------------------------------------------- workers that cannot do the job

def test_a_worker_gets_nothing_before_it_is_ready(fleet):
    assert fleet.say("a", Hello("a", 1, "", 1, "")) == [] and fleet.scheduler.fitness("a") is None
    assert fleet.say("a", Alive("run")) == [] and not fleet.pass_time(1.0, alive=["a"])
    assert ([worker.fit for worker in alive(fleet.scheduler)], fleet.scheduler.has_room) == ([None], False)
    assert fleet.scheduler.describe(fleet.now) == (
        "1 of 1 connected workers alive, 0 leases open, 1 not yet ready: importing your code, or looking for the "
        "folder, for 1.0 s")
    assert grants(fleet.say("a", Ready("run"))) == [("a", 1, 0)]
    assert fleet.say("a", Ready("run")) == []                           # again
    assert [worker.fit for worker in alive(fleet.scheduler)] == [True]


def test_a_worker_that_cannot_do_the_job_counts_nowhere(fleet):
    fleet.say("b", Hello("b", 1, "", 1, ""))
    assert fleet.say("b", Unfit("run", "no folder")) == []
    assert (alive(fleet.scheduler), fleet.scheduler.is_heard("b"), fleet.scheduler.fitness("b")) == ([], False, False)
    assert fleet.scheduler.describe(0.0) == "no worker is connected that can do this job"
    assert not fleet.pass_time(3 * LEASE_S)                             # nor is its silence of interest
    fleet.hello("a")
    assert fleet.scheduler.describe(fleet.now).startswith("1 of 1 connected workers alive, 1 leases open")
    assert not aborts(fleet.fail("a", 1, 0)) and not aborts(fleet.fail("a", 2, 0))
    assert aborts(fleet.fail("a", 3, 0))                                # there is no other worker to try
    assert grants(fleet.say("b", Ready("run"))) == [("b", 5, 2)]


def test_what_an_unfit_worker_held_counts_as_not_tried(fleet):
    fleet.hello("a", 2)
    fleet.hello("b")
    effects = fleet.say("a", Unfit("run", "the folder is gone"))
    assert effects == []                                                # b has no room
    effects = fleet.batch("b", 3, 2)
    assert [(one.position, one.attempt) for one in effects if isinstance(one, Grant)] == [(0, 1)]
    effects = fleet.batch("b", 4, 0)
    assert [one.attempt for one in effects if isinstance(one, Accept)] == [1]
    assert [(one.position, one.attempt) for one in effects if isinstance(one, Grant)] == [(1, 1)]
    assert [one for one in fleet.batch("a", 2, 1) if isinstance(one, Accept)]       # late, and right all the same
    assert fleet.lost("a")[0].positions == 0


def test_an_unfit_worker_that_was_to_leave_has_left(fleet):
    fleet.hello("a", 2)
    fleet.leave("a", 1)
    fleet.say("a", Unfit("run", "the folder is gone"))
    assert not fleet.scheduler.is_member("a")


def test_a_worker_that_may_still_be_able_to_try_keeps_the_run_alive(fleet):
    """One without the packages fails three times before a good one has imported its module."""
    fleet.hello("a")
    fleet.say("slow", Hello("slow", 1, "", 1, ""))
    for lease in (1, 2):
        assert not aborts(fleet.fail("a", lease, lease - 1))
    fleet.say("slow", Ready("run"))
    assert not fleet.scheduler._open[0].aborted and fleet.scheduler._open[0].failures == 1


# ----------------------------------------------------------------------------------------------- batches that come

def test_a_batch_is_accepted_once_and_the_second_is_dropped_and_counted(fleet):
    fleet.hello("a")
    assert fleet.batch("a", 1, 0)[0] == Accept("a", 0, 1)
    assert fleet.batch("a", 1, 0) == []
    assert fleet.scheduler.duplicates == 1
    fleet.take()
    assert fleet.batch("a", 1, 0) == []
    assert fleet.scheduler.duplicates == 2


def test_an_accepted_batch_tells_how_long_it_took_since_the_grant(fleet):
    fleet.hello("a", 2)
    fleet.pass_time(1.5, alive=("a",))
    assert fleet.batch("a", 2, 1)[0].took_s == pytest.approx(1.5)
    fleet.pass_time(LEASE_S + 1)                    # its other lease ended, as far as anybody knows
    assert fleet.batch("a", 1, 0)[0].took_s == 0.0


def test_a_late_batch_is_accepted_while_its_position_is_open(fleet):
    fleet.hello("a")
    fleet.pass_time(LEASE_S + 1)
    assert grants(fleet.hello("b")) == [("b", 2, 0)]
    effects = fleet.batch("a", 1, 0)                # it was frozen, and woke
    assert effects[:2] == [Accept("a", 0, 1), Revoke("b", 2)]


def test_a_late_batch_is_accepted_while_its_position_waits_for_a_worker(fleet):
    fleet.hello("a")
    fleet.pass_time(LEASE_S + 1)
    assert Accept("a", 0, 1) in fleet.batch("a", 1, 0)
    assert grants(fleet.hello("b")) == [("b", 3, 2)]    # and it is not granted again: a holds 1


def test_a_worker_that_comes_back_delivers_what_it_had_begun(fleet):
    fleet.hello("a")
    fleet.lost("a")
    assert grants(fleet.hello("a again")) == [("a again", 2, 0)]
    assert Accept("a again", 0, 1) in fleet.batch("a again", 1, 0)   # by the lease of its last connection


# ----------------------------------------------------------------------------------------------- workers that go

def test_a_lost_worker_s_positions_go_out_again_before_anything_fresh(fleet):
    fleet.hello("a", 2)
    fleet.hello("b")
    assert fleet.lost("a") == [Gone("a", "lost the connection", 2, True)]
    assert grants(fleet.batch("b", 3, 2)) == [("b", 4, 0)]
    assert grants(fleet.batch("b", 4, 0)) == [("b", 5, 1)]
    assert grants(fleet.batch("b", 5, 1)) == [("b", 6, 3)]
    assert fleet.scheduler.reassigned == 2


def test_attempts_are_counted_for_each_position(fleet):
    fleet.hello("a")
    fleet.lost("a")
    assert fleet.hello("b") == [Grant("b", 2, 0, 2)]


def test_losing_a_stranger_means_nothing(fleet):
    assert fleet.lost("nobody") == []


def test_a_silent_worker_loses_its_leases_and_keeps_its_membership(fleet):
    fleet.hello("a")
    assert fleet.pass_time(LEASE_S) == []
    effects = fleet.pass_time(0.5)
    assert [type(one) for one in effects] == [Gone, Revoke] and "was silent for 4." in effects[0].why
    assert effects[0].positions == 1
    assert fleet.scheduler.is_member("a") and alive(fleet.scheduler) == []
    assert grants(fleet.hello("b")) == [("b", 2, 0)]


def test_a_silent_worker_gets_leases_again_when_it_is_heard(fleet):
    fleet.hello("a")
    fleet.pass_time(LEASE_S + 1)
    assert grants(fleet.say("a", Alive("run"))) == []       # it may still be at what it held
    assert len(alive(fleet.scheduler)) == 1
    assert grants(fleet.say("a", Returned("run", 1))) == [("a", 2, 0)]


def test_a_worker_that_was_silent_is_not_given_what_it_may_still_be_at(fleet):
    fleet.hello("a", 2)
    fleet.pass_time(LEASE_S + 1)
    assert grants(fleet.say("a", Returned("run", 2))) == [("a", 3, 1)]
    assert grants(fleet.hello("b")) == [("b", 4, 0)]


def test_whoever_is_heard_is_not_silent(fleet):
    fleet.hello("a")
    fleet.hello("b")
    effects = fleet.pass_time(3 * LEASE_S, alive=["a"])
    assert [one.worker for one in effects if isinstance(one, Gone)] == ["b"]


def test_hello_again_means_that_it_forgot_what_it_held(fleet):
    fleet.hello("a", 2)
    effects = fleet.hello("a", 2)
    assert effects[0] == Gone("a", "said Hello again", 2)
    assert grants(effects) == [("a", 3, 0), ("a", 4, 1)]


def test_a_draining_worker_keeps_only_the_lease_in_work(fleet):
    fleet.hello("a", 3)
    fleet.hello("b")
    assert fleet.leave("a", lease=2) == []
    assert grants(fleet.batch("b", 4, 3)) == [("b", 5, 0)]
    effects = fleet.batch("a", 2, 1)
    assert effects == [Accept("a", 1, 1), Gone("a", "drained", 0)]
    assert not fleet.scheduler.is_member("a")


def test_a_worker_that_leaves_with_nothing_in_work_is_gone_at_once(fleet):
    fleet.hello("a", 2)
    assert fleet.leave("a") == [Gone("a", "asked to stop", 0)]
    assert grants(fleet.hello("b", 2)) == [("b", 3, 0), ("b", 4, 1)]


def test_a_draining_worker_that_fails_is_gone(fleet):
    fleet.hello("a")
    fleet.leave("a", lease=1)
    assert fleet.fail("a", 1, 0) == [Gone("a", "drained", 0)]


def test_a_draining_worker_that_is_overtaken_is_gone(fleet):
    fleet.hello("a")
    fleet.pass_time(LEASE_S + 1)
    fleet.hello("b")
    fleet.leave("b", lease=2)
    effects = fleet.batch("a", 1, 0)
    assert effects[:3] == [Accept("a", 0, 1), Revoke("b", 2), Gone("b", "drained", 0)]


# ---------------------------------------------------------------------------------------------- late steps, backups

def at_pace(fleet, pace_s=0.1):
    """Worker ``quick`` delivers until the scheduler knows the fleet's pace; ``stuck`` holds position 0."""
    assert grants(fleet.hello("stuck")) == [("stuck", 1, 0)]
    (_, lease, position), = grants(fleet.hello("quick"))
    for _ in range(MIN_DURATIONS):
        fleet.pass_time(pace_s, alive=["stuck"])
        (_, lease, position), = grants(fleet.batch("quick", lease, position))
    return lease, position


def test_a_late_position_is_granted_once_more_to_another_worker():
    fleet = Fleet(prefetch=50)
    lease, position = at_pace(fleet)
    fleet.pass_time(MIN_STRAGGLER_S + 0.1, alive=["stuck", "quick"])
    assert grants(fleet.batch("quick", lease, position)) == [("quick", 11, 0)]
    assert fleet.scheduler.backups == 1
    assert [place for _, _, place in grants(fleet.hello("third", 2))] == [10, 11]    # nobody gets a third lease on it


def test_each_further_backup_waits_twice_as_long():
    fleet = Fleet(prefetch=1)                           # all hang on the one step of the window
    workers = ["a", "b", "c", "d"]
    for worker in workers:
        fleet.hello(worker)
    granted_s = []
    while len(granted_s) < 3:
        assert fleet.now < 60
        granted_s += [fleet.now] * len(grants(fleet.pass_time(0.1, alive=workers)))
    assert granted_s == pytest.approx([LEASE_S, 3 * LEASE_S, 7 * LEASE_S], abs=0.6)
    assert Accept("d", 0, 4) in fleet.batch("d", 4, 0)
    assert fleet.scheduler.backups == 3


def test_who_is_idle_takes_what_is_late_sooner():
    fleet = Fleet(steps=MIN_DURATIONS + 2, prefetch=50)
    lease, position = at_pace(fleet, pace_s=0.02)       # not long enough for what is late otherwise
    assert fleet.scheduler.backups == 0
    fleet.batch("quick", lease, position)               # the last one: there is nothing else to do
    assert grants(fleet.scheduler.tick(fleet.now + 0.03)) == [("quick", 11, 0)]


def test_a_revoked_lease_takes_up_room_until_there_is_word_of_it():
    for answer in (Returned("run", 1), Produced("run", 1, 0, 1, (), 0.1, ()), Failed("run", 1, 0, "no", "")):
        fleet = Fleet(prefetch=50)
        lease, position = at_pace(fleet)
        fleet.pass_time(1.0, alive=["stuck", "quick"])
        fleet.batch("quick", lease, position)
        assert grants(fleet.batch("quick", 11, 0))      # position 0: overtaken
        assert grants(fleet.pass_time(2 * LEASE_S, alive=["stuck", "quick"])) == []
        assert [worker for worker, _, _ in grants(fleet.say("stuck", answer))] == ["stuck"]


def test_nothing_is_late_before_the_pace_is_known(fleet):
    fleet.hello("a")
    fleet.hello("b")
    fleet.pass_time(LEASE_S / 2, alive=["a", "b"])
    assert grants(fleet.batch("b", 2, 1)) == [("b", 3, 2)]


def test_what_takes_longer_than_a_lease_is_late_even_then(fleet):
    fleet.hello("stuck")
    fleet.hello("b")
    fleet.pass_time(LEASE_S + 1.0, alive=["stuck", "b"])
    assert grants(fleet.batch("b", 2, 1)) == [("b", 3, 0)]


def test_the_late_worker_itself_is_no_backup():
    fleet = Fleet(steps=MIN_DURATIONS + 2, prefetch=50)
    lease, position = at_pace(fleet)
    fleet.leave("quick", lease)
    fleet.batch("quick", lease, position)
    fleet.hello("stuck", 3)    # holds 0 again, and has room
    assert fleet.scheduler.reassigned == 1
    effects = fleet.pass_time(2.0, alive=["stuck"])
    assert grants(effects) == [] and fleet.scheduler.backups == 0


def test_whoever_is_first_wins_and_the_other_lease_is_revoked():
    for winner in ("stuck", "quick"):
        fleet = Fleet(prefetch=50)
        lease, position = at_pace(fleet)
        fleet.pass_time(1.0, alive=["stuck", "quick"])
        fleet.batch("quick", lease, position)
        won, other = (1, Revoke("quick", 11)) if winner == "stuck" else (11, Revoke("stuck", 1))
        effects = fleet.batch(winner, won, 0)
        assert effects[:2] == [Accept(winner, 0, 1 if winner == "stuck" else 2), other]
        assert not any(isinstance(effect, Accept) for effect in fleet.batch(other.worker, other.lease, 0))
        assert fleet.scheduler.duplicates == 1


def test_a_lost_backup_leaves_the_first_lease_and_may_be_followed_by_another():
    fleet = Fleet(prefetch=50)
    lease, position = at_pace(fleet)
    fleet.pass_time(1.0, alive=["stuck", "quick"])
    fleet.batch("quick", lease, position)
    fleet.lost("quick")
    fleet.pass_time(0.2, alive=["stuck"])
    assert grants(fleet.hello("third"))[0] == ("third", 12, 0)
    assert Accept("stuck", 0, 1) in fleet.batch("stuck", 1, 0)


def test_after_two_deaths_the_lease_is_careful(fleet):
    for number, worker in enumerate("abc"):
        grant, = fleet.hello(worker)
        assert grant == Grant(worker, number + 1, 0, number + 1, number >= ISOLATION_DEATHS)
        fleet.lost(worker)


# ----------------------------------------------------------------------------------------------- steps that fail

def test_a_failed_position_goes_out_again(fleet):
    fleet.hello("a")
    assert grants(fleet.fail("a", 1, 0)) == [("a", 2, 0)]
    assert Accept("a", 0, 2) in fleet.batch("a", 2, 0)


def test_failing_three_times_aborts_with_the_last_error(fleet):
    fleet.hello("a")
    for lease in (1, 2):
        assert not any(isinstance(one, Abort) for one in fleet.fail("a", lease, 0))
    assert Abort(0, "OSError: worse", "the traceback") in fleet.fail("a", 3, 0, "OSError: worse")


def test_a_step_for_which_the_run_was_aborted_is_not_tried_again(fleet):
    fleet.hello("a")
    for lease in (1, 2):
        assert grants(fleet.fail("a", lease, 0)) == [("a", lease + 1, 0)]
    assert grants(fleet.fail("a", 3, 0)) == [("a", 4, 1)]


def test_a_failed_position_waits_for_a_worker_that_did_not_fail_at_it(fleet):
    fleet.hello("a")
    fleet.hello("b")
    assert grants(fleet.fail("a", 1, 0)) == [("a", 3, 2)]       # b is busy: a gets fresh work instead
    assert grants(fleet.batch("b", 2, 1)) == [("b", 4, 0)]
    assert grants(fleet.fail("b", 4, 0)) == [("b", 5, 0)]       # everybody failed: whoever is free


def test_who_sends_nonsense_does_not_get_the_position_again_and_again(fleet):
    fleet.hello("liar")
    fleet.hello("b")
    tried = [0]
    for _ in range(20):                                         # far more often than a step may fail
        effects = fleet.scheduler.protocol_violation("liar", fleet.now, "sent nonsense") + fleet.hello("liar")
        assert not any(isinstance(one, Abort) for one in effects)
        tried += [position for _, _, position in grants(effects)]
    assert tried == [0, 2, 3, 4, 5, 6, 7]                       # each once, as far as the window goes
    assert grants(fleet.batch("b", 2, 1))[0] == ("b", 9, 0)     # an honest worker begins with the first of them


def test_a_liar_that_is_alone_ends_the_run(fleet):
    said = []
    for _ in range(10):
        assert not said
        fleet.hello("liar")
        said += fleet.scheduler.protocol_violation("liar", fleet.now, "sent nonsense")
        said = [effect for effect in said if isinstance(effect, Abort)]
    assert said == [Abort(0, "sent nonsense", "")]


def test_a_failed_position_goes_back_if_the_others_leave(fleet):
    fleet.hello("a")
    fleet.hello("b")
    fleet.fail("a", 1, 0)
    fleet.batch("a", 3, 2)                                      # holds position 3 now
    fleet.lost("b")                                             # ... which held 1: a is alone
    assert grants(fleet.batch("a", 4, 3)) == [("a", 5, 0)]


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_failed_position_goes_back_if_the_others_do_not_take_it(fleet, is_ready):
    """They hang, in their import or in a step, and still say Alive."""
    fleet.hello("a")
    fleet.say("hangs", Hello("hangs", 1, "", 1, ""))
    if is_ready:
        fleet.say("hangs", Ready("run"))
    fleet.fail("a", 1, 0)
    fleet.batch("a", fleet.scheduler._leases and max(fleet.scheduler._leases), 2 if is_ready else 1)
    granted = []
    for _ in range(100):
        granted += [position for worker, lease, position in grants(fleet.pass_time(0.1, ("a", "hangs")))]
        for lease, held in sorted(fleet.scheduler._leases.items()):
            if held.worker == "a":
                granted += [position for _, _, position in grants(fleet.batch("a", lease, held.position))]
        while fleet.scheduler.head in fleet.scheduler._ready:
            granted += [position for _, _, position in grants(fleet.take())]
        if 0 in granted:
            break
    assert 0 in granted and fleet.now > LEASE_S - 0.2      # others had their time


def test_the_time_of_an_absence_is_no_reason_to_try_again(fleet):
    fleet.hello("a")
    fleet.say("slow", Hello("slow", 1, "", 1, ""))
    fleet.fail("a", 1, 0)
    fleet.pass_time(1.0, ("a", "slow"))
    fleet.now += 100.0
    fleet.scheduler.suspended_for(100.0, fleet.now)
    fleet.scheduler.tick(fleet.now)
    assert fleet.scheduler._open[0].failed == {"a"}
    fleet.pass_time(LEASE_S, ("a", "slow"))
    assert not fleet.scheduler._open[0].failed


def test_a_host_on_which_everything_fails_does_not_end_the_run_of_the_others():
    fleet = Fleet(steps=10, prefetch=4)
    fleet.hello("good")
    effects = []
    for number in range(20):
        fleet.hello("bad-%d" % number)
    while fleet.scheduler.head < 10:
        assert len(effects) < 2000
        for lease, entry in sorted(fleet.scheduler._leases.items(), key=lambda pair: pair[1].worker):
            act = fleet.batch if entry.worker == "good" else fleet.fail
            effects += act(entry.worker, lease, entry.position)
        while fleet.scheduler.head in fleet.scheduler._ready:
            effects += fleet.take()
    assert not [one for one in effects if isinstance(one, Abort)]


def test_three_workers_that_had_delivered_before_know_that_a_step_fails():
    fleet = Fleet(prefetch=8)
    effects = []
    for worker in "abcd":
        fleet.hello(worker)
    for position, worker in enumerate("abc"):
        effects += fleet.batch(worker, position + 1, position)
    while not any(isinstance(one, Abort) for one in effects):      # position 3 fails, all else succeeds
        lease, entry = min(fleet.scheduler._leases.items())
        if entry.position == 3:
            effects += fleet.fail(entry.worker, lease, 3)
        else:
            effects += fleet.batch(entry.worker, lease, entry.position)
        while fleet.scheduler.head in fleet.scheduler._ready:
            effects += fleet.take()
    assert Abort(3, "ValueError: bad", "the traceback") in effects
    assert len(fleet.scheduler._open[3].failed) == 4               # d, which had delivered nothing, did not count


def test_what_kills_in_spite_of_care_ends_the_run(fleet):
    fleet.hello("other")
    effects = []
    for number in range(60):
        effects += fleet.hello("w%d" % number)
        effects += fleet.lost("w%d" % number)
    deaths, = [one for one in effects if isinstance(one, Abort)]
    assert deaths.position == 1 and "52 workers died while they held it" in deaths.error


def test_failures_of_different_positions_do_not_add_up(fleet):
    fleet.hello("a", 3)
    assert not any(isinstance(one, Abort) for lease in (1, 2, 3) for one in fleet.fail("a", lease, lease - 1))


def test_a_failure_of_a_lease_that_had_ended_counts_nothing(fleet):
    fleet.hello("a")
    fleet.pass_time(LEASE_S + 1)
    fleet.hello("b")
    for _ in range(5):
        assert fleet.fail("a", 1, 0)[:1] in ([], [Grant("a", 3, 1, 1)])
        assert fleet.fail("a", 2, 0) == []          # not its own
    assert Accept("b", 0, 2) in fleet.batch("b", 2, 0)


def test_a_position_that_kills_its_workers_aborts_once():
    fleet = Fleet(max_deaths=3)
    aborts = []
    for number in range(4):
        fleet.hello("w%d" % number)
        aborts += [one for one in fleet.lost("w%d" % number) if isinstance(one, Abort)]
    assert aborts == [Abort(0, "3 workers died while they held it; the last lost the connection", "")]


def test_leaving_is_no_death():
    fleet = Fleet(max_deaths=1)
    fleet.hello("a")
    assert not any(isinstance(one, Abort) for one in fleet.leave("a") + fleet.hello("a") + fleet.hello("a"))


# --------------------------------------------------------------------------------------------------------- time

@pytest.mark.parametrize("absence_s", [LEASE_S / 2 + 0.2, LEASE_S + 1, 1000.0])
def test_nobody_expires_because_the_caller_was_absent(fleet, absence_s):
    fleet.hello("a")
    fleet.pass_time(LEASE_S - 0.2)                  # nearly silent already
    fleet.now += absence_s
    fleet.scheduler.suspended_for(absence_s, fleet.now)
    assert fleet.scheduler.tick(fleet.now) == []
    assert fleet.pass_time(0.1) == []
    assert [type(one) for one in fleet.pass_time(0.5)] == [Gone, Revoke]    # but the clock goes on for it


def test_nothing_is_late_because_the_caller_was_absent():
    fleet = Fleet(prefetch=50)
    assert grants(fleet.hello("quick")) == [("quick", 1, 0)]
    for lease in range(1, MIN_DURATIONS + 2):
        fleet.pass_time(0.1)
        fleet.batch("quick", lease, lease - 1)
    fleet.now += 1000.0
    fleet.scheduler.suspended_for(1000.0, fleet.now)
    fleet.scheduler.tick(fleet.now)
    assert [position for _, _, position in grants(fleet.hello("b"))] == [MIN_DURATIONS + 2]


def test_a_tick_at_the_deadline_moves_the_deadline():
    fleet = Fleet()
    for _ in range(1000):                           # sums of floats may fall short of it by the last bit
        deadline_s = fleet.scheduler.next_deadline()
        fleet.scheduler.tick(deadline_s)
        assert fleet.scheduler.next_deadline() > deadline_s


def test_ticks_before_the_deadline_do_nothing(fleet):
    fleet.pass_time(1.0)
    deadline_s = fleet.scheduler.next_deadline()
    fleet.scheduler.tick(deadline_s - 0.01)
    assert fleet.scheduler.next_deadline() == deadline_s


@pytest.mark.parametrize("message", [Alive("run"), Produced("run", 1, 0, 1, (), 0.1, ()), Leaving("run", -1, ""),
                                     Failed("run", 1, 0, "", "")], ids=lambda message: type(message).__name__)
def test_a_stranger_is_unknown_and_changes_nothing(fleet, message):
    fleet.hello("a", 2)
    before = fleet.tables()
    assert fleet.say("stranger", message) == [
        Unknown("stranger", "the trainer does not know this worker: %s before Hello" % type(message).__name__)]
    assert fleet.tables() == before


@pytest.mark.parametrize("worker, lease, position, what", [
    ("a", 9, 0, "lease 9 of position 0 was never granted to it"),       # no such lease yet
    ("a", 1, 1, "lease 1 of position 1 was never granted to it"),       # the lease of another position
    ("b", 1, 0, "lease 1 of position 0 was never granted to it"),       # the lease of another worker
    ("a", 1, 55, "lease 1 of position 55 was never granted to it"),     # a position nobody has
    ("a", 5, 55, "lease 5 of position 55 was never granted to it"),     # likewise, by a lease that has ended
    ("a", 5, 0, "lease 5 is of another position than 0"),
])
def test_a_batch_by_no_right_is_unknown_and_changes_nothing(fleet, worker, lease, position, what):
    fleet.hello("a", 2)
    fleet.hello("b", 2)
    fleet.hello("c", 1)
    fleet.lost("c")                                 # lease 5, of position 4
    before = fleet.tables()
    assert fleet.batch(worker, lease, position) == [Unknown(worker, what)]
    assert fleet.tables() == before


def test_the_situation_in_a_clause(fleet):
    assert fleet.scheduler.describe(0.0) == "no worker is connected"
    fleet.hello("a")
    fleet.hello("b")
    fleet.pass_time(LEASE_S + 1, alive=["a"])
    assert fleet.scheduler.describe(fleet.now + 1.25) == (
        "1 of 2 connected workers alive, 1 leases open, oldest renewed 1.2 s ago")


# ---------------------------------------------------------------------------------------------- what the caller may ask

def test_somebody_has_room_only_while_the_window_has_nothing_for_them(fleet):
    assert not alive(fleet.scheduler) and not fleet.scheduler.has_room
    fleet.hello("a", 7)
    assert alive(fleet.scheduler) and not fleet.scheduler.has_room      # 7 of 8 positions are its own
    fleet.hello("b", 2)
    assert fleet.scheduler.has_room                                         # b got one
    fleet.batch("b", 8, 7)
    assert fleet.scheduler.has_room
    fleet.leave("b")
    fleet.lost("b")
    fleet.hello("c")
    fleet.batch("a", 1, 0)
    assert grants(fleet.take()) == [("c", 9, 8)] and fleet.scheduler.has_room       # and now "a" waits


def test_silent_workers_are_none(fleet):
    fleet.hello("a")
    fleet.pass_time(2 * LEASE_S)
    assert not alive(fleet.scheduler)
    fleet.say("a", Alive("run"))
    assert alive(fleet.scheduler)


# ------------------------------------------------------------------------------------------------ a lack of memory

def last_grant(effects):
    return [effect for effect in effects if isinstance(effect, Grant)][-1]


def test_two_workers_without_memory_for_a_position_have_its_samples_tried_one_by_one():
    fleet = Fleet(steps=1)
    first = last_grant(fleet.hello(b"a"))
    assert not fleet.hello(b"b")
    second = last_grant(fleet.fail(b"a", first.lease, 0, starved=True))
    assert (second.worker, second.isolated) == (b"b", False)           # another host may have more
    third = last_grant(fleet.fail(b"b", second.lease, 0, starved=True))
    assert third.isolated
    assert [effect for effect in fleet.batch(third.worker, third.lease, 0) if isinstance(effect, Accept)]


def test_a_death_and_a_lack_of_memory_count_together():
    fleet = Fleet(steps=1)
    first = last_grant(fleet.hello(b"a"))
    fleet.lost(b"a")
    second = last_grant(fleet.hello(b"b"))
    assert not second.isolated and first.position == second.position
    assert last_grant(fleet.fail(b"b", second.lease, 0, starved=True)).isolated


def test_no_memory_is_no_failure_of_the_step_until_its_samples_are_tried_one_by_one():
    fleet = Fleet(steps=1, prefetch=1)
    grant = last_grant(fleet.hello(b"a"))
    for _ in range(2):
        grant = last_grant(fleet.fail(b"a", grant.lease, 0, starved=True))
    for _ in range(2):
        assert grant.isolated
        effects = fleet.fail(b"a", grant.lease, 0, "no memory", starved=True)
        assert not aborts(effects)
        grant = last_grant(effects)
    assert [abort.error for abort in aborts(fleet.fail(b"a", grant.lease, 0, "no memory", starved=True))] == [
        "no memory"]
