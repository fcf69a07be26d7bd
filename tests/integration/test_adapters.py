"""Keras, tf.data and Estimator on the same stream: the losses of a feed_dict, the batches' own memory, one order."""

import importlib
import multiprocessing.util
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.made import made_stream
from stoker.pipeline.arrays import ITEM_BYTES, UpTo, declared
from stoker.pipeline.coordinator.buffers import ALIGNMENT, BufferPool
from stoker.pipeline.errors import ConfigError, DatasetError, RunFailed
from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated

tf = pytest.importorskip("tensorflow")

import stoker  # noqa: E402
from stoker.trainer import estimator as estimator_module  # noqa: E402
from stoker.trainer.dataset import dataset  # noqa: E402
from stoker.trainer.estimator import input_fn  # noqa: E402
from stoker.trainer.keras import keras  # noqa: E402
from tests.support.processes import wait_for  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:inspect.getargspec")

BATCH_SIZE, EPOCHS = 4, 3
TRAINING, VALIDATION = 10, 6       # an epoch: three training steps, the last of two samples, and two evaluation batches
STEPS, EVALUATIONS = 3, 2
ARRAYS = declared({"image": ("uint8", (6, 5, 3)), "boxes": ("float32", (UpTo(4), 4)), "label": ("float32", (1,)),
                   "weight": "float32"})


def threads(number):
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=number,
                          use_per_session_threads=True)


#: With more, an optimizer changes one weight while the gradient of another one reads it.
ONE_THREAD = threads(1)
#: What waits for a batch that is read ahead takes one.
TWO_THREADS = threads(2)


def arrays_of(planned):
    """A function of the samples' indices, and another one for evaluation."""
    rows, pool = np.array(planned.indices) + 100 * (not planned.training), BufferPool(1)

    def array(shape, dtype, value):
        made = pool.empty((len(rows),) + shape, np.dtype(dtype))
        made[...] = value
        return made
    pixels = (rows[:, None, None, None] * 37 + np.arange(90).reshape(6, 5, 3) * 11) % 251
    longest = int(rows.max() % 4) + 1
    return (array((6, 5, 3), "uint8", pixels), array((longest, 4), "float32", 0.5),
            array((1,), "float32", rows[:, None] % 2), array((), "float32", 1 + rows % 3),
            array((), "int32", 1))


def opened(start_step=0, validation=VALIDATION, make=arrays_of, epochs=EPOCHS, arrays=ARRAYS, training=True):
    plan = Plan(TRAINING, BATCH_SIZE, epochs, 7, validation, training=training)
    return made_stream(make, JobOptions("my:function", batch_size=BATCH_SIZE, declared=arrays), plan, start_step)


def loss_of(image, label):
    """The loss of a small network, the same wherever it is built."""
    x = tf.layers.flatten(tf.to_float(image) / 255.0)
    for number, units in enumerate((8, 1)):
        x = tf.layers.dense(x, units, tf.nn.tanh if units > 1 else None,
                            kernel_initializer=tf.glorot_uniform_initializer(seed=number))
    return tf.losses.sigmoid_cross_entropy(label, x)


def train_of(loss):
    return tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.get_or_create_global_step())


def fed_losses(stream):
    """The losses of a training with feed_dict: of each training batch, and of each evaluation batch."""
    with tf.Graph().as_default():
        tf.set_random_seed(5)
        image, label = tf.placeholder(tf.uint8, (None, 6, 5, 3)), tf.placeholder(tf.float32, (None, 1))
        loss = loss_of(image, label)
        train = train_of(loss)
        losses = {True: [], False: []}
        with tf.Session(config=ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            for batch in stream:
                fetched = session.run([loss] + [train] * batch.training, batch.feed(image=image, label=label))
                losses[batch.training].append(fetched[0])
    return losses


# ---------------------------------------------------------------------------------------------------------- tf.data

def read_to_the_end(session, fetches):
    found = []
    while True:
        try:
            found.append(session.run(fetches))
        except tf.errors.OutOfRangeError:
            return found


def test_a_dataset_trains_to_the_losses_of_a_feed_dict():
    with tf.Graph().as_default(), tf.Session(config=ONE_THREAD) as session:
        tf.set_random_seed(5)
        batch = dataset(opened(validation=0)).make_one_shot_iterator().get_next()
        loss = loss_of(batch["image"], batch["label"])
        train = train_of(loss)
        session.run(tf.global_variables_initializer())
        losses = [fetched[0] for fetched in read_to_the_end(session, [loss, train])]
    assert len(losses) == EPOCHS * STEPS
    assert losses == fed_losses(opened(validation=0))[True]


def test_training_and_evaluation_take_turns_by_two_datasets():
    stream = opened()
    with tf.Graph().as_default(), tf.Session() as session:
        sides = [dataset(stream, training).make_initializable_iterator() for training in (True, False)]
        batches = [side.get_next() for side in sides]
        found = []
        for _ in range(EPOCHS):
            for side, batch in zip(sides, batches):
                session.run(side.initializer)
                found += [fetched["image"] for fetched in read_to_the_end(session, batch)]
        session.run(sides[0].initializer)
        assert read_to_the_end(session, batches[0]) == []              # all epochs are over
    assert len(found) == EPOCHS * (STEPS + EVALUATIONS)
    for got, batch in zip(found, opened()):
        np.testing.assert_array_equal(got, batch["image"])


def test_a_dataset_that_is_not_due_says_what_is():
    stream = opened()
    with tf.Graph().as_default(), tf.Session() as session:
        batch = dataset(stream, training=False).make_one_shot_iterator().get_next()
        with pytest.raises(tf.errors.UnknownError, match="evaluation batch was asked for, but training step 0 is due"):
            session.run(batch)


def test_an_empty_batch_ends_a_dataset_with_a_sentence():
    """Only in training: an evaluation changes no weights."""
    def make(planned):
        return tuple(array[:0] if planned.step == 1 or not planned.training else array for array in arrays_of(planned))
    with tf.Graph().as_default(), tf.Session() as session:
        batch = dataset(opened(make=make)).make_one_shot_iterator().get_next()
        assert len(session.run(batch)["image"]) == BATCH_SIZE
        with pytest.raises(tf.errors.UnknownError, match="step 1 in epoch 1 is empty, .* and a graph cannot compute"):
            session.run(batch)
        batch = dataset(opened(STEPS, make=make), training=False).make_one_shot_iterator().get_next()
        assert len(session.run(batch)["image"]) == 0


def test_a_dataset_has_the_declared_shapes_and_dtypes():
    with tf.Graph().as_default():
        made = dataset(opened())
        assert {name: shape.as_list() for name, shape in made.output_shapes.items()} == {
            "image": [None, 6, 5, 3], "boxes": [None, None, 4], "label": [None, 1], "weight": [None],
            "boxes.sizes": [None]}
        assert made.output_types["image"] == tf.uint8 and made.output_types["boxes.sizes"] == tf.int32
        batch = made.make_one_shot_iterator().get_next()
        with tf.Session() as session:
            for wanted in list(opened())[:STEPS]:
                got = session.run(batch)
                for name in wanted.names:
                    np.testing.assert_array_equal(got[name], wanted[name])


def test_a_prefetching_dataset_hands_out_the_same_and_loses_nothing():
    stream = opened()
    with tf.Graph().as_default(), tf.Session(config=TWO_THREADS) as session:
        sides = [dataset(stream, training).prefetch(4).make_initializable_iterator() for training in (True, False)]
        batches = [side.get_next() for side in sides]
        counts = []
        for _ in range(EPOCHS):
            for side, batch in zip(sides, batches):
                session.run(side.initializer)
                counts.append(len(read_to_the_end(session, batch)))
    assert counts == [STEPS, EVALUATIONS] * EPOCHS


def test_closing_a_stream_ends_the_wait_of_a_prefetching_dataset():
    stream = opened(make=lambda planned: arrays_of(planned) if planned.step == 0 else None)
    with tf.Graph().as_default(), tf.Session(config=TWO_THREADS) as session:
        batch = dataset(stream).prefetch(2).make_one_shot_iterator().get_next()
        session.run(batch)
        stream.close()
        with pytest.raises(tf.errors.UnknownError, match="the stream is closed"):
            session.run(batch)


# ------------------------------------------------------------------------------------------------- memory and dtypes

ALL_DTYPES = declared({dtype: (dtype, (5,)) for dtype in ITEM_BYTES})


def ones(made):
    def make(planned):
        pool = BufferPool(1)
        arrays = tuple(pool.empty((len(planned.indices), 5), np.dtype(spec.dtype)) for spec in ALL_DTYPES)
        for array in arrays:
            array[...] = 1
        made.append(arrays)
        return arrays
    return make


def written_after_it_was_handed_over(session, enqueue, dequeue, arrays, feed=None):
    """Whether the graph sees what is written into ``arrays`` after they went into its queue."""
    session.run(enqueue, feed)
    for array in arrays:
        assert array.ctypes.data % ALIGNMENT == 0
        array[...] = 0
    return [not got.any() for got in session.run(dequeue)]


def batch_of(way, stream, estimators):
    """The tensors of a batch, by name, and what must be fed."""
    names = [spec.name for spec in ALL_DTYPES]
    if way == "dataset":
        return dataset(stream).make_one_shot_iterator().get_next(), None
    if way == "input_fn":
        estimators.streams.append(stream)
        return estimators.input_fn(features=names)()[0], None
    batch = {name: tf.placeholder(name, (None, 5)) for name in names}
    return batch, next(stream).feed(**batch)


@pytest.mark.parametrize("way", ["feed_dict", "dataset", "input_fn"])
def test_all_dtypes_get_into_the_graph_without_a_copy(way, estimators):
    """The graph sees what is written into an array after it went into a queue of the graph."""
    made, estimators.arrays = [], ALL_DTYPES
    with tf.Graph().as_default():
        tf.train.create_global_step()
        batch, feed = batch_of(way, opened(make=ones(made), arrays=ALL_DTYPES), estimators)
        queue = tf.FIFOQueue(1, [batch[spec.name].dtype for spec in ALL_DTYPES])
        enqueue, dequeue = queue.enqueue([batch[spec.name] for spec in ALL_DTYPES]), queue.dequeue()
        assert [tensor.dtype.name for tensor in dequeue] == [spec.name for spec in ALL_DTYPES]
        with tf.train.MonitoredSession() as session:
            session.run(enqueue, feed)
            for array in made[0]:
                assert array.ctypes.data % ALIGNMENT == 0
                array[...] = 0
            assert [got.any() for got in session.run(dequeue)] == [False] * len(ALL_DTYPES)


@pytest.mark.parametrize("way", ["keras", "dataset", "input_fn"])
def test_the_memory_of_a_batch_is_used_again_when_it_was_trained_on(way, estimators):
    """As soon as nothing refers to it: an adapter that kept batches would make the pool take new memory."""
    arrays, places, pool, steps = declared({"x": ("uint8", (1 << 16,))}), [], BufferPool(8), 8 * STEPS

    def make(planned):
        array = pool.empty((len(planned.indices), 1 << 16), np.dtype("uint8"))
        places.append(array.ctypes.data)
        return array,
    stream = opened(make=make, arrays=arrays, validation=0, epochs=8)
    estimators.arrays, estimators.streams = arrays, [stream]
    if way == "keras":
        generator = keras(stream, "x")["generator"]
        for _ in range(steps):
            next(generator)
    else:
        with tf.Graph().as_default():
            tf.train.create_global_step()
            batch = (dataset(stream).make_one_shot_iterator().get_next() if way == "dataset" else
                     estimators.input_fn(features=["x"])()[0])
            fetched = tf.shape(batch["x"])
            with tf.train.MonitoredSession() as session:
                for _ in range(steps):
                    session.run(fetched)
    assert len(places) == steps and len(set(places)) <= 4


def test_an_estimator_s_stream_is_opened_once_though_two_threads_ask_for_its_first_batch():
    opens, may_open = [], threading.Event()

    def open_at(step):
        opens.append(1)
        assert may_open.wait(60)
        return opened()

    def take():
        with suppress(RuntimeError):           # closed, if the error below has ended the session by then
            source.take()
    coordinator = tf.train.Coordinator()
    source = estimator_module._Open(open_at, coordinator, 0)
    first = threading.Thread(target=take)
    first.start()
    wait_for(lambda: opens, "the first thread")
    with pytest.raises(RuntimeError, match="two threads run steps of one session at the same time"):
        source.take()
    may_open.set()
    first.join(60)
    assert opens == [1]
    with pytest.raises(RuntimeError, match="two threads"):       # of the session, too
        coordinator.join()


# ------------------------------------------------------------------------------------------------------------ Keras

@pytest.fixture(scope="module")
def folder_of_multiprocessing():
    """The queue that Keras uses with threads of its own makes it where temporary files are, once per process."""
    multiprocessing.util.get_temp_dir()


@pytest.fixture(params=["tf.keras", "keras"])
def K(request):
    """tf.keras, or Keras itself; with a session of one thread."""
    module = tf.keras if request.param == "tf.keras" else importlib.import_module("keras")
    module.backend.clear_session()
    module.backend.set_session(tf.Session(config=ONE_THREAD))
    yield module
    module.backend.clear_session()


def network(K):
    image = K.layers.Input((6, 5, 3), dtype="uint8", name="picture")
    x = K.layers.Lambda(lambda value: tf.to_float(value) / 255.0)(image)
    x = K.layers.Dense(8, activation="tanh", kernel_initializer=K.initializers.glorot_uniform(1))(K.layers.Flatten()(x))
    x = K.layers.Dense(1, activation="sigmoid", kernel_initializer=K.initializers.glorot_uniform(2))(x)
    model = K.models.Model(image, x)
    model.compile("adam", "binary_crossentropy")
    return model


class Losses:
    """A callback that keeps the loss of each step, and of each evaluation. Made for either Keras."""

    def __new__(cls, K):
        class Keeping(K.callbacks.Callback):
            steps, evaluations = [], []

            def on_batch_end(self, batch, logs=None):
                self.steps.append(logs["loss"])

            def on_epoch_end(self, epoch, logs=None):
                self.evaluations += [logs[name] for name in logs if name == "val_loss"]
        kept = Keeping()
        kept.steps, kept.evaluations = [], []
        return kept


def fed_to_keras(K, model, stream):
    """The losses of the steps if the tensors of ``model`` are fed by hand."""
    model._make_train_function()
    update, losses = model.train_function.updates_op, []
    for batch in stream:
        if batch.training:
            feed = dict(batch.feed(image=model.inputs[0], label=model.targets[0]))
            feed[model.sample_weights[0]] = np.ones(len(batch), np.float32)
            if model.uses_learning_phase:
                feed[K.backend.learning_phase()] = 1
            losses.append(K.backend.get_session().run([model.total_loss, update], feed)[0])
    return losses


def test_keras_trains_to_the_losses_of_a_feed_dict_and_evaluates_after_each_epoch(K):
    model, losses = network(K), Losses(K)
    weights = model.get_weights()
    arguments = keras(opened(), x=["image"], y=["label"])
    model.fit_generator(callbacks=[losses], verbose=0, **arguments)
    assert len(losses.steps) == EPOCHS * STEPS and len(losses.evaluations) == EPOCHS
    with pytest.raises(StopIteration):
        next(arguments["generator"])                     # no batch is left
    model.set_weights(weights)
    model.compile("adam", "binary_crossentropy")         # a new optimizer
    assert losses.steps == fed_to_keras(K, model, opened())


def test_keras_resumes_at_an_epoch_and_continues_with_the_same_losses(K):
    model, losses = network(K), Losses(K)
    weights = model.get_weights()
    model.fit_generator(callbacks=[losses], verbose=0, **keras(opened(), "image", "label"))
    whole = losses.steps
    model.set_weights(weights)
    model.compile("adam", "binary_crossentropy")
    first = Losses(K)
    model.fit_generator(callbacks=[first], verbose=0, **dict(keras(opened(), "image", "label"), epochs=2))
    step = int(K.backend.get_value(model.optimizer.iterations))
    assert step == 2 * STEPS
    second = Losses(K)
    history = model.fit_generator(callbacks=[second], verbose=0, **keras(opened(start_step=step), "image", "label"))
    assert history.epoch == [2]
    assert first.steps + second.steps == whole


def test_keras_may_stop_early_and_continue_on_the_same_stream(K):
    stream, model, losses = opened(), network(K), Losses(K)
    stop = K.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=0)
    history = model.fit_generator(callbacks=[stop], verbose=0, **keras(stream, "image", "label"))
    stopped = len(history.epoch)
    assert stopped < EPOCHS
    assert stream.step == stopped * STEPS
    history = model.fit_generator(callbacks=[losses], verbose=0, **keras(stream, "image", "label"))
    assert history.epoch == list(range(stopped, EPOCHS))


def test_keras_with_its_own_threads_is_told_to_use_none(folder_of_multiprocessing, K):
    """With its default, workers=1, it would take batches ahead of the evaluation, and from two threads at once."""
    with pytest.raises(RuntimeError, match="workers=0"):
        network(K).fit_generator(verbose=0, **dict(keras(opened(), "image", "label"), workers=1))


def test_keras_without_validation_data_is_told_that_it_is_due(K):
    arguments = keras(opened(), "image", "label")
    del arguments["validation_data"], arguments["validation_steps"]
    with pytest.raises(RuntimeError, match="the evaluation after epoch 1 is due"):
        network(K).fit_generator(verbose=0, **arguments)


def test_keras_with_named_inputs_weights_and_no_targets(K):
    image = K.layers.Input((6, 5, 3), dtype="uint8", name="picture")
    boxes = K.layers.Input((None, 4), name="boxes")
    sizes = K.layers.Input((1,), dtype="int32", name="sizes")
    flat = K.layers.Lambda(lambda values: tf.concat([tf.layers.flatten(tf.to_float(values[0])), tf.reduce_sum(
        values[1], 1), tf.to_float(values[2])], 1), output_shape=(95,))([image, boxes, sizes])
    model = K.models.Model([image, boxes, sizes], K.layers.Dense(1)(flat))
    model.compile("sgd", lambda true, predicted: predicted)      # a loss that is computed from the inputs alone
    names = {"picture": "image", "boxes": "boxes", "sizes": "boxes.sizes"}
    history = model.fit_generator(verbose=0, **keras(opened(), names, weights="weight"))
    assert history.epoch == list(range(EPOCHS)) and np.isfinite(history.history["val_loss"]).all()


def test_keras_without_targets(K):
    image = K.layers.Input((6, 5, 3), dtype="uint8")
    x = K.layers.Dense(1)(K.layers.Lambda(lambda value: tf.layers.flatten(tf.to_float(value)))(image))
    model = K.models.Model(image, x)
    model.add_loss(tf.reduce_mean(tf.square(x)))
    model.compile("sgd", None)
    assert model.fit_generator(verbose=0, **keras(opened(), "image", y=[])).epoch == list(range(EPOCHS))


def test_keras_evaluates_and_predicts_in_order(K):
    model = network(K)

    def arguments():
        return keras(opened(training=False, validation=0, epochs=1), "image", "label")
    predicted = model.predict_generator(**arguments())
    images = np.concatenate([batch["image"] for batch in opened(training=False, validation=0, epochs=1)])
    np.testing.assert_array_equal(predicted, model.predict(images, batch_size=BATCH_SIZE))
    assert model.evaluate_generator(**arguments()) > 0


def test_an_empty_batch_ends_keras_with_a_sentence(K):
    def make(planned):
        return tuple(array[:0] if planned.step == 1 else array for array in arrays_of(planned))
    with pytest.raises(DatasetError, match="step 1 in epoch 1 is empty"):
        network(K).fit_generator(verbose=0, **keras(opened(make=make), "image", "label"))


# -------------------------------------------------------------------------------------------------------- Estimator

class Estimators:
    """Estimators and input_fns whose streams are made, not opened."""

    def __init__(self, monkeypatch, folder):
        self.arrays, self.streams, self.opened = ARRAYS, [], []
        self._folder = folder
        self.undo = monkeypatch.undo
        monkeypatch.setattr(estimator_module, "prepare", self._prepare)
        monkeypatch.setattr(estimator_module, "open_stream", self._open_stream)

    def _prepare(self, data, generator):
        return SimpleNamespace(job=JobOptions("my:function", declared=self.arrays),
                               source=generated(TRAINING), datasets=Splits(generated(TRAINING)),
                               plan=Plan(TRAINING, 2, EPOCHS, 0))

    def _open_stream(self, part, generator, training, start_step):
        self.opened.append((training, start_step))
        if not self.streams:
            return opened(start_step, 0, training=training, epochs=EPOCHS if training else 1)
        return self.streams.pop()

    def input_fn(self, **arguments):
        return input_fn("data", "my:function", **arguments)

    def estimator(self, model=None, **config):
        config = dict(dict(tf_random_seed=5, session_config=ONE_THREAD, save_summary_steps=1000), **config)
        return tf.estimator.Estimator(model or self._model, self._folder, tf.estimator.RunConfig(**config))

    @staticmethod
    def _model(features, labels, mode):
        if labels is None:                             # a prediction
            return tf.estimator.EstimatorSpec(mode, {"sum": tf.reduce_sum(tf.to_float(features["image"]), [1, 2, 3])})
        loss = loss_of(features["image"], labels)
        return tf.estimator.EstimatorSpec(mode, {"loss": loss}, loss, train_of(loss))


@pytest.fixture
def estimators(tmp_path):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Estimators(monkeypatch, str(tmp_path / "model"))


class LossHook(tf.train.SessionRunHook):
    """Keeps the losses. Raises ``error`` after the step ``at``."""

    def __init__(self, at=None, error=None):
        self.losses, self._at, self._error = [], at, error

    def before_run(self, context):
        return tf.train.SessionRunArgs(tf.losses.get_losses()[0])

    def after_run(self, context, values):
        self.losses.append(values.results)
        if len(self.losses) == self._at:
            raise self._error


NAMES = dict(features=["image"], labels="label")


def input_threads():
    return [thread for thread in threading.enumerate() if thread.name == "stoker-input"]


def test_an_estimator_trains_to_the_losses_of_a_feed_dict(estimators):
    hook = LossHook()
    estimators.estimator().train(estimators.input_fn(**NAMES), hooks=[hook])
    assert hook.losses == fed_losses(opened(validation=0))[True]
    assert estimators.opened == [(True, 0)] and not input_threads()


def test_an_estimator_resumes_from_its_checkpoint_with_the_same_losses(estimators):
    first, second, third = LossHook(), LossHook(), LossHook()
    train = estimators.input_fn(**NAMES)
    estimators.estimator().train(train, hooks=[first], steps=2)
    estimators.estimator().train(train, hooks=[second], max_steps=7)
    estimators.estimator().train(train, hooks=[third])
    assert first.losses + second.losses + third.losses == fed_losses(opened(validation=0))[True]
    assert estimators.opened == [(True, 0), (True, 2), (True, 7)]
    nothing = LossHook()
    estimators.estimator().train(train, hooks=[nothing])               # all steps are done
    assert nothing.losses == []


def test_an_estimator_evaluates_and_predicts_in_order(estimators):
    source = estimators.input_fn(**NAMES)
    estimator = estimators.estimator()
    estimator.train(source, steps=1)
    assert estimator.evaluate(source)["global_step"] == 1
    predicted = [values["sum"] for values in estimator.predict(source)]
    assert predicted == [image.sum() for batch in opened(0, 0, training=False, epochs=1) for image in batch["image"]]
    assert estimators.opened == [(True, 0), (False, 0), (False, 0)] and not input_threads()


def test_a_prediction_that_is_not_read_to_its_end_closes_its_stream(estimators):
    source = estimators.input_fn(**NAMES)
    estimator = estimators.estimator()
    estimator.train(source, steps=1)
    predictions = estimator.predict(source, yield_single_examples=False)
    next(predictions)
    assert len(input_threads()) == 1
    predictions.close()
    assert not input_threads()


@pytest.mark.parametrize("error", [ValueError("the user's"), KeyboardInterrupt()])
def test_the_stream_is_closed_when_training_ends_by_an_error_or_ctrl_c(estimators, error):
    stream, closed = opened(validation=0), []
    close = stream.close

    def slowly():
        time.sleep(0.3)          # as local workers take time to end: training must wait for it
        close()
        closed.append(True)
    stream.close = slowly
    estimators.streams.append(stream)
    with pytest.raises(type(error)):
        estimators.estimator().train(estimators.input_fn(**NAMES), hooks=[LossHook(2, error)])
    assert closed and not input_threads()
    with pytest.raises(RuntimeError, match="the stream is closed"):
        next(stream)


def test_an_error_of_the_stream_ends_training_as_itself(estimators):
    stream = opened(validation=0, make=lambda planned: arrays_of(planned) if planned.step < 2 else None)
    stream._fail(RunFailed("no batch"))
    estimators.streams.append(stream)
    hook = LossHook()
    with pytest.raises(RunFailed, match="^no batch$"):
        estimators.estimator().train(estimators.input_fn(**NAMES), hooks=[hook])
    assert len(hook.losses) == 2 and not input_threads()


def test_an_empty_batch_ends_an_estimator_with_a_sentence(estimators):
    def make(planned):
        return tuple(array[:0] if planned.step == 1 else array for array in arrays_of(planned))
    estimators.streams.append(opened(validation=0, make=make))
    with pytest.raises(DatasetError, match="step 1 in epoch 1 is empty.* an Estimator"):
        estimators.estimator().train(estimators.input_fn(**NAMES))


def test_a_session_that_fails_at_its_begin_opens_nothing(estimators):
    class Failing(tf.train.SessionRunHook):
        def after_create_session(self, session, coord):
            raise ValueError("the user's")
    with pytest.raises(ValueError, match="the user's"):
        estimators.estimator().train(estimators.input_fn(**NAMES), hooks=[Failing()])
    assert estimators.opened == []


def test_features_and_labels_have_the_structure_of_their_names(estimators):
    with tf.Graph().as_default():
        tf.train.create_global_step()
        features, labels = estimators.input_fn(features={"a": "boxes", "b": "boxes.sizes"}, labels=["label"])("train")
        assert {key: tensor.shape.as_list() for key, tensor in features.items()} == {"a": [None, None, 4], "b": [None]}
        assert list(labels) == ["label"] and labels["label"].dtype == tf.float32
        features, labels = estimators.input_fn(features="image")("train")
        assert features.dtype == tf.uint8 and labels is None


def test_an_input_fn_refuses_what_cannot_be(estimators):
    with pytest.raises(ConfigError, match="labels: there is no array 'steering': the batches have image, boxes"):
        estimators.input_fn(features=["image"], labels="steering")
    with pytest.raises(ConfigError, match="leave out start_step"):
        estimators.input_fn(features=["image"], start_step=3)
    with pytest.raises(TypeError, match="batchsize"):
        estimators.input_fn(features=["image"], batchsize=3)


# ---------------------------------------------------------------------------------------------------- real streams

def real(pictures, worker_python, **options):
    return dict(dict(data=pictures, image_size=(6, 5), batch_size=16, epochs=2, validation=0.2, workers=2, seed=3,
                     worker_python=worker_python), **options)


def test_all_ways_train_on_the_same_real_stream_to_the_same_losses(pictures, worker_python, tmp_path):
    """Pictures that workers decode, a validation part, and the label as int32."""
    options = real(pictures, worker_python)

    def loss_and_train(batch):
        loss = loss_of(batch["images"], batch["labels"])
        return loss, train_of(loss)
    with tf.Graph().as_default(), tf.Session(config=ONE_THREAD) as session, stoker.open_stream(**options) as stream:
        tf.set_random_seed(5)
        fed = {spec.name: tf.placeholder(spec.dtype, (None,) + spec.shape) for spec in stream.arrays}
        fetches = loss_and_train(fed)
        session.run(tf.global_variables_initializer())
        wanted = [session.run(fetches, batch.feed(**fed))[0] for batch in stream if batch.training]
    assert len(wanted) == 2 * 6
    with tf.Graph().as_default(), tf.Session(config=ONE_THREAD) as session, stoker.open_stream(**options) as stream:
        tf.set_random_seed(5)
        sides = [stoker.dataset(stream, training).make_initializable_iterator() for training in (True, False)]
        fetches, evaluated = loss_and_train(sides[0].get_next()), sides[1].get_next()
        session.run(tf.global_variables_initializer())
        losses = []
        for _ in range(2):
            session.run(sides[0].initializer)
            losses += [fetched[0] for fetched in read_to_the_end(session, fetches)]
            session.run(sides[1].initializer)
            assert sum(len(batch["labels"]) for batch in read_to_the_end(session, evaluated)) == 24
    assert losses == wanted

    def model(features, labels, mode):
        loss, train = loss_and_train(dict(features, labels=labels))
        return tf.estimator.EstimatorSpec(mode, None, loss, train, {"pictures": tf.metrics.mean(tf.size(labels))})
    config = tf.estimator.RunConfig(tf_random_seed=5, session_config=ONE_THREAD)
    estimator = tf.estimator.Estimator(model, str(tmp_path / "model"), config)
    source = stoker.input_fn(features=["images"], labels="labels", **options)
    hooks = [LossHook(), LossHook()]
    estimator.train(source, hooks=hooks[:1], steps=5)
    estimator.train(source, hooks=hooks[1:])
    assert hooks[0].losses + hooks[1].losses == wanted
    assert estimator.evaluate(source)["pictures"] == 12        # two batches, of 16 and 8


def test_keras_trains_on_a_real_stream(K, pictures, worker_python):
    picture = K.layers.Input((6, 5, 3), dtype="uint8")
    x = K.layers.Lambda(lambda value: tf.layers.flatten(tf.to_float(value)) / 255.0, output_shape=(90,))(picture)
    model = K.models.Model(picture, K.layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", ["accuracy"])
    with stoker.open_stream(**real(pictures, worker_python)) as stream:
        history = model.fit_generator(verbose=0, **stoker.keras(stream, x=["images"], y=["labels"]))
        assert stream.due is None and stream.step == 12
    assert history.epoch == [0, 1] and len(history.history["val_acc"]) == 2


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_nothing_is_left_of_an_estimators_workers(pictures, worker_python, estimators, error):
    """The fixture ``nothing_left`` looks for them. Here the training ends in the middle."""
    estimators.undo()

    def model(features, labels, mode):
        loss = loss_of(features, labels)
        return tf.estimator.EstimatorSpec(mode, None, loss, train_of(loss))
    source = stoker.input_fn(features="images", labels="labels", **real(pictures, worker_python))
    hook = LossHook(2, error)
    if error is None:
        estimators.estimator(model).train(source, hooks=[LossHook()], steps=2)
    else:
        with pytest.raises(KeyboardInterrupt):
            estimators.estimator(model).train(source, hooks=[hook])


def test_an_estimators_checkpoint_of_a_longer_run_is_an_error(pictures, worker_python, estimators):
    estimators.estimator().train(estimators.input_fn(**NAMES))
    estimators.undo()
    source = stoker.input_fn(features={"image": "images"}, labels="labels",
                             **real(pictures, worker_python, epochs=1))
    with pytest.raises(ConfigError, match="start_step 9 is not one of this run's steps, 0 to 6"):
        estimators.estimator().train(source)
