"""PeerLimits: when a peer that breaks the protocol is banned: disconnected, and not read any more. Pure: time comes in.

A ban costs an honest worker one new connection, so the limits need not be lenient. All tables are bounded.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Dict

from stoker.pipeline.coordinator.effects import WorkerKey

MAX_MALFORMED = 10     # messages of one connection; an honest worker sends none
MAX_HELLOS = 60        # at once, with each further Ready and Unfit; far more than wait for a trainer that was absent
HELLOS_A_SECOND = 8    # in the long run; a worker sends 4 where it cannot connect
GRACE_S = 5.0          # after an absence of the trainer, until all that came, and all that broke, meanwhile is read
MAX_PEERS = 5000       # remembered, more than there are connections; the one that was quiet longest is forgotten

#: Everything that is counted -> its words at the end; the warning about the first case, '' if it needs none.
KINDS = {
    "key": ("connections with an unknown key refused",
            "refused a worker at %s: its key is in none of the folders in workers/ of this trainer's --keys. Give it "
            "one that stoker-keys made there, and start this trainer again: keys are read at the start"),
    "user": ("connections of other users of this host refused",
             "refused a connection of %s: without keys, only processes of this trainer's own user may be its workers. "
             "To let others in, make keys (stoker-keys DIR) and use them on both sides (--keys)"),
    "handshake": ("handshakes failed",
                  "a handshake with %s failed: it has no keys, or others than this trainer (--keys on both sides, "
                  "folders of one stoker-keys run), or it is no worker"),
    "silent": ("connections closed before any handshake", ""),
    "memory": ("connections cut off for sending more than a worker can have to send",
               "cut off %s: it sent more than a worker can have to send. No Stoker worker does that"),
    "connections": ("connections cut off because there were too many",
                    "cut off a connection of %s: there are as many as this trainer serves at once, 4096, or half of "
                    "ulimit -n if that is less. Raise ulimit -n, or give each trainer workers of its own"),
    "malformed": ("connections cut off for malformed messages",
                  "cut off %%s: it sent %d malformed messages. Is it a Stoker worker?" % MAX_MALFORMED),
    "hellos": ("connections cut off for too many Hellos (or Ready or Unfit)",
               "cut off %s: it sends Hello, Ready or Unfit too often. No Stoker worker does that"),
    "rooms": ("connections cut off for too many Rooms",
              "cut off %s: it says too often how many leases it may hold. No Stoker worker does that"),
    "dropped": ("malformed messages dropped", ""),
    "older": ("messages of older runs answered", ""),
}
TIMED_OUT = ("handshake", "silent")     # of KINDS, also the handshakes that an absent trainer did not finish in time


@dataclass
class _Peer:
    counted_s: float                    # when ``hellos`` was so
    hellos: float = float(MAX_HELLOS)   # that it may still send
    malformed: int = 0


class PeerLimits:
    """The limits of every peer of a run. ``counts``: of each kind of KINDS. Times in seconds."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = Counter()
        self._peers: "OrderedDict[WorkerKey, _Peer]" = OrderedDict()   # the last one heard is at the end
        self._banned: "OrderedDict[WorkerKey, None]" = OrderedDict()
        self._grace, self._grace_ends_s = 0.0, 0.0

    def is_banned(self, key: WorkerKey) -> bool:
        """No message of it is read any more."""
        return key in self._banned

    def hello(self, key: WorkerKey, now: float) -> bool:
        """It sent Hello, or Ready or Unfit again. True: it is banned from now on."""
        peer = self._peer(key, now)
        if peer.hellos < MAX_HELLOS:
            peer.hellos = min(float(MAX_HELLOS), peer.hellos + (now - peer.counted_s) * HELLOS_A_SECOND)
        peer.hellos -= 1
        peer.counted_s = now
        return peer.hellos < 0 and self.ban(key, "hellos")

    def malformed(self, key: WorkerKey, now: float) -> bool:
        """It sent a malformed message. True: it is banned from now on."""
        self.counts["dropped"] += 1
        peer = self._peer(key, now)
        peer.malformed += 1
        return peer.malformed >= MAX_MALFORMED and self.ban(key, "malformed")

    def suspended_for(self, gap_s: float, now: float) -> None:
        """The trainer was absent for so long: the Hellos of that time come all at once."""
        self._grace, self._grace_ends_s = gap_s * HELLOS_A_SECOND, now + GRACE_S
        for peer in self._peers.values():
            peer.hellos = min(MAX_HELLOS + self._grace, peer.hellos + self._grace)

    def is_grace(self, now: float) -> bool:
        """The trainer was absent until a moment ago."""
        return now < self._grace_ends_s

    def summary(self) -> str:
        """The counts that are not zero, for the count at the end; '' if there are none."""
        return ", ".join("%d %s" % (self.counts[kind], KINDS[kind][0]) for kind in KINDS if self.counts[kind])

    def _peer(self, key: WorkerKey, now: float) -> _Peer:
        if key not in self._peers:
            self._peers[key] = peer = _Peer(now)
            peer.hellos += self._grace * self.is_grace(now)
            if len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(key)
        return self._peers[key]

    def ban(self, key: WorkerKey, kind: str) -> bool:
        """No message of it is read any more, for a reason of KINDS. True."""
        self.counts[kind] += 1
        self._peers.pop(key, None)
        self._banned[key] = None
        if len(self._banned) > MAX_PEERS:
            self._banned.popitem(last=False)
        return True
