"""A run as its folder has it: opened again, with its data and functions where they are now. Imports no TensorFlow."""

import os
from contextlib import suppress
from typing import Any, Dict, List, Optional, Sequence, Tuple

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.killer_list import MAX_BYTES
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.sources.roots import is_url
from stoker.pipeline.sources.sample_list import ListError
from stoker.pipeline.storage.safe_files import is_of_others, read_whole
from stoker.pipeline.text import native, printable_path
from stoker.trainer.record import files as records
from stoker.trainer.record.advice import in_own_words
from stoker.trainer.record.arguments import OF_STREAM, Arguments, NotRecorded, Places, found_at
from stoker.trainer.record.folder import KILLERS, RunFolder
from stoker.trainer.record.known_samples import DATA, RECORD, KnownSamples
from stoker.trainer.record.program_modules import ProgramModules
from stoker.trainer.run import Run, prepare

NOT_GIVEN: Any = object()       # instead of an argument
MAX_AUDITS = 4096               # of the ranks of a run
#: Keys of stoker.json that a user's functions decide on.
OF_FUNCTIONS = ("arrays", "order", "partners", "rows")


class RecordedRun:
    """What the records in ``folder`` say. ``path``: further folders with modules of the run's functions. Raises
    ConfigError."""

    def __init__(self, folder: RunFolder, path: Sequence[str] = ()) -> None:
        self._folder, self._name = folder, printable_path(folder.path)
        saved, problem = records.read_json(folder, records.RUN)
        configuration, problem_of_other = records.read_record(folder)
        if saved is None or configuration is None:
            name, why = (records.RUN, problem) if saved is None else (RECORD, problem_of_other)
            raise ConfigError("%s has no readable %s (%s): a run is recorded by stoker-train in its --checkpoint-dir, "
                              "and by open_stream(record=FOLDER)" % (self._name, name, why))
        if "version" not in saved:
            raise self._damaged(ValueError("it has no version"))
        if "arguments" not in saved and saved["version"] == records.RUN_VERSION:
            raise ConfigError("the %s in %s is of an older release, which did not record DATA and all arguments: start "
                              "stoker-train once more with the options of that run and --checkpoint-dir %s, which "
                              "completes it, even if no step is left" % (records.RUN, self._name, self._name))
        self._configuration: Dict[str, Any] = configuration
        try:
            if saved.get("version") != records.RUN_VERSION:
                raise ValueError("it is of another version")
            self._arguments = Arguments(saved)
            self._generator = saved["generator"]
            if not isinstance(self._generator, str):
                raise ValueError("its generator is no text")
            self._arrays = records.arrays_of(saved)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise self._damaged(error) from error
        self._is_unused = saved.get(records.UNUSED) is True
        self._path = tuple(path) + (() if self._is_of_others() else self._arguments.folders)
        known = records.known(folder)
        assert known is not None           # the configuration was readable
        self._known: KnownSamples = known._replace(otherwise="give the data of the run (data=, root=, --data, --root)")

    def _damaged(self, error: Exception) -> ConfigError:
        return ConfigError("the %s in %s is damaged: %s; put back a copy of it" % (records.RUN, self._name, error))

    def _is_of_others(self) -> bool:
        """Whether another user wrote the record: no code is looked for where that one says."""
        with suppress(OSError):
            return is_of_others(os.stat(self._folder.at(records.RUN)))
        return True

    # ------------------------------------------------------------------------------------------------------- the run

    @property
    def below(self) -> str:
        """The folder in which its data was; '' if it had none."""
        return self._arguments.below

    def opened(self, root: Optional[str], data: Any, validation: Any, rank: Optional[int]
               ) -> Tuple[Run, Tuple[str, ...], ProgramModules]:
        """The run, sentences on what is another way now, and the modules of its functions. For the arguments see
        ``Replay``. Raises ConfigError, DatasetError."""
        modules = ProgramModules(self._path)
        with in_own_words(self.below), modules.importable():
            try:
                run = self._prepared(root, data, validation, rank)
            except NotRecorded as error:
                raise ConfigError("the run in %s cannot be made again: %s" % (self._name, error)) from error
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                raise self._damaged(error) from error
        configuration = self._configuration
        if validation is None and self._arguments.has_data_for_validation:        # the user leaves the evaluations out
            configuration = {name: value for name, value in configuration.items() if name != "validation"}
        other = records.other_value(configuration, run.fingerprint())
        if other is not None:
            raise ConfigError("the run in %s cannot be made again: its %s was %s, and is %s now%s" % (
                self._name, other.name.replace("_", " "), other.was, other.now,
                ": have your functions changed since?" if other.name in OF_FUNCTIONS else ""))
        notes = list(run.notes)
        if self._is_unused:
            notes.append("the run has handed out no batch yet, and until then another one may take its place in %s"
                         % self._name)
        if self._arguments.ranks > 1 and rank is None and not run.one_by_one:
            notes.append("the run had %d ranks, and %s made each rank's part by itself: whole batches may differ from "
                         "those parts (rank= makes one of them)" % (self._arguments.ranks, run.job.generator))
        return run, tuple(notes), modules

    def _prepared(self, root: Optional[str], data: Any, validation: Any, rank: Optional[int]) -> Run:
        arguments = self._arguments
        places = Places(arguments.below, root, self._listed)
        plain = dict(arguments.plain, generator=found_at(self._generator, self._path))
        if plain["augment"]:
            plain["augment"] = found_at(native(plain["augment"]), self._path)
        if plain["on_bad_image"] == "raise":
            plain["on_bad_image"] = "skip"              # the batches up to the bad file are the same
        if arguments.declares:
            plain["arrays"] = {spec.name: (spec.dtype, spec.shape) for spec in self._arrays}
        if data is NOT_GIVEN:
            data, of_root = arguments.data("data", places), arguments.root(places)
        else:
            data, of_root = arguments.given("data", data), root
        if validation is NOT_GIVEN:
            validation = arguments.data("validation", places)
        else:
            validation = arguments.given("validation", validation)
        if rank is not None:
            plain.update(rank=rank, ranks=arguments.ranks)
        return prepare(data, validation=validation, root=of_root,
                       order=arguments.order(lambda: records.recorded_weights(self._folder), self._find),
                       partners=arguments.partners(self._find), known=self._known, recorded=self._known.hashes, **plain)

    def _find(self, name: str) -> str:
        return found_at(name, self._path)

    def _listed(self, key: str, root: str, name: str) -> Source:
        """The samples of the list in the folder."""
        found = self._known.lists.get(key)
        if found is None:
            raise NotRecorded("its %s was not at a path that is there, and the folder has no list of the samples (%s): "
                              "give the data again (data=, validation=)" % (
                                  DATA[key], self._known.problem or "it has none"))
        try:
            is_there = root and (is_url(root) or os.path.isdir(root))
            return found.source("" if not is_there and found.kind in ("rows", "numbers") else root, name)
        except ListError as error:
            raise NotRecorded("the list of its samples cannot be used: %s" % error) from error

    # ------------------------------------------------------------------------------------------------- its other files

    def stream_options(self) -> StreamOptions:
        """Those on which it depends which pictures are bad, and whether a batch can be made at all."""
        stream = self._arguments.stream
        return StreamOptions(**{name: stream[name] for name in OF_STREAM if name in stream})

    def audits(self, rank: Optional[int]) -> List[str]:
        """The audit of the one trainer, of ``rank``, or of all ranks. [] if they are not there."""
        if self._arguments.ranks == 1:
            found = [self._arguments.stream["audit"]]
        else:
            ranks = range(min(self._arguments.ranks, MAX_AUDITS)) if rank is None else [rank]
            saved = [records.read_json(self._folder, records.RANK % each)[0] or {} for each in ranks]
            found = [each.get("audit") for each in saved]
        here = [self._here(each) for each in found if isinstance(each, str)]
        return [path for path in here if path is not None] if len(here) == len(found) and None not in here else []

    def killers(self) -> bytes:
        """The content of the run's list of killers; b"" if there is none. Raises ConfigError."""
        killers = self._here(self._arguments.stream["killers"] or KILLERS)
        if killers is None:
            return b""
        try:
            return read_whole(killers, MAX_BYTES)
        except OSError as error:
            raise ConfigError("killers: %s cannot be read: %s" % (printable_path(killers), error.strerror)) from error

    def _here(self, path: str) -> Optional[str]:
        """The file that was at ``path``, or has its name in the folder; None if it is gone."""
        inside = os.path.join(os.path.abspath(self._folder.path), os.path.basename(native(path)))
        for each in (native(path), inside):
            if os.path.isabs(each) and os.path.isfile(each):
                return each
        return None
