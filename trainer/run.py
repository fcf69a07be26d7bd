"""What a run is: its job, its data and its plan, from the arguments of ``open_stream`` or of the command line."""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from stoker.pipeline.arrays import declared
from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.formats import checked
from stoker.pipeline.functions import (BatchFunction, Declared, NestedStream, SampleFunction, check_generator,
                                       load_function, name_of, refuse_nested)
from stoker.pipeline.options import GENERATORS, JobOptions, check_flag, check_number, is_number
from stoker.pipeline.orders import open_order
from stoker.pipeline.output import steady
from stoker.pipeline.partners import open_partners
from stoker.pipeline.plan import Plan, fingerprint
from stoker.pipeline.sources.dataset import Splits, left_out_lines
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.records.pixels import check_pictures
from stoker.pipeline.sources.splits import is_share, open_splits
from stoker.trainer.record.known_samples import KnownSamples, by_former_rules

log = logging.getLogger("stoker")

NEEDS_FILES = ("image", "augmented")


@dataclass(frozen=True)
class Run:
    """A run before it starts: see ``prepare``."""
    job: JobOptions
    source: Source               # all data, before its validation part was split off
    datasets: Splits
    plan: Plan
    validation_split: float
    more: Dict[str, Any]         # what else the content of the batches depends on
    notes: Tuple[str, ...] = ()  # lines for the user on data that has changed
    one_by_one: bool = True      # the generator makes each sample by itself
    given: Mapping[str, Any] = field(default_factory=dict)     # arguments of ``prepare``, for ``record/arguments.py``

    def summary(self) -> str:
        """A few lines for the user, to be shown before training starts."""
        left_out = getattr(self.datasets.validation, "left_out", ())
        if not left_out:
            return self.source.summary()
        return "\n".join([self.source.summary(), "of the validation data:"] + left_out_lines(left_out))

    def fingerprint(self) -> Dict[str, Any]:
        """Everything on which the content of steps depends; it must be equal for a run to resume from a checkpoint."""
        whole = fingerprint(self.job, self.source.fingerprint(), self.validation_split, self.more)
        # a function of the program itself: its folder does not matter
        return dict(whole, generator=os.path.basename(self.job.generator))


def prepare(data: Any, generator: Any = JobOptions.generator, *,
            image_size: Union[int, Tuple[int, int]] = JobOptions.image_size,
            batch_size: int = JobOptions.batch_size,
            epochs: int = 1, seed: int = JobOptions.seed, decode: str = JobOptions.decode,
            label_word: Optional[str] = None, classes: Optional[Sequence[str]] = None, labels: bool = True,
            root: Any = None, validation: Any = None, validation_split: float = 0.0, order: Any = "shuffled",
            drop_last: bool = False, partners: Any = 0, training: bool = True,
            arrays: Optional[Mapping[str, Any]] = None, augment: Any = None,
            on_bad_image: str = JobOptions.on_bad_image, exif_rotate: bool = JobOptions.exif_rotate,
            follow_links: bool = JobOptions.follow_links, max_pixels: int = JobOptions.max_pixels,
            max_file_mb: int = JobOptions.max_file_mb,
            max_text_mb: int = JobOptions.max_text_mb, truncated: str = JobOptions.truncated,
            formats: Union[None, str, Sequence[str]] = None,
            exclude: Union[str, Sequence[str]] = (),
            suffixes: Union[str, Sequence[str]] = (), rank: int = 0, ranks: int = 1,
            known: Optional[KnownSamples] = None,
            recorded: Optional[Mapping[str, Any]] = None) -> Run:
    """The run of these arguments: see ``open_stream``. ``known``: the samples of a checkpoint, with which the run goes
    on if the data has changed. ``recorded``: the hashes of its data, which may be by the rules of former releases.
    Raises ConfigError, DatasetError."""
    refuse_nested()
    steady(log)
    labels, drop_last, training = (check_flag(name, value) for name, value in (
        ("labels", labels), ("drop_last", drop_last), ("training", training)))
    if isinstance(image_size, np.ndarray):
        image_size = image_size.tolist()
    size = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    name, own, one_by_one = _own_arrays(generator, arrays)
    recorded = recorded or {}
    if isinstance(classes, Iterator):
        classes = tuple(classes)      # they are needed more than once

    def opened(former: int, lenient: bool) -> Source:
        return open_source(data, root, classes, labels, label_word, follow_links, name, lenient, exclude, suffixes,
                           former)
    source, notes = by_former_rules(
        "dataset", recorded.get("dataset"), opened(0, known is not None or not training and classes is not None),
        lambda former: opened(former, True))
    if known is not None:
        source, changed = known.keep("dataset", source)
        notes += changed
    job = JobOptions(name, size, batch_size, seed, decode, on_bad_image,   # type: ignore[arg-type]  # checks it
                     exif_rotate, follow_links, bool(source.classes), augment=_name(augment), max_pixels=max_pixels,
                     max_file_mb=max_file_mb, max_text_mb=max_text_mb, truncated=truncated,
                     formats=checked(formats), **own)
    if name in NEEDS_FILES and not source.has_paths:
        raise ConfigError("the generator %s opens the file of each sample, and these rows name none: give a function "
                          "of your own (stoker.sample), or a folder or a list of files" % name)
    if name in NEEDS_FILES:
        check_pictures(source)
    if validation is not None and validation_split:
        raise ConfigError("give validation or validation_split (its older name), not both")
    split = check_number("validation_split", validation_split, is_number(validation_split),
                         "must be a share, such as 0.2")
    share = split if validation is None else float(validation) if is_share(validation) else 0.0
    if not training:
        if share or validation is not None:
            raise ConfigError("training=False is one pass over all samples: it has no validation part")
        datasets = Splits(source, source)
    else:
        def splits(former: int) -> Splits:
            return open_splits(source, share if validation is None else validation, seed, root, classes, labels,
                               label_word, follow_links, name, exclude, suffixes, former)
        datasets = splits(0)
        if len(datasets.validation) and not share:
            validating, changed = by_former_rules("validation", recorded.get("validation"), datasets.validation,
                                                  lambda former: splits(former).validation)
            notes += changed
            if known is not None:
                validating, changed = known.keep("validation", validating)
                notes += changed
            datasets = datasets._replace(validation=validating)
    if name in NEEDS_FILES and training:
        check_pictures(datasets.validation)
    own_order = open_order(order, datasets.training, job.batch_size, job.seed)
    sizes = len(datasets.training), len(datasets.validation)
    own_partners = open_partners(partners, datasets.training), open_partners(partners, datasets.validation)
    plan = Plan(sizes[0], job.batch_size, epochs, job.seed, sizes[1] if training else 0, order=own_order,
                drop_last=drop_last, training=training, partners=own_partners, rank=rank, ranks=ranks)
    if plan.ranks > 1 and job.on_bad_image == "replace":
        raise ConfigError("on_bad_image='replace' is for one trainer: with ranks=%d, no rank knows how many "
                          "replacements the other parts of a batch need; use 'skip' or 'raise'" % plan.ranks)
    more = {"order": own_order and own_order.describe(), "drop_last": drop_last,
            "partners": own_partners[0] and own_partners[0].describe(job.seed),
            "arrays": [[spec.name, spec.dtype, repr(spec.shape)] for spec in job.declared],
            "augment": job.augment and os.path.basename(job.augment),
            "rows": job.rows > 1 and job.rows, "unlabelled": not labels and not source.classes,
            "validation": datasets.validation.fingerprint() if training and sizes[1] and not share else None,
            "evaluates": not training}
    given = {"data": data, "root": root, "validation": share or None if validation is None else validation,
             "classes": classes, "labels": labels, "label_word": label_word, "exclude": exclude, "suffixes": suffixes,
             "order": order, "drop_last": drop_last, "partners": partners}
    return Run(job, source, datasets, plan, share, more, tuple(notes), one_by_one, given)


def _name(function: Any) -> Optional[str]:
    return function if function is None or isinstance(function, str) else name_of(function)


def _own_arrays(generator: Any, arrays: Optional[Mapping[str, Any]]) -> Tuple[str, Dict[str, Any], bool]:
    """The name of the generator or function, what JobOptions must know of it, and whether it makes each sample by
    itself, as far as is known."""
    name = _name(generator)
    if not isinstance(name, str) or name in GENERATORS or ":" not in name:
        return name or "", {} if arrays is None else {"declared": declared(arrays)}, True     # JobOptions checks it
    own: Dict[str, Any] = {}
    try:
        function = generator if callable(generator) else load_function(name)
    except NestedStream:
        raise
    except ConfigError as error:
        # the modules of a generator may be installed for the workers only; they notice other arrays
        log.info("%s; so its batches are taken for %s", error, "images and labels" if arrays is None else "arrays")
        function = None
    if isinstance(function, Declared):
        own["declared"] = function.arrays
        if isinstance(function, SampleFunction):
            own["rows"] = function.rows
        if isinstance(function, BatchFunction):
            own["may_skip"] = function.may_skip
    elif function is not None:
        check_generator(function, name)
    if arrays is not None:
        own["declared"] = declared(arrays)
    return name, own, isinstance(function, SampleFunction)
