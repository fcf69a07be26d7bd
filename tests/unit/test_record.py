"""Which workers are one party, and what a party may do after it let leases go late."""

import pytest

from stoker.pipeline.coordinator.party import Party, party_of


@pytest.mark.parametrize("one, other, same", [
    ("10.0.0.1", "10.0.0.2", False), ("10.0.0.1", "10.0.0.1", True), ("127.0.0.1", "127.8.9.1", True),
    ("127.0.0.1", "::1", True), ("::ffff:127.0.0.1", "::1", True), ("::ffff:10.0.0.1", "10.0.0.1", True),
    ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True), ("2001:db8::1", "2001:db8:0:1::1", False),
    ("fe80::1%eth0", "fe80::2%eth1", True), ("", "", True), ("", "10.0.0.1", False)])
def test_which_addresses_are_one_host(one, other, same):
    assert (party_of("alpha", one) == party_of("alpha", other)) == same
    assert party_of("alpha", one) != party_of("beta", one)


def test_a_party_without_key_or_address():
    assert party_of("", "") == Party()
