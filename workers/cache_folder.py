"""The folder of a cache: whose turn it is to change it, how much is in it, and whether it can be one at all.

Every process that uses the folder opens a file with its lock held and marks it as in use (flock); so what is not in
use can be removed. The locks are the kernel's: they end with who holds them.
"""

import fcntl
import importlib.util
import os
import re
import sys
import time
from contextlib import contextmanager
from typing import Any, Iterator

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import MAX_CACHE_GB

LOCK_S = 2.0      # how long to try for the folder's lock; a transaction takes some 10 ms

#: What the files here are called, and what belongs to them. The folder may hold others', which are not ours to remove.
_OWN = re.compile(r"\d+x\d+-[a-z]+(-rotated)?-[0-9a-f]{16}\.lmdb")
_BESIDE = ("-lock", "-trial")

#: What keeps its files where the mappings of two processes need not show the same bytes.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "ocfs2", "gfs2",
            "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.ceph", "fuse.gcsfuse", "fuse.juicefs")


class Folder:
    """Where the files are. All but ``path`` and ``locked`` wants its lock."""

    def __init__(self, name: str) -> None:
        self.name = name

    def path(self, name: str) -> str:
        return os.path.join(self.name, name)

    @contextmanager
    def locked(self, within_s: float = LOCK_S) -> Iterator[None]:
        """Raises BlockingIOError if others hold the lock for so long. Who dies lets go of it."""
        os.makedirs(self.name, 0o700, exist_ok=True)
        fd = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + within_s
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise BlockingIOError(error.errno, "another process holds its lock for more than %g s"
                                              % within_s) from None
                    time.sleep(0.005)
            yield
        finally:
            os.close(fd)

    def bytes(self) -> int:
        """Of all the cache's files together."""
        with os.scandir(self.name) as found:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in found
                       if _OWN.match(entry.name) and not entry.is_dir(follow_symlinks=False))

    def remove(self, path: str) -> None:
        for each in [path] + [path + more for more in _BESIDE]:    # names, not bytes: others may have it mapped
            try:
                os.remove(each)
            except FileNotFoundError:
                pass

    def remove_oldest(self, own: str) -> bool:
        """Removes the file that was not used for longest, if there is another than ``own`` that nobody uses."""
        others = [self.path(name) for name in os.listdir(self.name) if _OWN.fullmatch(name)]
        for path in sorted((path for path in others if path != own), key=os.path.getmtime):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.remove(path)
                return True
            except BlockingIOError:
                continue
            finally:
                os.close(fd)
        return False


def check(folder: str, gb: float) -> None:
    """Raises ConfigError if there can be no cache in ``folder`` with this interpreter; OSError if not now, or not for
    this user."""
    if not folder:
        raise ConfigError("--cache must name a folder, not ''")
    if importlib.util.find_spec("lmdb") is None:
        raise import_error("not installed")
    if not 0 < gb <= MAX_CACHE_GB:
        raise ConfigError("--cache-gb must be more than 0 and at most %d, not %g" % (MAX_CACHE_GB, gb))
    there = os.path.abspath(folder)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    filesystem = _filesystem(there)
    if filesystem in NETWORK:
        raise ConfigError("--cache %s is on a network filesystem (%s), where LMDB's file is not safe: name a folder on "
                          "a disk of this host" % (folder, filesystem))
    with Folder(folder).locked():
        pass


def _filesystem(folder: str) -> str:
    """Its kind, '' if that cannot be told."""
    device = os.stat(folder).st_dev
    wanted = "%d:%d" % (os.major(device), os.minor(device))
    try:
        with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
            fields = [line.split() for line in mounts]
    except OSError:
        return ""
    return next((line[line.index("-") + 1] for line in fields if line[2] == wanted), "")


def import_error(why: Any) -> ConfigError:
    return ConfigError("--cache wants the package lmdb (%s): %s -m pip install lmdb" % (why, sys.executable))


def trial(path: str) -> str:
    """What is there while it is looked through, and thereafter if a process dies of it."""
    return path + "-trial"


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
