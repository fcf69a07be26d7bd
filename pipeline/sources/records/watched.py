"""Whether record files are still those that were indexed: a place in another file has other bytes, or none."""

import os
import time
from typing import Any, Callable, List, NamedTuple, Optional, Sequence

from stoker.pipeline.storage.opening import is_url, open_store
from stoker.pipeline.storage.store import Entry, StoreError, Unavailable, Version
from stoker.pipeline.storage.threads import Threads
from stoker.pipeline.text import path_bytes, printable_path

ASKED_AT_ONCE = 16          # files of a store


class Watched(NamedTuple):
    """The files below ``root``, as they were when they were indexed, at ``indexed_at`` (seconds since 1970)."""
    root: str
    files: Sequence[Entry]
    indexed_at: float

    def changed(self) -> Optional[str]:
        """A sentence if one of the files has changed since; None if none has. A file that is gone, or that cannot be
        asked for now, has not: those who read it find out."""
        if not is_url(self.root):
            return next(filter(None, map(self._sentence, self.files, map(self._local, self.files))), None)
        now = _asker(self.root)
        with Threads(ASKED_AT_ONCE) as threads:
            return next(filter(None, map(self._sentence, self.files, threads.map(now, self.files))), None)

    def _local(self, entry: Entry) -> Optional[Version]:
        """Its version now, without what has no influence on its bytes: a chmod, a copy with the same time."""
        try:
            status = os.stat(path_bytes(os.path.join(self.root, entry.path)))
        except OSError:
            return None
        return Version(status.st_size, (status.st_mtime_ns, *entry.version.marks[1:]))

    def _sentence(self, entry: Entry, now: Optional[Version]) -> Optional[str]:
        if now is None or now == entry.version:
            return None
        return ("%s has changed since it was indexed at %s (%s bytes then, %s now): the batches since then may hold "
                "other data; open the stream again" % (
                    printable_path(entry.path), time.strftime("%H:%M:%S", time.localtime(self.indexed_at)),
                    format(entry.version.size, ","), format(now.size, ",")))


def _asker(root: str) -> Callable[[Entry], Optional[Version]]:
    store: Any = open_store(root)
    silent: List[Entry] = []    # the store does not answer: each try takes its time, and one is enough

    def now(entry: Entry) -> Optional[Version]:
        if silent:
            return None
        try:
            version: Version = store.size(entry.path).version
            return version
        except Unavailable:
            silent.append(entry)
            return None
        except StoreError:
            return None
    return now
