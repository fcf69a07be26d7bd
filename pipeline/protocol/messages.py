"""What trainer and workers say to each other: frozen values, no behaviour beyond their own arithmetic.

A worker says       Hello, Produced, Failed, Returned, Alive, Leaving.
The trainer answers Welcome, Refused, Lease, Revoked, Alive, Stop.

``pipeline/codec.py`` turns them into ZeroMQ frames and back, and checks every field on the way in.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Iterable, NamedTuple, Tuple, Union

from stoker.pipeline.arrays import ArraySpec

#: Raised with every change of a message's fields or meaning. ``Refused`` never changes, so that any two versions
#: can tell each other that they differ.
PROTOCOL_VERSION = 3


#: Characters of the longest text field, and of the reason for which a sample is skipped: a batch may have many.
MAX_TEXT = 64 << 10
MAX_REASON = 300


def sendable(text: str, most: int = MAX_TEXT) -> str:
    """``text`` as a field of ``most`` characters can carry it: its end if too long, lone surrogates written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[-most:]


def printable(text: str, lines: bool = False) -> str:
    """``text`` of a peer as a log or terminal may show it: what is not printable is written out, but for the ends of
    ``lines`` and tabs."""
    return "".join(one if one.isprintable() or (lines and one in "\n\t")
                   else one.encode("unicode_escape").decode("ascii") for one in text)


class Sample(NamedTuple):
    """One example of a dataset: enough for a worker to produce it, and nothing else."""

    index: int  # type: ignore[assignment]  # its number in the dataset
    path: str   # relative to the dataset's root, '/' between parts; for a generated record its number, in decimal
    label: int  # class number; 0 for a generated record, whose label is generated with it


_sample_of = partial(tuple.__new__, Sample)


def samples_of(rows: Iterable[Any]) -> Tuple[Sample, ...]:
    """A Sample of each (index, path, label), in a quarter of the time that the class takes: each lease has many."""
    return tuple(map(_sample_of, rows))


class Skipped(NamedTuple):
    """A sample that a batch had to leave out, and why."""

    index: int  # type: ignore[assignment]
    reason: str


@dataclass(frozen=True)
class Job:
    """All that a worker must know to produce any step of a run; the content of a batch depends on nothing else."""

    generator: str                  # numerical, image, augmented, or the user's module:function
    arrays: Tuple[ArraySpec, ...]   # inputs first, labels last
    batch_size: int                 # the most samples of a step
    seed: int
    decode: str                     # one of config.DECODERS, see workers/images.py
    data_root: str                  # the dataset's folder as the trainer names it; '' for generated data
    exif_rotate: bool = False       # turn pictures upright as their EXIF orientation says
    follow_links: bool = False      # links that lead out of the folder are no bad files, where the worker permits it
    probes: Tuple[str, ...] = ()    # paths of some samples: a folder on a worker that holds none of them is another one

    @property
    def height_width(self) -> Tuple[int, int]:
        """(height, width) of the images of this job."""
        return self.arrays[0].shape[0], self.arrays[0].shape[1]


# ------------------------------------------------------------------------------- worker -> trainer

@dataclass(frozen=True)
class Hello:
    """Asks to be given leases. Repeated until the trainer answers."""

    worker: str       # a name for people: 'host:4711/2'
    pid: int
    versions: str     # 'python 3.13.0, pillow 13.0.0, jpeg libjpeg-turbo 3.1.2'
    capacity: int     # how many leases it wants to hold at once
    last_exit: str    # how its predecessor in the same place ended, '' if there was none
    cores: int = 1    # that it may use, together with the other workers on its host


class Timings(NamedTuple):
    """Where the time of a batch went on its worker, in seconds. The rest of ``produce_s`` is the generator's own."""

    storage_s: float = 0.0   # reading files
    decode_s: float = 0.0    # decoding and resizing
    augment_s: float = 0.0
    held_s: float = 0.0      # from the lease's arrival to the sending of the batch: not on the wire


@dataclass(frozen=True)
class Produced:
    """The batch of one step: the samples that could be produced, in the lease's order, and those that could not."""

    run: str
    lease: int
    position: int
    count: int                       # samples in every array
    skipped: Tuple[Skipped, ...]
    produce_s: float                 # time that the generator took
    arrays: Tuple[Any, ...]          # C-contiguous ndarrays [count, ...]; raw frames until checked against the job
    timings: Timings = Timings()


@dataclass(frozen=True)
class Failed:
    """The step could not be produced for a reason that is no single sample's."""

    run: str
    lease: int
    position: int
    error: str        # one line: the exception
    traceback: str    # the worker's traceback as text
    sample: str = ""  # the path that the generator had taken up last, '' if none


@dataclass(frozen=True)
class Returned:
    """A revoked lease that was not begun: the worker has room for another."""

    run: str
    lease: int


@dataclass(frozen=True)
class Leaving:
    """The worker takes no more leases; what it held goes elsewhere, but for ``lease``, which it still works on."""

    run: str
    lease: int        # -1: none
    reason: str


# ------------------------------------------------------------------------------------- both ways

@dataclass(frozen=True)
class Alive:
    """Nothing new, and still here. Sent every ``heartbeat_s``."""

    run: str


# ------------------------------------------------------------------------------- trainer -> worker

@dataclass(frozen=True)
class Welcome:
    """The answer to Hello: the run and its job. The worker forgets whatever it held before."""

    run: str             # a fresh random id for every start of a trainer
    job: Job
    heartbeat_s: float


@dataclass(frozen=True)
class Refused:
    """This worker is not served: for good if ``final``, else it may say Hello again."""

    reason: str
    final: bool


@dataclass(frozen=True)
class Lease:
    """The right, and the task, to produce one step."""

    lease: int                       # ids only grow
    position: int                    # the step's place in the stream
    epoch: int
    training: bool                   # False: evaluation, never augmented
    samples: Tuple[Sample, ...]
    replacements: Tuple[Sample, ...] = ()  # stand in, in this order, for samples that are bad; none: the batch shrinks
    isolated: bool = False            # workers died of this step: first try each sample in a process of its own


@dataclass(frozen=True)
class Revoked:
    """A lease that need not be carried out any more: somebody else was faster. The worker answers with the batch if
    it is at it already, with ``Returned`` if not."""

    lease: int


@dataclass(frozen=True)
class Stop:
    """The run is over."""

    reason: str


FromWorker = Union[Hello, Produced, Failed, Returned, Leaving, Alive]
FromTrainer = Union[Welcome, Refused, Lease, Revoked, Alive, Stop]
