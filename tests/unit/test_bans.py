"""The patience with peers: who is cut off when, and who is not."""

from stoker.pipeline.coordinator import bans
from stoker.pipeline.coordinator.bans import HELLOS_A_SECOND, MAX_HELLOS, KINDS, MAX_MALFORMED, MAX_PEERS, PeerLimits


def test_a_worker_that_seeks_may_say_hello_for_ever():
    made = PeerLimits()
    assert not any(made.hello("a", number * 0.25) for number in range(100000))
    assert made.summary() == ""


def test_a_worker_may_be_heard_late():
    made = PeerLimits()
    assert not made.hello("a", 0.0)
    assert not any(made.hello("a", 60.0) for _ in range(MAX_HELLOS))      # all that was said while nobody listened


def test_hello_without_end():
    made = PeerLimits()
    said = [made.hello("a", 1.0) for _ in range(MAX_HELLOS + 1)]
    assert said == [False] * MAX_HELLOS + [True]
    assert made.is_out("a") and not made.is_out("b") and not made.hello("b", 1.0)
    assert made.summary() == "1 connections cut off for Hellos without end"


def test_patience_does_not_grow_beyond_its_measure():
    made = PeerLimits()
    made.hello("a", 0.0)
    assert [made.hello("a", 1e6) for _ in range(MAX_HELLOS + 1)][-1]


def test_twice_as_often_as_allowed_is_too_often():
    made, number = PeerLimits(), 0
    while not made.hello("a", number / (2 * HELLOS_A_SECOND)):
        number += 1
    assert MAX_HELLOS < number < 3 * MAX_HELLOS


def test_nonsense_is_counted_for_each_connection():
    made = PeerLimits()
    for _ in range(MAX_MALFORMED - 1):
        assert not made.nonsense("a", 0.0) and not made.nonsense("b", 0.0)
    assert made.nonsense("a", 1e6)         # it is not forgotten
    assert made.is_out("a") and not made.is_out("b")
    assert made.summary() == ("1 connections cut off for nonsense, %d messages of nonsense dropped"
                              % (2 * MAX_MALFORMED - 1))


def test_the_tables_are_bounded_and_forget_the_quietest(monkeypatch):
    monkeypatch.setattr(bans, "MAX_PEERS", 10)
    made = PeerLimits()
    for number in range(100):
        for _ in range(MAX_MALFORMED):
            made.nonsense(number, 0.0)
        made.hello("mine", 0.0 + number)
        made.nonsense("stranger %d" % number, 0.0)
    assert len(made._peers) <= 10 and len(made._out) == 10 and "mine" in made._peers
    assert made.is_out(99) and not made.is_out(0)
    assert MAX_PEERS > 4096


def test_every_kind_can_be_said():
    made = PeerLimits()
    for kind in KINDS:
        made.counts[kind] += 2
    assert made.summary().count("2 ") == len(KINDS)
    assert all(advice == "" or "localhost" in advice % "localhost" for _, advice in KINDS.values())


def test_after_an_absence_the_hellos_of_that_time_are_no_flood():
    made = PeerLimits()
    made.nonsense("known", 0.0)
    made.suspended_for(100.0, 100.0)
    for key in ("known", "new"):
        assert not any(made.hello(key, 100.0) for _ in range(400))     # four a second
    assert any(made.hello("later", 200.0) for _ in range(MAX_HELLOS + 1))
    assert any(made.hello("known", 200.0) for _ in range(1000))
