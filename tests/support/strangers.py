"""Processes of another user of this host, for tests that run as root."""

import encodings.idna      # noqa: F401  # the stranger may not be able to read the standard library, which loads it late
import os
import signal
import traceback
from contextlib import contextmanager

import pytest

STRANGER = 65534        # "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")


@contextmanager
def as_stranger(function, *arguments):
    """Calls ``function`` in a fork of this process that belongs to another user. The fork ends with the call, or with
    the block. It yields a function that waits for the end of the call, and tells whether it raised nothing."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            function(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    ended = []

    def wait():
        if not ended:
            ended.append(os.waitpid(pid, 0)[1])
        return ended[0] == 0
    try:
        yield wait
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
            wait()
