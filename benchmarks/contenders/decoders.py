"""How close each way to decode is to the exact one: ``benchmarks/quality.py`` runs it on each Python with a Pillow.

    python -m benchmarks.contenders.decoders FOLDER SIZE COUNT

Prints JSON: way -> the PSNR of each picture against 'exact' with the same filter and against 'exact' (bicubic), in
dB, and the mean absolute error against the latter, in levels of 0..255. The way 'tensorflow', where there is
TensorFlow 1.9, is its ``decode_jpeg`` and ``resize_bilinear``, 'tensorflow-4' with its scaled decode by 4.
"""

import functools
import json
import sys
from typing import Any, Callable, Dict, List

import numpy as np
from PIL import Image

from stoker.workers import images
from benchmarks.contenders.protocol import files_of

_FILTERS: Any = getattr(Image, "Resampling", Image)     # where they are since Pillow 9.1, and before
BICUBIC, BILINEAR = _FILTERS.BICUBIC, _FILTERS.BILINEAR
#: way -> the filter of the exact picture that it is like
FILTERS = {"fast": BICUBIC, "fastest": BILINEAR, "sampled": BILINEAR, "tensorflow": BILINEAR, "tensorflow-4": BILINEAR}


def psnr(one: Any, other: Any) -> float:
    """In dB; equal pictures count as 99."""
    error = np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2)
    return min(99.0, 10 * np.log10(255 ** 2 / max(error, 1e-12)))


def ways(size: int) -> Dict[str, Callable[[str], Any]]:
    found: Dict[str, Callable[[str], Any]] = {
        decode: functools.partial(images.load, size=(size, size), decode=decode)
        for decode in ("fast", "fastest", "sampled")}
    try:
        import tensorflow as tf
    except ImportError:
        return found
    name = tf.placeholder(tf.string, ())
    session = tf.Session()

    def add(way: str, **options: Any) -> None:
        resized = tf.image.resize_bilinear([tf.image.decode_jpeg(tf.read_file(name), 3, **options)], (size, size))[0]
        found[way] = lambda path: session.run(resized, {name: path})

    add("tensorflow")
    add("tensorflow-4", ratio=4, dct_method="INTEGER_FAST")
    return found


def measure(folder: str, size: int, count: int) -> Dict[str, Dict[str, List[float]]]:
    paths = files_of(folder)[0]
    paths = paths[::max(1, len(paths) // count)][:count]
    found: Dict[str, Dict[str, List[float]]] = {}
    for way, load in ways(size).items():
        result = found[way] = {"same filter": [], "bicubic": [], "error": []}
        for path in paths:
            with Image.open(path) as image:
                exact = image.convert("RGB").resize((size, size), BICUBIC)
                same = image.convert("RGB").resize((size, size), FILTERS[way])
            made = load(path)
            result["same filter"].append(psnr(made, same))
            result["bicubic"].append(psnr(made, exact))
            result["error"].append(float(np.abs(np.asarray(made, float) - np.asarray(exact, float)).mean()))
    return found


if __name__ == "__main__":
    json.dump(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.stdout)
