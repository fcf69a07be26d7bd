"""``open_stream(record=FOLDER)``: records there what the run is, so that ``stoker.replay`` can make its batches again.
Imports no TensorFlow."""

import logging
import os
from contextlib import suppress
from dataclasses import replace
from typing import Any, Dict, FrozenSet, Optional

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.text import printable_path
from stoker.trainer import state
from stoker.trainer.decoders import Decoders
from stoker.trainer.record import files as records
from stoker.trainer.record.arguments import described, needs_list, weights_of
from stoker.trainer.record.folder import KILLERS, RunFolder
from stoker.trainer.record.known_samples import DATA, RECORD, SAMPLES
from stoker.trainer.run import Run

log = logging.getLogger("stoker")


class Recording:
    """The record of a run in a folder, which is made if it is not there. Attributes:

    options: those of the stream. Killers are listed in the folder, unless the user named another list.
    """

    def __init__(self, path: Any, run: Run, options: StreamOptions) -> None:
        """Raises ConfigError if the folder holds the record of another run that handed out a batch, or cannot be
        written."""
        if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str) or not os.fspath(path):
            raise ConfigError("record must be the path of a folder, not %.80r" % (path,))
        with RunFolder(os.path.abspath(os.fspath(path)), make=True) as folder:
            self._path, self._configuration = folder.path, run.fingerprint()
            folder.is_shared = run.plan.ranks > 1
            self.options = options
            if options.killers is None and run.plan.ranks == 1:
                self.options = replace(options, killers=os.path.join(folder.path, KILLERS))
            folder.check_files(records.FILES)
            is_new = _is_new(folder, run)
            _write(folder, run, self.options, is_new)

    def watch(self, stream: BatchStream) -> None:
        """From now on, the record is told of the first batch of ``stream``, and of the decoders of its workers."""
        stream.pace.observers.append(_Observer(self._path, self._configuration, stream))


class _Observer:
    def __init__(self, path: str, configuration: Dict[str, Any], stream: BatchStream) -> None:
        self._path, self._configuration, self._stream = path, configuration, stream
        self._is_used = False
        self._seen: FrozenSet[str] = frozenset()

    def taken(self, batch: Batch, timings: BatchTimings, fleet: Fleet, now: float) -> None:
        """Raises ConfigError before the first batch if the record is one of another run by now."""
        if not self._is_used:
            other = None
            with suppress(ConfigError), RunFolder(self._path) as folder:
                folder.is_shared = self._stream.plan.ranks > 1
                other = _keep(folder, self._configuration)
            if other is not None:
                raise other
            self._is_used = True
        decoders = self._stream.decoders
        if decoders != self._seen:
            self._seen = decoders
            with suppress(ConfigError), RunFolder(self._path) as folder:
                folder.is_shared = self._stream.plan.ranks > 1
                Decoders(folder).note(decoders)


def _is_new(folder: RunFolder, run: Run) -> bool:
    """Whether ``run`` is not yet recorded in the folder. Raises ConfigError if another one is."""
    if not os.path.lexists(folder.at(RECORD)):
        return True
    saved, problem = records.read_record(folder)
    if saved is None:
        raise ConfigError("record: %s holds a %s that cannot be read (%s), so its run is unknown: remove that file, or "
                          "record this run in another folder" % (printable_path(folder.path), RECORD, problem))
    other = records.other_value(saved, run.fingerprint())
    if other is None:
        return False
    if _is_unused(folder) and not state.traces(folder.names()):
        return True
    if not os.path.lexists(folder.at(records.RUN)) and not state.traces(folder.names()):
        return True                       # a program was killed while it wrote the record
    raise _of_another_run(folder, other)


def _keep(folder: RunFolder, configuration: Dict[str, Any]) -> Optional[ConfigError]:
    """From now on, no other run may take the place of the one with this ``configuration``. Returns an error if one has
    done so since the stream was opened. Raises ConfigError if the record cannot be written."""
    saved, _ = records.read_record(folder)
    other = None if saved is None else records.other_value(saved, configuration)
    if other is not None:
        return _of_another_run(folder, other)
    found, _ = records.read_json(folder, records.RUN)
    if found is not None and found.pop(records.UNUSED, None) is not None:
        records.write_json(folder, records.RUN, found)
    return None


def _is_unused(folder: RunFolder) -> bool:
    found, _ = records.read_json(folder, records.RUN)
    return found is not None and found.get(records.UNUSED) is True


def _of_another_run(folder: RunFolder, other: records.OtherValue) -> ConfigError:
    return ConfigError("record: %s holds the record of another run: %s; record this run in another folder" % (
        printable_path(folder.path), "the %s is another" % DATA[other.name] if other.of_data else
        "its %s was %s, and this run has %s" % (other.name.replace("_", " "), other.was, other.now)))


def _write(folder: RunFolder, run: Run, options: StreamOptions, is_new: bool) -> None:
    plan, more = run.plan, described(run, options)
    if is_new:
        records.write_configuration(folder, run, quick=True)
    if needs_list(more) and not os.path.lexists(folder.at(SAMPLES)):
        log.warning("record: the data is too large for a list of its samples, or of a class of your own, so the run in "
                    "%s can only be replayed if its data is given again", printable_path(folder.path))
    weights = weights_of(run)
    if weights is not None:
        records.write_weights(folder, weights)
    if plan.ranks > 1:        # the rest is the same for all ranks, so that they may write it at the same time
        records.write_json(folder, records.RANK % plan.rank, {
            "rank": plan.rank, "ranks": plan.ranks, "audit": more["stream"]["audit"]})
        more = dict(more, stream=dict(more["stream"], audit=None))
    if is_new or _is_unused(folder):
        more = dict(more, **{records.UNUSED: True})
    found, _ = records.read_json(folder, records.RUN)
    records.write_run(folder, run, None if found is None else found.get("model"), more)
