"""The chaos driver, for a short time and always with the same seed; ``CHAOS_S=600 SEED=7`` for another one. And that
it would notice."""

import collections
import copy
import os
import subprocess
import sys

import pytest

from tests.faults import chaos
from tests.support.network import Network, missing
from tests.support.processes import Program

SECONDS, SEED = float(os.environ.get("CHAOS_S") or 15), int(os.environ.get("SEED") or 7)


@pytest.fixture(scope="module")
def namespaces():
    """Skips where there can be none."""
    why = missing()
    if why:
        pytest.skip(why)


def test_a_training_under_chaos_consumes_what_an_undisturbed_one_does(namespaces):
    result = chaos.run(SECONDS, SEED)
    print(chaos.table(result))
    assert result["verdict"] == "passed"
    assert result["steps"] >= 10 * SECONDS / 15
    assert result["kills"] >= 330 * SECONDS / 600 and result["trainer restarts"] >= 22 * SECONDS / 600
    assert result["freezes"] >= 55 * SECONDS / 600 and result["network cuts"] >= 6 * SECONDS / 600


def test_the_schedule_is_a_pure_function_of_length_and_seed():
    counts = collections.Counter(fault.kind for fault in chaos.schedule(600, 7))
    assert counts == {kind: count for kind, (count, _, _) in chaos.FAULTS.items()}
    assert chaos.schedule(600, 7) == chaos.schedule(600, 7) != chaos.schedule(600, 8)
    assert {fault.kind for fault in chaos.schedule(15, 7)} == set(chaos.FAULTS) - {"cut line for long"}
    assert all(0 <= fault.at_s < 15 for fault in chaos.schedule(15, 7))


@pytest.mark.parametrize("field, value, told", [("step", 4, "line 3 of the audit is step 4"),
                                                ("epoch", 1, "step 3: epoch"), ("indices", [1, 0], "step 3: indices"),
                                                ("skipped", [0], "step 3: skipped"), ("crc32", 8, "step 3: crc32")])
def test_a_line_of_the_audit_that_differs_is_noticed(field, value, told):
    reference = [{"step": step, "epoch": 0, "indices": [0, 1], "skipped": [], "crc32": 7, "worker": "a"}
                 for step in range(5)]
    entries = copy.deepcopy(reference)
    for entry in entries:
        entry["worker"] = "b"                       # whoever did it
    assert chaos.compare(entries, reference) is None
    assert chaos.compare(entries[:4], reference) == "4 steps, undisturbed they are 5"
    entries[3][field] = value
    assert chaos.compare(entries, reference).startswith(told)


ECHO = """
import socket
listener = socket.socket()
listener.bind(("0.0.0.0", 5555))
listener.listen(5)
print("listens", flush=True)
while True:
    peer, (host, port) = listener.accept()
    peer.sendall(host.encode() + peer.recv(1))
    peer.close()
"""
ASK = """
import socket, sys, time
begun_s = time.monotonic()
peer = socket.create_connection((sys.argv[1], 5555), 3)
peer.sendall(b"!")
print(peer.recv(100).decode(), time.monotonic() - begun_s)
"""


def test_a_line_delays_breaks_and_mends(namespaces):
    def ask(host):
        done = subprocess.run(host.command([sys.executable, "-c", ASK, host.centre]), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True)
        if done.returncode != 0:
            return done.stderr.splitlines()[-1]
        answer, seconds = done.stdout.split()
        assert answer == host.address + "!"
        return float(seconds)
    with Network() as network:
        host = network.add_host()
        command = network.centre.command([sys.executable, "-c", ECHO])
        with Program(command[1:], command[0]) as echo:
            echo.wait_for_line("listens")
            assert network.centre.listening() == [5555]
            assert ask(host) > 0
            host.shape(delay_s=0.1)
            assert ask(host) >= 0.4                  # two round trips: to connect, and to ask
            host.shape()
            host.cut()
            assert not host.reachable and "timed out" in ask(host)
            host.mend()
            host.link_down()
            assert "unreachable" in ask(host)
            host.link_up()
            host.change_address()
            assert ask(host) > 0                     # and the answer holds the new address


def test_namespaces_are_gone_when_something_fails(namespaces):
    with pytest.raises(KeyError):
        with Network() as network:
            network.add_host()
            assert network.left()
            raise KeyError
    assert network.left() == []
