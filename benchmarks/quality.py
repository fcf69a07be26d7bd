"""The quality of the pictures: each way to decode compared with the exact picture, in decibels (PSNR) and levels.

Against 'exact' with the same filter (what scaled decoding costs), and against the tutorial's own expression, which is
bicubic. 40 dB is a mean error of about 2 levels of 255: not visible side by side. The table also has TensorFlow 1.9's
own ``resize_bilinear``, which has no antialiasing.
"""

import json
import os
import statistics
import subprocess
from typing import Dict, List

from benchmarks.end_to_end import PYTHONS, pictures_made
from benchmarks.pictures import FOLDER
from benchmarks.table import Goal, Say, Table, main

SIZES = (64, 128, 224)
LEAST = {"fast": 45.0, "fastest": 36.0}     # dB of the worst picture, against the same filter
LIMIT_S = 120.0
TENSORFLOW = {"tensorflow": "tf.image.resize_bilinear, TF 1.9",
              "tensorflow-4": "tf.image.resize_bilinear, TF 1.9, fast DCT, ratio=4"}


def run(quick: bool, say: Say) -> List[Table]:
    facts = pictures_made(say)
    rows, goals = [], []
    for size in SIZES:
        for environment, python in PYTHONS.items():
            executable = os.path.join(".venv", environment, "bin", "python")
            if not os.path.exists(executable):
                continue
            say("%d pixels, %s" % (size, python))
            output = subprocess.run([executable, "-m", "benchmarks.contenders.decoders", os.path.join(FOLDER, "photos"),
                                     str(size), "20" if quick else "200"], stdout=subprocess.PIPE, check=True,
                                    timeout=LIMIT_S, env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2")).stdout
            found: Dict[str, Dict[str, List[float]]] = json.loads(output.decode())
            for way, result in sorted(found.items()):
                name = TENSORFLOW.get(way, "%s, %s" % (way, python))
                rows.append([size, name] + [compute(result[key]) for key in ("same filter", "bicubic")
                                            for compute in (statistics.mean, min)] + [statistics.mean(result["error"])])
                if way in LEAST and environment == "workers":
                    goals.append(Goal("worst picture with %s at %d pixels, dB against the same filter" % (way, size),
                                      min(result["same filter"]), LEAST[way]))
    return [Table("quality", "Quality of each way to decode: %s" % facts["photos"],
                  ["pixels", "way", "dB, same filter", "worst", "dB, bicubic", "worst ", "mean error, levels"], rows,
                  ["99 dB: the same to the last bit."], goals)]


if __name__ == "__main__":
    main(run, __doc__)
