"""What local workers write to their standard error: passed on as it is, and its last lines kept for the error in which
they end. In a notebook, the terminal of child processes is not seen.

A worker never waits for a terminal that is stopped (Ctrl-S), nor for a pipe without a reader: what cannot be passed on
soon is left out.
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
PATIENCE_S = 1.0       # for what was read before to be passed on
LEFT_OUT = "stoker: %s bytes that workers wrote here were left out, because this output was stopped or not read\n"


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
        self._terminal: Optional[Terminal] = None
        if sys.__stderr__ is not None:
            with suppress(OSError):
                self._terminal = Terminal(os.dup(2))
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
                if self._terminal is not None:
                    self._terminal.pass_on(said)
        finally:
            os.close(self._read_fd)
            if self._terminal is not None:
                self._terminal.end()


class Terminal(threading.Thread):
    """Writes to ``fd``, which it closes in the end, and may wait there without end. Started at once."""

    def __init__(self, fd: int, patience_s: float = PATIENCE_S) -> None:
        super().__init__(name="stoker-worker-terminal", daemon=True)
        self._fd, self._patience_s = fd, patience_s
        self._changed = threading.Condition()
        # under it: what is being written; how many bytes were left out since; whether to wait for it; whether all came
        self._said, self._left_out, self._is_stuck, self._has_ended = b"", 0, False, False
        self.start()

    def pass_on(self, said: bytes) -> None:
        """Writes ``said`` after what came before, or leaves it out if that is not written in time."""
        with self._changed:
            if self._is_stuck or not self._changed.wait_for(lambda: not self._said, self._patience_s):
                self._is_stuck = True
                self._left_out += len(said)
                return
            self._said = said
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will come. Waits for what came before, if it is written in time."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
            patience_s = 0.0 if self._is_stuck else self._patience_s
        self.join(patience_s)

    def run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._said or self._has_ended)
                    said = self._said
                if not said:
                    return
                self._write(said)
                with self._changed:
                    notice = LEFT_OUT % format(self._left_out, ",") if self._left_out else ""
                    self._said = ("\n" * bool(notice and not said.endswith(b"\n")) + notice).encode("ascii")
                    self._left_out, self._is_stuck = 0, False
                    self._changed.notify_all()
        finally:
            os.close(self._fd)

    def _write(self, said: bytes) -> None:
        """A terminal that is lost, or a full disk, must not end the training; nor the next lines, if it comes back."""
        with suppress(OSError):
            while said:
                try:
                    said = said[os.write(self._fd, said):]
                except BlockingIOError:         # another program has set it to non-blocking
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll()
