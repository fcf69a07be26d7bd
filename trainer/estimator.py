"""A stream as the ``input_fn`` of a ``tf.estimator.Estimator``.

An Estimator makes a new graph and a new session for each ``train``, ``evaluate`` and ``predict``, and tells an input_fn
of neither the session's begin nor its end. But every session of an Estimator calls the queue runners of its graph once
the variables are restored, and joins their threads when it closes, after an error and Ctrl-C too. So a queue runner
reads the step to begin with, and its thread closes the stream. The batches themselves do not go through a queue: an
operation of the graph takes each from the stream, so a step takes exactly one.

Several ranks may get their variables from one of them, by a hook, and hooks run after the queue runners. So with ranks,
the first step itself reads the step to begin with.
"""

import inspect
import sys
import threading
from dataclasses import replace
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from stoker.pipeline.arrays import ArraySpec, framed
from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.stream import BatchStream
from stoker.trainer.dataset import shape_of
from stoker.trainer.feed import log_left_out, open_stream
from stoker.trainer.recovery import recover
from stoker.trainer.run import prepare
from stoker.trainer.sides import Names, check_names, check_parts, flat, not_empty

TRAIN = tf.estimator.ModeKeys.TRAIN
#: Options of open_stream that say how the data is read; it is read once.
OF_DATA = ("root", "classes", "labels", "label_word", "validation", "validation_split", "exclude", "suffixes")
#: Options of a training. The two files have a line for each step, and an evaluation has other steps.
OF_TRAINING = ("epochs", "order", "audit", "bad_samples", "killers", "record")


def input_fn(data: Any, generator: Any = "image", *, features: Names, labels: Union[Names, None, bool] = None,
             training: Optional[bool] = None, **options: Any) -> Callable[..., Tuple[Any, Any]]:
    """The ``input_fn`` of an Estimator. It opens a stream for each ``train``, ``evaluate`` and ``predict``, with its
    workers, and closes it at their end, however they end:

        input_fn = stoker.input_fn("photos", image_size=64, batch_size=32, epochs=5, validation=0.2,
                                   features=["images"], labels="labels")
        estimator.train(input_fn)
        estimator.evaluate(input_fn)

    ``data``, ``generator`` and ``options`` are those of ``open_stream``, without ``start_step``. ``features`` and
    ``labels``: names of arrays; "NAME.sizes" is one too. A name alone gives a tensor, several names give a dict {name:
    tensor}, and {"key": "array's name"} gives a dict with your keys. Tensors have dtype and shape [None, ...] as
    declared, and are the batches' own memory. ``labels`` None: features alone; False: the folder has no classes.

    ``train`` takes the plan's steps, each batch once, and begins at the ``global_step`` that the session restored from
    its checkpoint. So the model must count each batch as one step. ``evaluate`` and ``predict`` take one pass over all
    samples (``drop_last``: those of full batches), in order, without ``epochs``, ``order``, ``audit``, ``bad_samples``,
    ``killers``, ``record``.
    With ``validation``, they take its part of the data, and ``train`` takes the rest. ``training`` True or False: all
    do as ``train``, or as ``evaluate``. ``predict`` yields nothing for a bad file: give ``on_bad_image="raise"``, or
    let the function return ``sample.index`` as an array, which is a feature, and then a prediction, too.

    With ``ranks``, all of these take the rank's part of each batch, in evaluations too: let one rank evaluate by an
    input_fn without them.

    Raises ConfigError, DatasetError at once. ``train`` raises RunFailed if a batch cannot be produced, DatasetError if
    all samples of a batch were skipped, and ConfigError if the checkpoint is of a longer run. Ctrl-C takes effect when
    the step's batch is there: until then TensorFlow waits.
    """
    if "start_step" in options:
        raise ConfigError("an input_fn begins at the global_step of the Estimator's checkpoint: leave out start_step")
    if isinstance(labels, bool):
        labels, options = None, dict(options, labels=labels)
    known = inspect.signature(open_stream).parameters
    StreamOptions(**{name: value for name, value in options.items() if name not in known})      # so that it raises now
    of_run = inspect.signature(prepare).parameters
    run = prepare(data, generator, **{name: value for name, value in options.items() if name in of_run})
    log_left_out(data, run.source)
    log_left_out(options.get("validation"), run.datasets.validation)
    for of_training in (run.plan.training, False):
        check_parts(run.plan, of_training, "an Estimator")

    def open_at(trains: bool, step: int) -> BatchStream:
        left_out = OF_DATA if trains else OF_DATA + OF_TRAINING
        kept = {name: value for name, value in options.items() if name not in left_out}
        if not trains and kept.get("on_bad_image") == "replace":
            kept["on_bad_image"] = "skip"
        part = run.datasets.of(trains or not len(run.datasets.validation))
        if isinstance(part, Dataset):
            part = replace(part, left_out=())        # logged once, above
        return open_stream(part, generator, training=trains, start_step=step, **kept)

    return input_fn_of(open_at, run.job.arrays, features, labels, training, run.plan.ranks)


def input_fn_of(open_at: Callable[[bool, int], BatchStream], arrays: Tuple[ArraySpec, ...], features: Names,
                labels: Optional[Names] = None, training: Optional[bool] = None, ranks: int = 1
                ) -> Callable[..., Tuple[Any, Any]]:
    """The input_fn of the streams that ``open_at(trains, step)`` opens, whose batches hold ``arrays``."""
    specs = framed(arrays)
    check_names(specs, "features", features)
    check_names(specs, "labels", () if labels is None else labels)
    wanted = flat(features) + flat(labels or ())
    specs = tuple(spec for spec in specs if spec.name in wanted)

    def make(mode: str = TRAIN, config: Optional[tf.estimator.RunConfig] = None) -> Tuple[Any, Any]:
        trains = mode == TRAIN if training is None else training
        if mode == TRAIN and config is not None:
            recover(config.model_dir)           # before the Estimator looks for a checkpoint
        source = _Source(lambda step: open_at(trains, step), [spec.name for spec in specs],
                         tf.train.get_global_step() if trains else None)
        # The queue stays empty. A graph that is saved names the queue of each of its queue runners.
        runner = tf.train.QueueRunner(tf.FIFOQueue(1, [tf.int32], [()]), [tf.no_op()])
        runner.create_threads = source.begin
        tf.train.add_queue_runner(runner)
        steps = [tf.train.get_global_step()] if trains and ranks > 1 else []
        taken = tf.py_func(source.take, steps, [tf.as_dtype(spec.dtype) for spec in specs], name="stoker")
        tensors = {}
        for spec, tensor in zip(specs, taken):
            tensor.set_shape(shape_of(spec))
            tensors[spec.name] = tensor
        return _structured(tensors, features), None if labels is None else _structured(tensors, labels)

    return make


def _structured(tensors: Mapping[str, tf.Tensor], names: Names) -> Any:
    if isinstance(names, str):
        return tensors[names]
    if isinstance(names, Mapping):
        return {key: tensors[name] for key, name in names.items()}
    return {name: tensors[name] for name in names}


class _Source:
    """Opens a stream when the first batch is taken in a session, and closes it when the session is about to end."""

    def __init__(self, open_at: Callable[[int], BatchStream], names: Sequence[str],
                 global_step: Optional[tf.Tensor]) -> None:
        """``open_at(step)`` opens the stream. ``global_step`` None: it begins at 0."""
        self._open_at, self._names, self._global_step = open_at, names, global_step
        self._current: Optional[_Open] = None

    def begin(self, sess: tf.Session, coord: Optional[tf.train.Coordinator] = None, daemon: bool = False,
              start: bool = False) -> List[threading.Thread]:
        """TensorFlow calls this at the begin of a session, after it restored the variables."""
        if coord is None:
            raise ConfigError("an input_fn of Stoker is for an Estimator, whose sessions have a coordinator: it closes "
                              "the stream")
        step = 0 if self._global_step is None else int(sess.run(self._global_step))
        self._current = _Open(self._open_at, coord, step)
        return []

    def take(self, step: Optional[int] = None) -> List[np.ndarray]:
        """The arrays of the next batch. The graph calls this in each step, from any thread. ``step``: the global_step;
        None: as it was at the begin of the session."""
        assert self._current is not None, "TensorFlow starts the queue runners of a session before its first step"
        batch = self._current.take(step)
        return [batch[name] for name in self._names]


class _Open:
    """The stream of one session. It is opened by the first step, because a session may fail before it has a step, and
    then does not tell."""

    def __init__(self, open_at: Callable[[int], BatchStream], coordinator: tf.train.Coordinator, step: int) -> None:
        """``step``: to begin with, if the first step does not tell another."""
        self._open_at, self._coordinator, self._step = open_at, coordinator, step
        self._stream: Optional[BatchStream] = None
        self._opening = threading.Lock()

    def take(self, step: Optional[int] = None) -> Batch:
        """The next batch. StopIteration ends the input, as in every py_func. Errors go to the coordinator too: the
        session ends with the error itself, not with a tf.errors.UnknownError."""
        try:
            if not self._opening.acquire(blocking=False):
                raise RuntimeError("two threads run steps of one session at the same time while its stream is opened: "
                                   "let one thread run them all")
            try:
                stream = self._opened(self._step if step is None else int(step))
            finally:
                self._opening.release()
            return not_empty(next(stream), "an Estimator")
        except StopIteration:
            raise
        except Exception:
            self._coordinator.request_stop(sys.exc_info())
            raise

    def _opened(self, step: int) -> BatchStream:
        if self._stream is None:
            self._stream = self._open_at(step)
            thread = threading.Thread(target=self._close_on_stop, name="stoker-input", daemon=True)
            self._coordinator.register_thread(thread)      # the session waits for it at its end
            thread.start()
        return self._stream

    def _close_on_stop(self) -> None:
        assert self._stream is not None
        self._coordinator.wait_for_stop()
        self._stream.interrupt()                               # a step may still wait for its batch
        self._stream.close()
