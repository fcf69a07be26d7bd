"""The records of a run in its folder: what they hold, and how they are written and read. Imports no TensorFlow.

``stoker.json`` has everything on which the content of steps depends. ``stoker-samples.gz`` is the list of its samples,
and ``stoker-rows.npy`` has a hash of each, so that an error can say which differ, and a run can go on with those that
the folder knows. ``stoker-run.json`` says what ``stoker-predict`` needs to know of the run, and its arguments, by which
``stoker.replay`` makes its batches again. Both JSON files have a checksum.
"""

import json
import os
import zlib
from contextlib import suppress
from typing import IO, Any, Callable, Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import FORMER, JobOptions
from stoker.pipeline.sources.identity import identity
from stoker.pipeline.sources.sample_list import MAX_LIST_BYTES, packed_list
from stoker.pipeline.storage.checked_json import MAX_RECORD_BYTES, loads
from stoker.pipeline.storage.safe_files import open_own
from stoker.pipeline.text import own_letters, quoted
from stoker.trainer.files import reason, replace_file
from stoker.trainer.record.folder import BAD_SAMPLES, KILLERS, RunFolder
from stoker.trainer.record.known_samples import DATA, RECORD, SAMPLES, KnownSamples, are_listed, known_samples
from stoker.trainer.run import Run

ROWS, RUN, WEIGHTS = "stoker-rows.npy", "stoker-run.json", "stoker-weights.npy"
RANK = "stoker-rank-%d.json"                                       # of each of several ranks
FILES = (RECORD, RUN, SAMPLES, ROWS, WEIGHTS, BAD_SAMPLES, KILLERS)         # that Stoker writes there
CHECKSUM = "checksum"
#: What every stoker.json has, and the types of its values.
REQUIRED: Dict[str, Any] = {
    "plan": int, "generator": str, "image_size": list, "batch_size": int, "seed": int, "decode": str, "dataset": str,
    "validation_split": (int, float)}
RUN_VERSION = 1
#: Key of stoker-run.json while a run of ``open_stream(record=)`` has handed out no batch: another may take its place
UNUSED = "unused"
#: What stoker-run.json has for ``stoker-predict``: arguments of ``open_stream``.
OPTIONS = ("image_size", "batch_size", "seed", "decode", "exif_rotate", "partners", "truncated", "max_text_mb") + tuple(
    FORMER)
DECODERS = "decoders"            # of the pictures: what differs only gives a warning (decoders.py)
FOR_READERS = {"classes", DECODERS}      # keys of stoker.json for people; "dataset" is a hash of classes, too
#: Options that a record contains only if they differ from these defaults.
DEFAULTS = dict({name: getattr(JobOptions, name) for name in (
                    "on_bad_image", "exif_rotate", "follow_links", "truncated", "max_text_mb")}, **FORMER,
                order="shuffled", drop_last=False, partners=0, rows=1, unlabelled=False)
MAX_SHOWN = 200                  # characters of a value in a sentence


# -------------------------------------------------------------------------------------------------------- stoker.json

def read_record(folder: RunFolder) -> Tuple[Optional[Dict[str, Any]], Optional[str]]:
    """What ``resume`` compares; or None, and why it cannot be used."""
    saved, problem = read_json(folder, RECORD)
    if saved is None:
        return None, problem
    for name, types in REQUIRED.items():
        if name not in saved:
            return None, "it is damaged: it has no %s" % name.replace("_", " ")
        if not isinstance(saved[name], types) or isinstance(saved[name], bool):
            return None, "it is damaged: its %s is no %s" % (name.replace("_", " "), "list" if types is list else (
                "text" if types is str else "number"))
    return saved, None


class OtherValue(NamedTuple):
    """What another configuration has: ``name`` is the key, ``was`` and ``now`` are JSON. ``of_data``: it is a hash of
    the data."""
    name: str
    was: str
    now: str
    of_data: bool


def other_value(saved: Dict[str, Any], configuration: Dict[str, Any]) -> Optional[OtherValue]:
    """The first value in which the run of the record ``saved`` differs from one with this ``configuration``: see
    ``Run.fingerprint``. None if its batches are the same."""
    for name in sorted((set(saved) | set(configuration)) - FOR_READERS):
        if saved.get(name) != configuration.get(name):
            was, now = (json.dumps(record.get(name, DEFAULTS.get(name)), ensure_ascii=False)[:MAX_SHOWN]
                        for record in (saved, configuration))
            return OtherValue(name, was, now, bool(name in DATA and saved.get(name) and configuration.get(name)))
    return None


def write_configuration(folder: RunFolder, run: Run, quick: bool = False) -> None:
    """Writes what ``run`` depends on, and the list of its samples; ``quick``: without compressing the list, and without
    waiting for the disk. Raises ConfigError if that is impossible."""
    configuration = run.fingerprint()
    if not _has_samples(folder, configuration):
        _write_samples(folder, run, quick)
    names = {own_letters(name): number for number, name in enumerate(run.source.classes)}
    write_json(folder, RECORD, dict(configuration, classes=names))


def recorded_decoders(folder: RunFolder) -> FrozenSet[str]:
    """The libraries that decoded the run's pictures so far; none are known of an older run."""
    saved, _ = read_json(folder, RECORD)
    found = (saved or {}).get(DECODERS, [])
    return frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()


def record_decoders(folder: RunFolder, decoders: FrozenSet[str]) -> None:
    """Replaces them. Nothing but a warning depends on it, so it may fail."""
    saved, _ = read_json(folder, RECORD)
    if saved is not None:
        with suppress(ConfigError):
            write_json(folder, RECORD, dict(saved, **{DECODERS: sorted(decoders)}))


# -------------------------------------------------------------------------------------------------------- the samples

def known(folder: RunFolder) -> Optional[KnownSamples]:
    """The samples that the records in ``folder`` know; None if it is unknown of which run they are."""
    saved, _ = read_record(folder)
    if saved is None:
        return None
    try:
        return known_samples(saved, folder.read(SAMPLES, MAX_LIST_BYTES))
    except FileNotFoundError:
        return known_samples(saved, None, "it is of an older release, or of data that cannot be listed")
    except OSError as error:
        return known_samples(saved, None, reason(error))


def write_rows(folder: RunFolder, run: Run, lenient: bool = False) -> None:
    """Writes a hash of each sample. Raises ConfigError if that is impossible, unless ``lenient``."""
    try:
        _write(folder, ROWS, lambda file: np.save(file, run.source.row_hashes(), allow_pickle=False))
    except ConfigError:
        if not lenient:
            raise


def complete_samples(folder: RunFolder, run: Run) -> None:
    """Writes the list of the samples if the folder has none of its run, and if it can."""
    saved, _ = read_record(folder)
    if saved is not None and not _has_samples(folder, saved):
        with suppress(ConfigError):
            _write_samples(folder, run)


def _has_samples(folder: RunFolder, saved: Dict[str, Any]) -> bool:
    try:
        with open(open_own(folder.at(SAMPLES)), "rb") as file:
            return are_listed(saved, file)
    except OSError:
        return False


def _write_samples(folder: RunFolder, run: Run, quick: bool = False) -> None:
    packed = packed_list(run.source, run.datasets.validation if run.more["validation"] else None, level=1 - quick)
    if packed is not None:
        _write(folder, SAMPLES, lambda file: file.write(packed), not quick)
        return
    with suppress(OSError):            # of another run
        os.remove(folder.at(SAMPLES))


def row_hashes(folder: RunFolder) -> "Optional[np.ndarray]":
    """uint32 [n], what ``write_rows`` wrote; None if it cannot be used."""
    return _numbers(folder, ROWS, np.uint32)


def write_weights(folder: RunFolder, weights: "np.ndarray") -> None:
    """Writes the weights of the run's order. Raises ConfigError if that is impossible."""
    _write(folder, WEIGHTS, lambda file: np.save(file, weights.astype("<f8"), allow_pickle=False), synced=False)


def recorded_weights(folder: RunFolder) -> "Optional[np.ndarray]":
    """float64 [n], what ``write_weights`` wrote; None if it cannot be used."""
    return _numbers(folder, WEIGHTS, np.dtype("<f8"))


def _numbers(folder: RunFolder, name: str, wanted: Any) -> "Optional[np.ndarray]":
    """The array of one dimension in a file of numpy; None if it cannot be used."""
    try:
        with open(open_own(folder.at(name)), "rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):       # other versions have longer headers
                return None
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if len(shape) != 1 or dtype != wanted:
                return None
            return np.memmap(file, wanted, "r", file.tell(), shape)      # an error if it is shorter
    except Exception:                  # the parser of a damaged header raises errors of many kinds
        return None


# ----------------------------------------------------------------------------------------------------- stoker-run.json

class Recorded(NamedTuple):
    """What ``stoker-predict`` needs to know of a run."""
    generator: str                   # or the name of the sample or batch function
    model: Optional[str]             # None: the built-in one
    classes: Tuple[str, ...]
    arrays: Tuple[ArraySpec, ...]
    options: Dict[str, Any]          # arguments of ``open_stream``


def write_run(folder: RunFolder, run: Run, model: Optional[str], more: Mapping[str, Any]) -> None:
    """Records what the run is, for ``recorded_run``, with what ``arguments.described`` made of it, ``more``. Raises
    ConfigError if it cannot be written."""
    job, partners = run.job, run.given.get("partners", 0)
    options = dict({name: getattr(job, name) for name in OPTIONS if name != "partners"},
                   partners=partners if isinstance(partners, int) else 0)
    arrays = [[spec.name, spec.dtype, [[int(side), side.pad] if isinstance(side, UpTo) else side
                                       for side in spec.shape]] for spec in job.arrays]
    write_json(folder, RUN, dict(more, **{
        "version": RUN_VERSION, "generator": job.generator, "model": model,
        "data": identity(run.source), "arrays": arrays, "options": options}))


def arrays_of(saved: Dict[str, Any]) -> Tuple[ArraySpec, ...]:
    """The arrays of a stoker-run.json. Raises KeyError, TypeError, ValueError."""
    return tuple(ArraySpec(name, dtype, tuple(UpTo(*side) if isinstance(side, list) else side for side in shape))
                 for name, dtype, shape in saved["arrays"])


def recorded_run(folder: RunFolder) -> Recorded:
    """What the run is whose checkpoints are in ``folder``. Raises ConfigError if there is no readable record."""
    saved, problem = read_json(folder, RUN)
    try:
        if saved is None or saved["version"] != RUN_VERSION:
            raise ValueError(problem or "it is of another version")
        arrays = arrays_of(saved)
        options = dict(FORMER, **dict(saved["options"], image_size=tuple(saved["options"]["image_size"])))
        other = set(options).difference(OPTIONS)
        if other:
            raise ValueError("it has the option %.80s" % quoted(min(other)))
        classes, model = tuple(saved["data"]["classes"]), saved["model"]
        if not all(isinstance(each, str) for each in (saved["generator"], model or "", *classes)):
            raise ValueError("a name in it is no text")
        return Recorded(saved["generator"], model, classes, arrays, options)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError("%s has no readable %s (%s), which tells what its model is: start stoker-train once more "
                          "with the options of that run and --checkpoint-dir %s, which writes it" % (
                              folder.path, RUN, error, folder.path)) from error


# -------------------------------------------------------------------------------------------------------------- files

def read_json(folder: RunFolder, name: str) -> Tuple[Optional[Dict[str, Any]], Optional[str]]:
    """The record called ``name``, without its checksum; or None, and why it cannot be used."""
    try:
        data = folder.read(name, MAX_RECORD_BYTES)
        content = loads(data)
    except FileNotFoundError:
        return None, "it is gone"
    except OSError as error:
        return None, reason(error)
    except ValueError as error:
        return None, str(error) if data else "it is empty"
    if not isinstance(content, dict):
        return None, "it is damaged"
    wanted = content.pop(CHECKSUM, None)           # older records have none
    return (None, "it is damaged") if wanted not in (None, _checksum(content)) else (content, None)


def write_json(folder: RunFolder, name: str, content: Dict[str, Any]) -> None:
    """Replaces the record called ``name``. Raises ConfigError."""
    text = _text_of(dict(content, **{CHECKSUM: _checksum(content)}))
    _write(folder, name, lambda file: file.write(text))


def _text_of(content: Dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode("ascii")


def _checksum(content: Dict[str, Any]) -> int:
    return zlib.crc32(_text_of(json.loads(json.dumps(content)))) & 0xffffffff


def _write(folder: RunFolder, name: str, write: Callable[[IO[bytes]], Any], synced: bool = True) -> None:
    """Replaces the file as a whole."""
    try:
        replace_file(folder.at(name), write, synced, folder.is_shared)
    except OSError as error:
        raise folder.unusable(error, name) from error
