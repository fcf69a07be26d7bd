"""The folder of the shards: one process writes into it, and it holds complete shards and at most one temporary file."""

import errno
import os
from contextlib import suppress
from typing import IO, Any, Callable, Optional, Sequence

from stoker.packing import manifest as manifests
from stoker.packing.manifest import Manifest
from stoker.packing.plan import Cursor, shard_name
from stoker.packing.shard import ShardWriter
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.monitoring.locks import try_lock
from stoker.pipeline.sources.records.unfinished_pack import NAME
from stoker.pipeline.storage.checked_json import MAX_RECORD_BYTES
from stoker.pipeline.storage.opening import is_url
from stoker.pipeline.storage.safe_files import open_own, read_whole
from stoker.pipeline.text import printable_path
from stoker.trainer.files import reason, replace_file

LOCK = "stoker-pack.lock"
CLASSES = "classes.txt"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutFolder:
    """The folder ``path``, which is made if it is missing. In a ``with`` block no other process packs into it."""

    def __init__(self, path: str, prefix: str, verify: bool, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.path, self._prefix, self._verify = os.path.abspath(path), prefix, verify
        self.shown = printable_path(path)
        self._writer: Optional[ShardWriter] = None
        self._lock: Optional[IO[Any]] = None
        self.note = ""              # what a user should know of shards that are packed again

    def __enter__(self) -> "OutFolder":
        if is_url(self.shown):
            raise ConfigError("%s is a URL, and OUT_FOLDER must be a folder of this host: pack into one, and copy it"
                              % self.shown)
        try:
            os.makedirs(self.path, exist_ok=True)
            self._lock = _locked(os.path.join(self.path, LOCK))
            self._remove_temporary()       # what a killed process left
        except BlockingIOError:
            raise ConfigError("another stoker-pack writes into %s at this moment: wait for it, or give another "
                              "OUT_FOLDER" % self.shown) from None
        except OSError as error:
            raise self._trouble(error) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._writer is not None:
            self._writer.discard()
        if self._lock is not None:
            with suppress(OSError):
                self._remove_temporary()   # Ctrl-C may come between the file and the object that knows of it
            with suppress(OSError):
                os.unlink(os.path.join(self.path, LOCK))
            self._lock.close()

    def _remove_temporary(self) -> None:
        for name in os.listdir(self.path):
            if name.startswith(self._prefix + "-") and name.endswith(".tar.new") or name in (
                    NAME + ".new", CLASSES + ".new"):
                os.unlink(os.path.join(self.path, name))

    def earlier(self, wanted: Manifest) -> Optional[Manifest]:
        """What is done of ``wanted``; None if nothing is. Raises ConfigError if the folder holds anything else."""
        path = os.path.join(self.path, NAME)
        try:
            old = manifests.loads(read_whole(path, MAX_RECORD_BYTES))
        except FileNotFoundError:
            there = [name for name in sorted(os.listdir(self.path))
                     if name.startswith(self._prefix + "-") and name.endswith(".tar")]
            if there:
                raise ConfigError("%s has the file %s and no %s, so stoker-pack did not complete it: give another "
                                  "OUT_FOLDER or --prefix, or remove the file" % (
                                      self.shown, printable_path(there[0]), NAME)) from None
            return None
        except OSError as error:
            raise self._trouble(error) from error
        except ValueError as error:
            raise ConfigError("%s cannot be used: %s; remove it and the shards beside it to pack anew" % (
                printable_path(path), error)) from error
        manifests.check_same(old, wanted, self.shown)
        for number, shard in enumerate(old.shards):
            if self._size(shard.name) != shard.size:
                self.note = "%s is gone or has another size than it had: it and those after it are packed again" % (
                    printable_path(shard.name))
                old.forget(number)
                break
        return old

    def _size(self, name: str) -> int:
        try:
            return os.lstat(os.path.join(self.path, name)).st_size
        except OSError:
            return -1

    @property
    def shard(self) -> Optional[ShardWriter]:
        """The shard that is open."""
        return self._writer

    def add(self, number: int, key: str, parts: Any, where: str) -> None:
        """Adds a sample to shard ``number``, which is begun if there is none. Raises RunFailed."""
        try:
            if self._writer is None:
                self._writer = ShardWriter(os.path.join(self.path, shard_name(self._prefix, number)))
            self._writer.add(key, parts, where)
        except OSError as error:
            raise self._trouble(error) from error

    def finish(self, manifest: Manifest, cursor: Cursor) -> None:
        """Completes the open shard, if there is one, and keeps ``manifest`` with it. ``cursor``: behind its samples.
        Raises RunFailed."""
        try:
            if self._writer is not None:
                if not manifest.shards:         # a shard without a manifest is one of a stranger, if this process ends
                    self.keep(Manifest(manifest.sources, manifest.options))
                written = self._writer.finish(self._verify, self._stop)
                manifest.add(os.path.basename(self._writer.path), written.samples, written.size, written.sha256, cursor)
                self._writer = None
            self.keep(manifest)
        except OSError as error:
            raise self._trouble(error) from error

    def keep(self, manifest: Manifest) -> None:
        """Writes the manifest. Raises OSError."""
        replace_file(os.path.join(self.path, NAME), lambda file: file.write(manifest.dumps()))

    def keep_classes(self, names: Sequence[str]) -> None:
        """Writes the names of the classes, a line each, in the order of their numbers. Raises RunFailed."""
        text = "".join(name + "\n" for name in names).encode("utf-8", "surrogateescape")
        try:
            replace_file(os.path.join(self.path, CLASSES), lambda file: file.write(text))
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> RunFailed:
        if error.errno in _FULL:
            return RunFailed("%s is full (%s): the complete shards stay; make room and run the same command again, "
                             "which goes on after them" % (self.shown, reason(error)))
        return RunFailed("cannot write to %s: %s; the complete shards stay, and the same command goes on after them"
                         % (self.shown, reason(error)))


def _locked(path: str) -> "IO[Any]":
    """The locked file at ``path``, which its owner removes at the end. Raises BlockingIOError, OSError."""
    while True:
        file = open(open_own(path, os.O_RDWR | os.O_CREAT), "rb+")
        try:
            try_lock(file, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                    return file                # else its last owner removed it just now
        except BaseException:
            file.close()
            raise
        file.close()
