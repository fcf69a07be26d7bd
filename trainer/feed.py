"""Opening a stream with its workers, and turning a batch into a feed_dict. Imports no TensorFlow.

A batch's arrays are 64-byte aligned and writable, so TensorFlow 1.9 feeds them without copying; uint8 travels into the
placeholder, and the division by 255 happens in the graph.
"""

import os
from dataclasses import replace
from typing import Any, Dict, Optional, Tuple, Union

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import (AUTO, DEFAULT_CACHE_GB, GENERATORS, MAX_CACHE_GB, JobOptions, StreamOptions,
                                     check_whole)
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.records import generated
from stoker.pipeline.stream import BatchStream
from stoker.trainer.autoscaler import Autoscaler
from stoker.trainer.local_workers import LocalWorkers


def open_stream(data: Union[str, "os.PathLike[str]", int, Dataset], *, generator: str = "image",
                image_size: Union[int, Tuple[int, int]] = 64, batch_size: int = 32, epochs: int = 1,
                seed: int = 0, decode: str = "fastest", label_word: Optional[str] = None, validation_split: float = 0.0,
                workers: Union[int, str, None] = None, worker_python: Optional[str] = None, start_step: int = 0,
                on_bad_image: str = "skip", exif_rotate: bool = False, follow_links: bool = False,
                cache: Union[str, "os.PathLike[str]", None] = None, cache_gb: float = DEFAULT_CACHE_GB,
                **stream_options: Any) -> BatchStream:
    """A stream of batches in order, fed by ``workers`` local processes (0: only remote ones).

    ``workers``: 'auto', the default, is as many as keep the consumer from waiting, at most one per core.
    ``data``: a folder with one sub-folder per class (``label_word``: label 1 if that word is in the path below it),
    for ``numerical`` the number of records, or a Dataset. ``image_size``: pixels, or (height, width).
    ``start_step``: the ``global_step`` to go on from. ``on_bad_image``, ``exif_rotate``, ``follow_links``: see
    ``pipeline.config.JobOptions``. ``cache``: a folder on a disk of this host in which the local workers keep
    decoded samples, up to ``cache_gb`` times 2**30 bytes. ``stream_options``: fields of
    ``pipeline.config.StreamOptions`` (``bind``, ``prefetch``, ``audit`` ...). With a ``validation_split``, the batches
    of the held-out part follow each epoch with ``batch.training`` False. Use in a ``with`` block. Raises ConfigError,
    DatasetError.
    """
    size = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    job = JobOptions(generator, tuple(size), batch_size, seed, decode, on_bad_image,  # type: ignore[arg-type]
                     exif_rotate, follow_links)
    dataset = data if isinstance(data, Dataset) else open_dataset(data, generator, label_word, follow_links)
    datasets = dataset.split(validation_split, seed)
    plan = Plan(len(datasets.training), batch_size, epochs, seed, len(datasets.validation))
    return start_stream(plan, datasets, job, StreamOptions(**stream_options), start_step, workers,
                        worker_python, None if cache is None else os.fspath(cache), cache_gb)


def open_dataset(data: Union[str, "os.PathLike[str]", int], generator: str,
                 label_word: Optional[str] = None, follow_links: bool = False) -> Dataset:
    """The dataset that ``generator`` reads: a folder, or for ``numerical`` a number of records."""
    if generator == "numerical":
        if isinstance(data, bool) or not isinstance(data, int):
            raise ConfigError("generator numerical wants a number of records, not %r" % (data,))
        return generated(data)
    if not isinstance(data, (str, os.PathLike)):
        raise ConfigError("generator %s wants a folder of images, not %r" % (generator, data))
    return scan_folder(os.fspath(data), label_word, follow_links)


def start_stream(plan: Plan, datasets: Splits, job: JobOptions, options: StreamOptions,
                 start_step: int = 0, workers: Union[int, str, None] = None,
                 worker_python: Optional[str] = None, cache: Optional[str] = None,
                 cache_gb: float = DEFAULT_CACHE_GB) -> BatchStream:
    """The stream of ``plan`` with its local workers. Raises ConfigError."""
    autoscaler = Autoscaler(len(os.sched_getaffinity(0))) if workers in (None, AUTO) else None
    processes = autoscaler.wanted if autoscaler else _check_workers(workers)
    if autoscaler and options.prefetch == StreamOptions.prefetch:      # nobody chose it: each of them is to hold two leases
        options = replace(options, prefetch=max(options.prefetch, 2 * processes))
    if cache is not None:
        _check_cache(cache, cache_gb, job.generator, processes)
    stream = BatchStream(plan, datasets, job, options, start_step)
    try:
        if processes:
            own = [] if job.generator in GENERATORS else [job.generator]
            stream.attach(LocalWorkers(stream.address, processes, worker_python, own, job.follow_links,
                                       stream.local_keys, autoscaler, cache, cache_gb))
    except BaseException:
        stream.close()
        raise
    return stream


def _check_workers(workers: Any) -> int:
    try:
        return check_whole("workers", workers, 0, 1000)
    except ConfigError as error:
        raise ConfigError("%s; or 'auto'" % error) from None


def _check_cache(cache: str, gb: float, generator: str, processes: int) -> None:
    if not cache:
        raise ConfigError("cache must name a folder on a disk of this host, not ''")
    if isinstance(gb, bool) or not isinstance(gb, (int, float)) or not 0 < gb <= MAX_CACHE_GB:
        raise ConfigError("cache_gb must be more than 0 and at most %d, not %r" % (MAX_CACHE_GB, gb))
    if generator == "numerical":
        raise ConfigError("the cache keeps decoded pictures, and the generator numerical has none")
    if not processes:
        raise ConfigError("the cache %s is for local workers, and there are none: say --cache to stoker-worker, on the "
                          "workers' hosts" % cache)


def feed_dict(batch: Batch, inputs: Any, labels: Any) -> Dict[Any, Any]:
    """``batch`` for the placeholders ``inputs`` and ``labels``, without a copy."""
    return {inputs: batch.images, labels: batch.labels}
