"""The records of a run in its checkpoint folder, and the step to resume from.

``stoker.json`` has everything on which the content of steps depends; a run with another configuration is refused.
``stoker-samples.gz`` is the list of its samples, and ``stoker-rows.npy`` has a hash of each, so that the refusal can
say which differ, and a run can go on with those that the checkpoint knows. ``stoker-run.json`` says what
``stoker-predict`` needs to know of the run. Both JSON files have a checksum.
"""

import json
import os
import zlib
from contextlib import suppress
from typing import Any, Callable, Dict, FrozenSet, IO, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.errors import CheckpointMismatch, ConfigError
from stoker.pipeline.options import FORMER, JobOptions
from stoker.pipeline.sources.identity import difference, identity
from stoker.pipeline.sources.sample_list import MAX_LIST_BYTES, ListError, packed_list
from stoker.pipeline.storage.checked_json import MAX_RECORD_BYTES, loads
from stoker.pipeline.storage.safe_files import open_own
from stoker.pipeline.text import own_letters, printable_path
from stoker.trainer import state
from stoker.trainer.checkpoint_files import BAD_SAMPLES, KILLERS, CheckpointFolder, listed, require_whole
from stoker.trainer.files import reason, replace_file
from stoker.trainer.known_samples import DATA, RECORD, SAMPLES, KnownSamples, are_listed, known_samples
from stoker.trainer.run import Run

ROWS, RUN = "stoker-rows.npy", "stoker-run.json"
FILES = (RECORD, RUN, SAMPLES, ROWS, BAD_SAMPLES, KILLERS)         # that Stoker writes there
MAX_SHOWN = 200                  # characters of a value in a sentence
CHECKSUM = "checksum"
#: What every record has, and the types of its values.
REQUIRED: Dict[str, Any] = {
    "plan": int, "generator": str, "image_size": list, "batch_size": int, "seed": int, "decode": str, "dataset": str,
    "validation_split": (int, float)}
RUN_VERSION = 1
#: What stoker-run.json has for ``stoker-predict``: arguments of ``open_stream``.
OPTIONS = ("image_size", "batch_size", "seed", "decode", "exif_rotate", "partners", "truncated", "max_text_mb") + tuple(
    FORMER)
DECODERS = "decoders"            # of the pictures: what differs only gives a warning (decoders.py)
FOR_READERS = {"classes", DECODERS}      # keys of stoker.json that people may read; "dataset" is a hash of classes, too
#: Options that a record contains only if they differ from these defaults.
DEFAULTS = dict({name: getattr(JobOptions, name) for name in (
                    "on_bad_image", "exif_rotate", "follow_links", "truncated", "max_text_mb")}, **FORMER,
                order="shuffled", drop_last=False, partners=0, rows=1, unlabelled=False)


def resume(folder: CheckpointFolder, run: Run) -> state.Start:
    """Where ``run`` begins: at the newest checkpoint that is whole, or at 0 if there never was one. Writes nothing.

    Raises CheckpointMismatch if the checkpoints are of another run, or none can be restored, or it is unknown of which
    run they are; ConfigError if a file cannot be read, or written later.
    """
    configuration = run.fingerprint()
    folder.check_files((state.NAMES, *FILES))
    found = folder.traces()
    if not found:
        return state.Start()
    saved, problem = _read_record(folder)
    if saved is None:
        raise CheckpointMismatch("%s holds a checkpoint (%s) but no readable %s (%s), so its run is unknown and "
                                 "nothing was changed: put back a copy of it, or choose another --checkpoint-dir" % (
                                     printable_path(folder.path), listed(found), RECORD, problem))
    start = folder.newest()
    require_whole(folder, start, "choose another --checkpoint-dir")
    for name in sorted((set(saved) | set(configuration)) - FOR_READERS):
        if saved.get(name) != configuration.get(name):
            if not start.step and not start.damaged:      # its run trained no step
                return state.Start()
            if name in DATA and saved.get(name) and configuration.get(name):
                raise CheckpointMismatch(_data_has_changed(folder, run, name, saved))
            was, now = (json.dumps(record.get(name, DEFAULTS.get(name)))[:MAX_SHOWN]
                        for record in (saved, configuration))
            raise CheckpointMismatch("the checkpoint in %s is of a run with %s %s, but this run has %s; use the "
                                     "former value, or choose another --checkpoint-dir" % (
                                         printable_path(folder.path), name.replace("_", " "), was, now))
    return start


def recorded_decoders(folder: CheckpointFolder) -> FrozenSet[str]:
    """The libraries that decoded the run's pictures so far; none are known of an older run."""
    saved, _ = _read_json(folder, RECORD)
    found = (saved or {}).get(DECODERS, [])
    return frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()


def record_decoders(folder: CheckpointFolder, decoders: FrozenSet[str]) -> None:
    """Replaces them. Nothing but a warning depends on it, so it may fail."""
    saved, _ = _read_json(folder, RECORD)
    if saved is not None:
        with suppress(ConfigError):
            _write_json(folder, RECORD, dict(saved, **{DECODERS: sorted(decoders)}))


def known(folder: CheckpointFolder) -> Optional[KnownSamples]:
    """The samples that the checkpoints in ``folder`` know; None if there are none, or it is unknown of which run."""
    saved, _ = _read_record(folder)
    if saved is None or not folder.traces():
        return None
    try:
        return known_samples(saved, folder.read(SAMPLES, MAX_LIST_BYTES))
    except FileNotFoundError:
        return known_samples(saved, None, "it is of an older release, or of data that cannot be listed")
    except OSError as error:
        return known_samples(saved, None, reason(error))


def _data_has_changed(folder: CheckpointFolder, run: Run, name: str, saved: Dict[str, Any]) -> str:
    """The error of a run with other data. ``name``: of its hash in ``saved``, the checkpoint's record."""
    remedy = (", go on with the samples that the checkpoint knows (--dataset-changed keep: what is gone counts as bad, "
              "what is new is not used), or choose another --checkpoint-dir")
    try:
        samples = known(folder)
        if samples is None:
            raise ListError("there is none")
        facts = samples.changes(name, run.source if name == "dataset" else run.datasets.validation).sentence
    except ListError as error:
        facts = _rows_that_differ(folder, run) if name == "dataset" else "its hash was %.80s" % saved[name]
        remedy = (" or choose another --checkpoint-dir; --dataset-changed keep cannot be used, for the checkpoint has "
                  "no list of its samples (%s)" % error)
    return "the %s has changed since the checkpoint in %s was made: %s; put the former data back%s" % (
        DATA[name], printable_path(folder.path), facts, remedy)


def record(folder: CheckpointFolder, run: Run, start: state.Start, model: Optional[str], partners: int) -> None:
    """Writes the records of ``run``, which begins at ``start``. Raises ConfigError if that is impossible."""
    if start.checkpoint is None:
        _write_rows(folder, run)
        configuration = run.fingerprint()
        if not _has_samples(folder, configuration):
            _write_samples(folder, run)
        _write_json(folder, RECORD, dict(configuration, classes=_numbered(run.source.classes)))
    record_run(folder, run, model, partners)


def _write_rows(folder: CheckpointFolder, run: Run) -> None:
    _write(folder, ROWS, lambda file: np.save(file, run.source.row_hashes(), allow_pickle=False))


def _has_samples(folder: CheckpointFolder, saved: Dict[str, Any]) -> bool:
    try:
        with open(open_own(folder.at(SAMPLES)), "rb") as file:
            return are_listed(saved, file)
    except OSError:
        return False


def _write_samples(folder: CheckpointFolder, run: Run) -> None:
    packed = packed_list(run.source, run.datasets.validation if run.more["validation"] else None)
    if packed is not None:
        _write(folder, SAMPLES, lambda file: file.write(packed))
        return
    with suppress(OSError):            # of another run
        os.remove(folder.at(SAMPLES))


def _numbered(classes: Sequence[str]) -> Dict[str, int]:
    return {own_letters(name): number for number, name in enumerate(classes)}


def _rows_that_differ(folder: CheckpointFolder, run: Run) -> str:
    """How the data of the checkpoint's run and of ``run`` differ."""
    recorded, _ = _read_json(folder, RUN)
    if recorded is None:               # an older run has no such records
        return "it has %s samples now" % format(len(run.source), ",")
    data = recorded.get("data")
    return difference(data if isinstance(data, dict) else {}, _row_hashes(folder),
                      run.source) or "the samples are others"


def _row_hashes(folder: CheckpointFolder) -> "Optional[np.ndarray]":
    try:
        with open(open_own(folder.at(ROWS)), "rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):       # other versions have longer headers
                return None
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if len(shape) != 1 or dtype != np.uint32:
                return None
            return np.memmap(file, np.uint32, "r", file.tell(), shape)      # an error if it is shorter
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


def record_run(folder: CheckpointFolder, run: Run, model: Optional[str], partners: int) -> None:
    """Records what the run is, for ``recorded_run``. Raises ConfigError if it cannot be written."""
    job = run.job
    options = dict({name: getattr(job, name) for name in OPTIONS if name != "partners"}, partners=partners)
    arrays = [[spec.name, spec.dtype, [[int(side), side.pad] if isinstance(side, UpTo) else side
                                       for side in spec.shape]] for spec in job.arrays]
    _write_json(folder, RUN, {
        "version": RUN_VERSION, "generator": job.generator, "model": model,
        "data": identity(run.source), "arrays": arrays, "options": options})
    hashes = _row_hashes(folder)
    if hashes is None or len(hashes) != len(run.source):
        with suppress(ConfigError):    # nothing but a sentence depends on it
            _write_rows(folder, run)
    saved, _ = _read_record(folder)
    if saved is not None and folder.traces() and not _has_samples(folder, saved):
        with suppress(ConfigError):
            _write_samples(folder, run)


def recorded_run(folder: CheckpointFolder) -> Recorded:
    """What the run is whose checkpoints are in ``folder``. Raises ConfigError if there is no readable record."""
    saved, problem = _read_json(folder, RUN)
    try:
        if saved is None or saved["version"] != RUN_VERSION:
            raise ValueError(problem or "it is of another version")
        arrays = tuple(ArraySpec(name, dtype, tuple(UpTo(*side) if isinstance(side, list) else side for side in shape))
                       for name, dtype, shape in saved["arrays"])
        options = dict(FORMER, **dict(saved["options"], image_size=tuple(saved["options"]["image_size"])))
        other = set(options).difference(OPTIONS)
        if other:
            raise ValueError("it has the option %.80s" % ascii(min(other)))
        classes, model = tuple(saved["data"]["classes"]), saved["model"]
        if not all(isinstance(each, str) for each in (saved["generator"], model or "", *classes)):
            raise ValueError("a name in it is no text")
        return Recorded(saved["generator"], model, classes, arrays, options)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError("%s has no readable %s (%s), which tells what its model is: start stoker-train once more "
                          "with the options of that run and --checkpoint-dir %s, which writes it" % (
                              folder.path, RUN, error, folder.path)) from error


# -------------------------------------------------------------------------------------------------------------- files

def _read_json(folder: CheckpointFolder, name: str) -> Tuple[Optional[Dict[str, Any]], Optional[str]]:
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


def _read_record(folder: CheckpointFolder) -> Tuple[Optional[Dict[str, Any]], Optional[str]]:
    """What ``resume`` compares; or None, and why it cannot be used."""
    saved, problem = _read_json(folder, RECORD)
    if saved is None:
        return None, problem
    for name, types in REQUIRED.items():
        if name not in saved:
            return None, "it is damaged: it has no %s" % name.replace("_", " ")
        if not isinstance(saved[name], types) or isinstance(saved[name], bool):
            return None, "it is damaged: its %s is no %s" % (name.replace("_", " "), "list" if types is list else (
                "text" if types is str else "number"))
    return saved, None


def _write_json(folder: CheckpointFolder, name: str, content: Dict[str, Any]) -> None:
    text = _text_of(dict(content, **{CHECKSUM: _checksum(content)}))
    _write(folder, name, lambda file: file.write(text))


def _text_of(content: Dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode("ascii")


def _checksum(content: Dict[str, Any]) -> int:
    return zlib.crc32(_text_of(json.loads(json.dumps(content)))) & 0xffffffff


def _write(folder: CheckpointFolder, name: str, write: Callable[[IO[bytes]], Any]) -> None:
    """Replaces the file as a whole."""
    try:
        replace_file(folder.at(name), write)
    except OSError as error:
        raise folder.unusable(error, name) from error
