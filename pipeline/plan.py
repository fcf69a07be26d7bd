"""The plan: the samples of every step of a run, as a pure function of (seed, sizes, step).

So a stream can be resumed from one integer, and any worker can repeat a lost step. A run is a sequence of *positions*:
the steps of epoch 0, its evaluation batches, the steps of epoch 1, and so on. Training steps are numbered through all
epochs, like TensorFlow's ``global_step``; evaluation batches have no step number of their own.

Random numbers come from a hash of the whole key (seed, epoch, index ...). A sum of seed and index would be equal in
different runs: seed 1 at index 0 is seed 0 at index 1.

A plan has no lock, though two threads ask it: the coordinator's, and the consumer's for the audit and for errors. What
it keeps of the last epoch is replaced as a whole by one assignment, and each call reads it once. So two threads may at
most compute the same epoch twice. A user's order function has its lock in ``orders.py``.
"""

import hashlib
import random
from typing import TYPE_CHECKING, Any, Dict, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.formats import recorded
from stoker.pipeline.options import FORMER, MAX_TEXT_MB, TRUNCATED_BAD, JobOptions, check_whole

if TYPE_CHECKING:
    from typing import Protocol            # Python 3.6 does not have it
else:
    Protocol = object

Key = Union[int, str]

#: Increased when the same options give other batches than before; checkpoints of an older version are then refused.
PLAN_VERSION = 1

MAX_RANKS = 1 << 16        # trainers that share the batches of a run


def hashed_bytes(key: Tuple[Key, ...], size: int) -> bytes:
    # repr keeps the parts apart: ("a", 1) and ("a1",) differ. numpy's integers have another repr than int
    text = repr(tuple(part if isinstance(part, str) else int(part) for part in key))
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=size).digest()


def random_state(*key: Key) -> "np.random.RandomState":
    """A random generator seeded by ``key``. All versions of numpy give the same RandomState numbers (NEP 19)."""
    return np.random.RandomState(np.frombuffer(hashed_bytes(key, 32), dtype="<u4").astype(np.uint32))


def python_random(*key: Key) -> random.Random:
    """Python's random generator, seeded by ``key``; ten times faster to make than numpy's."""
    return random.Random(int.from_bytes(hashed_bytes(key, 8), "little"))


def sample_seed(seed: int, epoch: int, index: int, repeat: int = 0) -> int:
    """64 bits that seed the random numbers of one sample in one epoch, in which the index occurred ``repeat`` times
    before."""
    # as hashed_bytes of the key, in half of the time: each sample of a run needs it
    text = "('sample', %d, %d, %d%s)" % (seed, epoch, index, ", %d" % repeat if repeat else "")
    return int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "little")


def sample_random(seed: int, epoch: int, index: int, repeat: int = 0) -> random.Random:
    """Python's random generator, seeded for one sample in one epoch; ten times faster to make than numpy's. In a
    generator: ``flip = sample_random(job.seed, lease.epoch, sample.index, sample.repeat).random() < 0.5``."""
    return random.Random(sample_seed(seed, epoch, index, repeat))


def repeats_of(order: "np.ndarray") -> "np.ndarray":
    """Of each place of ``order``, how often its number occurs at earlier places. Both are int64 [n]."""
    by_number = np.argsort(order, kind="mergesort")     # stable: the places of each number stay in order
    places, ordered = np.arange(len(order)), order[by_number]
    is_first = np.ones(len(order), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    repeats = np.empty(len(order), np.int64)
    repeats[by_number] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return repeats


def part_of(places: range, rank: int, ranks: int) -> range:
    """The part of consecutive ``places`` that is for rank ``rank``. The parts of all ranks, in their order, are all
    places; their lengths differ by 1 at most, and may be 0."""
    return places[rank * len(places) // ranks:(rank + 1) * len(places) // ranks]


class Order(Protocol):
    """The indices of every epoch, if they are not those of the plan's own shuffle. ``orders.py`` has them."""

    @property
    def length(self) -> int:
        """The number of indices in an epoch, at least 1."""

    def indices(self, epoch: int) -> "np.ndarray":
        """int64 [length]; the same for the same epoch, on every host. They may repeat. Raises StokerError."""

    def describe(self) -> str:
        """A short text for the checkpoint, which differs for another order."""


class Partners(Protocol):
    """Other samples for each sample. ``partners.py`` has them."""

    def draw(self, seed: int, epoch: int, index: int, repeat: int = 0) -> Tuple[int, ...]:
        """The indices of the partners of the sample ``index``. Raises StokerError."""


class PlannedBatch(NamedTuple):
    """The samples of one position of the stream."""
    position: int
    step: int                 # training: its number; evaluation: the number of the next training step
    epoch: int
    training: bool
    indices: Tuple[int, ...]  # into the training or the validation dataset
    replacements: Tuple[int, ...]   # used in place of bad samples, in this order; () in an evaluation
    repeats: Tuple[int, ...] = ()   # of each index, its earlier occurrences in this epoch; (): all are 0
    replacement_repeats: Tuple[int, ...] = ()    # the same of each replacement
    global_size: int = 0      # samples of this position for all ranks together


class _Epoch(NamedTuple):
    number: int
    order: "np.ndarray"                   # int64 [length]
    repeats: "Optional[np.ndarray]"       # int64 [length]; None: all are 0
    distinct: int                         # different indices


class Plan:
    """Every batch of a run, by position. In each epoch, ``train_size`` samples are shuffled anew, or come as ``order``
    says, and are cut into batches, the last of which may be short. After each epoch, ``validation_size`` samples
    follow, not shuffled. ``drop_last``: short batches are left out, those of evaluations too. ``training`` False: the
    run is one pass over the samples in their order (or by ``order``), none of which is for training; its steps are
    numbered from 0 all the same. ``partners``: those of the training and of the validation samples.

    ``ranks`` trainers may share each batch: ``batch_size`` is that of all together, and rank ``rank`` gets its part of
    the samples, by their places in the batch (see ``part_of``). So the batches do not depend on the number of ranks.
    All ranks have the same positions and steps. Raises ConfigError.
    """

    def __init__(self, train_size: int, batch_size: int, epochs: int, seed: int, validation_size: int = 0, *,
                 order: Optional[Order] = None, drop_last: bool = False, training: bool = True,
                 partners: Tuple[Optional[Partners], Optional[Partners]] = (None, None),
                 rank: int = 0, ranks: int = 1) -> None:
        self.ranks = check_whole("ranks", ranks, 1, MAX_RANKS)
        self.rank = check_whole("rank (of %d ranks)" % self.ranks, rank, 0, self.ranks - 1)
        self.train_size = check_whole("train_size", train_size, 1, 1 << 40)
        self.batch_size = check_whole("batch_size", batch_size, 1, 1 << 20)
        self.epochs = check_whole("epochs", epochs, 1, 1 << 30)
        self.validation_size = check_whole("validation_size", validation_size, 0, 1 << 40)
        self.seed = seed
        self.training = training
        if not training and (self.epochs != 1 or self.validation_size):
            raise ConfigError("training=False is one pass over one dataset: it has no %s" % (
                "validation part" if self.validation_size else "%d epochs" % self.epochs))
        self.has_partners = partners != (None, None)
        self._order, self._drop_last, self._partners = order, drop_last, partners
        self._length = self.train_size if order is None else order.length       # of an epoch, in samples
        self.steps_per_epoch = self._batches(self._length, "an epoch")
        self.evaluations_per_epoch = self._batches(self.validation_size, "the validation part")
        if drop_last:
            self.validation_size = self.evaluations_per_epoch * self.batch_size    # the samples of an evaluation
        for name, samples in (("batch_size, the samples of all ranks together, is", self.batch_size),
                              ("the number of samples in an epoch is", self._length),
                              ("the number of validation samples is", self.validation_size)):
            if 0 < samples < self.ranks:
                raise ConfigError("%s %d, less than the %d ranks: some of them would never get a sample"
                                  % (name, samples, self.ranks))
        self._per_epoch = self.steps_per_epoch + self.evaluations_per_epoch
        self.steps = self.epochs * self.steps_per_epoch       # training steps of the whole run
        self.positions = self.epochs * self._per_epoch        # length of the stream, with the evaluation batches
        self._last_epoch = _Epoch(-1, np.empty(0, np.int64), None, 0)     # a cache

    def _batches(self, samples: int, name: str) -> int:
        if self._drop_last and 0 < samples < self.batch_size:
            raise ConfigError("drop_last leaves no batch: %s has %d samples, batch_size is %d; use a smaller batch_size"
                              % (name, samples, self.batch_size))
        return samples // self.batch_size if self._drop_last else -(-samples // self.batch_size)

    @property
    def part_size(self) -> int:
        """The most samples of a batch that one rank gets."""
        return -(-self.batch_size // self.ranks)

    def has_empty_parts(self, training: bool) -> bool:
        """Whether the last batch of an epoch, or of an evaluation, has too few samples for all ranks."""
        samples = self._length if training is self.training else self.validation_size
        return not self._drop_last and 0 < samples % self.batch_size < self.ranks

    def name_of(self, planned: PlannedBatch) -> str:
        """The step of a batch for people, who count epochs from 1 while they train."""
        return "step %d of epoch %d" % (planned.step, planned.epoch + 1)

    def position_of(self, step: int) -> int:
        """The position at which a stream continues after ``step`` training steps (``global_step``). Between two epochs,
        the evaluation is repeated: it may be unfinished. Raises ConfigError if the run has fewer steps."""
        # TensorFlow gives numpy's integers, which messages cannot carry
        step = check_whole("start_step", step, -(1 << 62), 1 << 62)
        if not 0 <= step <= self.steps:
            raise ConfigError("start_step %d is not one of this run's steps, 0 to %d: raise epochs, or the data or "
                              "batch_size have changed since" % (step, self.steps))
        epoch, offset = divmod(step, self.steps_per_epoch)
        repeated = self.evaluations_per_epoch if epoch > 0 and offset == 0 else 0
        return epoch * self._per_epoch + offset - repeated

    def training_indices(self, step: int, rank: Optional[int] = None, ranks: Optional[int] = None) -> Tuple[int, ...]:
        """The samples of training step ``step`` for this rank; or for rank ``rank`` if there were ``ranks`` ones."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        places = self._places(epoch * self._per_epoch + offset)
        own = part_of(places, self.rank if rank is None else rank, self.ranks if ranks is None else ranks)
        return tuple(self._epoch(epoch).order[own.start:own.stop].tolist())

    def first_step_of(self, index: int, epoch: int) -> Optional[int]:
        """The first step of the epoch that has the sample ``index``; None if none has it. Raises IndexError."""
        if not (0 <= index < self.train_size and 0 <= epoch < self.epochs):
            raise IndexError("sample %d in epoch %d: there are %d samples and %d epochs, numbered from 0"
                             % (index, epoch, self.train_size, self.epochs))
        places = np.flatnonzero(self._epoch(epoch).order == index)
        step = int(places[0]) // self.batch_size if len(places) else self.steps_per_epoch
        return epoch * self.steps_per_epoch + step if step < self.steps_per_epoch else None

    def position_at(self, step: int) -> int:
        """The position of the training step ``step``. Raises IndexError outside 0 .. steps - 1."""
        if not 0 <= step < self.steps:
            raise IndexError("step %d: the run has the steps 0 to %d" % (step, self.steps - 1))
        epoch, offset = divmod(step, self.steps_per_epoch)
        return epoch * self._per_epoch + offset

    def evaluation_positions(self, epoch: int) -> range:
        """The positions of the evaluation batches after the epoch ``epoch``. Raises IndexError."""
        if not 0 <= epoch < self.epochs:
            raise IndexError("epoch %d: the run has the epochs 0 to %d" % (epoch, self.epochs - 1))
        first = epoch * self._per_epoch + self.steps_per_epoch
        return range(first, first + self.evaluations_per_epoch)

    def is_empty(self, position: int) -> bool:
        """Whether this rank gets no sample of the batch at ``position``: the last one of an epoch may be so small."""
        return self.ranks > 1 and not part_of(self._places(position), self.rank, self.ranks)

    def at(self, position: int, with_replacements: bool = True) -> PlannedBatch:
        """The batch at ``position``: this rank's part of it. Its replacements are () unless ``with_replacements``, and
        with several ranks, because none knows how many the others need. The first call for an epoch shuffles it. Raises
        IndexError outside 0 .. positions - 1."""
        if not 0 <= position < self.positions:
            raise IndexError("position %d is not within 0..%d" % (position, self.positions - 1))
        epoch, offset = divmod(position, self._per_epoch)
        first_step = epoch * self.steps_per_epoch
        whole = self._places(position)
        own = whole if self.ranks == 1 else part_of(whole, self.rank, self.ranks)
        if offset >= self.steps_per_epoch:
            return PlannedBatch(position, first_step + self.steps_per_epoch, epoch, False, tuple(own), (),
                                global_size=len(whole))
        samples = self._epoch(epoch)
        places = slice(own.start, own.stop)
        others = (self._replacements(samples, whole.start)
                  if with_replacements and self.training and self.ranks == 1 else None)
        return PlannedBatch(
            position, first_step + offset, epoch, self.training, tuple(samples.order[places].tolist()),
            () if others is None else tuple(samples.order[others].tolist()),
            () if samples.repeats is None else _unless_all_0(samples.repeats[places]),
            () if samples.repeats is None or others is None else _unless_all_0(samples.repeats[others]), len(whole))

    def _places(self, position: int) -> range:
        """The places of the whole batch at ``position`` in its epoch, or in its evaluation."""
        offset = position % self._per_epoch
        samples = self._length
        if offset >= self.steps_per_epoch:
            offset, samples = offset - self.steps_per_epoch, self.validation_size
        start = offset * self.batch_size
        return range(start, min(start + self.batch_size, samples))

    def partners_of(self, training: bool, epoch: int, index: int, repeat: int = 0) -> Tuple[int, ...]:
        """The indices of the partners of a sample; in an evaluation they are the same in every epoch."""
        partners = self._partners[0 if training else 1]
        return () if partners is None else partners.draw(self.seed, epoch if training else 0, index, repeat)

    def _replacements(self, samples: _Epoch, start: int) -> "np.ndarray":
        """The places of as many samples as a batch has, from half an epoch later, wrapping around, without the batch's
        own. Fewer if the epoch has no more."""
        first, count = start + self._length // 2, min(self.batch_size, self._length)
        if self._order is None:
            places = (first + np.arange(count)) % self._length
            return places[(places < start) | (places >= start + self.batch_size)]
        own = np.unique(samples.order[start:start + self.batch_size])
        wanted = min(self.batch_size, samples.distinct - len(own))
        while True:          # an order may repeat indices, so that more places are needed
            places = (first + np.arange(count)) % self._length
            numbers, earliest = np.unique(samples.order[places], return_index=True)
            found = np.sort(earliest[~np.isin(numbers, own)])[:wanted]
            if len(found) == wanted:
                return places[found]
            count = min(4 * count, self._length)

    def _epoch(self, number: int) -> _Epoch:
        samples = self._last_epoch          # read once: another thread may replace it
        if samples.number != number:
            samples = self._last_epoch = self._new_epoch(number)
        return samples

    def _new_epoch(self, number: int) -> _Epoch:
        if self._order is not None:
            order = self._order.indices(number)
            repeats = repeats_of(order)
            distinct = len(order) - int(np.count_nonzero(repeats))
            return _Epoch(number, order, repeats if distinct < len(order) else None, distinct)
        order = (random_state("epoch", self.seed, number).permutation(self.train_size) if self.training
                 else np.arange(self.train_size))
        return _Epoch(number, order, None, self.train_size)


def _unless_all_0(repeats: "np.ndarray") -> Tuple[int, ...]:
    return tuple(repeats.tolist()) if repeats.any() else ()


def produced_indices(indices: Sequence[int], replacements: Sequence[int], bad: Iterable[int], count: int
                     ) -> Optional[Tuple[int, ...]]:
    """The samples of a produced batch, in order, if ``bad`` ones were found. None if those are not ``count`` samples.
    Each bad one of ``indices`` is replaced, in its place, by the next of ``replacements`` that is not bad itself, or
    left out if there is none. An index that occurs several times is good or bad at all of its places; ``bad`` has it
    once."""
    without = set(bad)
    if not without:                  # nearly always
        return tuple(indices) if count == len(indices) else None
    good = (replacement for replacement in replacements if replacement not in without)
    filled = [next(good, None) if index in without else index for index in indices]
    used = tuple(index for index in filled if index is not None)
    return used if count == len(used) else None


def fingerprint(job: JobOptions, dataset: str, validation_split: float, more: Optional[Mapping[str, Any]] = None
                ) -> Dict[str, Any]:
    """Everything on which the content of steps depends; it must be equal for a run to resume from a checkpoint.
    ``dataset``: the dataset's own fingerprint; ``more``: other parts that are in use, as JSON has them (order, arrays
    ...), without its empty values. on_bad_image "skip" and "raise" are the same here, so that a run that ended at a bad
    file can continue without it."""
    saved = {"plan": PLAN_VERSION, "generator": job.generator, "image_size": list(job.image_size),
             "batch_size": job.batch_size, "seed": job.seed, "decode": job.decode, "dataset": dataset,
             "validation_split": validation_split}
    newer = dict({"on_bad_image": job.on_bad_image == "replace" and "replace", "exif_rotate": job.exif_rotate,
                  "follow_links": job.follow_links, "truncated": job.truncated != TRUNCATED_BAD and job.truncated,
                  "formats": job.formats != FORMER["formats"] and recorded(job.formats),
                  **{name: getattr(job, name) != FORMER[name] and getattr(job, name)
                     for name in ("max_pixels", "max_file_mb")},
                  "max_text_mb": job.max_text_mb != MAX_TEXT_MB and job.max_text_mb}, **(more or {}))
    # only those in use, so that checkpoints from before these options existed can be continued
    return dict(saved, **{name: value for name, value in newer.items() if value})
