"""Finds a job's generator, one of Stoker's or the user's own as module:function, and calls it: ``open_producer``."""

from __future__ import generator_stop

import importlib
import inspect
import sys
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, cast

from stoker.pipeline.arrays import UpTo, listed
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import (OLD_GENERATOR, BatchFunction, Declared, GeneratorFunction, SampleFunction,
                                       check_generator, load_function)
from stoker.pipeline.options import GENERATORS, WorkerOptions
from stoker.pipeline.protocol.messages import Job, Lease
from stoker.pipeline.storage.folder import check_root
from stoker.pipeline.user_errors import CANNOT_LOAD
from stoker.workers import bounds, copies, formats, limits, picture_limits
from stoker.workers.cache import Cache
from stoker.workers.generators.batch import call_for_batches
from stoker.workers.generators.numerical import numerical
from stoker.workers.generators.output import Output
from stoker.workers.generators.pictures import augmented, image, with_cache
from stoker.workers.generators.rows import FunctionError
from stoker.workers.generators.sample import call_for_samples
from stoker.workers.users_code import note_imported, note_modules

Generator = Callable[[Iterable[Lease], Job], Iterator[Output]]
_FUNCTIONS = {generator.__name__: generator for generator in (numerical, image, augmented)}
_READ_FILES = (image, augmented, call_for_samples, call_for_batches)
_MAKE_FRESH = (numerical, image, augmented, call_for_samples, call_for_batches)


def find(name: str, allowed: Sequence[str], job: Optional[Job] = None) -> Generator:
    """The generator called ``name``: one of GENERATORS, or the user's 'module:function', which may be declared by
    ``stoker.sample``, ``stoker.batch`` or ``stoker.generator``. The trainer sends the name, and importing runs code: so
    it must be in ``allowed``, from this worker's command line. Raises ConfigError; also if it declares other arrays
    than ``job`` has."""
    if name in GENERATORS:
        return _FUNCTIONS[name]
    module, _, function = name.rpartition(":")
    if not (module and function):
        raise ConfigError("generator %r: is none of %s, nor module:function" % (name, ", ".join(GENERATORS)))
    found = _load("function", name, allowed)
    if job is not None and isinstance(found, Declared):
        _check_declared(found, job)
    if isinstance(found, SampleFunction):
        return partial(call_for_samples, found)
    if isinstance(found, BatchFunction):
        return partial(call_for_batches, found)
    if isinstance(found, GeneratorFunction):
        return cast(Generator, found.__wrapped__)       # type: ignore[attr-defined]
    check_generator(found, name)
    return cast(Generator, found)


def _check_declared(found: Declared, job: Job) -> None:
    declared, expected = ([(spec.name, [isinstance(side, UpTo) or side for side in spec.shape]) for spec in arrays]
                          for arrays in (found.arrays, job.arrays))      # another dtype is cast
    if declared != expected:
        raise ConfigError("function %r declares the arrays %s on this worker, and the trainer expects %s: give it the "
                          "same version of the function, or arrays={...} if it cannot import it"
                          % (job.generator, listed(found.arrays), listed(job.arrays)))
    rows, may_skip = getattr(found, "rows", 1), getattr(found, "may_skip", False)
    if rows > job.rows or may_skip > job.may_skip:
        raise ConfigError("the function %r %s on this worker, and the trainer expects %s: give it the same version of "
                          "the function" % (job.generator, *(
                              ("makes up to %d rows of a sample" % rows, "up to %d" % job.rows) if rows > job.rows else
                              ("may leave out samples (may_skip)", "that it does not"))))


def find_augmentation(name: str, allowed: Sequence[str]) -> Callable[..., Any]:
    """The user's function 'module:function' that varies pictures; it must be in ``allowed``. Raises ConfigError."""
    found = _load("augment", name, allowed)
    if not callable(found) or isinstance(found, (type, Declared)) or inspect.isgeneratorfunction(found):
        raise ConfigError("augment %r: must be a function of a picture and random numbers that returns a picture, def "
                          "vary(picture, random): ..., and is a %s" % (name, type(found).__name__))
    return cast("Callable[..., Any]", found)


def _load(what: str, name: str, allowed: Sequence[str]) -> Any:
    if name not in allowed:
        raise ConfigError("%s %r: this worker does not allow it (allowed: %s); start the worker with "
                          "--allow-generator %s" % (what, name, ", ".join(allowed) or "none", name))
    before = set(sys.modules)
    importlib.invalidate_caches()        # a package may have been installed since the last try
    try:
        found = load_function(name, " on this worker")
    except ConfigError as error:
        note_modules(set(sys.modules) - before)      # that were there before it failed
        raise ConfigError("%s%s %s" % (CANNOT_LOAD, what, error)) from error
    note_imported(name)
    return found


class Producer:
    """Produces the batches of one job. The generator gets one lease each time it asks, and must yield one output before
    it asks again. It is closed with the last reference to the Producer.

    makes_fresh: whether the arrays of its outputs are Stoker's own, which the user's code cannot fill again."""

    def __init__(self, generator: Generator, job: Job, cache: Optional[Cache] = None) -> None:
        self.job, self._name = job, job.generator   # as it came: the runner compares it with the next lease's
        self.makes_fresh = getattr(generator, "func", generator) in _MAKE_FRESH
        self._inbox: List[Optional[Lease]] = []     # the lease that the generator has not yet taken; None: the end
        self._outputs = generator(_taken_from(self._inbox, self._name), with_cache(job, cache))

    def produce(self, lease: Lease) -> Output:
        """The generator's output for ``lease``. Raises what the generator raises; FunctionError if it ends or yields
        where it must not. It cannot be used after that."""
        self._inbox.append(lease)
        try:
            for output in self._outputs:
                if self._inbox:                 # it goes on with the lease before
                    raise FunctionError("generator %r yielded more than one batch for a lease, and a generator over "
                                        "leases yields one for each; %s" % (self._name, OLD_GENERATOR))
                return output
        finally:
            copies.remove_all()
        raise FunctionError("generator %r ended without a batch for its lease" % self._name)

    def finish(self) -> None:
        """The job is over: the generator's leases end, and it runs to its own end."""
        self._inbox.append(None)
        with suppress(BaseException):           # all leases are answered: it fails none
            next(self._outputs, None)


def _taken_from(inbox: List[Optional[Lease]], name: str) -> Iterator[Lease]:
    while True:
        if not inbox:
            raise FunctionError("generator %r asked for another lease before it yielded the batch of the first" % name)
        lease = inbox.pop()
        if lease is None:
            return
        yield lease


def open_producer(job: Job, options: WorkerOptions, cache: Optional[Cache] = None) -> Producer:
    """A Producer with the generator of ``job``; pictures that it decodes are kept in ``cache``. Raises ConfigError as
    ``find`` does, if the data folder is not the right one (a generator over leases looks itself), and if the job reads
    or costs more than this worker's options permit. PIL's limits, and those of what a picture may cost, are from now on
    those of the job."""
    bounds.check(job, options)
    generator = find(job.generator, options.allow_generators, job)
    if job.augment:
        if generator is not image:
            raise ConfigError("augment %r goes only with the generator 'image', not with %r"
                              % (job.augment, job.generator))
        generator = partial(image, vary=find_augmentation(job.augment, options.allow_generators))
    if getattr(generator, "func", generator) in _READ_FILES:
        check_root(job.data_root, job.probes)
    apply_limits(job)
    return Producer(generator, job, cache)


def apply_limits(job: Job) -> None:
    """PIL's limits, the formats, and what a picture may cost, are from now on those of ``job``."""
    limits.apply(job)
    formats.apply(job.formats)
    picture_limits.apply(job)
