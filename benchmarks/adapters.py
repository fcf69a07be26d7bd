"""The cost of a batch on its way into TensorFlow 1.9 through Keras, tf.data and an Estimator, beside feed_dict: the
milliseconds of a step that does next to nothing else.

Each way takes turns with the others in one process, as Stoker's adapter and bare, from arrays that a loop hands out:
the difference is what adapter and stream cost. The batches, 32 pictures of 224 x 224, are in memory, 64-byte aligned
as a stream has them. A copy of such a batch would take some milliseconds.
"""

import functools
import os
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

from benchmarks.made import made_stream
from benchmarks.table import Goal, Say, Table, main, spread
from stoker.pipeline.arrays import declared
from stoker.pipeline.coordinator.buffers import BufferPool
from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.stream import BatchStream

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BATCH_SIZE, SHAPE = 32, (224, 224, 3)
WARM = 5                      # steps of a turn that do not count
FEED_DICT = "feed_dict"
#: The ways, and how many times feed_dict's ms they took, bare, when adapters were specified: 0.23, 0.14, 0.55 by 0.09.
WAYS = {FEED_DICT: 1.0, "Keras: fit_generator": 2.56, "tf.data: Dataset": 1.56, "Estimator: train": 6.1}
MOST_TIMES = 1.3              # that
ARRAYS = declared({"images": ("uint8", SHAPE), "labels": ("int32", (1,))})


@functools.lru_cache(maxsize=None)
def arrays() -> List[Tuple[np.ndarray, ...]]:
    """Eight batches, which are handed out again and again."""
    pool, made = BufferPool(16), []
    for _ in range(8):
        made.append(tuple(pool.empty((BATCH_SIZE,) + spec.shape, np.dtype(spec.dtype)) for spec in ARRAYS))
        for array in made[-1]:
            array[...] = 1
    return made


def bare() -> Iterator[Tuple[np.ndarray, ...]]:
    """The batches, without end."""
    while True:
        yield from arrays()


def stream_of(steps: int) -> BatchStream:
    """A stream of so many batches, all of which are there."""
    return made_stream(lambda planned: arrays()[planned.step % 8],
                       JobOptions("my:function", batch_size=BATCH_SIZE, declared=ARRAYS),
                       Plan(steps * BATCH_SIZE, BATCH_SIZE, 1, 0), ahead=steps)


class Clock:
    """The milliseconds of a step: the median of a turn, without its first few."""

    def __init__(self) -> None:
        self._times: List[float] = []

    def step(self) -> None:
        """A step has ended."""
        self._times.append(time.perf_counter())

    @property
    def ms(self) -> float:
        times = self._times[WARM:]
        return 1000 * spread([after - before for before, after in zip(times, times[1:])]).median


class Ways:
    """The graphs of the ways, and a turn of each: ``turns[way, adapted](steps)`` gives milliseconds."""

    def __init__(self, folder: str) -> None:
        import tensorflow as tf
        tf.logging.set_verbosity(tf.logging.ERROR)
        self._tf, self._folder = tf, folder
        self._config = tf.ConfigProto(intra_op_parallelism_threads=2, inter_op_parallelism_threads=2)
        self._images = tf.placeholder(tf.uint8, (None,) + SHAPE)
        self._labels = tf.placeholder(tf.int32, (None, 1))
        self._fed = self._tiny(self._images, self._labels)
        self._session = tf.Session(config=self._config)
        tf.keras.backend.set_session(self._session)
        self._model = self._network()
        self._session.run(tf.global_variables_initializer())
        self.turns: Dict[Tuple[str, bool], Callable[[int], float]] = {}
        for way, turn in zip(WAYS, (self._feed_dict, self._keras, self._dataset, self._estimator)):
            for adapted in (False, True):
                self.turns[way, adapted] = functools.partial(turn, adapted)

    def _tiny(self, images: Any, labels: Any) -> Any:
        """What uses a batch and computes next to nothing."""
        tf = self._tf
        return tf.reduce_sum(tf.cast(images[:, 0, 0, 0], tf.int32)) + labels[0, 0]

    def _network(self) -> Any:
        layers = self._tf.keras.layers
        image = layers.Input(SHAPE, dtype="uint8")
        corner = layers.Lambda(lambda value: self._tf.cast(value[:, :1, :1, :], self._tf.float32) / 255.0)(image)
        model = self._tf.keras.models.Model(image, layers.Dense(1, activation="sigmoid")(layers.Flatten()(corner)))
        model.compile("sgd", "binary_crossentropy")
        return model

    def _feed_dict(self, adapted: bool, steps: int) -> float:
        clock, images, labels = Clock(), self._images, self._labels
        if adapted:
            for batch in stream_of(steps):
                self._session.run(self._fed, batch.feed(images=images, labels=labels))
                clock.step()
        else:
            for _, made in zip(range(steps), bare()):
                self._session.run(self._fed, {images: made[0], labels: made[1]})
                clock.step()
        return clock.ms

    def _keras(self, adapted: bool, steps: int) -> float:
        from stoker.trainer.keras import keras
        clock = Clock()
        given = {"generator": bare(), "steps_per_epoch": steps, "workers": 0}
        self._model.fit_generator(verbose=0, callbacks=[self._tf.keras.callbacks.LambdaCallback(
            on_batch_end=lambda batch, logs: clock.step())], **(keras(stream_of(steps), "images", "labels")
                                                                if adapted else given))
        return clock.ms

    def _dataset(self, adapted: bool, steps: int) -> float:
        from stoker.trainer.dataset import dataset
        tf, clock = self._tf, Clock()
        with tf.Graph().as_default(), tf.Session(config=self._config) as session:
            if adapted:
                batch = dataset(stream_of(steps)).make_one_shot_iterator().get_next()
                fetched = self._tiny(batch["images"], batch["labels"])
            else:
                fetched = self._tiny(*self._bare_dataset().make_one_shot_iterator().get_next())
            for _ in range(steps):
                session.run(fetched)
                clock.step()
        return clock.ms

    def _bare_dataset(self) -> Any:
        tf = self._tf
        return tf.data.Dataset.from_generator(bare, (tf.uint8, tf.int32), ((None,) + SHAPE, (None, 1)))

    def _estimator(self, adapted: bool, steps: int) -> float:
        from stoker.trainer import estimator
        tf, clock = self._tf, Clock()

        def model(features: Any, labels: Any, mode: str) -> Any:
            corner = tf.cast(features[:, :1, :1, :], tf.float32) / 255.0
            loss = tf.losses.sigmoid_cross_entropy(labels, tf.layers.dense(tf.layers.flatten(corner), 1))
            train = tf.train.GradientDescentOptimizer(0.01).minimize(loss, tf.train.get_global_step())
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)
        config = tf.estimator.RunConfig(session_config=self._config, save_checkpoints_steps=10**6,
                                        save_summary_steps=10**6, log_step_count_steps=10**6)
        source = self._bare_dataset
        if adapted:
            source = estimator.input_fn_of(lambda trains, step: stream_of(steps), ARRAYS, "images", "labels")
        folder = tempfile.mkdtemp(dir=self._folder)
        hook = tf.train.SessionRunHook()
        hook.after_run = lambda context, values: clock.step()
        tf.estimator.Estimator(model, folder, config).train(source, steps=steps, hooks=[hook])
        return clock.ms


def run(quick: bool, say: Say) -> List[Table]:
    rounds, steps = (2, 50) if quick else (9, 200)
    with tempfile.TemporaryDirectory() as folder:
        ways = Ways(folder)
        taken: Dict[Tuple[str, bool], List[float]] = {key: [] for key in ways.turns}
        for number in range(rounds + 1):
            say("round %d of %d" % (number, rounds) if number else "warming up")
            for key in list(ways.turns)[::-1 if number % 2 else 1]:
                ms = ways.turns[key](steps)
                if number:
                    taken[key].append(ms)
    return [table(taken, steps)]


def table(taken: Dict[Tuple[str, bool], List[float]], steps: int) -> Table:
    """Of the milliseconds of each round, by (way, whether by Stoker's adapter)."""
    median = {key: spread(rounds).median for key, rounds in taken.items()}
    return Table(
        "adapters", "A batch of 4.8 MB on its way into TensorFlow 1.9: ms a step",
        ["", "Stoker's", "least", "most", "times feed_dict", "bare", "least ", "most ", "times feed_dict "],
        [[way] + list(spread(taken[way, True])) + [median[way, True] / median[FEED_DICT, True]]
         + list(spread(taken[way, False])) + [median[way, False] / median[FEED_DICT, False]] for way in WAYS],
        notes=["%d rounds of %d steps, in which all ways take turns. Bare: arrays out of a loop, without a stream; "
               "Keras by a generator with workers=0, the Estimator by Dataset.from_generator. Keras and Estimator also "
               "train a layer of four weights in each step." % (len(taken[FEED_DICT, True]), steps)],
        goals=[Goal("%s, times feed_dict from the same stream" % way, median[way, True] / median[FEED_DICT, True],
                    MOST_TIMES * times, at_most=True) for way, times in WAYS.items() if way != FEED_DICT],
        plot="bars", value_column="Stoker's", spread_columns=("least", "most"))


if __name__ == "__main__":
    main(run, __doc__)
