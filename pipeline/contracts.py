"""The contracts between parts of Stoker, as structural types for mypy. Any object with these methods can be used."""

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from typing import Protocol            # Python 3.6 does not have it
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
        """The number of samples."""

    def samples(self, indices: Sequence[int]) -> "Tuple[Sample, ...]":
        """The samples with these numbers. Raises IndexError if there is no such sample."""

    def fingerprint(self) -> str:
        """The same hex digits for the same samples, in whatever folder they are."""


class WorkerGroup(Protocol):
    """Worker processes that belong to a stream and end with it: see ``BatchStream.attach``."""

    def trouble(self) -> Optional[str]:
        """A sentence that says why these workers can produce no more batches; None while they can."""

    def adjust(self, window: "Window", fleet: "Fleet") -> bool:
        """May change the number of workers, given recent timings. Returns whether it did."""

    def stop(self) -> None:
        """Ends the workers within two seconds. A second call does no harm."""


class Wire(Protocol):
    """The connections to the workers, as the trainer's session uses them: ``transport.listener.Listener``."""

    def send(self, peer: bytes, frames: Sequence[Any]) -> bool:
        """Sends one message without waiting. False: the peer is gone, or does not read."""

    def admit(self, peer: bytes, capacity: int) -> None:
        """The peer is a worker that may hold ``capacity`` leases and send a batch for each."""

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""
