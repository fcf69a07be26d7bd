"""How the descriptor of a Segment gets from the trainer to a worker: over a Unix socket, beside the TCP connection.

The worker listens (Offer) and says the name of its socket in Ready, so only the trainer that it serves learns the name.
The trainer connects, sends a header with the descriptor, and hangs up (hand_over). Both ask the kernel for the user at
the other end, which must be their own. Neither ever waits: connecting and sending need no answer of the other side.

The worker is the one that listens because of its sandbox: Landlock forbids it to connect to abstract sockets, but not
to accept. An abstract name ends with its process. Where trainer and worker have different network namespaces
(containers), the socket is a file in a folder that they share. The trainer removes it once it has connected, and the
worker otherwise; what a killed worker left there, the next one removes (``remove_stale``).
"""

import array
import os
import re
import socket
import struct
from contextlib import closing, suppress
from typing import List, Optional

from stoker.pipeline.transport.memory import NoSharedMemory, Segment, mapped

HEADER = struct.Struct("<16s64sQQ")      # MAGIC, the run, slots, slot_bytes
MAGIC = b"stoker memory 1\n"
CREDENTIALS = struct.Struct("=3i")       # pid, uid, gid
ABSTRACT = "@"                           # begins the name of a socket that is no file
NAME = re.compile(r"@?[0-9a-f]{32}\Z")
SUFFIX = ".socket"
BACKLOG = 16                             # connections that may wait to be accepted: one, and those of strangers
UNREACHABLE = (ConnectionRefusedError, FileNotFoundError)


class Offer:
    """A worker's socket for one trainer. ``folder``: in which it is a file; None: it has an abstract name. Raises
    NoSharedMemory. ``name``: what the trainer needs to know."""

    def __init__(self, folder: Optional[str] = None) -> None:
        token = os.urandom(16).hex()
        self.name = token if folder is not None else ABSTRACT + token
        self._folder = folder
        try:
            self._socket: Optional[socket.socket] = _unix_socket()
        except OSError as error:
            raise NoSharedMemory("no socket can be made: %s" % (error.strerror or error)) from None
        try:
            with _Address(self.name, folder) as address:
                self._socket.bind(address)
            self._socket.listen(BACKLOG)
        except OSError as error:
            self.close()
            where = "" if folder is None else " in the folder of --shared-memory-folder"
            raise NoSharedMemory("no socket can be made%s: %s" % (where, error.strerror or error)) from None

    def take(self, run: str, slot_bytes: int) -> Segment:
        """The segment of this run that the trainer has sent; then the socket is closed. Raises NoSharedMemory if none
        waits there that is right."""
        problem = "the trainer sent no memory"
        try:
            while self._socket is not None:
                try:
                    connection = self._socket.accept()[0]
                except BlockingIOError:
                    break
                with closing(connection):
                    try:
                        return _received(connection, run, slot_bytes)
                    except NoSharedMemory as error:      # the next one may be the trainer
                        problem = str(error)
            raise NoSharedMemory(problem)
        except OSError as error:
            raise NoSharedMemory("the memory of the trainer cannot be taken: %s" % (error.strerror or error)) from None
        finally:
            self.close()

    def close(self) -> None:
        """Nothing is left of it. A second call does no harm."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            _remove(self.name, self._folder)


def hand_over(name: str, folder: Optional[str], fd: int, run: str, slots: int, slot_bytes: int) -> None:
    """The trainer sends the descriptor ``fd`` of a segment to the worker whose Offer has this name. ``folder``: that of
    its own --shared-memory-folder. Raises NoSharedMemory."""
    if not NAME.match(name):
        raise NoSharedMemory("the name of its socket is no possible one")
    if folder is None and not name.startswith(ABSTRACT):
        raise NoSharedMemory("it has --shared-memory-folder, and the trainer has not")
    try:
        with closing(_unix_socket()) as connection:
            with _Address(name, folder) as address:
                connection.connect(address)
            _remove(name, folder)
            _check_user(connection)
            header = HEADER.pack(MAGIC, run.encode(), slots, slot_bytes)
            sent = connection.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            if sent != len(header):
                raise NoSharedMemory("its socket takes nothing")
    except UNREACHABLE:
        raise NoSharedMemory("it is on another host, or in a container of its own" if folder is None else
                             "it is on another host, or has another --shared-memory-folder") from None
    except BlockingIOError:
        raise NoSharedMemory("too many connections wait at its socket") from None
    except OSError as error:
        raise NoSharedMemory("its socket cannot be reached: %s" % (error.strerror or error)) from None


def remove_stale(folder: str) -> int:
    """Removes the sockets of ended workers from a folder; returns how many. Raises NoSharedMemory if it is no folder
    that can be read."""
    removed = 0
    try:
        names = [name[:-len(SUFFIX)] for name in os.listdir(folder) if name.endswith(SUFFIX)]
    except OSError as error:
        raise NoSharedMemory("the folder of --shared-memory-folder cannot be read: %s"
                             % (error.strerror or error)) from None
    for name in filter(NAME.match, names):
        # another type than the worker's: so a socket in use refuses with another error, and its worker is not disturbed
        with suppress(OSError), closing(_unix_socket(socket.SOCK_DGRAM)) as probe:
            try:
                with _Address(name, folder) as address:
                    probe.connect(address)
            except ConnectionRefusedError:
                removed += _remove(name, folder)
    return removed


def _received(connection: socket.socket, run: str, slot_bytes: int) -> Segment:
    _check_user(connection)
    connection.setblocking(False)
    fds: List[int] = []
    try:
        try:
            data, ancillary, _, _ = connection.recvmsg(HEADER.size + 1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            raise NoSharedMemory("the trainer sent no memory") from None
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                some = array.array("i")
                some.frombytes(content[:len(content) // some.itemsize * some.itemsize])
                fds += some
        if len(data) != HEADER.size or len(fds) != 1:
            raise NoSharedMemory("the message with the memory has %d bytes and %d descriptors, not %d and 1: is the "
                                 "limit of open files reached (ulimit -n)?" % (len(data), len(fds), HEADER.size))
        magic, its_run, slots, its_bytes = HEADER.unpack(data)
        if magic != MAGIC or its_run.rstrip(b"\0") != run.encode():
            raise NoSharedMemory("the memory is of another run")
        if its_bytes != slot_bytes:
            raise NoSharedMemory("the slots of the memory have %d bytes, not %d" % (its_bytes, slot_bytes))
        return mapped(fds[0], slots, slot_bytes)
    finally:
        for fd in fds:
            os.close(fd)


def _check_user(connection: socket.socket) -> None:
    """The other end must be a process of this one's user. A user of another namespace shows as some other one."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    uid = CREDENTIALS.unpack(credentials)[1]
    if uid != os.geteuid():
        raise NoSharedMemory("the process at its socket is of user %d, not of user %d" % (uid, os.geteuid()))


def _unix_socket(kind: int = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    made.setblocking(False)
    return made


class _Address:
    """The address of a socket by its name. The path of a folder may be too long for one, so it goes through /proc."""

    def __init__(self, name: str, folder: Optional[str]) -> None:
        self._name, self._folder, self._fd = name, folder, -1

    def __enter__(self) -> str:
        if self._name.startswith(ABSTRACT):
            return "\0stoker-" + self._name[1:]
        self._fd = os.open(self._folder or "", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return "/proc/self/fd/%d/%s%s" % (self._fd, self._name, SUFFIX)

    def __exit__(self, *exc_info: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _remove(name: str, folder: Optional[str]) -> bool:
    """Removes the file of a socket that has one; returns whether it was there."""
    if folder is None or name.startswith(ABSTRACT):
        return False
    with suppress(OSError):
        os.unlink(os.path.join(folder, name + SUFFIX))
        return True
    return False
