"""When a store is asked again: on a clock of the test, with its own randomness."""

import functools
import random
import socket

import pytest

from stoker.pipeline.storage import retrying
from stoker.pipeline.storage.retries import (
    FIRST_PAUSE_S, MAX_PAUSE_S, MAX_WRONG, NOTE_INTERVAL_S, RETRY_S, UNKNOWN_HOST_S, TryAgain, carried_out,
    is_unknown_host, pause_s, seldom)
from stoker.pipeline.storage.retrying import RetryingStore
from stoker.pipeline.storage.store import Damaged, Gone, Unavailable, Version


class Clock:
    """The time, which passes in sleep, and by ``try_s`` in each try; the store is away until ``until_s``."""

    def __init__(self, until_s, try_s=0.01, error=None):
        self.now, self.tries, self.slept, self.notes = 100.0, 0, [], []
        self._until, self._try_s, self._error = 100.0 + until_s, try_s, error or TryAgain("503 Slow Down")

    def ask(self):
        self.now += self._try_s
        self.tries += 1
        if self.now < self._until:
            raise self._error
        return b"bytes"

    def sleep(self, duration_s):
        self.slept.append(duration_s)
        self.now += duration_s

    def run(self, **settings):
        return carried_out(self.ask, lambda: "reading s3://b/a", self.notes.append, draw=random.Random(1).random,
                           clock=lambda: self.now, sleep=self.sleep, **settings)


def test_a_store_that_answers_is_asked_once():
    clock = Clock(0)
    assert clock.run() == b"bytes"
    assert clock.tries == 1 and not clock.slept and not clock.notes


def test_a_store_that_is_away_for_30_s_costs_30_s():
    clock = Clock(30)
    assert clock.run() == b"bytes"
    assert 130 <= clock.now <= 130 + MAX_PAUSE_S + 0.02
    assert clock.notes == ["reading s3://b/a gives nothing yet (503 Slow Down): it is tried again for 60 s"]
    assert all(0 <= pause <= MAX_PAUSE_S for pause in clock.slept)
    assert len(set(clock.slept)) == len(clock.slept), "jitter"


def test_a_short_absence_is_no_news():
    clock = Clock(0.3)
    assert clock.run() == b"bytes" and clock.notes == []


def test_after_the_limit_it_is_given_up_with_a_sentence():
    clock = Clock(10000)
    with pytest.raises(Unavailable) as caught:
        clock.run()
    assert RETRY_S <= clock.now - 100 <= RETRY_S + 1
    assert "reading s3://b/a gave nothing in" in str(caught.value) and "503 Slow Down" in str(caught.value)
    assert isinstance(caught.value, OSError), "so the step fails and is tried elsewhere"


def test_an_unknown_name_is_given_up_sooner():
    clock = Clock(10000, error=TryAgain("Name or service not known", is_unknown_host=True))
    with pytest.raises(Unavailable) as caught:
        clock.run()
    assert UNKNOWN_HOST_S <= clock.now - 100 <= UNKNOWN_HOST_S + 1 and clock.tries > 3
    assert "it is tried again for 10 s" in clock.notes[0]
    assert str(caught.value).endswith("is the server's name right, and does this host's DNS know it?")


class OneFile:
    """A client; its only file is read as ``clock`` says."""

    def __init__(self, clock, root):
        self.root, self._clock = root, clock

    def read(self, path, offset, length, max_bytes):
        return self._clock.ask(), Version(5, "")


@pytest.mark.parametrize("answered, finds_names, limit_s", [
    (False, True, UNKNOWN_HOST_S), (True, True, RETRY_S), (False, False, RETRY_S)])
def test_a_server_whose_name_was_right_may_be_without_one_for_a_while(monkeypatch, answered, finds_names, limit_s):
    """A container that starts again is unknown to the DNS of Docker meanwhile. A worker asks after the trainer did."""
    clock = Clock(10000, error=TryAgain("Name or service not known", is_unknown_host=True))
    monkeypatch.setattr(retrying, "finds_names", finds_names)
    monkeypatch.setattr(retrying, "_have_answered", set())
    monkeypatch.setattr(retrying, "carried_out", functools.partial(carried_out, clock=lambda: clock.now,
                                                                   sleep=clock.sleep))
    if answered:
        assert RetryingStore(OneFile(Clock(0), "http://minio:9000/photos")).read("a")[0] == b"bytes"
    with pytest.raises(Unavailable):
        RetryingStore(OneFile(clock, "http://minio:9000/photos")).read("a")
    assert limit_s <= clock.now - 100 <= limit_s + 1


def test_a_name_that_is_unknown_now_and_then_is_a_bad_moment_of_dns():
    clock = Clock(40)

    def ask():
        if clock.tries % 2:
            clock.tries += 1
            raise TryAgain("Name or service not known", is_unknown_host=True)
        return clock.ask()
    assert carried_out(ask, lambda: "reading s3://b/a", None, draw=random.Random(1).random, clock=lambda: clock.now,
                       sleep=clock.sleep) == b"bytes"


@pytest.mark.parametrize("number, is_unknown", [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)])
def test_an_unknown_name_is_seen_below_the_errors_of_clients(number, is_unknown):
    try:
        try:
            raise socket.gaierror(number, "of the resolver")
        except OSError as error:
            raise ValueError("cannot connect") from error
    except ValueError:
        try:
            raise KeyError("while it is handled")
        except KeyError as error:
            assert is_unknown_host(error) is is_unknown
    assert not is_unknown_host(ConnectionRefusedError())


def test_the_servers_own_wish_is_obeyed_up_to_the_limit():
    clock = Clock(20, error=TryAgain("429 Too Many Requests", asked_s=7))
    assert clock.run() == b"bytes" and clock.slept == [7, 7, 7]
    clock = Clock(1000, error=TryAgain("429 Too Many Requests", asked_s=3600))
    with pytest.raises(Unavailable):
        clock.run()
    assert clock.tries == 2 and clock.now - 100 < RETRY_S + 1


def test_wrong_answers_are_given_up_sooner():
    clock = Clock(1000, error=TryAgain("206 with Content-Range: nothing", is_wrong=True))
    with pytest.raises(Damaged):
        clock.run()
    assert clock.tries == MAX_WRONG


def test_what_no_other_try_helps_is_raised_at_once():
    clock = Clock(1000, error=Gone("it is not there"))
    with pytest.raises(Gone):
        clock.run()
    assert clock.tries == 1


def test_the_pauses_grow_and_are_random():
    assert [pause_s(n, 0, None, lambda: 1.0) for n in (1, 2, 3, 6, 1000)] == [
        FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S]
    assert pause_s(5, 0, None, lambda: 0.0) == 0
    assert pause_s(9, 59.5, None, lambda: 1.0) == 0.5, "one try at the end of the time"
    assert pause_s(9, 60, None, lambda: 1.0) is None


def test_of_many_calls_that_wait_one_says_so_in_a_while():
    notes, seconds = [], [5.0]
    say = seldom(notes.append, lambda: seconds[0])
    for path in "abc":
        say("reading " + path)
    assert notes == ["reading a"]
    seconds[0] += NOTE_INTERVAL_S
    say("reading d")
    assert notes == ["reading a", "reading d"]
