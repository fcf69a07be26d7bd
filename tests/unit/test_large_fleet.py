"""Thousands of workers at one LeaseScheduler, and several trainers with one fleet, on virtual time: each gets its
share, memory stays flat, and an event costs no more than with a few workers.

``make unit ARGS="-k large_fleet -s"`` prints the figures; with STOKER_TEST_FLEET=10000 in the environment they are
those of docs/SCALING.md.
"""

import os

import pytest

from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Hello
from tests.support.invariants import check_invariants
from tests.support.large_fleet import LEASE_S, LargeFleet
from tests.support.large_ranks import LargeRanks

WORKERS = int(os.environ.get("STOKER_TEST_FLEET", "500"))
FEW = 50                   # workers to compare with
BATCHES_S = 200.0          # of all workers together, in this comparison
LEAST_SHARE = 0.5          # of the mean
MORE_MEMORY = 1.05
CALM = {"slow": 1.0}
TROUBLE = {"slow": 10.0, "hanging": 5, "faults": 5.0}      # each slow worker's leases are looked at now and then


def settled(workers, window, **options):
    """A fleet that has worked for a while."""
    fleet = LargeFleet(workers, window, **options)
    fleet.join()
    fleet.play(seconds=5.0)
    fleet.forget()
    return fleet


@pytest.mark.parametrize("times", [3.0, 1.0, 0.2], ids=["large window", "one step each", "small window"])
def test_each_worker_gets_its_share_and_memory_stays_flat(times):
    """Exactly once is checked with each batch."""
    window = int(times * WORKERS)
    fleet = settled(WORKERS, window)
    seconds = 12.0 / min(1.0, times)
    fleet.play(seconds=seconds / 2)
    blocks = fleet.blocks()
    fleet.play(seconds=seconds / 2)
    print("\n%d workers, window %d: %d events of %.1f us, fewest batches by the mean %.2f, memory %+.1f %%" % (
        WORKERS, window, sum(fleet.events.values()), fleet.us_an_event(), fleet.share(),
        100 * (fleet.blocks() / blocks - 1)))
    assert fleet.share() >= LEAST_SHARE
    assert fleet.blocks() <= MORE_MEMORY * blocks
    assert len(fleet.scheduler._open) + len(fleet.scheduler._ready) <= window


@pytest.mark.parametrize("options, most_times", [(CALM, 2.5), (TROUBLE, 4.5)], ids=["calm", "trouble"])
@pytest.mark.parametrize("times", [3.0, 0.5], ids=["large window", "small window"])
def test_an_event_costs_no_more_than_with_few_workers(times, options, most_times):
    """All together make as many batches a second: what is done every now and then for all workers shows most.
    ``most_times`` leaves room for a busy machine; with a look at each worker every now and then it is 5 to 8. Tables of
    10,000 workers fit no cache of the processor, which costs half as much again."""
    found = {}
    for workers in (FEW, WORKERS):
        fleet = settled(workers, int(times * workers), work_s=workers / BATCHES_S, consume_s=2.0 / BATCHES_S,
                        heartbeat_s=0.8 * LEASE_S, **options)
        rounds = []
        for _ in range(5):
            fleet.play(2000)
            rounds.append(fleet.us_an_event())
            fleet.forget()
        found[workers] = min(rounds)
    print("\nus an event, window %g times the fleet: %s" % (times, ", ".join(
        "%d workers %.1f" % pair for pair in found.items())))
    assert found[WORKERS] <= most_times * found[FEW] * (1.5 if WORKERS > 2000 else 1)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_to_save_time_agrees_with_the_tables(seed):
    fleet = LargeFleet(30, 20 + 30 * (seed % 2), seed, hosts=6, work_s=0.2, consume_s=0.002 * (seed % 3), slow=10.0,
                       hanging=2, faults=10.0, after=check_invariants)
    fleet.join()
    fleet.play(3000)
    assert fleet.accepted > 200


def test_each_trainer_of_a_fleet_gets_its_share_and_one_that_hangs_takes_nothing_from_others():
    fleet = LargeRanks(max(32, WORKERS // 25), 8, max(16, WORKERS // 50))
    fleet.play(4.0)
    fleet.forget()
    fleet.play(10.0)
    before = [fleet.batches_of(rank) for rank in range(8)]
    assert min(before) >= LEAST_SHARE * sum(before) / 8, before
    assert fleet.share_of_workers() >= LEAST_SHARE
    fleet.ranks[3].hangs = True
    fleet.play(2.0)
    fleet.forget()
    fleet.play(10.0)
    after = [fleet.batches_of(rank) for rank in range(8)]
    print("\nbatches of 8 trainers: %r; one hangs: %r" % (before, after))
    assert after[3] == 0 and sum(after) >= 0.8 * sum(before)
    assert min(after[:3] + after[4:]) >= LEAST_SHARE * sum(after) / 7, after


def test_workers_of_a_large_fleet_say_less_often_that_they_are_alive():
    fleet = LargeRanks(5, 1, 10)
    session = fleet.ranks[0].session
    fleet.play(2.0)
    assert len(session._members) == 5
    session._members.update({b"x%d" % number: hello for number, hello in enumerate(
        list(session._members.values()) * 600)})
    hello = codec.encode(Hello("late", 1, "", 1, ""))
    session.receive(b"late", hello, fleet.now)
    invite, = session.answer_hellos()
    assert session._options.heartbeat_s < invite.welcome.heartbeat_s <= session._options.lease_s / 4
