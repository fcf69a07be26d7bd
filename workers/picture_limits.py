"""What decoding one picture may cost: CPU time and memory. A hostile file of some kilobytes can ask for hours or for
gigabytes; with these limits it is a bad file, and the run goes on without it.

CPU time: a timer of the kernel, which ends the process even inside a C library that never returns. The search for files
that kill (``quarantine.py``) then finds the file. Memory: RLIMIT_DATA, which counts what the process may write itself,
but neither the cache's shared mapping nor reserved addresses as CUDA has them. It is an amount above what the process
has when it opens the job. Both hold only while Stoker decodes a picture, in the main thread of a worker: what a user's
function does between its calls of Stoker's readers is not limited, nor are processes and threads that it starts.

Whether a picture stays below them depends on the host and its libraries. So they are a protection with a wide margin:
no content of batches should depend on them, and a run may go on with other limits.
"""

import functools
import mmap
import os
import signal
import time
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Any, Callable, Iterator, TypeVar, cast

from PIL import Image

from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage.folder import BadFile
from stoker.workers.heap import free_memory, usage

try:
    import resource
except ImportError:         # not on Windows
    resource = None         # type: ignore[assignment]

Function = TypeVar("Function", bound=Callable[..., Any])
#: How a process ends that reaches the limit of CPU time.
CPU_SIGNAL = int(getattr(signal, "SIGPROF", 0))
#: PIL takes memory in pieces of this size. Each is a mapping of its own, which goes back to the system with the
#: picture; of PIL's own size, 16 MB, they would stay in the heap of a worker for good.
_BLOCK_BYTES = 1 << 30
_NO_LIMIT = -1
TIMER_S = 0.25          # how long a timer that was set for one picture serves for others, in ``one_timer``


class _State:
    """The limits of this process."""
    process = thread = 0                # that they are for
    decodes = False                     # it does, within ``limited``
    has_limit = False                   # of memory, right now
    cpu_s = 0.0                         # 0: none
    has_one_timer = False               # within ``one_timer``
    timer_until_s = 0.0                 # there, it is set anew for a picture that begins later; 0: it is not set
    memory_bytes = 0                    # that a picture may take; 0: any
    data_bytes = resident_bytes = 0     # of this process, when the limit was set
    base_bytes = 0                      # of this process without a picture, as far as the limit knows
    others_bytes = 0                    # that its other threads may take meanwhile
    inside = outside = (_NO_LIMIT, _NO_LIMIT)       # RLIMIT_DATA while a picture is decoded, and else


def apply(job: Job) -> None:
    """From now on, the pictures that this thread decodes have the limits of ``job``."""
    _State.process, _State.thread = os.getpid(), get_ident()
    _State.cpu_s = _State.memory_bytes = 0
    if job.picture_cpu_s and hasattr(signal, "setitimer"):
        handler = signal.getsignal(CPU_SIGNAL)
        if handler is signal.SIG_IGN:           # inherited
            handler = signal.signal(CPU_SIGNAL, signal.SIG_DFL)
        if handler in (signal.SIG_DFL, signal.SIG_IGN):     # else a profiler uses the timer
            _State.cpu_s = job.picture_cpu_s
    if "PILLOW_BLOCK_SIZE" not in os.environ:
        pil: Any = Image
        pil.core.set_block_size(_BLOCK_BYTES)
    if job.picture_memory_mb and resource is not None:
        _State.data_bytes, _State.resident_bytes = usage()
        if _State.data_bytes:
            _State.memory_bytes = job.picture_memory_mb << 20
            _set_memory(_State.data_bytes)


def lift() -> None:
    """No limits any more: for tests."""
    _State.process, _State.cpu_s, _State.memory_bytes, _State.has_one_timer = 0, 0.0, 0, False


def leave_to_others(most_bytes: int) -> None:
    """Other threads of this process may take so much memory from now on: it is none of a picture's."""
    if most_bytes != _State.others_bytes:
        _State.others_bytes = most_bytes
        if _State.memory_bytes:
            _set_memory(_State.base_bytes)


def limit_memory() -> None:
    """The picture at hand may be one that takes much memory: from here on to its end, it has the limit. Most pictures
    are small JPEGs, whose headers tell how much they take, and go without: to set the limit takes a microsecond."""
    if _State.decodes and _State.memory_bytes:
        _State.has_limit = True
        resource.setrlimit(resource.RLIMIT_DATA, _State.inside)


def max_pixels(bytes_each: int) -> float:
    """The most pixels that surely stay below the limit of memory, if each takes so many bytes."""
    return _State.memory_bytes // bytes_each if _State.memory_bytes else float("inf")


@contextmanager
def one_timer() -> Iterator[None]:
    """Within it, this thread runs nothing but Stoker's code. So the timer of CPU time need not be set for each picture,
    which takes as long as other parts of a small one: it is set for TIMER_S more, and serves the pictures that begin
    before those are over. Nor can this process be a child of the one that had the limits."""
    _State.has_one_timer = get_ident() == _State.thread and os.getpid() == _State.process
    try:
        yield
    finally:
        if _State.has_one_timer:
            _State.has_one_timer = False
            if _State.timer_until_s:
                _State.timer_until_s = 0.0
                signal.setitimer(signal.ITIMER_PROF, 0)


def limited(decode: Function) -> Function:
    """A decorator: ``decode`` has the limits of the job, that of memory from ``limit_memory`` on. It raises BadFile for
    a picture that takes too much memory, and MemoryError if it is not Stoker's limit that was reached."""
    @functools.wraps(decode)
    def call(*args: Any, **kwargs: Any) -> Any:
        if get_ident() != _State.thread or not _State.has_one_timer and os.getpid() != _State.process:
            return decode(*args, **kwargs)
        try:
            return _within(decode, args, kwargs)
        except MemoryError:
            if not _State.memory_bytes:
                raise
        return _again(decode, args, kwargs)     # here, the memory of the first try is free
    return cast(Function, call)


def _within(decode: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if _State.cpu_s:
        now_s = time.monotonic()
        if not _State.has_one_timer:
            signal.setitimer(signal.ITIMER_PROF, _State.cpu_s)
        elif now_s >= _State.timer_until_s:
            _State.timer_until_s = now_s + TIMER_S
            signal.setitimer(signal.ITIMER_PROF, _State.cpu_s + TIMER_S)
    _State.decodes = True
    try:
        return decode(*args, **kwargs)
    finally:
        _State.decodes = False
        if _State.has_limit:
            _State.has_limit = False
            resource.setrlimit(resource.RLIMIT_DATA, _State.outside)
        if _State.cpu_s and not _State.has_one_timer:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _again(decode: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The picture had no memory. Perhaps it is the worker that has grown, with the memory of a user's function: then
    the limit is moved, and the picture is tried once more."""
    free_memory()
    grown = max(0, usage()[1] - _State.resident_bytes)
    _set_memory(_State.data_bytes + grown)
    if grown > _State.memory_bytes // 8:
        with suppress(MemoryError):
            return _within(decode, args, kwargs)
        free_memory()
    try:
        mmap.mmap(-1, _State.memory_bytes, mmap.MAP_PRIVATE).close()
    except (OSError, ValueError, OverflowError):
        raise MemoryError("no memory to decode a picture: this process may have less than picture_memory_mb "
                          "(--picture-memory-mb) permits") from None
    raise BadFile("takes more than %d MB of memory to decode; picture_memory_mb (--picture-memory-mb) permits more"
                  % (_State.memory_bytes >> 20))


def cpu_reason(cpu_s: float) -> str:
    """Why a file is bad that reached the limit of CPU time."""
    return "takes more than %g s of CPU time to decode; picture_cpu_s (--picture-cpu-s) permits more" % cpu_s


def _set_memory(base_bytes: int) -> None:
    _State.base_bytes = base_bytes
    _State.outside = soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = base_bytes + _State.others_bytes + _State.memory_bytes
    limits = [each for each in (wanted, soft, hard) if each != resource.RLIM_INFINITY]
    _State.inside = min(limits), hard
