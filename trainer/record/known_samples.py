"""The samples that a checkpoint knows, for a run whose data has changed since. Imports no TensorFlow."""

import os
from typing import IO, Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.file_names import EVERY_NAME, former_rules
from stoker.pipeline.sources.sample_list import (Changes, ListError, SampleList, changes, kept, listed_hashes,
                                                 unpacked_list)
from stoker.pipeline.storage.checked_json import MAX_RECORD_BYTES, loads
from stoker.pipeline.storage.safe_files import read_whole
from stoker.pipeline.text import name_list, own_letters, printable_path

REFUSE, KEEP = DATASET_CHANGED = ("refuse", "keep")      # what --dataset-changed may be
RECORD, SAMPLES = "stoker.json", "stoker-samples.gz"     # in the checkpoint's folder: see files.py
DATA = {"dataset": "data", "validation": "validation data"}      # keys of stoker.json -> what they are hashes of


class KnownSamples(NamedTuple):
    """``hashes``: of the checkpoint's data, by the keys of DATA. ``lists``: its samples; ``problem``: why there is no
    list."""
    hashes: Dict[str, Any]
    lists: Dict[str, Optional[SampleList]]
    problem: str = ""
    otherwise: str = "choose another --checkpoint-dir"      # what to do in place of putting changed data back

    def keep(self, key: str, source: Source) -> Tuple[Source, List[str]]:
        """The samples that the checkpoint knows instead of ``source``, if that has changed; and a line for people about
        it. Raises ConfigError if there is no list; DatasetError if no sample is left."""
        saved = self.hashes.get(key)
        if saved is None or source.fingerprint() == saved:
            return source, []
        try:
            made, found = kept(self._list(key), saved, source)
        except ListError as error:
            raise ConfigError("the %s has changed, and the checkpoint has no list of its samples to keep to (%s): put "
                              "the former data back, or %s" % (DATA[key], error, self.otherwise)) from error
        assert found is not None
        return made, ["the %s has changed (%s): going on with the %s samples that the checkpoint knows%s%s" % (
            DATA[key], found.sentence, format(found.then, ","),
            "; what is gone counts as bad" * bool(found.gone), "; what is new is not used" * bool(found.new))]

    def changes(self, key: str, source: Source) -> Changes:
        """How ``source`` differs from what the checkpoint knows. Raises ListError."""
        known = self._list(key)
        made = known.source(source.root, getattr(source, "name", "rows"))
        if type(made) is not type(source):
            raise ListError("it is of %s" % known.kind)
        if made.fingerprint() != self.hashes.get(key):
            raise ListError("it is of other data")
        return changes(made, source)

    def _list(self, key: str) -> SampleList:
        found = self.lists.get(key)
        if found is None:
            raise ListError(self.problem or "it has none")
        return found


def known_samples(saved: Dict[str, Any], packed: Optional[bytes], problem: str = "") -> KnownSamples:
    """Of a checkpoint whose stoker.json is ``saved``. ``packed``: the file of its list; None: ``problem`` says why
    there is none."""
    hashes = {key: saved.get(key) for key in DATA}
    if packed is None:
        return KnownSamples(hashes, {}, problem)
    try:
        return KnownSamples(hashes, dict(zip(DATA, unpacked_list(packed))))
    except ListError as error:
        return KnownSamples(hashes, {}, str(error))


def are_listed(saved: Dict[str, Any], file: IO[bytes]) -> bool:
    """Whether the list in ``file`` is of all samples of a run whose stoker.json is ``saved``. Reads its beginning."""
    try:
        hashes = dict(zip(DATA, listed_hashes(file)))
    except ListError:
        return False
    return all(saved.get(key) in (None, hashes.get(key)) for key in DATA)


def has_changed(directory: str, may_keep: bool = False, named: Optional[Sequence[str]] = None) -> str:
    """How the sentence of a ContentError goes on, if the folder ``directory`` has a checkpoint's record: that the data
    was another one then. ``may_keep``: the run can go on with the samples that are left. ``named``: the classes by the
    command line; if they were others then, the error may come of them, and nothing is said."""
    record = _record(directory)
    if record is None:
        return ""
    classes = record.get("classes")
    if named is not None and isinstance(classes, dict) and set(map(own_letters, named)) != set(classes):
        return ""
    of = " with the classes " + name_list(sorted(classes)) if classes and isinstance(classes, dict) else ""
    keep = ", or go on with the samples that it knows (--dataset-changed keep)" * (
        may_keep and os.path.isfile(os.path.join(directory, SAMPLES)))
    return "; the data has changed since the checkpoint in %s was made%s: put the former data back%s" % (
        printable_path(directory), of, keep)


def _record(directory: str) -> Optional[Dict[str, Any]]:
    try:
        record = loads(read_whole(os.path.join(directory, RECORD), MAX_RECORD_BYTES))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


# ---------------------------------------------------------------------------------------------------- former releases

def lacking(directory: str, names: Iterable[str]) -> List[str]:
    """Which of ``names`` the record in ``directory`` does not have; none if there is no record."""
    record = _record(directory)
    return [] if not record else [name for name in names if name not in record]


def recorded_hashes(directory: str) -> Dict[str, Any]:
    """The hashes of the data, by the keys of DATA, as the record in ``directory`` has them; {} if there is none."""
    record = _record(directory)
    return {key: record.get(key) for key in DATA} if record else {}


def by_former_rules(key: str, saved: Any, source: Source, opened: Callable[[int], Source]) -> Tuple[Source, List[str]]:
    """``source``; or, if the checkpoint's hash ``saved`` is of that, ``opened(rules)``, the same folder by one of
    FORMER_RULES, and a line for people about it. ``key``: one of DATA."""
    if saved is None or not isinstance(source, Dataset) or source.fingerprint() == saved:
        return source, []
    rules = former_rules(source.paths, source.left_out)
    for each in rules:
        try:
            former = opened(each)
        except (ConfigError, DatasetError):
            continue
        if isinstance(former, Dataset) and former.fingerprint() == saved:
            break
    else:
        return source, []
    found = changes(former, source)
    facts = []
    if found.gone:
        facts.append("%s in folders %s count, such as %s" % (
            _files(len(found.gone)), "with several names" if each == EVERY_NAME else
            "of the system, or with several names," if EVERY_NAME in rules else "of the system", found.first_gone))
    if found.new:
        facts.append("%s .jpe, .jfif or .jif, such as %s, %s" % (
            _files(found.new), found.first_new, "does not" if found.new == 1 else "do not"))
    return former, ["the checkpoint is of an older release, and the run goes on with its %s samples of the %s: %s; in "
                    "a new --checkpoint-dir, it is the other way round" % (
                        format(len(former), ","), DATA[key], "; ".join(facts))]


def _files(count: int) -> str:
    return "1 file" if count == 1 else "%s files" % format(count, ",")
