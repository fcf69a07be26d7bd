"""A model function, the user's own or a built-in one, as the TF 1.9 graph that the training loop runs.

    def model(arrays, training):
        angle = tf.layers.dense(tf.layers.flatten(arrays["image"] / 255), 1)[:, 0]
        error = angle - arrays["steering"]
        return {"loss": tf.reduce_mean(error ** 2), "metrics": {"degrees": tf.reduce_mean(tf.abs(error))},
                "predictions": angle}

``arrays``: {name: tensor [None, ...]} of the batch's arrays and their "NAME.sizes"; a side ``UpTo`` is None.
``training``: a bool tensor, True in a training step, False in the evaluation and in prediction. It is no Python bool,
because one graph serves all three: ``tf.layers.dropout(x, training=training)``. The function returns a dict:

    loss         a float scalar: mean over the batch
    metrics      optional: {name: scalar}, each a mean over the batch, for progress, evaluation and TensorBoard
    train        optional: the op, or a list of ops, of one training step; without it, Adam minimizes the loss with a
                 learning rate of 0.001, after the ops in tf.GraphKeys.UPDATE_OPS: those of tf.layers (the moving
                 averages of a batch normalization) are in there, those of tf.keras.layers are not
    predictions  optional: a tensor [n, ...], for stoker-predict
"""

import os
import re
import sys
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import tensorflow as tf

from stoker.pipeline.arrays import ArraySpec, UpTo, framed
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import load_function
from stoker.trainer.staging import Stage, stage

ModelFunction = Callable[[Dict[str, Any], Any], Dict[str, Any]]

LEARNING_RATE = 0.001
STOKER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "")    # this folder
KEYS = ("loss", "metrics", "train", "predictions")
#: Ops that hand on a reference to a variable, into a tf.cond or tf.while_loop.
REFERENCES = ("RefSwitch", "RefEnter", "RefIdentity", "Switch", "Enter")


class Model(NamedTuple):
    """The tensors and ops that the training loop runs."""
    name: str                      # for sentences
    arrays: Dict[str, Any]         # to feed: a tensor for each array of a batch
    training: Any                  # to feed: True in a training step
    loss: Any                      # float: mean over the batch
    metrics: Dict[str, Any]        # scalars: means over the batch
    predictions: Optional[Any]     # [n, ...], or None
    train: Any                     # one training step; increments global_step
    pass_over: Any                 # increments global_step for a step without samples
    global_step: Any
    summaries: Optional[Any]       # the model's own tf.summary ops, merged
    stage: Optional[Stage] = None  # provides arrays that are not fed


def load(name: str) -> ModelFunction:
    """The model function called ``name``, module:function. Raises ConfigError."""
    function = load_function(name)
    if not callable(function) or isinstance(function, type):
        raise ConfigError("--model %s: %s is no function: it must be def model(arrays, training), which returns a dict"
                          % (name, name.rpartition(":")[2]))
    return function


def build(specs: Tuple[ArraySpec, ...], function: ModelFunction, name: str = "built-in", staged: bool = False) -> Model:
    """Builds the graph of ``function``, called ``name``, for batches of ``specs`` in the default graph, with a stage
    before it if ``staged``. Raises ConfigError if the function fails, or returns what is no model."""
    global_step = tf.train.get_or_create_global_step()
    arrays = {spec.name: _placeholder(spec) for spec in framed(specs)}
    placed: Optional[Stage] = None
    if staged:
        placed, arrays = stage(arrays)
    training = tf.placeholder_with_default(False, (), "training")
    returned = _checked(name, _called(name, function, dict(arrays), training))
    loss, train = returned["loss"], returned.get("train")
    if train is None:
        train = _adam(name, loss, global_step)
    elif not _changes(train, global_step):
        with tf.control_dependencies([train]):
            train = tf.assign_add(global_step, 1).op
    return Model(name, arrays, training, loss, returned.get("metrics") or {}, returned.get("predictions"), train,
                 tf.assign_add(global_step, 1), global_step, tf.summary.merge_all(), placed)


def failure(name: str, error: tf.errors.OpError) -> str:
    """A sentence on the model ``name``, whose graph failed with ``error`` while it ran."""
    op, what = error.op, "%s: %s" % (type(error).__name__, (error.message or "").split("\n")[0])
    if op is not None and op.type.startswith(("Save", "MergeV2", "ShardedFilename")):
        return "the checkpoint cannot be written: " + what
    own = [] if op is None else [frame for frame in op.traceback if not _is_library(frame[0])]
    return "the model %s failed%s: %s" % (name, " in %s, line %d" % own[-1][:2] if own else "", what)


def _is_library(file: str) -> bool:
    """Whether the file is one of an installed package, or of Stoker, and not the user's own."""
    return "site-packages" in file.split(os.sep) or os.path.realpath(file).startswith(STOKER)


def _placeholder(spec: ArraySpec) -> Any:
    shape = [None] + [None if isinstance(side, UpTo) else side for side in spec.shape]
    name = re.sub("[^A-Za-z0-9.]", "_", spec.name).lstrip("_") or "array"
    return tf.placeholder(tf.as_dtype(spec.dtype), shape, name)


def _called(name: str, function: ModelFunction, arrays: Dict[str, Any], training: Any) -> Any:
    try:
        return function(arrays, training)
    except Exception as error:
        frames = traceback.extract_tb(sys.exc_info()[2])[1:]      # without this function
        own = [frame for frame in frames if not _is_library(frame.filename)]
        where = "%s, line %s" % (own[-1].filename, own[-1].lineno) if own else "its call model(arrays, training)"
        hint = (", but training is a tensor: use tf.cond(training, ...), or layers that take training=training"
                if "tf.Tensor` as a Python `bool`" in str(error) else "")
        if isinstance(error, KeyError) and error.args and error.args[0] not in arrays:
            hint = "; the arrays are %s" % ", ".join(arrays)
        raise ConfigError("the model %s failed in %s: %s: %s%s" % (
            name, where, type(error).__name__, str(error).splitlines()[0] if str(error) else "", hint)) from error


def _checked(name: str, returned: Any) -> Dict[str, Any]:
    """What the model function returned, with tensors for loss, metrics and predictions, and one op for train."""
    if not isinstance(returned, dict):
        raise ConfigError('the model %s must return a dict such as {"loss": loss}, not %.100r' % (name, returned))
    unknown = sorted(repr(key) for key in returned if key not in KEYS)
    if unknown:
        raise ConfigError("the model %s returned the unknown %s: it may return %s" % (
            name, ", ".join(unknown), ", ".join(KEYS)))
    if returned.get("loss") is None:
        raise ConfigError('the model %s returned no loss: return {"loss": a scalar tensor, ...}' % name)
    checked = dict(returned, loss=_scalar(name, "loss", returned["loss"]))
    if not checked["loss"].dtype.is_floating:
        raise ConfigError("the loss of the model %s is %s: it must be a float" % (name, checked["loss"].dtype.name))
    metrics = returned.get("metrics") or {}
    if not isinstance(metrics, dict) or not all(isinstance(key, str) and key and key != "loss" for key in metrics):
        raise ConfigError('the metrics of the model %s must be a dict of scalars such as {"accuracy": tensor}, none of '
                          "them called loss, not %.100r" % (name, metrics))
    checked["metrics"] = {key: _scalar(name, "metric %r" % key, value) for key, value in metrics.items()}
    predictions = returned.get("predictions")
    if predictions is not None and (not isinstance(predictions, tf.Tensor) or predictions.shape.ndims == 0):
        raise ConfigError("the predictions of the model %s must be a tensor with a row for each sample, not %.100r"
                          % (name, predictions))
    if returned.get("train") is not None:
        checked["train"] = _grouped(name, returned["train"])
    return checked


def _scalar(name: str, what: str, value: Any) -> Any:
    if isinstance(value, tuple):
        raise ConfigError("the %s of the model %s is a tuple: Stoker averages over the batches itself, so return a "
                          "scalar of the batch, such as tf.reduce_mean(...), and nothing of tf.metrics" % (what, name))
    if not isinstance(value, tf.Tensor):
        raise ConfigError("the %s of the model %s must be a scalar tensor, not %.100r" % (what, name, value))
    if value.shape.ndims != 0:
        raise ConfigError("the %s of the model %s has the shape %s: it must be a scalar, such as tf.reduce_mean(...)"
                          % (what, name, value.shape))
    return value


def _grouped(name: str, train: Any) -> Any:
    """One op for ``train``, which is an op or a list of ops."""
    steps: List[Any] = list(train) if isinstance(train, (list, tuple)) else [train]
    if not steps or not all(isinstance(step, (tf.Operation, tf.Tensor)) for step in steps):
        raise ConfigError("the train of the model %s must be an op, such as optimizer.minimize(loss), or a list of "
                          "ops, not %.100r" % (name, train))
    return steps[0] if len(steps) == 1 else tf.group(*steps)


def _adam(name: str, loss: Any, global_step: Any) -> Any:
    if not tf.trainable_variables():
        raise ConfigError("the model %s has no trainable variables: use layers such as tf.layers.dense, or return a "
                          "train op of your own" % name)
    try:
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            return tf.train.AdamOptimizer(learning_rate=LEARNING_RATE).minimize(loss, global_step=global_step)
    except ValueError as error:
        raise ConfigError("the loss of the model %s cannot be minimized: %s" % (
            name, str(error).splitlines()[0])) from error


def _changes(train: Any, variable: Any) -> bool:
    """Whether ``train`` runs an op that assigns to ``variable``."""
    home = (variable.handle if hasattr(variable, "handle") else variable).op
    waiting, seen = [train if isinstance(train, tf.Operation) else train.op], set()
    while waiting:
        op = waiting.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type.startswith("Assign") and op.inputs:
            target = op.inputs[0].op
            while target.type in REFERENCES:
                target = target.inputs[0].op
            if target is home:
                return True
        waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return False
