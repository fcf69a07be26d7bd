"""How long the leases of a run become. One that no worker would read is an error when the stream is opened."""

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.codec import MAX_LEASE_BYTES, MAX_NAME, too_long
from stoker.pipeline.protocol.columns import MAX_ROW_BYTES
from stoker.pipeline.protocol.messages import MAX_TEXT
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.sources.table import Numbers
from stoker.pipeline.text import path_bytes, printable

FIELDS_BYTES = 48          # more than the numbers of a sample and the lengths of its texts take
MAX_SAMPLE_BYTES = 4 * MAX_TEXT + MAX_ROW_BYTES + FIELDS_BYTES
AT_ONCE = 4096             # samples


def check_leases(plan: Plan, datasets: Splits, job: JobOptions) -> None:
    """Raises ConfigError if the largest samples, in one batch, do not fit into a lease. Partners count with the average
    size, as many as the first sample has. Orders that repeat samples may still exceed it: then ``encode`` raises."""
    for training in (True, False):
        source, replaces = datasets.of(training), training and job.on_bad_image == "replace"
        batch = min(job.batch_size, len(source))
        if not batch or isinstance(source, Numbers):
            continue
        partners = len(plan.partners_of(training, 0, 0))
        if batch * (1 + replaces) * (1 + partners) * MAX_SAMPLE_BYTES <= MAX_LEASE_BYTES:
            continue
        sizes = _sizes(source)
        samples = min(batch * (1 + replaces), len(sizes))
        largest = np.partition(sizes, len(sizes) - samples)[len(sizes) - samples:]
        lease_bytes = int(largest.sum() + samples * partners * sizes.mean())
        if lease_bytes > MAX_LEASE_BYTES:
            name = printable(source.samples([int(sizes.argmax())])[0].name)[:MAX_NAME]
            raise ConfigError("%s (the largest sample has %d: %s)" % (too_long(lease_bytes), sizes.max(), name))


def _sizes(source: Source) -> "np.ndarray":
    """int64 [n], the bytes of each sample in a lease."""
    if isinstance(source, RecordSource):           # without a text for each of its records
        return source.lease_bytes() + FIELDS_BYTES
    sizes = np.empty(len(source), np.int64)
    for start in range(0, len(source), AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, len(source)))
        sizes[start:start + AT_ONCE] = [len(path_bytes(sample.path)) + len(sample.packed) + FIELDS_BYTES
                                        for sample in source.samples(numbers)]
    return sizes
