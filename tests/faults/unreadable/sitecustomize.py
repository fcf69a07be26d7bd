"""Bad sectors: each read of the files in FAULT_FILES (ends of paths, with ':' between them) fails with FAULT_ERRNO, in
every interpreter that has this folder on its PYTHONPATH. Each such read adds a line, the pid, to FAULT_LOG. Python 3.6
and newer."""

import builtins
import os

_ENDS = tuple(filter(None, os.environ.get("FAULT_FILES", "").split(":")))
_NUMBER = int(os.environ.get("FAULT_ERRNO", "5"))
_read, _open = os.read, builtins.open


def _fail(path):
    with _open(os.environ["FAULT_LOG"], "a") as log:
        log.write("%d %s\n" % (os.getpid(), path))
    raise OSError(_NUMBER, os.strerror(_NUMBER))


def read(fd, size):
    """``os.read``"""
    try:
        path = os.readlink("/proc/self/fd/%d" % fd)
    except OSError:
        path = ""
    if path.endswith(_ENDS):
        _fail(path)
    return _read(fd, size)


if _ENDS:
    os.read = read
