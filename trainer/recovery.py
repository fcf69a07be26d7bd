"""Damaged checkpoints of programs that use TensorFlow's own sessions, Savers or Estimators."""

import logging
import os
import re
from typing import Optional, TypeVar

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.text import native
from stoker.trainer.checkpoint_files import CheckpointFolder, require_whole

log = logging.getLogger("stoker")

Folder = TypeVar("Folder", str, Optional[str])


def recover(checkpoint_dir: Folder, prefix: str = "model.ckpt") -> Folder:
    """Makes TensorFlow go on from the newest checkpoint in a folder that can be restored. Returns ``checkpoint_dir``:

        with tf.train.MonitoredTrainingSession(checkpoint_dir=stoker.recover("run")) as session:
            start_step = session.run(global_step)

    TensorFlow 1.9 alone believes its file ``checkpoint``: if that is torn, it begins the training anew, and if it names
    a damaged checkpoint, it fails. Call this where the training starts, and in no other program meanwhile. It reads
    all of the newest checkpoint. If that is damaged, it logs which steps are done again, and renames its files to
    NAME.damaged. A stream that is opened with ``start_step`` at the session's ``global_step`` then cuts its audit and
    its list of bad samples to that step.

    ``checkpoint_dir``: may be missing, or None. ``prefix``: of the checkpoints' names, before "-STEP". Raises
    CheckpointMismatch if checkpoints are there and none can be restored, ConfigError if TensorFlow cannot use the
    folder, or it cannot be written.
    """
    if checkpoint_dir is None:
        return checkpoint_dir
    path = native(os.fspath(checkpoint_dir))
    if re.search(r"[\[\]*?\\]", path):
        raise ConfigError("TensorFlow takes [ ] * ? and \\ in the path %r for a pattern: choose another folder" % path)
    if not os.path.lexists(path):
        return checkpoint_dir
    with CheckpointFolder(path, prefix=prefix, own=False) as folder:
        start = folder.newest()      # nothing is written before it is known that one can be restored
        require_whole(folder, start, "choose another folder")
        if start.checkpoint is None:
            return checkpoint_dir
        try:
            if start.damaged:
                log.warning("%s", start.notice(path))
                folder.put_aside(start.damaged)
            if folder.named() != start.step:
                folder.write_names(start.step)
        except OSError as error:
            raise folder.unusable(error) from error
    return checkpoint_dir
