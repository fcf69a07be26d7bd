"""The time that a generator spends in each stage, in seconds, summed up until ``take``.

One table for the process, which runs one generator at a time. The rest of a batch's time is the generator's own.
"""

import time
from contextlib import contextmanager
from typing import Iterator

from stoker.pipeline.protocol.messages import Timings

_spent = {"storage": 0.0, "decode": 0.0, "augment": 0.0}


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """A decorator: the function's time counts as this stage. Timed functions must not call each other."""
    start_s = time.perf_counter()
    try:
        yield
    finally:
        _spent[stage] += time.perf_counter() - start_s


def take() -> Timings:
    """Seconds by stage since the last call, without ``held_s``."""
    taken = Timings(_spent["storage"], _spent["decode"], _spent["augment"])
    _spent.update(dict.fromkeys(_spent, 0.0))
    return taken
