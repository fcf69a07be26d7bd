"""The time that a generator spends in each stage, in seconds, summed up until ``take``.

Two readings of the clock per stage and sample, in one table for the process: a worker runs one generator at a time. The
rest of a batch's time is the generator's own.
"""

import functools
import time
from typing import Any, Callable, TypeVar, cast

from stoker.pipeline.protocol.messages import Timings

_Function = TypeVar("_Function", bound=Callable[..., Any])
_spent = {"storage": 0.0, "decode": 0.0, "augment": 0.0}


def timed(stage: str) -> Callable[[_Function], _Function]:
    """A decorator: the function's time counts as this stage. Timed functions must not call each other."""
    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start_s = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                _spent[stage] += time.perf_counter() - start_s
        return cast(_Function, call)
    return decorate


def take() -> Timings:
    """Seconds by stage since the last call, without ``held_s``."""
    taken = Timings(_spent["storage"], _spent["decode"], _spent["augment"])
    _spent.update(dict.fromkeys(_spent, 0.0))
    return taken
