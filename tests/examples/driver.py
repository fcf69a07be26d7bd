"""Runs an example several times in one process, which saves imports of TensorFlow; and kills a worker, or itself.

    python -m tests.examples.driver JSON        # {"example": name, "data": folder, "runs": [{"audit": file, ...}, ...]}

Each run has the arguments of the example's ``train``, and may have "kill": ["worker" or "trainer", audit, step]: the
process is killed when that step is about to be written to that audit. Prints a line of JSON at the end: for each run,
the losses that ``train`` returned and the step at which each of its audits began.
"""

import json
import os
import signal
import sys
import threading

import tensorflow as tf

from examples import run
from stoker.pipeline.monitoring.audit import Audit
from tests.support.processes import command_line, kill, worker_pids


class WatchedAudit(Audit):
    """An audit that kills."""
    kill = ("", "", 0)
    started = {}

    def __init__(self, path, start_step, *plan):
        self.started[os.path.basename(path)] = int(start_step)
        self.to_kill = self.kill[0] if path == self.kill[1] else ""
        super().__init__(path, start_step, *plan)

    def write(self, batch):
        if self.to_kill == "trainer" and batch.step == self.kill[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.to_kill == "worker" and batch.step == self.kill[2]:
            pid, = [pid for pid in worker_pids() if batch.worker in command_line(pid).split()]
            os.kill(pid, signal.SIGSTOP)            # so that it holds a lease when it dies, in nearly all runs
            threading.Timer(0.5, kill, [pid]).start()
        super().write(batch)


def main(example, data, runs):
    from stoker.pipeline import stream
    stream.Audit = WatchedAudit
    train = run.load(example, data)
    for arguments in runs:
        tf.keras.backend.clear_session()            # and all of TensorFlow's default graph
        tf.set_random_seed(1)
        WatchedAudit.kill, WatchedAudit.started = arguments.pop("kill", ("", "", 0)), {}
        losses = [float(loss) for loss in train(data, **arguments)]
        print("result " + json.dumps({"losses": losses, "started": WatchedAudit.started}), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
