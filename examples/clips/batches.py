"""16 frames in a row of each clip. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker

FRAMES = 16


@stoker.sample({"clip": ("uint8", (FRAMES, 16, 16, 3)), "direction": "int32"})
def clip(sample, random):
    spare = sample.row["frames"] - FRAMES
    if spare < 0:
        raise stoker.Skip("the clip has only %d frames" % sample.row["frames"])
    first = random.randint(0, spare) if sample.training else spare // 2
    frames = [sample.image("%s/%03d.png" % (sample.row["folder"], first + number)) for number in range(FRAMES)]
    return {"clip": np.stack([np.asarray(frame) for frame in frames]), "direction": sample.row["direction"]}
