"""Opens a stream together with its local workers, and turns a batch into a feed_dict. Imports no TensorFlow."""

import logging
import os
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from inspect import signature
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import stoker
from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import Source
from stoker.pipeline.cores import cores
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.checks import check_read_ahead
from stoker.pipeline.options import (AUTO, DEFAULT_CACHE_GB, MAX_BATCH_MB, MAX_CACHE_GB, MAX_PREFETCH, SANDBOX,
                                     SANDBOX_AUTO, JobOptions, StreamOptions, WorkerOptions, check, check_number,
                                     check_whole, is_number)
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Splits, left_out_lines
from stoker.pipeline.sources.folder import is_usual
from stoker.pipeline.sources.roots import is_url
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.text import native, printable_path
from stoker.trainer import interpreter
from stoker.trainer.autoscaler import Autoscaler
from stoker.trainer.data_watch import watched
from stoker.trainer.fleet import announce
from stoker.trainer.fleet_options import NO_FLEET, FleetOptions
from stoker.trainer.local_ranks import line_of, share, trainers_here
from stoker.trainer.local_workers import LocalWorkers
from stoker.trainer.record.recording import Recording
from stoker.trainer.run import NEEDS_FILES, prepare

log = logging.getLogger("stoker")

Path = Union[str, "os.PathLike[str]"]
#: In a checkout: where ``make`` makes environments.
ENVIRONMENTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(stoker.__file__))), ".venv")


@dataclass(frozen=True)
class LocalOptions:
    """The worker processes on the trainer's own host. Raises ConfigError.

    ``workers``: their number; 'auto': Stoker chooses it, at most one per core. ``python``: the interpreter that runs
    them (None: this one). ``cache``: a folder on a disk of this host in which they keep decoded samples, up to
    ``cache_gb`` times 2**30 bytes. ``sandbox``: "auto", "on" or "off": whether they give up all rights that they do not
    need, as ``stoker-worker --help`` explains; ``allow_read``: further folders that they may read then. ``ranks``: so
    many trainers of one run share the cores of this host; None: see ``local_ranks.trainers_here``. ``read_ahead``: so
    many threads of each worker fetch the files of its next samples while it decodes, at most 64; 0: none; 'auto': as
    many as the reads take, and none where files are read fast.
    """
    workers: Union[int, str] = AUTO
    python: Optional[str] = None
    cache: Optional[Path] = None
    cache_gb: float = DEFAULT_CACHE_GB
    sandbox: str = SANDBOX_AUTO
    allow_read: Union[Path, Sequence[Path]] = ()
    ranks: Optional[int] = None
    read_ahead: Union[int, str] = AUTO

    def __post_init__(self) -> None:
        object.__setattr__(self, "read_ahead", check_read_ahead("read_ahead", self.read_ahead))
        check(self.sandbox in SANDBOX, "sandbox", "must be one of " + ", ".join(SANDBOX), self.sandbox)
        if not isinstance(self.workers, str) or self.workers != AUTO:
            try:
                object.__setattr__(self, "workers", check_whole("workers", self.workers, 0, 1000))
            except ConfigError as error:
                raise ConfigError("%s; or 'auto'" % error) from None
        if self.cache is None:
            return
        if not os.fspath(self.cache):
            raise ConfigError("cache must name a folder on a disk of this host, not ''")
        object.__setattr__(self, "cache_gb", check_number(
            "cache_gb", self.cache_gb, is_number(self.cache_gb) and 0 < self.cache_gb <= MAX_CACHE_GB,
            "must be more than 0 and at most %d" % MAX_CACHE_GB))
        if not self.workers:
            raise ConfigError("the cache %s is for local workers, and there are none: use stoker-worker --cache"
                              % self.cache)


def open_stream(data: Any, generator: Any = JobOptions.generator, *,
                root: Optional[Path] = None, classes: Optional[Sequence[str]] = None, labels: bool = True,
                label_word: Optional[str] = None, validation: Any = None, validation_split: float = 0.0,
                training: bool = True, image_size: Union[int, Tuple[int, int]] = JobOptions.image_size,
                batch_size: int = JobOptions.batch_size, epochs: int = 1, seed: int = JobOptions.seed,
                order: Any = "shuffled", drop_last: bool = False, partners: Any = 0,
                arrays: Optional[Mapping[str, Any]] = None, augment: Any = None, decode: str = JobOptions.decode,
                on_bad_image: str = JobOptions.on_bad_image, exif_rotate: bool = JobOptions.exif_rotate,
                follow_links: bool = JobOptions.follow_links, max_pixels: int = JobOptions.max_pixels,
                max_file_mb: int = JobOptions.max_file_mb, max_text_mb: int = JobOptions.max_text_mb,
                truncated: str = JobOptions.truncated, formats: Union[None, str, Sequence[str]] = None,
                exclude: Union[str, Sequence[str]] = (),
                suffixes: Union[str, Sequence[str]] = (), start_step: int = 0,
                rank: int = 0, ranks: int = 1, local_ranks: Optional[int] = None,
                workers: Union[int, str, None] = AUTO, worker_python: Optional[str] = None,
                cache: Optional[Path] = None, cache_gb: float = DEFAULT_CACHE_GB, sandbox: str = SANDBOX_AUTO,
                allow_read: Union[Path, Sequence[Path]] = (), read_ahead: Union[int, str] = AUTO,
                record: Optional[Path] = None, **stream_options: Any) -> BatchStream:
    """Opens a stream of batches, in order, produced by ``workers`` local processes (0: only by workers elsewhere).

        with stoker.open_stream("photos/", image_size=64, batch_size=32, epochs=3) as stream:
            for batch in stream:
                session.run(train, batch.feed(images=images, labels=labels))

    ``data``: a folder with one sub-folder per class; a list of paths or of rows; ``stoker.csv``, ``jsonl``, ``lines``,
    ``files``; record files (``stoker.tfrecord``, ``tar``, ``zip``, ``npy``, ``hdf5``, or "train-*.tfrecord"); a number
    of samples; or a file .csv, .jsonl. All files may be in a store: "s3://bucket/photos". ``generator``: what makes the
    samples: "image", "augmented", "numerical", or a function of your own, or its name as "module:function": see
    ``stoker.sample``.

    ``root``: the folder or URL below which the files lie that rows name. ``classes``: the class folders, in the order
    of their numbers. ``labels=False``: a folder without classes. ``label_word``: instead of classes by folder, label 1
    if that word is in a path below the folder, else 0. ``exclude``: patterns of paths and names in the folder that are
    left out. ``suffixes``: of pictures, beside the usual ones. The log says what was left out. ``validation``: a share
    (0.2), or data of any of these kinds, with the classes of training; its batches follow each epoch, with
    ``batch.training`` False. ``training=False``: one pass in order.

    ``image_size``: pixels, or (height, width). ``batch_size``, ``epochs``, ``seed``. ``order``: "shuffled",
    "sequential", ``stoker.balanced()``, ``stoker.weighted(weights)``, or ``f(epoch, random) -> indices``.
    ``drop_last``: full batches only, in evaluations too. ``partners``: so many other samples for each, or ``f(index,
    random) -> indices``. ``arrays``: what the function declares, if the trainer cannot import it. ``augment``:
    ``f(picture, random) -> picture``, for "image". ``decode``, ``on_bad_image``, ``exif_rotate``, ``follow_links``,
    ``max_pixels``, ``max_file_mb``, ``max_text_mb``, ``truncated``, ``formats``: see JobOptions.

    ``rank``, ``ranks``: ``ranks`` trainers share each batch of ``batch_size`` samples, and this one gets part ``rank``,
    from 0: docs/SEVERAL_TRAINERS.md. ``local_ranks``: how many of them share the cores of this host. None: as the
    launcher says (HOROVOD_LOCAL_SIZE, OMPI_COMM_WORLD_LOCAL_SIZE), else all if ``bind`` is of this host alone, else 1.

    ``record``: a folder, made if need be, that gets what the run is: ``stoker.replay`` makes the batch of any step
    again from it, and stoker-show shows it. With ``audit`` they are compared. A folder is for one run, also when it
    resumes.

    ``start_step``: the ``global_step`` to resume from. For the other arguments see LocalOptions (``worker_python``,
    ``cache``, ``cache_gb``, ``sandbox``, ``allow_read``, ``read_ahead``), FleetOptions (``status``, ``min_workers``
    ...) and StreamOptions (``bind``, ``prefetch``, ``verify`` ...). Raises ConfigError, DatasetError.
    """
    local = LocalOptions(AUTO if workers is None else workers, worker_python, cache, cache_gb, sandbox, allow_read,
                         local_ranks, read_ahead)
    _check_names(stream_options)
    fleet = FleetOptions(**{field.name: stream_options.pop(field.name) for field in fields(FleetOptions)
                            if field.name in stream_options})
    options = StreamOptions(**stream_options)
    run = prepare(data, generator, root=root, classes=classes, labels=labels, label_word=label_word,
                  validation=validation, validation_split=validation_split, training=training, image_size=image_size,
                  batch_size=batch_size, epochs=epochs, seed=seed, order=order, drop_last=drop_last, partners=partners,
                  arrays=arrays, augment=augment, decode=decode, on_bad_image=on_bad_image, exif_rotate=exif_rotate,
                  follow_links=follow_links, max_pixels=max_pixels, max_file_mb=max_file_mb,
                  max_text_mb=max_text_mb, truncated=truncated, formats=formats, exclude=exclude, suffixes=suffixes,
                  rank=rank, ranks=ranks)
    log_left_out(data, run.source)
    log_left_out(validation, run.datasets.validation)
    if run.plan.ranks > 1 and not run.one_by_one:
        log.info("%s gets the samples of this rank's part of a batch: its batches are the same for %d ranks each time, "
                 "and for another number only if it treats each sample by itself", run.job.generator, run.plan.ranks)
    for line in advice(run.job, local):
        log.info("%s", line)
    if record is None:
        return start_stream(run.plan, run.datasets, run.job, options, start_step, local, fleet)
    recording = Recording(record, run, options)
    stream = start_stream(run.plan, run.datasets, run.job, recording.options, start_step, local, fleet)
    recording.watch(stream)
    return stream


def log_left_out(data: Any, source: Source) -> None:
    """Logs what the scan of ``data`` left out, a folder or what was scanned before, as the command line prints it: as a
    warning unless it is usual."""
    left_out = getattr(source, "left_out", ())
    if left_out:
        level = logging.INFO if all(is_usual(why) for _, why in left_out) else logging.WARNING
        name = os.fspath(data) if isinstance(data, (str, os.PathLike)) and not is_url(data) else source.root
        log.log(level, "%s: %s", printable_path(name), "\n".join(left_out_lines(left_out)))


def _check_names(stream_options: Mapping[str, Any]) -> None:
    """Raises TypeError, as Python does, for an argument that ``open_stream`` does not have."""
    known = [field.name for cls in (StreamOptions, FleetOptions) for field in fields(cls)]
    for name in stream_options:
        if name not in known:
            known += [parameter for parameter in signature(open_stream).parameters if parameter != "stream_options"]
            like = get_close_matches(name, known, 1, 0.7)
            raise TypeError("open_stream has no argument %r: %s" % (
                name, "did you mean %s?" % like[0] if like else "it has " + ", ".join(known)))


def advice(job: JobOptions, local: LocalOptions) -> Tuple[str, ...]:
    """What is to be said of the local workers before they start: at most one line."""
    line = interpreter.advice(local.python, ENVIRONMENTS) if local.workers and job.generator in NEEDS_FILES else None
    return (line,) if line else ()


def start_stream(plan: Plan, datasets: Splits, job: JobOptions, options: StreamOptions, start_step: int,
                 local: LocalOptions, fleet: FleetOptions = NO_FLEET) -> BatchStream:
    """The stream of ``plan`` from ``start_step`` on, with its local workers. Raises ConfigError."""
    if local.cache is not None and job.generator == "numerical":
        raise ConfigError("the cache keeps decoded pictures, and the generator numerical has none")
    trainers = trainers_here(local.ranks, plan.ranks, options.bind, os.environ)
    autoscaler = Autoscaler(share(cores(), trainers), trainers) if local.workers == AUTO else None
    processes = autoscaler.wanted if autoscaler else int(local.workers)
    if options.prefetch == StreamOptions.prefetch:   # the default: raise it to two leases per worker
        most = (processes if autoscaler else 0) + (fleet.max_workers if fleet.is_used else 0)
        options = replace(options, prefetch=min(MAX_PREFETCH, max(options.prefetch, 2 * most)))
    if plan.ranks > 1:
        log.info("%s", line_of(plan, cores(), trainers, autoscaler is not None))
        job = replace(job, batch_size=plan.part_size)     # as the workers of this rank see it
    stream = BatchStream(plan, datasets, job, options, start_step)
    try:
        watch = watched(datasets, plan.positions - plan.position_of(start_step))
        if watch is not None:
            stream.attach(watch)
            stream.pace.observers.append(watch)
        status = announce(stream, fleet, options.prefetch_of(job), processes)
        if processes:
            stream.pace.trainers = trainers     # of workers elsewhere, ``Fleet`` knows this trainer's part of the cores
            cache = None if local.cache is None else os.path.abspath(native(os.fspath(local.cache)))
            roots = roots_of(datasets)
            worker = WorkerOptions(stream.address, None, None, job.own_functions, job.follow_links, cache,
                                   local.cache_gb, once=True, quiet=True,
                                   allow_data=("/",) + tuple(filter(is_url, roots)),
                                   max_batch_mb=max(MAX_BATCH_MB, options.prefetch_mb), roots=roots,
                                   sandbox=local.sandbox, allow_read=absolute(local.allow_read),
                                   read_ahead=local.read_ahead, shared_memory=options.shared_memory,
                                   shared_memory_folder=options.shared_memory_folder)
            group = LocalWorkers(worker, processes, local.python, stream.local_keys, autoscaler)
            stream.attach(group)
            if status is not None:
                status.local_supervisor = group.supervisor
    except BaseException:
        stream.close()
        raise
    return stream


def roots_of(datasets: Splits) -> Tuple[str, ...]:
    """The folder or URL that workers read, if they read any."""
    return tuple(filter(None, [native(datasets.training.root or "")]))


def absolute(given: Union[Path, Sequence[Path]]) -> Tuple[str, ...]:
    """The absolute paths of one folder or several."""
    several = [given] if isinstance(given, (str, os.PathLike)) else given
    return tuple(os.path.abspath(native(os.fspath(one))) for one in several)


def feed_dict(batch: Batch, inputs: Any, labels: Any) -> Dict[Any, Any]:
    """``batch`` as the values of two placeholders: ``session.run(train, feed_dict(batch, x, y))``.

    Its arrays are 64-byte aligned and writable, so TensorFlow 1.9 feeds them without a copy.
    """
    return {inputs: batch.images, labels: batch.labels}
