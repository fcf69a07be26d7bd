"""Members of a simulated run that do harm: sessions that the simulation runs in place of a worker's.

``KINDS``: what each does with its leases, once it is a member. They say Alive all the while.
"""

from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Lease, Leaving, Produced, Ready, Returned, Revoked
from stoker.pipeline.protocol.messages import Timings, Unfit, Welcome
from stoker.workers.effects import Say

HEARTBEAT_S = 0.5
SOON_S = 0.2               # longer than the usual step, and not yet late

IDLE, FAILS, RETURNS, HANGS_UP, LEAVES, UNFIT = KINDS = (
    "only says Alive", "fails after one good batch", "returns what is revoked", "hangs up and comes under a new name",
    "gives back after a while and comes again", "says Unfit, then Ready")


class Hostile:
    """In place of a WorkerSession. ``again()``: the connection breaks, and it comes back as a new one."""

    def __init__(self, kind, sim, again, capacity=4):
        self.kind, self._sim, self._again, self._capacity = kind, sim, again, capacity
        self._run = self._job = None
        self._has_delivered = False
        self._leases = {}                # lease -> when it came
        self._next_s = 0.0

    def connected(self):
        """There is a new connection."""
        self._run = None
        self._leases.clear()

    def disconnected(self, now):
        """There is none."""
        return []

    def next_deadline(self):
        """When ``tick`` wants to be called."""
        return self._next_s

    def tick(self, now):
        """Time has passed."""
        if now < self._next_s:
            return []
        self._next_s = now + (0.05 if self.kind == LEAVES else HEARTBEAT_S)
        if self._run is None:
            return [Say(Hello("hostile", 1, "none", self._capacity, ""))]
        if self.kind == LEAVES and self._leases and now - min(self._leases.values()) > SOON_S:
            self._sim.after(0.05, self._again)
            return [Say(Leaving(self._run, -1, "tired"))]
        return [Say(Alive(self._run))]

    def receive(self, message, now):
        """The trainer said something."""
        if isinstance(message, Welcome):
            self._run, self._job = message.run, message.job
            return [Say(Ready(self._run))]
        if isinstance(message, Revoked):
            self._leases.pop(message.lease, None)
            return [Say(Returned(self._run, message.lease))] * (self.kind == RETURNS)
        if not isinstance(message, Lease):
            return []
        self._leases[message.lease] = now
        if self.kind == HANGS_UP:
            self._sim.after(0.0, self._again)
        elif self.kind == UNFIT:
            self._leases.clear()
            return [Say(Unfit(self._run, "no folder")), Say(Ready(self._run))]
        elif self.kind == FAILS and not self._has_delivered:
            self._has_delivered = True
            return [Say(self._batch(message))]
        elif self.kind == FAILS:
            return [Say(Failed(self._run, message.lease, message.position, "ValueError: on purpose", ""))]
        return []

    def _batch(self, lease):
        output = self._sim.data.produce(self._job, lease)
        return Produced(self._run, lease.lease, lease.position, len(output.arrays[0]), output.skipped, 0.0,
                        output.arrays, Timings(), output.rows, output.missing, output.aligned)
