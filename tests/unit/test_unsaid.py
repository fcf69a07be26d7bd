"""Batches of which the trainer hears a little later, with the next ones."""

import math

import pytest

from stoker.pipeline.protocol.messages import NO_SLOT, Produced, Timings
from stoker.workers.unsaid import SAY_WITHIN_S, SHORT_STEPS, Unsaid


def made(lease, produce_s=0.01, slot=0):
    return Produced("5eed", lease, lease, 1, (), produce_s, (), Timings(0.001), slot=slot)


def test_short_steps_are_said_together_in_their_order_within_the_time():
    unsaid, now, said = Unsaid(), 0.0, []
    assert unsaid.deadline_s == math.inf
    for lease in range(30):
        now += 0.04
        if not unsaid.takes(made(lease, 0.04), now - 0.05, 3, now):
            said.append([effect.message.lease for effect in unsaid.say(now)] + [lease])
        assert unsaid.deadline_s > now
    assert said == [[3 * group, 3 * group + 1, 3 * group + 2] for group in range(10)]


def test_the_time_for_which_they_were_held_ends_when_they_are_said():
    unsaid = Unsaid()
    assert unsaid.takes(made(1), 5.0, 2, 6.0)
    assert unsaid.deadline_s == 6.0 + SAY_WITHIN_S
    (said,) = unsaid.say(6.04)
    assert said.message.timings == Timings(0.001, held_s=said.message.timings.held_s)
    assert said.message.timings.held_s == pytest.approx(1.04)
    assert unsaid.say(6.04) == [] and unsaid.deadline_s == math.inf


@pytest.mark.parametrize("answer, waiting", [
    (made(1, SAY_WITHIN_S), 3),                 # the next one would come too late
    (made(1, slot=NO_SLOT), 3),                 # its arrays would be kept
    (made(1), 1), (made(1), 0)])                # there would be nothing to do until the trainer answers
def test_others_are_said_at_once(answer, waiting):
    assert not Unsaid().takes(answer, 0.0, waiting, 1.0)


def test_more_leases_are_of_use_after_some_short_steps_in_a_row():
    unsaid = Unsaid()
    for lease in range(SHORT_STEPS):
        assert not unsaid.would_hold_more
        unsaid.takes(made(lease), 0.0, 1, lease)
    assert unsaid.would_hold_more
    unsaid.takes(made(9, 1.0), 0.0, 1, 9.0)
    assert not unsaid.would_hold_more


def test_what_is_forgotten_is_never_said():
    unsaid = Unsaid()
    assert unsaid.takes(made(1), 0.0, 2, 1.0)
    unsaid.forget()
    assert unsaid.say(1.0) == [] and unsaid.deadline_s == math.inf
