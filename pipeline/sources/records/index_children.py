"""Processes that index files side by side. They are programs of their own: a trainer with TensorFlow must not be
forked, and a user's program may have no ``if __name__ == "__main__"``.

Each gets one file at a time. All are killed when the indexes are made, when one fails, and at Ctrl-C.
"""

import json
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO, Any, Dict, Generator, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import stoker
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records import index_entry
from stoker.pipeline.sources.records.index_bytes import MAX_BYTES_OF_INDEX
from stoker.pipeline.sources.records.index_process import ERROR, ERRORS, HEAD, HELLO, INDEX, NOTE, PROGRESS
from stoker.pipeline.storage.opening import log_wait
from stoker.pipeline.text import printable, printable_path

log = logging.getLogger("stoker")

TRIES = 2                   # of a file whose process was killed
POLL_S = 0.5
STALL_S = 15.0              # without a byte: a line in the log
LIMIT_S = 900.0             # without a byte: an error
END_S = 5.0                 # for a killed process to end
_READ_BYTES = 1 << 20
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")     # numpy would start one for each core


class CannotStart(Exception):
    """No process can index here. ``str(error)``: why, in a clause."""


class Task(NamedTuple):
    """A file to index. ``number``: of it among the source's files."""
    number: int
    path: str


class Done(NamedTuple):
    """What a process said: an index as bytes; or None, and how many bytes more were read of its file."""
    task: Task
    packed: Optional[bytes]
    read_bytes: int


def index_in_children(root: str, tasks: Sequence[Task], format_name: str, options: Dict[str, Any], processes: int
                      ) -> "Generator[Optional[Done], None, None]":
    """Indexes the files with so many processes; None: nothing new within POLL_S. Raises what ``index_one`` raises;
    CannotStart; DatasetError if a file's processes are killed or stand still. To be closed, which kills them."""
    request = {"root": root, "format": format_name, "options": options}
    crew = _Children(request, tasks)
    try:
        crew.start(min(processes, len(tasks)))
        while crew.is_busy():
            yield from crew.poll()
    finally:
        crew.end()


class _Child:
    def __init__(self, errors: IO[bytes]) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment.update({name: "1" for name in _THREADS if name not in environment})
        # a session of its own: Ctrl-C in a terminal is for the trainer, which kills it
        self.process = subprocess.Popen([sys.executable, "-I", "-S", os.path.abspath(index_entry.__file__)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                                        start_new_session=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.received = bytearray()
        self.task: Optional[Task] = None
        self.is_ready = False

    def send(self, value: Any) -> None:
        with suppress(BrokenPipeError):         # it ended, which is seen when it is read
            self.requests.write(json.dumps(value).encode("ascii") + b"\n")
            self.requests.flush()

    def messages(self) -> Iterator[Tuple[bytes, bytes]]:
        """The complete messages that were received: (kind, content)."""
        while len(self.received) >= HEAD.size:
            kind, length = HEAD.unpack_from(self.received)
            if length > MAX_BYTES_OF_INDEX:
                raise DatasetError("a process that indexes sent %d bytes" % length)
            if len(self.received) < HEAD.size + length:
                return
            content = bytes(memoryview(self.received)[HEAD.size:HEAD.size + length])
            del self.received[:HEAD.size + length]
            yield kind, content

    def end(self) -> int:
        """Kills it. Returns its exit code."""
        self.process.kill()
        with suppress(OSError):
            self.requests.close()
        self.replies.close()
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:       # it waits for a disk: the kernel ends it when that answers
            return -9


class _Children:
    def __init__(self, request: Dict[str, Any], tasks: Sequence[Task]) -> None:
        self._request = request
        self._waiting = list(reversed(tasks))
        self._deaths: Dict[int, int] = {}       # of the processes of a file
        self._children: List[_Child] = []
        self._selector = selectors.DefaultSelector()
        self._errors = tempfile.TemporaryFile()
        self._heard_s = time.monotonic()
        self._warned = False

    def start(self, count: int) -> None:
        """Starts so many more processes, each with a file. Raises CannotStart."""
        folders = [folder for folder in sys.path if os.path.isabs(folder)]
        with suppress(OSError):
            here = os.getcwd()
            folders.sort(key=lambda folder: folder == here)       # it may be a dataset that was downloaded
        for _ in range(count):
            try:
                child = _Child(self._errors)
            except OSError as error:
                if any(each.is_ready for each in self._children):
                    return
                raise CannotStart(error.strerror or str(error)) from error
            self._children.append(child)
            self._selector.register(child.replies, selectors.EVENT_READ, child)
            child.send({"path": folders, "stoker": os.path.dirname(os.path.abspath(stoker.__file__)),
                        "parent": os.getpid()})
            self._give(child)

    def _give(self, child: _Child) -> None:
        child.task = self._waiting.pop() if self._waiting else None
        if child.task is not None:
            child.send(dict(self._request, path=child.task.path))

    def is_busy(self) -> bool:
        """Whether there are files that are not indexed."""
        return bool(self._waiting) or any(child.task for child in self._children)

    def poll(self) -> Iterator[Optional[Done]]:
        """What the processes say within POLL_S."""
        ready = self._selector.select(POLL_S)
        if not ready:
            self._check_stall()
            yield None
        for key, _ in ready:
            self._heard_s, self._warned = time.monotonic(), False
            child: _Child = key.data
            piece = os.read(child.replies.fileno(), _READ_BYTES)
            child.received += piece
            for kind, content in child.messages():
                if kind == HELLO:
                    child.is_ready = True
                    continue
                if kind == NOTE:
                    log_wait(content.decode("utf-8"))
                    continue
                assert child.task is not None
                if kind == ERROR:
                    name, sentence = json.loads(content.decode("ascii"))
                    raise ERRORS.get(name, DatasetError)(sentence)
                if kind == PROGRESS:
                    yield Done(child.task, None, int(content))
                elif kind == INDEX:
                    task = child.task
                    self._give(child)
                    yield Done(task, content, 0)
            if not piece:
                self._has_ended(child)

    def _has_ended(self, child: _Child) -> None:
        """The file of a process that was killed is tried once more. Raises CannotStart, DatasetError."""
        self._selector.unregister(child.replies)
        self._children.remove(child)
        returncode = child.end()
        ending = "signal %d" % -returncode if returncode < 0 else "exit code %d" % returncode
        if not child.is_ready and returncode >= 0:
            self._errors.seek(0)
            lines = self._errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
            raise CannotStart(printable(lines[-1])[:300] if lines else ending)
        task = child.task
        if task is None:
            return
        self._deaths[task.number] = deaths = self._deaths.get(task.number, 0) + 1
        if deaths >= TRIES:
            raise DatasetError("the process that indexes %s ended by %s, %d times: is there enough memory? See the "
                               "kernel's log" % (printable_path(task.path), ending, deaths))
        log.warning("the process that indexes %s ended by %s: the file is tried once more", printable_path(task.path),
                    ending)
        self._waiting.append(task)
        self.start(1)

    def _check_stall(self) -> None:
        silent_s = time.monotonic() - self._heard_s
        if silent_s < STALL_S:
            return
        names = ", ".join(printable_path(child.task.path) for child in self._children if child.task)[:200]
        if silent_s > LIMIT_S:
            raise DatasetError("no byte of %s could be read for %.0f s: check the disk or the network" % (
                names, silent_s))
        if not self._warned:
            self._warned = True
            log.warning("indexing waits for %s, of which no byte came for %.0f s", names, silent_s)

    def end(self) -> None:
        """Kills all processes. Interrupted again, it goes on with the next one."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.end()
        self._children = []
        self._selector.close()
        self._errors.close()
