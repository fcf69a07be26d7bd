"""The promises of the trainer's end under fire: simulated runs with the real sessions of both ends, and a state machine
of workers that send anything."""

import itertools
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stoker.pipeline.coordinator.effects import Accept, Gone, Grant, Unknown
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Leaving, Produced, Ready, Returned, Room
from stoker.pipeline.protocol.messages import Unfit
from tests.conftest import EFFORT
from tests.support.invariants import check_invariants
from tests.support.own_data import Own
from tests.support.sim import Simulation

# of each family; other ones on every Python, for what they try is the same code
SEEDS = range(1000 * sys.version_info[1], 1000 * sys.version_info[1] + 8 * EFFORT)
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
    some_time(sim, 2, lambda: sim.suspend(sim.random.choice((0.5, 1.9, 2.1, 5.0, 10.0))))


def trainer_stopped(sim):
    some_time(sim, 2, lambda: sim.stop_trainer(sim.random.choice((1.0, 12.0, 20.0, 60.0))))


def checkpoints(sim):
    some_time(sim, 2, lambda: sim.rest(sim.random.uniform(1.0, 8.0)))


def wrong_folders(sim):
    """Half of the workers have the wrong folder from the start; others lose theirs for a while."""
    for node in sim.nodes[1::2]:
        sim.misconfigure(node, sim.random.choice((0.5, 3.0, 100.0)))
    some_time(sim, 4, lambda: sim.misconfigure(anyone(sim), sim.random.uniform(0.1, 3.0)))


def everything(sim):
    for faults in (crashes, silent_deaths, freezes, cuts, comings_and_goings, trainer_suspended, checkpoints,
                   wrong_folders):
        faults(sim)


# name -> (what happens, what the simulation is like, whether any worker may be found silent)
SHORT = {"work_s": 0.02, "delay_s": 0.001, "consume_s": 0.002, "prefetch": 24, "steps": 400, "shared": 1.0}
FAMILIES = {
    "calm": ((), {}, False),
    "slow workers": ((), {"slow": 2}, False),
    "stuck workers": ((), {"stuck": 1, "prefetch": 4}, False),
    "all but one stuck": ((), {"stuck": 3, "prefetch": 2}, False),
    "stuck workers, failing steps": ((), {"stuck": 2, "hung": 1, "fail": 0.2}, False),
    "hanging imports, failing steps": ((), {"stuck": 3, "hung": 3, "fail": 0.2}, False),
    "slow consumer": ((checkpoints,), {"consume_s": 0.3}, False),
    "tiny prefetch": ((comings_and_goings,), {"prefetch": 1}, False),
    "slow network": ((), {"delay_s": 0.3, "lease_s": 6.0}, False),
    "repeated batches": ((), {"repeat": 0.5, "slow": 1}, False),
    "failing steps": ((), {"fail": 0.2}, False),
    "comings and goings": ((comings_and_goings,), {"slow": 1}, False),
    "trainer suspended": ((trainer_suspended, checkpoints), {"slow": 1}, False),
    "trainer stopped": ((trainer_stopped,), {}, False),
    "crashes": ((crashes,), {}, False),
    "silent deaths": ((silent_deaths,), {}, True),
    "freezes": ((freezes,), {"workers": 5}, True),
    "broken connections": ((cuts,), {}, True),
    "wrong folders": ((wrong_folders,), {}, False),
    "reading ahead": ((), {"ahead": 0.5, "prefetch": 24, "steps": 60}, False),
    "reading ahead, stuck workers": ((), {"ahead": 0.5, "prefetch": 24, "stuck": 2, "steps": 40}, False),
    "reading ahead, everything": ((everything,), {"ahead": 0.3, "prefetch": 24, "steps": 60, "workers": 6, "slow": 1,
                                                  "fail": 0.05, "repeat": 0.1}, True),
    "short steps": ((), SHORT, False),
    "short steps, suspended": ((trainer_suspended, checkpoints), SHORT, False),
    "short steps, silent deaths": ((silent_deaths,), SHORT, True),
    "short steps, freezes": ((freezes,), SHORT, True),
    "short steps, everything": ((everything,), dict(SHORT, workers=6, slow=1, fail=0.05, repeat=0.1), True),
    "everything": ((everything,), {"workers": 6, "slow": 2, "fail": 0.05, "repeat": 0.1}, True),
}


@pytest.mark.parametrize("own", [False, True], ids=["pictures", "own data"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_arrives_once_in_order_with_its_content(family, own):
    faults, options, may_be_silent = FAMILIES[family]
    for seed in SEEDS[:len(SEEDS) // 4] if own else SEEDS:
        sim = Simulation(seed, own=own, **options)
        try:
            for fault in faults:
                fault(sim)
            sim.run()
            assert may_be_silent or not sim.expiries, "a living worker lost its leases to the clock"
            sim.end()
            # a late step has a second lease, and is counted
            assert (sim.most_held > 2) == (family in ("reading ahead", "short steps")) or own or any(
                each in family for each in ("ahead,", "short steps,"))
            assert family != "wrong folders" or sim.attempts == {1} or sim.scheduler.backups, "an attempt was used up"
        except Exception as error:
            raise AssertionError("%s, seed %d, own %s, at %.3f s: %r" % (family, seed, own, sim.now, error)) from error


def test_a_rank_gets_every_step_though_some_of_its_parts_are_empty():
    seeds = (seed for seed in itertools.count(SEEDS[0]) if any(map(Own(seed).plan.is_empty, range(
        Own(seed).start, Own(seed).plan.positions))))
    for seed in itertools.islice(seeds, 3 * EFFORT):
        sim = Simulation(seed, own=True, verify=0.4, workers=5, slow=1, fail=0.05, repeat=0.1)
        everything(sim)
        sim.run()
        sim.end()


@pytest.mark.parametrize("family", FAMILIES)
def test_honest_workers_never_differ_and_second_batches_are_never_used(family):
    """Whatever happens to them. The simulation fails if the run ends, or gets a batch twice."""
    faults, options, _ = FAMILIES[family]
    compared = chosen = 0
    for seed in SEEDS[:len(SEEDS) // 4]:
        for own in (False, True):
            sim = Simulation(seed, own=own, verify=0.4, **options)
            try:
                for fault in faults:
                    fault(sim)
                sim.run()
                sim.settle()
                checks = sim.session.verification
                chosen += sum(map(checks.is_chosen, range(sim.data.start, sim.steps)))
                compared += checks.verified
                assert not set(checks._checks) & sim.scheduler._open.keys()
                sim.end()
            except Exception as error:
                raise AssertionError("%s, seed %d, own %s: %r" % (family, seed, own, error)) from error
    # a worker that hangs keeps what it was given; without a second worker nothing is compared
    assert compared >= (0 if "stuck" in family or "hanging" in family else 0.6 * chosen), (compared, chosen)


@pytest.mark.parametrize("workers", [2, 4, 6])
def test_a_worker_that_changes_a_byte_is_found_and_named(workers):
    """Two workers are on one host: with three hosts, the third says which one is right."""
    for seed in SEEDS:
        sim = Simulation(seed, own=seed % 2 == 1, verify=1.0, workers=workers, steps=30, liars=1, lies=0.5)
        sim.run()
        sim.settle()
        liar = "sim/%d" % (workers - 1)
        if not any(sim.wrong.values()):            # all its batches were right, or have no byte
            assert not sim.accused
            continue
        said = str(sim.accused)
        assert liar + " (at 10.0.0.%d, " % ((workers - 1) // 2) in said and "was made twice" in said, "seed %d" % seed
        assert ("so that of %s is wrong" % liar in said) == (workers == 6) and (
            ("no third worker" in said) == (workers < 6)), "seed %d: %s" % (seed, said)


def test_no_honest_worker_is_called_wrong_whatever_happens():
    accused = 0
    for seed in SEEDS:
        sim = Simulation(seed, own=seed % 2 == 1, verify=1.0, workers=6, steps=30, slow=1, fail=0.05, repeat=0.1,
                         liars=1, lies=1.0)
        some_time(sim, 6, lambda sim=sim: sim.crash(sim.random.choice(sim.nodes[1:5])))
        some_time(sim, 4, lambda sim=sim: sim.cut(sim.random.choice(sim.nodes), sim.random.random() < 0.5))
        some_time(sim, 2, lambda sim=sim: sim.freeze(sim.random.choice(sim.nodes), sim.random.uniform(0.1, 12.0)))
        some_time(sim, 1, lambda sim=sim: sim.suspend(5.0))
        sim.run()
        sim.settle()
        said = str(sim.accused)
        assert not sim.accused or "sim/5 (at " in said, "seed %d: %s" % (seed, said)
        assert "is wrong" not in said or "so that of sim/5 is wrong" in said, "seed %d: %s" % (seed, said)
        accused += sim.accused is not None
    assert accused > len(SEEDS) // 2


def test_verification_takes_its_share_of_the_workers_time_and_no_more():
    """Second batches are never ahead of what the consumer waits for."""
    ends = dict.fromkeys((0.0, 0.1), 0.0)
    for seed in SEEDS:
        for verify in ends:
            sim = Simulation(seed, steps=200, workers=4, prefetch=16, consume_s=0.0001, verify=verify)
            sim.run()
            ends[verify] += sim.now
    assert ends[0.1] < 1.25 * ends[0.0], ends


@pytest.mark.parametrize("workers", [1, 4, 20])
@pytest.mark.parametrize("pause_s", [1.0, 1.9, 4.0, 10.0, 25.0, 60.0, 100.0])
def test_a_pause_of_the_trainer_costs_nothing_but_its_time(pause_s, workers):
    """Its interpreter is busy in one C call; libzmq's own thread keeps the connections."""
    for seed in SEEDS[:2 * EFFORT]:
        sim = Simulation(seed, workers=workers, steps=4 * workers + 20, prefetch=2 * workers, consume_s=0.01)
        for _ in range(3):
            sim.after(sim.random.uniform(0.0, HORIZON_S), sim.suspend, pause_s)
        sim.run()
        assert not sim.expiries and not sim.losses and not sim.returns, "seed %d" % seed
        assert sim.session._scheduler.reassigned == 0
        assert len(sim.owner) == len(sim.session._members) == workers      # no worker came back as another member
        assert sim.session.summary() == [] or "reassigned" in sim.session.summary()[0].text
        assert max(sim.waiting) < workers * (2 + 20 * 3)      # messages that the trainer finds after its pause


def test_workers_that_join_while_the_trainer_pauses_are_welcomed_once():
    for seed in SEEDS[:2 * EFFORT]:
        sim = Simulation(seed, workers=1)
        sim.suspend(60.0)
        for _ in range(5):
            sim.after(sim.random.uniform(0.0, 60.0), sim.join)
        sim.run()
        assert not sim.losses and not sim.returns and len(sim.session._members) == 6
        assert sim.session._limits.summary() == ""


class AnyHistory(RuleBasedStateMachine):
    """Workers that say anything at all, at any time. Whatever came before, one good worker completes the run."""

    STEPS, PREFETCH, LEASE_S = 12, 4, 2.0
    workers = st.integers(0, 3)
    leases = st.integers(-1, 30)
    positions = st.integers(0, STEPS)

    def __init__(self):
        super().__init__()
        self.scheduler = LeaseScheduler(0, self.STEPS, self.PREFETCH, self.LEASE_S)
        self.now = 0.0
        self.granted = []          # (lease, worker, position), by lease
        self.accepted = set()
        self.note(self.scheduler.tick(self.now))

    def note(self, effects, message=None):
        for effect in effects:
            if isinstance(effect, Grant):
                assert effect.lease == len(self.granted) + 1
                assert self.scheduler.head <= effect.position < self.scheduler.head + self.PREFETCH
                assert effect.position < self.STEPS and effect.position not in self.accepted
                earlier = sum(position == effect.position for _, _, position in self.granted)
                assert 1 <= effect.attempt <= 1 + earlier     # less if a worker that could not do the job had one
                self.granted.append((effect.lease, effect.worker, effect.position))
            elif isinstance(effect, Accept):
                assert effect.position == message.position and effect.position not in self.accepted
                assert (message.lease, effect.position) in [(lease, position) for lease, _, position in self.granted]
                self.accepted.add(effect.position)

    def say(self, worker, message):
        head, accepted, granted = self.scheduler.head, set(self.accepted), len(self.granted)
        duplicates = self.scheduler.duplicates
        member = self.scheduler.is_member(worker)
        effects = self.scheduler.receive(worker, message, self.now)
        self.note(effects, message)
        assert self.scheduler.head == head
        assert self.scheduler.duplicates == duplicates or message.position in accepted
        assert (self.accepted != accepted) == any(isinstance(effect, Accept) for effect in effects)
        if not member and not isinstance(message, Hello):
            assert len(effects) == 1 and isinstance(effects[0], Unknown) and len(self.granted) == granted

    @rule(worker=workers, capacity=st.integers(0, 3))
    def hello(self, worker, capacity):
        self.say(worker, Hello("w", 1, "", capacity, ""))

    @rule(worker=workers, leases=st.integers(0, 3))
    def room(self, worker, leases):
        self.say(worker, Room("r", leases))

    @rule(worker=workers)
    def ready(self, worker):
        self.say(worker, Ready("r"))

    @rule(worker=workers)
    def unfit(self, worker):
        self.say(worker, Unfit("r", "no folder"))

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), repeat=st.booleans())
    def produced(self, data, repeat):
        lease, worker, position = data.draw(st.sampled_from(self.granted))
        for _ in range(1 + repeat):
            self.say(worker, Produced("r", lease, position, 1, (), 0.0, ()))

    @rule(worker=workers, lease=leases, position=positions)
    def produced_nonsense(self, worker, lease, position):
        self.say(worker, Produced("r", lease, position, 1, (), 0.0, ()))

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def failed(self, data):
        lease, worker, position = data.draw(st.sampled_from(self.granted))
        self.say(worker, Failed("r", lease, position, "error", ""))

    @rule(worker=workers, lease=leases, position=positions)
    def failed_nonsense(self, worker, lease, position):
        self.say(worker, Failed("r", lease, position, "error", ""))

    @rule(worker=workers, lease=leases)
    def leaving(self, worker, lease):
        self.say(worker, Leaving("r", lease, "why"))

    @rule(worker=workers)
    def alive(self, worker):
        self.say(worker, Alive("r"))

    @rule(worker=workers)
    def lost(self, worker):
        effects = self.scheduler.lost(worker, self.now)
        self.note(effects)
        assert not self.scheduler.is_member(worker)

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def returned(self, data):
        lease, worker, position = data.draw(st.sampled_from(self.granted))
        self.say(worker, Returned("r", lease))

    @rule(worker=workers, lease=leases)
    def returned_nonsense(self, worker, lease):
        self.say(worker, Returned("r", lease))

    @rule(worker=workers)
    def protocol_violation(self, worker):
        member = self.scheduler.is_member(worker)
        effects = self.scheduler.protocol_violation(worker, self.now, "broke the protocol")
        self.note(effects)
        assert not self.scheduler.is_member(worker)
        assert member == any(isinstance(effect, Gone) and effect.worker == worker for effect in effects)

    @precondition(lambda self: self.scheduler.head in self.accepted)
    @rule()
    def take(self):
        head = self.scheduler.head
        self.note(self.scheduler.take(self.now))
        assert self.scheduler.head == head + 1

    @rule(passed_s=st.sampled_from((0.0, 0.01, 0.06, 0.3, 0.9, 1.1, 2.1, 60.0)), absent=st.booleans())
    def tick(self, passed_s, absent):
        self.now += passed_s
        silent = [key for key in range(4) if self.scheduler.is_heard(key)]
        if absent:
            self.scheduler.suspended_for(passed_s, self.now)
        effects = self.scheduler.tick(self.now)
        self.note(effects)
        gone = [effect.worker for effect in effects if isinstance(effect, Gone)]
        assert set(gone) <= set(silent) and not (absent and passed_s > self.LEASE_S and gone), "the trainer was absent"
        assert all(self.scheduler.is_member(key) and not self.scheduler.is_heard(key) for key in gone)

    @invariant()
    def tables_agree(self):
        check_invariants(self.scheduler, rooms=True)

    def teardown(self):
        self.say("good", Hello("good", 1, "", 2, ""))
        self.say("good", Ready("r"))
        done, start_s = 0, self.now
        while self.scheduler.head < self.STEPS:
            assert self.now < start_s + 60 * self.LEASE_S, "one good worker does not get the run done"
            self.now += 0.05
            recent, done = self.granted[done:], len(self.granted)
            for lease, worker, position in recent:
                if worker == "good":
                    self.say("good", Produced("r", lease, position, 1, (), 0.0, ()))
            while self.scheduler.head in self.accepted:
                self.note(self.scheduler.take(self.now))
            self.say("good", Alive("r"))
            self.note(self.scheduler.tick(self.now))
            check_invariants(self.scheduler, rooms=True)
        assert self.accepted == set(range(self.STEPS))


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=20 * EFFORT, stateful_step_count=30)
