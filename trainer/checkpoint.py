"""The checkpoint directory: a lock, a record of the run's configuration, and the step to resume from."""

import fcntl
import json
import os
from typing import Any, Dict, IO

import tensorflow as tf

from stoker.pipeline.errors import CheckpointMismatch, ConfigError
from stoker.pipeline.options import JobOptions

RECORD = "stoker.json"
LOCK = "stoker.lock"
#: Options that a record contains only if they differ from these defaults.
DEFAULTS = {name: getattr(JobOptions, name) for name in ("on_bad_image", "exif_rotate", "follow_links")}


def lock(directory: str) -> IO[str]:
    """Makes ``directory`` if necessary, and locks it for other trainers while the returned file is open. Raises
    ConfigError if another trainer has locked it, or it cannot be written."""
    try:
        os.makedirs(directory, exist_ok=True)
        file = open(os.path.join(directory, LOCK), "w")
    except OSError as error:
        raise ConfigError("checkpoint directory %r cannot be used: %s" % (directory, error.strerror)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError("another trainer uses %r: choose another --checkpoint-dir" % directory) from error
    return file


def resume_step(directory: str, configuration: Dict[str, Any]) -> int:
    """The ``global_step`` of the newest checkpoint in ``directory``, which exists, or 0 if there is none.

    In that case, the directory gets a record of ``configuration``: all options on which the content of a step depends.
    Raises CheckpointMismatch if the checkpoint is of another one, ConfigError if the record cannot be written.
    """
    path = os.path.join(directory, RECORD)
    try:
        # not latest_checkpoint(): it also returns None if the files are gone, and then the session would fail
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
        raise CheckpointMismatch("%s holds a checkpoint but no readable %s, so Stoker did not write it: choose another "
                                 "--checkpoint-dir" % (directory, RECORD)) from error
    for name in sorted(set(saved) | set(configuration)):
        if saved.get(name) != configuration.get(name):
            was, now = (json.dumps(record.get(name, DEFAULTS.get(name))) for record in (saved, configuration))
            raise CheckpointMismatch("the checkpoint in %s is of a run with %s %s, but this run has %s: use the former "
                                     "value, or choose another --checkpoint-dir" % (
                                         directory, name.replace("_", " "), was, now))
    try:
        return int(tf.train.NewCheckpointReader(state.model_checkpoint_path).get_tensor("global_step"))
    except (tf.errors.OpError, ValueError) as error:
        raise CheckpointMismatch("the checkpoint %s cannot be read (%s): choose another --checkpoint-dir" % (
            state.model_checkpoint_path, str(error).splitlines()[0])) from error
