"""A dataset's files: find the file of a sample, or its place in a record file, read it, never leave the data folder. It
is one of this host; ``url_sample`` reads what lies in a store elsewhere.

The content of a batch depends on nothing but the job. So BadFile means that the *file* is bad: now, later and on every
host. Any other problem (no file handles left, a failing disk, no memory) is raised as it is: the step is tried again.
"""

import errno
import os
import re
import socket
import stat
import time
from typing import Any, Callable, Optional, Sequence, Tuple, Union

from stoker.pipeline.errors import ConfigError, ProtocolError, UnfitWorker
from stoker.pipeline.storage.kept_open import KeptFiles
from stoker.pipeline.storage.open_folders import OpenFolders, is_within
from stoker.pipeline.storage.place import MARK, Place, place_of
from stoker.pipeline.storage.spelling import other_spelling
from stoker.pipeline.storage.store import Version
from stoker.pipeline.text import printable_path

DENIED = "permission denied"
#: Errors of the operating system that mean a bad path, on any host and at any time.
_BAD_PATH = {errno.ENOENT: "no such file", errno.ENOTDIR: "a part of the path is no directory",
             errno.EISDIR: "is a directory", errno.EACCES: DENIED, errno.EPERM: "operation not permitted",
             errno.ELOOP: "too many levels of symbolic links", errno.ENAMETOOLONG: "name too long"}
MAX_FILE_BYTES = 1 << 30    # of arrays and other files; pictures have a limit of their own
MAX_REASON_CHARS = 200
LINK_OUT = "a link that leads out of the data folder (follow_links=True or --follow-links follows it)"
ENDS_BEFORE = "the file ends before this record (it may have been cut or replaced since it was indexed)"
_PIECE_BYTES = 16 << 20     # that are read at a time behind what the file had first
_RACY_S = 2.0               # a file changed in the last seconds may change again without getting other times


class BadFile(Exception):
    """This file is not a picture and never will be: skip the sample. ``str(error)`` is a reason of one line. It has no
    path, address or decoder's state in it: the same file gives the same reason on every host. Example:
    ``raise stoker.BadFile("not a picture", "it has no header")``.

    ``path``: the file below the data folder, if it is known; '' if not."""

    def __init__(self, kind: str, fact: str = "", path: str = "") -> None:
        self.path = path
        fact = " ".join(re.sub(r"<[^>]*>|\(\d+ bytes not processed\)", "", fact).split())
        super().__init__(("%s: %s" % (kind, fact) if fact else kind)[:MAX_REASON_CHARS])


class SamplePath(bytes):
    """The path of a sample's file, for ``open`` and all functions that take a path. It is bytes: on Python 3.6 under
    ``LANG=C``, a str with other letters than ASCII cannot be opened; and Pillow 8 opens no other path-like objects.

    - ``root``: the folder that the file must be in when it is read; None if links may lead out of it;
    - ``place``: the part of the file that is the sample; None: all of it;
    - ``store``, ``name``: the root of the store that has the file, a URL, and its path there; '' for a file of this
      host. The path itself is then its URL, for people.
    """
    root: Optional[bytes] = None
    place: Optional[Place] = None
    store: str = ""
    name: str = ""

    @property
    def key(self) -> bytes:
        """All of it, the place too: another sample has another one."""
        place = self.place
        return bytes(self) if place is None else bytes(self) + str(place)[len(place.path):].encode("utf-8", "replace")


#: In a worker with a sandbox, which may be the cause of EACCES: see ``workers/sandbox.py``.
explain_refusal: Optional[Callable[[SamplePath], None]] = None
#: Gets a line when a store has not answered for a second, and is asked again. None: it is logged.
note_of_store: Optional[Callable[[str], None]] = None


def resolve(root: str, path: str, follow_links: bool = False) -> SamplePath:
    """The file of the sample ``path`` ('/' between its parts) in the folder or store ``root``. Example:
    ``stoker.resolve(job.data_root, sample.path, job.follow_links)``.

    ``path`` may be a place in a record file, such as 'train.tar//512+40213', and ``root`` a URL, such as
    's3://bucket/photos': ``stoker.load`` reads what is there, and ``open`` reads only whole files of this host. Links
    may lead out of the root only with ``follow_links``. Names that are not UTF-8 come as surrogate escapes.

    Raises ProtocolError if ``path`` is empty, absolute, has a '..' or is not a file name: a worker opens only files
    below its data folder, whatever a lease says. Raises ConfigError if this host has no such root.
    """
    place = place_of(path) if MARK in path else None
    try:
        name = (path if place is None else place.path).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        name = b""
    if not is_relative(name):
        raise _not_relative(path)
    if is_store(root):
        elsewhere: SamplePath = _url_sample().path_of(root, name, place)
        return elsewhere
    check_access(root)
    folder = root.encode("utf-8", "surrogateescape")
    return local_path(folder, name, None if follow_links else folder, place)


def resolver(root: str, follow_links: bool = False) -> Callable[[str], SamplePath]:
    """``resolve`` for the many paths of a job, without a look at the root for each: its caller calls ``check_access``
    where a file cannot be read."""
    if is_store(root):
        return lambda path: resolve(root, path, follow_links)
    folder = root.encode("utf-8", "surrogateescape")
    begin, within = os.path.join(folder, b""), None if follow_links else folder

    def located(path: str) -> SamplePath:
        if MARK in path:
            return resolve(root, path, follow_links)
        try:
            name = path.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            name = b""
        if not is_relative(name):
            raise _not_relative(path)
        found = SamplePath(begin + name)
        found.root = within
        return found
    return located


def local_path(folder: bytes, name: bytes, root: Optional[bytes], place: Optional[Place]) -> SamplePath:
    """The file ``name`` in ``folder``, and the place in it. ``root``: as in SamplePath."""
    found = SamplePath(os.path.join(folder, name))
    if root is not None:
        found.root = root
    if place is not None:
        found.place = place
    return found


def spanning(path: SamplePath, offset: int, length: int) -> SamplePath:
    """Other bytes of the same file: as many as ``length``, from ``offset`` on."""
    found = SamplePath(path)
    found.root, found.store, found.name = path.root, path.store, path.name
    found.place = Place("" if path.place is None else path.place.path, offset, length)
    return found


def is_store(root: str) -> bool:
    """Whether ``root`` is a store elsewhere, no folder of this host."""
    return "://" in root and root[:1] != "/"


def _url_sample() -> Any:
    """Imported where there is a URL: no other worker needs what is behind it."""
    from stoker.pipeline.storage import url_sample
    return url_sample


def _not_relative(path: str) -> ProtocolError:
    return ProtocolError("a lease names the file %r: a sample's path must be relative, without '..'" % path)


def is_relative(name: bytes) -> bool:
    """Whether ``name`` is a path that stays below the folder that it is joined to, links aside."""
    return bool(name) and name[:1] != b"/" and b"\0" not in name and not (b".." in name and b".." in name.split(b"/"))


def check_access(root: str) -> None:
    """Raises UnfitWorker if this host has no folder ``root`` for this user: then no file in it is bad. A store is asked
    with each read."""
    if is_store(root):
        return
    if not os.access(root.encode("utf-8", "surrogateescape"), os.R_OK | os.X_OK):
        raise UnfitWorker("the dataset's folder %s is not there on %s, or not for this user: mount it, or name it with "
                          "root=, or for a worker on another host with its --data"
                          % (printable_path(root), socket.gethostname()))


def check_root(root: str, probes: Sequence[str]) -> None:
    """Raises ConfigError if none of ``probes``, a few paths of the dataset, exists in ``root``, a folder or a URL.
    Example: ``stoker.check_root(job.data_root, job.probes)``."""
    if is_store(root):
        _url_sample().check_root(root, probes)
        return
    if probes and not any(os.path.lexists(resolve(root, path)) for path in probes):
        raise UnfitWorker("%s on %s is not the dataset's folder: of %d files that it should have, such as %r, none "
                          "exists%s; name the right folder with root=, or for a worker on another host with its --data"
                          % (printable_path(root), socket.gethostname(), len(probes), probes[0],
                             next((" (%s)" % alike for alike in map(other_spelling, map(
                                 resolver(root), probes)) if alike), "")))


def read_file(path: Union[str, bytes], max_bytes: int = MAX_FILE_BYTES, advice: str = "", needs_version: bool = True
              ) -> Tuple[bytes, Optional[Version]]:
    """The content of the file, or of the path's place in it, and the file's version. That is None if the file may have
    other content soon with the same version: if it changed in the last seconds, or while it was read. It may also be
    None if the caller does not need it, which takes less time.

    Raises BadFile if the file is missing, unreadable, not a regular file, outside of the path's root, or has more than
    ``max_bytes`` (``advice``: what its user can do then), or ends before the place;
    OSError or MemoryError if this host or this moment is at fault; of a store, also UnfitWorker if it refuses this
    host, and StoreError if its answer is wrong on each try.
    """
    if isinstance(path, SamplePath):
        if path.store:
            read: Tuple[bytes, Optional[Version]] = _url_sample().read(path, max_bytes, advice)
            return read
        if path.place is not None:
            return _read_place(path, path.place, max_bytes, advice)
        if not needs_version:
            content = folders.read(path, max_bytes)
            if content is not None:
                return content, None
    # All at once: so a failing read is never taken for bad content, and no handle stays open.
    try:
        fd, status = _opened(path)
        try:
            settled = time.time() - status.st_ctime > _RACY_S
            data = os.read(fd, status.st_size + 1) if status.st_size <= max_bytes else b""
            more = len(data) != status.st_size      # a large file, or its size is changing
            while more and status.st_size <= max_bytes >= len(data):
                piece = os.read(fd, _PIECE_BYTES)
                more, data = bool(piece), data + piece
            if max(status.st_size, len(data)) > max_bytes:
                raise BadFile("a file of more than %d bytes%s" % (max_bytes, advice))
            version = version_of(status)
            return data, version if settled and version_of(os.fstat(fd)) == version else None
        finally:
            os.close(fd)
    except OSError as error:
        raise _bad_path(error, path) from error


def _read_place(path: SamplePath, place: Place, max_bytes: int, advice: str) -> Tuple[bytes, Optional[Version]]:
    """``read_file`` of a part of a file of this host."""
    check_length(place, max_bytes, advice)
    try:
        file = _kept.take(path)
        try:
            fd, status = file.fd, file.status
            if place.offset + place.length > status.st_size:
                raise BadFile(ENDS_BEFORE)
            settled = time.time() - status.st_ctime > _RACY_S
            data = os.pread(fd, place.length, place.offset)
            while len(data) < place.length:         # a signal, or the kernel's limit for one call
                piece = os.pread(fd, min(place.length - len(data), _PIECE_BYTES), place.offset + len(data))
                if not piece:
                    raise BadFile(ENDS_BEFORE)
                data += piece
            version = version_of(status)
            return data, version if settled and version_of(os.fstat(fd)) == version else None
        finally:
            _kept.give_back(file)
    except OSError as error:
        raise _bad_path(error, path) from error


def close_kept() -> None:
    """Closes the record files and folders that are open: there may be nothing to read for a while."""
    _kept.close_all()
    folders.close_all()


def check_length(place: Place, max_bytes: int, advice: str) -> None:
    """Raises BadFile if the place is larger than ``max_bytes``, and ConfigError if it is none of bytes."""
    if place.dataset:
        raise ConfigError("%s is read with h5py: by sample.numpy() and sample.image(), not as bytes"
                          % printable_path(str(place)))
    if place.length > max_bytes:
        raise BadFile("a file of more than %d bytes%s" % (max_bytes, advice))


def check_file(path: Union[str, bytes]) -> None:
    """Opens the file without reading it. Raises what ``read_file`` raises if it cannot be read; but it may be of any
    size: code that opens it itself may read a part of it."""
    if isinstance(path, SamplePath) and path.store:
        _url_sample().check_file(path)
        return
    try:
        os.close(_opened(path)[0])
    except OSError as error:
        raise _bad_path(error, path) from error


def open_file(path: SamplePath) -> Tuple[int, os.stat_result]:
    """A descriptor of the path's file, which is one of this host, regular and within the path's root, and its status.
    Raises what ``read_file`` raises."""
    try:
        return _opened(path)
    except OSError as error:
        raise _bad_path(error, path) from error


def _opened(path: Union[str, bytes]) -> Tuple[int, os.stat_result]:
    """``open_file``, with the errors of the operating system."""
    _check_regular(os.stat(path))           # a device may do anything when it is opened
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)    # if it is a pipe by now: no wait
    try:
        if isinstance(path, SamplePath) and not is_within_root(path, fd):
            raise BadFile(LINK_OUT)
        status = os.fstat(fd)
        _check_regular(status)
        return fd, status
    except BaseException:
        os.close(fd)
        raise


def _bad_path(error: OSError, path: Union[str, bytes]) -> BadFile:
    """What ``error`` says about ``path``. Raises ``error`` itself if the path is not at fault."""
    if error.errno not in _BAD_PATH:
        raise error
    if error.errno == errno.EACCES and explain_refusal is not None and isinstance(path, SamplePath):
        explain_refusal(path)
    alike = other_spelling(_as_bytes(path)) if error.errno == errno.ENOENT else ""
    return BadFile(type(error).__name__, _BAD_PATH[error.errno] + ("; " + alike if alike else ""))


def _as_bytes(path: Union[str, bytes]) -> bytes:
    return path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path


def bad_content(error: Exception, fact: str = "") -> BadFile:
    """What ``error`` says about the content of a file, which is in memory. Raises it if this host is at fault.
    ``fact``: the same as its text, in other words."""
    if isinstance(error, (MemoryError, ImportError)) or isinstance(error, OSError) and error.errno is not None:
        raise error
    if isinstance(error, OSError) and "out of memory" in str(error).lower():
        raise MemoryError(str(error)) from error
    return error if isinstance(error, BadFile) else BadFile(type(error).__name__, fact or str(error))


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(status.st_mode):
        raise BadFile("not a regular file")


def version_of(status: os.stat_result) -> Version:
    """The version of a local file with this status."""
    return Version(status.st_size, (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev))


def is_within_root(path: SamplePath, fd: int) -> bool:
    """Whether the open file ``fd`` is in the path's root. It must be open, for a link can change before that."""
    return path.root is None or is_within(path.root, fd, bytes(path))


_kept, folders = KeptFiles(_opened), OpenFolders()
