"""Runs an example: makes its data once, then calls ``train`` of its train.py. Run it again to resume.

    python -m examples.run driving --workers 3          # from the repository's root; or: make example NAME=driving

An example needs nothing of this file: its folder can be copied and changed.
"""

import argparse
import importlib
import os
import shutil
import sys
from typing import Any, List

from stoker.pipeline.output import protect, survive_hangup

import stoker

EXAMPLES = os.path.dirname(os.path.abspath(__file__))


def names() -> List[str]:
    """The examples: the folders with a train.py."""
    return sorted(name for name in os.listdir(EXAMPLES) if os.path.exists(os.path.join(EXAMPLES, name, "train.py")))


def load(name: str, data: str) -> Any:
    """``train`` of an example, whose data is made in the folder ``data`` if there is none yet."""
    sys.path.insert(0, os.path.join(EXAMPLES, name))       # as in `python train.py`: workers find batches.py there
    if not os.path.exists(data):
        part = "%s.part.%d" % (data, os.getpid())          # a folder of this rank: several make the same data
        os.makedirs(part, exist_ok=True)
        importlib.import_module("make_data").make(part)
        try:
            os.rename(part, data)                          # a folder that is there is complete
        except OSError:
            if not os.path.exists(data):
                raise
            shutil.rmtree(part)                            # another rank was faster
    return importlib.import_module("train").train


def main() -> None:
    """The command line of all examples."""
    protect()
    survive_hangup("\nthe terminal is gone (SIGHUP), the training goes on; to end it: kill %d\n" % os.getpid())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=names())
    parser.add_argument("--data", metavar="DIR", help="made if it is not there (runs/examples/NAME/data)")
    parser.add_argument("--checkpoint", metavar="DIR", help="to resume from (runs/examples/NAME/checkpoint)")
    parser.add_argument("--epochs", type=int, help="train so many")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker-python", metavar="FILE", default=os.environ.get("STOKER_WORKER_PYTHON"))
    parser.add_argument("--port", type=int, help="of the example horovod: rank R listens at port + R of this host")
    parser.add_argument("--audit", metavar="FILE", help="writes a line for each step")
    given = vars(parser.parse_args())
    name = given.pop("name")
    folder = os.path.join("runs", "examples", name)
    given["checkpoint"] = given["checkpoint"] or os.path.join(folder, "checkpoint")
    if os.environ.get("HOROVOD_RANK", "0") == "0":         # one rank alone restores and checkpoints
        stoker.recover(given["checkpoint"], "model" if name == "detection" else "model.ckpt")
    data = given.pop("data") or os.path.join(folder, "data")
    losses = load(name, data)(data, **{option: value for option, value in given.items() if value is not None})
    print("%s: %s" % (name, "loss of each epoch: " + ", ".join("%.3f" % loss for loss in losses) if losses
                      else "finished before; remove %s to train again" % folder))


if __name__ == "__main__":
    main()
