"""One rank of the example of Horovod, which records what it consumes, and may kill itself.

    horovodrun -np 2 PYTHON -m tests.engines.horovod_rank JSON   # {"data": folder, "checkpoint": folder, "audit": file}

Beside the arguments of the example's ``train``, JSON may have "slow_s": each step takes that much longer; "kill":
[rank, step]: that rank is killed before that step; "fail": rank, which raises an error when its first batch is there;
"hold": [step, file]: before that step, each rank waits until the file is there.
Prints "rank R is process PID", and at the end "result of rank R: {...}" with the loss of each epoch and the CRC-32 of
the trained weights. AUDIT-R.record gets a line for each step, with the CRC-32 of each sample.
"""

import json
import os
import signal
import sys
import time
import zlib

import horovod.tensorflow as hvd
import tensorflow as tf

from examples import run
from stoker.pipeline import stream
from stoker.pipeline.monitoring.audit import Audit, crc32


class RecordingAudit(Audit):
    """An audit with a record beside it."""
    slow_s, kill, fail, hold = 0.0, (-1, -1), -1, (-1, "")

    def __init__(self, path, *args, **kwargs):
        super().__init__(path, *args, **kwargs)
        self._record = open(path + ".record", "a", buffering=1)

    def write(self, batch):
        if hvd.rank() == self.fail:
            raise OSError("the disk of rank %d is gone" % hvd.rank())
        if [hvd.rank(), batch.step] == list(self.kill):
            print("killed at %r" % time.time(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.slow_s)
        while batch.step == self.hold[0] and not os.path.exists(self.hold[1]):
            time.sleep(0.05)
        super().write(batch)
        samples = [crc32(*(array[place:place + 1] for array in batch.arrays)) for place in range(len(batch.indices))]
        self._record.write(json.dumps({"step": batch.step, "epoch": batch.epoch, "indices": list(batch.indices),
                                       "samples": samples}) + "\n")


class WeightsHook(tf.train.SessionRunHook):
    """Keeps a CRC-32 of the trained weights."""
    weights = None

    def end(self, session):
        variables = sorted(tf.trainable_variables(), key=lambda variable: variable.name)
        WeightsHook.weights = zlib.crc32(b"".join(value.tobytes() for value in session.run(variables)))


def main(slow_s=0.0, kill=(-1, -1), fail=-1, hold=(-1, ""), **arguments):
    open_session = tf.train.MonitoredTrainingSession
    tf.train.MonitoredTrainingSession = lambda hooks, **given: open_session(hooks=hooks + [WeightsHook()], **given)
    stream.Audit = RecordingAudit
    RecordingAudit.slow_s, RecordingAudit.kill, RecordingAudit.fail, RecordingAudit.hold = slow_s, kill, fail, hold
    train = run.load("horovod", arguments["data"])
    hvd.init()
    print("rank %d is process %d" % (hvd.rank(), os.getpid()), flush=True)
    tf.set_random_seed(1)
    losses = [float(loss) for loss in train(**arguments)]
    print("result of rank %d: %s" % (hvd.rank(), json.dumps({"losses": losses, "weights": WeightsHook.weights})),
          flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
