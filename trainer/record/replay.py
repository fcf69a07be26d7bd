"""A recorded run whose batches can be made again: ``stoker.replay``. Imports no TensorFlow.

The batch of a step is a pure function of the data, the arguments and the step. So any batch of a run can be made again,
by any Python and any number of workers, while the run goes on or after its end. A replay only reads the run's folder,
and takes no lock of it.
"""

from __future__ import generator_stop

import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Dict, FrozenSet, Generator, Iterable, Iterator, Optional, Sequence, Union
from weakref import WeakSet

from stoker.pipeline.batch import Batch
from stoker.pipeline.cores import cores
from stoker.pipeline.functions import refuse_nested
from stoker.pipeline.monitoring.audit import batch_crc
from stoker.pipeline.monitoring.audit_lines import audited, line_of
from stoker.pipeline.options import SANDBOX_AUTO, check_whole
from stoker.pipeline.sources.text_file import absolute_root
from stoker.trainer.feed import LocalOptions, Path, absolute, start_stream
from stoker.trainer.record import files as records
from stoker.trainer.record.advice import in_own_words
from stoker.trainer.record.folder import KILLERS, RunFolder
from stoker.trainer.record.run import NOT_GIVEN, RecordedRun
from stoker.trainer.record.selected_plan import SelectedPlan

MAX_WORKERS = 1000


class Replay:
    """The run that is recorded in a folder: that of ``stoker-train --checkpoint-dir``, or of ``open_stream(record=)``.

        with Replay("runs/photos", root="/mnt/photos") as run:
            for batch in run.batches([10, 1234, 5]):
                print(run.crc(batch) == run.audited(batch.step)["crc32"])

    Attributes:

    run: job, data and plan of the run. folder: as it was given. audit: the file, None if there was none, or it is gone.
    notes: sentences on what is another way now than when the run was recorded.
    recorded_decoders: the libraries that decoded its pictures; decoders: those of the workers of this replay so far.
    """

    def __init__(self, folder: Path, root: Optional[Path] = None, validation: Any = NOT_GIVEN,
                 workers: Optional[int] = None, worker_python: Optional[str] = None, audit: Optional[Path] = None, *,
                 data: Any = NOT_GIVEN, path: Union[Path, Sequence[Path]] = (), rank: Optional[int] = None,
                 sandbox: str = SANDBOX_AUTO, allow_read: Union[Path, Sequence[Path]] = ()) -> None:
        """``root``: the folder in which the data lies now, if it was in another one. ``data``, ``validation``: the data
        themselves, as ``open_stream`` takes them, if they were moved apart or are not recorded; ``validation=None``
        does without evaluations of data of their own. ``path``: folders in which the modules of the run's functions lie
        now. ``audit``: its file, if it is another than recorded. ``rank``: of a run of several ranks, the one whose
        part of each batch is made; None: whole batches.

        ``workers``: processes that make the batches (None: one per core, and no more than batches),
        ``worker_python``, ``sandbox``, ``allow_read``: see ``open_stream``.

        Raises ConfigError if the folder has no record, or the run cannot be made again, and says why; DatasetError.
        """
        refuse_nested()
        self.folder = os.fspath(folder)
        self._local = LocalOptions(1, worker_python, sandbox=sandbox, allow_read=allow_read)
        self._workers = None if workers is None else check_whole("workers", workers, 1, MAX_WORKERS)
        self._rank = rank
        self._started: "WeakSet[Generator[Batch, None, None]]" = WeakSet()      # what ``batches`` returned
        self._decoders: FrozenSet[str] = frozenset()
        with RunFolder(self.folder) as opened:
            record = RecordedRun(opened, absolute(path))
            places = None if root is None else absolute_root(root)
            self.run, self.notes, self._modules = record.opened(places, data, validation, rank)
            self.recorded_decoders = records.recorded_decoders(opened)
            self._audits = [os.fspath(audit)] if audit is not None else record.audits(rank)
            self._options, self._killers = record.stream_options(), record.killers()
            self._below = record.below
        self.audit = self._audits[0] if self._audits else None

    def batches(self, steps: Iterable[int]) -> Iterator[Batch]:
        """The batches of these training steps, in the order in which they are given. Raises ConfigError if the run has
        no such step, and what a stream raises."""
        plan = self.run.plan
        return self._start([plan.position_at(_step(step, plan.steps)) for step in steps])

    def evaluation(self, epoch: int) -> Iterator[Batch]:
        """The evaluation batches after the epoch ``epoch``, counted from 0; none if the run has no evaluation."""
        plan = self.run.plan
        return self._start(plan.evaluation_positions(check_whole("epoch", epoch, 0, plan.epochs - 1)))

    def _start(self, positions: Sequence[int]) -> Iterator[Batch]:
        made = self._made(positions)
        self._started.add(made)
        return made

    def _made(self, positions: Sequence[int]) -> Generator[Batch, None, None]:
        if not positions:
            return
        run, workers = self.run, self._workers or min(len(positions), cores())
        with in_own_words(self._below), ExitStack() as undo:
            options = self._options
            if self._killers:          # in a file of its own: a replay may find others, and changes nothing of the run
                folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="stoker-replay-"))
                options = replace(options, killers=os.path.join(folder, KILLERS))
                with open(os.path.join(folder, KILLERS), "wb") as file:
                    file.write(self._killers)
            with self._modules.importable():
                stream = start_stream(SelectedPlan(run.plan, positions), run.datasets, run.job, options, 0,
                                      replace(self._local, workers=workers))
            undo.callback(stream.close)
            for batch in stream:
                self._decoders |= stream.decoders
                yield batch

    def audited(self, step: int) -> Optional[Dict[str, Any]]:
        """The line of ``step`` in the run's audit, with its checksum "crc32" (None: that of the whole batch of several
        ranks is not known); None if there is no audit or no such line. Raises ConfigError."""
        if self._rank is None or not self._audits:
            return audited(self._audits, step)
        return line_of(self._audits[0], step)

    def crc(self, batch: Batch) -> int:
        """The checksum of ``batch``, as the audit has it."""
        return batch_crc(batch)

    def step_of(self, index: int, epoch: int) -> Optional[int]:
        """The first step of the epoch that has the training sample ``index``; None if none has it. Raises ConfigError
        if there is no such sample or epoch."""
        plan = self.run.plan
        return plan.first_step_of(check_whole("index", index, 0, plan.train_size - 1),
                                  check_whole("epoch", epoch, 0, plan.epochs - 1))

    @property
    def decoders(self) -> FrozenSet[str]:
        """The libraries by which the workers of this replay decoded pictures so far."""
        return self._decoders

    def close(self) -> None:
        """Ends the workers. A second call does no harm."""
        for made in list(self._started):
            made.close()

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def replay(folder: Path, step: int, **options: Any) -> Batch:
    """The batch of a training step of a recorded run, made again, as the model saw it:

        batch = stoker.replay("runs/photos", 1234)

    ``folder``: the ``--checkpoint-dir`` of stoker-train, or what ``open_stream(record=)`` was. ``options``: see
    ``Replay``: ``root``, ``data``, ``validation``, ``path``, ``rank``, ``workers``, ``worker_python`` ... Raises
    ConfigError, DatasetError, RunFailed.
    """
    with Replay(folder, **options) as run:
        return next(run.batches([step]))


def _step(step: int, steps: int) -> int:
    return check_whole("step", step, 0, steps - 1)
