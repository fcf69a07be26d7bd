"""Contenders that need only TensorFlow 1.9 and PIL: the tutorial's generator, tf.keras, tf.data. On CPython 3.6.

Ways: tutorial, keras, tfdata, tfdata-fast-dct, tfdata-ratio-N (with the fast DCT, too). With tfrecord in the place of
tfdata, FOLDER has TFRecords.
"""

from __future__ import generator_stop

import glob
import os
import random
from typing import Any, Dict, Iterator

import numpy as np

from benchmarks.contenders.protocol import BATCH, arguments, files_of, long_epoch, serve

SHUFFLED = 1000     # records that tf.data holds to shuffle them, as its users write


def tutorial(folder: str, size: int) -> Iterator[int]:
    """The usual generator: in the training process, float64 into a float32 placeholder."""
    from PIL import Image

    def image_generator(paths: Any, batch_size: int) -> Any:
        while True:
            random.shuffle(paths)
            for start in range(0, len(paths), batch_size):
                images, labels = [], []
                for path in paths[start:start + batch_size]:
                    if os.path.exists(path):
                        image = Image.open(path).resize((size, size)).convert("RGB")
                        images.append(np.array(image) / 255.0)
                        labels.append([1 if "positive" in path else 0])
                yield np.array(images), np.array(labels)

    return fed(image_generator(files_of(folder)[0], BATCH), size, "float32")


def keras(folder: str, size: int) -> Iterator[int]:
    from PIL import Image
    from tensorflow.python.keras.utils.data_utils import OrderedEnqueuer, Sequence   # what fit_generator uses
    paths, labels = long_epoch(folder)

    class Pictures(Sequence):
        def __len__(self) -> int:
            return len(paths) // BATCH

        def __getitem__(self, index: int) -> Any:
            part = slice(index * BATCH, (index + 1) * BATCH)
            images = [np.asarray(Image.open(path).resize((size, size)).convert("RGB")) for path in paths[part]]
            return np.array(images), np.array(labels[part], np.int32)[:, None]

    order = list(zip(paths, labels))
    random.shuffle(order)
    paths, labels = [path for path, _ in order], [label for _, label in order]
    enqueuer = OrderedEnqueuer(Pictures(), use_multiprocessing=True, shuffle=True)
    enqueuer.start(workers=os.cpu_count() or 1, max_queue_size=8)
    return fed(enqueuer.get(), size, "uint8")


def fed(batches: Iterator[Any], size: int, dtype: str) -> Iterator[int]:
    """``batches`` (images, labels, ...) through placeholders into a session that does next to nothing with them."""
    import tensorflow as tf
    images = tf.placeholder(dtype, [None, size, size, 3])
    labels = tf.placeholder(tf.int32, [None, 1])
    step = tf.group(images, labels)     # waits for both, and does nothing
    with tf.Session() as session:
        for batch in batches:
            session.run(step, {images: batch[0], labels: batch[1]})
            yield len(batch[0])


def tfdata(folder: str, size: int, calls: int, buffered: int, **options: Any) -> Iterator[int]:
    """tf.data decodes and resizes in C++, and hands tensors over inside the graph: there is no placeholder to fill.

    ``options`` go to decode_jpeg.
    """
    import tensorflow as tf
    paths, labels = files_of(folder)

    def load(path: Any, label: Any) -> Any:
        data = tf.read_file(path)
        if paths[0].endswith("png"):
            image = tf.image.decode_png(data, channels=3)
        else:
            image = tf.image.decode_jpeg(data, channels=3, **options)
        return tf.image.resize_images(image, [size, size]), label      # bilinear, float32 0..255

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.apply(tf.contrib.data.shuffle_and_repeat(len(paths)))
    return batched(dataset.map(load, num_parallel_calls=calls), buffered)


def tfrecords(folder: str, size: int, calls: int, buffered: int, **options: Any) -> Iterator[int]:
    """The same from TFRecords, with TensorFlow's own reader, parser and decoder."""
    import tensorflow as tf
    features = {"image/encoded": tf.FixedLenFeature([], tf.string),
                "image/class/label": tf.FixedLenFeature([], tf.int64)}

    def load(record: Any) -> Any:
        found = tf.parse_single_example(record, features)
        image = tf.image.decode_jpeg(found["image/encoded"], channels=3, **options)
        return tf.image.resize_images(image, [size, size]), found["image/class/label"]

    files = sorted(glob.glob(os.path.join(folder, "*.tfrecord")))
    dataset = tf.data.TFRecordDataset(files, num_parallel_reads=min(2, len(files)))
    dataset = dataset.apply(tf.contrib.data.shuffle_and_repeat(SHUFFLED))
    return batched(dataset.map(load, num_parallel_calls=calls), buffered)


def batched(dataset: Any, buffered: int) -> Iterator[int]:
    """Batches of ``dataset``, in a session that does next to nothing with them."""
    import tensorflow as tf
    dataset = dataset.apply(tf.contrib.data.batch_and_drop_remainder(BATCH)).prefetch(buffered)
    images, labels = dataset.make_one_shot_iterator().get_next()
    step = tf.group(images, labels)
    with tf.Session() as session:
        while True:
            session.run(step)
            yield BATCH


def main() -> None:
    way, folder, size = arguments()
    cores = os.cpu_count() or 1
    if way == "tutorial":
        serve(tutorial(folder, size), 0)
    elif way == "keras":
        serve(keras(folder, size), 8 + cores)
    else:
        options: Dict[str, Any] = {}
        kind, _, variant = way.partition("-")
        if variant:
            options["dct_method"] = "INTEGER_FAST"
        if variant.startswith("ratio-"):
            options["ratio"] = int(variant.split("-")[-1])
        serve((tfrecords if kind == "tfrecord" else tfdata)(folder, size, 4 * cores, 4, **options), 8)


if __name__ == "__main__":
    main()
