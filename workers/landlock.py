"""Landlock, a part of Linux since 5.13: a process gives up what it does not need of the file system and the network,
for itself and for all processes that it starts, and cannot take it back. It needs no privileges.

``drop_privileges`` does the same with what root and programs with a setuid bit may do, on any Linux. It comes first:
root could load a module into the kernel, or read the memory of other processes, past all rules.

Landlock binds the thread that calls ``restrict``, and the threads and processes that this one starts later. Each
further call takes away more. ``stat``, ``access`` and files that are already open are not restricted.
https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import struct
from contextlib import suppress
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446      # system calls, of the same numbers on (almost) all CPUs
_PATH_BENEATH, _NET_PORT = 1, 2
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_3 = 0x20080522            # the third version of the system call ``capset``
_KEPT = 1 << 1 | 1 << 2 | 1 << 3        # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER: root's data are of any user

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(13, 16))
READ = READ_FILE | READ_DIR
WRITE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE      # of regular files and folders
ALL = (1 << 16) - 1
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
#: The rights that each version knows: a bit that a kernel does not know is an error.
_RIGHTS = {1: REFER - 1, 2: TRUNCATE - 1, 3: IOCTL_DEV - 1, 4: IOCTL_DEV - 1}
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_UNIX_SOCKET, _SIGNAL = 1, 2
_NET_SINCE, _SCOPES_SINCE = 4, 6        # versions

Identity = Tuple[int, int]              # device and inode of a file


class Unavailable(OSError):
    """This kernel has no Landlock, or this process may not use it, as in a container with an old seccomp filter."""


class Restricted(NamedTuple):
    """What ``restrict`` did."""
    version: int                        # of Landlock
    port: bool                          # whether TCP leads to the given ports alone
    paths: Dict[str, Optional[Identity]]    # what each path led to; None: to nothing, so there is no rule


def drop_privileges() -> bool:
    """No program that this thread starts from now on has more rights than it, and this thread has none of root's but to
    files of any user. Returns whether the kernel did so."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            return False
        header, sets = struct.pack("=Ii", _CAPABILITIES_3, 0), ctypes.create_string_buffer(24)
        if libc.capget(header, sets):
            return False
        effective, permitted = struct.unpack_from("=II", sets.raw)      # those of the numbers below 32
        kept = struct.pack("=6I", effective & _KEPT, permitted & _KEPT, 0, 0, 0, 0)
        return not libc.capset(header, kept)
    except AttributeError:              # no Linux
        return False


def version() -> int:
    """The version of Landlock that this process can use. Raises Unavailable."""
    return _call(_CREATE_RULESET, None, 0, 1)


def restrict(handled: int, rights: Dict[str, int], ports: Sequence[int] = (), scoped: bool = False) -> Restricted:
    """Takes from this thread all of ``handled``, rights to files, but those that ``rights`` grants for a file, or for a
    folder with all below it. A path that is not there is left out. ``ports``: the only ones to which TCP may connect;
    it may then listen at none. ``scoped``: no signals and abstract sockets to processes outside. What the kernel does
    not know is not restricted: see Restricted. Raises Unavailable."""
    known = version()
    handled &= _RIGHTS.get(known, ALL)
    net = _BIND_TCP | _CONNECT_TCP if ports and known >= _NET_SINCE else 0
    scopes = _ABSTRACT_UNIX_SOCKET | _SIGNAL if scoped and known >= _SCOPES_SINCE else 0
    attributes = struct.pack("=QQQ", handled, net, scopes)[:24 if scopes else 16 if net else 8]
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        paths = {path: _allow(ruleset, path, granted & handled) for path, granted in rights.items()}
        for port in ports if net else ():
            _call(_ADD_RULE, ruleset, _NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return Restricted(known, bool(net), paths)


def _allow(ruleset: int, path: str, granted: int) -> Optional[Identity]:
    """Adds the rule; returns what ``path`` led to."""
    try:
        is_folder = os.path.isdir(path)
        # as a folder, it is mounted if it is an automount
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if is_folder else 0))
    except (OSError, ValueError):       # ValueError: in this locale, it is no file name
        return None
    try:
        granted &= ALL if is_folder else _OF_FILES
        if granted:
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", granted, fd), 0)
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)


def identity(path: str) -> Optional[Identity]:
    """What the path leads to now; None if it leads nowhere."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return None


def _call(number: int, *arguments: object) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    result = syscall(ctypes.c_long(number), *(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments))
    if result < 0:
        raise Unavailable(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)
