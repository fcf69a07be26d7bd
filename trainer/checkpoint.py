"""Which run a checkpoint directory belongs to, and how far it got."""

import fcntl
import json
import os
from typing import Any, Dict, IO

import tensorflow as tf

from stoker.pipeline.errors import CheckpointMismatch, ConfigError

RECORD = "stoker.json"
LOCK = "stoker.lock"
UNSAID = {"on_bad_image": "skip", "exif_rotate": False, "follow_links": False}   # what a record does not mention


def lock(directory: str) -> IO[str]:
    """Makes ``directory`` if need be, and keeps other trainers out of it for as long as the returned file is open.

    Raises ConfigError if another trainer is in it, or it cannot be written.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        held = open(os.path.join(directory, LOCK), "w")
    except OSError as error:
        raise ConfigError("checkpoint directory %r cannot be used: %s" % (directory, error.strerror)) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise ConfigError("another trainer uses %r: wait for it, or choose another --checkpoint-dir"
                          % directory) from error
    return held


def resume_step(directory: str, configuration: Dict[str, Any]) -> int:
    """The ``global_step`` of the newest checkpoint in ``directory``, 0 if there is none.

    The directory, which exists, gets a record of ``configuration``: every option that decides what a step
    consists of. Raises CheckpointMismatch if the record there is of another one, ConfigError if it cannot be written.
    """
    path = os.path.join(directory, RECORD)
    try:
        # not latest_checkpoint: it says None also where the files are gone, and the session would then fail
        state = tf.train.get_checkpoint_state(directory)
        if state is None:
            with open(path + ".new", "w") as record:
                json.dump(configuration, record, indent=1, sort_keys=True)
            os.replace(path + ".new", path)
            return 0
    except OSError as error:
        raise ConfigError("checkpoint directory %r cannot be used: %s" % (directory, error.strerror)) from error
    try:
        with open(path) as record:
            saved = json.load(record)
    except (OSError, ValueError) as error:
        raise CheckpointMismatch("%s holds a checkpoint but no readable %s, so it was not written by Stoker: choose "
                                 "another --checkpoint-dir" % (directory, RECORD)) from error
    for name in sorted(set(saved) | set(configuration)):
        if saved.get(name) != configuration.get(name):
            raise CheckpointMismatch(
                "the checkpoint in %s is of a run with %s %s, this one has %s: go back to that, or choose another "
                "--checkpoint-dir" % (directory, name.replace("_", " "), json.dumps(saved.get(name, UNSAID.get(name))),
                                      json.dumps(configuration.get(name, UNSAID.get(name)))))
    try:
        return int(tf.train.NewCheckpointReader(state.model_checkpoint_path).get_tensor("global_step"))
    except (tf.errors.OpError, ValueError) as error:
        raise CheckpointMismatch("the checkpoint %s cannot be read (%s): empty %s, or choose another "
                                 "--checkpoint-dir" % (state.model_checkpoint_path, str(error).splitlines()[0],
                                                       directory)) from error
