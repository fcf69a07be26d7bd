"""Route: which numeric address of the trainer a worker tries next, and why none leads there. Pure: the caller resolves.

libzmq resolves a name to IPv4 or to IPv6, as one option says, takes the first address, and does not tell why it cannot
connect. But a name may have addresses of both kinds, the trainer listens at one of them, and tomorrow at another one (a
container's, after a restart). So each address has its turn, and meanwhile the name is resolved again.
"""

import ipaddress
import socket
from typing import Dict, List, Optional, Sequence, Tuple

RESOLVE_INTERVAL_S = 2.0    # between two questions to the name server, while no address leads to the trainer
REFUSED_WITHIN_S = 1.0      # an attempt that fails later was not refused: nothing answered


def host_and_port(address: str) -> Tuple[str, str]:
    """Of the valid address tcp://HOST:PORT; the host without the brackets of IPv6."""
    host, _, port = address[len("tcp://"):].rpartition(":")
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host, port


def is_name(host: str) -> bool:
    """Whether a host is to be resolved: it is no numeric address, nor one of libzmq's own forms."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host != "*" and ";" not in host
    return False


def endpoint(host: str, port: str) -> str:
    """tcp://HOST:PORT of a numeric address."""
    return "tcp://[%s]:%s" % (host, port) if ":" in host else "tcp://%s:%s" % (host, port)


def resolve(host: str) -> Tuple[List[str], str]:
    """(the numeric addresses of a name, those of IPv4 first; '' or why there are none). It may take many seconds."""
    try:
        found = [str(one[4][0]) for one in socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:        # UnicodeError: no name can look so
        return [], str(getattr(error, "strerror", None) or error)
    return sorted(set(found), key=lambda one: (":" in one, found.index(one))), ""


def unreachable(address: str) -> str:
    """Why this host cannot send anything to the endpoint: ''; or, for example, 'Network is unreachable'."""
    host, port = host_and_port(address)
    try:
        kind, _, _, _, target = socket.getaddrinfo(host, int(port), 0, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(target)                   # sends nothing
    except OSError as error:
        return str(error.strerror)
    return ""


class Route:
    """The way to ``address``, tcp://HOST:PORT. Times are in seconds."""

    def __init__(self, address: str) -> None:
        self._host, self._port = host_and_port(address)
        self._is_name = is_name(self._host)
        self._endpoints: List[str] = [] if self._is_name else [address]
        self._number = 0                     # of the endpoint whose turn it is
        self._failures: Dict[str, str] = {}  # by endpoint, since the last connection
        self._problem = ""                   # why the name does not resolve
        self._is_resolving, self._resolved_s = False, float("-inf")

    @property
    def endpoint(self) -> Optional[str]:
        """What to connect to now; None: the name was not resolved yet."""
        return self._endpoints[self._number] if self._endpoints else None

    def wants_resolution(self, now: float) -> Optional[str]:
        """The name to ``resolve`` now, or None; then tell ``resolved`` what came of it."""
        if (not self._is_name or self._is_resolving or now < self._resolved_s + RESOLVE_INTERVAL_S
                or self._endpoints and not self._failures):
            return None
        self._is_resolving, self._resolved_s = True, now
        return self._host

    def resolved(self, hosts: Sequence[str], problem: str) -> None:
        """The name has these numeric addresses, or none because of ``problem``: then the old ones are tried on."""
        self._is_resolving, self._problem = False, problem
        endpoints = [endpoint(host, self._port) for host in hosts]
        if endpoints and set(endpoints) != set(self._endpoints):
            self._endpoints, self._number = endpoints, 0
            self._failures = {}

    def failed(self, took_s: float, reason: str = "") -> None:
        """The endpoint could not be connected to for ``took_s``. ``reason``: if anything is known. The next one has its
        turn."""
        if self._endpoints:
            self._failures[self._endpoints[self._number]] = (
                "cannot be reached (%s)" % reason if reason else
                "refuses connections" if took_s < REFUSED_WITHIN_S else "does not answer")
            self._number = (self._number + 1) % len(self._endpoints)

    def connected(self) -> None:
        """The endpoint was connected to."""
        self._failures, self._problem = {}, ""

    def trouble(self) -> str:
        """What was tried since the last connection, and why it failed, in a clause; '' if nothing failed."""
        tried = ", ".join("%s %s" % (one[len("tcp://"):], self._failures[one])
                          for one in self._endpoints if one in self._failures)
        if not self._is_name:
            return tried
        if self._problem:
            return "the name %r does not resolve (%s)%s" % (self._host, self._problem,
                                                            tried and "; its former address " + tried)
        return tried and "the name %r is known: %s" % (self._host, tried)
