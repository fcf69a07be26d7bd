"""Tells a lack of memory from other errors. No memory is a trouble of a host or a moment, so the step fails and is
tried elsewhere. But a file may be the cause, where a container or ulimit gives a worker little: after two such failures
at a position, its samples are tried one by one (``quarantine.py``), as after two deaths."""

import errno
from typing import List, Optional


def is_shortage(error: Optional[BaseException]) -> bool:
    """Whether a lack of memory is the cause of ``error``."""
    seen: List[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, MemoryError) or isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
