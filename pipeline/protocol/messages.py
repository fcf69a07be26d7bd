"""The messages between trainer and workers, as frozen values. ``codec.py`` encodes them, decodes and checks them."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Iterable, NamedTuple, Sequence, Tuple, Union

import msgpack

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.options import MAX_FILE_MB, MAX_PIXELS, MAX_TEXT_MB, TRUNCATED_BAD

#: Increased with every change of a message's fields or of their meaning. ``Refused`` never changes, so that any two
#: versions can tell each other that they differ.
PROTOCOL_VERSION = 9
MAX_TEXT = 64 << 10    # characters of a text field ...
MAX_REASON = 300       # ... of the reason why a sample is skipped, and ...
MAX_SKIPPED_PATH = 512     # ... of the file at fault: one batch may have many
MAX_SLOTS = 1 << 16    # of a worker's shared memory
NO_SLOT = -1           # the arrays travel in frames
#: Of a picture with more than 8 bits per channel: decode "exact" cut its values at 255; its floats have no known range.
REMARKS = CUT, UNSCALED = ("cut", "unscaled")


def sendable(text: str, max_length: int = MAX_TEXT) -> str:
    """``text`` for a field of ``max_length`` characters: only its end if it is longer, lone surrogates escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[-max_length:]


class Sample(NamedTuple):
    """One example of a dataset, as a worker needs it. Example: ``stoker.Sample(7, "left/7.jpg", 0)``."""
    index: int  # type: ignore[assignment]  # its number in the dataset; hides tuple.index
    path: str   # relative to the dataset's root, '/' between parts; the decimal number of a generated record; '': none
    label: int  # class number; 0 for a generated record, whose label is generated, too; -1: the source has no labels
    packed: bytes = b""     # msgpack of its row; empty: the path is the row, see Job.row
    repeat: int = 0         # the index occurred so often before in this epoch: with an order that repeats some
    partners: Tuple[Any, ...] = ()      # other Samples that its function may use; they have no partners themselves

    @property
    def name(self) -> str:
        """The sample in a sentence for people."""
        return self.path or "sample %d" % self.index


def samples_of(rows: Iterable[Sequence[Any]]) -> Tuple[Sample, ...]:    # a list of fields has no narrower type
    """A Sample of each (index, path, label, packed, repeat, partners), four times as fast as the class's constructor:
    every lease has many."""
    return tuple(map(partial(tuple.__new__, Sample), rows))


class Skipped(NamedTuple):
    """A sample that is missing in a batch, and why. Example: ``[each.reason for each in batch.skipped]``."""
    index: int  # type: ignore[assignment]
    reason: str
    path: str = ""          # of the file at fault, if it is not the sample's own
    chosen: bool = False    # the user's function left it out (stoker.Skip): no file is bad
    deadly: bool = False    # it ended the processes that tried it, or found no memory: see workers/quarantine.py


class Remark(NamedTuple):
    """Something about a picture in a batch that the user should know: ``kind`` is one of REMARKS."""
    kind: str
    path: str


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to produce any step of a run. The content of a batch depends on nothing else.
    Example: ``height, width = job.height_width``."""
    generator: str                  # numerical, image, augmented, or the user's module:function
    arrays: Tuple[ArraySpec, ...]   # of the built-in generators: inputs first, labels last
    batch_size: int                 # most samples in a step
    seed: int
    decode: str                     # one of options.DECODERS, see workers/images.py
    data_root: str                  # path of the dataset's folder on the trainer; '' for generated data
    exif_rotate: bool = False       # turn images upright by their EXIF orientation
    follow_links: bool = False      # read files through links that lead out of the folder, if the worker permits it
    probes: Tuple[str, ...] = ()    # paths of some samples: a folder that contains none of them is the wrong one
    image_size: Tuple[int, int] = (64, 64)   # (height, width) of pictures, in pixels
    columns: Tuple[str, ...] = ()   # names of the fields of the rows, whose packed form is a list; (): they have none
    rows: int = 1                   # most rows of a batch from one sample
    may_skip: bool = False          # the batch function may return fewer rows without saying which are missing
    augment: str = ""               # the user's module:function that varies the pictures of ``image``
    trainer_root: str = ""          # ``data_root`` as the trainer names it, if the worker has another
    max_pixels: int = MAX_PIXELS    # of a picture; a larger one is bad
    max_file_mb: int = MAX_FILE_MB  # of a picture's file, in 2**20 bytes
    max_text_mb: int = MAX_TEXT_MB  # of a text in a PNG, in 2**20 bytes
    truncated: str = TRUNCATED_BAD  # one of options.TRUNCATED: whether the part that is there makes a picture
    picture_cpu_s: float = 0.0      # CPU time to decode one picture; 0: any. See workers/picture_limits.py
    picture_memory_mb: int = 0      # memory for the same, in 2**20 bytes; 0: any
    formats: Tuple[str, ...] = ()   # of pictures, some of formats.FORMATS; (): all whose library is safe

    @property
    def height_width(self) -> Tuple[int, int]:
        """(height, width) of the images."""
        return self.image_size

    def row(self, sample: Sample) -> Any:
        """The row of ``sample``, as the source has it: what the user gave, a dict for a table with columns, else its
        path; None if there is neither. A record with a single part has a row that is not sent: {name: path}. Raises
        ProtocolError if it is damaged."""
        if sample.packed:
            return unpacked_row(sample.packed, self.columns)
        return {self.columns[0]: sample.path} if len(self.columns) == 1 and sample.path else sample.path or None


def unpacked_row(packed: bytes, columns: Tuple[str, ...]) -> Any:
    """The row that a source packed. ``columns``: the names of its fields, if it is a list. Raises ProtocolError."""
    try:
        row = msgpack.unpackb(packed, raw=False, use_list=True, unicode_errors="surrogateescape", strict_map_key=True)
    except Exception as error:       # msgpack's errors have no common base
        raise ProtocolError("a row is not valid msgpack (%s)" % type(error).__name__) from error
    if not columns:
        return row
    if not isinstance(row, list) or len(row) != len(columns):
        raise ProtocolError("a row does not have the %d columns of its table" % len(columns))
    return dict(zip(columns, row))


@dataclass(frozen=True)
class Hello:
    """Asks for membership, and so for leases. Repeated until the trainer answers."""
    worker: str       # a name for people: 'host:4711/2'
    pid: int
    versions: str     # 'python 3.13.0, pillow 13.0.0, libjpeg-turbo 3.1.2, libwebp 1.6.0, libtiff 4.7.2'
    capacity: int     # most leases that it holds at once
    last_exit: str    # how the process that it replaces ended; '' if it replaces none
    cores: int = 1    # that all workers on its host may use together
    sandbox: str = ""  # what it may still do, in a line
    trainers: int = 1  # that it serves, this one included; if there are several, ``capacity`` is 0 until it says Room


class Timings(NamedTuple):
    """How long the parts of a batch took on its worker. The rest of ``produce_s`` is the generator's own time."""
    storage_s: float = 0.0   # the generator waited for bytes of files, or read them itself
    decode_s: float = 0.0    # decoding and resizing
    augment_s: float = 0.0
    held_s: float = 0.0      # from the arrival of the lease until the batch is sent: without the time on the wire
    read_s: float = 0.0      # what the reads of its files took, also those that were made ahead of time, added up


@dataclass(frozen=True)
class Produced:
    """The batch of one step: its samples in the lease's order, and those that could not be produced."""
    run: str
    lease: int
    position: int
    count: int                       # rows in every array
    skipped: Tuple[Skipped, ...]
    produce_s: float                 # time that the generator took
    arrays: Tuple[Any, ...]          # of framed(job.arrays): C-contiguous; received: Buffers, until check_arrays
    timings: Timings = Timings()
    rows: Tuple[int, ...] = ()       # of each sample that is in the batch, if one sample may make several; (): one each
    missing: int = 0                 # samples that a batch function left out without saying which
    aligned: bool = True             # rows are in the lease's order; those of a batch function may be in any
    remarks: Tuple[Remark, ...] = () # one of each kind at most
    slot: int = NO_SLOT              # of the worker's shared memory in which the arrays are; then ``arrays`` are ()


@dataclass(frozen=True)
class Failed:
    """The step could not be produced, for a reason other than a bad sample."""
    run: str
    lease: int
    position: int
    error: str        # one line: the exception
    traceback: str    # the worker's traceback as text
    sample: str = ""  # the last path that the generator began, '' if none
    unreadable: Tuple[Skipped, ...] = ()     # at most one: the sample whose file had an I/O error; others had none
    hopeless: bool = False           # no sample that was tried alone could be made: it is none of theirs
    starved: bool = False            # there was not enough memory


@dataclass(frozen=True)
class Returned:
    """The worker had not begun this lease when it was revoked, or when another trainer had its room."""
    run: str
    lease: int


@dataclass(frozen=True)
class Room:
    """From now on this worker may hold so many leases of this trainer: it serves several. It gives back, at once and
    with ``Returned``, those that came on top because they were under way. Of a worker that serves this trainer alone:
    it may hold so many, to read ahead for them, where the window has enough for all workers."""
    run: str
    leases: int


@dataclass(frozen=True)
class Leaving:
    """The worker takes no more leases, and gives back all that it holds, except the one that it works on."""
    run: str
    lease: int        # that it works on; -1: none
    reason: str


@dataclass(frozen=True)
class Ready:
    """The worker can do the job: it has what it needs. The trainer grants no lease before. ``socket``: where it waits
    for the descriptor of memory that both share, see ``transport/memory_handover.py``; '': it wants none, or has none,
    and ``no_memory`` says why, in a clause."""
    run: str
    socket: str = ""
    no_memory: str = ""


@dataclass(frozen=True)
class Unfit:
    """The worker cannot do the job, for a reason of its host, and forgets all leases that it holds. Others may do it.
    It may say Ready later."""
    run: str          # '': it could not read Welcome
    reason: str
    traceback: str = ""     # of what the user's module raised


@dataclass(frozen=True)
class Alive:
    """A sign of life, both ways. Sent every ``heartbeat_s``."""
    run: str


@dataclass(frozen=True)
class Welcome:
    """The answer to Hello: the run and its job. The worker forgets all leases that it held before, finds out whether
    it can do the job, and says Ready or Unfit."""
    run: str             # a fresh random id for every start of a trainer
    job: Job
    heartbeat_s: float


@dataclass(frozen=True)
class Refused:
    """This worker gets no leases."""
    reason: str
    final: bool       # False: it may send Hello again


@dataclass(frozen=True)
class Lease:
    """The right, and the task, to produce one position. Example: ``[sample.path for sample in lease.samples]``."""
    lease: int                       # its id, larger than all before
    position: int                    # in the stream
    epoch: int
    training: bool                   # False: evaluation, never augmented
    samples: Tuple[Sample, ...]
    replacements: Tuple[Sample, ...] = ()    # used for bad samples, in this order; if they run out, the batch shrinks
    isolated: bool = False           # workers crashed at this position: first try each sample in a process of its own
    unproven: bool = False           # no sample was produced yet, since the trainer started
    known: Tuple[Skipped, ...] = ()  # its samples that are known to kill: none is to be tried
    wanted: int = 0                  # for a worker that serves several trainers: see Need
    slack_s: float = 0.0
    slot: int = NO_SLOT              # of the shared memory: the worker may write the arrays there until it answers


@dataclass(frozen=True)
class Revoked:
    """Another worker was faster. The worker answers with the batch if it has begun it, else with ``Returned``."""
    lease: int


@dataclass(frozen=True)
class Need:
    """To a worker that serves several trainers, in place of Alive: how much this one needs it. With each lease, too."""
    wanted: int       # further leases that it could grant now
    slack_s: float    # about how long until its consumer needs the batch of the next one


@dataclass(frozen=True)
class Stop:
    """The run is over."""
    reason: str


FromWorker = Union[Hello, Ready, Unfit, Produced, Failed, Returned, Room, Leaving, Alive]
FromTrainer = Union[Welcome, Refused, Lease, Revoked, Alive, Need, Stop]
