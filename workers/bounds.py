"""What a job may read and cost on this host. The trainer sends the job, and a worker need not trust it: the worker's
own options say which folder or store the trainer may read, and how much memory a batch may take."""

import os
import socket
from contextlib import suppress

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage import urls
from stoker.pipeline.storage.folder import is_store
from stoker.pipeline.text import path_bytes, printable_path

OF_PICTURES = ("image", "augmented")


def check(job: Job, options: WorkerOptions) -> None:
    """Raises ConfigError if the job reads files in a folder or store that ``options`` do not permit, follows links out
    of it without their permission, or has batches that take more memory than they permit."""
    host = socket.gethostname()
    if is_store(job.data_root) and not may_read(job.data_root, options):
        raise ConfigError("the run reads files in %s, which this worker on %s may not: start it with --data URL, which "
                          "the trainer may then read with this user's credentials, or with --allow-data and a URL "
                          "above it" % (printable_path(job.data_root), host))
    if job.data_root and not is_store(job.data_root) and options.data is None and not any(
            _is_below(job.data_root, one) for one in options.data_folders if not is_store(one)):
        raise ConfigError("the run reads files in %s, which this worker on %s may not: start it with --data DIR, the "
                          "folder that the trainer may read there" % (printable_path(job.data_root), host))
    if job.follow_links and not options.follow_links and job.data_root:
        raise ConfigError("the run follows links that lead out of %s, which this worker on %s may not: start it with "
                          "--follow-links" % (printable_path(job.data_root), host))
    most_bytes, takes_bytes = options.max_batch_mb * 2**20, batch_bytes(job)
    if takes_bytes > most_bytes:
        raise ConfigError("a batch of the run may take %d MB, and this worker on %s permits %g: start it with "
                          "--max-batch-mb" % (-(-takes_bytes // 2**20), host, options.max_batch_mb))


def may_read(url: str, options: WorkerOptions) -> bool:
    """Whether the trainer may read the store ``url``. Also a trainer of this host may only if the worker's options name
    it, for it is read with this user's credentials."""
    named = (options.data,) if options.data is not None else options.allow_data + (options.roots or ())
    with suppress(ConfigError):
        return urls.normal(url) == url and any(
            url == one or urls.is_below(url, one) for one in named if one is not None and is_store(one))
    return False


def batch_bytes(job: Job) -> int:
    """The most memory for the arrays of one batch."""
    row_bytes = job.rows * sum(spec.sample_bytes for spec in job.arrays)
    if job.generator in OF_PICTURES:        # their size is no matter of the arrays alone
        row_bytes = max(row_bytes, 3 * job.image_size[0] * job.image_size[1])
    return job.batch_size * row_bytes


def _is_below(folder: str, allowed: str) -> bool:
    """Whether ``folder`` is ``allowed`` or below it, when all links are followed."""
    try:
        inner, outer = (os.path.realpath(path_bytes(one)) for one in (folder, allowed))
    except ValueError:                      # a NUL, or a lone surrogate: no folder has such a name
        return False
    return os.path.commonpath([inner, outer]) == outer
