"""Where a generator's time goes: seconds for each stage, added up until somebody takes them.

Two readings of the clock a stage and sample, in the process's one table: a worker runs one generator. What a generator
does besides, or in a way of its own, nobody measures: it is the rest of the time that its batch took.
"""

import functools
import time
from typing import Any, Callable, Dict

_spent = {"storage": 0.0, "decode": 0.0, "augment": 0.0}


def timed(stage: str) -> Callable[[Any], Any]:
    """A decorator: what the function takes counts as this stage. Timed functions do not call each other."""
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start_s = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                _spent[stage] += time.perf_counter() - start_s
        return call
    return decorate


def take() -> Dict[str, float]:
    """Seconds by stage since the last call."""
    taken = dict(_spent)
    for stage in _spent:
        _spent[stage] = 0.0
    return taken
