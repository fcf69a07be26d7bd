"""The party of a worker: all workers with the same key on the same host. By it, failures, deaths and late leases count.

A connection is no such unit: a party opens as many as it likes, and under new names. Nor is a key: many hosts may share
it, and one of them may be broken.
"""

import ipaddress
from typing import NamedTuple

NETWORK_BITS = 64          # of an IPv6 address: a host has all addresses of its network


class Party(NamedTuple):
    """Where a worker belongs. Example: ``Party("alpha", "10.0.0.7")``."""
    key: str = ""          # the name of its key; '' without keys
    host: str = ""         # '' if it is not known


def party_of(key: str, address: str) -> Party:
    """The party of a connection. All addresses of loopback are one host, and so is a network of IPv6, in which a host
    has as many addresses as it likes."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Party(key, address)
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    if found.is_loopback:
        return Party(key, "loopback")
    if isinstance(found, ipaddress.IPv6Address):
        return Party(key, str(ipaddress.ip_network((int(found), NETWORK_BITS), strict=False)))
    return Party(key, str(found))
