"""The time that a generator spends in each stage, in seconds, summed up until ``take``.

One table for the process, which runs one generator at a time. The rest of a batch's time is the generator's own.
"""

import functools
import itertools
import time
from typing import Any, Callable, TypeVar, cast

from stoker.pipeline.protocol.messages import Timings

try:
    import resource
except ImportError:         # not on Windows
    resource = None         # type: ignore[assignment]

Function = TypeVar("Function", bound=Callable[..., Any])
_spent = {"storage": 0.0, "decode": 0.0, "augment": 0.0, "read": 0.0}
_calls = itertools.count(1)


def timed(stage: str) -> Callable[[Function], Function]:
    """A decorator: the function's time counts as this stage. Timed functions must not call each other."""
    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:      # contextlib's decorator takes three times as long
            start_s = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                _spent[stage] += time.perf_counter() - start_s
        return cast(Function, call)
    return decorate


def add(stage: str, seconds: float) -> None:
    """So much more time was spent in this stage. "read": what the reads took whose bytes the generator got."""
    _spent[stage] += seconds


def add_read(seconds: float) -> None:
    """A read took so long, all of which the generator waited."""
    _spent["storage"] += seconds
    _spent["read"] += seconds


def times_waited() -> int:
    """How often this thread has waited, for anything but a core. Where the system does not tell, each call counts."""
    return resource is not None and resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw or next(_calls)


def take() -> Timings:
    """Seconds by stage since the last call, without ``held_s``."""
    taken = Timings(_spent["storage"], _spent["decode"], _spent["augment"], 0.0, _spent["read"])
    _spent.update(dict.fromkeys(_spent, 0.0))
    return taken
