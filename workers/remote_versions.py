"""RemoteVersions: which versions the files of far stores have, so that entries of the cache count only for those.

To ask a store for each sample would take as long as to read it. So a store is asked once per file, by ``size``, and the
answer is trusted for VERSION_S: a changed file is noticed after that time at the latest. Each read tells it, too. Of a
record file with many samples, this is one question.
"""

import threading
from typing import Callable, Dict, Optional, Tuple

from stoker.pipeline.storage.folder import SamplePath
from stoker.pipeline.storage.opening import open_store
from stoker.pipeline.storage.store import StoreError, Version, remote_version

VERSION_S = 300.0
MAX_FILES = 1 << 17         # that are remembered
_NOTHING_TOLD = remote_version(0, "", "").marks


def asked(root: str, name: str) -> Version:
    """The version as the store says. Raises StoreError."""
    return open_store(root).size(name).version


class RemoteVersions:
    """Used by several threads. Times in seconds of one monotonic clock."""

    def __init__(self, ask: Callable[[str, str], Version] = asked) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._known: Dict[Tuple[str, str], Tuple[Version, float]] = {}

    def note(self, path: SamplePath, version: Optional[Version], now: float) -> None:
        """The file of ``path`` has this version."""
        if version is not None and tells_changes(version):
            with self._lock:
                if len(self._known) >= MAX_FILES:
                    self._known.clear()
                self._known[path.store, path.name] = version, now

    def known(self, path: SamplePath, now: float) -> Optional[Version]:
        """The version that is trusted; None: the store is to be asked."""
        found = self._known.get((path.store, path.name))
        return found[0] if found is not None and now < found[1] + VERSION_S else None

    def ask(self, path: SamplePath, now: float) -> Optional[Version]:
        """What the store says; None if it says nothing that tells changes, or fails: a read gives the reason."""
        try:
            version = self._ask(path.store, path.name)
        except (StoreError, OSError):
            return None
        self.note(path, version, now)
        return self.known(path, now)


def tells_changes(version: Version) -> bool:
    """Whether a file that changes gets another version: a web server may say only its size."""
    return version.marks != _NOTHING_TOLD
