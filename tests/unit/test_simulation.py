"""The promises of pipeline/leases.py under fire: simulated runs with real sessions, and a state machine of nonsense."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.leases import (Abort, Accept, Duplicate, Gone, Grant, LeaseScheduler, Revoke, Unknown)
from pipeline.messages import Alive, Failed, Hello, Leaving, Produced
from tests.conftest import EFFORT
from tests.support.sim import Simulation

RUNS = 20 * EFFORT   # of each family
HORIZON_S = 3.0      # most runs are over by then when nothing goes wrong


def some_time(sim, times, happen):
    for _ in range(times):
        sim.after(sim.random.uniform(0.0, HORIZON_S), happen)


def anyone(sim):
    """Any worker but the first, so that one keeps living."""
    return sim.random.choice(sim.nodes[1:])


def crashes(sim):
    some_time(sim, 6, lambda: sim.crash(anyone(sim)))


def silent_deaths(sim):
    some_time(sim, 4, lambda: sim.crash(anyone(sim), heard=False))


def freezes(sim):
    some_time(sim, 4, lambda: sim.freeze(sim.random.choice(sim.nodes), sim.random.uniform(0.1, 12.0)))


def cuts(sim):
    some_time(sim, 6, lambda: sim.cut(sim.random.choice(sim.nodes), sim.random.random() < 0.5,
                                      sim.random.random() < 0.5))


def comings_and_goings(sim):
    some_time(sim, 4, sim.join)
    some_time(sim, 4, lambda: sim.drain(anyone(sim)))


def trainer_suspended(sim):
    some_time(sim, 2, lambda: sim.suspend(sim.random.choice((0.5, 1.9, 2.1, 5.0, 30.0))))


def checkpoints(sim):
    some_time(sim, 2, lambda: sim.rest(sim.random.uniform(1.0, 20.0)))


def everything(sim):
    for faults in (crashes, silent_deaths, freezes, cuts, comings_and_goings, trainer_suspended, checkpoints):
        faults(sim)


# name -> (what happens, what the simulation is like, whether any worker may be found silent)
FAMILIES = {
    "calm": ((), {}, False),
    "slow workers": ((), {"slow": 2}, False),
    "slow consumer": ((checkpoints,), {"consume_s": 0.3}, False),
    "tiny prefetch": ((comings_and_goings,), {"prefetch": 1}, False),
    "slow network": ((), {"delay_s": 0.3, "lease_s": 6.0}, False),
    "repeated batches": ((), {"repeat": 0.5, "slow": 1}, False),
    "failing steps": ((), {"fail": 0.2}, False),
    "comings and goings": ((comings_and_goings,), {"slow": 1}, False),
    "trainer suspended": ((trainer_suspended, checkpoints), {"slow": 1}, False),
    "crashes": ((crashes,), {}, False),
    "silent deaths": ((silent_deaths,), {}, True),
    "freezes": ((freezes,), {"workers": 5}, True),
    "broken connections": ((cuts,), {}, True),
    "everything": ((everything,), {"workers": 6, "slow": 2, "fail": 0.05, "repeat": 0.1}, True),
    "everything, through the codec": ((everything,), {"workers": 3, "slow": 1, "fail": 0.05, "repeat": 0.1,
                                                      "wire": True}, True),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_arrives_once_in_order_with_its_content(family):
    faults, options, may_be_silent = FAMILIES[family]
    for seed in range(RUNS):
        sim = Simulation(seed, **options)
        try:
            for fault in faults:
                fault(sim)
            sim.run()
            assert may_be_silent or not sim.expiries, "a living worker lost its leases to the clock"
        except Exception as error:
            raise AssertionError("%s, seed %d, at %.3f s: %r" % (family, seed, sim.now, error)) from error
