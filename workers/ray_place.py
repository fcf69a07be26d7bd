"""A place on a Ray cluster: the actor that has the ordinary worker as its child. Needs no Ray itself.

The actor holds the worker's lifeline: however the actor, its node or the launcher ends, the worker ends too. It starts
the worker only when the launcher says so, after each restart of the actor by Ray: the keys come in that call, over the
connection from the launcher. Arguments of an actor's constructor, on the other hand, are kept by Ray.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Deque, List, NamedTuple, Optional, Sequence

from stoker.pipeline.text import printable
from stoker.pipeline.transport.keys import WorkerKeys, to_environment
from stoker.workers.launch import LAUNCH

MAX_LINES = 1000       # that wait for the launcher; older ones are left out
MAX_CHARS = 2000       # of each
MAX_LINE_BYTES = 64 << 10
POLL_S = 5.0           # how long ``poll`` waits for something new
READ_S = 0.5           # how long to wait for the last lines of a worker that has ended

News = NamedTuple("News", [("lines", List[str]), ("seen", int), ("code", Optional[int])])
News.__doc__ = """Lines that the worker wrote, how many there were so far, and its exit code once it has ended."""


class Place:
    """Its methods are called in several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # under it:
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._lines: Deque[str] = deque(maxlen=MAX_LINES)
        self._written = 0           # lines so far
        self._code: Optional[int] = None

    def start(self, arguments: Sequence[str], keys: Optional[WorkerKeys] = None) -> str:
        """Starts the worker with these options of ``stoker-worker``, unless it runs already. Returns the name of this
        host. Raises OSError."""
        with self._changed:
            if self._process is None:
                environment = dict(os.environ, **({} if keys is None else to_environment(keys)))
                # in a session of its own: signals for the actor are not for the worker
                self._process = subprocess.Popen(
                    [sys.executable, LAUNCH, "stoker.workers.cli", *arguments, "--processes", "1", "--lifeline"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
                    start_new_session=True)
                reader = threading.Thread(target=self._read, daemon=True)
                reader.start()
                threading.Thread(target=self._wait, args=(reader,), daemon=True).start()
        return printable(socket.gethostname())

    def poll(self, seen: int) -> News:
        """What is new after the first ``seen`` lines; waits up to POLL_S until there is something."""
        with self._changed:
            self._changed.wait_for(lambda: self._written > seen or self._code is not None, POLL_S)
            new = min(self._written - seen, len(self._lines))
            return News(list(self._lines)[len(self._lines) - new:], self._written, self._code)

    def drain(self) -> None:
        """Lets the worker finish the step in work and end."""
        with self._changed:
            if self._process is not None and self._code is None:
                with suppress(OSError):
                    self._process.send_signal(signal.SIGTERM)

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        while True:
            line = self._process.stdout.readline(MAX_LINE_BYTES)
            if not line:
                return
            with self._changed:
                self._lines.append(printable(line.decode("utf-8", "replace").rstrip("\n"))[:MAX_CHARS])
                self._written += 1
                self._changed.notify_all()

    def _wait(self, reader: threading.Thread) -> None:
        assert self._process is not None
        code = self._process.wait()
        reader.join(READ_S)         # a process that the worker left behind may hold the other end
        with self._changed:
            self._code = code
            self._changed.notify_all()
