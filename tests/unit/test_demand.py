"""The number of workers that ``Demand`` wants for a simulated trainer and its fleet, on virtual time."""

import heapq
import random

import pytest

from stoker.pipeline.monitoring.throughput import BatchTimings
from stoker.trainer.demand import Demand

PREFETCH = 128
POLL_S = 1.0       # a client asks so often how many workers are wanted
START_S = 3.0      # until a worker that it starts is ready


def always(value):
    return lambda now: value


def changing(*pieces):
    """((until, value), ...) -> the value at each moment."""
    return lambda now: next((value for until, value in pieces if now < until), pieces[-1][1])


def noisy(seed, sigma, level):
    """About ``level``, with a lognormal noise."""
    chance = random.Random(seed)
    return lambda now: level(now) * chance.lognormvariate(0, sigma)


MANY = always(64)


class Run:
    """A trainer whose steps take ``step_s(now)``, and workers that take ``produce_s(now)`` for a batch, and another
    ``unmeasured_s``. More workers than ``cores`` slow each other down. The network carries ``per_s`` batches in a
    second. A client starts what is wanted, at most ``places(now)`` workers, and each is ready ``start_s`` later.
    ``evaluation(now)``: an evaluation is under way, whose steps take a third."""

    def __init__(self, step_s, produce_s, cores=10000, per_s=1e9, places=MANY, start_s=START_S, unmeasured_s=0.0,
                 evaluation=None, steps=10 ** 9):
        self.demand = Demand(PREFETCH, True)
        self._step_s, self._produce_s, self._cores, self._per_s, self._places = step_s, produce_s, cores, per_s, places
        self._start_s, self._unmeasured_s, self._evaluation, self._left = start_s, unmeasured_s, evaluation, steps
        self.now = self._used_s = 0.0
        self._started = [start_s]          # when each worker is ready
        self._free = [start_s]             # when each has finished its batch
        self._done = []                    # (when it is there, produce_s) of batches that the trainer has not yet
        self._room_s = 0.0                 # when the trainer last took one
        self._line_s = 0.0                 # when the network is free
        self._polled_s = 0.0
        self.changes, self.waits = [], []  # (when, wanted); (when, waited)

    def wanted(self):
        return min(64, self.demand.workers or 1)

    def ready(self):
        return sum(started <= self.now for started in self._started)

    def go(self, seconds):
        end_s = self.now + seconds
        while self.now < end_s and self._left:
            self._one()
        return self

    def share(self, since_s):
        """The share of the time since then that the trainer waited."""
        return sum(waited for when, waited in self.waits if when >= since_s) / (self.now - since_s)

    def wishes(self, since_s):
        """All numbers that were wanted since then."""
        return {self.at(since_s)} | {wanted for when, wanted in self.changes if when >= since_s}

    def at(self, now):
        """The number that was wanted at that moment."""
        return ([1] + [wanted for when, wanted in self.changes if when <= now])[-1]

    def _poll(self):
        while self._polled_s + POLL_S <= self.now:
            self._polled_s += POLL_S
            target = min(self.wanted(), self._places(self._polled_s))
            del self._started[target:], self._free[target:]
            more = target - len(self._started)
            self._started += [self._polled_s + self._start_s] * more
            self._free += [self._polled_s + self._start_s] * more

    def _produce(self):
        """Lets the workers begin what the window allows by now."""
        while len(self._done) < PREFETCH and self._free:
            first = min(range(len(self._free)), key=self._free.__getitem__)
            begun = max(self._free[first], self._room_s)
            if begun > self.now:
                return
            busy = 1 + sum(free > begun >= started for free, started in zip(self._free, self._started))
            produce = self._produce_s(begun) * max(1.0, busy / self._cores)
            self._line_s = max(self._line_s, begun + produce) + 1 / self._per_s
            self._free[first] = max(begun + produce + self._unmeasured_s, self._line_s)
            heapq.heappush(self._done, (self._line_s, produce))

    def _one(self):
        asked = self.now
        while True:
            self._poll()
            self._produce()
            if self._done and self._done[0][0] <= self.now:
                break
            events = [self._polled_s + POLL_S] + [done for done, _ in self._done[:1]]
            if len(self._done) < PREFETCH:
                events += [free for free in self._free if free > self.now]
            self.now = min(events)
        produce = heapq.heappop(self._done)[1]
        full = len(self._done) == PREFETCH - 1
        self._room_s = self.now if full else self._room_s
        training = self._evaluation is None or not self._evaluation(self.now)
        self._left -= 1
        self.waits.append((self.now, self.now - asked))
        before = self.wanted()
        self.demand.taken(training, BatchTimings(self.now - asked, self._used_s, produce, 0.0, 0.0, 0.0, 0.0),
                          self.ready(), self._left, self.now)
        if self.wanted() != before:
            self.changes.append((round(self.now, 2), self.wanted()))
        self._used_s = self._step_s(self.now) / (1 if training else 3)
        self.now += self._used_s


@pytest.mark.parametrize("step_s, produce_s, least, most", [
    (0.01, 0.005, 1, 1), (0.01, 0.0099, 1, 2), (0.01, 0.031, 3, 4), (0.1, 0.4, 4, 5), (0.5, 2.2, 5, 6),
    (1.0, 8.1, 8, 9), (0.002, 0.008, 4, 5), (0.01, 0.5, 48, 55), (0.002, 0.4, 64, 64)])
def test_it_settles_at_the_need(step_s, produce_s, least, most):
    run = Run(always(step_s), always(produce_s)).go(40 + 30 * produce_s)
    assert least <= run.wanted() <= most
    settled = len(run.changes)
    assert settled <= 4 and len(run.go(40).changes) == settled
    assert run.wanted() == 64 or run.share(run.now - 20) < 0.06


@pytest.mark.parametrize("slow_s, fast_s, produce_s, workers", [
    (0.1, 0.033, 0.1, 3), (0.3, 0.1, 0.3, 3), (0.1, 0.02, 0.1, 5), (0.04, 0.004, 0.04, 10), (0.5, 0.17, 0.5, 3)])
def test_a_changed_need_is_followed_up_and_down_again_and_again(slow_s, fast_s, produce_s, workers):
    """Up within 4 s, down within 8 s; both without the client's poll and the start of a worker."""
    pieces = [(30 * (i + 1), (slow_s, fast_s)[i % 2]) for i in range(6)]
    run = Run(changing(*pieces), always(produce_s)).go(180)
    for fast in (30, 90, 150):
        assert run.at(fast - 0.1) <= 2 and 0.9 * workers <= run.at(fast + 4) <= workers + 1
    assert run.at(68) <= 2 and run.at(128) <= 2
    assert len(run.changes) <= 20


@pytest.mark.parametrize("step_s, produce_s, seconds, changes", [(0.02, 0.09, 100, 6), (0.1, 0.4, 300, 12),
                                                                (0.5, 2.0, 600, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_it_does_not_oscillate_if_all_times_vary(step_s, produce_s, seconds, changes, seed):
    run = Run(noisy(seed, 0.4, always(step_s)), noisy(seed + 100, 0.4, always(produce_s))).go(seconds)
    assert len(run.changes) <= changes
    need = produce_s / step_s
    assert 0.65 * need <= min(run.wishes(seconds / 3)) and max(run.wishes(seconds / 3)) <= 1.5 * need + 1
    assert run.share(seconds / 3) < 0.1


def test_steps_of_two_kinds_in_turn_count_by_their_mean():
    turn = iter(range(10 ** 9))
    run = Run(lambda now: (0.01, 0.19)[next(turn) % 2], always(0.39)).go(100)
    assert len(run.changes) <= 2 and 4 <= run.wanted() <= 5


@pytest.mark.parametrize("cores, per_s", [(4, 1e9), (10000, 20), (1, 1e9), (10000, 5)])
def test_it_does_not_run_away_where_more_workers_do_not_help(cores, per_s):
    """Cores or the network are the limit, of at most 20 of the 50 batches a second that the trainer could use."""
    run = Run(always(0.02), always(0.2), cores=cores, per_s=per_s).go(500)
    assert max(run.wishes(0)) <= 20
    assert len(run.changes) <= 16
    over = [wanted for when, wanted in run.changes if wanted > 10]
    assert len(over) <= 5                     # it tries again, ever more rarely


def test_after_the_limit_has_gone_more_workers_are_tried():
    run = Run(always(0.02), always(0.2), per_s=20).go(60)
    assert run.wanted() <= 10
    before = run.share(40)
    run._per_s = 1000
    run.go(240)
    assert run.share(run.now - 40) < before / 5


def test_costs_that_workers_do_not_report_count_where_the_trainer_waits():
    run = Run(always(0.01), always(0.01), unmeasured_s=0.04).go(60)
    assert 5 <= run.wanted() <= 6 and run.share(40) < 0.05


@pytest.mark.parametrize("places", [always(3), changing((20, 3), (40, 0), (60, 1), (10 ** 9, 5))])
def test_the_wish_does_not_depend_on_the_workers_that_are_there(places):
    """Nodes may take minutes, and spot workers vanish."""
    run = Run(always(0.01), always(0.1), places=places).go(100)
    assert run.wishes(10) <= {10, 11}


def test_without_a_batch_the_wish_stays():
    run = Run(always(0.01), always(0.05)).go(20)
    before = run.wanted()
    run._places = always(0)
    run.now += 300
    assert run.wanted() == before == 5
    run._places = always(64)
    run.go(0.5)
    assert run.wanted() == before


def test_pauses_change_nothing():
    """A checkpoint of 5 s every 30 s; an evaluation of 5 s every 20 s."""
    saving = Run(lambda now: 5.0 if now % 30 < 0.04 else 0.03, always(0.1)).go(150)
    evaluating = Run(always(0.03), always(0.1), evaluation=lambda now: now % 20 > 15).go(150)
    assert saving.wishes(5) == evaluating.wishes(5) == {4}
    slow = Run(lambda now: 5.0 if now % 30 < 0.5 else 0.5, always(1.7)).go(300)
    assert slow.wishes(30) <= {4, 5}


def test_a_long_evaluation_has_a_need_of_its_own():
    run = Run(always(0.03), always(0.1), evaluation=lambda now: now % 120 > 60).go(120)
    assert run.wishes(40) == {4, 10} and run.at(75) == 10
    assert run.go(30).wanted() == 4


def test_nothing_is_added_at_the_end_of_a_run():
    run = Run(changing((20, 0.1), (10 ** 9, 0.02)), always(0.1), steps=210).go(100)
    assert run.now < 30 and run.wishes(0) <= {1, 2}


def test_it_wants_no_more_than_there_are_steps_to_lease():
    run = Run(always(0.001), always(5.0))
    run.demand = Demand(12, True)
    assert run.go(60).demand.workers == 12


def test_a_prediction_counts_its_batches_too():
    demand = Demand(32, False)
    for step in range(400):
        demand.taken(False, BatchTimings(0.0, 0.01, 0.031, 0.0, 0.0, 0.0, 0.0), 1, 10 ** 6, step * 0.01)
    assert demand.workers == 3
    assert demand.why == "a step takes 10 ms, a worker produces a batch in 31 ms: 3 workers are needed"


def test_quick_batches_and_one_that_the_trainer_waits_for_are_no_two_halves():
    """Sixteen batches, fifteen of which were there, and then none for two seconds: they are taken together."""
    demand, now = Demand(64, True), 0.0
    for _ in range(20):
        for waited_s in [0.0] * 15 + [2.0]:
            now += waited_s + 0.001
            demand.taken(True, BatchTimings(waited_s, 0.001, 0.02, 0.0, 0.0, 0.0, 0.0), 1, 10 ** 6, now)
    assert demand.workers >= 1
