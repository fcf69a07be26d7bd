"""Which connections the byte quota ends, with a kernel that reports what the test says."""

import pytest

from stoker.pipeline.transport.quota import CHECK_INTERVAL_S, EXTRA_SEGMENTS, HEADROOM_BYTES
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


class Harness:
    """A quota, its kernel, and a clock that advances with every check."""

    def __init__(self, max_connections=10):
        self.kernel = Kernel(max_connections)
        self.leases = {}                   # peer -> its leases
        self.quota = ByteQuota(Limits(BATCH, BATCH, STEPS), self.kernel, lambda peer: self.leases.get(peer, 0))
        self.now = 100.0

    def connect(self, fd, host=None):
        self.kernel.addresses[fd] = (host or "host-%d" % fd, 1000 + fd)
        self.kernel.counters[fd] = (0, 0)
        return self.quota.accepted(fd)

    def receive(self, fd, size, segments=0):
        """The kernel received so much more."""
        before = self.kernel.counters[fd]
        self.kernel.counters[fd] = before[0] + size, before[1] + segments

    def deliver(self, fd, size=0, frames=2):
        return self.quota.delivered(fd, b"peer-%d" % fd, frames, size)

    def join(self, fd, leases=0):
        """The connection is a worker's, with so many leases."""
        self.receive(fd, 1)
        self.deliver(fd)
        self.quota.admit(b"peer-%d" % fd)
        self.leases[b"peer-%d" % fd] = leases
        assert self.check() == []

    def check(self):
        """The hosts that were disconnected, sorted."""
        self.now += 10.0
        return sorted(self.quota.check(self.now))


def test_the_host_of_a_peer_is_known_while_its_connection_is_open():
    harness = Harness()
    assert harness.quota.host_of(b"peer-3") == ""
    harness.connect(3)
    harness.deliver(3)
    assert harness.quota.host_of(b"peer-3") == "host-3" and harness.quota.host_of(b"peer-4") == ""
    harness.quota.closed(3)
    assert harness.quota.host_of(b"peer-3") == ""


@pytest.fixture
def harness():
    return Harness()


@pytest.mark.parametrize("more, hosts", [(0, []), (1, ["host-3"])])
def test_a_stranger_may_have_one_batch_pending(harness, more, hosts):
    harness.connect(3)
    harness.receive(3, STRANGER + more)
    assert harness.check() == hosts
    assert harness.kernel.resets == [(3, ("host-3", 1003))] * len(hosts)


@pytest.mark.parametrize("leases", [0, 1, 2, 5])
@pytest.mark.parametrize("more, hosts", [(0, []), (1, ["host-3"])])
def test_a_member_may_have_a_batch_for_each_of_its_leases_pending(harness, leases, more, hosts):
    harness.connect(3)
    harness.join(3, leases)
    harness.receive(3, max(1, leases) * BATCH + HEADROOM_BYTES + more)
    assert harness.check() == hosts


def test_a_member_whose_leases_ended_may_have_no_more_pending_than_a_stranger(harness):
    harness.connect(3)
    harness.join(3, leases=2)
    harness.receive(3, 2 * BATCH + HEADROOM_BYTES)
    assert harness.check() == []
    harness.leases[b"peer-3"] = 1
    assert harness.check() == ["host-3"]


def test_delivered_messages_are_not_pending(harness):
    harness.connect(3)
    assert harness.quota.is_open(3)
    for _ in range(50):
        harness.receive(3, BATCH)
        assert harness.deliver(3, BATCH)
        assert harness.check() == []


def test_what_was_delivered_is_no_credit_for_later(harness):
    """A frame counts for more bytes than it took on the wire: a peer must not save up the difference."""
    harness.connect(3)
    for _ in range(100):
        harness.receive(3, 10)
        harness.deliver(3, 0, frames=200)
        assert harness.check() == []
    harness.receive(3, STRANGER + 1)
    assert harness.check() == ["host-3"]


def test_many_small_segments_without_a_message(harness):
    harness.connect(3)
    limit = STRANGER // MIN_SEGMENT_BYTES + EXTRA_SEGMENTS
    harness.receive(3, limit, segments=limit)
    assert harness.check() == []
    harness.receive(3, 1, segments=1)
    assert harness.check() == ["host-3"]


def test_small_segments_that_end_in_messages(harness):
    harness.connect(3)
    for _ in range(20):
        harness.receive(3, 1000, segments=1000)
        harness.deliver(3, 1000)
        assert harness.check() == []


TOTAL = 2 * STEPS * BATCH + TOTAL_HEADROOM_BYTES


def test_all_together_have_a_limit():
    harness = Harness(max_connections=1000)
    count = TOTAL // STRANGER
    for fd in range(count):
        harness.connect(fd)
        harness.receive(fd, STRANGER)
    assert harness.check() == []
    harness.connect(count)
    harness.receive(count, TOTAL - count * STRANGER + 1)
    assert len(harness.check()) == 1


def test_members_do_not_add_to_the_limit_of_all_together():
    """600 workers with an endless frame each, of which none has a lease: less than 3 GB."""
    harness = Harness(max_connections=1000)
    for fd in range(600):
        harness.connect(fd)
        harness.join(fd)
    for fd in range(600):
        harness.receive(fd, STRANGER)
    assert len(harness.check()) == 600 - TOTAL // STRANGER


def test_beyond_the_total_strangers_go_first_then_members_without_a_lease_those_with_most_first():
    harness = Harness(max_connections=1000)
    members, pending = 14, TOTAL // 14             # a limit that they reach together
    for fd in range(members):
        harness.connect(fd)
        harness.join(fd, 100 if fd < 12 else 0)
    for fd in range(members):
        harness.receive(fd, pending if fd < 12 else BATCH)
    harness.connect(50)
    harness.receive(50, BATCH)
    left = TOTAL - 12 * pending - 3 * BATCH
    assert left > BATCH and harness.check() == []
    harness.receive(5, left)
    assert harness.check() == []
    harness.receive(6, 1)
    assert harness.check() == ["host-50"]             # a stranger, though every member with leases has more
    harness.receive(6, BATCH)
    harness.receive(13, 1)
    assert harness.check() == ["host-13"]             # without a lease
    harness.receive(6, BATCH + 1)
    assert harness.check() == ["host-12"]
    harness.receive(6, BATCH)
    assert harness.check() == ["host-5"]


def test_beyond_the_total_those_that_only_shake_hands_are_left_alone():
    """To end them would free nothing, and they may be honest workers that have just come."""
    harness = Harness(max_connections=1000)
    for fd in range(TOTAL // STRANGER + 1):
        harness.connect(fd)
        harness.join(fd)
        harness.receive(fd, STRANGER)
    harness.connect(900)
    harness.receive(900, 100)                          # a stranger: it has not said Hello yet
    assert "host-900" not in harness.check() and harness.quota.is_open(900) and len(harness.kernel.resets) == 2


def test_bytes_of_a_connection_over_its_own_limit_do_not_count_in_the_total(harness):
    for fd in (3, 4):
        harness.connect(fd)
    harness.receive(3, TOTAL + 1)
    harness.receive(4, 1)
    assert harness.check() == ["host-3"]


def test_a_connection_that_was_cut_off_counts_no_more(harness):
    harness.connect(3)
    harness.deliver(3)
    harness.receive(3, 100 * BATCH)
    assert harness.check() == ["host-3"]
    assert not harness.deliver(3), "its messages must not be read"
    assert not harness.quota.is_open(3), "a new connection may have its descriptor by now"
    assert harness.check() == []
    assert len(harness.kernel.resets) == 1


def test_a_kernel_that_does_not_tell(harness):
    harness.connect(3)
    del harness.kernel.counters[3]
    assert harness.check() == []


def test_one_connection_too_many():
    harness = Harness(max_connections=3)
    assert [harness.connect(fd) for fd in (3, 4, 5)] == ["", "", ""]
    assert harness.kernel.resets == []
    assert harness.connect(6) == "host-6"
    assert harness.kernel.resets == [(6, ("host-6", 1006))]
    harness.quota.closed(6)
    harness.quota.closed(4)
    assert harness.connect(7) == ""


def test_one_host_alone_cannot_keep_all_others_out():
    """There are too many connections: one ends of the host that has most."""
    harness = Harness(max_connections=4)
    for fd in (3, 4, 5):
        harness.connect(fd, "crowd")
        harness.deliver(fd)
    harness.join(4, leases=1)
    harness.join(5)
    assert harness.connect(6, "one") == ""
    assert harness.connect(7, "one") == "crowd"
    assert [fd for fd, _ in harness.kernel.resets] == [3]             # a stranger; 4 and 5 are members
    assert harness.connect(8, "one") == "one"                          # it would have most
    assert [fd for fd, _ in harness.kernel.resets] == [3, 8]


def test_the_key_of_a_peer_is_known_while_its_connection_is_open(harness):
    harness.connect(3)
    assert not harness.quota.is_known(3, b"peer-3")
    harness.quota.delivered(3, b"peer-3", 1, 1, "alpha")
    assert harness.quota.is_known(3, b"peer-3") and not harness.quota.is_known(3, b"peer-4")
    harness.deliver(3)
    assert harness.quota.key_of(b"peer-3") == "alpha" and harness.quota.key_of(b"peer-4") == ""
    harness.quota.closed(3)
    assert harness.quota.key_of(b"peer-3") == ""


def test_a_connection_that_was_gone_when_it_was_accepted(harness):
    assert harness.quota.accepted(3) == "" and not harness.quota.is_open(3)
    assert harness.quota.closed(3) == "a host that was gone at once"
    assert harness.deliver(3), "its last message is read"


@pytest.mark.parametrize("heard, shut, host", [(False, False, "host-3"), (True, False, ""), (False, True, "")])
def test_a_connection_that_closed_before_it_sent_a_message_has_its_host_named(harness, heard, shut, host):
    harness.connect(3)
    if heard:
        harness.deliver(3)
    if shut:
        harness.receive(3, STRANGER + 1)
        harness.check()
    assert harness.quota.closed(3) == host
    assert not harness.quota.is_open(3)


def test_a_closed_connection_s_peer_is_forgotten(harness):
    harness.connect(3)
    harness.deliver(3)
    harness.quota.closed(3)
    harness.quota.shut(b"peer-3")
    harness.quota.admit(b"peer-3")
    assert harness.kernel.resets == []
    assert harness.quota._of_peer == {}, "one entry for every connection that ever was"


def test_a_peer_is_known_by_its_last_connection(harness):
    """The descriptor of a closed connection may get its next one before libzmq's event of the end is read."""
    harness.connect(3)
    assert harness.quota.delivered(3, b"old", 1, 1)
    assert harness.quota.delivered(3, b"new", 1, 1)
    harness.quota.shut(b"old")
    assert harness.kernel.resets == []
    harness.quota.shut(b"new")
    assert harness.kernel.resets == [(3, ("host-3", 1003))]
    harness.quota.shut(b"never")
    assert len(harness.kernel.resets) == 1


def test_a_descriptor_that_is_accepted_again_is_a_new_connection(harness):
    harness.connect(3)
    harness.deliver(3)
    harness.quota.admit(b"peer-3")
    harness.connect(3)
    harness.quota.shut(b"peer-3")
    assert harness.kernel.resets == []
    harness.receive(3, STRANGER + 1)
    assert harness.check() == ["host-3"]


def test_the_end_of_a_peer_s_old_connection_leaves_the_new_one_alone(harness):
    for fd in (3, 4):
        harness.connect(fd)
        harness.quota.delivered(fd, b"peer", 1, 1)
    harness.quota.closed(3)
    harness.quota.shut(b"peer")
    assert harness.kernel.resets == [(4, ("host-4", 1004))]


def test_when_the_next_check_is_due(harness):
    assert harness.quota.next_deadline() == float("inf")
    harness.connect(3)
    assert harness.quota.check(50.0) == []
    assert harness.quota.next_deadline() == 50.0 + CHECK_INTERVAL_S
    harness.receive(3, STRANGER + 1)
    assert harness.quota.check(50.0 + CHECK_INTERVAL_S / 2) == []
    assert harness.quota.check(50.0 + CHECK_INTERVAL_S) == ["host-3"]
