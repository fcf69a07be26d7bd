"""Threads that ask stores: in order, bounded, and never in the way of the process's end."""

import threading
from concurrent.futures import wait

import pytest

from stoker.pipeline.storage.threads import Threads


def test_results_come_in_order_and_errors_as_they_are():
    with Threads(3) as threads:
        assert list(threads.map(str, range(50))) == [str(each) for each in range(50)]
        assert threads.submit(divmod, 7, 3).result(10) == (2, 1)
        with pytest.raises(ValueError, match="no number"):
            list(threads.map(lambda text: int(text) if text != "x" else _no_number(), ["1", "x", "2"]))
        assert threads.submit(int, "4").result(10) == 4, "a thread outlives an error"


def _no_number():
    raise ValueError("no number")


def test_no_more_threads_than_asked_for_and_they_end():
    before, gate = set(threading.enumerate()), threading.Event()
    threads = Threads(2)
    futures = [threads.submit(gate.wait, 10) for _ in range(5)]
    ours = [thread for thread in threading.enumerate() if thread not in before and thread.name == "stoker-store"]
    assert len(ours) == 2 and all(thread.daemon for thread in ours), "Python does not wait for them when it ends"
    threads.close()
    gate.set()
    assert not wait(futures, 10).not_done
    assert sum(not future.cancelled() for future in futures) <= 2
    for thread in ours:
        thread.join(10)
        assert not thread.is_alive()
