"""Indexing: the index of each record file of a source, kept from an earlier start or made now, in several processes."""

import contextlib
import logging
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from stoker.pipeline.cores import cores
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.progress import open_bar
from stoker.pipeline.sources.records.file_index import FileIndex
from stoker.pipeline.sources.records.index_bytes import DamagedIndex, Indexed, from_bytes, to_bytes
from stoker.pipeline.sources.records.index_children import CannotStart, Task, index_in_children
from stoker.pipeline.sources.records.index_one import index_one
from stoker.pipeline.sources.records.kept_index import KeptIndexes
from stoker.pipeline.sources.records.tfrecord import crc_function
from stoker.pipeline.storage.store import Entry
from stoker.pipeline.text import printable_path

log = logging.getLogger("stoker")

SMALL_BYTES = 32 << 20          # so many are read here sooner than by a process that has to start
BAR_AFTER_S = 1.0


class IndexedFiles(NamedTuple):
    """The indexes of files, and the versions of which they are."""
    files: List[Entry]
    indexes: List[FileIndex]


def index_files(root: str, files: Sequence[Entry], format_name: str, options: Dict[str, Any]) -> IndexedFiles:
    """The indexes of ``files`` below ``root``, in their order. Raises ConfigError, and DatasetError, which name the
    file."""
    kept = KeptIndexes(root, format_name, options)
    found: List[Optional[Indexed]] = [kept.get(entry) for entry in files]
    tasks = [Task(number, entry.path) for number, entry in enumerate(files) if found[number] is None]
    if tasks:
        try:
            _make(root, files, format_name, options, tasks, found, kept)
        finally:
            kept.finish()
    else:
        kept.finish()
    made = [indexed for indexed in found if indexed is not None]
    assert len(made) == len(files)
    return IndexedFiles([Entry(entry.path, indexed.version) for entry, indexed in zip(files, made)],
                        [indexed.file_index for indexed in made])


def _make(root: str, files: Sequence[Entry], format_name: str, options: Dict[str, Any], tasks: List[Task],
          found: List[Optional[Indexed]], kept: KeptIndexes) -> None:
    """Makes the indexes of ``tasks``, puts them into ``found``, and keeps them."""
    sizes = {task.number: files[task.number].version.size for task in tasks}
    with _Progress(sum(sizes.values())) as progress:
        def here(task: Task) -> None:
            indexed = index_one(root, task.path, format_name, options, progress.add)
            done(task, to_bytes(kept.key(task.path), indexed))

        def done(task: Task, packed: bytes) -> None:
            try:
                indexed = from_bytes(packed, kept.key(task.path))
            except DamagedIndex as error:       # of a file that has places outside of itself
                raise DatasetError("%s cannot be indexed: %s" % (printable_path(task.path), error)) from error
            found[task.number] = indexed
            if indexed.settled:
                kept.put(Entry(task.path, indexed.version), packed)
            progress.end(sizes[task.number])
        processes = min(cores(), len(tasks))
        if processes > 1 and sum(sizes.values()) > SMALL_BYTES:
            if format_name == "tfrecord" and options.get("check"):
                crc_function()                  # says if there is none: the processes log nothing
            try:
                with contextlib.closing(index_in_children(root, tasks, format_name, options, processes)) as messages:
                    for message in messages:
                        if message is None:
                            progress.add(0)
                        elif message.packed is None:
                            progress.add(message.read_bytes)
                        else:
                            done(message.task, message.packed)
                return
            except CannotStart as error:
                log.warning("no processes can be started to index the files side by side (%s): they are indexed one "
                            "after the other", error)
        for task in tasks:
            if found[task.number] is None:
                here(task)


class _Progress:
    """The bytes that are done, in a bar, which is not shown for what takes a moment."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._show_s = time.monotonic() + BAR_AFTER_S
        self._read = self._ended = self._shown = 0
        self._bar: Any = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._show()
        self._open.close()

    def add(self, count: int) -> None:
        """So many bytes more were read."""
        self._read += count
        self._show()

    def end(self, size: int) -> None:
        """A file of so many bytes is done: those that had not to be read count as well."""
        self._ended += size
        self._show()

    def _show(self) -> None:
        if self._bar is None:
            if time.monotonic() < self._show_s or self._ended >= self._total:
                return
            self._bar = self._open.enter_context(open_bar(self._total >> 20, "MB", "indexing"))
        now = min(max(self._read, self._ended), self._total) >> 20
        if now > self._shown:
            self._bar.update(now - self._shown)
            self._shown = now
