"""Writes checkpoints: at an end of an epoch, at the end of a run, and every so many seconds of a monotonic clock."""

import os
import shutil
import time
from contextlib import suppress
from typing import Any, Callable

import tensorflow as tf

from stoker.pipeline.errors import CheckpointMismatch, RunFailed
from stoker.pipeline.text import printable_path
from stoker.trainer import state
from stoker.trainer.checkpoint_files import CheckpointFolder
from stoker.trainer.files import reason, remedy, sync_path


class Saver:
    """Restores and saves the model of the default graph in a checkpoint folder. ``saved_step``: the step of the newest
    checkpoint there; 0 without one."""

    def __init__(self, folder: CheckpointFolder, start: state.Start, keep: int = 2, every_s: float = 30.0,
                 now: Callable[[], float] = time.monotonic) -> None:
        """``keep``: how many checkpoints stay, at least 1. ``now``: a clock that is never set back."""
        self.folder, self.saved_step = folder, start.step
        self._start, self._keep, self._every_s, self._now = start, keep, every_s, now
        self._saved_s = now()
        self._saver = tf.train.Saver(max_to_keep=None)

    def session(self, model: str) -> Any:
        """A session of the default graph, restored from the checkpoint to start with. ``model``: its name, for errors.
        Raises CheckpointMismatch if the checkpoint is of another model."""
        name = self._start.checkpoint
        try:
            # it does not look for a checkpoint of its own, and begins no second time after an error
            return tf.train.SingularMonitoredSession(
                scaffold=tf.train.Scaffold(saver=self._saver),
                checkpoint_filename_with_path=None if name is None else self.folder.at(name))
        except tf.errors.OpError as error:
            if name is None:
                raise
            raise CheckpointMismatch("the checkpoint in %s does not fit the model %s (%s): use the former --model, or "
                                     "choose another --checkpoint-dir" % (
                                         self.folder.path, model, self.folder.text_of(error))) from error

    def begin(self) -> None:
        """Puts damaged checkpoints aside, before steps are done again. Raises RunFailed."""
        try:
            self.folder.put_aside(self._start.damaged)
        except OSError as error:
            raise RunFailed(str(self.folder.unusable(error))) from error
        self._saved_s = self._now()

    def save_if_due(self, session: Any, step: int) -> bool:
        """Saves ``step`` if this did so long enough ago; whether it did."""
        if self._now() < self._saved_s + self._every_s:
            return False
        is_new = self.save(session, step)
        self._saved_s = self._now()         # after it: a slow disk must leave time to train
        return is_new

    def save(self, session: Any, step: int) -> bool:
        """Saves the checkpoint of ``step``, the model's global_step, unless it is there; whether it did. Raises
        RunFailed if it cannot be written; the older ones stay then."""
        if step == self.saved_step:
            return False
        try:
            self._write(session.raw_session(), step)
        except (OSError, tf.errors.OpError) as error:
            self._forget()
            text = self.folder.text_of(error) if isinstance(error, tf.errors.OpError) else reason(error)
            path = printable_path(self.folder.path)
            if self.folder.is_gone:
                raise RunFailed("the checkpoint of step %d cannot be written: its folder %s was removed while the "
                                "training ran" % (step, path)) from error
            raise RunFailed("the checkpoint of step %d cannot be written to %s: %s; %s, and start again to go on from "
                            "step %d" % (step, path, text, remedy(text, "repair it"), self.saved_step)) from error
        self.saved_step = step
        return True

    def _write(self, session: Any, step: int) -> None:
        folder, name = self.folder, "%s-%d" % (state.PREFIX, step)
        self._forget()
        os.mkdir(folder.at(state.SAVING))
        # by the path of the open folder: it is this one, though a link may take its name
        fd = os.open(folder.at(state.SAVING), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            saving = "/proc/self/fd/%d" % fd
            if not os.path.isdir(saving):
                saving = folder.at(state.SAVING)
            self._saver.save(session, os.path.join(saving, name), write_state=False)
            parts = sorted(os.listdir(saving), key=lambda part: (part.endswith(".index"), part))      # the index last
            for part in parts:
                if not part.endswith(".meta"):      # no resume needs it
                    sync_path(os.path.join(saving, part))
            for part in parts:
                os.replace(os.path.join(saving, part), folder.at(part))
        finally:
            os.close(fd)
        sync_path(folder.at())
        removed = state.to_remove(folder.names(), step, self._keep)
        folder.write_names(step, removed)
        for each in removed:
            with suppress(OSError):
                if os.path.isdir(folder.at(each)) and not os.path.islink(folder.at(each)):
                    shutil.rmtree(folder.at(each))
                else:
                    os.remove(folder.at(each))
        self._forget()

    def _forget(self) -> None:
        """Removes what a save left behind that was not completed."""
        path = self.folder.at(state.SAVING)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.remove(path)
