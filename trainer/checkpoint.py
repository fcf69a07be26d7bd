"""The step to resume from, and whether the checkpoints in a folder are of the run: one with another configuration is
refused. ``record/files.py`` has the records by which it is known."""

from typing import Any, Dict, Mapping, Optional

from stoker.pipeline.errors import CheckpointMismatch
from stoker.pipeline.sources.identity import difference
from stoker.pipeline.sources.sample_list import ListError
from stoker.pipeline.text import printable_path
from stoker.trainer import state
from stoker.trainer.checkpoint_files import CheckpointFolder, listed, require_whole
from stoker.trainer.record import files as records
from stoker.trainer.record.known_samples import DATA, RECORD, KnownSamples
from stoker.trainer.run import Run


def resume(folder: CheckpointFolder, run: Run) -> state.Start:
    """Where ``run`` begins: at the newest checkpoint that is whole, or at 0 if there never was one. Writes nothing.

    Raises CheckpointMismatch if the checkpoints are of another run, or none can be restored, or it is unknown of which
    run they are; ConfigError if a file cannot be read, or written later.
    """
    folder.check_files((state.NAMES, *records.FILES))
    found = folder.traces()
    if not found:
        return state.Start()
    saved, problem = records.read_record(folder)
    if saved is None:
        raise CheckpointMismatch("%s holds a checkpoint (%s) but no readable %s (%s), so its run is unknown and "
                                 "nothing was changed: put back a copy of it, or choose another --checkpoint-dir" % (
                                     printable_path(folder.path), listed(found), RECORD, problem))
    start = folder.newest()
    require_whole(folder, start, "choose another --checkpoint-dir")
    other = records.other_value(saved, run.fingerprint())
    if other is None:
        return start
    if not start.step and not start.damaged:      # its run trained no step
        return state.Start()
    if other.of_data:
        raise CheckpointMismatch(_data_has_changed(folder, run, other.name, saved))
    raise CheckpointMismatch("the checkpoint in %s is of a run with %s %s, but this run has %s; use the former value, "
                             "or choose another --checkpoint-dir" % (
                                 printable_path(folder.path), other.name.replace("_", " "), other.was, other.now))


def known(folder: CheckpointFolder) -> Optional[KnownSamples]:
    """The samples that the checkpoints in ``folder`` know; None if there are none, or it is unknown of which run."""
    return records.known(folder) if folder.traces() else None


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


def _rows_that_differ(folder: CheckpointFolder, run: Run) -> str:
    """How the data of the checkpoint's run and of ``run`` differ."""
    recorded, _ = records.read_json(folder, records.RUN)
    if recorded is None:               # an older run has no such records
        return "it has %s samples now" % format(len(run.source), ",")
    data = recorded.get("data")
    return difference(data if isinstance(data, dict) else {}, records.row_hashes(folder),
                      run.source) or "the samples are others"


def record(folder: CheckpointFolder, run: Run, start: state.Start, model: Optional[str],
           more: Mapping[str, Any]) -> None:
    """Writes the records of ``run``, which begins at ``start``; ``more``: see ``records.write_run``. Raises ConfigError
    if that is impossible."""
    if start.checkpoint is None:
        records.write_rows(folder, run)
        records.write_configuration(folder, run)
    records.write_run(folder, run, model, more)
    hashes = records.row_hashes(folder)
    if hashes is None or len(hashes) != len(run.source):      # nothing but a sentence depends on it
        records.write_rows(folder, run, lenient=True)
    if folder.traces():
        records.complete_samples(folder, run)
