"""What the trainers of a fleet want together."""

import json

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.workers.places import Need
from stoker.workers.status_client import split_status
from stoker.workers.trainers import ALL_ANSWERED_S, ANSWER_S, SETTLE_S, Answer, Trainers, parse, reachable

FIRST = Answer(3, "tcp://one:5555", False, "a step takes 20 ms", "ab12cd34")
SECOND = Answer(2, "tcp://two:5555", False, "", "ef56ab78")
HOLD_S = 300.0


def answer(**changes):
    fields = {"stoker": "0.1.0", "run": "ab12cd34", "connect": "tcp://one:5555", "step": 12, "steps": 400,
              "over": False, "workers": {"wanted": 3, "min": 1, "max": 8, "alive": 2, "ready": 2,
                                         "why": "a step takes 20 ms"}}
    fields.update(changes)
    return json.dumps(fields).encode()


def test_an_answer():
    assert parse(answer()) == FIRST
    assert parse(answer(workers={"wanted": 0}, over=True)) == Answer(0, "tcp://one:5555", True, "", "ab12cd34")


@pytest.mark.parametrize("text", [
    b"", b"\xff", b"[]", b"null", b'"x"', b"{}", b"[" * 100000, answer(workers=3), answer(workers={}),
    answer(workers={"wanted": -1}), answer(workers={"wanted": True}), answer(workers={"wanted": 1e5}),
    answer(workers={"wanted": 10**9}), answer(workers={"wanted": "3"}), answer(over=0), answer(over=None),
    answer(connect=7), answer(connect="tcp://one"), answer(connect="ipc://one"), answer(connect="tcp://a b:1"),
    answer(workers={"wanted": 3, "why": 7}), answer(run=7)])
def test_what_is_no_answer_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert len(str(caught.value)) < 400


def test_texts_of_the_network_are_printable_and_short():
    assert parse(answer(workers={"wanted": 1, "why": "\x1b[2J" + "a" * 5000})).why.startswith("\\x1b[2Ja")
    assert len(parse(answer(workers={"wanted": 1, "why": "a" * 5000})).why) == 300


@pytest.mark.parametrize("connect, status_host, reached", [
    ("tcp://one:5555", "one", "tcp://one:5555"), ("tcp://one:5555", "127.0.0.1", "tcp://one:5555"),
    ("tcp://127.0.0.1:5555", "127.0.0.1", "tcp://127.0.0.1:5555"),
    ("tcp://127.0.0.1:5555", "localhost", "tcp://127.0.0.1:5555"),
    ("tcp://127.0.0.1:5555", "one", "tcp://one:5555"), ("tcp://[::1]:5555", "10.0.0.7", "tcp://10.0.0.7:5555"),
    ("tcp://0.0.0.0:5555", "one", "tcp://one:5555"), ("tcp://0.0.0.0:5555", "127.0.0.1", "tcp://127.0.0.1:5555"),
    ("tcp://0.0.0.0:5555", "fd00::7", "tcp://[fd00::7]:5555")])
def test_where_workers_reach_a_trainer(connect, status_host, reached):
    assert reachable(connect, status_host) == reached


@pytest.mark.parametrize("address, parts", [
    ("trainer:8265", ("trainer", 8265)), ("http://127.0.0.1:8265/status.json", ("127.0.0.1", 8265)),
    ("[::1]:8265", ("::1", 8265)), ("http://trainer:80/", ("trainer", 80))])
def test_a_status_address(address, parts):
    assert split_status(address) == parts


@pytest.mark.parametrize("address", ["trainer", "trainer:0", "trainer:65536", ":8265", "https://trainer:8265",
                                     "trainer:8265/other", "a b:80", ""])
def test_what_is_no_status_address(address):
    with pytest.raises(ConfigError, match="--status must look like HOST:PORT"):
        split_status(address)


def test_a_host_that_no_name_server_can_know():
    with pytest.raises(ConfigError, match="is no name of a host"):
        split_status("a..b:8265")


def test_one_trainer():
    trainers = Trainers(["one:8265"], HOLD_S, 0.0)
    assert trainers.need(1.0) is None and trainers.check(1.0) == []
    assert trainers.answered(0, FIRST, 2.0) == []
    assert trainers.need(2.0) == Need(3, ("tcp://one:5555",), False, "a step takes 20 ms")


def test_wishes_are_added_up_once_all_have_answered():
    trainers = Trainers(["one:8265", "two:8265"], HOLD_S, 0.0)
    trainers.answered(0, FIRST, 1.0)
    assert trainers.need(1.0) is None
    trainers.answered(1, SECOND, 2.0)
    assert trainers.need(2.0) == Need(5, ("tcp://one:5555", "tcp://two:5555"), False, "")


def test_a_trainer_that_does_not_answer_holds_up_the_others_for_a_while_only():
    trainers = Trainers(["one:8265", "two:8265"], HOLD_S, 0.0)
    trainers.answered(0, FIRST, 1.0)
    assert trainers.need(1.0 + ALL_ANSWERED_S) == Need(3, ("tcp://one:5555",), False, "")


def test_the_last_wish_holds_while_a_trainer_is_away():
    trainers = Trainers(["one:8265"], HOLD_S, 0.0)
    trainers.answered(0, FIRST, 10.0)
    trainers.unanswered(0, "Connection refused")
    assert trainers.check(10.0 + ANSWER_S - 1) == []
    assert trainers.check(10.0 + ANSWER_S) == [
        "no answer from one:8265 for 5 s (Connection refused): its places stay for at most 300 s, until it is back"]
    assert trainers.check(10.0 + ANSWER_S + 1) == [] and trainers.need(100.0).wanted == 3
    assert trainers.answered(0, FIRST, 100.0) == ["one:8265 answers again"]
    trainers.unanswered(0, "Connection refused")
    with pytest.raises(ConfigError, match=r"no answer from one:8265 for 300 s \(limit: --hold-s 300\), last: Con"):
        trainers.check(100.0 + HOLD_S)


def test_a_trainer_that_was_started_again_keeps_its_places_until_it_has_figures():
    trainers = Trainers(["one:8265"], HOLD_S, 0.0)
    trainers.answered(0, FIRST, 0.0)
    trainers.answered(0, FIRST._replace(wanted=1, run="new"), 30.0)
    trainers.answered(0, FIRST._replace(wanted=1, run="new"), 31.0)
    assert trainers.need(31.0).wanted == 3
    trainers.answered(0, FIRST._replace(wanted=5, run="new"), 32.0)
    assert trainers.need(32.0).wanted == 5
    trainers.answered(0, FIRST._replace(wanted=2, run="new"), 30.0 + SETTLE_S)
    assert trainers.need(30.0 + SETTLE_S).wanted == 2


def test_a_trainer_that_never_answers_is_an_error():
    trainers = Trainers(["one:8265"], HOLD_S, 0.0)
    trainers.unanswered(0, "it answers 401 Unauthorized")
    assert "waiting for its trainer" in trainers.check(ANSWER_S)[0]
    with pytest.raises(ConfigError, match="for 300 s .*401"):
        trainers.check(HOLD_S)


def test_a_trainer_that_stays_away_wants_nothing_while_another_goes_on():
    trainers = Trainers(["one:8265", "two:8265"], HOLD_S, 0.0)
    trainers.answered(0, FIRST, 0.0)
    for now in (0.0, HOLD_S, 2 * HOLD_S):
        trainers.answered(1, SECOND, now)
        trainers.check(now)
    assert trainers.need(2 * HOLD_S) == Need(2, ("tcp://one:5555", "tcp://two:5555"), False, "")


def test_it_is_over_when_all_are_over():
    trainers = Trainers(["one:8265", "two:8265"], HOLD_S, 0.0)
    trainers.answered(0, FIRST._replace(wanted=0, over=True), 0.0)
    trainers.answered(1, SECOND, 0.0)
    assert trainers.need(0.0) == Need(2, ("tcp://one:5555", "tcp://two:5555"), False, "")
    trainers.answered(1, SECOND._replace(wanted=0, over=True), 1.0)
    assert trainers.need(1.0).over and trainers.check(1e6) == []


def test_a_run_that_is_over_keeps_no_trainer_waiting_that_is_lost():
    trainers = Trainers(["one:8265", "two:8265"], HOLD_S, 0.0)
    trainers.answered(0, FIRST._replace(over=True), 0.0)
    trainers.answered(1, SECOND, 0.0)
    with pytest.raises(ConfigError, match="no answer from one:8265, two:8265"):
        trainers.check(HOLD_S)


def test_addresses_of_the_command_line_count():
    trainers = Trainers(["one:8265"], HOLD_S, 0.0, ["tcp://gateway:7777"])
    trainers.answered(0, FIRST, 0.0)
    assert trainers.need(0.0).connect == ("tcp://gateway:7777",)
