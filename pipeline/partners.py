"""Partners: other samples that travel with a sample, for pairs, triplets, mixup and unpaired sets.

The partners of a sample are a pure function of (seed, epoch, index, repeat): any worker can repeat a lost step.
"""

import bisect
import hashlib
import struct
from typing import Any, Callable, Optional, Tuple

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.options import MAX_PARTNERS, check_whole
from stoker.pipeline.orders import for_source, indices_from, name_for_people
from stoker.pipeline.plan import hashed_bytes, python_random

PartnersFunction = Callable[[int, Any], Any]       # (index, random) -> indices


class Partners:
    """Other samples that a sample's function may use: ``count`` of them, each equally likely, never the sample itself
    unless it is the only one, all different if there are so many."""

    def __init__(self, count: int, size: int) -> None:
        """``size``: the samples of this part of the data."""
        self.most = count          # partners of a sample
        self._size = size
        self._differ = count < size

    def draw(self, seed: int, epoch: int, index: int, repeat: int = 0) -> Tuple[int, ...]:
        """The partners of the sample ``index``. In an evaluation, ``epoch`` is 0. Raises RunFailed."""
        if self._size == 1:
            return (index,) * self.most
        key = ("partners", seed, epoch, index, repeat)
        if self.most <= 8:
            random = hashed_bytes(key, 8 * self.most)
        else:                      # one hash has at most 64 bytes
            random = b"".join(hashed_bytes(key + (part,), 64) for part in range(-(-self.most // 8)))
        excluded, drawn = [index], []
        for number in struct.unpack_from("<%dQ" % self.most, random):
            place = number % (self._size - len(excluded))
            for other in excluded:         # ascending
                place += place >= other
            drawn.append(place)
            if self._differ:
                bisect.insort(excluded, place)
        return tuple(drawn)

    def describe(self, seed: int) -> str:
        """A short text for the checkpoint, which differs for other partners. Raises ConfigError if a function fails."""
        return "%d" % self.most


class _OwnPartners(Partners):
    def __init__(self, function: PartnersFunction, size: int) -> None:
        super().__init__(MAX_PARTNERS, size)
        self._function = function

    def draw(self, seed: int, epoch: int, index: int, repeat: int = 0) -> Tuple[int, ...]:
        subject = "partners function %r for index %d" % (name_for_people(self._function), index)
        random = python_random("partners", seed, epoch, index, repeat)
        drawn = indices_from(self._function, index, random, self._size, subject)
        if len(drawn) > MAX_PARTNERS:
            raise RunFailed("%s returned %d indices: a sample has at most %d partners"
                            % (subject, len(drawn), MAX_PARTNERS))
        return tuple(drawn.tolist())

    def describe(self, seed: int) -> str:
        some = range(min(self._size, 64))
        try:
            drawn, again = ([self.draw(seed, 0, index) for index in some] for _ in range(2))
        except RunFailed as error:
            raise ConfigError(str(error)) from error
        if drawn != again:
            raise ConfigError("partners function %r returned other indices than when it was called before: they must "
                              "depend on nothing but its arguments, so draw from its second one"
                              % name_for_people(self._function))
        return "function " + hashlib.blake2b(repr(drawn).encode("ascii"), digest_size=8).hexdigest()


def open_partners(partners: Any, source: Source) -> Optional[Partners]:
    """The partners of each sample of ``source``; None: they have none. ``partners``: their number, or a function
    f(index, random) that returns their indices, or f(index, random, source). Raises ConfigError."""
    if partners is None:
        return None
    if callable(partners):
        return _OwnPartners(for_source(partners, source), len(source))
    count = check_whole("partners (a number, or a function f(index, random) that returns indices)", partners, 0,
                        MAX_PARTNERS)
    return Partners(count, len(source)) if count else None
