"""The bytes of samples' files, as generators and readers get them: all that reads them calls ``read``.

In a worker process, ``start`` lets threads read ahead what ``ahead.Ahead`` chooses. ``read`` then takes what is there,
waits for what is under way, and reads the rest itself. It gives the same bytes and raises the same errors in any case:
an error of a fetch counts only if the generator was waiting for it, else the file is read anew.

The threads start with the first thing that is to be fetched, in the thread that reads: so they have its sandbox. They
never hold up the end of the process.
"""

import os
import sys
import threading
import time
import traceback
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union, cast

from stoker.pipeline.checks import MAX_READ_AHEAD
from stoker.pipeline.errors import UnfitWorker
from stoker.pipeline.protocol.messages import Job, Lease
from stoker.pipeline.storage.folder import MAX_FILE_BYTES, BadFile, SamplePath, spanning
from stoker.pipeline.storage.store import Version
from stoker.workers import far_files, stopwatch
from stoker.workers.ahead import MAX_WAITING_BYTES, Ahead, Fetch
from stoker.workers.far_files import FarCache, through_cache
from stoker.workers.held_lease import Item, Locate, State
from stoker.workers.picture_limits import leave_to_others
from stoker.workers.read_pace import LEAST_SLOW_S, Pace

WAIT_S = 90.0               # for a fetch that is under way: longer than the tries of a store. Then it is read anew
STACK_BYTES = 1 << 20       # of a thread
STARTED_AT_ONCE = 8         # threads
MAX_BYTES = 2 * MAX_WAITING_BYTES + MAX_READ_AHEAD * STACK_BYTES     # of memory: what is read, and is being cut; stacks

Bytes = Tuple[bytes, Optional[Version]]


class Fetcher:
    """What is read ahead in this process. ``setting``: see ``Pace``. ``locate(job)``: what finds files of the job by
    the texts of its rows."""

    def __init__(self, setting: Union[int, str], locate: Callable[[Job], Locate]) -> None:
        self._locate, self._pace, self._ahead = locate, Pace(setting), Ahead()
        self._lock = threading.Lock()
        self._work, self._arrived = threading.Condition(self._lock), threading.Condition(self._lock)
        self._leases: Sequence[Tuple[Job, Lease]] = ()
        self._has_begun = self._is_applied = self._has_ended = False
        self._permitted: List[Job] = []
        self._threads = self._idle = 0
        self._process = os.getpid()             # a child that the user's function forks has no threads of this one
        self._ended_s = time.perf_counter()     # when the last read ended

    def permit(self, job: Job) -> None:
        """The leases of ``job`` may be read ahead: it reads nothing that this worker may not."""
        with self._lock:
            self._permitted = [one for one in self._permitted if one.data_root == job.data_root][-7:] + [job]
            self._is_applied = False

    def hold(self, leases: Sequence[Tuple[Job, Lease]], has_begun: bool) -> int:
        """This worker holds these leases from now on, the first of which is in work if it ``has_begun``. Returns how
        many it should hold, so that as much can be read ahead as reads take."""
        with self._lock:
            self._leases, self._has_begun = leases, has_begun
            if not self._pace.is_on:
                self._is_applied = False
                return 0
            self._apply()
            return self._ahead.leases_wanted(self._pace.threads)

    def end(self) -> None:
        """Nothing is read ahead any more, and the threads end, each after the read that it is at."""
        with self._lock:
            self._pace, self._has_ended = Pace(0), True
            self._ahead.clear()
            self._work.notify_all()
            self._arrived.notify_all()

    def _apply(self) -> None:
        self._is_applied = True
        allowed = [each for each in self._leases if not each[1].isolated and each[0] in self._permitted]
        has_begun = self._has_begun and allowed[:1] == list(self._leases[:1])
        self._ahead.hold(allowed, has_begun, self._locate)
        self._wake()

    def _wake(self) -> None:
        if self._idle and self._ahead.has_queued and self._ahead.under_way < self._pace.threads:
            self._work.notify()

    # ---------------------------------------------------------------------------------------- in the generator's thread

    def read(self, path: Union[SamplePath, str, bytes], max_bytes: int, advice: str, needs_version: bool) -> Bytes:
        """See ``read`` of this module."""
        start_s = time.perf_counter()
        between_s, is_probe = start_s - self._ended_s, False
        if not self._pace.is_on:        # nothing is read ahead: as most of the time, so this is short
            waits = stopwatch.times_waited() if self._pace.is_auto else 0
            try:
                return through_cache(path, max_bytes, advice, needs_version)
            finally:
                self._ended_s = now_s = time.perf_counter()
                stopwatch.add_read(now_s - start_s)
                self._pace.read(now_s - start_s, between_s, now_s,
                                waited=now_s - start_s > LEAST_SLOW_S and stopwatch.times_waited() != waits)
        try:
            if isinstance(path, SamplePath) and os.getpid() == self._process:
                result, item, is_probe = self._taken(path)
                if item is not None and self._is_of_use(result, max_bytes):
                    self._pace.took(between_s)
                    stopwatch.add("read", item.read_s)
                    if isinstance(result, BaseException):
                        raise result
                    return cast(Bytes, result)
                return self._read(path, max_bytes, advice, between_s, is_probe, item is None and not is_probe)
            return self._read(path, max_bytes, advice, between_s)
        finally:
            self._ended_s = time.perf_counter()
            stopwatch.add("storage", self._ended_s - start_s)

    def _read(self, path: Union[SamplePath, str, bytes], max_bytes: int, advice: str, between_s: float,
              is_probe: bool = False, is_unknown: bool = False) -> Bytes:
        start_s = time.perf_counter()
        size_bytes = 0
        try:
            found = through_cache(path, max_bytes, advice)
            size_bytes = len(found[0])
            return found
        finally:
            took_s = time.perf_counter() - start_s
            stopwatch.add("read", took_s)
            self._was_read(path, size_bytes, took_s, between_s, is_probe, is_unknown)

    def _was_read(self, path: Union[SamplePath, str, bytes], size_bytes: int, took_s: float, between_s: float,
                  is_probe: bool, is_unknown: bool, waited: bool = True) -> None:
        was_on = self._pace.is_on and os.getpid() == self._process      # else nothing would release the lock
        self._pace.read(took_s, between_s, time.perf_counter(), is_probe, waited)
        if was_on:
            with self._lock:
                if is_unknown:
                    self._ahead.was_read(cast(SamplePath, path), size_bytes)
                    self._wake()
                if not self._pace.is_on:
                    self._ahead.clear()
                    self._is_applied = False

    def _taken(self, path: SamplePath) -> Tuple[Any, Optional[Item], bool]:
        with self._lock:
            if not self._is_applied:
                self._apply()
            item = self._ahead.find(path)
            is_probe = item is None and self._ahead.was_left_out(path)
            result = None
            if item is not None:
                self._wait(item)
                result = self._ahead.take(item)
            self._wake()
            lacking = self._ahead.has_queued and not self._idle and min(
                STARTED_AT_ONCE, self._pace.threads - self._threads)
            self._threads += max(0, lacking)
        if lacking > 0:
            self._start(lacking)
        return result, item, is_probe

    def version_of(self, path: SamplePath) -> Optional[Version]:
        """See ``version_of`` of this module."""
        start_s = time.perf_counter()
        between_s, is_probe = start_s - self._ended_s, False
        is_ahead = self._pace.is_on and os.getpid() == self._process
        if is_ahead:
            with self._lock:
                if not self._is_applied:
                    self._apply()
                item = self._ahead.find(path)
                is_probe = item is None and self._ahead.was_left_out(path)
                if item is not None:
                    self._wait(item)
        version = far_files.known_version(path)
        if version is None:
            asked_s, waits = time.perf_counter(), stopwatch.times_waited()
            version = far_files.version_of(path)
            now = time.perf_counter()
            stopwatch.add("read", now - asked_s)
            self._was_read(path, 0, now - asked_s, between_s, is_probe, is_ahead and not is_probe,
                           stopwatch.times_waited() != waits)
        self._ended_s = time.perf_counter()
        return version

    def _wait(self, item: Item) -> None:
        """Waits until it is not under way any more."""
        item.is_awaited = item.state is State.UNDER_WAY
        self._arrived.wait_for(lambda: item.state is not State.UNDER_WAY, WAIT_S)

    @staticmethod
    def _is_of_use(result: Any, max_bytes: int) -> bool:
        return isinstance(result, BaseException) or result is not None and len(result[0]) <= max_bytes

    def _start(self, count: int) -> None:
        leave_to_others(MAX_BYTES)
        before = threading.stack_size(STACK_BYTES)
        try:
            while count:
                threading.Thread(target=self._run, name="stoker-fetch", daemon=True).start()
                count -= 1
        except RuntimeError:                # no more threads for this user: those that there are go on
            with self._lock:
                self._threads -= count
        finally:
            threading.stack_size(before)

    # ------------------------------------------------------------------------------------------------- in the threads

    def _run(self) -> None:
        try:
            while True:
                with self._lock:
                    fetch = self._next()
                    while fetch is None:
                        if self._has_ended:
                            return
                        self._idle += 1
                        self._work.wait()
                        self._idle -= 1
                        fetch = self._next()
                    self._wake()
                self._fetch(fetch)
        except Exception:                   # a bug: the generator reads itself
            traceback.print_exc(file=sys.stderr)
            self.end()

    def _next(self) -> Optional[Fetch]:
        if not self._pace.is_on or not self._is_applied:
            return None
        if self._ahead.has_queued and self._pace.wants_probe(time.perf_counter()):
            self._ahead.leave_out_next()
        return self._ahead.next_fetch(self._pace.threads)

    def _fetch(self, fetch: Fetch) -> None:
        start_s = time.perf_counter()
        results: Optional[List[Any]] = None
        error: Optional[BaseException] = None
        try:
            results = _results(fetch)
        except Exception as caught:
            error = caught
        took_s = time.perf_counter() - start_s
        with self._lock:
            self._pace.fetched(took_s)
            if results is None and isinstance(error, BadFile) and not fetch.length:
                self._ahead.too_large(fetch)
            elif results is None and isinstance(error, (OSError, UnfitWorker)) and any(
                    item.is_awaited for item in fetch.items):
                self._ahead.arrived(fetch, [error] * len(fetch.items), [0] * len(fetch.items), took_s)
                for item in fetch.items:
                    if not item.is_awaited:
                        self._ahead.forget(item)
            elif results == []:
                self._ahead.not_needed(fetch)
            else:
                self._ahead.arrived(fetch, results, [len(each[0]) for each in results or ()], took_s)
            if any(item.is_awaited for item in fetch.items):
                self._arrived.notify_all()


def _results(fetch: Fetch) -> List[Bytes]:
    """What is at the places of ``fetch``; [] if nothing is needed, for the cache has what is made of it."""
    path = fetch.items[0].path
    if path.store and all(map(far_files.is_decoded, [item.path for item in fetch.items])):
        return []
    if not fetch.length:
        return [through_cache(path, fetch.limit_bytes, "")]
    if path.store and all(map(far_files.has_bytes, [item.path for item in fetch.items])):
        return [through_cache(item.path, fetch.limit_bytes, "") for item in fetch.items]
    data, version = through_cache(spanning(path, fetch.offset, fetch.length), fetch.limit_bytes, "")
    found = []
    for item in fetch.items:
        assert item.place is not None
        begin = item.place.offset - fetch.offset
        found.append((data[begin:begin + item.place.length], version))
    return found


_fetcher: Optional[Fetcher] = None          # of this process, if it may read ahead


def version_of(path: SamplePath) -> Optional[Version]:
    """The version of the file of ``path``, in a store elsewhere, as it was some minutes ago at most; None if the store
    does not tell."""
    return far_files.version_of(path) if _fetcher is None else _fetcher.version_of(path)


def start(setting: Union[int, str], locate: Callable[[Job], Locate], cache: Optional[FarCache] = None) -> None:
    """Lets this process read ahead, as ``setting`` says (see ``Pace``); 0: never. ``locate``: see ``Fetcher``.
    ``cache``: where bytes of far files are kept."""
    global _fetcher
    far_files.keep_in(cache)
    if _fetcher is not None:
        _fetcher.end()
    _fetcher = Fetcher(setting, locate) if setting else None


def is_started() -> bool:
    """Whether this process may read ahead."""
    return _fetcher is not None


def permit(job: Job) -> None:
    """See ``Fetcher``."""
    if _fetcher is not None:
        _fetcher.permit(job)


def hold(leases: Sequence[Tuple[Job, Lease]], has_begun: bool) -> int:
    """See ``Fetcher``."""
    return 0 if _fetcher is None else _fetcher.hold(leases, has_begun)


def read(path: Union[SamplePath, str, bytes], max_bytes: int = MAX_FILE_BYTES, advice: str = "",
         keep: bool = True) -> Bytes:
    """The bytes at ``path`` and the version of the file: see ``read_file``, whose errors it raises. ``keep``: those of
    a far file are of use in the cache, for what is made of them is not kept; the version of a file of this host may
    then be None."""
    if not isinstance(path, SamplePath) or not path.store:
        if _fetcher is not None:
            return _fetcher.read(path, max_bytes, advice, not keep)
        return _read(path, max_bytes, advice, not keep)
    far_files.open_bytes()
    data, version = _read(path, max_bytes, advice, True)
    if keep:
        far_files.keep(path, data, version)
    return data, version


def _read(path: Union[SamplePath, str, bytes], max_bytes: int, advice: str, needs_version: bool) -> Bytes:
    if _fetcher is not None:
        return _fetcher.read(path, max_bytes, advice, needs_version)
    start_s = time.perf_counter()
    try:
        return through_cache(path, max_bytes, advice, needs_version)
    finally:
        stopwatch.add_read(time.perf_counter() - start_s)
