"""Reads samples in threads while the main thread writes: many small files at once, or one file that is parsed."""

import collections
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Callable, Deque, Iterator, Tuple

from stoker.packing.plan import Cursor, weight
from stoker.packing.samples import Input

Pair = Tuple[Any, Cursor]
_IN_WORK = 4                  # files under way for each thread
MAX_AHEAD_BYTES = 64 << 20    # of samples that threads have read and the main thread not yet written, besides one
_MAX_AHEAD = 4096             # and their number
_POLL_S = 0.2                 # Ctrl-C is noticed within: a wait without a limit may miss it


def loaded(pairs: Iterator[Pair], source: Input, threads: int, stop: Callable[[], None]) -> Iterator[Pair]:
    """Each pair in order, with the sample of its item, which ``threads`` threads read. ``stop`` is called in waits."""
    pool = ThreadPoolExecutor(threads, "stoker-read")
    waiting: Deque[Tuple[Any, Cursor, int]] = collections.deque()
    size = 0
    try:
        for item, cursor in pairs:
            wanted = source.size_of(item)
            while waiting and (len(waiting) >= threads * _IN_WORK or size + wanted > MAX_AHEAD_BYTES):
                future, behind, its_size = waiting.popleft()
                size -= its_size
                yield _result(future, stop), behind
            waiting.append((pool.submit(source.load, item), cursor, wanted))
            size += wanted
        while waiting:
            future, behind, _ = waiting.popleft()
            yield _result(future, stop), behind
    finally:
        for future, _, _ in waiting:
            future.cancel()
        pool.shutdown(wait=False)


def _result(future: Any, stop: Callable[[], None]) -> Any:
    while True:
        stop()
        try:
            return future.result(_POLL_S)
        except FutureTimeout:
            if future.done():
                raise              # the read's own error


def parsed(pairs: Iterator[Pair], stop: Callable[[], None]) -> Iterator[Pair]:
    """The same pairs, made by a thread of their own some way ahead."""
    ahead = _Ahead(pairs, stop)
    try:
        yield from ahead
    finally:
        ahead.close()


class _Ahead:
    def __init__(self, pairs: Iterator[Pair], stop: Callable[[], None]) -> None:
        self._pairs, self._stop = pairs, stop
        self._ready: Deque[Any] = collections.deque()
        self._size = 0
        self._changed = threading.Condition()
        self._is_closed = False
        threading.Thread(target=self._run, name="stoker-parse", daemon=True).start()

    def _run(self) -> None:
        try:
            for pair in self._pairs:
                if not self._put((pair, None), weight(pair[0])):
                    return
            self._put((None, None), 0)
        except BaseException as error:      # the main thread raises it
            self._put((None, error), 0)

    def _put(self, entry: Any, size: int) -> bool:
        with self._changed:
            while not self._is_closed and self._ready and (
                    self._size + size > MAX_AHEAD_BYTES or len(self._ready) >= _MAX_AHEAD):
                self._changed.wait()
            self._ready.append((entry, size))
            self._size += size
            self._changed.notify_all()
            return not self._is_closed

    def __iter__(self) -> Iterator[Pair]:
        while True:
            with self._changed:
                while not self._ready:
                    self._stop()
                    self._changed.wait(_POLL_S)
                (pair, error), size = self._ready.popleft()
                self._size -= size
                self._changed.notify_all()
            if error is not None:
                raise error
            if pair is None:
                return
            yield pair

    def close(self) -> None:
        """Ends the thread, at its next sample."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
