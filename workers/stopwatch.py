"""The time that a generator spends in each stage, in seconds, summed up until ``take``.

Two readings of the clock per stage and sample, in one table for the process: a worker runs one generator at a time. The
rest of a batch's time is the generator's own.
"""

import functools
import time
from typing import Any, Callable, Dict, TypeVar, cast

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


def take() -> Dict[str, float]:
    """Seconds by stage since the last call."""
    taken = dict(_spent)
    for stage in _spent:
        _spent[stage] = 0.0
    return taken
