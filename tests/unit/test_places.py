"""The decisions of a launcher on a cluster: which places there are, and what becomes of those that end."""

import pytest

from stoker.workers.effects import EXIT_CONFIG, EXIT_DRAINED, EXIT_FAILED, EXIT_REFUSED, Note
from stoker.workers.places import (
    BACKOFF_S, EARLY_S, MAX_BACKOFF_S, MAX_FAILURES, Drain, Kill, Need, Places, Start)

CONNECT = ("tcp://trainer:5555",)
DRAIN_S = 12.0


class Launcher:
    """Places with a clock. ``do`` keeps the effects and the lines."""

    def __init__(self):
        self.places, self.now, self.lines = Places(DRAIN_S), 0.0, []

    def do(self, effects):
        self.lines += [effect.text for effect in effects if isinstance(effect, Note)]
        return [effect for effect in effects if not isinstance(effect, Note)]

    def want(self, wanted, connect=CONNECT, over=False, why=""):
        effects = self.do(self.places.want(Need(wanted, connect, over, why), self.now))
        return effects + self.tick()

    def tick(self, seconds=0.0):
        self.now += seconds
        return self.do(self.places.tick(self.now))

    def started(self, *numbers):
        for number in numbers:
            assert not self.do(self.places.started(number, "node-%d" % number, self.now))
        return self.tick()

    def ended(self, number, code, *lines):
        return self.do(self.places.ended(number, code, lines, self.now))


@pytest.fixture
def launcher():
    return Launcher()


def test_nothing_starts_before_a_wish_is_known(launcher):
    assert launcher.tick(100.0) == [] and launcher.lines == [] and launcher.places.exit_code is None


def test_missing_places_start_at_once_and_each_change_is_said(launcher):
    assert launcher.want(3, why="a step takes 20 ms") == [Start(number, CONNECT) for number in (1, 2, 3)]
    launcher.started(2)
    launcher.started(1, 3)
    launcher.tick(1.0)
    assert launcher.lines == ["3 places wanted (a step takes 20 ms): 0 running, 3 wait for room",
                              "3 places wanted: 1 running, 2 wait for room", "3 places wanted: 3 running"]
    assert launcher.want(1) == [Drain(3), Drain(2)]
    assert launcher.lines[-1] == "1 place wanted: 1 running, 2 finish the step in work"


def test_of_too_many_places_the_newest_waiting_ones_go_first(launcher):
    launcher.want(4)
    launcher.started(1, 4)
    assert launcher.want(1) == [Kill(3), Kill(2), Drain(4)]
    assert launcher.ended(4, 0) == [Kill(4)]
    assert launcher.places.numbers == [1]


def test_a_drained_place_does_not_start_again_but_one_more_is_another_place(launcher):
    launcher.want(2)
    launcher.started(1, 2)
    assert launcher.want(1) == [Drain(2)]
    assert launcher.want(2) == [Start(3, CONNECT)]          # the worker of 2 is already leaving
    assert launcher.ended(2, 0) == [Kill(2)]
    assert launcher.tick(100.0) == []


def test_a_place_that_drains_for_too_long_is_killed(launcher):
    launcher.want(1)
    launcher.started(1)
    assert launcher.want(0) == [Drain(1)]
    assert launcher.tick(DRAIN_S - 0.1) == [] and launcher.tick(0.2) == [Kill(1)]
    assert "place 1 on node-1 is still busy" in launcher.lines[-2] and launcher.places.numbers == []


def test_a_lost_place_is_started_by_the_scheduler(launcher):
    launcher.want(1)
    launcher.started(1)
    assert launcher.do(launcher.places.lost(1)) == [] and launcher.do(launcher.places.lost(1)) == []
    assert launcher.tick(50.0) == []
    assert launcher.lines[-2:] == ["place 1 on node-1 was lost: it starts again where there is room",
                                   "1 place wanted: 0 running, 1 waits for room"]
    launcher.started(1)
    assert launcher.lines[-1] == "1 place wanted: 1 running"


def test_a_draining_place_that_is_lost_is_gone(launcher):
    launcher.want(1)
    launcher.started(1)
    launcher.want(0)
    assert launcher.do(launcher.places.lost(1)) == [Kill(1)]


def test_a_worker_that_ends_is_replaced_after_a_pause_that_grows(launcher):
    assert launcher.want(1) == [Start(1, CONNECT)]
    pauses, number = [], 1
    for _ in range(MAX_FAILURES - 1):
        launcher.started(number)
        assert launcher.ended(number, 1, "no memory") == [Kill(number)]
        began, effects = launcher.now, []
        while not effects:
            effects = launcher.tick(0.25)
        number += 1
        assert effects == [Start(number, CONNECT)]
        pauses.append(launcher.now - began)
    assert pauses == [min(MAX_BACKOFF_S, BACKOFF_S * 2 ** i) for i in range(MAX_FAILURES - 1)]
    assert ("place 1 on node-1: the worker ended with exit code 1; the last lines that it wrote:\n    no memory"
            in "\n".join(launcher.lines))


def test_workers_that_never_run_end_it(launcher):
    launcher.want(1)
    for number in range(1, MAX_FAILURES + 1):
        launcher.started(number)
        launcher.ended(number, -9)
        launcher.tick(MAX_BACKOFF_S)
    assert launcher.places.exit_code == EXIT_FAILED
    assert ("8 workers in a row ended before one had run for 10 s, giving up; place 8 on node-8: the worker ended "
            "with SIGKILL" in launcher.lines[-1])


def test_one_bad_node_ends_nothing_while_other_workers_run(launcher):
    launcher.want(2)
    launcher.started(1)
    launcher.tick(EARLY_S + 1)
    for number in range(2, 3 * MAX_FAILURES):
        launcher.started(number)
        launcher.ended(number, 1)
        assert launcher.tick(MAX_BACKOFF_S) == [Start(number + 1, CONNECT)]


def test_a_worker_that_has_run_is_replaced_at_once_again(launcher):
    launcher.want(1)
    for number in range(1, 5):
        launcher.started(number)
        if number == 4:
            launcher.tick(EARLY_S + 1)
        launcher.ended(number, 1)
        launcher.tick(MAX_BACKOFF_S)
    assert launcher.lines[-2].endswith("the next place starts in 1 s")


@pytest.mark.parametrize("code, why", [(EXIT_CONFIG, "its options are wrong"), (EXIT_REFUSED, "refuses it for good")])
def test_wrong_options_and_a_refusal_end_all(launcher, code, why):
    launcher.want(2)
    launcher.started(1, 2)
    assert launcher.ended(2, code, "there is no folder '/photos'") == [Kill(2), Drain(1)]
    assert why in launcher.lines[-1] and launcher.lines[-1].endswith("\n    there is no folder '/photos'")
    assert launcher.tick(1.0) == [] and launcher.places.exit_code is None
    assert launcher.ended(1, EXIT_DRAINED) == [Kill(1)] and launcher.places.exit_code == code


def test_a_place_that_the_scheduler_gives_up_counts_as_a_failure(launcher):
    launcher.want(1)
    assert launcher.do(launcher.places.failed(1, "RuntimeEnvSetupError: no such package", launcher.now)) == [Kill(1)]
    assert launcher.lines[-1] == ("place 1 failed: RuntimeEnvSetupError: no such package\n"
                                  "the next place starts in 1 s")
    assert launcher.tick(0.5) == [] and launcher.tick(0.6) == [Start(2, CONNECT)]


def test_the_end_of_the_run_ends_all(launcher):
    launcher.want(2)
    launcher.started(1)
    assert launcher.want(0, over=True) == [Drain(1), Kill(2)]
    assert launcher.lines[-1] == "the run is over" and launcher.places.exit_code is None
    launcher.ended(1, 0)
    assert launcher.places.exit_code == 0 and launcher.want(5) == []


def test_a_second_stop_kills(launcher):
    launcher.want(2)
    launcher.started(1, 2)
    assert launcher.do(launcher.places.stop(launcher.now)) == [Drain(1), Drain(2)]
    assert launcher.do(launcher.places.stop(launcher.now)) == [Kill(1), Kill(2)] and launcher.places.exit_code == 0


def test_a_stop_before_the_first_wish(launcher):
    assert launcher.do(launcher.places.stop(launcher.now)) == [] and launcher.places.exit_code == 0


def test_a_trainer_at_another_address_gets_new_places(launcher):
    launcher.want(2)
    launcher.started(1)
    moved = ("tcp://trainer:5556",)
    assert launcher.want(2, moved) == [Drain(1), Kill(2), Start(3, moved), Start(4, moved)]


def test_news_of_places_that_are_gone_change_nothing(launcher):
    launcher.want(1)
    launcher.want(0)
    assert launcher.started(1) == [] and launcher.ended(1, 2) == [] and launcher.do(launcher.places.lost(1)) == []
    assert launcher.do(launcher.places.failed(1, "gone", launcher.now)) == [] and launcher.places.exit_code is None
