"""Finds the bad files behind an exception of a user's function that opens files itself.

Old code raises nearly anything when it meets a file that is no picture. So after an exception, the files of its samples
are read and decoded once more: those that are bad are left out, as those that Stoker's readers find bad.
"""

from __future__ import generator_stop

import os
from functools import lru_cache
from typing import FrozenSet, Optional

from PIL import Image, UnidentifiedImageError

from stoker.pipeline.errors import UnfitWorker
from stoker.pipeline.protocol.messages import Job, Sample
from stoker.pipeline.storage.folder import BadFile, check_file, resolve
from stoker.pipeline.storage.store import StoreError
from stoker.workers import fetching, headers, images, raw

_OF_PATHS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def may_be_of_a_file(error: BaseException) -> bool:
    """Whether a bad file can be the cause of ``error``. A lack of memory or a failing disk has another: if files were
    left out then, two runs would differ."""
    return not isinstance(error, (MemoryError, StoreError, UnfitWorker)) and (
        not isinstance(error, OSError) or error.errno is None or isinstance(error, _OF_PATHS))


def cause_of(error: BaseException, sample: Sample, job: Job) -> Optional[BadFile]:
    """The BadFile that is behind ``error``, if a file of ``sample`` or of its partners is bad."""
    if not may_be_of_a_file(error):
        return None
    no_picture = isinstance(error, UnidentifiedImageError)
    return next(filter(None, (_fault_of(each.path, job, no_picture) for each in (sample,) + sample.partners
                              if each.path)), None)


def _fault_of(path: str, job: Job, no_picture: bool) -> Optional[BadFile]:
    """``no_picture``: PIL did not know what it should open, so a part of a record may be meant to be a picture, which
    its name does not tell."""
    file = resolve(job.data_root, path, job.follow_links)
    try:
        if raw.is_raw(file):
            raw.read(file)                           # only the function can judge the numbers
        elif file.place is not None:
            if headers.format_of(fetching.read(file)[0]) or no_picture:
                images.load(file, (1, 1), "exact")
        elif os.path.splitext(path)[1].lower() in _suffixes():
            images.load(file, (1, 1), "exact")       # decodes all of it
        else:
            check_file(file)                         # an array, a text: only the function can judge its content
    except BadFile as bad:
        bad.path = path
        return bad
    return None


@lru_cache(maxsize=1)
def _suffixes() -> FrozenSet[str]:
    """Of the files that Stoker decodes."""
    Image.init()
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in headers.FORMATS)
