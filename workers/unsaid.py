"""Unsaid: batches that are made, and of which the trainer hears a little later, together with the next ones. Pure.

While steps are short, messages that come together cost both sides less: whenever a process wakes, the decoders have its
part of the processor's caches. (The same is done with the interrupts of a network card.) So a worker says nothing of a
batch for at most ``SAY_WITHIN_S``, as long as it has two other leases to work on: it never waits for an answer. A batch
that lies in shared memory can be kept like that; others are sent at once.
"""

import math
from dataclasses import replace
from typing import List, Tuple

from stoker.pipeline.protocol.messages import NO_SLOT, Produced
from stoker.workers.effects import Effect, Say

SAY_WITHIN_S = 0.1      # after a batch is made
SHORT_STEPS = 8         # in a row, from which on the worker would hold more leases


class Unsaid:
    """Of one worker's conversation with one trainer. All times in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._made: List[Tuple[Produced, float]] = []       # with the times at which their leases came
        self._since_s = math.inf        # when the first of them was made
        self._short = 0                 # so many steps were short in a row

    @property
    def deadline_s(self) -> float:
        """When they are to be said, at the latest."""
        return self._since_s + SAY_WITHIN_S

    @property
    def would_hold_more(self) -> bool:
        """Steps are so short that more leases are of use."""
        return self._short >= SHORT_STEPS

    def takes(self, answer: Produced, came_s: float, waiting: int, now: float) -> bool:
        """A batch was made, of a lease that came at ``came_s``, and so many leases wait. True: it is kept here. False:
        it is to be said, after those that are here."""
        self._short = self._short + 1 if answer.slot != NO_SLOT and 2 * answer.produce_s <= SAY_WITHIN_S else 0
        since_s = min(self._since_s, now)
        if not self._short or waiting < 2 or now - since_s + answer.produce_s > SAY_WITHIN_S:
            return False
        self._since_s = since_s
        self._made.append((answer, came_s))
        return True

    def say(self, now: float) -> List[Effect]:
        """All that are here; ``now`` is the end of the time for which the leases were held."""
        made, self._made, self._since_s = self._made, [], math.inf
        return [Say(replace(answer, timings=answer.timings._replace(held_s=now - came_s))) for answer, came_s in made]

    def forget(self) -> None:
        """The trainer grants them anew."""
        self._made, self._since_s = [], math.inf
