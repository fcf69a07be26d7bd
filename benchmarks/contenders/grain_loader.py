"""grain, one worker process per core, consumed as uint8 arrays. Way: exact."""

from __future__ import generator_stop

import os
from typing import Any, Iterator

import grain
import numpy as np
from PIL import Image

from benchmarks.contenders.protocol import BATCH, arguments, files_of, serve

HELD = 2


class Load(grain.transforms.Map):
    def __init__(self, size: int) -> None:
        self.size = size

    def map(self, sample: Any) -> Any:
        path, label = sample
        return np.asarray(Image.open(path).resize((self.size, self.size)).convert("RGB")), np.int32(label)


def batches(folder: str, size: int) -> Iterator[int]:
    samples = list(zip(*files_of(folder)))
    dataset = grain.MapDataset.source(samples).seed(1).shuffle().repeat().map(Load(size)).batch(BATCH)
    # no threads in addition: one process per core uses all cores
    reading = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    for images, _ in dataset.to_iter_dataset(reading).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=os.cpu_count() or 1, per_worker_buffer_size=HELD)):
        yield len(images)


def main() -> None:
    _, folder, size = arguments()
    serve(batches(folder, size), (os.cpu_count() or 1) * (HELD + 2) + 2)


if __name__ == "__main__":
    from absl import flags
    flags.FLAGS.mark_as_parsed()    # grain's processes read them
    main()
