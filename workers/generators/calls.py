"""What surrounds each call of a user's function: seeded random numbers, the result of ``setup``, no threads left over.

Old code draws from the modules ``random`` and ``numpy.random``. Their global generators are seeded here before each
call, so that such code gives the same batches on every worker. A thread that goes on after the call would draw from
them at any time: it is an error.
"""

from __future__ import generator_stop

import os
import random
import threading
import traceback
import weakref
from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from stoker.pipeline.plan import sample_seed
from stoker.pipeline.protocol.messages import Job, Sample
from stoker.workers.generators.rows import FunctionError

#: The generator whose methods the functions of the module ``random`` are.
_GLOBAL: random.Random = random.seed.__self__       # type: ignore[attr-defined]
#: What its ``seed`` calls for a whole number, in two thirds of the time.
_seed_global: Callable[[int], None] = super(random.Random, _GLOBAL).seed
_STOKERS = "stoker-"                                # how the names of this process's own threads begin
_SETUP_EPOCH = -1                                   # seeds ``setup``; no sample has it
_permitted: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()     # ran before the first call, or began in a setup
_finished_setup: List[Tuple[Any, Job, Any]] = []    # (setup function, job, its result) of this process's last setup


class Calls:
    """The calls of the user's function ``name`` in one job. Attributes:

    shared: the result of ``setup(job)``, which runs once for each process and job; None without a setup.
    """

    def __init__(self, name: str, job: Job, setup: Optional[Callable[[Any], Any]] = None) -> None:
        self._name, self._seed = name, job.seed
        self._threads = -1           # as many as ran when all of them were permitted
        if not _permitted:
            _permitted.update(threading.enumerate())
        self.shared = None if setup is None else self._set_up(setup, job)

    def number(self, epoch: int, sample: Sample) -> int:
        """The number for ``seeded`` of a sample, or of a batch by its first sample."""
        return sample_seed(self._seed, epoch, sample.index, sample.repeat)

    def check_threads(self) -> None:
        """Raises FunctionError if the function left a thread running."""
        count = threading.active_count()
        if count == self._threads:
            return
        for thread in threading.enumerate():
            if thread not in _permitted and not _is_ours(thread):
                raise FunctionError("function %r left the thread %r running: its random numbers would differ from run "
                                    "to run; wait for the thread, or start it in setup and draw no random numbers in it"
                                    % (self._name, thread.name))
        self._threads = count

    def _set_up(self, setup: Callable[[Any], Any], job: Job) -> Any:
        if _finished_setup and _finished_setup[0][:2] == (setup, job):
            return _finished_setup[0][2]
        before = set(threading.enumerate())
        seeded(sample_seed(self._seed, _SETUP_EPOCH, 0))
        try:
            shared = setup(job)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise FunctionError("setup function %s of %r raised %s: %s (%s, line %d)" % (
                getattr(setup, "__name__", setup), self._name, type(error).__name__, error,
                os.path.basename(at.filename), at.lineno or 0)) from error
        _permitted.update(thread for thread in threading.enumerate() if thread not in before)
        _finished_setup[:] = [(setup, job, shared)]
        return shared


def _is_ours(thread: threading.Thread) -> bool:
    """Whether it is a thread of Stoker, or the one that pyzmq starts with the first batch."""
    return thread.name.startswith(_STOKERS) or type(thread).__module__.partition(".")[0] == "zmq"


def seeded(number: int) -> random.Random:
    """Python's random generator, seeded with ``Calls.number``: it gives the numbers of ``plan.sample_random``. It is
    the one of the module ``random``; numpy's global one is seeded too."""
    _seed_global(number)
    _GLOBAL.gauss_next = None               # type: ignore[attr-defined]
    np.random.seed(number & 0xffffffff)
    return _GLOBAL
