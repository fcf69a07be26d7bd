"""Batch: what users get for a step."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from stoker.pipeline.protocol.messages import Skipped
from stoker.pipeline.protocol.messages import Timings



@dataclass(frozen=True)
class Batch:
    """One batch, as it is fed.

    ``images``: uint8 [n, height, width, 3] (``features``: float32 [n, 10] for numerical), ``labels``: int32 [n, 1];
    64-byte aligned, writable, yours for as long as you hold them. n may be smaller than the batch size, down to 0,
    where samples were skipped or the epoch ends.
    """

    step: int                       # training: its number, the global_step before it is trained on
    epoch: int
    training: bool                  # False: part of the evaluation after the epoch
    indices: Tuple[int, ...]        # the planned samples, skipped ones included, in order
    arrays: Tuple[np.ndarray, ...]
    skipped: Tuple[Skipped, ...]
    worker: str
    attempt: int                    # which lease for this step it came from, from 1
    produce_s: float                # that the worker's generator took for it
    used_indices: Tuple[int, ...] = ()   # the samples that are in the arrays, in order: without bad ones, with stand-ins
    timings: Timings = Timings()    # where it went
    wire_s: float = 0.0             # that lease and batch were under way; 0 where that is not known

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
