"""The folder of a cache: its lock, its size, removing files from it, and whether it is fit to be one.

A process that opens a file holds the folder's lock meanwhile and marks the file as in use (flock). So a file without
the mark can be removed under the folder's lock. The kernel releases both locks when a process dies.
"""

import contextlib
import fcntl
import os
import re
import sys
import time
from typing import Iterator

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import MAX_CACHE_GB

LOCK_S = 0.5      # how long to try for the folder's lock; a transaction takes some 10 ms
#: The names of the cache's files. The folder may hold other files too, which are never removed.
_OWN = re.compile(r"\d+x\d+-[a-z]+(-rotated)?-[0-9a-f]{16}\.lmdb")
#: Filesystems on which the mappings of two processes need not show the same bytes.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "ocfs2", "gfs2",
            "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.ceph", "fuse.gcsfuse", "fuse.juicefs")


class CacheFolder:
    """The folder at ``path``. Every method but ``locked`` needs the folder's lock."""

    def __init__(self, path: str) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder if necessary, and holds its lock. Raises BlockingIOError after LOCK_S."""
        os.makedirs(self.path, 0o700, exist_ok=True)
        fd = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise BlockingIOError(error.errno, "another process holds the folder's lock") from None
                    time.sleep(0.005)
            yield
        finally:
            os.close(fd)

    def used_bytes(self) -> int:
        """The size of all the cache's files together."""
        with os.scandir(self.path) as found:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in found if _OWN.match(entry.name))

    def remove(self, path: str) -> None:
        """Removes a file of the cache. Processes that have it open can go on using it."""
        for each in (path, path + "-lock"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(each)

    def remove_least_recently_used(self, except_path: str) -> bool:
        """Removes the file that was opened the longest time ago and that no process has open; False if none is left."""
        others = [os.path.join(self.path, name) for name in os.listdir(self.path) if _OWN.fullmatch(name)]
        for path in sorted((path for path in others if path != except_path), key=os.path.getmtime):
            with open(path, "rb") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.remove(path)
                return True
        return False


def check(folder: str, gb: float) -> None:
    """Raises ConfigError if ``folder`` can never be a cache of ``gb`` with this interpreter; OSError if it cannot be
    one now (BlockingIOError: another process holds its lock)."""
    if not folder:
        raise ConfigError("--cache must name a folder, not ''")
    try:
        import lmdb  # noqa: F401
    except ImportError as error:
        raise ConfigError("--cache needs the package lmdb (%s): %s -m pip install lmdb"
                          % (error, sys.executable)) from error
    if not 0 < gb <= MAX_CACHE_GB:
        raise ConfigError("--cache-gb must be more than 0 and at most %d, not %g" % (MAX_CACHE_GB, gb))
    existing = os.path.abspath(folder)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    filesystem = _filesystem(existing)
    if filesystem in NETWORK:
        raise ConfigError("--cache %s is on a network filesystem (%s), where LMDB's file is not safe: name a folder on "
                          "a disk of this host" % (folder, filesystem))
    with CacheFolder(folder).locked():
        pass


def _filesystem(folder: str) -> str:
    """The type of the folder's filesystem, '' if it is not known."""
    device = os.stat(folder).st_dev
    wanted = "%d:%d" % (os.major(device), os.minor(device))
    with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
        fields = [line.split() for line in mounts]
    return next((line[line.index("-") + 1] for line in fields if line[2] == wanted), "")


def reason(error: Exception) -> str:
    """The error's text, without the number and the path of an OSError."""
    return getattr(error, "strerror", None) or str(error)
