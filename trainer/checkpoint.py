"""The checkpoint directory: a lock, records of the run, and the step to resume from.

``stoker.json`` has everything on which the content of steps depends; a run with another configuration is refused.
``stoker-rows.npy`` has a hash of each row, so that the refusal can say which rows differ. ``stoker-run.json`` says what
``stoker-predict`` needs to know of the run.
"""

import fcntl
import json
import os
from typing import Any, Callable, Dict, IO, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.errors import CheckpointMismatch, ConfigError
from stoker.pipeline.options import JobOptions
from stoker.pipeline.sources.identity import difference, identity
from stoker.trainer.run import Run

RECORD, ROWS, RUN = "stoker.json", "stoker-rows.npy", "stoker-run.json"
LOCK = "stoker.lock"
RUN_VERSION = 1
FOR_READERS = {"classes"}        # keys of stoker.json that people may read; "dataset" is a hash of them too
#: Options that a record contains only if they differ from these defaults.
DEFAULTS = dict({name: getattr(JobOptions, name) for name in (
                    "on_bad_image", "exif_rotate", "follow_links", "truncated", "max_pixels", "max_text_mb")},
                order="shuffled", drop_last=False, partners=0, rows=1, unlabelled=False)


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


def newest(directory: str) -> Optional[str]:
    """The path of the newest checkpoint in ``directory``, as TensorFlow has it; None if there is none."""
    # not latest_checkpoint(): it also returns None if the files are gone, and then the session would fail
    state = tf.train.get_checkpoint_state(directory)
    return None if state is None else str(state.model_checkpoint_path)


def resume_step(directory: str, run: Run) -> int:
    """The ``global_step`` of the newest checkpoint in ``directory``, which exists, or 0 if there is none.

    In that case, the directory gets records of the run's configuration and rows. Raises CheckpointMismatch if the
    checkpoint is of another run, ConfigError if the records cannot be written.
    """
    configuration = run.fingerprint()
    checkpoint = newest(directory)
    if checkpoint is None:
        _write(directory, ROWS, lambda file: np.save(file, run.source.row_hashes(), allow_pickle=False))
        _write_json(directory, RECORD, dict(configuration, classes=_numbered(run.source.classes)))
        return 0
    saved = _read_json(directory, RECORD)
    if saved is None:
        raise CheckpointMismatch("%s holds a checkpoint but no readable %s, so Stoker did not write it: choose another "
                                 "--checkpoint-dir" % (directory, RECORD))
    for name in sorted((set(saved) | set(configuration)) - FOR_READERS):
        if saved.get(name) != configuration.get(name):
            was, now = (json.dumps(record.get(name, DEFAULTS.get(name))) for record in (saved, configuration))
            more = _rows_that_differ(directory, run) if name == "dataset" else ""
            raise CheckpointMismatch("the checkpoint in %s is of a run with %s %s, but this run has %s%s; use the "
                                     "former value, or choose another --checkpoint-dir" % (
                                         directory, name.replace("_", " "), was, now, more))
    try:
        return int(tf.train.NewCheckpointReader(checkpoint).get_tensor("global_step"))
    except (tf.errors.OpError, ValueError) as error:
        raise CheckpointMismatch("the checkpoint %s cannot be read (%s): choose another --checkpoint-dir" % (
            checkpoint, str(error).splitlines()[0])) from error


def _numbered(classes: Sequence[str]) -> Dict[str, int]:
    return {name: number for number, name in enumerate(classes)}


def _rows_that_differ(directory: str, run: Run) -> str:
    """How the data of the checkpoint's run and of ``run`` differ, after a colon; '' if that is unknown."""
    recorded = _read_json(directory, RUN)
    if recorded is None:               # an older run has no such records
        return ""
    try:
        hashes = np.load(os.path.join(directory, ROWS), allow_pickle=False)
    except (OSError, ValueError):
        hashes = None
    return ": %s" % difference(recorded.get("data", {}), hashes, run.source)


# ----------------------------------------------------------------------------------------------------- stoker-run.json

class Recorded(NamedTuple):
    """What ``stoker-predict`` needs to know of a run."""
    generator: str                   # or the name of the sample or batch function
    model: Optional[str]             # None: the built-in one
    classes: Tuple[str, ...]
    arrays: Tuple[ArraySpec, ...]
    options: Dict[str, Any]          # arguments of ``open_stream``


def record_run(directory: str, run: Run, model: Optional[str], partners: int) -> None:
    """Records what the run is, for ``recorded_run``. Raises ConfigError if it cannot be written."""
    job = run.job
    options = {"image_size": job.image_size, "batch_size": job.batch_size, "seed": job.seed, "decode": job.decode,
               "exif_rotate": job.exif_rotate, "partners": partners, "truncated": job.truncated,
               "max_pixels": job.max_pixels, "max_text_mb": job.max_text_mb}
    arrays = [[spec.name, spec.dtype, [[int(side), side.pad] if isinstance(side, UpTo) else side
                                       for side in spec.shape]] for spec in job.arrays]
    _write_json(directory, RUN, {
        "version": RUN_VERSION, "generator": job.generator, "model": model,
        "data": identity(run.source), "arrays": arrays, "options": options})


def recorded_run(directory: str) -> Recorded:
    """What the run is whose checkpoints are in ``directory``. Raises ConfigError if there is no readable record."""
    saved = _read_json(directory, RUN)
    try:
        if saved is None or saved["version"] != RUN_VERSION:
            raise ValueError("no record of version %d" % RUN_VERSION)
        arrays = tuple(ArraySpec(name, dtype, tuple(UpTo(*side) if isinstance(side, list) else side for side in shape))
                       for name, dtype, shape in saved["arrays"])
        options = dict(saved["options"], image_size=tuple(saved["options"]["image_size"]))
        return Recorded(saved["generator"], saved["model"], tuple(saved["data"]["classes"]), arrays, options)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("%s has no readable %s, which tells what its model is: start stoker-train once more with the "
                          "options of that run and --checkpoint-dir %s, which writes it" % (directory, RUN, directory)
                          ) from error


# -------------------------------------------------------------------------------------------------------------- files

def _read_json(directory: str, name: str) -> Optional[Dict[str, Any]]:
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_json(directory: str, name: str, content: Dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True).encode("ascii")
    _write(directory, name, lambda file: file.write(text))


def _write(directory: str, name: str, write: Callable[[IO[bytes]], Any]) -> None:
    """Replaces the file as a whole."""
    path = os.path.join(directory, name)
    try:
        with open(path + ".new", "wb") as file:
            write(file)
        os.replace(path + ".new", path)
    except OSError as error:
        raise ConfigError("checkpoint directory %r cannot be used: %s" % (directory, error.strerror)) from error
