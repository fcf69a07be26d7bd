"""The data for training and for validation that belong together."""

import logging
import numbers
import os
from typing import Any, Optional, Sequence, Set

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, ContentError
from stoker.pipeline.options import GENERATORS
from stoker.pipeline.sources.csv_file import TEXT
from stoker.pipeline.sources.data_files import RECORDS, suffix_of
from stoker.pipeline.sources.dataset import Dataset, LeftOut, Splits, renumbered
from stoker.pipeline.sources.file_names import Texts
from stoker.pipeline.sources.folder import NOT_NAMED
from stoker.pipeline.sources.opening import is_number, open_source
from stoker.pipeline.sources.reading import NOTHING_IN_COMMON, moved
from stoker.pipeline.sources.roots import Path, common
from stoker.pipeline.sources.table import Numbers
from stoker.pipeline.text import name_list, printable_path, quoted
from stoker.pipeline.user_errors import a_type

log = logging.getLogger("stoker")


def is_share(value: Any) -> bool:
    """Whether it is a float, or one of numpy: a share of the data, not a number of samples."""
    return isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)


def open_splits(source: Source, validation: Any, seed: int, root: Optional[Path] = None,
                classes: Optional[Sequence[str]] = None, labels: bool = True, label_word: Optional[str] = None,
                follow_links: bool = False, generator: str = "image", exclude: Texts = (), suffixes: Texts = (),
                former: int = 0) -> Splits:
    """``source`` for training, and for validation a share of it, or other data; None or 0: none.

    ``validation``: a float at least 0 and below 1, or any data that ``open_source`` takes. A share is taken of each
    class, or of all samples if there are none. Validation folders have the classes of training, in the same order.
    The files of both are then below one root. The other arguments are those of ``open_source``. Raises ConfigError,
    DatasetError.
    """
    if validation is None or is_share(validation) or (is_number(validation) and not validation):
        if not hasattr(source, "split"):
            if validation:
                raise ConfigError("%s has no method split(fraction, seed), so validation cannot be a share of it"
                                  % a_type(source))
            return Splits(source)
        parts: Splits = source.split(float(validation or 0.0), seed)
        return parts
    if isinstance(validation, (bool, np.bool_)):
        raise ConfigError("validation must be a share, such as 0.2, or data, not %r" % validation)
    suffix = suffix_of(validation) if isinstance(validation, (str, os.PathLike)) else None
    if source.has_paths and suffix == "":
        named, labels = (source.classes, True) if source.classes and label_word is None else (None, bool(label_word))
        other = open_source(validation, None, named, labels, label_word, follow_links, generator, True, exclude,
                            suffixes, former)
        if isinstance(other, Dataset) and named:
            _check_classes(other, classes is not None or former > 0)
    elif suffix in RECORDS:
        other = open_source(validation, root, source.classes or None, bool(source.classes), generator=generator)
        left_out: Sequence[LeftOut] = getattr(other, "left_out", [])
        opened_by = getattr(source, "opened_by", {})
        if left_out and classes is None and opened_by is not None and not opened_by.get("classes"):
            raise ContentError("the validation data has records of classes that training lacks (in %s), and training "
                               "has %s: leave them out, or name the classes of training (classes=[...] or --classes "
                               "A,B,C), which leaves others out" % (
                                   name_list([path for path, _ in left_out]), _names(source.classes)), True)
    else:
        other = open_source(validation, root, None, labels, None, follow_links, generator)
    if other.classes and set(other.classes) <= set(source.classes):
        other = renumbered(other, source.classes)
    try:
        _check_alike(source, other, generator)
    except ConfigError as error:
        if not is_number(validation):
            raise
        raise ConfigError("%s; validation=%d is a number of samples: a share of the data is a float below 1, such as "
                          "0.2" % (error, validation)) from None
    if isinstance(other, Numbers) and not other.root:
        other = other.below(source.root)
    if isinstance(source, Numbers) and not source.root:
        source = source.below(other.root)
    if source.has_paths and all(isinstance(each, Dataset) or hasattr(each, "below") for each in (source, other)):
        both = common([source.root, other.root])
        if both is None:
            raise ConfigError("the files for training lie below %s, those for validation below %s, and workers have "
                              "one root: copy them into one store" % (printable_path(source.root),
                                                                  printable_path(other.root)))
        if both == "/" and root is None and source.root != other.root:
            raise ConfigError(NOTHING_IN_COMMON % "training and validation")
        source, other = moved(source, both), moved(other, both)
        _warn_of_overlap(source, other)
        return Splits(source, other)
    if source.root == other.root:
        return Splits(source, other)
    raise ConfigError("the rows for training name files below %s, those for validation below %s, and workers have one "
                      "root: give root=, a folder from which the paths of both start"
                      % (printable_path(source.root), printable_path(other.root)))


def _check_classes(validation: Dataset, is_chosen: bool) -> None:
    """Raises DatasetError if the validation folder has a class that training lacks, unless ``is_chosen``: the user
    named the classes. Warns of those that it lacks itself."""
    new = sorted(path for path, why in validation.left_out if why == NOT_NAMED)
    if new and not is_chosen:
        raise ContentError("the validation folder %s has the classes %s, and training has %s: rename or "
                           "remove them, or name the classes of training (classes=[...] or --classes A,B,C), which "
                           "leaves others out" % (printable_path(validation.root), _names(new),
                                                  _names(validation.classes)), True)
    missing = sorted(set(range(len(validation.classes))).difference(validation.labels))
    if missing:
        log.warning("the validation folder %s has no image of the classes %s", printable_path(validation.root),
                    _names([validation.classes[number] for number in missing]))


def _warn_of_overlap(training: Any, validation: Any) -> None:
    both: Set[str] = set()
    if not training.root:
        return
    if isinstance(training, Dataset) and isinstance(validation, Dataset):
        both = set(training.paths).intersection(validation.paths)
    elif set(getattr(training, "files", ())).intersection(getattr(validation, "files", ())):       # record files
        hashes = [each.row_hashes() for each in (training, validation)]
        there, here = ({sample.path for sample in each.samples(np.flatnonzero(np.isin(ours, theirs)).tolist())}
                       for each, ours, theirs in ((training, *hashes), (validation, *reversed(hashes))))
        both = there.intersection(here)          # equal hashes may be of different records
    if both:
        log.warning("%s of the %s samples for validation are trained on too, such as %s: so the evaluation shows what "
                    "the model remembers; leave them out of training%s", format(len(both), ","),
                    format(len(validation), ","), printable_path(min(both)),
                    " (exclude= or --exclude PATTERN)" * isinstance(training, Dataset))


def _check_alike(source: Source, other: Source, generator: str) -> None:
    """Raises ConfigError if a sample of ``other`` is not what one of ``source`` is. ``generator``: what makes them; the
    built-in ones read no rows."""
    if source.classes != other.classes:
        raise _unlike("classes", source.classes, other.classes)
    ours, theirs = (each.columns if getattr(each, "packs", True) else () for each in (source, other))
    reads_rows = generator not in GENERATORS or not (source.has_paths and other.has_paths)
    if ours != theirs and reads_rows and not isinstance(other, Numbers):       # which have no rows
        raise _unlike("columns", ours, theirs)
    for name, our, their in zip(source.columns, getattr(source, "types", ()), getattr(other, "types", ())):
        if (our == TEXT) != (their == TEXT):
            log.warning("the column %s is %s in the data for training and %s in that for validation, by the cells that "
                        "are there: convert it in your function, as in str(...)", quoted(name), our, their)
    if source.has_paths != other.has_paths:
        raise ConfigError("the samples for %s are files, and those for %s are not: give data of the same kind"
                          % (("training", "validation") if source.has_paths else ("validation", "training")))


def _unlike(what: str, ours: Sequence[str], theirs: Sequence[str]) -> ConfigError:
    return ConfigError("the data for training has the %s %s, that for validation %s: both must have the same ones, in "
                       "the same order" % (what, _names(ours), _names(theirs)))


def _names(names: Sequence[str]) -> str:
    return "(%s)" % name_list(names) if names else "(none)"
