"""The contracts between parts of Stoker, as structural types for mypy. Any object with these methods can be used."""

from typing import TYPE_CHECKING, Any, FrozenSet, List, Optional, Sequence, Tuple

if TYPE_CHECKING:
    import numpy as np
    from typing import Protocol            # Python 3.6 does not have it
    from stoker.pipeline.batch import Batch
    from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet, Window
    from stoker.pipeline.protocol.messages import Sample
else:
    Protocol = object


class Source(Protocol):
    """Samples, numbered from 0 in an order that is the same on every host."""

    @property
    def root(self) -> str:
        """The absolute folder below which the samples' files, or those that rows name, are; '' if there are none."""

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes; a sample's label is an index into it. () if the samples have no labels."""

    @property
    def columns(self) -> Tuple[str, ...]:
        """The names of the fields of the rows, if they are packed as lists; else ()."""

    @property
    def has_paths(self) -> bool:
        """Whether each sample is a file: ``Sample.path``."""

    def __len__(self) -> int:
        """The number of samples."""

    def samples(self, indices: Sequence[int]) -> "Tuple[Sample, ...]":
        """The samples with these numbers. Raises IndexError if there is no such sample."""

    def rows(self, indices: Sequence[int]) -> List[Any]:
        """The rows of the samples with these numbers, as a worker sees them. Raises IndexError."""

    def probes(self, count: int) -> Tuple[str, ...]:
        """At most ``count`` of the samples' paths: a folder without any of them is the wrong one."""

    def fingerprint(self) -> str:
        """The same hex digits for the same samples, in whatever folder they are."""

    def row_hashes(self) -> "np.ndarray":
        """uint32 [n], a hash of each sample: of its path and label, or of its row; [0] if it has neither. Each call
        computes them."""

    def summary(self) -> str:
        """A few lines for the user, to be shown before training starts."""


class WorkerGroup(Protocol):
    """Worker processes, or what tells others to start some, that belong to a stream and end with it: see
    ``BatchStream.attach``."""

    def trouble(self, fleet: "Fleet") -> Optional[str]:
        """A sentence that says why these workers, and all others of ``fleet``, can produce no more batches; None while
        they can."""

    def adjust(self, window: "Window", fleet: "Fleet") -> bool:
        """May change the number of workers, given recent timings. Returns whether it did."""

    def stop(self) -> None:
        """Ends them within a few seconds. A second call does no harm."""


class BatchObserver(Protocol):
    """Hears of each batch that the consumer takes, in the consumer's thread: ``Pace.observers``."""

    def taken(self, batch: "Batch", timings: "BatchTimings", fleet: "Fleet", now: float) -> None:
        """``now``: seconds of a monotonic clock. Must be quick. While ``batch`` is kept, its memory is not used
        again."""


class Wire(Protocol):
    """The connections to the workers, as the trainer's session uses them: ``transport.listener.Listener``."""

    def send(self, peer: bytes, frames: Sequence[Any]) -> bool:
        """Sends one message without waiting. False: the peer is gone, or does not read."""

    def admit(self, peer: bytes) -> None:
        """The peer is a worker."""

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""


class SlotMemory(Protocol):
    """The memory that members share with the trainer, as the trainer's session reads it:
    ``coordinator.batch_memory.BatchMemory``."""

    def slot(self, peer: bytes, number: int) -> "np.ndarray":
        """uint8 [slot_bytes], the memory of a slot. All views of it refer to this array."""

    def is_free(self, peer: bytes, number: int) -> bool:
        """No view of the slot exists in this process."""


class SharedMemory(SlotMemory, Protocol):
    """The same, as the effects of the session change it."""

    def share(self, peer: bytes, socket: str) -> str:
        """New memory for the peer, handed over at its socket; returns '' or why that is impossible, in a clause."""

    def drop(self, peer: bytes, leased: "FrozenSet[int]") -> None:
        """The peer's memory is used no more, but for the batches in it, and by its worker in the slots ``leased``."""

    def release(self, peer: bytes, slot: int) -> None:
        """Gives the memory of a free slot back to the system."""
