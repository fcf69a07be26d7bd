"""Which connections the byte quota ends, with a kernel that reports what the test says."""

import pytest

from stoker.pipeline.transport.quota import CHECK_INTERVAL_S, EXTRA_SEGMENTS, FRAME_OVERHEAD_BYTES, HEADROOM_BYTES
from stoker.pipeline.transport.quota import MIN_SEGMENT_BYTES, TOTAL_HEADROOM_BYTES, ByteQuota, Limits

BATCH = 1 << 20
STEPS = 4
STRANGER = BATCH + HEADROOM_BYTES              # the bytes that a stranger may have pending


class Kernel:
    """In place of ``TcpConnections``."""

    def __init__(self, max_connections):
        self.max_connections = max_connections
        self.addresses, self.counters, self.resets = {}, {}, []

    def address(self, fd):
        return self.addresses.get(fd)

    def received(self, fd):
        return self.counters.get(fd)

    def reset(self, fd, address):
        self.resets.append((fd, address))


class Side:
    """A quota, its kernel, and a clock that advances with every check."""

    def __init__(self, max_connections=10):
        self.kernel = Kernel(max_connections)
        self.quota = ByteQuota(Limits(BATCH, BATCH, STEPS), self.kernel)
        self.now = 100.0

    def connect(self, fd):
        self.kernel.addresses[fd] = ("host-%d" % fd, 1000 + fd)
        self.kernel.counters[fd] = (0, 0)
        return self.quota.accepted(fd)

    def receive(self, fd, size, segments=0):
        """The kernel received so much more."""
        before = self.kernel.counters[fd]
        self.kernel.counters[fd] = before[0] + size, before[1] + segments

    def deliver(self, fd, size=0, frames=2):
        return self.quota.delivered(fd, b"peer-%d" % fd, frames, size)

    def check(self):
        """The hosts that were disconnected, sorted."""
        self.now += 10.0
        return sorted(self.quota.check(self.now))


@pytest.fixture
def side():
    return Side()


@pytest.mark.parametrize("more, hosts", [(0, []), (1, ["host-3"])])
def test_a_stranger_may_have_one_batch_pending(side, more, hosts):
    side.connect(3)
    side.receive(3, STRANGER + more)
    assert side.check() == hosts
    assert side.kernel.resets == [(3, ("host-3", 1003))] * len(hosts)


@pytest.mark.parametrize("capacity, batches", [(1, 3), (2, 4), (STEPS, STEPS + 2), (1000, STEPS + 2)])
@pytest.mark.parametrize("more, hosts", [(0, []), (1, ["host-3"])])
def test_a_member_may_have_its_leases_and_two_more_batches_pending(side, capacity, batches, more, hosts):
    side.connect(3)
    side.receive(3, 4 * FRAME_OVERHEAD_BYTES)
    side.deliver(3, FRAME_OVERHEAD_BYTES)          # all that came
    side.quota.admit(b"peer-3", capacity)
    side.receive(3, batches * BATCH + HEADROOM_BYTES + more)
    assert side.check() == hosts


def test_delivered_messages_are_not_pending(side):
    side.connect(3)
    assert side.quota.is_open(3)
    for _ in range(50):
        side.receive(3, BATCH)
        assert side.deliver(3, BATCH)
        assert side.check() == []


def test_what_was_delivered_is_no_credit_for_later(side):
    """A frame counts for more bytes than it took on the wire: a peer must not save up the difference."""
    side.connect(3)
    for _ in range(100):
        side.receive(3, 10)
        side.deliver(3, 0, frames=200)
        assert side.check() == []
    side.receive(3, STRANGER + 1)
    assert side.check() == ["host-3"]


def test_many_small_segments_without_a_message(side):
    side.connect(3)
    limit = STRANGER // MIN_SEGMENT_BYTES + EXTRA_SEGMENTS
    side.receive(3, limit, segments=limit)
    assert side.check() == []
    side.receive(3, 1, segments=1)
    assert side.check() == ["host-3"]


def test_small_segments_that_end_in_messages(side):
    side.connect(3)
    for _ in range(20):
        side.receive(3, 1000, segments=1000)
        side.deliver(3, 1000)
        assert side.check() == []


def total_limit(members):
    return (2 * STEPS + members) * BATCH + TOTAL_HEADROOM_BYTES


def test_all_together_have_a_limit():
    side = Side(max_connections=1000)
    count = total_limit(0) // STRANGER
    for fd in range(count):
        side.connect(fd)
        side.receive(fd, STRANGER)
    assert side.check() == []
    side.connect(count)
    side.receive(count, total_limit(0) - count * STRANGER + 1)
    assert len(side.check()) == 1


def test_beyond_the_total_strangers_go_first_then_the_member_with_the_most():
    side = Side(max_connections=1000)
    members, pending = 14, 6 * BATCH               # each member may have 7
    for fd in range(members):
        side.connect(fd)
        side.receive(fd, 1)
        side.deliver(fd)
        side.quota.admit(b"peer-%d" % fd, 1000)
    assert side.check() == []
    for fd in range(members):
        side.receive(fd, pending)
    side.connect(50)
    side.receive(50, total_limit(members) - members * pending)
    assert side.check() == []
    side.receive(5, 1)
    assert side.check() == ["host-50"]             # a stranger, though every member has more
    side.receive(0, BATCH - 1)
    side.receive(2, BATCH)
    assert side.check() == []
    side.receive(1, BATCH - 1)
    assert side.check() == ["host-2"]


def test_bytes_of_a_connection_over_its_own_limit_do_not_count_in_the_total(side):
    for fd in (3, 4):
        side.connect(fd)
    side.receive(3, total_limit(0) + 1)
    side.receive(4, 1)
    assert side.check() == ["host-3"]


def test_a_connection_that_was_cut_off_counts_no_more(side):
    side.connect(3)
    side.deliver(3)
    side.receive(3, 100 * BATCH)
    assert side.check() == ["host-3"]
    assert not side.deliver(3), "its messages must not be read"
    assert not side.quota.is_open(3), "a new connection may have its descriptor by now"
    assert side.check() == []
    assert len(side.kernel.resets) == 1


def test_a_kernel_that_does_not_tell(side):
    side.connect(3)
    del side.kernel.counters[3]
    assert side.check() == []


def test_one_connection_too_many():
    side = Side(max_connections=3)
    assert [side.connect(fd) for fd in (3, 4, 5)] == ["", "", ""]
    assert side.kernel.resets == []
    assert side.connect(6) == "host-6"
    assert side.kernel.resets == [(6, ("host-6", 1006))]
    side.quota.closed(6)
    side.quota.closed(4)
    assert side.connect(7) == ""


def test_a_connection_that_was_gone_when_it_was_accepted(side):
    assert side.quota.accepted(3) == "" and not side.quota.is_open(3)
    assert side.quota.closed(3) == "a host that was gone at once"
    assert side.deliver(3), "its last message is read"


@pytest.mark.parametrize("heard, shut, host", [(False, False, "host-3"), (True, False, ""), (False, True, "")])
def test_a_connection_that_closed_before_it_sent_a_message_has_its_host_named(side, heard, shut, host):
    side.connect(3)
    if heard:
        side.deliver(3)
    if shut:
        side.receive(3, STRANGER + 1)
        side.check()
    assert side.quota.closed(3) == host
    assert not side.quota.is_open(3)


def test_a_closed_connection_s_peer_is_forgotten(side):
    side.connect(3)
    side.deliver(3)
    side.quota.closed(3)
    side.quota.shut(b"peer-3")
    side.quota.admit(b"peer-3", 2)
    assert side.kernel.resets == []
    assert side.quota._of_peer == {}, "one entry for every connection that ever was"


def test_a_peer_is_known_by_its_last_connection(side):
    """The descriptor of a closed connection may get its next one before libzmq's event of the end is read."""
    side.connect(3)
    assert side.quota.delivered(3, b"old", 1, 1)
    assert side.quota.delivered(3, b"new", 1, 1)
    side.quota.shut(b"old")
    assert side.kernel.resets == []
    side.quota.shut(b"new")
    assert side.kernel.resets == [(3, ("host-3", 1003))]
    side.quota.shut(b"never")
    assert len(side.kernel.resets) == 1


def test_a_descriptor_that_is_accepted_again_is_a_new_connection(side):
    side.connect(3)
    side.deliver(3)
    side.quota.admit(b"peer-3", 1000)
    side.connect(3)
    side.quota.shut(b"peer-3")
    assert side.kernel.resets == []
    side.receive(3, STRANGER + 1)
    assert side.check() == ["host-3"]


def test_the_end_of_a_peer_s_old_connection_leaves_the_new_one_alone(side):
    for fd in (3, 4):
        side.connect(fd)
        side.quota.delivered(fd, b"peer", 1, 1)
    side.quota.closed(3)
    side.quota.shut(b"peer")
    assert side.kernel.resets == [(4, ("host-4", 1004))]


def test_when_the_next_check_is_due(side):
    assert side.quota.next_deadline() == float("inf")
    side.connect(3)
    assert side.quota.check(50.0) == []
    assert side.quota.next_deadline() == 50.0 + CHECK_INTERVAL_S
    side.receive(3, STRANGER + 1)
    assert side.quota.check(50.0 + CHECK_INTERVAL_S / 2) == []
    assert side.quota.check(50.0 + CHECK_INTERVAL_S) == ["host-3"]
