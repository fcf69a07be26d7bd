"""Stoker as users run it: ``open_stream`` with one worker process per core, into a placeholder of TensorFlow 1.9.

Way: DECODE:WORKER_PYTHON.
"""

from __future__ import generator_stop

from typing import Iterator

from stoker.pipeline.options import StreamOptions
from stoker.trainer.feed import open_stream
from benchmarks.contenders.protocol import BATCH, arguments, serve
from benchmarks.contenders.trainer_1_9 import fed

PREFETCH = StreamOptions().prefetch


def batches(way: str, folder: str, size: int) -> Iterator[int]:
    decode, _, python = way.partition(":")
    with open_stream(folder, image_size=size, batch_size=BATCH, epochs=10000, seed=1, decode=decode,
                     worker_python=python) as stream:
        yield from fed(((batch.images, batch.labels) for batch in stream), size, "uint8")


if __name__ == "__main__":
    serve(batches(*arguments()), PREFETCH + 2)
