"""An open checkpoint folder: its lock, its checkpoints, and which of them are whole."""

import os
import re
import struct
from contextlib import suppress
from typing import IO, Iterable, Optional, Tuple

import tensorflow as tf

from stoker.pipeline.errors import CheckpointMismatch, ConfigError
from stoker.pipeline.monitoring.locks import try_lock
from stoker.pipeline.storage.safe_files import open_own, read_whole
from stoker.pipeline.text import printable, printable_path
from stoker.trainer import state
from stoker.trainer.files import replace_file
from stoker.trainer.record.folder import LOCK, RunFolder

MAX_NAMES_BYTES = 1 << 20      # of TensorFlow's file, which has a line for each checkpoint
_FOOTER_BYTES, _TABLE_MAGIC = 48, 0xdb4775248b80fb57      # of a table of LevelDB, which an index is


class CheckpointFolder(RunFolder):
    """The folder at ``path``. ``tensorflow_path`` is a path of it that TensorFlow can take.

    TensorFlow 1.9 takes [ * ? and \\ in a path for a pattern, and only UTF-8. So it gets the path of the open folder
    below /proc, which has none of them.
    """
    noun, remedy = "checkpoint directory", "choose another --checkpoint-dir"

    def __init__(self, path: str, make: bool = False, prefix: str = state.PREFIX, own: bool = True) -> None:
        """``make``: makes the folder if it is not there. ``prefix``: of the checkpoints' names. ``own``: Stoker saved
        them, so their number is their ``global_step``. Raises ConfigError if the folder cannot be used."""
        super().__init__(path, make)
        self._prefix, self._own = prefix, own
        self.tensorflow_path = self.open_path
        if self.open_path == self.path and (re.search(r"[\[\]*?\\]", path) or not _is_utf8(path)):
            raise ConfigError("TensorFlow cannot use the checkpoint directory %r: choose one without [ ] * ? \\ in its "
                              "path" % path)

    def lock(self) -> IO[str]:
        """Locks the folder for other trainers while the returned file is open. Raises ConfigError if another trainer
        has locked it, or it cannot be written."""
        try:
            file = open(open_own(self.at(LOCK), os.O_WRONLY | os.O_CREAT), "w")      # its content does not matter
        except OSError as error:
            raise self.unusable(error, LOCK if os.path.lexists(self.at(LOCK)) else None) from error
        try:
            try_lock(file, os.path.join(self.path, LOCK))
        except BlockingIOError as error:
            file.close()
            raise ConfigError("another trainer uses %r: choose another --checkpoint-dir" % self.path) from error
        return file

    def newest(self) -> state.Start:
        """The newest checkpoint that is whole. Raises ConfigError if a file of a newer one may not be read."""
        return state.newest(self.names(), self.names(state.SAVING), self.named(), self.problem_of, self._prefix)

    def traces(self) -> Tuple[str, ...]:
        """The names which tell that there are checkpoints, or were. Raises ConfigError."""
        return state.traces(self.names(), self.names(state.SAVING), self._prefix)

    def step_of(self, name: str) -> Optional[int]:
        """The step of the checkpoint that the file called ``name`` is a part of; None if it is of none."""
        return state.step_of(name, self._prefix)

    def named(self) -> Optional[int]:
        """The step of the newest checkpoint as TensorFlow's file has it; None if it cannot be read."""
        with suppress(OSError):
            content = read_whole(self.at(state.NAMES), MAX_NAMES_BYTES)
            return state.named_step(content.decode("utf-8", "replace"), self._prefix)
        return None

    def write_names(self, step: int, removed: Iterable[str] = ()) -> None:
        """Writes TensorFlow's file: that of ``step`` is the newest; ``removed``: names that do not count. Raises
        OSError."""
        steps = sorted({each for each in map(self.step_of, set(self.names()) - set(removed)) if each is not None})
        lines = ['model_checkpoint_path: "%s-%d"' % (self._prefix, step)]
        lines += ['all_model_checkpoint_paths: "%s-%d"' % (self._prefix, each) for each in steps]
        replace_file(self.at(state.NAMES), lambda file: file.write("\n".join(lines + [""]).encode("utf-8")),
                     synced=False)      # nothing depends on it

    def put_aside(self, damaged: Iterable[state.Damaged]) -> None:
        """Renames the files of these checkpoints. Raises OSError."""
        steps = {each.step for each in damaged}
        for name in self.names():
            if self.step_of(name) in steps:
                os.replace(self.at(name), self.at(name + state.DAMAGED))

    def problem_of(self, step: int) -> Optional[str]:
        """Why the checkpoint of ``step`` cannot be restored; None if it can. Reads all of it."""
        name = "%s-%d" % (self._prefix, step)
        parts = [each for each in self.names() if self.step_of(each) == step and not each.endswith(".meta")]
        for part in parts:
            try:
                # links of other programs lead to checkpoints; it is only read
                with open(open_own(os.path.realpath(self.at(part))), "rb") as file:
                    problem = _table_problem(file) if part.endswith(".index") else None
            except PermissionError as error:
                raise ConfigError("%s, of the newest checkpoint, cannot be read: %s; make it readable, or move the "
                                  "files %s.* away to go on from an older one" % (
                                      os.path.join(self.path, part), error.strerror, name)) from error
            except OSError as error:
                problem = error.strerror
            if problem:
                return "%s: %s" % (part, problem)
        if not any(".data-" in part for part in parts):
            return "%s.data-... is gone" % name
        try:
            reader = tf.train.NewCheckpointReader(self.at(name))
            for tensor in reader.get_variable_to_shape_map():
                reader.get_tensor(tensor)          # compares its checksum
            found = int(reader.get_tensor("global_step")) if self._own else step
        except (tf.errors.OpError, ValueError, TypeError) as error:
            return "%s: %s" % (name, self.text_of(error))
        return None if found == step else "%s holds step %d" % (name, found)

    def text_of(self, error: Exception) -> str:
        """The text of an error of TensorFlow, in one line."""
        text = (getattr(error, "message", None) or str(error)).strip().split("\n")[0]
        return printable(text.replace(self.tensorflow_path, self.path))[:300]


def _table_problem(file: IO[bytes]) -> Optional[str]:
    """What is wrong with the end of an index. TensorFlow does not check it, and takes any number there for a length
    that it allocates; the rest of the file has checksums."""
    size = file.seek(0, os.SEEK_END)
    if size < _FOOTER_BYTES:
        return "it is empty" if not size else "it is too short"
    file.seek(size - _FOOTER_BYTES)
    footer = file.read(_FOOTER_BYTES)
    if struct.unpack("<Q", footer[-8:])[0] != _TABLE_MAGIC:
        return "its end is missing or damaged"
    numbers, rest = [], footer[:-8]
    for _ in range(4):                             # offset and size of two blocks, as varints
        number, rest = _varint(rest)
        numbers.append(number)
    for offset, length in (numbers[:2], numbers[2:]):
        if offset + length + 5 > size - _FOOTER_BYTES:
            return "its end is damaged"
    return None


def _varint(data: bytes) -> Tuple[int, bytes]:
    number = 0
    for count, byte in enumerate(data[:10]):
        number |= (byte & 0x7f) << 7 * count
        if byte < 0x80:
            return number, data[count + 1:]
    return 1 << 70, b""


def _is_utf8(path: str) -> bool:
    try:
        os.fsencode(path).decode("utf-8")
        path.encode("utf-8")
    except UnicodeError:
        return False
    return True


def require_whole(folder: CheckpointFolder, start: state.Start, saved: str) -> None:
    """Raises CheckpointMismatch if there are traces of checkpoints in the folder, and none can be restored. ``saved``:
    what to do to begin again."""
    if start.checkpoint is not None:
        return
    found = folder.traces()
    if found:
        reasons = "; ".join(each.reason for each in start.damaged[:3]) or "no model.ckpt-N.index is there"
        raise CheckpointMismatch("%s holds %s, but no checkpoint that can be restored (%s), so nothing was changed: "
                                 "put back a copy of the files, or %s" % (
                                     printable_path(folder.path), listed(found), reasons, saved))


def listed(names: Tuple[str, ...]) -> str:
    """Some of the names, for a sentence."""
    return ", ".join(names[:3]) + (
        " and %d more file%s" % (len(names) - 3, "s" * (len(names) > 4)) if len(names) > 3 else "")
