"""The training loop: takes batches; does steps, evaluations, checkpoints and summaries."""

import logging
import math
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import tensorflow as tf

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError, DatasetError, RunFailed
from stoker.pipeline.stream import BatchStream
from stoker.trainer.events import StageTimes, open_events, rates
from stoker.trainer.model import Model, failure
from stoker.pipeline.progress import open_bar
from stoker.trainer.saving import Saver
from stoker.trainer.staging import StepInput, feed_direct, feed_staged

log = logging.getLogger("stoker")

SUMMARY_STEPS = 10
HISTOGRAM_STEPS = 100      # a multiple of them


class Result(NamedTuple):
    """The result of a run, in this process."""
    steps: int
    step: int                    # global_step at its end
    evaluation: Dict[str, float]    # the last one's metrics and loss, by name; {} if there was none
    stopped: bool                # it was asked to stop before the end


class Loop:
    """Trains ``model`` on ``stream`` to its end, or until it is interrupted, and then writes a checkpoint. ``unit``:
    what its progress counts, such as images."""

    def __init__(self, stream: BatchStream, model: Model, saver: Saver, unit: str = "images",
                 on_step: Callable[[], None] = lambda: None) -> None:
        """``on_step`` is called after each step."""
        self._stream, self._model, self._saver, self._unit, self._on_step = stream, model, saver, unit, on_step
        self._start_step = saver.saved_step
        self._bar: Any = None
        self._evaluated: List[Tuple[int, Dict[str, float]]] = []     # samples, and means of each batch
        self._evaluations = 0              # batches of the current evaluation, with those without samples
        self._evaluation: Dict[str, float] = {}
        self._steps = self._samples = 0
        self._epoch_samples = 0            # trained on in the current epoch, by this process
        self._epoch_begun = (0.0, 0.0)     # time and waiting time when the bar was opened
        self._marked = (0.0, 0.0, 0)       # time, waiting time and samples at the last summary, or evaluation, ...
        self._evaluation_marked = self._marked      # ... and at the end of the training before an evaluation
        self._stage_times, self._has_histograms = StageTimes(), False
        self._smoothed: Dict[str, float] = {}    # loss and metrics, for the bar
        self._is_finite = True             # every loss so far

    def run(self) -> Result:
        """Trains to the end of the stream. Raises DatasetError if an epoch has no sample that can be used, ConfigError
        if the model does not count its steps, CheckpointMismatch if the checkpoint is of another model, RunFailed."""
        self._marked = self._evaluation_marked = self._mark()
        self._stream.pace.observers.append(self._stage_times)
        writer = open_events(self._saver.folder, tf.get_default_graph(), self._start_step, list(self._model.metrics),
                             self._unit)
        feed = feed_direct if self._model.stage is None else feed_staged
        try:
            with self._saver.session(self._model.name) as session:
                self._saver.begin()
                for step_input in feed(self._model, self._stream):
                    batch = step_input.batch
                    if batch is None:           # stages the first batch of the run, or of an epoch
                        _run_without_hooks(session, step_input.put, step_input.feed)
                    elif batch.training:
                        self._train(session, batch, step_input, writer)
                        self._on_step()
                        if (batch.step + 1) % self._stream.plan.steps_per_epoch == 0:
                            self._check_step(session, batch)
                            self._saver.save(session, batch.step + 1)
                            self._end_of_epoch(batch)
                        elif self._steps == 1:
                            self._check_step(session, batch)
                        if self._saver.save_if_due(session, batch.step + 1):
                            writer.flush()
                    else:
                        self._evaluate(session, batch, step_input, writer)
                if self._steps:
                    if not self._has_histograms:        # the run was shorter
                        self._add_histograms(writer, self._start_step + self._steps - 1)
                    self._saver.save(session, self._start_step + self._steps)
        except tf.errors.OpError as error:
            raise RunFailed(failure(self._model.name, error)) from error
        finally:
            if self._bar is not None:
                self._bar.close()
            writer.close()
        return Result(self._steps, self._start_step + self._steps, self._evaluation, self._stream.interrupted)

    def lost(self) -> str:
        """What is lost if this process ends now, in a sentence. Other threads may call it at any moment."""
        step, saved = self._start_step + self._steps, self._saver.saved_step
        if step <= saved:
            return "no step is lost: the last checkpoint is after step %d" % saved if saved else "no step was trained"
        what = "1 step is lost" if step - saved == 1 else "%d steps are lost" % (step - saved)
        return what + (": the last checkpoint is after step %d" % saved if saved else ": there is no checkpoint")

    def _train(self, session: Any, batch: Batch, step_input: StepInput, writer: Any) -> None:
        if self._bar is None:
            self._open_bar(batch)
        model = self._model
        if not len(batch):          # all its samples were skipped, but the step counts
            session.run(model.pass_over)
        else:
            wanted = {"train": model.train, "loss": model.loss, "metrics": model.metrics}
            first_of_epoch = self._epoch_samples == 0
            if first_of_epoch and model.summaries is not None:
                wanted["summaries"] = model.summaries
            if step_input.put is not None:
                wanted["put"] = step_input.put
            got = session.run(wanted, {model.training: True, **step_input.feed})
            means = _means(got["loss"], got["metrics"])
            self._check_finite(means["loss"], "the loss is %s", batch)
            self._smoothed = means if first_of_epoch else {
                name: 0.9 * self._smoothed[name] + 0.1 * value for name, value in means.items()}
            if "summaries" in got:
                writer.add_summary(got["summaries"], batch.step)
            if (batch.step + 1) % SUMMARY_STEPS == 0:
                self._summarise(writer, batch, means)
        self._steps += 1
        self._samples += len(batch)
        self._epoch_samples += len(batch)
        begun_s, waited_s = self._epoch_begun
        waiting_share = (self._stream.waited_s - waited_s) / max(1e-9, time.monotonic() - begun_s)
        shown = [(name, text_of(value, 3)) for name, value in self._smoothed.items()]
        self._bar.set_postfix(OrderedDict(shown + [("waiting", "%.0f%%" % (100 * waiting_share))]), refresh=False)
        self._bar.update(len(batch.indices))

    def _evaluate(self, session: Any, batch: Batch, step_input: StepInput, writer: Any) -> None:
        if len(batch):
            loss, metrics = _run_without_hooks(session, [self._model.loss, self._model.metrics], step_input.feed)
            self._evaluated.append((len(batch), _means(loss, metrics)))
            self._check_finite(float(loss), "the validation loss is %s", batch)
            self._samples += len(batch)
        self._evaluations += 1
        if self._evaluations < self._stream.plan.evaluations_per_epoch:
            return
        evaluated, self._evaluated, self._evaluations = self._evaluated, [], 0
        rates_of_evaluation, self._marked = self._rates_since(self._evaluation_marked, 1), self._mark()
        if evaluated:
            count = sum(samples for samples, _ in evaluated)
            self._evaluation = {name: sum(samples * means[name] for samples, means in evaluated) / count
                                for name in evaluated[0][1]}
            _add_scalars(writer, batch.step, {
                **{"validation/" + name: value for name, value in self._evaluation.items()},
                **rates_of_evaluation})
            print("epoch %d: validation %s (%d samples)" % (batch.epoch + 1, listed(self._evaluation), count),
                  flush=True)

    def _check_finite(self, loss: float, what: str, batch: Batch) -> None:
        """Warns of the first loss that is NaN or infinite."""
        if self._is_finite and not math.isfinite(loss):
            self._is_finite = False
            log.warning(what + " at step %d, in epoch %d: usual causes are a high learning rate, a logarithm of 0 or a "
                        "division by 0 in the model, and NaN in the data", loss, batch.step, batch.epoch + 1)

    def _summarise(self, writer: Any, batch: Batch, means: Dict[str, float]) -> None:
        _add_scalars(writer, batch.step, {
            **{"train/" + name: value for name, value in means.items()}, **self._rates_since(self._marked, 0)})
        self._marked = self._mark()
        if (batch.step + 1) % HISTOGRAM_STEPS == 0:
            self._add_histograms(writer, batch.step)

    def _add_histograms(self, writer: Any, step: int) -> None:
        self._has_histograms = True
        writer.add_summary(self._stage_times.histograms(), step)

    def _mark(self) -> Tuple[float, float, int]:
        """Time, waiting time and samples so far."""
        return time.monotonic(), self._stream.waited_s, self._samples

    def _rates_since(self, mark: Tuple[float, float, int], which: int) -> Dict[str, float]:
        """Rate and share of time waiting since ``mark``, by tag; ``which``: 0 in training, 1 in an evaluation."""
        seconds, waited_s, samples = (after - before for after, before in zip(self._mark(), mark))
        seconds = max(1e-9, seconds)
        return {rates("%s_per_s" % self._unit)[which]: samples / seconds,
                rates("waiting_share")[which]: waited_s / seconds}

    def _check_step(self, session: Any, batch: Batch) -> None:
        """Raises ConfigError unless each step so far has incremented global_step by one."""
        step = int(_run_without_hooks(session, self._model.global_step, {}))
        if step != batch.step + 1:
            raise ConfigError('after step %d, the "train" op of the model %s has left global_step at %d: each step '
                              "must increment it exactly once, so give global_step to at most one minimize()"
                              % (batch.step + 1, self._model.name, step))

    def _end_of_epoch(self, batch: Batch) -> None:
        whole = batch.epoch * self._stream.plan.steps_per_epoch >= self._start_step      # done by this process
        if whole and self._epoch_samples == 0:
            raise DatasetError("not one sample of epoch %d could be used; %s/bad-samples.tsv names the bad files"
                               % (batch.epoch + 1, self._saver.folder.path))
        self._bar.close()
        self._bar = None
        self._evaluation_marked = self._mark()

    def _open_bar(self, batch: Batch) -> None:
        plan = self._stream.plan
        in_epoch = batch.step % plan.steps_per_epoch
        last = batch.step - in_epoch + plan.steps_per_epoch - 1
        total = (plan.steps_per_epoch - 1) * plan.batch_size + len(plan.training_indices(last))
        self._bar = open_bar(total, self._unit, "epoch %d/%d" % (batch.epoch + 1, plan.epochs),
                             in_epoch * plan.batch_size)
        self._epoch_begun = time.monotonic(), self._stream.waited_s
        self._epoch_samples = 0


def listed(means: Dict[str, float]) -> str:
    """The values by name in a sentence, the loss last: "accuracy 0.9375, loss 0.2014"."""
    names = sorted(means, key=lambda name: name == "loss")
    return ", ".join("%s %s" % (name, text_of(means[name], 4)) for name in names)


def text_of(value: float, digits: int) -> str:
    """``value`` with so many digits after the point, unless it is too small or too large for that."""
    return ("%.*f" if value == 0 or 10.0 ** -digits <= abs(value) < 1e6 else "%.*g") % (digits, value)


def _means(loss: Any, metrics: Dict[str, Any]) -> Dict[str, float]:
    return {"loss": float(loss), **{name: float(value) for name, value in metrics.items()}}


def _run_without_hooks(session: Any, fetches: Any, feed: Dict[Any, Any]) -> Any:
    """For what is no training step, so that the session neither counts it nor saves a checkpoint after it."""
    return session.run_step_fn(lambda step_context: step_context.session.run(fetches, feed))


def _add_scalars(writer: Any, step: int, values: Any) -> None:
    writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value)
                                         for tag, value in sorted(values.items())]), step)
