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


class Run:
    """A trainer whose steps take ``step_s(now)``, and workers that take ``produce_s(now)`` for a batch, and another
    ``unmeasured_s``. ``cores``: more workers at work at a time slow all down; ``per_s``: most batches that the network
    carries in a second; ``places``: most workers that a client can start."""

    def __init__(self, step_s, produce_s, most=64, cores=10000, per_s=1e9, places=10000, start_s=START_S,
                 unmeasured_s=0.0, evaluation=None, steps=10 ** 9):
        self.demand = Demand(PREFETCH, True)
        self.step_s, self.produce_s, self.most, self.cores, self.per_s = step_s, produce_s, most, cores, per_s
        self.places, self.start_s, self.unmeasured_s, self.evaluation = places, start_s, unmeasured_s, evaluation
        self.now, self.steps, self.step = 0.0, steps, 0
        self.free = [self.start_s]         # when each worker has finished its batch
        self.arrivals = []                 # when workers that were started are ready
        self.buffer, self.done = 0, []     # ready batches: their produce_s by the time that they are there
        self.line_s = 0.0                  # when the network is free
        self.changes, self.waits = [], []  # (when, wanted); (when, waited)
        self.polled_s, self.last_s, self.used_s, self.wished = 0.0, 0.0, 0.0, 1

    def wanted(self):
        return min(self.most, self.demand.workers or 1)

    def go(self, seconds):
        end_s = self.now + seconds
        while self.now < end_s and self.step < self.steps:
            self._one()
        return self

    def _scale(self, until):
        while self.polled_s + POLL_S <= until:
            self.polled_s += POLL_S
            self.wished = min(self.places, self.wanted())
            missing = self.wished - len(self.free)
            if missing < 0:
                del self.free[missing:]
            self.free += [self.polled_s + self.start_s] * missing

    def _fill(self, until):
        """Lets the workers produce as far as the window allows."""
        while len(self.done) < PREFETCH and self.free:
            first = min(range(len(self.free)), key=self.free.__getitem__)
            begun = max(self.free[first], self.last_s)
            if begun > until:
                return
            busy = sum(free <= begun + 1e-9 or free - begun < 1e3 and free > begun for free in self.free)
            produce = self.produce_s(begun) * max(1.0, busy / self.cores)
            self.line_s = max(self.line_s, begun + produce) + 1 / self.per_s
            self.free[first] = max(begun + produce + self.unmeasured_s, self.line_s)
            heapq.heappush(self.done, (self.line_s, produce))

    def _one(self):
        asked = self.now
        while True:
            self._scale(self.now)
            self._fill(self.now)
            if self.done and self.done[0][0] <= self.now:
                break
            self.now += 0.001 if not self.done else min(0.05, max(0.0005, self.done[0][0] - self.now))
        produce = heapq.heappop(self.done)[1]
        waited = self.now - asked
        training = self.evaluation is None or not self.evaluation(self.now)
        ready = sum(free <= self.now + 2 * self.start_s and True for free in self.free)
        ready = sum(1 for free in self.free if free - self.now < max(self.start_s, 0.01) or self.start_s == 0)
        before = self.wanted()
        self.demand.taken(training, BatchTimings(waited, self.used_s, produce, 0.0, 0.0, 0.0, 0.0), ready,
                          self.steps - self.step, self.now)
        if self.wanted() != before:
            self.changes.append((round(self.now, 2), self.wanted()))
        self.waits.append((self.now, waited))
        self.used_s = self.step_s(self.now) / (3 if not training else 1)
        self.now += self.used_s
        self.last_s = asked
        self.step += 1


def changing(*pieces):
    """((until, value), ...) -> the value at each moment."""
    return lambda now: next((value for until, value in pieces if now < until), pieces[-1][1])


def noisy(seed, sigma, level):
    chance = random.Random(seed)
    return lambda now: level(now) * chance.lognormvariate(0, sigma)


if __name__ == "__main__":
    def show(title, run, seconds=60):
        run.go(seconds)
        print(title, "->", run.wanted(), run.changes[:14], len(run.changes), run.demand.why)
    show("steady 3.1", Run(always(0.01), always(0.031)))
    show("steady 0.5", Run(always(0.01), always(0.005)))
    show("pace", Run(changing((20, 0.1), (40, 0.033), (60, 0.1)), always(0.1)), 60)
    show("slow pace", Run(changing((30, 1.0), (60, 0.3), (100, 1.0)), always(1.0)), 100)
    show("noise", Run(noisy(1, 0.4, always(0.05)), noisy(2, 0.4, always(0.2))), 300)
    show("slow noise", Run(noisy(1, 0.4, always(0.5)), noisy(2, 0.4, always(2))), 300)
    show("contention", Run(always(0.01), always(0.1), cores=4), 300)
    show("network", Run(always(0.01), always(0.1), per_s=40), 300)
    show("unmeasured", Run(always(0.01), always(0.01), unmeasured_s=0.04), 300)
    show("places", Run(always(0.01), always(0.1), places=3), 60)
    show("evaluation", Run(always(0.03), always(0.1), evaluation=lambda now: now % 20 > 15), 100)
    show("long evaluation", Run(always(0.03), always(0.1), evaluation=lambda now: now % 60 > 20), 100)
    show("checkpoints", Run(lambda now: 5.0 if now % 30 < 0.04 else 0.03, always(0.1)), 100)
