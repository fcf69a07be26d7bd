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
from stoker.pipeline.storage.safe_files import (
    UnsafeFile, check_folder, is_of_others, kind_of, open_own)

LOCK_S = 0.5      # how long to try for the folder's lock; a transaction takes some 10 ms
#: The names of the cache's files. The folder may hold other files too, which are never removed.
_OWN = re.compile(r"(\d+x\d+-[a-z]+(-rotated)?|bytes)-[0-9a-f]{16}\.lmdb")
#: Filesystems on which the mappings of two processes need not show the same bytes.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "ocfs2", "gfs2",
            "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.ceph", "fuse.gcsfuse", "fuse.juicefs")


class CacheFolder:
    """The folder at ``path``. Every method but ``locked`` needs the folder's lock."""

    def __init__(self, path: str) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder if necessary, and holds its lock. Raises UnsafeFile if other users could put pixels of
        theirs into it, BlockingIOError after LOCK_S."""
        os.makedirs(self.path, 0o700, exist_ok=True)
        check_folder(self.path)
        fd = self.opened("lock")
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

    def opened(self, name: str, make: bool = True) -> int:
        """A descriptor of a file in the folder, which is of this user. ``make``: it is made if it is not there. Raises
        UnsafeFile, OSError."""
        # no writable file for other users: they are not to see the pictures
        fd = open_own(os.path.join(self.path, name), os.O_RDWR | (os.O_CREAT if make else 0), 0o600)
        status = os.fstat(fd)
        if is_of_others(status):
            os.close(fd)
            raise UnsafeFile("its file %s is of another user (number %d)" % (name, status.st_uid))
        return fd

    def opened_for_lmdb(self, name: str) -> int:
        """``opened``; LMDB's own lock file is there then, too. LMDB would make both, and follow links."""
        fd, lock = self.opened(name), name + "-lock"
        try:
            try:
                status = os.lstat(os.path.join(self.path, lock))
            except FileNotFoundError:
                os.close(self.opened(lock))
            else:       # not opened: to close it would end the locks that LMDB may have on it in this process
                if kind_of(status.st_mode) or is_of_others(status):
                    raise UnsafeFile("its file %s is no regular file of this user" % lock)
            return fd
        except BaseException:
            os.close(fd)
            raise

    def used_bytes(self) -> int:
        """The size of all the cache's files together."""
        with os.scandir(self.path) as found:
            files = [entry.stat(follow_symlinks=False) for entry in found if _OWN.match(entry.name)]
        return sum(status.st_size for status in files if not is_of_others(status))

    def remove(self, path: str) -> None:
        """Removes a file of the cache. Processes that have it open can go on using it."""
        for each in (path, path + "-lock"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(each)

    def remove_least_recently_used(self, except_path: str) -> bool:
        """Removes the file that was opened the longest time ago and that no process has open; False if none is left."""
        with os.scandir(self.path) as found:
            others = [(entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in found
                      if _OWN.fullmatch(entry.name) and entry.path != except_path]
        for _, name in sorted(others):
            try:
                fd = self.opened(name, make=False)
            except OSError:          # no file of this cache, or removed by now
                continue
            try:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.remove(os.path.join(self.path, name))
                    return True
            finally:
                os.close(fd)
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
    try:
        with CacheFolder(folder).locked():
            pass
    except UnsafeFile as error:
        # in another user's folder, this one can make none
        place = "%s-%d" % (folder.rstrip("/"), os.geteuid()) if is_of_others(os.stat(folder)) else os.path.join(
            folder, "stoker-cache")
        raise ConfigError("--cache %s is not safe from the pixels of other users: %s; name a folder that is not there "
                          "yet, such as %s, which Stoker makes for you alone" % (
                              folder, error.strerror, place)) from error


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
