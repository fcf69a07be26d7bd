"""Opens a stream together with its local workers, and turns a batch into a feed_dict. Imports no TensorFlow."""

import os
from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Tuple, Union

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import (AUTO, DEFAULT_CACHE_GB, GENERATORS, MAX_CACHE_GB, JobOptions, StreamOptions,
                                     WorkerOptions, check_whole, is_number)
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.records import generated
from stoker.pipeline.stream import BatchStream
from stoker.trainer.autoscaler import Autoscaler
from stoker.trainer.local_workers import LocalWorkers

Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class LocalOptions:
    """The worker processes on the trainer's own host. Raises ConfigError.

    ``workers``: their number; 'auto': Stoker chooses it, at most one per core. ``python``: the interpreter that runs
    them (None: this one). ``cache``: a folder on a disk of this host in which they keep decoded samples, up to
    ``cache_gb`` times 2**30 bytes.
    """
    workers: Union[int, str] = AUTO
    python: Optional[str] = None
    cache: Optional[Path] = None
    cache_gb: float = DEFAULT_CACHE_GB

    def __post_init__(self) -> None:
        if self.workers != AUTO:
            try:
                check_whole("workers", self.workers, 0, 1000)
            except ConfigError as error:
                raise ConfigError("%s; or 'auto'" % error) from None
        if self.cache is None:
            return
        if not os.fspath(self.cache):
            raise ConfigError("cache must name a folder on a disk of this host, not ''")
        if not is_number(self.cache_gb) or not 0 < self.cache_gb <= MAX_CACHE_GB:
            raise ConfigError("cache_gb must be more than 0 and at most %d, not %r" % (MAX_CACHE_GB, self.cache_gb))
        if not self.workers:
            raise ConfigError("the cache %s is for local workers, and there are none: use stoker-worker --cache"
                              % self.cache)


def open_stream(data: Union[Path, int, Dataset], *, generator: str = JobOptions.generator,
                image_size: Union[int, Tuple[int, int]] = JobOptions.image_size,
                batch_size: int = JobOptions.batch_size, epochs: int = 1, seed: int = JobOptions.seed,
                decode: str = JobOptions.decode, label_word: Optional[str] = None, validation_split: float = 0.0,
                workers: Union[int, str, None] = AUTO, worker_python: Optional[str] = None, start_step: int = 0,
                on_bad_image: str = JobOptions.on_bad_image, exif_rotate: bool = JobOptions.exif_rotate,
                follow_links: bool = JobOptions.follow_links, cache: Optional[Path] = None,
                cache_gb: float = DEFAULT_CACHE_GB, **stream_options: Any) -> BatchStream:
    """Opens a stream of batches, in order, produced by ``workers`` local processes (0: only by workers elsewhere).

        with open_stream("photos/", image_size=64, batch_size=32, epochs=3) as stream:
            for batch in stream:
                session.run(train, feed_dict(batch, images, labels))

    ``data``: a folder with one sub-folder per class, or, for the generator ``numerical``, the number of records, or a
    Dataset. ``label_word``: instead of classes by folder, label 1 if that word is in a path below the folder, else 0.
    ``image_size``: pixels, or (height, width). ``start_step``: the ``global_step`` to resume from. With a
    ``validation_split``, the batches of the held-out part follow each epoch, with ``batch.training`` False. For the
    other arguments see JobOptions, LocalOptions (``workers``, ``worker_python``, ``cache``, ``cache_gb``) and
    StreamOptions (``bind``, ``prefetch``, ``audit`` ...). Raises ConfigError, DatasetError.
    """
    size = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    job = JobOptions(generator, size, batch_size, seed, decode, on_bad_image,   # type: ignore[arg-type]  # checks it
                     exif_rotate, follow_links)
    local = LocalOptions(AUTO if workers is None else workers, worker_python, cache, cache_gb)
    dataset = data if isinstance(data, Dataset) else open_dataset(data, generator, label_word, follow_links)
    datasets = dataset.split(validation_split, seed)
    plan = Plan(len(datasets.training), batch_size, epochs, seed, len(datasets.validation))
    return start_stream(plan, datasets, job, StreamOptions(**stream_options), start_step, local)


def open_dataset(data: Union[Path, int], generator: str, label_word: Optional[str] = None,
                 follow_links: bool = JobOptions.follow_links) -> Dataset:
    """The dataset of a folder, or for ``numerical`` of so many records. Raises ConfigError, DatasetError."""
    if generator == "numerical":
        if isinstance(data, bool) or not isinstance(data, int):
            raise ConfigError("the generator numerical needs a number of records, not %r" % (data,))
        return generated(data)
    if not isinstance(data, (str, os.PathLike)):
        raise ConfigError("the generator %s needs a folder of images, not %r" % (generator, data))
    return scan_folder(os.fspath(data), label_word, follow_links)


def start_stream(plan: Plan, datasets: Splits, job: JobOptions, options: StreamOptions, start_step: int,
                 local: LocalOptions) -> BatchStream:
    """The stream of ``plan`` from ``start_step`` on, with its local workers. Raises ConfigError."""
    if local.cache is not None and job.generator == "numerical":
        raise ConfigError("the cache keeps decoded pictures, and the generator numerical has none")
    autoscaler = Autoscaler(len(os.sched_getaffinity(0))) if local.workers == AUTO else None
    processes = autoscaler.wanted if autoscaler else int(local.workers)
    if autoscaler and options.prefetch == StreamOptions.prefetch:   # the default: raise it to two leases per worker
        options = replace(options, prefetch=max(options.prefetch, 2 * processes))
    stream = BatchStream(plan, datasets, job, options, start_step)
    try:
        if processes:
            own = () if job.generator in GENERATORS else (job.generator,)
            cache = None if local.cache is None else os.path.abspath(os.fspath(local.cache))
            worker = WorkerOptions(stream.address, None, None, own, job.follow_links, cache, local.cache_gb, once=True,
                                   quiet=True)
            stream.attach(LocalWorkers(worker, processes, local.python, stream.local_keys, autoscaler))
    except BaseException:
        stream.close()
        raise
    return stream


def feed_dict(batch: Batch, inputs: Any, labels: Any) -> Dict[Any, Any]:
    """``batch`` as the values of two placeholders: ``session.run(train, feed_dict(batch, x, y))``.

    Its arrays are 64-byte aligned and writable, so TensorFlow 1.9 feeds them without a copy.
    """
    return {inputs: batch.images, labels: batch.labels}
