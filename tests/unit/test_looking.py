"""The benchmark of looking at a run: its statistics, its table, and how often its visitors ask."""

import json
import os
import threading
import time

import pytest

from benchmarks import looking, visitor
from benchmarks.looked_at import Times, thread_ids
from benchmarks.looking import Stretch, ratio_of
from benchmarks.unseen import consumer_us


@pytest.mark.parametrize("count, left_out", [(1, 0), (5, 0), (6, 0), (9, 1), (15, 3), (20, 5)])
def test_the_interval_leaves_out_as_many_as_the_signs_of_a_fair_coin_permit(count, left_out):
    found = ratio_of([float(number) for number in range(count)])
    assert found.median == (count - 1) / 2
    assert (found.least, found.most) == (left_out, count - 1 - left_out)


def stretch(images_s, run_cpu=2.0, status=0.0, others=0.0):
    return Stretch(images_s, run_cpu, {"stoker-status": status, "MainThread": 0.1}, 0.001, others)


def fours(looked_at, count=6):
    return [[stretch(1000.0), looked_at, looked_at, stretch(1000.0)]] * count


ANSWERS = {"/details.json": {"codes": {"200": 9}, "bytes": 9000, "slowest_s": 0.01}}


def goals(looked_at, answers=ANSWERS):
    made = looking.table(fours(looked_at), 2, 1.0, answers, "Prometheus", "photos", 2)
    return [goal.holds() for goal in made.goals]


def test_each_goal_can_be_missed_alone():
    assert goals(stretch(996.0, status=0.005)) == [True] * 4
    assert goals(stretch(994.0, run_cpu=1.99)) == [False, True, True, True]
    assert goals(stretch(1000.0, run_cpu=2.02)) == [True, False, True, True]
    assert goals(stretch(1000.0, status=0.02)) == [True, True, False, True]
    assert goals(stretch(1000.0), {"/x": {"codes": {"200": 9, "404": 1}, "bytes": 1, "slowest_s": 0.0}})[-1] is False


def test_a_disturbed_measurement_says_so():
    notes = looking.table(fours(stretch(1000.0, others=0.0)), 2, 1.0, ANSWERS, "", "", 2).notes
    assert not [note for note in notes if "DISTURBED" in note]
    busy = [[stretch(1000.0, others=0.5)] * 4]
    assert [note for note in looking.table(busy, 2, 1.0, ANSWERS, "", "", 2).notes if "DISTURBED" in note]


def test_a_status_address_that_is_not_looked_at_costs_the_consumer_little():
    """Not in microseconds of a clock: by what a batch costs it in any case."""
    without = min(consumer_us(None, 300) for _ in range(5))
    unseen = min(consumer_us("127.0.0.1:0", 300) for _ in range(5))
    assert unseen < 2 * without


def test_the_rate_is_that_between_the_first_and_the_last_batch(tmp_path):
    written = Times(str(tmp_path / "times"))
    for number in range(101):
        written.add(10 + number * 0.01)
    seen = Times(str(tmp_path / "times"))
    assert len(seen) == 101
    assert seen.rate(10.1949, 10.7051) == pytest.approx(100.0)
    assert seen.rate(0.0, 1.0) == 0.0


def test_a_thread_is_known_by_the_number_that_the_kernel_gives_it():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="one of mine")
    thread.start()
    try:
        found = thread_ids()
    finally:
        stop.set()
        thread.join()
    assert found["MainThread"] == os.getpid()
    assert found["one of mine"] not in (0, os.getpid())


def test_cpu_times_are_those_of_the_process_and_of_its_thread():
    pid = os.getpid()
    before = looking.process_cpu_s(pid), looking.thread_cpu_s(pid, thread_ids()["MainThread"])
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert looking.process_cpu_s(pid) >= before[0] + 0.05
    assert looking.thread_cpu_s(pid, thread_ids()["MainThread"]) > before[1]
    assert looking.process_cpu_s(2 ** 22 + 1) == 0.0 and looking.thread_cpu_s(pid, 2 ** 22 + 1) == 0.0


def test_a_visitor_asks_as_often_as_the_answers_say():
    body = b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"now_s": 3, "next_s": 9.5}).encode()
    assert visitor.following_s("/details.json", body, 1.0) == 9.5
    assert visitor.following_s("/details.json", b"", 1.0) == 1.0
    assert visitor.following_s("/batch.json", b'{"step": null}', 2.0) == visitor.WAITING_S
    assert visitor.following_s("/batch.json", b'{"step": 12}', 2.0) == 2.0
