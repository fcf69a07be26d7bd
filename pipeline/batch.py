"""Batch: the data of one step, as users get it."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from stoker.pipeline.arrays import SIZES, ArraySpec
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import MAX_BATCH, check_whole
from stoker.pipeline.plan import part_of
from stoker.pipeline.protocol.messages import Skipped, Timings
if TYPE_CHECKING:
    from stoker.pipeline.contracts import Source


@dataclass(frozen=True, repr=False)
class Batch:
    """One batch, ready to be fed: ``session.run(train, batch.feed(image=images, label=labels))``.

    ``batch["image"]`` is the array of that name, dtype [n, ...] as declared; those of the built-in generators are also
    ``images``: uint8 [n, height, width, 3] (``features``: float32 [n, 10] for numerical) and ``labels``: int32 [n, 1].
    Arrays are 64-byte aligned, writable, and not used again by Stoker while you hold them. They may be shared memory: a
    process that you fork with ``os.fork`` (not by ``multiprocessing``) must copy what it needs after you let go of the
    batch. n may be smaller than the batch size, down to 0, if samples were skipped or the epoch ends."""
    step: int                       # training: the global_step before this batch is trained on
    epoch: int
    training: bool                  # False: part of the evaluation after the epoch
    indices: Tuple[int, ...]        # the planned samples, including skipped ones, in order
    arrays: Tuple[np.ndarray, ...]
    skipped: Tuple[Skipped, ...]
    worker: str                     # '' if the batch has no sample, and no worker was needed
    attempt: int                    # 1: produced under the first lease for this position, 2: under the second ...
    produce_s: float                # the worker's generator took so long
    #: the sample of each row of the arrays: no bad ones, replacements included; of a batch function, which may mix or
    #: omit some: the samples that it got
    used_indices: Tuple[int, ...] = ()
    timings: Timings = Timings()    # the parts of produce_s
    wire_s: float = 0.0             # lease and batch travelled for so long; 0 if unknown
    specs: Tuple[ArraySpec, ...] = ()    # of ``arrays``
    #: of each array that has sides ``UpTo(n)``: the true sizes of its samples, int32 [n], or [n, k] for k such sides
    sizes: Dict[str, np.ndarray] = field(default_factory=dict)
    source: "Optional[Source]" = None    # that the samples come from; None: of a batch function, which may mix them
    missing: int = 0                # samples that a batch function left out without saying which
    global_size: int = 0            # planned samples of this step, for all ranks together

    def __getitem__(self, name: str) -> np.ndarray:
        """The array of this name, or the sizes of "NAME.sizes". Raises KeyError, which tells the names."""
        for spec, array in zip(self.specs, self.arrays):
            if spec.name == name:
                return array
        if isinstance(name, str) and name.endswith(SIZES) and name[:-len(SIZES)] in self.sizes:
            return self.sizes[name[:-len(SIZES)]]
        raise KeyError("the batch has no array %r: it has %s" % (name, ", ".join(self.names)))

    @property
    def names(self) -> List[str]:
        """The names of the arrays, in their order, and those of their sizes."""
        return [spec.name for spec in self.specs] + [name + SIZES for name in self.sizes]

    def feed(self, **placeholders: Any) -> Dict[Any, np.ndarray]:
        """A feed_dict: ``batch.feed(image=images)`` is ``{images: batch["image"]}``. Raises KeyError."""
        return {placeholder: self[name] for name, placeholder in placeholders.items()}

    def split(self, n: int) -> "List[Batch]":
        """The batch in ``n`` parts of consecutive rows, for towers: several GPUs in one process.

            parts = batch.split(2)
            session.run(train, {**parts[0].feed(image=images_0, label=labels_0),
                                **parts[1].feed(image=images_1, label=labels_1)})

        The numbers of rows differ by 1 at most; of a batch with fewer than n, some parts have none. Arrays are views,
        not copies. TensorFlow 1.9 takes a part without a copy if it begins at a multiple of 64 bytes: where the rows
        before it, times the bytes of a row, are one. So it is for images of 64 x 64 x 3 bytes, and for labels of 4
        bytes if the part begins at a row 16, 32 ...; a copy of labels costs next to nothing.

        ``sizes``, ``used_indices``, ``rows`` and ``paths`` are those of the part's rows, and so are ``indices``. A
        sample that makes several rows may have some in one part and some in the next. What is not in the arrays belongs
        to no part: ``skipped`` is () and ``missing`` 0; see those of the whole batch. Parts of a batch function's
        batch, whose rows are of unknown samples, keep its ``indices`` and ``used_indices``. Raises ConfigError unless n
        is a whole number from 1.
        """
        n = check_whole("n", n, 1, MAX_BATCH)
        parts = []
        for number in range(n):
            own = part_of(range(len(self)), number, n)
            used, indices = self.used_indices, self.indices
            if self.source is not None:
                used = used[own.start:own.stop]
                indices = used
            parts.append(replace(
                self, arrays=tuple(array[own.start:own.stop] for array in self.arrays), indices=indices,
                used_indices=used, skipped=(), missing=0,
                sizes={name: sizes[own.start:own.stop] for name, sizes in self.sizes.items()}))
        return parts

    @property
    def rows(self) -> List[Any]:
        """The row of each sample in the arrays, in their order: what your source has of it."""
        return self._aligned().rows(self.used_indices)

    @property
    def paths(self) -> List[str]:
        """The path of each sample in the arrays, in their order, below the root of the data."""
        source = self._aligned()
        if not source.has_paths:
            raise ConfigError("the samples are rows without a path of their own: see batch.rows")
        return [sample.path for sample in source.samples(self.used_indices)]

    def _aligned(self) -> "Source":
        if self.source is None:
            raise ConfigError("a function declared by stoker.batch may return its samples in any order, so rows and "
                              "paths of a batch are not known: return sample.index as an array, or use stoker.sample")
        return self.source

    @property
    def images(self) -> np.ndarray:
        """The inputs: the first array."""
        return self.arrays[0]

    features = images

    @property
    def labels(self) -> np.ndarray:
        """The labels: the last array. Raises ConfigError if there is only one."""
        if len(self.arrays) < 2:
            raise ConfigError("the batch has no labels, but only %s" % ", ".join(self.names))
        return self.arrays[-1]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __repr__(self) -> str:
        """``<Batch: step=3, epoch=0, 16 samples, image uint8 (16, 64, 64, 3), label int32 (16, 1)>``."""
        parts = ["step=%d, epoch=%d" % (self.step, self.epoch)] + ["training=False"] * (not self.training)
        parts += ["%d samples" % len(self)] + ["%d skipped" % len(self.skipped)] * bool(self.skipped)
        parts += ["%s %s %s" % (spec.name, array.dtype, array.shape) for spec, array in zip(self.specs, self.arrays)]
        return "<Batch: %s>" % ", ".join(parts)
