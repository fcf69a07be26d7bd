"""How the descriptor of a Segment gets from the trainer to a worker: over a Unix socket, beside the TCP connection.

The worker listens (Offer) and says the name of its socket in Ready, so only the trainer that it serves learns the name.
The trainer connects, sends a header with the descriptor, and hangs up (hand_over). Both ask the kernel for the user at
the other end, which must be their own. Neither ever waits: connecting and sending need no answer of the other side.

Another worker of this user, which a picture may have taken over, gets no part of this memory, nor can it give any. The
address of the socket is a hash of its name, and the header repeats the name, which other processes do not know. They
could put a socket of their own in the place of one in a folder: so the name has the inode of the worker's file, and the
trainer connects to no other one.

The worker is the one that listens because of its sandbox: Landlock forbids it to connect to abstract sockets, but not
to accept. An abstract name ends with its process. Where trainer and worker have different network namespaces
(containers), the socket is a file in a folder that they share. The trainer removes it once it has connected, and the
worker otherwise; what a killed worker left there, the next one removes (``remove_stale``).
"""

import array
import hashlib
import hmac
import os
import re
import select
import socket
import struct
from contextlib import closing, contextmanager, suppress
from typing import Iterator, List, Optional, Tuple

from stoker.pipeline.transport.memory import NoSharedMemory, Segment, mapped

HEADER = struct.Struct("<16s33s64sQQ")   # MAGIC, the socket's name, the run, slots, slot_bytes
MAGIC = b"stoker memory 1\n"
CREDENTIALS = struct.Struct("=3i")       # pid, uid, gid
ABSTRACT = "@"                           # begins the name of a socket that is no file
NAME = re.compile(r"@?[0-9a-f]{32}\Z")    # of a file: 16 digits of the secret, 16 of its inode
SUFFIX = ".socket"
FILE = re.compile(r"[0-9a-f]{32}\%s\Z" % SUFFIX)
BACKLOG = 16                             # connections that may wait to be accepted: one, and those of strangers
UNREACHABLE = (ConnectionRefusedError, FileNotFoundError)


class Offer:
    """A worker's socket for one trainer. ``folder``: in which it is a file; None: it has an abstract name. Raises
    NoSharedMemory. ``name``: what the trainer needs to know."""

    def __init__(self, folder: Optional[str] = None) -> None:
        self.name = ABSTRACT * (folder is None) + os.urandom(16).hex()
        self._folder = folder
        try:
            self._socket: Optional[socket.socket] = _unix_socket()
        except OSError as error:
            raise NoSharedMemory("no socket can be made: %s" % (error.strerror or error)) from None
        try:
            with _address(self.name, folder) as address:
                self._socket.bind(address)
            self._socket.listen(BACKLOG)
            if folder is not None:
                self._rename(folder, self._socket)
        except OSError as error:
            self.close()
            where = "" if folder is None else " in the folder of --shared-memory-folder"
            raise NoSharedMemory("no socket can be made%s: %s" % (where, error.strerror or error)) from None

    def _rename(self, folder: str, listening: socket.socket) -> None:
        """Gives the socket's file a name with its inode, once it is certain that the file is this socket's: this
        process connects to itself."""
        name = os.urandom(8).hex()
        with _address(self.name, folder) as before, _opened(before) as fd, closing(_unix_socket()) as probe:
            probe.connect("/proc/self/fd/%d" % fd)
            is_own = False
            while not is_own:
                with closing(listening.accept()[0]) as connection:
                    is_own = _credentials(connection)[0] == os.getpid()
            name += "%016x" % os.fstat(fd).st_ino
            with _address(name, folder) as after:
                os.rename(before, after)
        self.name = name

    def was_answered(self) -> bool:
        """Somebody has connected."""
        if self._socket is None:
            return False
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(0))

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
                        return _received(connection, self.name, run, slot_bytes)
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
            with _address(name, folder) as address:
                if name.startswith(ABSTRACT):
                    connection.connect(address)
                else:
                    with _opened(address) as file:
                        if os.fstat(file).st_ino != int(name[-16:], 16):
                            raise NoSharedMemory("its socket was replaced by another one")
                        connection.connect("/proc/self/fd/%d" % file)
            _remove(name, folder)
            _check_user(connection)
            header = HEADER.pack(MAGIC, name.encode(), run.encode(), slots, slot_bytes)
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
        found = [name for name in os.listdir(folder) if FILE.match(name)]
    except OSError as error:
        raise NoSharedMemory("the folder of --shared-memory-folder cannot be read: %s"
                             % (error.strerror or error)) from None
    for name in found:
        # another type than the worker's: so a socket in use refuses with another error, and its worker is not disturbed
        with suppress(OSError), _opened(folder, os.O_DIRECTORY) as fd:
            path = "/proc/self/fd/%d/%s" % (fd, name)
            with closing(_unix_socket(socket.SOCK_DGRAM)) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)
                    removed += 1
    return removed


def _received(connection: socket.socket, name: str, run: str, slot_bytes: int) -> Segment:
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
        magic, its_name, its_run, slots, its_bytes = HEADER.unpack(data)
        if not hmac.compare_digest(its_name.rstrip(b"\0"), name.encode()):
            raise NoSharedMemory("the memory is not of this worker's trainer")
        if magic != MAGIC or its_run.rstrip(b"\0") != run.encode(errors="surrogateescape"):
            raise NoSharedMemory("the memory is of another run")
        if its_bytes != slot_bytes:
            raise NoSharedMemory("the slots of the memory have %d bytes, not %d" % (its_bytes, slot_bytes))
        return mapped(fds[0], slots, slot_bytes)
    finally:
        for fd in fds:
            os.close(fd)


def _check_user(connection: socket.socket) -> None:
    """The other end must be a process of this one's user. A user of another namespace shows as some other one."""
    uid = _credentials(connection)[1]
    if uid != os.geteuid():
        raise NoSharedMemory("the process at its socket is of user %d, not of user %d" % (uid, os.geteuid()))


def _credentials(connection: socket.socket) -> Tuple[int, int, int]:
    """Process, user and group at the other end; a process of another namespace is 0."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, gid = CREDENTIALS.unpack(credentials)
    return pid, uid, gid


def _unix_socket(kind: int = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    made.setblocking(False)
    return made


@contextmanager
def _opened(path: str, flags: int = os.O_NOFOLLOW) -> Iterator[int]:
    """A descriptor that stands for this very file, whatever has its name later."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC | flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _address(name: str, folder: Optional[str]) -> Iterator[str]:
    """The address of a socket by its name. The path of a folder may be too long for one, so it goes through /proc."""
    hidden = hashlib.sha256(name.encode()).hexdigest()[:32]
    if name.startswith(ABSTRACT):
        yield "\0stoker-" + hidden
    else:
        with _opened(folder or "", os.O_DIRECTORY) as fd:
            yield "/proc/self/fd/%d/%s%s" % (fd, hidden, SUFFIX)


def _remove(name: str, folder: Optional[str]) -> None:
    """Removes the file of a socket that has one."""
    if folder is not None and not name.startswith(ABSTRACT):
        with suppress(OSError), _address(name, folder) as path:
            os.unlink(path)
