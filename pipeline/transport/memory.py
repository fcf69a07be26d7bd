"""Segment: memory that the trainer and one worker of its host both map, in slots of one batch each.

The trainer makes it: a memfd, which has no name that could be left behind, and which no limit of /dev/shm bounds. It
is sealed, so that no process can make it smaller: that would kill all others that touch it (SIGBUS). Its memory costs
nothing until it is touched. The mapping stays for as long as any array that lies in it.

All of it goes through libc: Python 3.6 knows neither memfd nor madvise, and ``mmap.mmap`` would keep a descriptor open
for each worker.
"""

import ctypes
import fcntl
import os
import resource
import sys
import weakref
from typing import Any, Dict, List, Tuple

import numpy as np

MFD_CLOEXEC, MFD_ALLOW_SEALING = 1, 2
NUMBERS = {"x86_64": 319, "aarch64": 279}      # of the system call memfd_create, where libc has no such function
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 1, 2, 4
PROT_READ_WRITE, MAP_SHARED, MADV_REMOVE, MADV_DONTFORK = 3, 1, 9, 10
MAP_OWN_INSTEAD = 0x02 | 0x10 | 0x20 | 0x4000      # MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE
FAILED = ctypes.c_void_p(-1).value             # what mmap returns
MAX_SEGMENT_BYTES = 1 << 46                    # of addresses; a process has 2**47
OVERCOMMIT = "/proc/sys/vm/overcommit_memory"

_libc: Any = ctypes.CDLL(None, use_errno=True)     # Any: its functions are found by name
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class NoSharedMemory(Exception):
    """Memory cannot be shared with this peer; the text is a clause that says why. Its batches travel in frames."""


class Segment:
    """``slots`` pieces of memory of ``slot_bytes`` each, writable by both sides. For one thread: only the arrays may
    travel. Raises NoSharedMemory if ``fd`` cannot be mapped; the caller keeps ``fd``, and may close it at once."""

    def __init__(self, fd: int, slots: int, slot_bytes: int) -> None:
        self.slots, self.slot_bytes = slots, slot_bytes
        size = slots * slot_bytes
        self._address = _libc.mmap(None, size, PROT_READ_WRITE, MAP_SHARED, fd, 0)
        if self._address == FAILED:
            raise NoSharedMemory("%d MB cannot be mapped: %s" % (size >> 20, os.strerror(ctypes.get_errno())))
        self._memory = (ctypes.c_uint8 * size).from_address(self._address)
        # once the last array is gone, and not at the end of the process: TensorFlow may still read then
        weakref.finalize(self._memory, _unmap, _libc.munmap, self._address, size, os.getpid()).atexit = False
        self._slots: "Dict[int, np.ndarray]" = {}

    def slot(self, number: int) -> "np.ndarray":
        """The memory of a slot: uint8 [slot_bytes], with arbitrary content. All views of it refer to this array,
        however they are sliced further, so that its count of references tells of them all."""
        if number not in self._slots:
            if not 0 <= number < self.slots:
                raise IndexError("slot %d of %d" % (number, self.slots))
            self._slots[number] = np.frombuffer(self._memory, np.uint8, self.slot_bytes, number * self.slot_bytes)
        return self._slots[number]

    def is_free(self, number: int) -> bool:
        """No view of the slot exists in this process; the other side may yet write to it."""
        # 2: the dict's own reference and getrefcount's argument
        return number not in self._slots or sys.getrefcount(self._slots[number]) == 2

    def release(self, number: int) -> bool:
        """Gives the memory of a slot back to the system, on both sides: its content becomes zeros. Returns whether that
        was possible."""
        address = self._address + number * self.slot_bytes
        return bool(_libc.madvise(address, self.slot_bytes, MADV_REMOVE) == 0)

    def touched(self) -> List[int]:
        """The slots that were used on this side."""
        return list(self._slots)

    def keep_from_forks(self) -> None:
        """Processes that are forked from now on do not have this memory: they end (SIGSEGV) if they use it."""
        _libc.madvise(self._address, self.slots * self.slot_bytes, MADV_DONTFORK)

    def copy_in_forks(self) -> None:
        """Processes that ``multiprocessing`` forks from now on get a copy of the slots in use when they start, in place
        of the memory itself, which others write to. Python 3.6 has no hook for any other fork."""
        from multiprocessing.util import register_after_fork
        register_after_fork(self, Segment._copy)

    def _copy(self) -> None:
        used = [(number, self.slot(number).copy()) for number in self.touched() if not self.is_free(number)]
        if _libc.mmap(self._address, self.slots * self.slot_bytes, PROT_READ_WRITE, MAP_OWN_INSTEAD, -1, 0) != FAILED:
            for number, content in used:
                self.slot(number)[...] = content


def _unmap(munmap: Any, address: int, size: int, process: int) -> None:
    if os.getpid() == process:      # in a fork, other memory may be there by now
        munmap(address, size)


def create(slots: int, slot_bytes: int) -> Tuple[Segment, int]:
    """A new segment of zeros, and its descriptor for the other side, which the caller closes. Raises NoSharedMemory."""
    _check_size(slots, slot_bytes)
    if not _overcommits():
        raise NoSharedMemory("this host reserves all memory that a process asks for (vm.overcommit_memory is 2)")
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:     # which counts all of it, touched or not
        raise NoSharedMemory("the trainer's address space is limited (ulimit -v)")
    fd = _memfd()
    try:
        os.ftruncate(fd, slots * slot_bytes)
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
        segment = Segment(fd, slots, slot_bytes)
        segment.copy_in_forks()
        return segment, fd
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError):
            raise NoSharedMemory("this system makes no memory to share: %s" % (error.strerror or error)) from None
        raise


def mapped(fd: int, slots: int, slot_bytes: int) -> Segment:
    """The segment that another process made, of which ``fd`` is the descriptor. Raises NoSharedMemory unless it has
    exactly this size, and is sealed against getting smaller. Processes that this one forks have no part of it."""
    _check_size(slots, slot_bytes)
    try:
        size, seals = os.fstat(fd).st_size, fcntl.fcntl(fd, F_GET_SEALS)
    except OSError:
        raise NoSharedMemory("the descriptor is not one of memory that can be sealed") from None
    if size != slots * slot_bytes:
        raise NoSharedMemory("the memory has %d bytes, not %d" % (size, slots * slot_bytes))
    if not seals & F_SEAL_SHRINK:
        raise NoSharedMemory("the memory is not sealed: another process could make it smaller")
    segment = Segment(fd, slots, slot_bytes)
    segment.keep_from_forks()
    return segment


def _check_size(slots: int, slot_bytes: int) -> None:
    if not (0 < slots and 0 < slot_bytes and slots * slot_bytes <= MAX_SEGMENT_BYTES):
        raise NoSharedMemory("%d slots of %d bytes are no possible size" % (slots, slot_bytes))


def _overcommits() -> bool:
    """Memory is counted when it is touched, not when it is mapped. Else it could be lacking then: SIGBUS."""
    try:
        with open(OVERCOMMIT) as file:
            return file.read().strip() != "2"
    except OSError:
        return True


def _memfd() -> int:
    name, flags = b"stoker", MFD_CLOEXEC | MFD_ALLOW_SEALING
    if hasattr(_libc, "memfd_create"):
        fd = _libc.memfd_create(name, ctypes.c_uint(flags))
    elif os.uname().machine in NUMBERS and sys.maxsize > 1 << 32:
        fd = _libc.syscall(ctypes.c_long(NUMBERS[os.uname().machine]), name, ctypes.c_uint(flags))
    else:
        raise NoSharedMemory("this system has no memfd_create")
    if fd < 0:
        raise NoSharedMemory("this system makes no memory to share: %s" % os.strerror(ctypes.get_errno()))
    return int(fd)
