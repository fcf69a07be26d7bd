"""How long the patience with a peer lasts: pure, with time as an argument.

A connection that talks nonsense, or says Hello without end, is out: it is disconnected, and what is left of its words
is not read. Being out costs an honest worker one new connection, so there is no need to be lenient. All tables are
bounded, whoever knocks.
"""

from collections import Counter, OrderedDict
from typing import Any, Dict, List

MAX_MALFORMED = 10     # messages of one connection that are none; a worker that is no enemy sends not one
MAX_HELLOS = 60       # at once: what a trainer finds that was away for 15 s
HELLOS_A_SECOND = 8    # in the long run; a worker says 4
GRACE_S = 5.0          # after an absence, until all that was said meanwhile is read
MAX_PEERS = 5000      # remembered, more than there are connections; the one that was quiet longest is forgotten

#: Everything that is counted -> its words in the closing line, behind the number, and the warning about its first
#: time, with the peer's name; '' where nobody has to do anything.
KINDS = {
    "key": ("connections with an unknown key refused",
            "refused a worker at %s: its key is in none of the folders in workers/ of this trainer's --keys. Give it "
            "one that stoker-keys made there, and start this trainer again: keys are read at the start"),
    "handshake": ("handshakes failed",
                  "a handshake with %s failed: it has no keys, or others than this trainer (--keys on both sides, "
                  "folders of one stoker-keys run), or it is no worker"),
    "silent": ("connections closed before any handshake", ""),
    "memory": ("connections cut off for sending more than a worker can have to send",
               "cut off %s: it sent more than a worker can have to send. No Stoker worker does that"),
    "connections": ("connections cut off that were too many",
                    "cut off %s: there are as many connections as this trainer serves at once (see ulimit -n)"),
    "talker": ("connections cut off for nonsense",
               "cut off %%s: it sent %d messages of nonsense. Is it a Stoker worker?" % MAX_MALFORMED),
    "hellos": ("connections cut off for Hellos without end",
               "cut off %s: it said Hello without end. No Stoker worker does that"),
    "nonsense": ("messages of nonsense dropped", ""),
    "older": ("messages of older runs answered", ""),
}


class _Peer:
    def __init__(self, now: float) -> None:
        self.nonsense = 0
        self.hellos = float(MAX_HELLOS)   # that it may still say
        self.counted_s = now               # when that was so


class PeerLimits:
    """The patience with every peer of a run. ``counts``: of each kind of KINDS. Times in seconds."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = Counter()
        self._peers: "OrderedDict[Any, _Peer]" = OrderedDict()   # last heard of: at the end
        self._out: "OrderedDict[Any, None]" = OrderedDict()
        self._grace, self._grace_ends_s = 0.0, 0.0

    def is_out(self, key: Any) -> bool:
        """Nothing that it says is read any more."""
        return key in self._out

    def hello(self, key: Any, now: float) -> bool:
        """It said Hello. True: it is out from now on."""
        peer = self._peer(key, now)
        if peer.hellos < MAX_HELLOS:
            peer.hellos = min(float(MAX_HELLOS), peer.hellos + (now - peer.counted_s) * HELLOS_A_SECOND)
        peer.hellos -= 1
        peer.counted_s = now
        return peer.hellos < 0 and self._cast_out(key, "hellos")

    def suspended_for(self, seconds: float, now: float) -> None:
        """Nobody was heard for so long, which is nobody's fault: the Hellos of that time come all at once."""
        self._grace, self._grace_ends_s = seconds * HELLOS_A_SECOND, now + GRACE_S
        for peer in self._peers.values():
            peer.hellos += self._grace

    def nonsense(self, key: Any, now: float) -> bool:
        """It said something that is no message. True: it is out from now on."""
        self.counts["nonsense"] += 1
        peer = self._peer(key, now)
        peer.nonsense += 1
        return peer.nonsense >= MAX_MALFORMED and self._cast_out(key, "talker")

    def summary(self) -> str:
        """The counts that are not zero, as the closing line says them; '' if there are none."""
        said: List[str] = ["%d %s" % (self.counts[kind], KINDS[kind][0]) for kind in KINDS if self.counts[kind]]
        return ", ".join(said)

    def _peer(self, key: Any, now: float) -> _Peer:
        if key not in self._peers:
            self._peers[key] = peer = _Peer(now)
            peer.hellos += self._grace * (now < self._grace_ends_s)
            if len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(key)
        return self._peers[key]

    def _cast_out(self, key: Any, kind: str) -> bool:
        self.counts[kind] += 1
        del self._peers[key]
        self._out[key] = None
        if len(self._out) > MAX_PEERS:
            self._out.popitem(last=False)
        return True
