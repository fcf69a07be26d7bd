"""Stoker as users run it: ``open_stream`` with one worker process per core, into a placeholder of TensorFlow 1.9.

Way: DECODE:WORKER_PYTHON, and :frames if the memory of batches is not to be shared. In place of WORKER_PYTHON,
"composed": the workers are in containers, and this is the trainer's container (benchmarks/composed.yml).
"""

from __future__ import generator_stop

from typing import Any, Dict, Iterator

from stoker.pipeline.options import StreamOptions
from stoker.trainer.feed import open_stream
from benchmarks.contenders.protocol import BATCH, arguments, serve
from benchmarks.contenders.trainer_1_9 import fed

PREFETCH = StreamOptions().prefetch


def batches(way: str, folder: str, size: int) -> Iterator[int]:
    decode, python, frames = (way.split(":") + [""])[:3]
    options: Dict[str, Any] = dict(worker_python=python)
    if python == "composed":
        options = dict(workers=0, bind="tcp://0.0.0.0:5555", keys="/keys", health_file="/tmp/alive",
                       shared_memory_folder="/shared")
    if frames:
        options["shared_memory"] = False
    with open_stream(folder, image_size=size, batch_size=BATCH, epochs=10000, seed=1, decode=decode,
                     **options) as stream:
        yield from fed(((batch.images, batch.labels) for batch in stream), size, "uint8")


if __name__ == "__main__":
    serve(batches(*arguments()), PREFETCH + 2)
