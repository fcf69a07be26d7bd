"""The limits of peers: which are banned when, and which are not."""

from stoker.pipeline.coordinator import bans
from stoker.pipeline.coordinator.bans import HELLOS_A_SECOND, KINDS, MAX_HELLOS, MAX_MALFORMED, MAX_PEERS, PeerLimits


def test_a_worker_that_seeks_may_say_hello_for_ever():
    limits = PeerLimits()
    assert not any(limits.hello("a", number * 0.25) for number in range(100000))
    assert limits.summary() == ""


def test_a_worker_may_be_heard_late():
    limits = PeerLimits()
    assert not limits.hello("a", 0.0)
    assert not any(limits.hello("a", 60.0) for _ in range(MAX_HELLOS))     # all that it sent while the trainer was busy


def test_hello_without_end():
    limits = PeerLimits()
    banned = [limits.hello("a", 1.0) for _ in range(MAX_HELLOS + 1)]
    assert banned == [False] * MAX_HELLOS + [True]
    assert limits.is_banned("a") and not limits.is_banned("b") and not limits.hello("b", 1.0)
    assert limits.summary() == "1 connections cut off for too many Hellos (or Ready or Unfit)"


def test_unused_hellos_do_not_add_up():
    limits = PeerLimits()
    limits.hello("a", 0.0)
    banned = [limits.hello("a", 1e6) for _ in range(MAX_HELLOS + 1)]
    assert banned == [False] * MAX_HELLOS + [True]


def test_twice_as_often_as_allowed_is_too_often():
    limits, number = PeerLimits(), 0
    while not limits.hello("a", number / (2 * HELLOS_A_SECOND)):
        number += 1
    assert MAX_HELLOS < number < 3 * MAX_HELLOS


def test_malformed_messages_are_counted_for_each_connection():
    limits = PeerLimits()
    for _ in range(MAX_MALFORMED - 1):
        assert not limits.malformed("a", 0.0) and not limits.malformed("b", 0.0)
    assert limits.malformed("a", 1e6)         # they are not forgotten
    assert limits.is_banned("a") and not limits.is_banned("b")
    assert limits.summary() == ("1 connections cut off for malformed messages, %d malformed messages dropped"
                                % (2 * MAX_MALFORMED - 1))


def test_the_table_is_bounded_and_forgets_the_peer_that_was_quiet_longest(monkeypatch):
    monkeypatch.setattr(bans, "MAX_PEERS", 3)
    limits = PeerLimits()
    for peer in ("a", "b", "c"):
        for _ in range(MAX_MALFORMED - 1):
            limits.malformed(peer, 0.0)
    limits.hello("a", 1.0)                    # it came first, and is heard again
    limits.hello("d", 2.0)                    # one too many: b was quiet longest
    assert len(limits._peers) == 3
    assert limits.malformed("a", 3.0) and limits.malformed("c", 3.0)      # their counts were kept
    assert not limits.malformed("b", 3.0)


def test_the_table_of_bans_is_bounded(monkeypatch):
    monkeypatch.setattr(bans, "MAX_PEERS", 10)
    limits = PeerLimits()
    for number in range(100):
        for _ in range(MAX_MALFORMED):
            limits.malformed(number, 0.0)
    assert len(limits._banned) == 10 and limits.is_banned(99) and not limits.is_banned(0)
    assert MAX_PEERS > 4096                   # more than there are connections


def test_every_kind_can_be_said():
    limits = PeerLimits()
    for kind in KINDS:
        limits.counts[kind] += 2
    assert limits.summary().count("2 ") == len(KINDS)
    assert all(advice == "" or "localhost" in advice % "localhost" for _, advice in KINDS.values())


def test_after_an_absence_the_hellos_of_that_time_are_no_flood():
    limits = PeerLimits()
    limits.malformed("known", 0.0)
    limits.suspended_for(100.0, 100.0)
    for peer in ("known", "new"):
        assert not any(limits.hello(peer, 100.0) for _ in range(400))     # four a second
    assert any(limits.hello("later", 200.0) for _ in range(MAX_HELLOS + 1))      # the grace is over
    assert any(limits.hello("known", 200.0) for _ in range(1000))
