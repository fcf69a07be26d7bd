"""The plan: the samples of every step of a run, as a pure function of (seed, sizes, step).

So a stream can be resumed from one integer, and any worker can repeat a lost step. A run is a sequence of *positions*:
the steps of epoch 0, its evaluation batches, the steps of epoch 1, and so on. Training steps are numbered through all
epochs, like TensorFlow's ``global_step``; evaluation batches have no step number of their own.

Random numbers come from a hash of the whole key (seed, epoch, index ...). A sum of seed and index would be equal in
different runs: seed 1 at index 0 is seed 0 at index 1.
"""

import hashlib
import operator
import random
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Optional, Sequence, Tuple, Union

import numpy as np

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import JobOptions, check_whole

Key = Union[int, str]

#: Increased when the same options give other batches than before; checkpoints of an older version are then refused.
PLAN_VERSION = 1


def _digest(key: Tuple[Key, ...], size: int) -> bytes:
    # repr keeps the parts apart: ("a", 1) and ("a1",) differ. numpy's integers have another repr than int
    text = repr(tuple(part if isinstance(part, str) else int(part) for part in key))
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=size).digest()


def random_state(*key: Key) -> "np.random.RandomState":
    """A random generator seeded by ``key``. All versions of numpy give the same RandomState numbers (NEP 19)."""
    return np.random.RandomState(np.frombuffer(_digest(key, 32), dtype="<u4").astype(np.uint32))


def sample_seed(seed: int, epoch: int, index: int, repeat: int = 0) -> int:
    """64 bits that seed the random numbers of one sample in one epoch, in which the index occurred ``repeat`` times
    before."""
    key = ("sample", seed, epoch, index) + ((repeat,) if repeat else ())
    return int.from_bytes(_digest(key, 8), "little")


def sample_random(seed: int, epoch: int, index: int, repeat: int = 0) -> random.Random:
    """Python's random generator, seeded for one sample in one epoch; ten times faster to make than numpy's. In a
    generator: ``flip = sample_random(job.seed, lease.epoch, sample.index, sample.repeat).random() < 0.5``."""
    return random.Random(sample_seed(seed, epoch, index, repeat))


@dataclass(frozen=True)
class PlannedBatch:
    """The samples of one position of the stream."""
    position: int
    step: int                 # training: its number; evaluation: the number of the next training step
    epoch: int
    training: bool
    indices: Tuple[int, ...]  # into the training or the validation dataset
    replacements: Tuple[int, ...]   # used in place of bad samples, in this order; () in an evaluation


class Plan:
    """Every batch of a run, by position. In each epoch, ``train_size`` samples are shuffled anew and cut into batches,
    the last of which may be short. After each epoch, ``validation_size`` samples follow, not shuffled."""

    def __init__(self, train_size: int, batch_size: int, epochs: int, seed: int, validation_size: int = 0) -> None:
        self.train_size = check_whole("train_size", train_size, 1, 1 << 40)
        self.batch_size = check_whole("batch_size", batch_size, 1, 1 << 20)
        self.epochs = check_whole("epochs", epochs, 1, 1 << 30)
        self.validation_size = check_whole("validation_size", validation_size, 0, 1 << 40)
        self.seed = seed
        self.steps_per_epoch = -(-self.train_size // self.batch_size)
        self.evaluations_per_epoch = -(-self.validation_size // self.batch_size)
        self._per_epoch = self.steps_per_epoch + self.evaluations_per_epoch
        self.steps = self.epochs * self.steps_per_epoch       # training steps of the whole run
        self.positions = self.epochs * self._per_epoch        # length of the stream, with the evaluation batches
        self._shuffled = (-1, np.empty(0, np.int64))          # (epoch, its order): a cache of the last one

    def position_of(self, step: int) -> int:
        """The position at which a stream continues after ``step`` training steps (``global_step``). Between two epochs,
        the evaluation is repeated: it may be unfinished. Raises ConfigError if the run has fewer steps."""
        step = operator.index(step)   # TensorFlow gives numpy's integers, which messages cannot carry
        if not 0 <= step <= self.steps:
            raise ConfigError("step %d is not in this run's 0..%d: a checkpoint of a longer run?" % (step, self.steps))
        epoch, offset = divmod(step, self.steps_per_epoch)
        repeated = self.evaluations_per_epoch if epoch > 0 and offset == 0 else 0
        return epoch * self._per_epoch + offset - repeated

    def training_indices(self, step: int) -> Tuple[int, ...]:
        """The samples of training step ``step``."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        return self.at(epoch * self._per_epoch + offset).indices

    def at(self, position: int, with_replacements: bool = True) -> PlannedBatch:
        """The batch at ``position``; its replacements are () unless ``with_replacements``. The first call for an epoch
        shuffles it. Raises IndexError outside 0 .. positions - 1."""
        if not 0 <= position < self.positions:
            raise IndexError("position %d is not within 0..%d" % (position, self.positions - 1))
        epoch, offset = divmod(position, self._per_epoch)
        first_step = epoch * self.steps_per_epoch
        if offset < self.steps_per_epoch:
            start = offset * self.batch_size
            indices = tuple(self._epoch_order(epoch)[start:start + self.batch_size].tolist())
            replacements = self._replacements(epoch, start) if with_replacements else ()
            return PlannedBatch(position, first_step + offset, epoch, True, indices, replacements)
        start = (offset - self.steps_per_epoch) * self.batch_size
        indices = tuple(range(start, min(start + self.batch_size, self.validation_size)))
        return PlannedBatch(position, first_step + self.steps_per_epoch, epoch, False, indices, ())

    def _replacements(self, epoch: int, start: int) -> Tuple[int, ...]:
        """As many samples as a batch has, from half an epoch later, wrapping around, without the batch's own."""
        places = (start + self.train_size // 2 + np.arange(min(self.batch_size, self.train_size))) % self.train_size
        others = places[(places < start) | (places >= start + self.batch_size)]
        return tuple(self._epoch_order(epoch)[others].tolist())

    def _epoch_order(self, epoch: int) -> "np.ndarray":
        if self._shuffled[0] != epoch:
            self._shuffled = epoch, random_state("epoch", self.seed, epoch).permutation(self.train_size)
        return self._shuffled[1]


def produced_indices(indices: Sequence[int], replacements: Sequence[int], bad: Iterable[int], count: int
                     ) -> Optional[Tuple[int, ...]]:
    """The samples of a produced batch, in order, if ``bad`` ones were found. None if those are not ``count`` samples.
    Each bad one of ``indices`` is replaced, in its place, by the next of ``replacements`` that is not bad itself, or
    left out if there is none."""
    without = set(bad)
    if not without:                  # nearly always
        return tuple(indices) if count == len(indices) else None
    good = (replacement for replacement in replacements if replacement not in without)
    filled = [next(good, None) if index in without else index for index in indices]
    used = tuple(index for index in filled if index is not None)
    return used if count == len(used) else None


def fingerprint(job: JobOptions, dataset: str, validation_split: float) -> Dict[str, Any]:
    """Everything on which the content of steps depends; it must be equal for a run to resume from a checkpoint.
    ``dataset``: the dataset's own fingerprint. on_bad_image "skip" and "raise" are the same here, so that a run that
    ended at a bad file can continue without it."""
    saved = {"plan": PLAN_VERSION, "generator": job.generator, "image_size": list(job.image_size),
             "batch_size": job.batch_size, "seed": job.seed, "decode": job.decode, "dataset": dataset,
             "validation_split": validation_split}
    newer = {"on_bad_image": job.on_bad_image == "replace" and "replace", "exif_rotate": job.exif_rotate,
             "follow_links": job.follow_links}
    # only those in use, so that checkpoints from before these options existed can be continued
    return dict(saved, **{name: value for name, value in newer.items() if value})
