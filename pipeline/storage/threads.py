"""Threads that ask stores, and never hold up the end of the process.

Those of ``concurrent.futures`` do: Python waits for them when it ends, and one that asks a dead store is busy for a
minute, which a program would seem to hang behind its Ctrl-C.
"""

import queue
import threading
from concurrent.futures import Future
from typing import Any, Callable, Iterable, Iterator, Optional, Tuple, TypeVar

Task = Tuple["Future[Any]", Callable[..., Any], Tuple[Any, ...]]
A = TypeVar("A")
T = TypeVar("T")


class Threads:
    """At most ``most`` threads, for one thread that gives them tasks. Example:
    ``with Threads(16) as threads: entries = list(threads.map(store.size, paths))``."""

    def __init__(self, most: int) -> None:
        self._most, self._count, self._is_over = most, 0, False
        self._tasks: "queue.Queue[Optional[Task]]" = queue.Queue()

    def submit(self, call: Callable[..., T], *arguments: Any) -> "Future[T]":
        """``call(*arguments)`` by one of the threads."""
        future: "Future[T]" = Future()
        self._tasks.put((future, call, arguments))
        if self._count < self._most:
            threading.Thread(target=self._run, name="stoker-store", daemon=True).start()
            self._count += 1
        return future

    def map(self, call: Callable[[A], T], items: Iterable[A]) -> Iterator[T]:
        """``call(item)`` of each item, in their order. Raises what one of the calls raises."""
        for future in [self.submit(call, item) for item in items]:
            yield future.result()

    def close(self) -> None:
        """Ends the threads: each after the call that it is at. What has not begun is cancelled."""
        self._is_over = True
        for _ in range(self._count):
            self._tasks.put(None)

    def __enter__(self) -> "Threads":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            future, call, arguments = task
            if self._is_over:
                future.cancel()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call(*arguments))
                except BaseException as error:
                    future.set_exception(error)
            del task, future, call, arguments       # with what came: an idle thread keeps no memory
