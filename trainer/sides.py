"""The two sides of a stream: its training batches and its evaluation batches, for programs that take each from an
iterator of its own. Imports no TensorFlow."""

from __future__ import generator_stop

from typing import Iterator, Mapping, Sequence, Tuple, Union

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.plan import Plan
from stoker.pipeline.stream import BatchStream

#: The names of arrays of a batch: one, several, or {the other program's name: the array's name}.
Names = Union[str, Sequence[str], Mapping[str, str]]


class Side(Iterator[Batch]):
    """The training batches of ``stream``, or its evaluation batches, each only when it is due.

    A resumed stream begins with the evaluation of the epoch before. If training goes first, that one is left out. A
    stream that was opened with ``training=False`` has one side only.
    Raises RuntimeError if the other kind is due, if another thread takes from the stream at the same time, or in a
    fork.
    """

    def __init__(self, stream: BatchStream, training: bool) -> None:
        self._stream, self._training = stream, training and stream.plan.training
        #: The step before which evaluation batches are left out.
        self._left_out = stream.step if self._training and stream.due is False else -1

    @property
    def due(self) -> bool:
        """Whether the next batch of the stream is of this side."""
        return self._stream.due is self._training

    def __next__(self) -> Batch:
        stream = self._stream
        stream.check_process()      # first: in a fork, all else may be of another moment
        while self._training and stream.due is False and stream.step == self._left_out:
            next(stream)
        if stream.due is None:
            raise StopIteration
        if not self.due:
            raise RuntimeError(self._order())
        batch = next(stream)
        if batch.training is not self._training:      # it was due until another thread took it
            raise RuntimeError("two threads take batches from one stream at the same time: let one thread take them "
                               "all (in Keras: workers=0)")
        return batch

    def until_border(self) -> Iterator[Batch]:
        """The batches of this side up to those of the other one, or to the end of the stream."""
        try:
            yield next(self)           # not bound to a name, so that its memory can be used again
            while self.due:
                yield next(self)
        except StopIteration:
            return

    def _order(self) -> str:
        plan, step = self._stream.plan, self._stream.step
        if self._training:
            return ("a training batch was asked for, but the evaluation after epoch %d is due: take its %d batches "
                    "first (in Keras: pass validation_data and validation_steps as stoker.keras gives them, and "
                    "workers=0)" % (step // plan.steps_per_epoch, plan.evaluations_per_epoch))
        return ("an evaluation batch was asked for, but training step %d is due: an evaluation comes after each epoch "
                "of %d steps (in Keras: workers=0)" % (step, plan.steps_per_epoch))


def check_parts(plan: Plan, training: bool, consumer: str) -> None:
    """Raises ConfigError, on every rank, if some ranks get no sample of the last batch of an epoch (``training``) or of
    an evaluation."""
    if plan.has_empty_parts(training):
        raise ConfigError("the last batch of %s has fewer samples than there are ranks (%d), so some ranks get none of "
                          "them, and %s cannot compute a loss of nothing: use drop_last=True, or another batch_size" % (
                              "an epoch" if training or not plan.training else "an evaluation", plan.ranks, consumer))


def not_empty(batch: Batch, consumer: str) -> Batch:
    """``batch``. Raises DatasetError if it has no sample, because the mean of no losses would make the weights NaN."""
    if len(batch):
        return batch
    where = "step %d" if batch.training else "an evaluation batch before step %d"
    remedy = ("use drop_last=True with on_bad_image=\"replace\", so that every batch is full"
              if batch.global_size <= len(batch.indices) else      # else it is a rank's part, without replacements
              "remove the bad files, or use a larger batch_size")
    raise DatasetError("%s in epoch %d is empty, because all its samples were skipped, and %s cannot compute a loss of "
                       "nothing: %s" % (where % batch.step, batch.epoch + 1, consumer, remedy))


def check_names(specs: Sequence[ArraySpec], argument: str, names: Names) -> None:
    """Raises ConfigError if ``names``, given as ``argument``, are not names of ``specs``."""
    known = [spec.name for spec in specs]
    if not isinstance(names, (str, list, tuple, Mapping)) or not all(isinstance(name, str) for name in flat(names)):
        raise ConfigError("%s must be a name, a list of names or a dict of names, not %.200r; the batches have %s" % (
            argument, names, ", ".join(known)))
    for name in flat(names):
        if name not in known:
            raise ConfigError("%s: there is no array %r: the batches have %s" % (argument, name, ", ".join(known)))


def flat(names: Names) -> Tuple[str, ...]:
    """The names of the arrays alone, in order."""
    if isinstance(names, str):
        return (names,)
    return tuple(names.values() if isinstance(names, Mapping) else names)
