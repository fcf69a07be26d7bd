"""Locks of files (flock), on file systems too that have none."""

import fcntl
import logging
import os
from typing import IO, Any, Set

from stoker.pipeline.text import printable_path

log = logging.getLogger("stoker")

_without: Set[int] = set()       # devices without locks, each of which was logged


def try_lock(file: "IO[Any]", path: str) -> bool:
    """Locks the open ``file``, until it is closed, for this process alone. Raises BlockingIOError if another process
    has locked it.

    Returns False, after a warning, if its file system cannot lock (Lustre without -o flock, some NFS and FUSE: ENOSYS,
    ENOLCK, EOPNOTSUPP and the like). The warning comes once for a file system. ``path``: for it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:        # EWOULDBLOCK: the only errno that tells of another process
        raise
    except OSError as error:
        device = os.fstat(file.fileno()).st_dev
        if device not in _without:
            _without.add(device)
            log.warning("the file system of %s has no locks (%s), so Stoker cannot notice a second trainer that uses "
                        "the same files: start only one", printable_path(os.path.dirname(path) or "."), error.strerror)
        return False
    return True
