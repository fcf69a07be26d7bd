"""Members with a valid key that do harm: simulated runs end with the right content, in about the time of a run without
them. The simulation checks the content, and that no honest worker is cut off."""

import functools

import pytest

from tests.conftest import EFFORT
from tests.support.hostile_members import FAILS, HANGS_UP, IDLE, KINDS
from tests.support.sim import Simulation

STEPS, LEASE_S, FACTOR = 40, 4.0, 2.0
MEMBERS = 20

#: The (key, host) of the honest workers, in turn, and those of the members that do harm.
FLEETS = {
    "a key for each host": ((("local", "here"), ("alpha", "b")), [("evil", "x")]),
    "one key for all": ((("worker", "a"), ("worker", "b")), [("worker", "x")]),
    "local workers": ((("local", "here"),), [("evil", "here")]),
    "no keys": ((("", "a"), ("", "b")), [("", "x")]),
    "many hosts of one key": ((("local", "here"), ("alpha", "b")), [("evil", "x%d" % n) for n in range(MEMBERS)]),
}


def played(seed, honest, kind=None, hostile=()):
    """The time that the run takes."""
    sim = Simulation(seed, steps=STEPS, workers=4, prefetch=12, lease_s=LEASE_S, parties=honest)
    sim.shut = lambda peer: None           # those that do harm may be; an honest one would say Hello again
    for number in range(MEMBERS if hostile else 0):
        sim.join_hostile(kind, hostile[number % len(hostile)])
    sim.run()
    return sim.now


@functools.lru_cache(None)
def alone(seed, honest):
    """The time without them."""
    return played(seed, honest)


@pytest.mark.parametrize("kind, fleet", [(kind, fleet) for fleet in FLEETS for kind in KINDS
                                         if fleet == "a key for each host" or kind in (IDLE, FAILS, HANGS_UP)])
def test_members_of_one_key_cost_their_own_places_and_nothing_else(kind, fleet):
    honest, hostile = FLEETS[fleet]
    for seed in range(EFFORT):
        alone_s, beside_s = alone(seed, honest), played(seed, honest, kind, hostile)
        # once, until the pace of the fleet is known, a lease is late only after ``lease_s``
        assert beside_s < FACTOR * alone_s + LEASE_S, "seed %d: %.1f s, alone %.1f s" % (seed, beside_s, alone_s)


def test_a_broken_host_that_shares_the_key_with_all_others():
    """It fails at every step; the others do all of them."""
    honest = (("worker", "a"), ("worker", "b"), ("worker", "c"))
    for seed in range(2 * EFFORT):
        alone_s = alone(seed, honest)
        assert played(seed, honest, FAILS, [("worker", "broken")]) < FACTOR * alone_s + LEASE_S
