"""Which steps are made twice, by which workers, and what follows when the two batches differ."""

from dataclasses import replace

import pytest

from stoker.pipeline.coordinator import verification
from stoker.pipeline.coordinator.verification import DECIDING_S, MAX_AGE_S, MAX_TRIES, PATIENCE_S, Maker
from stoker.pipeline.coordinator.verification import Verification
from stoker.pipeline.coordinator.party import Party
from stoker.pipeline.errors import BatchesDiffer
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Lease, Leaving, Returned, Skipped, Unfit
from stoker.pipeline.sources.dataset import Dataset, Splits
from tests.support.trainer import SilentTrainer, batch

JOB = JobOptions(image_size=(2, 3), batch_size=2)
STEPS = 20
DATA = Dataset("/data", ("a", "b"), tuple("%d.jpg" % number for number in range(2 * STEPS)), (0, 1) * STEPS, ())
VERSIONS = "python 3.13.0, pillow 13.0.0"


class Fleet(SilentTrainer):
    """A trainer that verifies every step, and workers that answer when they are told to."""

    def __init__(self, verify=1.0, prefetch=4, job=JOB, validation=None, **options):
        splits = Splits(DATA) if validation is None else Splits(DATA, validation)
        super().__init__(job, splits, StreamOptions(prefetch=prefetch, verify=verify, **options))
        self.answered = set()

    @property
    def checks(self):
        return self.session.verification

    def join(self, name, host, capacity=2, versions=VERSIONS):
        self.hosts[name.encode()] = host
        self.say(name.encode(), Hello(name, 1, versions, capacity, ""))

    def open(self, name):
        """The leases of a worker that it has not answered."""
        return [lease for lease in self.to(name.encode(), Lease) if lease.lease not in self.answered]

    def again(self, name):
        """Of these, those for second batches."""
        return [lease.position for lease in self.open(name) if lease.position in self.batches]

    def answer(self, name, value=7, lease=None, **changed):
        """A worker makes the batch of its first lease that is open."""
        lease = lease or self.open(name)[0]
        self.answered.add(lease.lease)
        self.say(name.encode(), replace(batch(lease, value=value), **changed))
        self.tick(0.05)
        return lease.position

    def second(self, position=0):
        """(worker, lease) of the second batch of a position."""
        found = [(name.decode(), lease) for name in self.hosts for lease in self.open(name.decode())
                 if lease.position == position and position in self.batches]
        return found[0] if len(found) == 1 else None

    def answer_second(self, position=0, **values):
        """The worker that has the lease for a second batch makes it; returns its name."""
        name, lease = self.second(position)
        self.answer(name, lease=lease, **values)
        return name

    def work(self, *names, **values):
        """Each of them answers one lease after the other until none has any."""
        for _ in range(200):
            for name in names:
                if self.open(name):
                    self.answer(name, **values)
            self.tick(0.3)

    @property
    def error(self):
        assert len(self.errors) == 1 and isinstance(self.errors[0], BatchesDiffer), self.errors
        return str(self.errors[0])


# --------------------------------------------------------------------------------------------------- what is chosen

def test_a_share_of_the_positions_is_chosen_by_a_secret():
    one, same, other = (Verification(0.01, secret, (), 0.0) for secret in (b"one", b"one", b"other"))
    chosen = [position for position in range(100000) if one.is_chosen(position)]
    assert 850 < len(chosen) < 1150 and all(map(same.is_chosen, chosen))
    assert sum(map(other.is_chosen, chosen)) < 30
    more = Verification(0.02, b"one", (), 0.0)
    assert all(map(more.is_chosen, chosen))
    assert [sum(map(Verification(share, b"one", (), 0.0).is_chosen, range(1000))) for share in (0.0, 1.0)] == [0, 1000]


def test_two_runs_choose_other_positions(pictures_of_two_coordinators):
    one, other = pictures_of_two_coordinators
    assert one != other


@pytest.fixture
def pictures_of_two_coordinators():
    """The positions that two trainers choose: their secrets are random."""
    from stoker.pipeline.coordinator.thread import Coordinator
    chosen = []
    for _ in range(2):
        coordinator = Coordinator(0, Plan(2 * STEPS, 2, 1, 0), Splits(DATA), JOB, StreamOptions(verify=0.5), None, None)
        chosen.append([position for position in range(200) if coordinator._session.verification.is_chosen(position)])
        coordinator.abandon()
    return chosen


# ------------------------------------------------------------------------------------------------- equal batches

def test_a_step_is_made_again_by_another_host_and_used_once():
    fleet = Fleet()
    fleet.join("a", "10.0.0.1")
    fleet.join("a2", "10.0.0.1")
    fleet.join("b", "10.0.0.2")
    assert fleet.answer("a") == 0
    fleet.tick(0.3)
    assert fleet.again("b") == [0] and fleet.again("a") == fleet.again("a2") == []
    fleet.work("a", "a2", "b")
    assert sorted(fleet.batches) == list(range(STEPS)) and not fleet.errors
    assert fleet.checks.verified == STEPS and fleet.checks.by_same_host == 0 and not fleet.checks.is_busy
    assert fleet.checks.report() == "verification: 20 batches were made twice, and all are equal"


def test_a_second_lease_is_like_the_first():
    fleet = Fleet(job=replace(JOB, on_bad_image="replace"))
    fleet.join("a", "10.0.0.1")
    fleet.join("b", "10.0.0.2")
    first = fleet.open("a")[0]
    fleet.answer("a", skipped=(Skipped(first.samples[0].index, "empty"),))
    fleet.answer("b")
    second = fleet.second()[1]
    assert replace(second, lease=first.lease, unproven=first.unproven) == first
    fleet.answer("b", lease=second, skipped=(Skipped(first.samples[0].index, "leer"),))      # in other words
    assert fleet.checks.verified == 1 and not fleet.errors


def test_one_host_verifies_by_another_process_and_says_so():
    fleet = Fleet()
    fleet.join("h:1/0", "127.0.0.1")
    fleet.join("h:1/1", "127.0.0.1")
    fleet.work("h:1/0", "h:1/1")
    assert fleet.checks.verified == fleet.checks.by_same_host == STEPS
    assert fleet.checks.report() == ("verification: 20 batches were made twice, and all are equal; 20 of them by two "
                                     "processes of one host")


def test_a_single_worker_verifies_nothing_and_holds_up_nothing():
    fleet = Fleet()
    fleet.join("a", "10.0.0.1")
    fleet.work("a")
    assert sorted(fleet.batches) == list(range(STEPS)) and not fleet.checks.is_busy and not fleet.errors
    assert fleet.checks.report() == ("verification: no batch was compared: 20 chosen, and no other worker could make a "
                                     "second one")


def test_a_worker_that_connects_again_does_not_vouch_for_itself():
    fleet = Fleet()
    fleet.join("a", "10.0.0.1")
    fleet.answer("a")
    fleet.do(fleet.session.lost(b"a", fleet.now))
    fleet.hosts[b"again"] = "10.0.0.1"
    fleet.say(b"again", Hello("a", 1, VERSIONS, 2, ""))
    fleet.tick(1.0)
    assert fleet.again("again") == []
    fleet.hosts[b"nowhere"] = ""            # its connection has ended meanwhile: that is no other host
    fleet.say(b"nowhere", Hello("a", 1, VERSIONS, 2, ""))
    fleet.tick(1.0)
    assert fleet.again("nowhere") == []


def test_without_the_option_nothing_is_made_twice():
    fleet = Fleet(verify=0.0)
    fleet.join("a", "10.0.0.1")
    fleet.join("b", "10.0.0.2")
    fleet.work("a", "b")
    assert sorted(fleet.batches) == list(range(STEPS)) and fleet.checks.report() == ""
    assert len(fleet.to(b"a", Lease)) + len(fleet.to(b"b", Lease)) == STEPS


# ---------------------------------------------------------------------------------------------- what goes first

def test_what_the_consumer_waits_for_goes_first():
    fleet = Fleet(prefetch=1)
    fleet.join("a", "10.0.0.1", capacity=1)
    fleet.answer("a")                                   # of position 0; 1 is the new head
    fleet.join("b", "10.0.0.2", capacity=1)
    assert [lease.position for lease in fleet.open("a")] == [1] and fleet.again("b") == [0]
    fleet.do(fleet.session.lost(b"a", fleet.now))       # what it held is the head, and waits for b ...
    fleet.join("c", "10.0.0.3", capacity=1)
    assert [lease.position for lease in fleet.open("c")] == [1]
    fleet.answer("c")
    fleet.tick(0.3)
    assert [lease.position for lease in fleet.open("c")] == [2]        # ... and the new head before a second batch


def test_a_worker_gets_no_more_leases_than_its_capacity():
    fleet = Fleet(prefetch=16)
    fleet.join("a", "10.0.0.1", capacity=9)
    for _ in range(6):
        fleet.answer("a")
    fleet.join("b", "10.0.0.2", capacity=3)
    assert fleet.again("b") == [0, 1, 2] and len(fleet.open("b")) == 3
    fleet.answer("b")
    assert len(fleet.open("b")) == 3 and fleet.checks.verified == 1


# ------------------------------------------------------------------------------------------------ batches that differ

@pytest.mark.parametrize("changed, what", [
    ({"value": 8}, "the array images"),
    ({"count": 1, "skipped": "first", "value": 7}, "which samples it has and the array images and the array labels"),
])
def test_a_difference_ends_the_run_and_names_both(changed, what):
    fleet = Fleet()
    fleet.join("a", "10.0.0.1")
    fleet.join("b", "10.0.0.2")
    fleet.answer("a")
    fleet.answer("b")
    lease = fleet.second()[1]
    answer = batch(lease, count=changed.get("count"), value=changed["value"])
    if "skipped" in changed:
        answer = replace(answer, skipped=(Skipped(lease.samples[0].index, "bad"),))
    fleet.say(b"b", answer)
    fleet.tick(0.1)
    assert fleet.error == (
        "step 0 of epoch 1 was made twice to verify it, and the batches differ in %s: a (at 10.0.0.1, %s) made the one "
        "that is used, b (at 10.0.0.2, %s) the other; no third worker could tell which one is right. Without a faulty "
        "or dishonest worker, their copies of the data differ, or your function is not deterministic. Other batches of "
        "the worker at fault may be wrong too, and an audit names the worker of each step: go on without it, from a "
        "checkpoint whose global_step is at most 0" % (what, VERSIONS, VERSIONS))


@pytest.mark.parametrize("liar", ["first", "second"])
def test_a_third_host_says_which_batch_is_wrong(liar, caplog):
    fleet = Fleet(prefetch=10)
    for name in ("a0", "a1", "b0", "b1", "c0", "c1"):
        fleet.join(name, "10.0.0.%d" % ord(name[0]))
    assert fleet.answer("a0", value=8 if liar == "first" else 7) == 0
    fleet.tick(0.3)
    second = fleet.answer_second(value=7 if liar == "first" else 8)
    for name in ("a1", second[0] + "0", "b0", "c0"):       # have room now
        fleet.answer(name)
    fleet.tick(0.3)
    third, _ = fleet.second()
    assert not fleet.errors and "a third worker is asked which one is right" in caplog.text
    assert {"a", second[0], third[0]} == set("abc")      # neither of the two hosts is the judge
    fleet.answer_second()
    wrong, right = ("a0", second) if liar == "first" else (second, "a0")
    assert "%s (at " % third in fleet.error
    assert "a third worker, made the same as %s, so that of %s is wrong" % (right, wrong) in fleet.error


def test_three_batches_that_all_differ():
    fleet = Fleet()
    for name in "abc":
        fleet.join(name, "10.0.0.%d" % ord(name), capacity=1)
    fleet.answer("a", value=1)
    for value, name in enumerate("bcbcbc", 2):
        if not fleet.errors:
            fleet.answer(name, value=value)
    assert "a third worker, made yet another one" in fleet.error


def test_a_third_worker_is_waited_for_only_so_long():
    fleet = Fleet()
    for name in "abc":
        fleet.join(name, "10.0.0.%d" % ord(name))
    fleet.answer("a", value=1)
    fleet.tick(0.3)
    fleet.answer_second()
    assert not fleet.errors
    for _ in range(int(DECIDING_S)):
        for name in "abc":
            fleet.say(name.encode(), Alive("5eed"))
        fleet.tick(1.1)
    assert "no third worker could tell which one is right" in fleet.error


def test_other_versions_are_told_as_a_cause():
    fleet = Fleet()
    fleet.join("a", "10.0.0.1", versions="python 3.6.15, pillow 8.4.0")
    fleet.join("b", "10.0.0.2")
    fleet.answer("a")
    fleet.answer("b")
    fleet.answer_second(value=6)
    assert "a (at 10.0.0.1, python 3.6.15, pillow 8.4.0)" in fleet.error
    assert "Their versions differ, and another version may decode the same picture differently" in fleet.error


def test_a_batch_of_the_evaluation_is_verified_too():
    fleet = Fleet(validation=Dataset("/data", ("a", "b"), ("x.jpg", "y.jpg"), (0, 1), ()))
    fleet.join("a", "10.0.0.1")
    fleet.join("b", "10.0.0.2")
    fleet.work("a", "b")
    assert fleet.checks.verified == STEPS + 1
    one, other = Maker("a", Party("", "h"), "v"), Maker("b", Party("", "g"), "v")
    planned = fleet.plan.at(STEPS)
    check = verification._Check(planned, None, 0.0, [verification.Copy(one, (b"1", b"2", b"3")),
                                                     verification.Copy(other, (b"1", b"2", b"4"))])
    assert not planned.training and fleet.checks._difference(check).startswith(
        "step 20 of epoch 1, in the evaluation, was made twice to verify it, and the batches differ in the array "
        "labels")


def test_a_malformed_second_batch_costs_its_sender_the_membership():
    fleet = Fleet()
    fleet.join("a", "10.0.0.1")
    fleet.join("b", "10.0.0.2")
    fleet.join("c", "10.0.0.3")
    fleet.answer("a")
    fleet.tick(0.3)
    name, lease = fleet.second()
    fleet.say(name.encode(), replace(batch(lease), arrays=batch(lease).arrays[:1]))
    assert name.encode() not in fleet.members() and not fleet.errors
    fleet.work("a", *{"b", "c"} - {name})
    assert fleet.checks.verified == STEPS


def test_a_second_batch_of_a_worker_that_has_no_lease_for_it_counts_for_nothing():
    fleet = Fleet()
    for name in "abc":
        fleet.join(name, "10.0.0.%d" % ord(name))
    fleet.answer("a")
    fleet.tick(0.3)
    name, lease = fleet.second()
    for other in {"a", "b", "c", "d"} - {name}:
        fleet.say(other.encode(), batch(lease, value=9))
    assert not fleet.errors and fleet.checks.verified == 0
    fleet.answer_second()
    assert fleet.checks.verified == 1


# --------------------------------------------------------------------------------------------- what becomes of leases

@pytest.mark.parametrize("end", ["lost", "failed", "unfit", "leaving", "hello", "silent", "returned"])
def test_a_lease_that_ends_goes_to_another_worker(end):
    fleet = Fleet(prefetch=2, lease_s=4.0)
    fleet.join("a", "10.0.0.1", capacity=1)
    fleet.answer("a")
    fleet.join("b", "10.0.0.2", capacity=1)
    lease, = fleet.open("b")
    assert fleet.again("b") == [0] == [lease.position]
    fleet.answered.add(lease.lease)
    if end == "lost":
        fleet.do(fleet.session.lost(b"b", fleet.now))
    elif end == "failed":
        fleet.say(b"b", Failed("5eed", lease.lease, 0, "no space left", ""))
    elif end == "unfit":
        fleet.say(b"b", Unfit("5eed", "no folder"))
    elif end == "leaving":
        fleet.say(b"b", Leaving("5eed", lease.lease, "asked to stop"))
    elif end == "hello":
        fleet.say(b"b", Hello("b", 1, VERSIONS, 1, ""))
    elif end == "returned":            # as one that serves several trainers does
        fleet.say(b"b", Returned("5eed", lease.lease))
    else:
        for _ in range(6):
            fleet.say(b"a", Alive("5eed"))
            fleet.tick(1.0)
    fleet.join("c", "10.0.0.3", capacity=2)
    fleet.tick(0.3)
    assert fleet.again("c") == [0] or end in ("failed", "hello", "returned") and 0 in fleet.again("b")
    fleet.work("c", "b")
    assert not fleet.errors and fleet.checks.verified >= 1


def test_a_worker_that_never_answers_costs_nothing_but_its_own_place():
    fleet = Fleet(prefetch=2)
    fleet.join("a", "10.0.0.1", capacity=1)
    fleet.answer("a")
    fleet.join("silent", "10.0.0.2", capacity=1)
    assert fleet.again("silent") == [0]
    for _ in range(int(PATIENCE_S)):
        fleet.say(b"a", Alive("5eed"))
        fleet.say(b"silent", Alive("5eed"))
        fleet.tick(1.1)
    fleet.join("c", "10.0.0.3", capacity=2)
    lease, = [lease for lease in fleet.open("c") if lease.position == 0]
    assert len(fleet.open("silent")) == 1
    fleet.answer("c", lease=lease)
    assert fleet.checks.verified == 1
    fleet.answer("silent", value=9)          # too late to be compared
    assert not fleet.errors


def test_memory_and_time_are_bounded(monkeypatch):
    fleet = Fleet(job=replace(JOB, batch_size=1))
    steps = fleet.plan.steps
    monkeypatch.setattr(verification, "MAX_CHECKS", steps - 5)
    fleet.join("a", "10.0.0.1")
    for _ in range(steps):
        fleet.answer("a")
    assert len(fleet.checks._checks) == steps - 5 and fleet.checks.left == 5
    for _ in range(int(MAX_AGE_S)):
        fleet.say(b"a", Alive("5eed"))
        fleet.tick(1.1)
    assert not fleet.checks._checks and fleet.checks.left == steps
    assert not fleet.checks.waits_for([b"a", b"b"], fleet.session._scheduler)


def test_an_absence_of_the_trainer_is_no_time():
    fleet = Fleet(prefetch=2)
    fleet.join("a", "10.0.0.1", capacity=1)
    fleet.answer("a")
    fleet.join("b", "10.0.0.2", capacity=1)
    fleet.tick(2 * MAX_AGE_S)
    fleet.join("c", "10.0.0.3", capacity=1)
    assert fleet.again("b") == [0] and fleet.again("c") == [] and fleet.checks.left == 0


def test_a_step_that_no_other_worker_can_make_is_given_up():
    fleet = Fleet(prefetch=2)
    fleet.join("a", "10.0.0.1", capacity=1)
    fleet.answer("a")
    fleet.join("b", "10.0.0.2", capacity=1)
    for _ in range(MAX_TRIES):
        lease = [lease for lease in fleet.open("b") if lease.position == 0][0]
        fleet.answered.add(lease.lease)
        fleet.say(b"b", Failed("5eed", lease.lease, 0, "no space left", ""))
        fleet.tick(0.3)
    assert 0 not in fleet.again("b") and not fleet.errors and not fleet.checks._checks[0].waits


def test_a_step_at_which_workers_died_is_not_compared():
    """Which samples kill depends on the host: on its memory, and how fast it is."""
    fleet = Fleet(prefetch=1)
    for name in "abc":
        fleet.join(name, "10.0.0.%d" % ord(name), capacity=1)
    for name in "ab":
        assert fleet.open(name)[0].position == 0
        fleet.do(fleet.session.lost(name.encode(), fleet.now))
    assert fleet.open("c")[0].isolated
    fleet.answer("c")
    fleet.join("d", "10.0.0.4", capacity=2)
    assert fleet.again("d") == [] and fleet.checks.left == 1


# -------------------------------------------------------------------------- members that want nothing to be compared

def distance(one, other):
    return Maker(*one, "v").distance(Maker(*other, "v"))


def test_who_may_vouch_for_whom():
    def of(name, key="", host=""):
        return name, Party(key, host)
    assert distance(of("a", "k", "h"), of("a", "k", "h")) == 0
    assert distance(of("a", "k", ""), of("a", "k", "h")) == 0            # of one that has gone
    ranks = [distance(of("a", "k", "h"), other) for other in (
        of("b", "k", "h"), of("b", "l", "h"), of("b", "k", "g"), of("b", "l", "g"))]
    assert ranks == sorted(set(ranks))
    # a liar takes the name of an honest worker: so that one is as good as another host of the liar's
    assert distance(of("a", "", "h"), of("a", "", "honest")) == distance(of("a", "", "h"), of("b", "", "second"))


def test_a_party_that_fails_all_second_batches_prevents_no_comparison():
    """It has many connections, is always the first to ask, and would else use up all tries."""
    fleet = Fleet(prefetch=2)
    fleet.join("a", "10.0.0.1", capacity=1)
    for number in range(8):
        fleet.join("liar%d" % number, "10.0.0.9", capacity=1)
    fleet.join("b", "10.0.0.2", capacity=1)

    def refuse():
        for number in range(8):
            name = "liar%d" % number
            for lease in fleet.open(name):
                fleet.answered.add(lease.lease)
                if lease.position in fleet.batches:
                    fleet.say(name.encode(), Failed("5eed", lease.lease, lease.position, "no", ""))
                else:
                    fleet.say(name.encode(), batch(lease, value=7))
        fleet.tick(0.3)
    for _ in range(60):
        for name in "ab":
            if fleet.open(name):
                fleet.answer(name)
        refuse()
    assert sorted(fleet.batches) == list(range(STEPS)) and not fleet.errors
    assert fleet.checks.verified == STEPS


def test_a_party_that_never_answers_is_asked_last_and_holds_only_half():
    fleet = Fleet(prefetch=2, job=replace(JOB, batch_size=1))
    fleet.join("a", "10.0.0.1", capacity=1)
    fleet.join("liar", "10.0.0.9", capacity=1000)
    fleet.answer("liar")
    fleet.join("b", "10.0.0.2", capacity=1)
    fleet.answer("a")
    assert fleet.again("liar")                    # and answers none of them
    while fleet.now < 100.0 + 2 * PATIENCE_S:
        for name in "ab":
            fleet.say(name.encode(), Alive("5eed"))
            if fleet.open(name):
                fleet.answer(name)
        fleet.say(b"liar", Alive("5eed"))
        fleet.tick(0.5)
        for lease in fleet.open("liar"):
            if lease.position not in fleet.batches:
                fleet.answer("liar", lease=lease)
    assert sorted(fleet.batches) == list(range(fleet.plan.positions)) and not fleet.errors
    assert fleet.checks._unreliable == {Party("", "10.0.0.9")}
    assert fleet.checks.verified == fleet.plan.positions


def test_a_party_holds_at_most_so_many(monkeypatch):
    monkeypatch.setattr(verification, "MAX_OF_PARTY", 3)
    fleet = Fleet(prefetch=16)
    fleet.join("a", "10.0.0.1", capacity=9)
    for _ in range(6):
        fleet.answer("a")
    fleet.join("liar", "10.0.0.9", capacity=1000)
    fleet.tick(0.3)
    assert len(fleet.again("liar")) == 3


def test_second_batches_take_the_room_of_the_window_at_most():
    """The quota of the socket has room for two batches for each step of it: beyond that, workers are cut off."""
    fleet = Fleet(prefetch=2)
    names = ["w%d" % number for number in range(8)]
    for number, name in enumerate(names):
        fleet.join(name, "10.0.0.%d" % number)
    for _ in range(STEPS):                        # all make first batches, and none a second one
        for name in names:
            for lease in fleet.open(name):
                if lease.position not in fleet.batches:
                    fleet.answer(name, lease=lease)
    assert sum(len(check.leases) for check in fleet.checks._checks.values()) == 2
    assert max(len(fleet.again(name)) for name in names) == 1      # one party has half of them


def test_a_worker_that_comes_does_not_cost_a_look_at_all_workers_for_each_step(monkeypatch):
    fleet = Fleet(prefetch=STEPS)
    for number in range(40):
        fleet.join("w%d" % number, "10.0.0.1")
    monkeypatch.setattr(Verification, "choose", lambda *arguments: None)
    for number in range(40):
        while fleet.open("w%d" % number):
            fleet.answer("w%d" % number)
    assert len(fleet.checks._checks) == fleet.plan.positions == STEPS and fleet.checks.is_busy
    compared = []
    distance = Maker.distance
    monkeypatch.setattr(Maker, "distance", lambda one, other: compared.append(one) or distance(one, other))
    fleet.join("new", "10.0.0.2")
    fleet.tick(0.3)
    assert len(compared) <= 3 * STEPS


def test_idle_workers_for_which_there_is_nothing_are_not_asked_at_each_message(monkeypatch):
    """A host of many processes, and a slow one that alone may make their second batches."""
    fleet = Fleet(prefetch=STEPS)
    names = ["w%d" % number for number in range(20)]
    for name in names:
        fleet.join(name, "10.0.0.1")
    fleet.join("slow", "10.0.0.2", capacity=1)
    for name in names:
        for lease in fleet.open(name):
            fleet.answer(name, lease=lease)
    assert sum(check.waits for check in fleet.checks._checks.values()) > STEPS // 2 and len(fleet.open("slow")) == 1
    asked = []
    chosen = Verification._chosen
    monkeypatch.setattr(Verification, "_chosen", lambda self, key, tables: asked.append(key) or chosen(
        self, key, tables))
    for _ in range(10):
        fleet.say(b"w3", Alive("5eed"))
    assert len(asked) <= len(names)
    fleet.answer("slow")
    assert fleet.again("slow")
