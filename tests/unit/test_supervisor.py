"""Histories of the pure Supervisor. test_workers_cli shows with real processes that workers/host.py carries out the
effects."""

import re
import signal

import pytest

from stoker.workers.effects import EXIT_CONFIG, EXIT_DRAINED, EXIT_ENDED, EXIT_FAILED, EXIT_REFUSED, Note
from stoker.workers.supervisor import BACKOFF_S, MAX_BACKOFF_S, MAX_START_FAILURES, SOON_S, Signal, Spawn, Supervisor
from stoker.workers.supervisor import explain_exit

DRAIN_S = 30.0
TERM, KILL = signal.SIGTERM, signal.SIGKILL


class Host:
    """A supervisor and a clock."""

    def __init__(self, processes=1, once=False):
        self.supervisor = Supervisor(processes, once, DRAIN_S)
        self.now = 50.0

    def tick(self):
        return self.supervisor.tick(self.now)

    def started(self, i=0):
        self.supervisor.started(i, self.now)

    def exited(self, returncode, i=0, ended=True):
        return self.supervisor.exited(i, returncode, ended, self.now)

    def stop(self):
        return self.supervisor.stop(self.now)

    @property
    def pause_s(self):
        """Until the next thing is due."""
        deadline_s = self.supervisor.next_deadline()
        return None if deadline_s == float("inf") else round(deadline_s - self.now, 6)


def running(processes=1, once=False):
    host = Host(processes, once)
    host.tick()
    for i in range(processes):
        host.started(i)
    host.now += 10.0
    return host


def test_all_slots_are_started_at_once_and_nothing_more_is_due():
    host = Host(3)
    assert host.supervisor.next_deadline() <= host.now
    assert host.tick() == [Spawn(0, ""), Spawn(1, ""), Spawn(2, "")]
    assert host.tick() == [] and host.pause_s is None


def test_a_dead_worker_is_restarted_at_once_and_its_successor_knows_why():
    host = running(2)
    assert host.exited(-signal.SIGSEGV, 1) == [
        Note("worker 1 ended with SIGSEGV (a crash inside a library), restart 1")]
    assert host.pause_s == 0
    assert host.tick() == [Spawn(1, "SIGSEGV (a crash inside a library), restart 1")]


def test_restarts_are_counted_in_each_slot():
    host = running(2)
    for restart in (1, 2, 3):
        host.exited(1, 0)
        assert host.tick() == [Spawn(0, "exit code 1, restart %d" % restart)]
        host.started(0)
        host.now += 100.0
    host.exited(1, 1)
    assert host.tick() == [Spawn(1, "exit code 1, restart 1")]


def test_deaths_soon_after_the_start_wait_longer_and_longer():
    host = running()
    pauses = []
    for _ in range(9):
        host.exited(-9)
        pauses.append(host.pause_s)
        host.now += host.pause_s
        assert len(host.tick()) == 1
        host.started()
        host.now += SOON_S / 2
    assert pauses[:4] == [0, 0, BACKOFF_S, 2 * BACKOFF_S]
    assert pauses[-1] == MAX_BACKOFF_S == max(pauses)
    host.now += SOON_S
    host.exited(-9)
    assert host.pause_s == 0                 # it had worked for a while


def test_a_worker_is_not_started_before_its_pause_is_over():
    host = running()
    for _ in range(3):
        host.exited(-9)
        host.now += host.pause_s
        host.tick()
        host.started()
    host.exited(-9)
    host.now += host.pause_s - 0.01
    assert host.tick() == []
    host.now += 0.02
    assert len(host.tick()) == 1


def test_the_pause_stays_bounded_for_ever():
    host = running()
    for _ in range(1500):
        host.exited(-9)
        assert host.pause_s <= MAX_BACKOFF_S
        host.now += host.pause_s
        host.tick()
        host.started()


def test_a_worker_that_never_starts_is_given_up():
    host = Host(2)
    host.tick()
    host.started(1)
    for _ in range(MAX_START_FAILURES - 1):
        notes = host.exited(1)
        assert [type(one) for one in notes] == [Note]
        host.now += host.pause_s
        assert len(host.tick()) == 1
    effects = host.exited(1)
    assert effects == [Note("worker 0 ended 5 times before it had started, last with exit code 1: giving up; see "
                            "its output above"), Signal(1, TERM)]
    assert host.supervisor.exit_code is None
    host.exited(EXIT_DRAINED, 1)
    assert host.supervisor.exit_code == EXIT_FAILED


def test_failures_to_start_must_be_in_a_row():
    host = Host()
    host.tick()
    for _ in range(3):
        for _ in range(MAX_START_FAILURES - 1):
            host.exited(1)
            host.now += host.pause_s
            host.tick()
        host.started()
        host.now += 10.0
        host.exited(1)
        host.tick()
    assert host.supervisor.exit_code is None


def test_without_once_a_worker_that_ended_is_restarted():
    host = running()
    host.exited(EXIT_ENDED)
    assert len(host.tick()) == 1


def test_with_once_the_end_of_the_run_for_one_is_the_end_for_all():
    host = running(3, once=True)
    host.exited(-9, 2)                       # a crash is restarted, also with once
    assert len(host.tick()) == 1
    assert host.exited(EXIT_ENDED, 0) == [Signal(1, TERM), Signal(2, TERM)]
    host.exited(EXIT_ENDED, 1)
    assert host.supervisor.exit_code is None
    host.exited(-TERM, 2)
    assert host.supervisor.exit_code == 0


def test_a_worker_that_was_drained_by_hand_is_restarted_without_a_word():
    host = running()
    assert host.exited(EXIT_DRAINED) == []
    assert host.tick() == [Spawn(0, "exit code 4 (asked to leave), restart 1")]


@pytest.mark.parametrize("code", [EXIT_REFUSED, EXIT_CONFIG])
def test_what_no_restart_can_mend_ends_all_with_its_code(code):
    host = running(3)
    host.exited(1, 2)                        # waits
    assert host.exited(code, 0) == [Signal(1, TERM)]
    host.exited(EXIT_DRAINED, 1)
    assert host.supervisor.exit_code == code


def test_the_first_reason_to_end_counts():
    host = running(2)
    host.exited(EXIT_REFUSED, 0)
    host.exited(EXIT_CONFIG, 1)
    assert host.supervisor.exit_code == EXIT_REFUSED


def test_the_first_signal_drains():
    host = running(2)
    assert host.stop() == [Signal(0, TERM), Signal(1, TERM)]
    assert host.exited(EXIT_DRAINED, 0) == [] and host.tick() == []
    assert host.supervisor.exit_code is None
    assert host.exited(EXIT_DRAINED, 1) == []
    assert host.supervisor.exit_code == 0


def test_nothing_is_restarted_while_draining():
    host = running(3)
    host.exited(1, 0)                        # waits for its restart
    assert host.stop() == [Signal(1, TERM), Signal(2, TERM)]
    host.exited(-signal.SIGSEGV, 1)
    host.exited(1, 2)
    assert host.tick() == [] and host.supervisor.exit_code == 0


def test_processes_that_are_starting_are_drained_too():
    host = Host()
    host.tick()
    assert host.stop() == [Signal(0, TERM)]
    host.exited(-TERM)
    assert host.supervisor.exit_code == 0


def test_a_worker_that_does_not_drain_is_killed():
    host = running(2)
    host.stop()
    assert host.pause_s == DRAIN_S
    host.exited(EXIT_DRAINED, 0)
    host.now += DRAIN_S
    assert host.tick() == [Note("worker 1 is still busy after 30 s of draining: killed"), Signal(1, KILL)]
    assert host.tick() == [] and host.pause_s is None
    host.exited(-KILL, 1)
    assert host.supervisor.exit_code == 0


def test_the_second_signal_kills():
    host = running(2)
    host.stop()
    host.exited(EXIT_DRAINED, 1)
    assert host.stop() == [Signal(0, KILL)]


@pytest.mark.parametrize("code", [EXIT_ENDED, EXIT_REFUSED, EXIT_CONFIG])
def test_while_draining_an_exit_code_of_one_does_not_kill_the_others(code):
    host = running(2, once=True)
    host.stop()
    assert host.exited(code, 0) == []
    host.exited(EXIT_DRAINED, 1)
    assert host.supervisor.exit_code == 0


def test_stopping_while_nothing_runs_is_over_at_once():
    host = running(1)
    host.exited(1)
    assert host.stop() == [] and host.supervisor.exit_code == 0


@pytest.mark.parametrize("returncode, text", [
    (0, "exit code 0"), (3, "exit code 3"), (4, "exit code 4"), (-signal.SIGTERM, "SIGTERM"),
    (-signal.SIGKILL, "SIGKILL (killed by hand or, if memory ran out, by the kernel)"),
    (-signal.SIGBUS, "SIGBUS (a crash inside a library)"), (-signal.SIGABRT, "SIGABRT (a library gave up)"),
    (-99, "signal 99")])
def test_exits_are_explained(returncode, text):
    assert re.match(re.escape(text) + "$", explain_exit(returncode))


@pytest.mark.parametrize("code", [EXIT_ENDED, EXIT_REFUSED, EXIT_CONFIG, EXIT_DRAINED])
def test_an_exit_code_means_nothing_from_a_worker_that_did_not_say_that_it_ended(code):
    host = Host(2, once=True)
    host.tick()
    host.supervisor.started(0, host.now)
    note, = host.exited(code, 0, ended=False)
    assert note == Note("worker 0 ended with exit code %d, restart 1" % code)
    assert host.supervisor.exit_code is None and host.tick() == [Spawn(0, "exit code %d, restart 1" % code)]


# --------------------------------------------------------------------------------------------------- another number

def test_more_slots_start_at_once():
    host = running(1, once=True)
    assert host.supervisor.resize(3, host.now) == []
    assert host.pause_s <= 0
    assert host.tick() == [Spawn(1, ""), Spawn(2, "")]


def test_the_last_slots_drain_and_stay_empty():
    host = running(3, once=True)
    assert host.supervisor.resize(1, host.now) == [Signal(1, TERM), Signal(2, TERM)]
    assert host.exited(EXIT_DRAINED, 2) == [] and host.exited(-signal.SIGKILL, 1, ended=False) == []
    assert host.tick() == [] and host.pause_s is None and host.supervisor.exit_code is None
    host.exited(1, 0)
    assert [effect.slot for effect in host.tick()] == [0]      # a slot that is needed is restarted as before


def test_a_slot_that_is_to_start_does_not_when_it_is_one_too_many():
    host = running(2)
    host.exited(1, 1)
    host.supervisor.resize(1, host.now)
    assert host.tick() == [] and host.pause_s is None


def test_a_slot_that_had_to_leave_is_filled_again():
    host = running(2, once=True)
    host.supervisor.resize(1, host.now)
    host.exited(EXIT_DRAINED, 1)
    host.supervisor.resize(2, host.now)
    assert host.tick() == [Spawn(1, "")]               # as any new one: it ended as it was told to


def test_a_slot_that_is_wanted_again_before_it_has_left_is_filled_when_it_has():
    host = running(2, once=True)
    host.supervisor.resize(1, host.now)
    assert host.supervisor.resize(2, host.now) == []
    assert host.exited(EXIT_DRAINED, 1) == []
    assert [effect.slot for effect in host.tick()] == [1]


def test_a_slot_that_does_not_leave_is_killed():
    host = running(2, once=True)
    host.supervisor.resize(1, host.now)
    assert host.pause_s > 0
    host.now += host.pause_s
    note, kill = host.tick()
    assert kill == Signal(1, signal.SIGKILL) and "worker 1 is still busy after" in note.text
    assert host.exited(-signal.SIGKILL, 1, ended=False) == [] and host.pause_s is None


def test_the_end_of_the_run_ends_all_slots_whatever_their_number_was():
    host = running(3, once=True)
    host.supervisor.resize(1, host.now)
    host.exited(EXIT_DRAINED, 2)
    assert host.exited(EXIT_ENDED, 1) == [Signal(0, TERM)]
    assert host.supervisor.resize(5, host.now) == []            # too late
    host.exited(EXIT_ENDED, 0)
    assert host.supervisor.exit_code == 0
