"""Ends what a worker's code has started and left behind: the processes of a multiprocessing.Pool, programs, daemons.

A worker leads a session of its own, so the first process group in it has the worker's number, and its environment has a
mark, which its children inherit. When it has ended, its group gets SIGKILL, before its number is free for another
process; then those with its mark that have made a group of their own. Its folder for copies of samples, which has the
mark in its name, is removed. If the supervisor itself is killed, its ``Guardian`` does the same for all its workers. It
is this file, run with the standard library only.

Out of reach is a process with a group *and* an environment of its own that does not have the mark.
"""

import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import Iterator

KILL_WITHIN_S = 0.3                # a process that the kernel cannot end yet, such as one that waits for a dead disk
POLL_S = 0.005


class Guardian:
    """A process that waits for the death of this one, and then does ``kill_marked``. Raises OSError if it cannot be
    started."""

    def __init__(self, variable: str, mark: str) -> None:
        self._process = subprocess.Popen([sys.executable, "-I", "-S", os.path.abspath(__file__), variable, mark],
                                         stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                         start_new_session=True)      # Ctrl-C is not for it

    def end(self) -> None:
        """It is not needed any more: this process has killed them all."""
        self._process.kill()
        self._process.communicate()


def has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has; its number stays taken until ``end_group``, so that a signal reaches no stranger."""
    if process.returncode is not None or not hasattr(os, "waitid"):      # macOS before Python 3.13
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_group(process: "subprocess.Popen[bytes]", variable: str, mark: str, wait_s: float = 0.0) -> int:
    """Waits ``wait_s`` for the end of ``process``, which leads its group; kills it, the rest of the group, and all with
    its mark. Returns its exit code."""
    give_up_s = time.monotonic() + wait_s
    while not has_ended(process) and time.monotonic() < give_up_s:
        time.sleep(POLL_S)
    kill_group(process)
    returncode = process.wait()
    kill_marked(variable, mark)
    return returncode


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to ``process``, which was not yet waited for, and to its group."""
    with suppress(ProcessLookupError, PermissionError):     # macOS: a group of a dead process alone
        os.killpg(process.pid, signal.SIGKILL)


def kill_marked(variable: str, mark: str) -> None:
    """SIGKILL to all processes in whose environment the value of ``variable`` begins with ``mark``, until there is none
    any more. Then their copies of samples are removed."""
    assert mark, "this would be all workers of this host"
    give_up_s = time.monotonic() + KILL_WITHIN_S
    while True:
        found = list(_marked(("\0%s=%s" % (variable, mark)).encode()))
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found or time.monotonic() > give_up_s:
            break
        time.sleep(POLL_S)
    with suppress(OSError):             # no folder for such files on this host
        for folder in glob.glob(glob.escape(copies_folder(tempfile.gettempdir(), mark)) + "*"):
            shutil.rmtree(folder, ignore_errors=True)


def copies_folder(where: str, mark: str) -> str:
    """The path of the folder in ``where`` for copies of samples, of the process with this mark."""
    return os.path.join(where, "stoker-copies-" + mark.replace("/", "-"))


def _marked(beginning: bytes) -> Iterator[int]:
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            # of another user, or gone; a dead process that was not yet waited for has no environment
            with suppress(OSError), open("/proc/%s/environ" % name, "rb", 0) as file:
                if beginning in b"\0" + file.read():
                    yield int(name)


if __name__ == "__main__":
    sys.stdin.buffer.read()            # it ends when the supervisor does, however that is
    kill_marked(*sys.argv[1:])
