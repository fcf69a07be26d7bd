"""What local workers write to their standard error: passed on as it is, and its last lines kept for the error in which
they end. In a notebook, the terminal of child processes is not seen.

The thread reads on whatever becomes of this process's own standard error, so a worker never waits for a full pipe.
"""

import os
import select
import sys
import threading
from contextlib import suppress
from typing import List, Optional

from stoker.pipeline.text import printable

MAX_LINES = 10         # of those that are kept
MAX_CHARS = 500        # of each: its end
MAX_BYTES = 16 << 10   # of all that is kept
READ_BYTES = 64 << 10


def last_lines(said: bytes) -> List[str]:
    """The last lines of ``said`` that are not empty, printable. Of equal ones, as of five starts, the last is there."""
    lines = [printable(line[-MAX_CHARS:].rstrip()) for line in said.decode("utf-8", "replace").splitlines()]
    different = list(dict.fromkeys(line for line in reversed(lines) if line))[:MAX_LINES]
    return different[::-1]


class WorkerOutput(threading.Thread):
    """Started at once. ``fd``: the end for the child process, to be closed here once the child has it."""

    def __init__(self) -> None:
        super().__init__(name="stoker-worker-output", daemon=True)
        self._tail = b""
        # Where this process's errors go now. None: it was started without; then 2 may be any file by now.
        self._terminal: Optional[int] = None
        if sys.__stderr__ is not None:
            with suppress(OSError):
                self._terminal = os.dup(2)
        self._read_fd, self.fd = os.pipe()
        self.start()

    def close_fd(self) -> None:
        """The child has its end."""
        os.close(self.fd)

    def lines(self, wait_s: float) -> List[str]:
        """The last lines so far. The child has ended: waits until all is read, at most so long. A process that it left
        behind may hold its end of the pipe."""
        self.join(wait_s)
        return last_lines(self._tail)

    def run(self) -> None:
        try:
            while True:
                said = os.read(self._read_fd, READ_BYTES)
                if not said:
                    return
                self._tail = (self._tail + said)[-MAX_BYTES:]
                self._pass_on(said)
        finally:
            os.close(self._read_fd)
            if self._terminal is not None:
                os.close(self._terminal)

    def _pass_on(self, said: bytes) -> None:
        """A terminal that is lost, or a full disk, must not end the training; nor the next lines, if it comes back."""
        with suppress(OSError):
            while said and self._terminal is not None:
                try:
                    said = said[os.write(self._terminal, said):]
                except BlockingIOError:         # another program has set it to non-blocking
                    poll = select.poll()
                    poll.register(self._terminal, select.POLLOUT)
                    poll.poll()
