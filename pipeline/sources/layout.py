"""Folders that hold the parts of a dataset, photos/train and photos/val, where folders of classes were expected."""

import re
import shlex
from typing import Dict, List, Optional, Sequence, Set, Tuple

from stoker.pipeline.text import name_list, printable_path

TRAINING = frozenset(("train", "training", "trn"))
VALIDATION = frozenset(("val", "valid", "validation", "eval", "evaluation", "dev"))
TEST = frozenset(("test", "testing", "tst"))
#: Words beside these in names of parts: train2017, training_set, test-images.
_BESIDE = frozenset(("set", "data", "images", "imgs", "img", "split", "part", "seg", "photos", "pictures"))

MAX_NAMED = 20       # classes in a sentence


def part_of(name: str) -> str:
    """'training', 'validation' or 'test' if the folder's name says that it is such a part of a dataset; else ''."""
    words = set(re.findall("[a-z]+", re.sub("(?<=[a-z])set(?![a-z])", "", name.lower()))) - _BESIDE
    if len(words) != 1 or re.search(r"[^a-zA-Z0-9_\-. ()]", name):
        return ""
    for part, known in (("training", TRAINING), ("validation", VALIDATION), ("test", TEST)):
        if words <= known:
            return part
    return ""


class Layout:
    """The folders directly below the data folder, ``classes``, and those directly below each of them. ``paths``: of all
    images."""

    def __init__(self, folder: str, classes: Sequence[str], paths: Sequence[str]) -> None:
        self._folder = folder
        self._inner: Dict[str, Set[str]] = {name: set() for name in classes}
        for path in paths:
            parts = path.split("/", 2)
            if len(parts) == 3:
                self._inner[parts[0]].add(parts[1])
        self._parts = {name: part_of(name) for name in classes if part_of(name)}

    def refusal(self) -> Optional[str]:
        """The error if these, or one of them, are parts of a dataset and no classes; None if they are not."""
        training, others = self._split()
        if others:
            best = next((name for part in ("validation", "test") for name in others if self._parts[name] == part),
                        others[0])
            return ("the folders %s in %s hold the same sub-folders (%s), so they are parts of a dataset and no "
                    "classes: train with %s, in a program with open_stream(%r, validation=%r); or, if they are "
                    "classes, name all classes (classes=[...] or --classes %s)"
                    % (" and ".join([training] + others), printable_path(self._folder),
                       self._listed(self._inner[training] & self._inner[best]), self.command(training, best),
                       self._below(training), self._below(best), self._all()))
        for name in self._parts:
            shared = self._inner[name].intersection(self._inner) - set(self._parts)
            if shared:
                inner = self._below(name)
                return ("the folder %s in %s holds the same folders as %s itself (%s), so it is a part of the dataset "
                        "and no class: train with stoker-train %s --exclude %s --validation-data %s, in a program with "
                        "open_stream(%r, exclude=%r, validation=%r); or, if it is a class, name all classes "
                        "(classes=[...] or --classes %s)"
                        % (name, printable_path(self._folder), printable_path(self._folder), self._listed(shared),
                           shlex.quote(printable_path(self._folder)), name, shlex.quote(inner),
                           printable_path(self._folder), name, inner, self._all()))
        return None

    def _split(self) -> Tuple[str, List[str]]:
        """The part to train on, and the other parts that hold folders of the same names; [] if there are none."""
        training = self._named("training") or self._named("validation")
        if not training:
            return "", []
        return training, [name for name, part in self._parts.items()
                          if part != self._parts[training] and self._inner[training] & self._inner[name]]

    def command(self, training: str, validation: str) -> str:
        """The command that trains on one part and evaluates on another one."""
        return "stoker-train %s --validation-data %s" % tuple(
            shlex.quote(self._below(name)) for name in (training, validation))

    def mixture(self) -> Optional[str]:
        """A warning if there are parts of a dataset, and their images are taken together; None if there are not."""
        training, others = self._split()
        return None if not others else (
            "the folders %s in %s are parts of a dataset, and their images are taken together: give one of them as "
            "DATA, and another one as the validation data"
            % (" and ".join([training] + others), printable_path(self._folder)))

    def doubt(self) -> Optional[str]:
        """A warning if the classes are all called as parts are, and hold no folders; None if they are not."""
        if len(self._parts) > 1 and len(self._parts) == len(self._inner) and not any(self._inner.values()):
            return ("the classes of %s are called %s: are these parts of a dataset? Then give one of them as DATA, and "
                    "another one as the validation data" % (printable_path(self._folder), ", ".join(self._inner)))
        return None

    def hint(self) -> str:
        """What to do if there is a single folder that holds several, as after unpacking an archive; '' if not so."""
        inner = [self._below(name) for name, folders in self._inner.items() if len(folders) > 1]
        return "; if the classes are the folders in %s, give that" % inner[0] if len(self._inner) == 1 and inner else ""

    def _all(self) -> str:
        """All classes as the option --classes takes them, in the order that they have without it."""
        return shlex.quote(",".join(map(printable_path, self._inner))) if len(self._inner) <= MAX_NAMED else "A,B,C"

    def _listed(self, names: Set[str]) -> str:
        return name_list(sorted(names), 3)

    def _named(self, part: str) -> str:
        return next((name for name, its in self._parts.items() if its == part), "")

    def _below(self, name: str) -> str:
        return printable_path("%s/%s" % (self._folder.rstrip("/"), name))
