"""The patience with peers: who is cut off when, and who is not."""

from pipeline import peers
from pipeline.peers import HELLOS_A_SECOND, HELLOS_MOST, KINDS, NONSENSE_MOST, PEERS_MOST, Peers


def test_a_worker_that_seeks_may_say_hello_for_ever():
    made = Peers()
    assert not any(made.hello("a", number * 0.25) for number in range(100000))
    assert made.summary() == ""


def test_a_worker_may_be_heard_late():
    made = Peers()
    assert not made.hello("a", 0.0)
    assert not any(made.hello("a", 60.0) for _ in range(HELLOS_MOST))      # all that was said while nobody listened


def test_hello_without_end():
    made = Peers()
    said = [made.hello("a", 1.0) for _ in range(HELLOS_MOST + 1)]
    assert said == [False] * HELLOS_MOST + [True]
    assert made.is_out("a") and not made.is_out("b") and not made.hello("b", 1.0)
    assert made.summary() == "1 connections cut off for Hellos without end"


def test_patience_does_not_grow_beyond_its_measure():
    made = Peers()
    made.hello("a", 0.0)
    assert [made.hello("a", 1e6) for _ in range(HELLOS_MOST + 1)][-1]


def test_twice_as_often_as_allowed_is_too_often():
    made, number = Peers(), 0
    while not made.hello("a", number / (2 * HELLOS_A_SECOND)):
        number += 1
    assert HELLOS_MOST < number < 3 * HELLOS_MOST


def test_nonsense_is_counted_for_each_connection():
    made = Peers()
    for _ in range(NONSENSE_MOST - 1):
        assert not made.nonsense("a", 0.0) and not made.nonsense("b", 0.0)
    assert made.nonsense("a", 1e6)         # it is not forgotten
    assert made.is_out("a") and not made.is_out("b")
    assert made.summary() == ("1 connections cut off for nonsense, %d messages of nonsense dropped"
                              % (2 * NONSENSE_MOST - 1))


def test_the_tables_are_bounded_and_forget_the_quietest(monkeypatch):
    monkeypatch.setattr(peers, "PEERS_MOST", 10)
    made = Peers()
    for number in range(100):
        for _ in range(NONSENSE_MOST):
            made.nonsense(number, 0.0)
        made.hello("mine", 0.0 + number)
        made.nonsense("stranger %d" % number, 0.0)
    assert len(made._peers) <= 10 and len(made._out) == 10 and "mine" in made._peers
    assert made.is_out(99) and not made.is_out(0)
    assert PEERS_MOST > 4096


def test_every_kind_can_be_said():
    made = Peers()
    for kind in KINDS:
        made.counts[kind] += 2
    assert made.summary().count("2 ") == len(KINDS)
    assert all(advice == "" or "localhost" in advice % "localhost" for _, advice in KINDS.values())


def test_after_an_absence_the_hellos_of_that_time_are_no_flood():
    made = Peers()
    made.nonsense("known", 0.0)
    made.was_away(100.0, 100.0)
    for key in ("known", "new"):
        assert not any(made.hello(key, 100.0) for _ in range(400))     # four a second
    assert any(made.hello("later", 200.0) for _ in range(HELLOS_MOST + 1))
    assert any(made.hello("known", 200.0) for _ in range(1000))
