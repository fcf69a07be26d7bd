"""What is wrong or unusual in a dataset, decided from the facts of its files. Pure."""

import os
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from stoker.inspection.checking import duplicates, fields
from stoker.inspection.checking.collected import Collected
from stoker.inspection.checking.data import Data, Problem
from stoker.inspection.checking.kinds import KINDS, LEVELS, MAX_EXAMPLES, Example, Finding, finding
from stoker.pipeline.sources.folder import NO_IMAGES, is_usual
from stoker.pipeline.text import printable_path

TINY_SIDE = 16              # pixels of the shorter side
HUGE_PIXELS = 30000000
EXTREME_ASPECT = 5.0        # longer side / shorter side
IMBALANCE = 10.0            # largest class / smallest class
#: Suffixes of file names -> formats that such a file may have. Others say nothing.
_SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".jif": "JPEG", ".png": "PNG",
             ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM",
             ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM"}


class Settings(NamedTuple):
    """What of a run's options the findings depend on."""
    image_size: Tuple[int, int] = (64, 64)
    decode: str = "fastest"
    exif_rotate: bool = False


def find(data: Data, collected: Collected, settings: Settings) -> List[Finding]:
    """All findings, errors first, each kind at most a few times."""
    found: List[Finding] = [_of_problem(problem) for problem in data.problems]
    for part in (_bad, _left_out, _classes, _duplicates, _imbalance):
        found += part(data, collected)
    found += _unusual(data, collected, settings)
    order = list(KINDS)
    return sorted(found, key=lambda finding: (LEVELS.index(finding.level), order.index(finding.kind)))


def _of_problem(problem: Problem) -> Finding:
    advice = {"rows": "correct these rows, or leave them out: a run that reads such a file fails; files elsewhere: "
                      "--root DIR",
              "contradictions": "give each file one label"}.get(problem.kind, "see the sentence; the check itself took "
                                                                            "all pictures that it found")
    return finding(problem.kind, problem.count, problem.what, advice,
                   [Example(-1, text) for text in problem.examples])


def _files(data: Data, places: "np.ndarray", text: Optional[Callable[[int], str]] = None) -> List[Example]:
    return [Example(index, printable_path(data.paths[index]) + (": " + text(index) if text else ""))
            for index in places[:MAX_EXAMPLES].tolist()]


def _bad(data: Data, collected: Collected) -> Iterator[Finding]:
    numbers = collected.reason_of
    counts = np.bincount(numbers[numbers >= 0], minlength=len(collected.reasons))
    kinds: Dict[str, List[int]] = {}            # reasons that differ in numbers only are one
    for number, reason in enumerate(collected.reasons):
        kinds.setdefault(re.sub(r"\d+", "#", reason), []).append(number)
    for members in sorted(kinds.values(), key=lambda members: -sum(counts[number] for number in members)):
        places = np.flatnonzero(np.isin(numbers, members))
        reason = collected.reasons[members[0]]
        yield finding("bad", len(places), "files that a run would skip: %s" % (
            reason if len(members) == 1 else "such as: " + reason), _advice_for(reason),
            _files(data, places, None if len(members) == 1 else lambda index: collected.reasons[numbers[index]]))


def _advice_for(reason: str) -> str:
    for words, advice in (
            ("truncated", "copy these files again from their source; or train on what there is of them: "
                          "--truncated use"),
            ("kills the process", "remove them: each costs every run some seconds, and may be an attack"),
            ("no such file", "find out what removed or misspelt them"),
            ("permission denied", "let the user of the workers read them: chmod"),
            ("permits more", "if these are good pictures, raise that limit; else remove them"),
            ("--worker-python", "use a worker's Python with a newer Pillow, or convert them"),
            ("--formats", "add the format to --formats, or convert them"),
            ("git lfs", "run git lfs pull"),
            ("empty file", "copy these files again from their source, or remove them"),
            ("cannot be read", "look at the disk: the system reports errors when it reads them")):
        if words.lower() in reason.lower():
            return advice
    return "replace or remove them"


def _left_out(data: Data, collected: Collected) -> Iterator[Finding]:
    reasons: Dict[str, List[str]] = {}
    for start, part in zip(data.starts, data.left_out):
        for path, why in part:
            if not is_usual(why):
                reasons.setdefault(why, []).append(start + path)
    for why, paths in sorted(reasons.items(), key=lambda item: -len(item[1])):
        yield finding("left-out", len(paths), "files or folders that the scan left out: %s" % why,
                      "a run never sees them: move or rename them if they are meant, else remove them or name them by "
                      "--exclude", [Example(-1, printable_path(path)) for path in paths[:MAX_EXAMPLES]])


def counts_of(data: Data, chosen: "np.ndarray") -> "np.ndarray":
    """int64 [2, number of classes]: files of each class for training, and for validation. ``chosen``: bool [n], those
    that count."""
    found = np.zeros((2, len(data.classes)), np.int64)
    parts = slice(0, data.training), slice(data.training, None)
    for row, part in enumerate(parts):
        labels = data.labels[part][chosen[part] & (data.labels[part] >= 0)]
        found[row] = np.bincount(labels, minlength=len(data.classes))
    return found


def _classes(data: Data, collected: Collected) -> Iterator[Finding]:
    empty = sorted(start + path for start, part in zip(data.starts, data.left_out) for path, why in part
                   if why == NO_IMAGES and "/" not in path)
    if empty and data.classes:
        yield finding("classes", len(empty), "class folders without a picture", "fill or remove them",
                      [Example(-1, printable_path(path)) for path in empty[:MAX_EXAMPLES]])
    counts, planned = counts_of(data, collected.good), counts_of(data, np.ones(len(data.paths), bool))
    for row, name in ((0, ""), (1, " of the validation data")):
        bad = np.flatnonzero((planned[row] > 0) & (counts[row] == 0))
        if len(bad):
            yield finding("classes", len(bad), "classes%s without one good picture" % name,
                          "see the bad files above", _names(data, bad))
    if not planned.any(axis=1).all():           # only one part, or one that has no classes
        return
    only = np.flatnonzero((planned[0] == 0) & (planned[1] > 0))
    if len(only):
        yield finding("classes", len(only), "classes that only the validation data has",
                      "a run refuses such data: rename them as training has them, remove them, or name the classes of "
                      "training by --classes", _names(data, only))
    only = np.flatnonzero((planned[0] > 0) & (planned[1] == 0))
    if len(only):
        yield finding("classes", len(only), "classes that only the training data has",
                      "the evaluation says nothing about them: add pictures of them to the validation data",
                      _names(data, only))


def _names(data: Data, numbers: "np.ndarray") -> List[Example]:
    return [Example(-1, printable_path(data.classes[number])) for number in numbers[:MAX_EXAMPLES].tolist()]


def _imbalance(data: Data, collected: Collected) -> Iterator[Finding]:
    counts = counts_of(data, collected.good)[0]
    there = counts[counts > 0]
    if len(there) and there.max() >= IMBALANCE * there.min():
        small = np.flatnonzero((counts > 0) & (counts * IMBALANCE <= there.max()))
        small = small[np.argsort(counts[small], kind="mergesort")]
        largest = int(counts.argmax())
        yield finding("imbalance", len(small), "classes with at most a %dth of the pictures of the largest, %s (%s)" % (
            IMBALANCE, printable_path(data.classes[largest]), format(int(counts[largest]), ",")),
            "--order balanced draws every class equally often; or collect more pictures of them",
            [Example(-1, "%s: %s" % (printable_path(data.classes[number]), format(int(counts[number]), ",")))
             for number in small[:MAX_EXAMPLES].tolist()])


def _duplicates(data: Data, collected: Collected) -> Iterator[Finding]:
    good = np.flatnonzero(collected.good)
    groups = duplicates.equal(collected.table["pixels"], good)
    if not len(groups):
        return
    is_validation = np.arange(len(data.paths)) >= data.training
    # a file without a label contradicts none
    labelled = duplicates.equal(collected.table["pixels"], np.sort(groups.order[data.labels[groups.order] >= 0])).mixed(
        data.labels)
    if len(labelled):
        yield _of_groups("contradictions", labelled.members, "pictures that are equal and have different labels",
                         "decide which label is right and remove the others", labelled, data, collected, data.labels)
    leaks = groups.mixed(is_validation)
    if len(leaks):
        count = int(is_validation[leaks.order].sum())
        yield _of_groups("leaks", count, "pictures of the validation data that are in the training data too",
                         "remove them from one of the two: the evaluation shows what the model remembers", leaks, data,
                         collected, is_validation)
    members = np.sort(groups.order)
    within = duplicates.equal(np.column_stack([
        collected.table["pixels"][members], data.labels[members].astype(np.int64) * 2 + is_validation[members]]),
        np.arange(len(members)))
    within = duplicates.Groups(members[within.order], within.starts)
    if len(within):
        yield _of_groups("duplicates", within.surplus, "copies of other pictures%s" % (
            " in a class" * bool(data.classes)), "remove the copies, or keep them if they are meant to count "
            "more; a share for validation (--validation-split) may put one copy on each side", within, data, collected,
            data.labels)


def _of_groups(kind: str, count: int, what: str, advice: str, groups: duplicates.Groups, data: Data,
               collected: Collected, values: "np.ndarray") -> Finding:
    files = collected.table["file"]

    def text(index: int) -> str:
        notes = [printable_path(data.class_of(index))] * (kind == "contradictions") + [data.part_of(index)] * (
            kind == "leaks")
        return printable_path(data.paths[index]) + (" (%s)" % ", ".join(notes) if notes else "")
    examples = []
    for group, _ in zip(groups, range(MAX_EXAMPLES)):
        chosen = duplicates.shown(group, values)
        same_bytes = bool((files[group] == files[group[0]]).all())
        examples.append(Example(chosen[0], " = ".join(map(text, chosen)) + (
            " and %d more" % (len(group) - len(chosen)) if len(group) > len(chosen) else "") + (
                "" if same_bytes else "; equal pixels, the files differ"), tuple(chosen[1:])))
    return finding(kind, count, what, advice, examples)


def _unusual(data: Data, collected: Collected, settings: Settings) -> Iterator[Finding]:
    """Of single good pictures."""
    table, good = collected.table, collected.good
    shorter = np.minimum(table["width"], table["height"])
    longer = np.maximum(table["width"], table["height"])

    def some(kind: str, chosen: "np.ndarray", what: str, advice: str, text: Optional[Callable[[int], str]] = None
             ) -> Iterator[Finding]:
        places = np.flatnonzero(good & chosen)
        if len(places):
            yield finding(kind, len(places), what, advice, _files(data, places, text))

    def size(index: int) -> str:
        return "%d x %d" % (table["width"][index], table["height"][index])

    def flag(bit: int) -> "np.ndarray":
        return (table["flags"] & bit) > 0
    if not settings.exif_rotate:
        yield from some("orientation", table["orientation"] > 1,
                        "pictures that are stored turned, as the EXIF data says",
                        "--exif-rotate turns them upright; without it the model sees them as they are stored",
                        lambda index: _TURNS[table["orientation"][index]])
    yield from some("blank", flag(fields.BLANK), "pictures of one colour", "remove them, unless that is a class")
    yield from some("truncated", flag(fields.TRUNCATED), "pictures that end too early; a run uses what is there",
                    "copy them again from their source")
    yield from some("tiny", shorter < TINY_SIDE, "pictures with a side of less than %d pixels" % TINY_SIDE,
                    "remove them: enlarged to %d x %d they show nothing" % settings.image_size, size)
    yield from some("huge", shorter.astype(np.int64) * longer >= HUGE_PIXELS,
                    "pictures of %d million pixels or more" % (HUGE_PIXELS // 1000000),
                    "they take long to decode in each epoch: make smaller copies", size)
    yield from some("aspect", longer >= EXTREME_ASPECT * np.maximum(shorter, 1),
                    "pictures with one side %g times the other or more" % EXTREME_ASPECT,
                    "a run squeezes them to %d x %d: cut them, or remove them" % settings.image_size, size)
    yield from some("suffix", _misnamed(data, collected), "files of another format than the name says",
                    "a run reads them by their content; rename them for other programs",
                    lambda index: fields.FORMATS[table["format"][index]])
    yield from some("animated", flag(fields.ANIMATED), "files with several pictures",
                    "a run uses the first one: extract the others if they are meant")
    yield from some("deep", flag(fields.DEEP), "pictures with more than 8 bits per channel",
                    "--decode exact cuts grey ones, which are mostly white then, the other ways take the upper 8 bits: "
                    "convert them, or read them in a function of your own with mode='I;16'")
    yield from some("cmyk", table["mode"] == fields.MODES.index("CMYK"), "pictures in CMYK",
                    "they become RGB without their colour profile, so colours are off: convert them")
    yield from some("transparent", flag(fields.TRANSPARENT), "pictures with transparent pixels",
                    "a run drops transparency, and hidden colours appear: put them on a background")


_TURNS = {2: "mirrored", 3: "upside down", 4: "mirrored, upside down", 5: "mirrored, on its side", 6: "on its side",
          7: "mirrored, on its side", 8: "on its side"}


def _misnamed(data: Data, collected: Collected) -> "np.ndarray":
    found = np.zeros(len(data.paths), bool)
    formats = collected.table["format"]
    for index in np.flatnonzero(collected.good).tolist():
        expected: Any = _SUFFIXES.get(os.path.splitext(data.paths[index])[1].lower())
        found[index] = expected is not None and fields.FORMATS[formats[index]] != expected
    return found
