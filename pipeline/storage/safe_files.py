"""Files that Stoker writes and reads back, in folders that other users or strangers may have filled.

Stoker's own files are regular files: a link could lead to a file of another use, which Stoker would overwrite; a pipe
or a device would make it wait for ever. So neither is opened. A file that the *user* names may be a link that this user
or root made, but none of another user: the same rule that Linux has for links in /tmp (fs.protected_symlinks).
"""

import errno
import grp
import os
import pwd
import stat
from contextlib import suppress
from typing import Optional, Tuple

NOT_REGULAR = "and must be a regular file"
MAX_LINKS = 40                # in a row, as in Linux
_KINDS = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
          (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


class UnsafeFile(OSError):
    """What has the name of a file is none that Stoker uses. ``strerror`` says what it is, in a clause."""

    def __init__(self, fact: str) -> None:
        super().__init__(errno.EPERM, fact)


def open_own(path: str, flags: int = os.O_RDONLY, mode: int = 0o666, links: bool = False) -> int:
    """A descriptor of the regular file at ``path``, which is opened without waiting. ``links``: the user named it, so
    it may be a link of this user or root.

    For writing it must not be another user's, in a folder in which every user can make files. Raises UnsafeFile,
    OSError.
    """
    assert not flags & os.O_TRUNC, "it is not known yet whose file it is"
    if links:
        path = followed(path)
    with suppress(FileNotFoundError):         # before it is opened: a device may do anything when it is
        _check(os.lstat(path))
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):       # it was exchanged since
            raise UnsafeFile("it is no file any more") from error
        raise
    try:
        status = os.fstat(fd)
        _check(status)
        if flags & (os.O_WRONLY | os.O_RDWR) and is_of_others(status) and os.stat(
                os.path.dirname(path) or ".").st_mode & stat.S_IWOTH:
            raise UnsafeFile("it is a file of another user (number %d), in a folder in which every user can make files"
                             % status.st_uid)
        return fd
    except BaseException:
        os.close(fd)
        raise


def read_whole(path: str, max_bytes: int, links: bool = False) -> bytes:
    """The content of the file, which has at most ``max_bytes``. Raises UnsafeFile, OSError."""
    fd = open_own(path, links=links)
    try:
        size = os.fstat(fd).st_size
        if size <= max_bytes:
            with open(fd, "rb", 0, closefd=False) as file:
                content = file.read(max_bytes + 1)        # not more memory than that, if it grows meanwhile
                while len(content) <= max_bytes:
                    more = file.read(max_bytes + 1 - len(content))
                    if not more:
                        return content
                    content += more
        raise UnsafeFile("it has more than the {:,} bytes that such a file can have".format(max_bytes))
    finally:
        os.close(fd)


def new_file(path: str, mode: int = 0o666, is_shared: bool = False) -> Tuple[int, str]:
    """A descriptor of a new, empty file beside ``path``, to be renamed to it, and its name. What had that name, such as
    a link, or a file that a killed process left, is removed and not opened. ``is_shared``: other processes may do the
    same at this moment. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    name = path + ".new"
    if not is_shared:
        with suppress(OSError):
            os.unlink(name)
        with suppress(FileExistsError):        # it is a folder, or of another user in a folder such as /tmp
            return os.open(name, flags, mode), name
    name += "-" + os.urandom(8).hex()
    return os.open(name, flags, mode), name


def replace(new: str, fd: int, path: str) -> None:
    """Renames the file ``new``, which is open as ``fd``, to ``path``. Raises OSError, also if another process has put
    another file there."""
    if not os.path.samestat(os.lstat(new), os.fstat(fd)):
        raise UnsafeFile("another process writes it, too")
    os.replace(new, path)


def followed(path: str) -> str:
    """Where the links at the end of ``path`` lead. Raises UnsafeFile if another user made one, OSError."""
    for _ in range(MAX_LINKS):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(status.st_mode):
            return path
        if is_of_others(status):
            raise UnsafeFile("it is a link of another user (number %d), which could lead to any file: name the file "
                             "itself" % status.st_uid)
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def check_folder(path: str) -> None:
    """Raises UnsafeFile if another user can put files in the place of ours in the folder ``path``; OSError. In one with
    the sticky bit, such as /tmp, no user can; but files may be of others there."""
    status = os.stat(followed(path))
    if is_of_others(status):
        raise UnsafeFile("it is a folder of another user (number %d)" % status.st_uid)
    if status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & stat.S_IWOTH or status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid):
        raise UnsafeFile("other users can put files into it (its mode is %03o; chmod go-w takes that from them)"
                         % stat.S_IMODE(status.st_mode))


def _is_private_group(gid: int) -> bool:
    """Whether it is a group of this user alone, which many systems make for each user, with the user's name."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def is_of_others(status: os.stat_result) -> bool:
    """Whether it belongs neither to this user nor to root."""
    return status.st_uid not in (0, os.geteuid())


def kind_of(mode: int) -> Optional[str]:
    """What it is, if it is no regular file: "a pipe"."""
    if stat.S_ISREG(mode):
        return None
    return next((kind for is_one, kind in _KINDS if is_one(mode)), "no file")


def _check(status: os.stat_result) -> None:
    kind = kind_of(status.st_mode)
    if kind:
        raise UnsafeFile("it is %s, %s" % (kind, NOT_REGULAR))
