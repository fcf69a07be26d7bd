"""Finds the file behind an I/O error, such as a bad sector of a disk: a file that cannot be read, while others can.

No memory, no handles left, a file system that is away: these are troubles of a host or of a moment, and so fail the
step, which is tried elsewhere. A bad sector stays. So the worker says which file it was, and the trainer decides: after
a few tries, by other workers where there are some, the sample is bad. If none of a few other files can be read either,
no file is to blame. A store elsewhere has no bad sectors: its errors fail the step.
"""

import errno
import os
from typing import List, Optional, Tuple

from stoker.pipeline.protocol.messages import MAX_REASON, MAX_SKIPPED_PATH, Job, Lease, Skipped, sendable
from stoker.pipeline.storage.folder import BadFile, is_store, open_file, read_file, resolve

#: What file systems say of damaged places. ESTALE, ENOTCONN, ETIMEDOUT and their like are of the way to the file.
OF_A_FILE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EREMOTEIO)
OTHERS = 3              # files that are read beside it


def unreadable(error: BaseException, lease: Lease, job: Job) -> Tuple[Skipped, ...]:
    """The sample of ``lease`` whose file is the cause of ``error``, and why; () if no file is."""
    cause = _cause_of(error)
    if cause is None or not job.data_root or is_store(job.data_root):
        return ()
    samples = [(sample.index, sample.path) for sample in lease.samples + lease.replacements if sample.path]
    owner, path = getattr(cause, "owner", None), getattr(cause, "path", "")
    suspects = [(owner, path)] if owner is not None and path else samples
    found = next(((index, path) for index, path in suspects if _problem(path, job)), None)
    if found is None:
        return ()
    others = [path for _, path in samples if path != found[1]] or [path for path in job.probes if path != found[1]]
    others = others[-OTHERS:]        # those at the end were not read yet: no cache of the host has them
    if others and all(_problem(path, job) for path in others):
        return ()
    index, path = found
    own = dict(samples).get(index)
    reason = "cannot be read on any try (%s)" % (_problem(path, job) or os.strerror(cause.errno or errno.EIO))
    return (Skipped(index, sendable(reason, MAX_REASON), "" if path == own else sendable(path, MAX_SKIPPED_PATH)),)


def _cause_of(error: Optional[BaseException]) -> Optional[OSError]:
    seen: List[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in OF_A_FILE:
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _problem(path: str, job: Job) -> str:
    """Why the file cannot be read; '' if it can, or if it is bad for another reason, which the generator finds."""
    try:
        file = resolve(job.data_root, path, job.follow_links)
        if file.place is not None and file.place.dataset:
            os.close(open_file(file)[0])            # h5py reads it, from anywhere in the file
        else:
            read_file(file)
    except OSError as error:
        return os.strerror(error.errno) if error.errno in OF_A_FILE else ""
    except (BadFile, MemoryError):
        pass
    return ""
