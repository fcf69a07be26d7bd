"""Which address of the trainer a worker tries next, and what it says when none leads there."""

import pytest

from stoker.pipeline.transport import route
from stoker.pipeline.transport.route import RESOLVE_INTERVAL_S, Route, endpoint, host_and_port, is_name, resolve

V4, V6 = "tcp://10.0.0.5:5555", "tcp://[fd00::5]:5555"


def resolved(hosts, problem="", now=100.0):
    way = Route("tcp://trainer:5555")
    assert way.endpoint is None and way.trouble() == "" and way.wants_resolution(now) == "trainer"
    way.resolved(hosts, problem)
    return way


@pytest.mark.parametrize("address, host, port, name", [
    ("tcp://trainer:5555", "trainer", "5555", True),
    ("tcp://localhost:5555", "localhost", "5555", True),
    ("tcp://10.0.0.5:5555", "10.0.0.5", "5555", False),
    ("tcp://[fd00::5]:5555", "fd00::5", "5555", False),
    ("tcp://[fe80::5%eth0]:5555", "fe80::5%eth0", "5555", False),
    ("tcp://*:*", "*", "*", False),
    ("tcp://eth1:0;10.0.0.5:5555", "eth1:0;10.0.0.5", "5555", False)])
def test_the_parts_of_an_address(address, host, port, name):
    assert host_and_port(address) == (host, port) and is_name(host) == name
    if not name and ";" not in address:
        assert endpoint(host, port) == address


def test_an_address_in_digits_is_not_resolved():
    way = Route(V4)
    for took_s in (0.0, 5.0):
        way.failed(took_s)
        assert way.wants_resolution(1e9) is None and way.endpoint == V4
    assert way.trouble() == "10.0.0.5:5555 does not answer"
    way.failed(0.0)
    assert way.trouble() == "10.0.0.5:5555 refuses connections"
    way.failed(0.0, "Network is unreachable")
    assert way.trouble() == "10.0.0.5:5555 cannot be reached (Network is unreachable)"
    way.connected()
    assert way.trouble() == ""


def test_a_name_without_an_address():
    way = resolved([], "Name or service not known")
    assert way.endpoint is None
    assert way.trouble() == "the name 'trainer' does not resolve (Name or service not known)"
    assert way.wants_resolution(100.0 + RESOLVE_INTERVAL_S / 2) is None
    assert way.wants_resolution(100.0 + RESOLVE_INTERVAL_S) == "trainer"
    assert way.wants_resolution(1e9) is None             # the answer is to come
    way.failed(0.0)                                      # of what? there is nothing
    way.resolved(["10.0.0.5"], "")                       # now the container is there
    assert way.endpoint == V4 and way.trouble() == ""


def test_a_name_with_an_address_of_ipv6_only():
    assert resolved(["fd00::5"]).endpoint == V6


def test_each_address_of_a_name_has_its_turn():
    way = resolved(["10.0.0.5", "fd00::5"])
    seen = []
    for took_s in (0.01, 5.0, 0.01):
        seen.append(way.endpoint)
        way.failed(took_s)
    assert seen == [V4, V6, V4]
    assert way.trouble() == ("the name 'trainer' is known: 10.0.0.5:5555 refuses connections, [fd00::5]:5555 does not "
                             "answer")


def test_a_name_is_resolved_again_while_its_addresses_fail():
    way = resolved(["10.0.0.5", "10.0.0.6"])
    assert way.wants_resolution(1e6) is None             # nothing failed
    way.failed(0.0)
    assert way.wants_resolution(200.0) == "trainer"
    way.resolved(["10.0.0.6", "10.0.0.5"], "")           # a name server turns them round
    assert way.endpoint == "tcp://10.0.0.6:5555" and "10.0.0.5:5555 refuses" in way.trouble()
    assert way.wants_resolution(300.0) == "trainer"
    way.resolved(["10.0.0.7"], "")                       # the container was started again
    assert way.endpoint == "tcp://10.0.0.7:5555" and way.trouble() == ""
    way.connected()
    assert way.wants_resolution(1e6) is None


def test_a_name_that_does_not_resolve_any_more():
    way = resolved(["10.0.0.5"])
    way.failed(0.0)
    assert way.wants_resolution(200.0)
    way.resolved([], "Temporary failure in name resolution")
    assert way.endpoint == V4
    assert way.trouble() == ("the name 'trainer' does not resolve (Temporary failure in name resolution); its former "
                             "address 10.0.0.5:5555 refuses connections")


def test_what_the_name_server_says(monkeypatch):
    def answers(host, *_):
        return [(None, None, 0, "", (one, 0)) for one in ("fd00::5", "10.0.0.5", "fd00::5", "10.0.0.4")]
    monkeypatch.setattr(route.socket, "getaddrinfo", answers)
    assert resolve("trainer") == (["10.0.0.5", "10.0.0.4", "fd00::5"], "")

    def fails(host, *_):
        raise route.socket.gaierror(-2, "Name or service not known")
    monkeypatch.setattr(route.socket, "getaddrinfo", fails)
    assert resolve("trainer") == ([], "Name or service not known")


def test_a_name_that_no_host_can_have():
    addresses, problem = resolve("a..b")
    assert addresses == [] and problem
