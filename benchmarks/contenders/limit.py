"""No pipeline at all: a process per core reads and decodes its share of the files into an array, which is dropped.

Ways: a decode mode (with the Pillow of this Python), or libjpeg (libjpeg-turbo and OpenCV's SIMD resize). A mode makes
the calls of PIL that Stoker's decoder makes for an ordinary JPEG, and none of its checks: the same pixels, in the least
time that this Pillow takes for them.
"""

from __future__ import generator_stop

import io
import multiprocessing
import os
import time
from typing import Any, Callable, Tuple

import numpy as np

from benchmarks.contenders.protocol import BATCH, arguments, serve_with, shuffled


def bare(mode: str, size: int) -> Callable[[bytes], np.ndarray]:
    """Decodes the bytes of a JPEG, with PIL alone."""
    from PIL import Image
    from stoker.workers.jpeg import size_of
    filters: Any = getattr(Image, "Resampling", Image)      # where they are since Pillow 9.1, and before
    if mode == "exact":
        def exact(data: bytes) -> np.ndarray:
            image = Image.open(io.BytesIO(data), formats=["JPEG"])
            return np.asarray(image.resize((size, size)).convert("RGB"))
        return exact
    gap, resample = {"fast": (2.0, filters.BICUBIC), "fastest": (1.0, filters.BILINEAR),
                     "sampled": (0.7, filters.NEAREST)}[mode]

    def load(data: bytes) -> np.ndarray:
        found = size_of(data)
        assert found is not None, "this is no ordinary JPEG"
        width, height = found
        most = min(found) // int(gap * size)
        scale = 8 if most >= 8 else 4 if most >= 4 else 2 if most >= 2 else 1
        image = Image.new("RGB", (-(-width // scale), -(-height // scale)), None)
        image.frombytes(data, "jpeg", ("RGB", "", scale, 0))
        return np.asarray(image.resize((size, size), resample, box=(0, 0, width / scale, height / scale),
                                       reducing_gap=max(1.0, gap)))
    return load


def decoder(way: str, size: int) -> Callable[[bytes], np.ndarray]:
    if way != "libjpeg":
        from stoker.pipeline.arrays import keep_freed_memory
        keep_freed_memory()
        return bare(way, size)
    import cv2
    import simplejpeg
    cv2.setNumThreads(1)

    def load(data: bytes) -> np.ndarray:
        # reduced by whole eighths while it is decoded, to at least the size
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, min_factor=1)
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return load


def content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def decode(way: str, folder: str, size: int, number: int, pipe: Any) -> None:
    """One process: measures whenever the pipe says how long."""
    load, files = decoder(way, size), shuffled(folder, number)
    batch = np.empty((BATCH, size, size, 3), np.uint8)
    seconds = 0.1
    while True:
        images, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            batch[images % BATCH] = load(content(next(files)[0]))
            images += 1
        pipe.send((images, time.perf_counter() - begin))
        seconds = pipe.recv()


def main() -> None:
    way, folder, size = arguments()
    context = multiprocessing.get_context("fork")
    pipes = []
    for number in range(os.cpu_count() or 1):
        own, other = context.Pipe()
        context.Process(target=decode, args=(way, folder, size, number, other), daemon=True).start()
        pipes.append(own)

    def measure(seconds: float) -> Tuple[float, float]:
        for pipe in pipes:
            pipe.send(seconds)
        return sum(images / passed for images, passed in [pipe.recv() for pipe in pipes]) * seconds, seconds

    serve_with(measure, lambda: [pipe.recv() for pipe in pipes])


if __name__ == "__main__":
    main()
