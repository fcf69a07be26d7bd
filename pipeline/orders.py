"""Orders other than the plan's own shuffle: which samples an epoch has, and in which order.

An order is a pure function of the source, the seed and the epoch, so that a run can be resumed at any step. The trainer
evaluates it once an epoch. Built-in orders draw from numpy's RandomState by methods that give the same numbers with all
versions of numpy, and sort with stable algorithms only.
"""

import functools
import hashlib
import inspect
import math
import threading
from collections import abc
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Union

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.options import check_whole
from stoker.pipeline.plan import Order, python_random, random_state, repeats_of
from stoker.pipeline.text import name_list, same_name
from stoker.pipeline.user_errors import a_type, sentence_of

SHUFFLED, SEQUENTIAL = "shuffled", "sequential"
MAX_STEPS = 1 << 30    # of an epoch
WAIT_S = 5.0           # of one thread for the other that is in the user's function
_CHUNK = 1 << 16       # rows that are unpacked at once

OrderFunction = Callable[[int, Any], Any]          # (epoch, random) -> indices


@dataclass(frozen=True)
class Balanced:
    """What ``balanced`` makes: an order that does not know its source yet."""
    key: Any = None
    steps: Optional[int] = None

    def bind(self, source: Source, batch_size: int, seed: int) -> Order:
        """The order for ``source``. Raises ConfigError."""
        return _BalancedOrder(_class_numbers(source, self.key), _length(self.steps, len(source), batch_size), seed)


@dataclass(frozen=True, eq=False)
class Weighted:
    """What ``weighted`` makes: an order that does not know its source yet."""
    weights: Union[str, "np.ndarray"]
    steps: Optional[int] = None

    def bind(self, source: Source, batch_size: int, seed: int) -> Order:
        """The order for ``source``. Raises ConfigError."""
        weights = self.weights
        if isinstance(weights, str):
            weights = _checked_weights(_fields(source, weights, "weighted"), "weighted: %r of row " % weights)
        if len(weights) != len(source):
            raise ConfigError("weighted: there are %d weights for %d samples: give one for each training sample, or "
                              "the name of a column of the rows" % (len(weights), len(source)))
        return _WeightedOrder(weights, _length(self.steps, len(source), batch_size), seed)


def balanced(key: Any = None, steps: Optional[int] = None) -> Balanced:
    """An order with every class equally often, however many samples each has:

        stoker.open_stream("photos", order=stoker.balanced())
        stoker.open_stream(stoker.csv("faces.csv"), "faces:face", order=stoker.balanced("person", steps=500))

    The classes take turns, in a new random order each turn, so that every batch is balanced as well as its size allows.
    Within an epoch, a sample comes again only after all others of its class. ``key``: what the classes are: None, those
    of the folder; the name of a column of the rows; or a function of a row that returns its class, any value that can
    be a dict's key. ``steps``: the batches of an epoch, all of them full; None: ceil(samples / batch_size). Raises
    ConfigError.
    """
    if key is not None and not isinstance(key, (str, int)) and not callable(key):
        raise ConfigError("balanced: key must be the name of a column or a function of a row, not %.200r" % (key,))
    return Balanced(key, _checked_steps(steps))


def weighted(weights: Any, steps: Optional[int] = None) -> Weighted:
    """An order that draws each sample with a probability that is proportional to its weight, with replacement:

        stoker.open_stream("photos", order=stoker.weighted([1.0] * 900 + [9.0] * 100))
        stoker.open_stream(stoker.csv("log.csv"), "driving:drive", order=stoker.weighted("importance", steps=500))

    ``weights``: a list or array of numbers of at least 0, one for each training sample; or the name of a column of the
    rows. ``steps``: the batches of an epoch, all of them full; None: ceil(samples / batch_size). Raises ConfigError.
    """
    if not isinstance(weights, str):
        weights = _checked_weights(weights, "weighted: weight ")
    return Weighted(weights, _checked_steps(steps))


def open_order(order: Any, source: Source, batch_size: int, seed: int) -> Optional[Order]:
    """The order that the user's ``order`` means for the training samples; None: the plan's own shuffle. It is
    "shuffled" (or None), "sequential", made by ``balanced`` or ``weighted``, or a function f(epoch, random) that
    returns the indices of an epoch, or f(epoch, random, source). The function is called here for epoch 0, twice, to
    compare. Raises ConfigError."""
    if order is None or isinstance(order, str) and order == SHUFFLED:
        return None
    if isinstance(order, str) and order == SEQUENTIAL:
        return _SequentialOrder(len(source))
    if isinstance(order, (Balanced, Weighted)):
        return order.bind(source, batch_size, seed)
    if order is balanced or order is weighted:
        raise ConfigError("order=stoker.%s is not called: write stoker.%s(...)" % (order.__name__, order.__name__))
    if callable(order):
        try:
            return _OwnOrder(for_source(order, source), len(source), seed)
        except RunFailed as error:
            raise ConfigError(str(error)) from error
    raise ConfigError("order must be 'shuffled', 'sequential', stoker.balanced(...), stoker.weighted(...) or a "
                      "function f(epoch, random) that returns indices, not %.200r" % (order,))


class _SequentialOrder:
    def __init__(self, size: int) -> None:
        self.length = size

    def indices(self, epoch: int) -> "np.ndarray":
        return np.arange(self.length)

    def describe(self) -> str:
        return SEQUENTIAL


class _BalancedOrder:
    def __init__(self, classes: "np.ndarray", length: int, seed: int) -> None:
        """``classes``: int64 [samples], class numbers from 0, each of which occurs."""
        self.length = length
        self._seed = seed
        self._members = np.argsort(classes, kind="mergesort")      # the samples, class by class
        self._sizes = np.bincount(classes)                         # samples of each class

    def indices(self, epoch: int) -> "np.ndarray":
        random = random_state("balanced", self._seed, epoch)
        sizes, count = self._sizes, len(self._sizes)
        turns = np.argsort(random.random_sample((-(-self.length // count), count)), axis=1, kind="mergesort")
        classes = turns.ravel()[:self.length]                      # of each place of the epoch
        rounds = -(-np.bincount(classes, minlength=count) // sizes)      # how often each class is gone through
        # all rounds of all classes in one sort: a round's number plus a random number below 1 shuffles each by itself
        class_of_round = np.repeat(np.arange(count), rounds)
        size_of_round = sizes[class_of_round]
        round_of_draw = np.repeat(np.arange(len(size_of_round)), size_of_round)
        within_round = np.arange(len(round_of_draw)) - np.repeat(_starts(size_of_round), size_of_round)
        members = self._members[_starts(sizes)[class_of_round][round_of_draw] + within_round]
        drawn = members[np.argsort(round_of_draw + random.random_sample(len(members)), kind="mergesort")]
        places = _starts(rounds * sizes)[classes] + repeats_of(classes)      # among the draws, which lie class by class
        indices: np.ndarray = drawn[places]
        return indices

    def describe(self) -> str:
        return "balanced " + _hash(self.indices(0))


class _WeightedOrder:
    def __init__(self, weights: "np.ndarray", length: int, seed: int) -> None:
        self.length = length
        self._seed = seed
        self._ends = np.cumsum(weights)
        self._last = int(np.flatnonzero(weights)[-1])

    def indices(self, epoch: int) -> "np.ndarray":
        points = random_state("weighted", self._seed, epoch).random_sample(self.length) * self._ends[-1]
        # the product is rounded up to the last end if that is one of the smallest floats
        drawn: np.ndarray = np.minimum(np.searchsorted(self._ends, points, side="right"), self._last)
        return drawn

    def describe(self) -> str:
        return "weighted " + _hash(self.indices(0))


class _OwnOrder:
    """The user's function. Its lock keeps two threads out of it; its last epoch is kept."""

    def __init__(self, function: OrderFunction, size: int, seed: int) -> None:
        self.length = 0            # not known yet
        self._function, self._size, self._seed = function, size, seed
        self._lock = threading.Lock()
        self._last = -1, np.empty(0, np.int64)     # under the lock, as are ...
        self._hashes: Dict[int, str] = {}          # ... those of all epochs so far
        self.length = len(self.indices(0))
        self._called(0)            # again, and compared: it may draw from numbers that are not seeded

    def indices(self, epoch: int) -> "np.ndarray":
        if not self._lock.acquire(timeout=WAIT_S):     # the consumer that waited in vain must get its error
            raise RunFailed("order function %r was called for another epoch and does not return: is there an endless "
                            "loop in it?" % name_for_people(self._function))
        try:
            if self._last[0] != epoch:
                self._last = epoch, self._called(epoch)
            return self._last[1]
        finally:
            self._lock.release()

    def _called(self, epoch: int) -> "np.ndarray":
        subject = "order function %r for epoch %d" % (name_for_people(self._function), epoch)
        indices = indices_from(self._function, epoch, python_random("order", self._seed, epoch), self._size, subject)
        if not len(indices):
            raise RunFailed("%s returned no index: an epoch needs at least one" % subject)
        if self.length not in (0, len(indices)):
            raise RunFailed("%s returned %d indices, and %d for epoch 0: all epochs must have the same length"
                            % (subject, len(indices), self.length))
        digest = _hash(indices)
        if self._hashes.setdefault(epoch, digest) != digest:
            raise RunFailed("%s returned other indices than when it was called before: they must depend on nothing but "
                            "its arguments, so draw from its second one" % subject)
        return indices

    def describe(self) -> str:
        return "function " + self._hashes[0]


# -------------------------------------------------------------------------------------------------- the users' values

def for_source(function: Callable[..., Any], source: Source) -> Callable[[int, Any], Any]:
    """``function``, an order or partners function. One that takes a third argument gets the source, whose part of the
    data the indices are of: ``len(source)``, ``source.rows(indices)``, ``source.classes``; ``source.labels`` of a
    folder."""
    try:
        parameters = inspect.signature(function)
        parameters.bind(0, 0, source)
    except (TypeError, ValueError):
        return function
    try:
        parameters.bind(0, 0)
        return function                    # its third argument has a default, of its own
    except TypeError:
        return functools.wraps(function)(lambda number, random: function(number, random, source))


def name_for_people(function: Callable[..., Any]) -> str:
    """For people; unlike ``functions.name_of``, it takes a lambda too: this function need not be found by workers."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return "%s:%s" % (getattr(function, "__module__", ""), name)


def indices_from(function: Callable[[int, Any], Any], number: int, random: Any, size: int, subject: str
                 ) -> "np.ndarray":
    """int64 [n]: what ``function(number, random)`` returns, all of it within 0 .. size - 1. Raises RunFailed."""
    try:
        result = function(number, random)
    except (Exception, SystemExit) as error:
        raise RunFailed("%s: %s" % (subject, sentence_of(error))) from error
    if isinstance(result, (str, bytes)) or not (isinstance(result, abc.Sequence) or hasattr(result, "__array__")):
        raise RunFailed("%s returned %s: it must return a list or an array of indices" % (subject, a_type(result)))
    values: Any = result.tolist() if hasattr(result, "tolist") else result
    try:
        array = np.asarray(result)
    except Exception:                      # lists of different lengths: as objects
        array = np.empty(len(values), object)
    if array.ndim != 1:
        raise RunFailed("%s returned an array of shape %s: it must return one row of indices"
                        % (subject, list(array.shape)))
    is_whole = array.dtype.kind in "iu"
    places = np.flatnonzero((array < 0) | (array >= size)).tolist() if is_whole else range(len(array))
    try:
        checked = [check_whole("place %d" % place, values[place], 0, size - 1) for place in places]
    except ConfigError as error:
        raise RunFailed("%s returned an index that is not there: %s" % (subject, error)) from error
    return np.array(array if is_whole else checked, np.int64)      # a copy: the function may change its own


def _fields(source: Source, key: Any, subject: str) -> List[Any]:
    """Of each row, its field ``key``, or what the function ``key`` makes of it. Raises ConfigError."""
    found: List[Any] = []
    key = same_name(key, getattr(source, "columns", ())) if isinstance(key, str) else key
    for start in range(0, len(source), _CHUNK):
        for number, row in enumerate(source.rows(range(start, min(start + _CHUNK, len(source)))), start):
            try:
                if not callable(key) and isinstance(row, (str, bytes)):
                    raise KeyError(key)            # else a number would be a place of a letter
                found.append(key(row) if callable(key) else row[key])
            except Exception as error:
                if callable(key):
                    raise ConfigError("%s: key %r for row %d: %s" % (
                        subject, name_for_people(key), number, sentence_of(error))) from error
                has = "has " + name_list(map(repr, row), 20) if isinstance(row, dict) else "is %.99r" % (row,)
                raise ConfigError("%s: row %d has no field %r: it %s" % (subject, number, key, has)) from error
    return found


def _class_numbers(source: Source, key: Any) -> "np.ndarray":
    """int64 [samples]: the class of each, numbered in the order of their first samples. Raises ConfigError."""
    if key is not None:
        values = _fields(source, key, "balanced")
    elif not source.classes:
        raise ConfigError("balanced: the data has no classes: give stoker.balanced(key), the name of a column of the "
                          "rows or a function of a row")
    else:
        values = [sample.label for start in range(0, len(source), _CHUNK)
                  for sample in source.samples(range(start, min(start + _CHUNK, len(source))))]
    numbers: Dict[Any, int] = {}
    classes = np.empty(len(values), np.int64)
    for place, value in enumerate(values):
        try:
            if value != value:
                raise TypeError("it is not equal to itself")
            classes[place] = numbers.setdefault(value, len(numbers))
        except (TypeError, ValueError) as error:
            raise ConfigError("balanced: the class of row %d is %.200r, which can be no class (%s)"
                              % (place, value, error)) from error
    return classes


def _checked_weights(weights: Any, subject: str) -> "np.ndarray":
    """float64 [n], without the user's array. Raises ConfigError."""
    if isinstance(weights, (dict, set, bytes)) or not hasattr(weights, "__len__"):
        raise ConfigError("weighted: the weights are %s: give a list or array of numbers, one for each training "
                          "sample, or the name of a column" % a_type(weights))
    try:
        checked = np.array(weights, np.float64)
    except (TypeError, ValueError, OverflowError):
        checked = np.array([_number(weight) for weight in weights], np.float64)
    if checked.ndim != 1:
        raise ConfigError("weighted: the weights are of shape %s: give one number for each sample"
                          % list(checked.shape))
    with np.errstate(all="ignore"):
        wrong, total = np.flatnonzero(~((checked >= 0.0) & (checked < math.inf))), float(checked.sum())
    if len(wrong):
        raise ConfigError("%s%d is %.200r, must be a number of at least 0" % (
            subject, wrong[0], list(weights)[wrong[0]]))
    if not 0.0 < total < math.inf:
        raise ConfigError("weighted: the sum of the weights is %g, must be a finite number above 0" % total)
    return checked


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _checked_steps(steps: Optional[int]) -> Optional[int]:
    return None if steps is None else check_whole("steps", steps, 1, MAX_STEPS)


def _length(steps: Optional[int], samples: int, batch_size: int) -> int:
    return (-(-samples // batch_size) if steps is None else steps) * batch_size


def _starts(sizes: "np.ndarray") -> "np.ndarray":
    """Where each of consecutive parts begins."""
    starts: np.ndarray = np.cumsum(sizes) - sizes
    return starts


def _hash(indices: "np.ndarray") -> str:
    return hashlib.blake2b(indices.astype("<i8").tobytes(), digest_size=8).hexdigest()
