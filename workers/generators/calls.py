"""What surrounds each call of a user's function: seeded random numbers, the result of ``setup``, no threads left over.

Old code draws from the modules ``random`` and ``numpy.random``. Their global generators are seeded here before each
call, so that such code gives the same batches on every worker. A thread that goes on after the call would draw from
them at any time: it is an error.
"""

from __future__ import generator_stop

import random
import threading
import weakref
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.functions import Skip
from stoker.pipeline.plan import sample_seed
from stoker.pipeline.protocol.messages import Job, Sample
from stoker.pipeline.text import name_list
from stoker.pipeline.user_errors import IN_SETUP, line_of, sentence_of
from stoker.workers.generators.rows import FunctionError, SetupFailed

#: The generator whose methods the functions of the module ``random`` are.
_GLOBAL: random.Random = random.seed.__self__       # type: ignore[attr-defined]
#: What its ``seed`` calls for a whole number, in two thirds of the time.
_seed_global: Callable[[int], None] = super(random.Random, _GLOBAL).seed
_STOKERS = "stoker-"                                # how the names of this process's own threads begin
MAX_NAMES = 50              # of columns, in a sentence
_SETUP_EPOCH = -1                                   # seeds ``setup``; no sample has it
_permitted: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()     # ran before the first call, or began in a setup
_finished_setup: List[Tuple[Any, Job, Any]] = []    # (setup function, job, its result) of this process's last setup


class Calls:
    """The calls of the user's function ``name`` in one job. ``kind``: what errors call it. Attributes:

    shared: the result of ``setup(job)``, which runs once for each process and job; None without a setup.
    """

    def __init__(self, name: str, job: Job, setup: Optional[Callable[[Any], Any]] = None, kind: str = "") -> None:
        self._kind, self._name, self._job, self._seed = kind, name, job, job.seed
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

    def error(self, raised: BaseException, place: str, samples: Sequence[Sample]) -> FunctionError:
        """The error of a call of the function with ``samples`` that raised ``raised``: it names the function, the
        ``place`` in words and the line at fault."""
        if isinstance(raised, FunctionError):          # of an attribute of the sample: it names the function
            return FunctionError(sentence_of(raised))
        sentence = sentence_of(raised, self._hint(raised, samples))
        return FunctionError("%sfunction %r, %s: %s" % (self._kind, self._name, place, sentence))

    def _hint(self, raised: BaseException, samples: Sequence[Sample]) -> str:
        """What there is instead of what the function did not find, or must not do."""
        if isinstance(raised, Skip):
            return ": only a sample function may raise Skip; return fewer rows, and declare it with may_skip=True"
        if isinstance(raised, KeyError) and raised.args and isinstance(raised.args[0], str):
            for sample in samples:
                row = self._job.row(sample)
                # a text of the row itself was looked up elsewhere, as a word in a vocabulary
                if isinstance(row, dict) and raised.args[0] not in row and raised.args[0] not in row.values():
                    names = name_list(map(repr, row), MAX_NAMES)
                    return ": the row of sample %d has %s" % (sample.index, names or "nothing")
        frame = line_of(raised)
        line = frame.line or "" if frame is not None else ""
        if isinstance(raised, IndexError) and "partners[" in line and not any(sample.partners for sample in samples):
            return ": a sample has partners if open_stream gets partners="
        if isinstance(raised, TypeError) and ".row[" in line and samples:
            return ": sample.row is %.100r" % (self._job.row(samples[0]),)
        return ""

    def _set_up(self, setup: Callable[[Any], Any], job: Job) -> Any:
        if _finished_setup and _finished_setup[0][:2] == (setup, job):
            return _finished_setup[0][2]
        before = set(threading.enumerate())
        seeded(sample_seed(self._seed, _SETUP_EPOCH, 0))
        try:
            shared = setup(job)
        except BaseException as error:
            raise SetupFailed("function %r%s%s: %s" % (
                self._name, IN_SETUP, getattr(setup, "__name__", setup), sentence_of(error))) from error
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
