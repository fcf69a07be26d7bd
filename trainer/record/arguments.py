"""The arguments of a run as JSON, and back: so that ``stoker.replay`` can prepare the run again. Imports no TensorFlow.

Data are recorded by their path, or else (rows in memory, a table, a list of files) they are those of the list that is
kept beside the record. Functions are recorded by their names, with the folders in which they were found.
"""

import logging
import os
import zlib
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.functions import load_function, name_of
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.orders import Balanced, Weighted, balanced, name_for_people, weighted
from stoker.pipeline.sources.data_files import RECORDS, ROW_FILES, is_pattern, opened_alike, reopened, suffix_of
from stoker.pipeline.sources.opening import whole_number
from stoker.pipeline.sources.reading import csv
from stoker.pipeline.sources.roots import is_url
from stoker.pipeline.sources.splits import is_share
from stoker.pipeline.text import native, own_letters, printable, printable_path
from stoker.trainer.local_workers import program_of
from stoker.trainer.record.known_samples import DATA
from stoker.trainer.run import Run

log = logging.getLogger("stoker")

#: Fields of JobOptions that are arguments of ``prepare``.
OF_JOB = ("image_size", "batch_size", "seed", "decode", "on_bad_image", "exif_rotate", "follow_links", "max_pixels",
          "max_file_mb", "max_text_mb", "truncated", "formats", "augment")
#: Fields of StreamOptions that a replay needs.
OF_STREAM = ("picture_cpu_s", "picture_memory_mb", "prefetch_mb", "batch_timeout_s")
MAX_FOLDERS = 1000            # of a program, in a record
NAMELESS = "nameless"         # instead of a function's name: it has none by which it can be found
WEIGHTED = "weighted"


class NotRecorded(Exception):
    """A value of the run cannot be made again. The text says which, and why, in a clause."""


# ------------------------------------------------------------------------------------------------------------- to JSON

def described(run: Run, options: StreamOptions) -> Dict[str, Any]:
    """What ``stoker-run.json`` has of the arguments of ``run``. Raises ConfigError."""
    job, given = run.job, run.given
    plain = {name: getattr(job, name) for name in OF_JOB}
    classes = given["classes"]
    validation = given["validation"]
    if is_share(validation):
        validation = float(validation)
    elif validation is not None:
        validation = _data(validation, run.datasets.validation)
    arguments = dict(plain, data=_data(given["data"], run.source), validation=validation, epochs=run.plan.epochs,
                     drop_last=bool(given["drop_last"]), training=run.plan.training, labels=bool(given["labels"]),
                     declares=bool(job.declared),
                     root=None if given["root"] is None else _absolute(given["root"]),
                     classes=None if classes is None else list(map(own_letters, classes)),
                     label_word=given["label_word"] and own_letters(given["label_word"]),
                     exclude=_texts(given["exclude"]), suffixes=_texts(given["suffixes"]),
                     order=_order(given["order"]), partners=_partners(given["partners"]))
    functions = [name for name in _functions(arguments) + [job.generator] if ":" in name]
    stream = dict({name: getattr(options, name) for name in OF_STREAM},
                  audit=options.audit and _absolute(options.audit),
                  killers=options.killers and _absolute(options.killers))
    return {"arguments": arguments, "stream": stream, "below": own_letters(run.datasets.training.root),
            "ranks": run.plan.ranks, "program": program_of(functions) if functions else None}


def _absolute(path: Any) -> str:
    """The path, which works in any current folder; a URL, which has no secrets, or a pattern of URLs as it is."""
    text = os.fspath(path)
    return own_letters(text if is_url(text) else os.path.abspath(native(text)))


def _texts(value: Any) -> List[str]:
    return [own_letters(text) for text in ([value] if isinstance(value, str) else value)]


def _data(data: Any, source: Source) -> Dict[str, Any]:
    """What ``data`` was, whose samples ``source`` has."""
    if isinstance(data, (str, os.PathLike)):
        return {"path": _absolute(data)}
    number = whole_number(data)
    if number is not None:
        return {"number": number}
    options = getattr(data, "csv_options", None)
    if options is not None:
        return {"path": _absolute(data.path), "csv": options, "root": own_letters(data.root)}
    opened_by = getattr(data, "opened_by", None)
    if opened_by is not None:
        return {"records": _with_absolute_paths(opened_by)}
    return {"listed": own_letters(source.root)}


def _with_absolute_paths(opened_by: Mapping[str, Any]) -> Dict[str, Any]:
    """What opens the same record files in any current folder. A pattern may start from the root."""
    root, pattern = opened_by["root"], opened_by["pattern"]
    if root is None:
        pattern = _absolute(pattern) if isinstance(pattern, str) else list(map(_absolute, pattern))
    else:
        root = _absolute(root)
    return dict(opened_by, root=root, pattern=pattern)


def _order(order: Any) -> Any:
    if isinstance(order, Balanced):
        key = order.key
        return {"balanced": _function(key) if callable(key) else key, "steps": order.steps}
    if isinstance(order, Weighted):
        weights = order.weights
        return {"steps": order.steps, WEIGHTED: weights if isinstance(weights, str) else {
            "count": len(weights), "crc32": _checksum(weights)}}
    return _function(order) if callable(order) else order


def _partners(partners: Any) -> Any:
    return _function(partners) if callable(partners) else int(partners or 0)


def _function(function: Any) -> Dict[str, str]:
    """The name of a function that the trainer calls."""
    try:
        return {"function": own_letters(name_of(function))}
    except ConfigError:
        return {NAMELESS: printable(name_for_people(function))[:200]}


def _functions(arguments: Mapping[str, Any]) -> List[str]:
    """The names of all functions in ``arguments``."""
    order = arguments["order"]
    values = [arguments["partners"], order, order.get("balanced") if isinstance(order, dict) else None]
    names = [value.get("function") for value in values if isinstance(value, dict)] + [arguments["augment"]]
    return [name for name in names if name]


def needs_list(more: Mapping[str, Any]) -> bool:
    """Whether the data that ``described`` describes are those of the list of samples alone."""
    arguments = more["arguments"]
    return any(isinstance(value, dict) and "listed" in value for value in (arguments["data"], arguments["validation"]))


def weights_of(run: Run) -> "Optional[np.ndarray]":
    """float64 [n], the weights of the run's order if they are numbers of the user's; None otherwise."""
    order = run.given["order"]
    return order.weights if isinstance(order, Weighted) and not isinstance(order.weights, str) else None


def _checksum(weights: "np.ndarray") -> int:
    return zlib.crc32(np.ascontiguousarray(weights, "<f8").tobytes()) & 0xffffffff


# ----------------------------------------------------------------------------------------------------------- from JSON

class Places(NamedTuple):
    """Where the parts of a recorded run are now. ``root``: instead of the folder in which the data was, ``below``."""
    below: str
    root: Optional[str] = None
    listed: Optional[Callable[[str, str, str], Source]] = None      # (key of known_samples.DATA, root, name) -> samples

    def of(self, path: str) -> str:
        """Where ``path`` is now."""
        before = os.path.join(self.below, "")
        if self.root is None or not self.below or not os.path.join(path, "").startswith(before):
            return path
        rest = path[len(before):]
        if is_url(self.root):
            return "/".join(filter(None, [self.root, rest]))
        return os.path.normpath(os.path.join(self.root, rest))


class Arguments:
    """Those of a stoker-run.json, checked. Raises ValueError, which says in a clause what is wrong."""

    def __init__(self, saved: Mapping[str, Any]) -> None:
        arguments = _require(saved, "arguments", dict)
        self._arguments = arguments
        self.below: str = native(_require(saved, "below", str))
        self.stream: Dict[str, Any] = _require(saved, "stream", dict)
        for name in ("audit", "killers"):
            _require(self.stream, name, (str, type(None)))
        self.ranks: int = _require(saved, "ranks", int)
        program = saved.get("program") or {}
        if not isinstance(program, dict):
            raise ValueError("its program is no object")
        self.folders = _folders(program)
        self.plain: Dict[str, Any] = {}
        for name, types in _PLAIN.items():
            value = _require(arguments, name, types)
            if isinstance(value, list) and not all(type(each) is (int if name == "image_size" else str)
                                                   for each in value):
                raise ValueError("its %s is a list of other things" % name)
            self.plain[name] = tuple(value) if isinstance(value, list) else value
        self.plain["formats"] = self.plain["formats"] or None
        #: The generator declared its arrays, or they were given.
        self.declares: bool = _require(arguments, "declares", bool)

    @property
    def has_data_for_validation(self) -> bool:
        """Whether the evaluations are of data of their own."""
        return isinstance(self._arguments.get("validation"), dict)

    def data(self, key: str, places: Places) -> Any:
        """The training data (``key`` "data") or what ``validation`` was ("validation"), for ``prepare``. Raises
        NotRecorded, StokerError."""
        value = self._arguments.get(key)
        if key == "validation" and (value is None or type(value) is float):
            return value
        if not isinstance(value, dict):
            raise ValueError("its %s is damaged" % key)
        if type(value.get("number")) is int:
            return value["number"]
        list_key = "dataset" if key == "data" else "validation"
        if isinstance(value.get("records"), dict):
            try:
                return reopened(value["records"], places.of)
            except DatasetError as error:
                raise DatasetError("%s; if the run's data are elsewhere now, say where (root=, --root; data=, --data)"
                                   % error) from error
            except (LookupError, TypeError, AttributeError) as error:
                raise ValueError("its options of the record files are damaged") from error
        if isinstance(value.get("path"), str):
            return self._at(native(value["path"]), value, list_key, places)
        if isinstance(value.get("listed"), str):
            assert places.listed is not None
            return places.listed(list_key, places.of(native(value["listed"])), "rows")
        raise ValueError("its %s is damaged" % key)

    def given(self, key: str, data: Any) -> Any:
        """``data``, which is given instead of what is recorded; record files are read with the recorded options."""
        value = self._arguments.get(key)
        return opened_alike(value["records"], data) if isinstance(value, dict) and "records" in value else data

    def _at(self, path: str, value: Mapping[str, Any], list_key: str, places: Places) -> Any:
        """The data at ``path``, or where it is now; rows that are there no more are those of the list."""
        now = places.of(path)
        suffix = suffix_of(now)
        if is_url(now) or suffix in RECORDS and is_pattern(now):
            there = True                                # or else opening it says so
        else:
            there = os.path.exists(now)
        if not there:
            if os.path.splitext(path)[1].lower() not in ROW_FILES:
                remedy = ("its folder is now (root=, --root), or the data themselves (data=, --data)"
                          if list_key == "dataset" else "it is now (validation=, --validation-data), or leave it out "
                                                        "(None, none)")
                raise NotRecorded("its %s is not at %s any more: say where %s" % (
                    DATA[list_key], printable_path(now), remedy))
            assert places.listed is not None
            given = native(value["root"]) if isinstance(value.get("root"), str) else os.path.dirname(path)
            root = self.root(places) or places.of(given)
            return places.listed(list_key, root, printable_path(now))
        options = value.get("csv")
        if options is None:
            return now
        if not isinstance(options, dict) or set(options) - set(CSV_OPTIONS) or not all(
                value is None or isinstance(value, str) or isinstance(value, list) and all(
                    isinstance(each, str) for each in value) for value in options.values()):
            raise ValueError("its options of the CSV file are damaged")
        return csv(now, places.of(native(_require(value, "root", str))), **options)

    def root(self, places: Places) -> Optional[str]:
        """The argument ``root`` of ``prepare``."""
        value = _require(self._arguments, "root", (str, type(None)))
        return None if value is None else places.of(native(value))

    def order(self, weights: Callable[[], "Optional[np.ndarray]"], find: Callable[[str], str]) -> Any:
        """The order. ``weights`` reads those of the record; ``find`` gives the name that a function has here. Raises
        NotRecorded, ConfigError."""
        value = self._arguments.get("order")
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, dict):
            raise ValueError("its order is damaged")
        steps = value.get("steps")
        if "balanced" in value:
            key = value["balanced"]
            return balanced(_named("the key of its order", key, find) if isinstance(key, dict) else key, steps)
        if WEIGHTED not in value:
            return _named("its order", value, find)
        if isinstance(value[WEIGHTED], str):
            return weighted(value[WEIGHTED], steps)
        if not isinstance(value[WEIGHTED], dict):
            raise ValueError("its order is damaged")
        found = weights()
        if found is None or len(found) != value[WEIGHTED].get("count") or _checksum(found) != value[WEIGHTED].get(
                "crc32"):
            raise NotRecorded("the weights of its order are gone or damaged")
        return weighted(found, steps)

    def partners(self, find: Callable[[str], str]) -> Any:
        """The partners. ``find``: see ``order``. Raises NotRecorded, ConfigError."""
        value = self._arguments.get("partners")
        return _named("its partners", value, find) if isinstance(value, dict) else value


CSV_OPTIONS = ("delimiter", "columns", "encoding", "na_values", "decimal")
#: Arguments that JSON has as they are, and their types.
_PLAIN: Dict[str, Any] = {
    "image_size": list, "batch_size": int, "seed": int, "decode": str, "on_bad_image": str, "exif_rotate": bool,
    "follow_links": bool, "max_pixels": int, "max_file_mb": int, "max_text_mb": int, "truncated": str, "formats": list,
    "augment": (str, type(None)), "epochs": int, "drop_last": bool, "training": bool, "labels": bool,
    "classes": (list, type(None)), "label_word": (str, type(None)), "exclude": list, "suffixes": list}


def _require(values: Mapping[str, Any], name: str, types: Any) -> Any:
    if name not in values:
        raise ValueError("it has no %s" % name)
    value = values[name]
    wanted = types if isinstance(types, tuple) else (types,)
    if type(value) not in wanted:
        raise ValueError("its %s is damaged" % name)
    return value


def _folders(program: Mapping[str, Any]) -> Tuple[str, ...]:
    """The folders in which the functions' modules were looked for."""
    found: List[str] = []
    for name in ("folders", "pythonpath"):
        values = program.get(name, [])
        if not isinstance(values, list) or len(values) > MAX_FOLDERS or not all(
                isinstance(value, str) and os.path.isabs(value) for value in values):
            raise ValueError("its program is damaged")
        found += map(native, values)
    return tuple(found)


def _named(what: str, value: Mapping[str, Any], find: Callable[[str], str]) -> Any:
    """The function that ``value`` names."""
    if isinstance(value.get("function"), str):
        return load_function(find(native(value["function"])))
    if isinstance(value.get(NAMELESS), str):
        raise NotRecorded("%s is a function that cannot be found by a name (%.200s): define it with def at the top of "
                          "a module, and record a new run" % (what, printable(value[NAMELESS])))
    raise ValueError("%s is damaged" % what)


def found_at(name: str, folders: Sequence[str]) -> str:
    """The name of the function ``name``, whose program's file may lie in one of ``folders`` by now."""
    file, colon, function = name.rpartition(":")
    if not file.endswith(".py") or os.path.isfile(file):
        return name
    here = [os.path.join(folder, os.path.basename(file)) for folder in folders]
    return next((path + colon + function for path in map(os.path.abspath, here) if os.path.isfile(path)), name)
