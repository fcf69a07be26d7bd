"""Which slot a lease may write to: never one that another lease may yet write to, or in which a batch is; and how many
slots cost memory."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stoker.pipeline.coordinator.effects import Release, Unshare
from stoker.pipeline.coordinator.slots import EXTRA_BATCHES, LEASES, SPARE_SLOTS, Slots, slots_of
from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.protocol.messages import MAX_SLOTS, NO_SLOT, Alive, Failed, Produced, Ready, Returned
from tests.conftest import EFFORT

PREFETCH = 4


class Memory:
    """A SlotMemory in which the tests hold views."""

    def __init__(self):
        self.views = set()            # (peer, slot)

    def is_free(self, peer, slot):
        return (peer, slot) not in self.views

    def slot(self, peer, slot):
        return "memory of %s %d" % (peer, slot)


def produced(lease, slot=NO_SLOT, position=0):
    return Produced("r", lease, position, 1, (), 0.0, (), slot=slot)


def made(*peers, prefetch=PREFETCH):
    memory = Memory()
    slots = Slots(prefetch, memory)
    for peer in peers:
        assert slots.joined(peer, True) == []
    return slots, memory


def test_a_lease_gets_the_lowest_slot_that_is_free():
    slots, memory = made("a", "b")
    assert [slots.grant("a", lease, lease, 0) for lease in range(3)] == [(0, []), (1, []), (2, [])]
    assert slots.grant("b", 3, 3, 0) == (0, []) and slots.touched == 4
    assert slots.answer("a", produced(1, 1)) == produced(1, 1)
    memory.views.add(("a", 1))
    assert slots.grant("a", 4, 4, 2) == (3, [])           # the batch is in use
    memory.views.clear()
    assert slots.grant("a", 5, 5, 1) == (4, [])           # it waits for the consumer: its views are not counted
    assert slots.grant("a", 6, 6, 2) == (1, [])           # it is taken, and let go of
    assert slots.touched == 6 and slots.memory_of("a", produced(6, 1)) == "memory of a 1"


@pytest.mark.parametrize("answer", [produced(0), Failed("r", 0, 0, "error", ""), Returned("r", 0)])
def test_a_slot_that_was_not_used_is_free_at_once(answer):
    slots, _ = made("a")
    assert slots.grant("a", 0, 7, 0) == (0, [])
    assert slots.answer("a", answer) is answer
    assert slots.memory_of("a", produced(0)) is None
    assert slots.grant("a", 1, 7, 0) == (0, []) and slots.touched == 1


def test_a_lease_that_is_never_answered_keeps_its_slot():
    slots, _ = made("a")
    for lease in range(20):
        assert slots.grant("a", 2 * lease, lease, lease)[0] == (0 if not lease else 1)
        if lease:
            slots.answer("a", produced(2 * lease, 1))
    assert slots.answer("a", Alive("r")) == Alive("r")
    assert slots.answer("a", Returned("r", 0)) == Returned("r", 0)
    assert slots.grant("a", 41, 40, 40) == (0, [])


def test_a_batch_in_another_slot_than_the_leases_is_against_the_protocol():
    slots, _ = made("a")
    slots.joined("far", False)
    slots.grant("a", 0, 0, 0)
    assert slots.grant("far", 1, 1, 0) == (NO_SLOT, [])
    with pytest.raises(ProtocolError, match="in slot 1, and the lease has slot 0"):
        slots.answer("a", produced(0, 1))
    with pytest.raises(ProtocolError, match="in slot 0, and the lease has none"):
        slots.answer("far", produced(1, 0))


def test_what_is_said_of_an_older_segment_or_twice_counts_as_nothing():
    slots, memory = made("a")
    slots.grant("a", 0, 0, 0)
    slots.grant("a", 1, 1, 0)
    assert slots.answer("a", produced(0, 0)) == produced(0, 0)
    assert slots.answer("a", produced(0, 0)) == Returned("r", 0)
    assert slots.left("a") == [Unshare("a", frozenset([1]))] and slots.joined("a", True) == []      # a new segment
    assert slots.touched == 0
    assert slots.answer("a", produced(1, 1)) == Returned("r", 1)
    assert slots.answer("a", produced(1)) == produced(1)          # in frames, it counts
    assert slots.answer("stranger", produced(1, 0)) == Returned("r", 1)
    assert slots.grant("stranger", 2, 2, 0) == (NO_SLOT, [])
    assert slots.joined("a", False) == [Unshare("a")] and slots.left("a") == []
    assert slots.joined("a", True) == [] and slots.left("a") == [Unshare("a")]


def test_where_all_slots_are_used_a_batch_travels_in_frames():
    slots, memory = made("a")
    most = PREFETCH + EXTRA_BATCHES + LEASES
    for lease in range(most + 3):                    # a consumer that keeps each batch
        slot, effects = slots.grant("a", lease, lease, lease)
        assert (slot, effects) == (lease if lease < most else NO_SLOT, [])
        slots.answer("a", produced(lease, slot))
        memory.views.add(("a", slot))
    assert slots.touched == slots.most_touched == most and slots.in_frames == 3
    memory.views.remove(("a", 5))
    assert slots.grant("a", 99, 99, 99) == (5, [])


def test_at_the_bound_a_free_slot_of_another_worker_goes_back_to_the_system():
    slots, memory = made("a", "b", "c")
    most = slots.most_touched
    assert most == PREFETCH + EXTRA_BATCHES + 3 * LEASES
    for lease in range(most):
        slots.grant("a" if lease % 2 else "b", lease, lease, 0)
    for lease in range(most):
        slots.answer("a" if lease % 2 else "b", produced(lease, lease // 2))
    memory.views |= {("b", slot) for slot in range(most)} | {("a", slot) for slot in range(1, most // 2 - 1)}
    assert slots.grant("c", most, 50, 50) == (0, [Release("a", most // 2 - 1)])
    assert slots.touched == most
    assert slots.grant("c", most + 1, 50, 50) == (1, [Release("a", 0)])
    assert slots.grant("c", most + 2, 50, 50) == (NO_SLOT, [])
    assert slots.grant("a", most + 3, 50, 50) == (NO_SLOT, []) and slots.touched == most
    slots.left("b")                                 # with one worker less, all have less
    assert slots.touched == most - most // 2 and slots.most_touched == most - LEASES
    memory.views -= {("a", 1)}
    assert slots.grant("a", most + 4, 50, 50) == (1, [])


def test_reasons_and_sizes():
    assert "--no-shared-memory" in Slots(PREFETCH, None).reason(Ready("r", "@x"))
    slots, _ = made()
    assert slots.reason(Ready("r", "@x")) == "" and slots.reason(Ready("r", "", "it is old")) == "it is old"
    assert slots.reason(Ready("r")) == "it offers no memory"
    assert slots_of(32) == 32 + EXTRA_BATCHES + SPARE_SLOTS and slots_of(1 << 16) == MAX_SLOTS
    off = Slots(PREFETCH, None)
    assert off.joined("a", False) == [] and off.grant("a", 0, 0, 0) == (NO_SLOT, [])


class SlotMachine(RuleBasedStateMachine):
    """Workers that answer in any order, late, twice or never; that come, go, and begin again; and a consumer that keeps
    batches for as long as it likes."""

    def __init__(self):
        super().__init__()
        self.memory = Memory()
        self.slots = Slots(PREFETCH, self.memory)
        self.random = random.Random(0)
        self.members = {}              # peer -> it shares memory
        self.writers = {}              # lease -> (peer, slot), of the present segments: it may write there at any time
        self.old = {}                  # leases that were answered, or are of an older segment -> (peer, slot)
        self.lease = self.head = 0
        self.released = set()

    def dropped(self, peer):
        return [Unshare(peer, frozenset(slot for holder, slot in self.writers.values()
                                        if holder == peer and slot != NO_SLOT))]

    def forget(self, peer):
        for lease in [lease for lease, (holder, _) in self.writers.items() if holder == peer]:
            self.old[lease] = self.writers.pop(lease)
        self.memory.views = {view for view in self.memory.views if view[0] != peer}     # they are in the old segment

    @rule(peer=st.sampled_from("abcdefghijkl"), shares=st.sampled_from([True, True, True, False]))
    def joins(self, peer, shares):
        dropped = self.dropped(peer) if self.members.get(peer) else []
        if shares:
            assert self.slots.left(peer) == dropped
        assert self.slots.joined(peer, shares) == ([] if shares else dropped)
        self.forget(peer)
        self.members[peer] = shares

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leaves(self, data):
        peer = data.draw(st.sampled_from(sorted(self.members)))
        assert self.slots.left(peer) == self.dropped(peer) * self.members.pop(peer)
        self.forget(peer)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), times=st.integers(1, 4))
    def grants(self, data, times):
        peer = data.draw(st.sampled_from(sorted(self.members)))
        for _ in range(times):
            self.lease += 1
            slot, effects = self.slots.grant(peer, self.lease, self.head + self.lease % PREFETCH, self.head)
            in_use = set(self.writers.values()) | self.memory.views
            for effect in effects:
                assert isinstance(effect, Release) and (effect.peer, effect.slot) not in in_use
                assert self.members[effect.peer] and (effect.peer, effect.slot) != (peer, slot)
            assert slot == NO_SLOT or self.members[peer] and (peer, slot) not in in_use
            assert slot < slots_of(PREFETCH)
            self.writers[self.lease] = peer, slot

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), how=st.sampled_from(["slot", "slot", "slot", "frames", "failed", "returned"]),
          is_kept=st.booleans())
    def answers(self, data, how, is_kept):
        lease = data.draw(st.sampled_from(sorted(self.writers)))
        peer, slot = self.writers.pop(lease)
        self.old[lease] = peer, slot
        message = {"slot": produced(lease, slot), "frames": produced(lease), "returned": Returned("r", lease),
                   "failed": Failed("r", lease, 0, "error", "")}[how]
        assert self.slots.answer(peer, message) is message
        if how == "slot" and slot != NO_SLOT and is_kept:
            self.memory.views.add((peer, slot))

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def answers_late(self, data):
        lease = data.draw(st.sampled_from(sorted(self.old)))
        peer, slot = self.old[lease]
        answer = self.slots.answer(peer, produced(lease, slot))
        assert answer == (produced(lease) if slot == NO_SLOT else Returned("r", lease))

    @precondition(lambda self: self.memory.views)
    @rule(data=st.data())
    def drops_a_batch(self, data):
        self.memory.views.remove(data.draw(st.sampled_from(sorted(self.memory.views))))

    @rule(steps=st.integers(1, 3))
    def consumes(self, steps):
        self.head += steps

    @invariant()
    def the_bound_holds_and_the_count_is_right(self):
        tables = self.slots._tables
        used = [(peer, slot) for lease, (peer, slot) in self.writers.items() if slot != NO_SLOT]
        assert len(used) == len(set(used)) and not self.memory.views & set(used)
        touched = {peer: table.free + [slot for _, slot in table.lent] + [
            slot for slot, _ in table.leases.values() if slot != NO_SLOT] for peer, table in tables.items()}
        assert all(len(each) == len(set(each)) for each in touched.values())
        assert self.slots.touched == sum(map(len, touched.values()))
        sharing = sum(self.members.values())
        # the bound falls when a worker leaves, and then no more is touched until it holds again
        assert self.slots.touched <= PREFETCH + EXTRA_BATCHES + min(PREFETCH + EXTRA_BATCHES, LEASES * 12)
        assert self.slots.most_touched == PREFETCH + EXTRA_BATCHES + min(PREFETCH + EXTRA_BATCHES, LEASES * sharing)
        assert self.slots._holders.keys() <= tables.keys()
        assert {peer for peer, table in tables.items() if table.lent or table.free} <= self.slots._holders.keys()


TestSlotMachine = SlotMachine.TestCase
TestSlotMachine.settings = settings(max_examples=20 * EFFORT, stateful_step_count=50, deadline=None)
