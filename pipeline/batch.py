"""Batch: the data of one step, as users get it."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from stoker.pipeline.protocol.messages import Skipped, Timings


@dataclass(frozen=True)
class Batch:
    """One batch, ready to be fed: ``session.run(train, {images: batch.images, labels: batch.labels})``.

    ``images``: uint8 [n, height, width, 3] (``features``: float32 [n, 10] for numerical), ``labels``: int32 [n, 1];
    64-byte aligned, writable, and not used again by Stoker while you hold them. n may be smaller than the batch size,
    down to 0, if samples were skipped or the epoch ends."""
    step: int                       # training: the global_step before this batch is trained on
    epoch: int
    training: bool                  # False: part of the evaluation after the epoch
    indices: Tuple[int, ...]        # the planned samples, including skipped ones, in order
    arrays: Tuple[np.ndarray, ...]
    skipped: Tuple[Skipped, ...]
    worker: str
    attempt: int                    # 1: produced under the first lease for this position, 2: under the second ...
    produce_s: float                # the worker's generator took so long
    used_indices: Tuple[int, ...] = ()   # the samples in the arrays, in order: no bad ones, replacements included
    timings: Timings = Timings()    # the parts of produce_s
    wire_s: float = 0.0             # lease and batch travelled for so long; 0 if unknown

    @property
    def images(self) -> np.ndarray:
        """The inputs."""
        return self.arrays[0]

    features = images

    @property
    def labels(self) -> np.ndarray:
        """The labels."""
        return self.arrays[-1]

    def __len__(self) -> int:
        return len(self.arrays[-1])
