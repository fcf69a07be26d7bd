"""The plan: what every step of a run consists of, as a pure function of (seed, sizes, step).

Nothing here remembers anything that matters: two processes that share the arguments agree on every batch without
talking, which is what makes a stream resumable from one integer and a lost step repeatable by anybody.

A run is a line of *positions*: the steps of epoch 0, its evaluation batches, the steps of epoch 1, and so on. Training
steps are numbered 0, 1, 2 ... through all epochs, and that number is TensorFlow's ``global_step``; evaluation batches
have a position but no step of their own.

Randomness comes from hashing the whole key (seed, epoch, index ...), never from ``seed + index``: sums collide
between runs (seed 1 at index 0 is seed 0 at index 1), hashes do not.
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

#: Raised when the same options give other batches than before: checkpoints of the older numbering are then refused.
PLAN_VERSION = 1


def _digest(key: Tuple[Key, ...], size: int) -> bytes:
    # repr separates the parts without doubt: ("a", 1) and ("a1",) differ; numpy's integers would print otherwise
    text = repr(tuple(part if isinstance(part, str) else int(part) for part in key))
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=size).digest()


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed, a 64-bit int, of everything random about one sample in one epoch."""
    return int.from_bytes(_digest(("sample", seed, epoch, index), 8), "little")


def random_state(*key: Key) -> "np.random.RandomState":
    """A generator of its own for ``key``. RandomState's streams are frozen by numpy (NEP 19): the same everywhere."""
    return np.random.RandomState(np.frombuffer(_digest(key, 32), dtype="<u4").astype(np.uint32))


def sample_random(seed: int, epoch: int, index: int) -> random.Random:
    """Python's generator, seeded for one sample in one epoch; ten times quicker to make than numpy's."""
    return random.Random(sample_seed(seed, epoch, index))


@dataclass(frozen=True)
class PlannedBatch:
    """What one position of the stream consists of."""

    position: int
    step: int                 # training: its number; evaluation: that of the next training step
    epoch: int
    training: bool
    indices: Tuple[int, ...]  # into the training or the validation dataset
    replacements: Tuple[int, ...]   # may stand in for bad ones, in this order; none in an evaluation: they would count twice


class Plan:
    """Every batch of a run, by position.

    ``train_size`` samples are shuffled anew each epoch and cut into batches, the last of which may be short;
    after each epoch, ``validation_size`` samples follow in their own order.
    """

    def __init__(self, train_size: int, batch_size: int, epochs: int, seed: int, validation_size: int = 0) -> None:
        self.train_size = check_whole("train_size", train_size, 1, 1 << 40)
        self.batch_size = check_whole("batch_size", batch_size, 1, 1 << 20)
        self.epochs = check_whole("epochs", epochs, 1, 1 << 30)
        self.validation_size = check_whole("validation_size", validation_size, 0, 1 << 40)
        self.seed = seed
        self.steps_per_epoch = -(-self.train_size // self.batch_size)
        self.evaluations_per_epoch = -(-self.validation_size // self.batch_size)
        self._per_epoch = self.steps_per_epoch + self.evaluations_per_epoch
        self._shuffled = (-1, np.empty(0, np.int64))  # the last epoch asked for: a cache, nothing else

    @property
    def steps(self) -> int:
        """Training steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def positions(self) -> int:
        """Length of the stream: training steps and evaluation batches."""
        return self.epochs * self._per_epoch

    def position_of(self, step: int) -> int:
        """Where the stream goes on when ``step`` training steps are done: ``global_step`` to position.

        On the border between two epochs this is the evaluation of the epoch that just ended: nobody can tell from
        the step alone whether it was finished, and doing it twice harms nothing.
        """
        step = operator.index(step)   # TensorFlow hands out numpy's integers, which no message can carry
        if not 0 <= step <= self.steps:
            raise ConfigError("step %d is not within this run's 0..%d: a checkpoint of a longer run?"
                              % (step, self.steps))
        epoch, offset = divmod(step, self.steps_per_epoch)
        if offset == 0 and epoch > 0:
            return (epoch - 1) * self._per_epoch + self.steps_per_epoch
        return epoch * self._per_epoch + offset

    def training_indices(self, step: int) -> Tuple[int, ...]:
        """The samples of training step ``step``."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        return self.at(epoch * self._per_epoch + offset).indices

    def at(self, position: int, replacements: bool = True) -> PlannedBatch:
        """The batch at ``position``. Costs one shuffle at the first look into an epoch, a slice after that. ``spares``:
        False for those that need none."""
        if not 0 <= position < self.positions:
            raise IndexError("position %d is not within 0..%d" % (position, self.positions - 1))
        epoch, offset = divmod(position, self._per_epoch)
        training = offset < self.steps_per_epoch
        if training:
            start = offset * self.batch_size
            indices = self._epoch_order(epoch)[start:start + self.batch_size].tolist()
            replacements = self._replacements(epoch, start) if replacements else ()
        else:
            start = (offset - self.steps_per_epoch) * self.batch_size
            indices = range(start, min(start + self.batch_size, self.validation_size))
            replacements = ()
        step = epoch * self.steps_per_epoch + min(offset, self.steps_per_epoch)
        return PlannedBatch(position, step, epoch, training, tuple(indices), replacements)

    def _replacements(self, epoch: int, start: int) -> Tuple[int, ...]:
        """A batch's worth of samples from half an epoch further on, wrapping around, without the batch's own."""
        places = (start + self.train_size // 2 + np.arange(min(self.batch_size, self.train_size))) % self.train_size
        others = places[(places < start) | (places >= start + self.batch_size)]
        return tuple(self._epoch_order(epoch)[others].tolist())

    def _epoch_order(self, epoch: int) -> "np.ndarray":
        if self._shuffled[0] != epoch:
            order = random_state("epoch", self.seed, epoch).permutation(self.train_size)
            self._shuffled = (epoch, order)
        return self._shuffled[1]


def produced_indices(indices: Sequence[int], replacements: Sequence[int], bad: Iterable[int], count: int) -> Optional[Tuple[int, ...]]:
    """The samples that a batch of ``count`` holds, in order, when ``bad`` ones were found; None if there is no such.

    Each bad one of ``indices`` is replaced, in its own place, by the next spare that is not bad itself, for as long as
    there are spares.
    """
    without = set(bad)
    if not without:                  # nearly always
        return tuple(indices) if count == len(indices) else None
    replacements = iter([replacement for replacement in replacements if replacement not in without])
    filled = [next(replacements, None) if index in without else index for index in indices]
    used = tuple(index for index in filled if index is not None)
    return used if count == len(used) else None


def fingerprint(job: JobOptions, dataset: str, validation_split: float) -> Dict[str, Any]:
    """What must be equal for a checkpoint to be continued: every option on which the content of steps depends.

    ``dataset``: the dataset's own fingerprint. To skip bad pictures and to end with an error at them is the same here:
    one can go on where the other ended.
    """
    saved = {"plan": PLAN_VERSION, "generator": job.generator, "image_size": list(job.image_size),
             "batch_size": job.batch_size, "seed": job.seed, "decode": job.decode, "dataset": dataset,
             "validation_split": validation_split}
    # named only where they are used: checkpoints from before there were these options can be continued
    if job.on_bad_image == "replace":
        saved["on_bad_image"] = "replace"
    if job.exif_rotate:
        saved["exif_rotate"] = True
    if job.follow_links:
        saved["follow_links"] = True
    return saved
