"""The training loop: takes batches; does steps, evaluations, checkpoints and summaries."""

import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import tensorflow as tf
from tqdm import tqdm

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.stream import BatchStream
from stoker.trainer.model import Model
from stoker.trainer.staging import StepInput, feed_direct, feed_staged

SUMMARY_STEPS = 10
LINE_INTERVAL_S = 5.0     # between two lines of progress, if standard error is no terminal


class Result(NamedTuple):
    """The result of a run, in this process."""
    steps: int
    images: int                  # in training and evaluation together
    images_per_s: float
    waiting_share: float         # of the time, 0..1: the loop waited for data
    accuracy: Optional[float]    # of the last evaluation; None if there was none
    stopped: bool                # it was asked to stop before the end


class _Lines:
    """Writes each state of the progress bar as a line, because log files and ``docker-compose up`` show only those."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Loop:
    """Trains ``model`` on ``stream`` to its end, or until it is interrupted, and then writes a checkpoint."""

    def __init__(self, stream: BatchStream, model: Model, start_step: int, checkpoint_dir: str,
                 checkpoint_secs: float) -> None:
        self._stream, self._model = stream, model
        self._start_step, self._checkpoint_dir, self._checkpoint_secs = start_step, checkpoint_dir, checkpoint_secs
        self._bar: Any = None
        self._evaluated: List[Tuple[int, int, float]] = []      # samples, correct ones and loss of each batch
        self._accuracy: Optional[float] = None
        self._steps = self._images = 0
        self._epoch_images = 0             # trained on in the current epoch, by this process
        self._epoch_begun = (0.0, 0.0)     # time and waiting time when the bar was opened
        self._marked = (0.0, 0.0, 0)       # time, waiting time and images at the last summary
        self._loss = 0.0                   # smoothed, for the bar

    def run(self) -> Result:
        """Trains to the end of the stream. Raises DatasetError if no sample of an epoch could be decoded."""
        saver = tf.train.Saver(save_relative_paths=True)    # the folder may be moved later
        start, waited_before = time.monotonic(), self._stream.waited_s
        self._marked = (start, waited_before, 0)
        # the writer that the session uses: two writers begun in the same second would write to the same file
        writer = tf.summary.FileWriterCache.get(self._checkpoint_dir)
        # makes TensorBoard discard steps after the checkpoint, which an earlier run may have written
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), self._start_step)
        feed = feed_direct if self._model.stage is None else feed_staged
        try:
            with tf.train.MonitoredTrainingSession(
                    checkpoint_dir=self._checkpoint_dir, scaffold=tf.train.Scaffold(saver=saver),
                    save_summaries_steps=None, save_summaries_secs=None, log_step_count_steps=None,
                    save_checkpoint_secs=self._checkpoint_secs) as session:
                for step_input in feed(self._model, self._stream):
                    batch = step_input.batch
                    if batch is None:           # stages the first batch of the run, or of an epoch
                        _run_without_hooks(session, step_input.put, step_input.feed)
                    elif batch.training:
                        self._train(session, batch, step_input, writer)
                        if (batch.step + 1) % self._stream.plan.steps_per_epoch == 0:
                            session.run_step_fn(lambda step_context: saver.save(
                                step_context.session, self._checkpoint_dir + "/model.ckpt", self._model.global_step))
                            self._end_of_epoch(batch)
                    else:
                        self._evaluate(session, batch, step_input, writer)
        finally:
            if self._bar is not None:
                self._bar.close()
            writer.close()
        seconds = max(1e-9, time.monotonic() - start)
        return Result(self._steps, self._images, self._images / seconds,
                      (self._stream.waited_s - waited_before) / seconds, self._accuracy, self._stream.interrupted)

    def _train(self, session: Any, batch: Batch, step_input: StepInput, writer: Any) -> None:
        if self._bar is None:
            self._open_bar(batch)
        model = self._model
        if not len(batch):          # all its samples were skipped, but the step counts
            session.run(model.pass_over)
        else:
            wanted = {"train": model.train, "loss": model.loss, "correct": model.correct}
            first_of_epoch = self._epoch_images == 0
            if first_of_epoch and model.pictures is not None:
                wanted["pictures"] = model.pictures
            if step_input.put is not None:
                wanted["put"] = step_input.put
            got = session.run(wanted, step_input.feed)
            self._loss = got["loss"] if first_of_epoch else 0.9 * self._loss + 0.1 * float(got["loss"])
            if "pictures" in got:
                writer.add_summary(got["pictures"], batch.step)
            if (batch.step + 1) % SUMMARY_STEPS == 0:
                self._summarise(writer, batch, float(got["loss"]), int(got["correct"]) / len(batch))
        self._steps += 1
        self._images += len(batch)
        self._epoch_images += len(batch)
        begun_s, waited_s = self._epoch_begun
        waiting_share = (self._stream.waited_s - waited_s) / max(1e-9, time.monotonic() - begun_s)
        self._bar.set_postfix(loss="%.3f" % self._loss, waiting="%.0f%%" % (100 * waiting_share), refresh=False)
        self._bar.update(len(batch.indices))

    def _evaluate(self, session: Any, batch: Batch, step_input: StepInput, writer: Any) -> None:
        if len(batch):
            correct, loss = _run_without_hooks(session, [self._model.correct, self._model.loss], step_input.feed)
            self._evaluated.append((len(batch), int(correct), float(loss) * len(batch)))
            self._images += len(batch)
        if batch.indices[-1] + 1 < self._stream.plan.validation_size:
            return
        if self._evaluated:
            count, correct, loss = (sum(column) for column in zip(*self._evaluated))
            self._evaluated, self._accuracy, loss = [], correct / count, loss / count
            _add_scalars(writer, batch.step, {"validation/accuracy": self._accuracy, "validation/loss": loss})
            print("epoch %d: validation accuracy %.4f, loss %.4f (%d samples)" % (
                batch.epoch + 1, self._accuracy, loss, count), flush=True)

    def _summarise(self, writer: Any, batch: Batch, loss: float, accuracy: float) -> None:
        now, waited, images = time.monotonic(), self._stream.waited_s, self._images
        seconds = max(1e-9, now - self._marked[0])
        _add_scalars(writer, batch.step, {"train/loss": loss, "train/accuracy": accuracy,
                                          "feed/images_per_s": (images - self._marked[2]) / seconds,
                                          "feed/waiting_share": (waited - self._marked[1]) / seconds})
        self._marked = (now, waited, images)

    def _end_of_epoch(self, batch: Batch) -> None:
        whole = batch.epoch * self._stream.plan.steps_per_epoch >= self._start_step      # done by this process
        if whole and self._epoch_images == 0:
            raise DatasetError("not one sample of epoch %d could be decoded: %s/bad-samples.tsv names the files"
                               % (batch.epoch + 1, self._checkpoint_dir))
        self._bar.close()
        self._bar = None

    def _open_bar(self, batch: Batch) -> None:
        plan = self._stream.plan
        done = batch.step % plan.steps_per_epoch * plan.batch_size
        self._bar = tqdm(total=plan.train_size, initial=done, unit=" images",
                         desc="epoch %d/%d" % (batch.epoch + 1, plan.epochs), dynamic_ncols=True,
                         **({} if sys.stderr.isatty() else {"file": _Lines(), "mininterval": LINE_INTERVAL_S}))
        self._epoch_begun = time.monotonic(), self._stream.waited_s
        self._epoch_images = 0


def _run_without_hooks(session: Any, fetches: Any, feed: Dict[Any, Any]) -> Any:
    """For what is no training step, so that the session neither counts it nor saves a checkpoint after it."""
    return session.run_step_fn(lambda step_context: step_context.session.run(fetches, feed))


def _add_scalars(writer: Any, step: int, values: Any) -> None:
    writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value)
                                         for tag, value in sorted(values.items())]), step)
