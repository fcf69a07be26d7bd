"""Which libraries decoded a run's pictures: kept in ``stoker.json``, and a warning when others go on with the run."""

import logging
from typing import AbstractSet, FrozenSet

from stoker.pipeline.text import printable
from stoker.trainer.record import files as records
from stoker.trainer.record.folder import RunFolder

log = logging.getLogger("stoker")


def others(before: AbstractSet[str], now: AbstractSet[str]) -> AbstractSet[str]:
    """Which of the decoders ``now`` are none of those ``before``; none if it is not known which those were."""
    # those of older releases are described without libwebp and libtiff
    return {each for each in now - before if not any(each.startswith(known + ", ") for known in before)
            } if before else set()


def warning(before: FrozenSet[str], now: FrozenSet[str]) -> str:
    """The sentence if a run, or a model, that knows the decoders ``before`` goes on with those of ``now``; '' if there
    is nothing to say."""
    new = others(before, now)
    if not new:
        return ""
    return ("pictures were decoded by %s so far, and now also by %s: the same picture may differ in its last bits; for "
            "a run that is repeatable to the byte, use the former Pillow" % (listed(before), listed(new)))


def listed(decoders: AbstractSet[str]) -> str:
    """Their names in a sentence."""
    return " and ".join(printable(each) for each in sorted(decoders))


class Decoders:
    """Of the run whose records are in ``folder``."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._before = self._known = records.recorded_decoders(folder)
        self._seen: FrozenSet[str] = frozenset()
        self._has_warned = False

    def note(self, decoders: FrozenSet[str]) -> None:
        """These are in use in this run. To be called often: nothing is done if they are the same as before."""
        if decoders == self._seen:
            return
        self._seen = decoders
        text = warning(self._before, decoders)
        if text and not self._has_warned:
            self._has_warned = True
            log.warning("%s", text)
        if not decoders <= self._known:
            self._known |= decoders
            records.record_decoders(self._folder, self._known)
