"""The number of workers that the autoscaler chooses for a simulated trainer and its workers, on virtual time."""

import random

import pytest

from stoker.pipeline.monitoring.throughput import WAITING, WINDOW_S, ThroughputMeter, Window, BatchTimings
from stoker.trainer.autoscaler import Autoscaler

PREFETCH = 32
VERDICT_INTERVAL_S = 0.5
START_S = 0.5      # from the decision until a new worker works


def always(value):
    return lambda step: value


class Run:
    """A trainer whose step n takes ``step_s(n)``, and workers that take ``produce_s(n)`` for its batch, and another
    ``unmeasured_s`` to send it and to get the next lease."""

    def __init__(self, cores, step_s, produce_s, others=0, unmeasured_s=0.0):
        self.autoscaler, self.meter = Autoscaler(cores), ThroughputMeter(PREFETCH)
        self._step_s, self._produce_s, self._others, self._unmeasured_s = step_s, produce_s, others, unmeasured_s
        self.now = self._asked_s = self._decided_s = 0.0
        self._free_s = [0.0] * (cores + others)     # when each worker has finished its batch
        self._taken_s = []
        self.changes, self.said = [], []     # (when, workers), sentences
        self.waits = []                      # (when, for how long)

    def go(self, seconds):
        end_s = self.now + seconds
        while self.now < end_s:
            self._one()
        return self

    def _one(self):
        step = len(self._taken_s)
        enters_s = self._taken_s[step - PREFETCH] if step >= PREFETCH else 0.0
        first = min(range(len(self._free_s)), key=lambda worker: max(self._free_s[worker], enters_s))
        begun_s = max(self._free_s[first], enters_s)
        produce_s = self._produce_s(step)
        self._free_s[first] = begun_s + produce_s + self._unmeasured_s
        asked_s, self.now = self._asked_s, max(self._asked_s, begun_s + produce_s)
        self.waits.append((asked_s, self.now - asked_s))
        before_s = self._step_s(step - 1) if step else 0.0
        self.meter.add(BatchTimings(self.now - asked_s, before_s, produce_s, 0.0, produce_s, 0.0, 0.0))
        self._taken_s.append(self.now)
        self._asked_s = self.now + self._step_s(step)
        if self.now >= self._decided_s + VERDICT_INTERVAL_S:
            self._decided_s = self.now
            self._decide()

    def _decide(self):
        window = self.meter.window(WINDOW_S)
        own = sum(free_s < float("inf") for free_s in self._free_s) - self._others
        decision = self.autoscaler.decide(window, own, self._others) if self.meter.is_known(window) else None
        if decision is None:
            return
        self.said.append(decision.sentence)
        if decision.workers is not None:
            self.changes.append((self.now, decision.workers))
            self.meter.clear()
            wanted = decision.workers + self._others
            del self._free_s[wanted:]
            self._free_s += [self.now + START_S] * (wanted - len(self._free_s))

    def share(self, since_s):
        """The share of the time since then that the trainer waited."""
        return sum(wait_s for asked_s, wait_s in self.waits if asked_s >= since_s) / (self.now - since_s)


@pytest.mark.parametrize("produce_s, unmeasured_s, workers", [(0.01, 0.005, (8, 10)), (0.001, 0.004, (3, 4)),
                                                           (0.03, 0.03, (16, 16))])
def test_costs_that_are_not_measured_count_if_the_trainer_waits(produce_s, unmeasured_s, workers):
    run = Run(16, always(0.002), always(produce_s), unmeasured_s=unmeasured_s).go(60)
    assert workers[0] <= run.autoscaler.wanted <= workers[1], run.said
    if run.autoscaler.wanted < 16:
        assert run.share(run.now - 20) < 2 * WAITING, run.said
    settled = len(run.changes)
    assert len(run.go(60).changes) == settled


@pytest.mark.parametrize("cores, step_s, produce_s, workers", [
    (1, 0.01, 0.005, (1, 1)), (1, 0.01, 0.5, (1, 1)),
    (2, 0.012, 0.005, (1, 1)), (2, 0.012, 0.02, (2, 2)), (2, 0.012, 0.5, (2, 2)),
    (8, 0.012, 0.031, (3, 4)), (8, 0.012, 0.011, (1, 2)), (8, 0.012, 0.09, (8, 8)), (8, 0.012, 5.0, (8, 8)),
    (64, 0.1, 0.4, (4, 5)), (64, 0.5, 2.2, (5, 6)), (64, 0.002, 0.04, (20, 24)), (64, 0.0005, 0.04, (64, 64)),
])
def test_it_settles_at_the_right_number(cores, step_s, produce_s, workers):
    run = Run(cores, always(step_s), always(produce_s)).go(30)
    assert workers[0] <= run.autoscaler.wanted <= workers[1]
    assert len(run.changes) <= 1
    assert run.autoscaler.wanted == cores or run.share(0.0) < WAITING + produce_s / 30


@pytest.mark.parametrize("cores, step_s, produce_s", [
    (8, 0.01, 0.045), (16, 0.02, 0.1), (8, 0.05, 0.04), (4, 0.01, 0.1)])
@pytest.mark.parametrize("seed", range(4))
def test_it_does_not_oscillate_if_all_times_vary(cores, step_s, produce_s, seed):
    chance = random.Random(seed)
    run = Run(cores, lambda step: step_s * chance.lognormvariate(0, 0.4),
              lambda step: produce_s * chance.lognormvariate(0, 0.4)).go(100)
    assert len(run.changes) <= 3
    assert [change for change in run.changes if change[0] > 50] == []
    needed = produce_s / step_s
    assert min(cores, needed) <= run.autoscaler.wanted <= max(1, min(cores, needed * 1.2 * 1.2 + 1))
    assert needed > cores or run.share(50) < 2 * WAITING


def test_a_trainer_that_pauses_for_checkpoints_gets_no_other_number():
    plain = Run(8, always(0.012), always(0.032)).go(200)
    pausing = Run(8, lambda step: 3.0 if step % 100 == 50 else 0.012, always(0.032)).go(200)
    assert pausing.autoscaler.wanted == plain.autoscaler.wanted and len(pausing.changes) == len(plain.changes) == 1


def test_first_steps_that_take_their_time_do_not_count():
    run = Run(8, lambda step: 20.0 if step == 0 else 2.0 if step < 4 else 0.01, always(0.06)).go(60)
    assert run.autoscaler.wanted in (7, 8) and len(run.changes) <= 1


def test_a_worker_that_is_lost_adds_none():
    run = Run(8, always(0.012), lambda step: 6.0 if step == 3000 else 0.032).go(100)
    assert len(run.changes) == 1


def test_a_faster_trainer_gets_the_workers_it_needs_soon_and_keeps_them():
    pace = [0.1]
    run = Run(16, lambda step: pace[0], always(0.1)).go(30)
    assert run.autoscaler.wanted in (1, 2)
    pace[0] = 0.01
    run.go(30)
    grown_s = [now for now, _ in run.changes if now > 30]
    assert grown_s and grown_s[0] < 34 and grown_s[-1] < 38
    for _ in range(5):
        assert run.autoscaler.wanted in (10, 11, 12)
        pace[0] = 0.1 if pace[0] == 0.01 else 0.01
        run.go(30)
    assert run.share(40.0) < WAITING and len(grown_s) == len(run.changes) - 1


def test_workers_of_other_hosts_count():
    run = Run(8, always(0.01), always(0.06), others=4).go(30)
    assert run.autoscaler.wanted in (2, 3, 4)
    assert Run(8, always(0.01), always(0.06), others=9).go(30).autoscaler.wanted == 1


def test_the_sentences():
    run = Run(8, always(0.012), always(0.031)).go(60)
    assert run.said == ["4 workers on this host instead of 8: the trainer waits 0.0% of the time; 3 workers are needed",
                        "4 workers: the trainer waits 0.0% of the time; with 3 it would wait 0.0%"]
    assert Run(2, always(0.012), always(0.02)).go(60).said == [
        "2 workers: the trainer waits 0.0% of the time; with 1 it would wait 40%"]
    assert Run(1, always(0.012), always(0.005)).go(60).said == ["1 worker: the trainer waits 0.0% of the time"]
    assert Run(2, always(0.012), always(0.048)).go(60).said == [
        "2 workers, as many as there are cores: the trainer waits 50% of the time; 4 workers are needed"]


def test_nothing_is_decided_while_workers_start_or_stop():
    autoscaler = Autoscaler(8)
    idle = Window(1000, 0.0, 10.0, (0.0, 1.0, 0.0, 0.0), 0.0)
    assert [autoscaler.decide(idle, own, 0) for own in (0, 7, 9) * 5] == [None] * 15
    assert autoscaler.decide(idle, 8, 0) is None                # it must be confirmed
    assert autoscaler.decide(idle, 8, 0).workers == 1
