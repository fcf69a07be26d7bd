"""The audits of several ranks, taken together: is each step whole, and is it what one trainer had?

    python -m stoker.pipeline.monitoring.audits AUDIT-0 AUDIT-1 ... [--against AUDIT]

Exit code 0: together, the files of all ranks hold every step from their first to their last. With --against, the audit
of one trainer, it has the same steps, with the same samples and, by their checksums, the same bytes. Exit code 1: it is
not so, as a sentence says. Exit code 2: a file cannot be read, or is no audit.

Parts of arrays with sides ``UpTo`` are padded each to its own longest sample, so of such a run the samples alone are
compared.
"""

import argparse
import heapq
import sys
from itertools import groupby
from operator import attrgetter
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.audit import crc32_of_all, parsed, place_of
from stoker.pipeline.output import protect
from stoker.pipeline.text import printable_path

PILLOW = ", of the same samples (were both made with the same version of Pillow?)"


class Part(NamedTuple):
    """What one line says of its rank's part of a step."""
    step: int
    epoch: int
    rank: int
    ranks: int
    samples: Tuple[int, ...]                      # planned
    used: Tuple[int, ...]                         # in the arrays
    skipped: Tuple[int, ...]
    crc32: int
    arrays: Optional[Tuple[Tuple[int, int], ...]]     # CRC-32 and bytes of each; None: of one trainer, or padded


class Step(NamedTuple):
    """A step of all ranks together."""
    step: int
    epoch: int
    samples: Tuple[int, ...]
    used: Tuple[int, ...]
    skipped: Tuple[int, ...]                      # each once, ascending
    crc32: Optional[int]                          # as one trainer's audit has it; None: unknown


class Incomplete(Exception):
    """The audits are not those of one run, or a part is missing: the text says which."""


def read(path: str) -> Iterator[Part]:
    """The lines of an audit. Raises ConfigError if it cannot be read or is none."""
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                entry = parsed(line)
                try:
                    if entry is None:
                        raise ValueError
                    yield part_of_line(entry)
                except (KeyError, TypeError, ValueError):
                    raise ConfigError("line %d of %s is no line of an audit" % (number, printable_path(path))) from None
    except OSError as error:
        raise ConfigError("%s: %s" % (printable_path(path), error.strerror)) from error


def part_of_line(entry: Dict[str, Any]) -> Part:
    """What a line says. Raises KeyError, TypeError, ValueError if it is damaged."""
    rank, ranks = place_of(entry)
    samples, arrays = _numbers(entry["indices"]), entry.get("arrays")
    epoch, crc32 = _numbers([entry["epoch"], entry["crc32"]])
    return Part(entry["step"], epoch, rank, ranks, samples, _numbers(entry.get("used", samples)),
                _numbers(entry["skipped"]), crc32,
                None if arrays is None else tuple((crc, size) for crc, size in map(_numbers, arrays)))


def _numbers(values: Iterable[object]) -> Tuple[int, ...]:
    """``values``, which came from a file, as whole numbers. Raises ValueError, TypeError."""
    numbers = tuple(value for value in values if type(value) is int and 0 <= value < 1 << 63)
    if len(numbers) < len(tuple(values)):
        raise ValueError
    return numbers


def together(audits: Sequence[Iterable[Part]]) -> Iterator[Step]:
    """The steps of the audits of all ranks. At each step, rank 0 says how many ranks there were: a rank that was not
    at work then may have kept lines of a former try. Raises Incomplete if a part or a step is missing."""
    last: Optional[int] = None
    for number, parts in groupby(heapq.merge(*audits, key=attrgetter("step")), attrgetter("step")):
        if last is not None and number != last + 1:
            raise Incomplete("step %d follows step %d" % (number, last))
        last = number
        yield _joined(number, list(parts))


def _joined(number: int, parts: List[Part]) -> Step:
    counts = {part.ranks for part in parts if part.rank == 0}
    if len(counts) != 1:
        raise Incomplete("step %d: %s" % (number, "no file has rank 0" if not counts else
                                          "two files have rank 0, of %d and of %d ranks" % tuple(sorted(counts))[:2]))
    ranks = counts.pop()
    own: Dict[int, Part] = {}
    for part in parts:
        if part.ranks == ranks:
            if part.rank in own:
                raise Incomplete("step %d: two files have rank %d of %d" % (number, part.rank, ranks))
            own[part.rank] = part
    for rank in range(ranks):
        if rank not in own:
            raise Incomplete("step %d: no file has rank %d of %d" % (number, rank, ranks))
    ordered = [own[rank] for rank in range(ranks)]
    if len({part.epoch for part in ordered}) > 1:
        raise Incomplete("step %d: its parts are of different epochs" % number)
    return Step(number, ordered[0].epoch, sum((part.samples for part in ordered), ()),
                sum((part.used for part in ordered), ()),
                tuple(sorted({index for part in ordered for index in part.skipped})), _crc32(ordered))


def _crc32(parts: List[Part]) -> Optional[int]:
    """That of the arrays of all parts, put together."""
    if len(parts) == 1:
        return parts[0].crc32
    found = [part.arrays for part in parts if part.arrays is not None]
    if len(found) < len(parts) or len({len(arrays) for arrays in found}) > 1:
        return None
    return crc32_of_all(piece for pieces in zip(*found) for piece in pieces)      # each array in the order of the ranks


def difference(steps: Iterable[Step], others: Iterable[Step]) -> str:
    """In a sentence, the first difference between the steps of two runs; '' if there is none."""
    mine, theirs = iter(steps), iter(others)
    while True:
        step, other = next(mine, None), next(theirs, None)
        if step is None or other is None:
            if step is other:
                return ""
            return "one of them ends before step %d" % (step or other).step   # type: ignore[union-attr]
        if step.step != other.step:
            return "step %d of the one is step %d of the other" % (step.step, other.step)
        for field in ("epoch", "samples", "used", "skipped", "crc32"):
            pair = getattr(step, field), getattr(other, field)
            if pair[0] != pair[1] and None not in pair:
                what = {"crc32": "the bytes", "used": "the used samples"}.get(field, "the " + field)
                return "step %d: %s differ%s%s" % (step.step, what, "s" * (field == "epoch"), PILLOW * (
                    field == "crc32"))


def main(arguments: List[str]) -> int:
    """Runs the command line; returns the exit code."""
    protect()
    parser = argparse.ArgumentParser("python -m stoker.pipeline.monitoring.audits", description=(
        "Checks that the audits of several ranks hold every step of a run, and that they are those of one trainer."))
    parser.add_argument("audits", nargs="+", metavar="AUDIT", help="the audit of a rank")
    parser.add_argument("--against", metavar="AUDIT", help="the audit of one trainer, to compare with")
    options = parser.parse_args(arguments)
    try:
        counts = [0, 0, 0]
        steps = _counted(together([read(path) for path in options.audits]), counts)
        found = "" if options.against is None else difference(steps, together([read(options.against)]))
        for _ in steps:
            pass
    except Incomplete as error:
        print("not whole: %s" % error)
        return 1
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if found:
        print("other than %s: %s" % (printable_path(options.against), found))
        return 1
    print("{:,} steps, {:,} samples{}".format(counts[0], counts[1], "" if options.against is None else (
        ": the same as in %s" % printable_path(options.against) + (
            "; the bytes of %d steps cannot be compared" % counts[2] if counts[2] else ", to the byte"))))
    return 0


def _counted(steps: Iterable[Step], counts: List[int]) -> Iterator[Step]:
    for step in steps:
        counts[0] += 1
        counts[1] += len(step.samples)
        counts[2] += step.crc32 is None
        yield step


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
