"""A command line of Stoker on a system that lacks something.

    python -m tests.support.broken_system FAULT MODULE ARGUMENT...

    no-flock       flock fails with ENOSYS, as on Lustre: by a seccomp filter, so for its children too
    small-files=N  no file may grow beyond N bytes, as on a full disk (RLIMIT_FSIZE)
    clock-back     the wall clock is set back all the time: each time.time() is a second earlier than the one before
"""

import ctypes
import errno
import itertools
import os
import platform
import resource
import runpy
import struct
import sys
import time

FLOCK = {"x86_64": (0xc000003e, 73), "aarch64": (0xc00000b7, 32)}     # architecture, number of the system call


def can_lack_flock():
    """Whether ``no-flock`` works here."""
    return platform.machine() in FLOCK


def without_flock():
    """Makes flock fail with ENOSYS in this process and its children."""
    architecture, number = FLOCK[platform.machine()]
    instructions = [
        (0x20, 0, 0, 4),                                  # the architecture
        (0x15, 0, 2, architecture),
        (0x20, 0, 0, 0),                                  # the number
        (0x15, 1, 0, number),
        (0x06, 0, 0, 0x7fff0000),                         # allow
        (0x06, 0, 0, 0x00050000 | errno.ENOSYS)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(instructions), ctypes.addressof(code))
    assert libc.prctl(38, 1, 0, 0, 0) == 0                # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())    # PR_SET_SECCOMP


def set_clock_back():
    """Python's wall clock, which TensorFlow's own timers use."""
    start, calls = time.time(), itertools.count()
    time.time = lambda: start - next(calls)


def main():
    fault, _, number = sys.argv[1].partition("=")
    if fault == "no-flock":
        without_flock()
    elif fault == "small-files":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
    elif fault == "clock-back":
        set_clock_back()
    else:
        sys.exit("no fault is called %s" % fault)
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
