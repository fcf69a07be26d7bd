"""``produce(lease) -> Output``: how a worker process uses a generator, of Stoker's or of the user's."""

from __future__ import generator_stop

from typing import Callable, Iterable, Iterator, Optional

from stoker.pipeline.protocol.messages import Job, Lease
from stoker.workers.generators.output import Output

Generator = Callable[[Iterable[Lease], Job], Iterator[Output]]


class Producer:
    """Produces the batches of one job, with a generator function over leases.

    The generator gets one lease each time it asks, and must yield one output before it asks again.
    """

    def __init__(self, generator: Generator, job: Job) -> None:
        self._name = job.generator
        self._lease: Optional[Lease] = None     # that the generator has not yet taken
        self._over = False
        self._outputs = generator(self._leases(), job)

    def produce(self, lease: Lease) -> Output:
        """The generator's output for ``lease``. Raises what the generator raises; RuntimeError if it ends or yields
        where it must not: ``abandon`` it then."""
        self._lease = lease
        for output in self._outputs:
            if self._lease is not None:         # it goes on with the lease before
                raise RuntimeError("generator %s yielded more than one batch for a lease" % self._name)
            return output
        raise RuntimeError("generator %s ended without a batch for its lease" % self._name)

    def finish(self) -> None:
        """The job is over: the generator's leases end, and it runs to its own end. All leases are answered, so an
        exception fails none."""
        self._over = True
        try:
            next(self._outputs, None)
        except Exception:
            pass

    def abandon(self) -> None:
        """After an exception: closes the generator where it is."""
        self._outputs = iter(())                # drops the last reference to it

    def _leases(self) -> Iterator[Lease]:
        while not self._over:
            if self._lease is None:
                raise RuntimeError("generator %s asked for another lease before it yielded the batch of the first"
                                   % self._name)
            lease, self._lease = self._lease, None
            yield lease
