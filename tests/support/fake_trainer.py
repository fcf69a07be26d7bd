"""A trainer without TensorFlow: takes steps, has weights, keeps a checkpoint, goes on from it.

Its one argument is a JSON object: ``stream`` (open_stream's arguments), perhaps ``order`` (the name of a function that
makes one, and its argument), ``checkpoint`` (a file), ``every`` (steps from one checkpoint to the next), ``pause_s``
(that a step takes), and when to end: at the first checkpoint at which ``steps`` are done, or the file ``until`` is
there. SIGTERM: a checkpoint, then the end.

The weights depend on every byte of every batch and on their order, as those of a model do.
"""

import json
import logging
import os
import signal
import sys
import time
import zlib

from stoker.pipeline import orders
from stoker.trainer.feed import open_stream


def read_checkpoint(path):
    """(steps done, weights), (0, 0) where there is no checkpoint yet."""
    try:
        with open(path) as file:
            step, weights = file.read().split()
    except FileNotFoundError:
        return 0, 0
    return int(step), int(weights)


def _write_checkpoint(path, step, weights):
    with open(path + ".new", "w") as file:
        file.write("%d %d\n" % (step, weights))
    os.rename(path + ".new", path)


def train(arguments):
    """Trains, and says what the chaos driver wants to know."""
    stops = []
    streams = []

    def stop(signum, frame):
        stops.append(signum)
        for stream in streams:
            stream.interrupt()

    signal.signal(signal.SIGTERM, stop)
    print("started", flush=True)
    path = arguments["checkpoint"]
    start, weights = read_checkpoint(path)
    step = start
    options = dict(arguments["stream"])
    if "order" in arguments:
        make, key = arguments["order"]
        options["order"] = getattr(orders, make)(key)
    begun_s = time.monotonic()
    with open_stream(start_step=start, **options) as stream:
        streams.append(stream)
        print("bound %s at step %d" % (stream.address, start), flush=True)
        for batch in () if stops else stream:
            if step == start:
                print("first %.3f" % (time.monotonic() - begun_s), flush=True)
            if batch.step != step:
                raise RuntimeError("step %d came where step %d was due" % (batch.step, step))
            for array in batch.arrays + tuple(batch.sizes.values()):
                if array.size:      # an empty array exports no buffer on every numpy
                    weights = zlib.crc32(array.reshape(-1).view("u1").data, weights)
            time.sleep(arguments["pause_s"])
            step += 1
            if step % arguments["every"] == 0:
                _write_checkpoint(path, step, weights)
                if step == arguments.get("steps") or os.path.exists(arguments.get("until", "")):
                    print("end", flush=True)
                    return
        _write_checkpoint(path, step, weights)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("stoker").setLevel(logging.DEBUG)      # the counts of leases, which the driver reads
    train(json.loads(sys.argv[1]))
