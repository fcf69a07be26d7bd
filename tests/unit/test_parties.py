"""The rules of tables.py and record.py: what the workers of one key on one host do is counted together, and costs no
other party anything. Workers are named 'key:host/number'."""

import re

import pytest

from stoker.pipeline.coordinator.effects import Grant
from stoker.pipeline.coordinator.party import Party, party_of
from stoker.pipeline.coordinator.record import ENOUGH_PLACES, MAX_PARTIES, MAX_WAIT_S
from stoker.pipeline.protocol.messages import Failed, Hello, Returned, Room, Skipped
from tests.unit.test_leases import LEASE_S, Fleet, aborts


HELLO = Hello("w", 1, "", 1, "")


class Parties(Fleet):
    """A fleet with keys and hosts."""

    def __init__(self, **options):
        super().__init__(party_of=lambda name: Party(*re.match("(.*):(.*)/", name).groups()), **options)

    def lease_of(self, worker, position=None):
        """The lease that it holds, of this position, as (lease, position)."""
        held = {lease: self.scheduler._leases[lease].position for lease in self.scheduler._workers[worker].leases}
        return next((lease, at) for lease, at in sorted(held.items()) if position in (None, at))

    def deliver(self, worker, position=None):
        return self.batch(worker, *self.lease_of(worker, position))

    def fails(self, worker, position=None):
        return self.fail(worker, *self.lease_of(worker, position))

    def held(self, worker):
        return len(self.scheduler._workers[worker].leases)

    def work(self, *workers):
        """Each delivers what it holds, and the consumer takes what is there."""
        for worker in workers:
            for lease, position in [(lease, self.scheduler._leases[lease].position)
                                    for lease in sorted(self.scheduler._workers[worker].leases)]:
                self.batch(worker, lease, position)
        while self.scheduler.head in self.scheduler._ready:
            self.take()

    def pace(self, *workers, others=(), seconds=1.0):
        """For so long, these workers deliver what they hold every 0.1 s; others only say Alive."""
        end_s = self.now + seconds
        while self.now < end_s:
            self.pass_time(0.1, alive=[*workers, *others])
            self.work(*workers)

    def record(self, name):
        return self.scheduler._records._records[Party(*re.match("(.*):(.*)/", name).groups())]


@pytest.fixture
def fleet():
    return Parties()


@pytest.mark.parametrize("one, other, same", [
    ("10.0.0.1", "10.0.0.2", False), ("10.0.0.1", "10.0.0.1", True), ("127.0.0.1", "127.8.9.1", True),
    ("127.0.0.1", "::1", True), ("::ffff:127.0.0.1", "::1", True), ("::ffff:10.0.0.1", "10.0.0.1", True),
    ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True), ("2001:db8::1", "2001:db8:0:1::1", False),
    ("fe80::1%eth0", "fe80::2%eth1", True), ("", "", True), ("", "10.0.0.1", False)])
def test_which_addresses_are_one_host(one, other, same):
    assert (party_of("alpha", one) == party_of("alpha", other)) == same
    assert party_of("alpha", one) != party_of("beta", one)


def test_a_party_without_key_or_address():
    assert party_of("", "") == Party()


# -------------------------------------------------------------------------------------------------------- failures

def test_failures_of_one_key_do_not_end_a_run_that_others_can_do(fleet):
    """Three workers of one key that fail after one good batch each."""
    evil = ["evil:x/%d" % number for number in range(3)]
    for worker in evil:
        fleet.hello(worker)
        fleet.deliver(worker)
    fleet.hello("good:y/0", 8)
    for worker in evil:
        position = fleet.lease_of(worker)[1]
        assert not aborts(fleet.fails(worker))
        assert any(at == position for _, at in fleet.scheduler._leases.items()) or position in [
            fleet.scheduler._leases[lease].position for lease in fleet.scheduler._workers["good:y/0"].leases]
    entry = fleet.scheduler._open
    assert all(one.failures <= 1 for one in entry.values())           # the other party is asked first


def test_a_step_that_fails_everywhere_ends_the_run_at_the_third_failure():
    """As fast as on one host: by any key that has failed, when all have."""
    for hosts in (["k:a/0", "k:b/0"], ["k:a/0", "other:b/0"], ["k:a/0", "k:a/1"]):
        fleet = Parties(prefetch=1)
        for worker in hosts:
            fleet.hello(worker)
        failures, ended = 0, []
        while not ended:
            holder = next(worker for worker in hosts if fleet.held(worker))
            ended = aborts(fleet.fails(holder))
            failures += 1
        assert failures == 3, hosts


@pytest.mark.parametrize("workers", [["a:x/0", "b:x/0", "c:x/0", "d:x/0"], ["k:a/0", "k:b/0", "k:c/0", "k:d/0"]],
                         ids=["keys", "hosts of one key"])
def test_three_of_different_keys_or_of_hosts_that_share_one_end_the_run_though_another_may_try(workers):
    fleet = Parties(prefetch=4)
    for worker in workers:
        fleet.hello(worker)
    for worker in workers:
        fleet.deliver(worker)
    while fleet.scheduler.head in fleet.scheduler._ready:
        fleet.take()
    position, failed = 4, []
    while True:
        holder, = [worker for worker in workers if fleet.held(worker) and fleet.lease_of(worker)[1] == position]
        failed.append(holder)
        if aborts(fleet.fails(holder, position)):
            break
        for other in workers:                      # all else is done, so that each has room
            if fleet.held(other) and fleet.lease_of(other)[1] != position:
                fleet.deliver(other)
    assert len(set(failed)) == len(failed) == 3


def test_hosts_of_one_key_do_not_add_up_where_there_are_other_keys():
    fleet, evil = Parties(prefetch=32), ["evil:%d/0" % number for number in range(8)]
    for worker in evil:
        fleet.hello(worker)
        fleet.deliver(worker)
    fleet.hello("good:y/0", 1)
    fleet.pass_time(0.3, alive=evil + ["good:y/0"])
    for _ in range(8):
        for worker in evil:
            if fleet.held(worker):
                assert not aborts(fleet.fails(worker))


def test_a_file_that_one_party_cannot_read_is_tried_by_another(fleet):
    fleet.hello("evil:x/0")
    fleet.hello("evil:x/1")
    fleet.hello("good:y/0")
    lease, position = fleet.lease_of("evil:x/0")
    fleet.say("evil:x/0", Failed("run", lease, position, "EIO", "", unreadable=(Skipped(5, "EIO"),)))
    fleet.deliver("evil:x/1")                     # it has room
    assert position not in [fleet.scheduler._leases[held].position
                            for held in fleet.scheduler._workers["evil:x/1"].leases]
    fleet.deliver("good:y/0")
    assert fleet.lease_of("good:y/0", position)


# ---------------------------------------------------------------------------------------------------------- deaths

def isolated(effects, position):
    return [one.isolated for one in effects if isinstance(one, Grant) and one.position == position]


def test_deaths_of_one_party_leave_the_step_to_others_and_isolate_nothing(fleet):
    """It hangs up on purpose, at any step."""
    fleet.hello("good:y/0")
    fleet.pass_time(0.1, alive=["good:y/0"])
    for number in range(3):
        worker = "evil:x/%d" % number
        fleet.hello(worker)
        fleet.lost(worker)
    granted = []
    for _ in range(4):
        granted += fleet.deliver("good:y/0")
    assert not any(one.isolated for one in granted if isinstance(one, Grant))


def test_deaths_of_two_parties_isolate_the_step():
    fleet = Parties(prefetch=1)
    for worker in ("a:x/0", "b:y/0"):
        fleet.hello(worker)
    assert isolated(fleet.lost("a:x/0"), 0) == [False]
    fleet.hello("a:x/1")
    assert isolated(fleet.lost("b:y/0"), 0) == [True]


def test_deaths_of_one_party_isolate_the_step_if_no_other_may_try():
    fleet = Parties(prefetch=1)
    fleet.hello("a:x/0")
    fleet.lost("a:x/0")
    assert isolated(fleet.hello("a:x/1"), 0) == [False]
    fleet.lost("a:x/1")
    assert isolated(fleet.hello("a:x/2"), 0) == [True]


def test_deaths_of_one_key_do_not_end_the_run():
    """Five times as many as would under isolated leases, while the other key has no room."""
    fleet = Parties(prefetch=2, max_deaths=2)
    fleet.hello("good:y/0")
    ended = []
    for number in range(30):
        worker = "evil:x/%d" % number
        fleet.hello(worker)
        fleet.pass_time(2 * LEASE_S, alive=[worker, "good:y/0"])       # so long that it may try again
        ended += aborts(fleet.lost(worker))
    assert max(entry.isolated_deaths for entry in fleet.scheduler._open.values()) >= 10 and not ended


# --------------------------------------------------------------------------------------------- leases that come late

def crowd(fleet, workers=40, capacity=4, key="evil", host="x"):
    """Members of one party that take all they get, and only say Alive."""
    names = ["%s:%s/%d" % (key, host, number) for number in range(workers)]
    for name in names:
        fleet.hello(name, capacity)
    return names


def test_a_party_that_lets_its_leases_go_late_loses_its_places_and_what_it_held_is_done_at_once():
    fleet = Parties(prefetch=8)
    good = ["good:y/0", "good:y/1"]
    for worker in good:
        fleet.hello(worker, 2)
    fleet.pace(*good)
    evil = crowd(fleet)
    for _ in range(3):
        fleet.work(*good)                          # as the window moves, the crowd takes all of it
    assert sum(map(fleet.held, evil)) == 8
    fleet.pass_time(1.0, alive=evil + good)
    assert [fleet.held(worker) for worker in good] == [2, 2]
    head = fleet.scheduler.head
    for _ in range(20):
        fleet.work(*good)
        fleet.pass_time(0.1, alive=evil + good)
    assert fleet.scheduler.head > head + 30        # the two do it all
    assert sum(map(fleet.held, evil)) <= 1
    assert fleet.record(evil[0]).places == 1


def test_each_trial_that_comes_to_nothing_doubles_the_wait_for_the_next():
    fleet = Parties(steps=100000, prefetch=8)
    fleet.hello("good:y/0", 2)
    fleet.pace("good:y/0")
    evil = crowd(fleet, 3, 1000)
    begun, seen = [], 0
    while fleet.now < 80.0:
        fleet.pace("good:y/0", others=evil, seconds=0.1)
        held = {lease for worker in evil for lease in fleet.scheduler._workers[worker].leases}
        if fleet.record(evil[0]).places == 1 and held and max(held) > seen:
            seen = max(held)
            begun.append(fleet.now)
    waits = [later - earlier for earlier, later in zip(begun, begun[1:])]
    assert all(later > 1.5 * earlier or later > 0.9 * MAX_WAIT_S for earlier, later in zip(waits, waits[2:])), waits
    assert waits[-1] > 10.0


def test_a_new_name_sheds_no_record_and_a_new_host_of_the_key_begins_with_one_place():
    fleet = Parties(prefetch=8)
    fleet.hello("good:y/0", 2)
    fleet.pace("good:y/0")
    evil = crowd(fleet, 10)
    fleet.pace("good:y/0", others=evil, seconds=2.0)
    for worker in evil:
        fleet.lost(worker)
    fresh = ["evil:x/new", "evil:z/0", "evil:z/1"]
    for worker in fresh:
        fleet.hello(worker, 4)
    fleet.pace("good:y/0", others=fresh, seconds=0.3)
    assert sorted(map(fleet.held, fresh)) == [0, 0, 1]
    fleet.hello("third:z/0", 4)                    # of another key, though on that host
    fleet.pace("good:y/0", others=fresh + ["third:z/0"], seconds=0.3)
    assert fleet.held("third:z/0") and fleet.record("third:z/0").places is None


def test_a_party_that_delivers_again_gets_its_places_back_one_with_each_batch():
    fleet = Parties(steps=10000, prefetch=200)
    good = "good:y/0"
    fleet.hello(good, 4)
    fleet.pace(good)
    host = crowd(fleet, 50, 4, "k", "h")
    fleet.pace(good, others=host, seconds=2.0)
    assert fleet.record(host[0]).places == 1
    for worker in host:                            # its file system hung: they are started again
        fleet.lost(worker)
        fleet.hello(worker, 4)
    held = []
    while fleet.record(host[0]).places is not None and fleet.now < 60.0:
        fleet.pass_time(0.2, alive=host + [good])
        held.append(sum(map(fleet.held, host)))
        assert fleet.record(host[0]).places is None or held[-1] <= max(fleet.record(host[0]).places, 1)
        fleet.work(good, *host)
    fleet.pass_time(0.2, alive=host + [good])
    assert fleet.now < 60.0 and sum(map(fleet.held, host)) > ENOUGH_PLACES, held


def test_a_host_with_a_worker_that_hangs_keeps_its_places():
    fleet = Parties(steps=10000, prefetch=32)
    good, host = ["good:y/0", "good:y/1"], ["k:h/%d" % number for number in range(8)]
    for worker in good + host:
        fleet.hello(worker, 2)
    for _ in range(100):
        fleet.pass_time(0.1, alive=good + host)
        fleet.work(*good, *host[1:])               # the first one never delivers
    assert fleet.record(host[0]).lapses == 0 and fleet.record(good[0]).lapses == 0
    assert [fleet.held(worker) for worker in host[1:]] == [2] * 7


def test_where_no_party_is_better_none_is_limited():
    fleet = Parties(prefetch=4)
    for worker in ("a:x/0", "b:y/0", "c:z/0"):
        fleet.hello(worker, 4)
    names = list(fleet.scheduler._workers)
    fleet.pass_time(30 * LEASE_S, alive=names)     # a file on which all hang
    assert all(worker.has_room is False or worker.waits for worker in fleet.scheduler._workers.values())
    for name in names:
        if fleet.held(name):
            fleet.deliver(name)
    assert len(fleet.scheduler._ready) >= 1


def test_one_party_alone_is_never_limited():
    fleet = Parties(prefetch=8)
    evil = crowd(fleet, 4)
    fleet.pass_time(10 * LEASE_S, alive=evil)
    assert not fleet.scheduler._records.is_limited(Party("evil", "x"))
    assert fleet.record(evil[0]).lapses == 0


def test_the_records_are_bounded():
    fleet = Parties()
    fleet.hello("good:y/0")
    for number in range(MAX_PARTIES + 100):
        fleet.scheduler.receive("k:%d/0" % number, HELLO, 0.0)
        fleet.scheduler.lost("k:%d/0" % number, 0.0)
    records = fleet.scheduler._records._records
    assert len(records) <= MAX_PARTIES and Party("good", "y") in records


def test_a_lease_that_a_worker_got_to_read_ahead_is_not_given_back_for_free():
    fleet = Parties(steps=100, prefetch=10)
    fleet.hello("k:h/0", 2)
    fleet.say("k:h/0", Room("run", 4))
    before = fleet.record("k:h/0").score
    fleet.say("k:h/0", Returned("run", fleet.lease_of("k:h/0")[0]))
    assert fleet.record("k:h/0").score < before
