"""The three seams of the house: what a source of samples, a group of workers and a wire to workers must be able to do.

They are structural types for mypy; at run time, any object that has the methods will do.
"""

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from typing import Protocol            # not in Python 3.6

    from stoker.pipeline.monitoring.throughput import Fleet, Window
    from stoker.pipeline.protocol.messages import Sample
else:
    Protocol = object


class Source(Protocol):
    """Samples, numbered from 0 in an order that is the same on every host."""

    @property
    def root(self) -> str:
        """The absolute folder below which the samples' files are; '' if they have no files."""

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes; a sample's label is an index into it."""

    def __len__(self) -> int:
        """How many there are."""

    def samples(self, indices: Sequence[int]) -> "Tuple[Sample, ...]":
        """The samples with these numbers. Raises IndexError if there is no such sample."""

    def fingerprint(self) -> str:
        """The same hex digits for the same samples, wherever they lie."""


class WorkerGroup(Protocol):
    """Worker processes that belong to a stream and end with it: ``BatchStream.attach``."""

    def trouble(self) -> Optional[str]:
        """Why no batch can come from these workers any more, in a sentence; None while all is well."""

    def adjust(self, window: "Window", fleet: "Fleet") -> bool:
        """May change the number of workers, from recent figures. Returns whether it did."""

    def stop(self) -> None:
        """Ends them within two seconds. A second call does no harm."""


class Wire(Protocol):
    """What the trainer's session speaks to its workers through: ``transport.listener.Listener``."""

    def send(self, peer: bytes, frames: Sequence[Any]) -> bool:
        """Sends one message without waiting. False: the peer is gone, or does not read."""

    def admit(self, peer: bytes, capacity: int) -> None:
        """The peer is a worker that may hold ``capacity`` leases, and have a batch of each under way."""

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""
