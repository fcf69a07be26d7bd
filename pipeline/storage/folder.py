"""Files below the data root: resolve a sample's path, read it whole, and never leave the root.

The content of a batch must depend on nothing but the job, or a run is not repeatable and two workers disagree. So
``BadFile`` means that the *file* is bad, now, later and on every host. Trouble of the moment (no file handles left, a
disk that fails, no memory) is raised as it is: the step fails and is tried again, perhaps elsewhere.
"""

import errno
import functools
import os
import re
import socket
import stat
import time
from typing import Optional, Sequence, Tuple, Union

from stoker.pipeline.errors import ConfigError, ProtocolError


#: What the operating system says about a path that is no readable file, wherever and whenever it is tried.
_BAD_PATH = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "a part of the path is no directory",
    errno.EISDIR: "is a directory",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.ELOOP: "too many levels of symbolic links",
    errno.ENAMETOOLONG: "name too long",
}
#: The largest file that is read: more than the largest picture that PIL decodes takes, uncompressed.
MAX_FILE_BYTES = 1 << 30
_REASON_CHARS = 200
#: A file changed so lately may change again without another time to show for it.
_RACY_S = 2.0


class BadFile(Exception):
    """This file will never be a picture: skip the sample. ``str(error)`` is a one-line reason.

    The reason holds no path, address or state of a decoder: the same file gives the same reason on every host.
    """

    def __init__(self, kind: str, fact: str = "") -> None:
        fact = " ".join(re.sub(r"<[^>]*>|\(\d+ bytes not processed\)", "", fact).split())
        super().__init__(("%s: %s" % (kind, fact) if fact else kind)[:_REASON_CHARS])


class SamplePath(bytes):
    """The path of a sample's file, and the folder that it may not lead out of, if any."""

    root = b""


def resolve(root: str, path: str, follow_links: bool = False) -> SamplePath:
    """The place of a sample's file: ``path`` ('/' between its parts) below ``root``.

    As bytes, for on Python 3.6 under ``LANG=C`` a str with other than ASCII letters opens nothing. Undecodable
    names travel as surrogate escapes (PEP 383). ``load`` follows a link within the root, and one that leads out of
    it with ``follow_links`` alone, which is the job's wish.

    Raises ProtocolError if ``path`` is empty, absolute, holds a '..' or is no file name at all: a worker opens
    nothing but files below its data root, whatever a lease says. Raises ConfigError if this host has no such root:
    every file in it would else be taken for one that is gone.
    """
    if not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ProtocolError("a lease names the file %r: a sample's path must be relative, without '..'" % (path,))
    try:
        folder, name = root.encode("utf-8", "surrogateescape"), path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ProtocolError("a lease names the file %r under %r: that is no file name" % (path, root)) from error
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError("the dataset's folder %s is not there on %s, or not for this user: mount it, or say where it "
                          "is with the worker's --data" % (root, socket.gethostname()))
    place = SamplePath(os.path.join(folder, name))
    if not follow_links:
        place.root = folder
    return place


def check_root(root: str, probes: Sequence[str]) -> None:
    """Raises ConfigError if there is none of ``probes``, some paths of the dataset, below ``root``: every file would
    be taken for one that is gone."""
    if probes and not any(os.path.lexists(resolve(root, path)) for path in probes):
        raise ConfigError("%s on %s is not the dataset's folder: of %d files that should be there, such as %r, there "
                          "is none; say where it is with the worker's --data"
                          % (root, socket.gethostname(), len(probes), probes[0]))


def read(path: Union[str, bytes]) -> Tuple[bytes, Optional[os.stat_result]]:
    """The content of the file, and its status: None if it changed meanwhile or just before, when another content may
    have the same. Raises as ``load`` does: BadImage also for what is no regular file, is too large, or leads out of the
    root of a Place."""
    # The whole file at once: a failing read can then not be taken for bad content, and no handle outlives this.
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
        if not stat.S_ISREG(status.st_mode):
            raise BadFile("not a regular file")  # opening a pipe would wait for ever, and a device may do anything
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)    # a pipe by now? without waiting
        try:
            if isinstance(path, SamplePath) and path.root and not within(path, fd):
                raise BadFile("a link that leads out of the data folder")
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise BadFile("not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise BadFile("a file of more than %d bytes" % MAX_FILE_BYTES)
            settled = time.time() - status.st_ctime > _RACY_S
            data = os.read(fd, status.st_size + 1)
            if len(data) != status.st_size:     # more than one call reads, or its size is changing
                with open(fd, "rb", 0, closefd=False) as file:
                    data += file.read()
            return data, status if settled and _version(os.fstat(fd)) == _version(status) else None
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _BAD_PATH:
            raise
        raise BadFile(type(error).__name__, _BAD_PATH[error.errno]) from error


def _version(status: os.stat_result) -> Tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def within(place: SamplePath, fd: int) -> bool:
    """Whether the open file lies below the root: looked at when it is open, for a link can change in between."""
    try:
        real = os.readlink(b"/proc/self/fd/%d" % fd)
    except OSError:                     # no /proc here
        real = os.path.realpath(bytes(place))
    if real.startswith(_real(place.root)):
        return True
    _real.cache_clear()                 # the root may be a link itself, to another folder by now
    return real.startswith(_real(place.root))


@functools.lru_cache(maxsize=16)
def _real(folder: bytes) -> bytes:
    return os.path.join(os.path.realpath(folder), b"")
