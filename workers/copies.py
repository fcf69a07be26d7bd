"""Copies of samples in files of this host, for code that opens files itself, where a sample is no file: it lies in a
record file, or in a store elsewhere.

They live in one folder for each worker process, as long as the batch that they are for. If the process is killed,
``descendants`` removes the folder by its name, which is made of the process's mark: the supervisor's, or the guardian's
if the supervisor is killed too. A sandbox permits writing there if there is a function that could need it.
"""

import os
import re
import tempfile
from contextlib import suppress
from typing import Any, Dict, Optional

import numpy as np

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import IN_WORKER
from stoker.workers import headers
from stoker.workers.descendants import copies_folder

MAX_BYTES = 4 << 30         # of one batch
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "TIFF": ".tif"}
_SHORT = {"BMP": ".bmp", "PPM": ".ppm"}         # formats whose first bytes a text may have as well
_NPY = b"\x93NUMPY"
_SUFFIX = re.compile(r"\.?([A-Za-z0-9][A-Za-z0-9_.]{0,15})\Z")

_made: Dict[bytes, str] = {}        # key of the sample's path -> its copy
_folder: Optional[str] = None
_bytes = 0


def prepare() -> Optional[str]:
    """Makes the folder, if it is not there; returns its path, or None if this host has no place for it."""
    global _folder
    if _folder is None:
        # the quarantine's processes have the sandbox of their worker, and use its folder
        mark = "/".join(os.environ.get(IN_WORKER, "%d/" % os.getpid()).split("/")[:2]) + "/"
        with suppress(OSError):
            path = copies_folder(tempfile.gettempdir(), mark)
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            if os.lstat(path).st_uid == os.geteuid() and os.path.isdir(path) and not os.path.islink(path):
                _folder = path
    return _folder


def folder() -> Optional[str]:
    """The folder, if it was made."""
    return _folder


def copy_of(key: bytes, content: Any, suffix: str = "") -> str:
    """The absolute path of a file with this ``content``, bytes or an array, which is then a npy file. The same for the
    same ``key`` until ``remove_all``. ``suffix``: of its name, where the content does not tell. Raises OSError, and
    ConfigError if a batch's copies take more than MAX_BYTES."""
    global _bytes
    if key in _made:
        return _made[key]
    size = content.nbytes if isinstance(content, np.ndarray) else len(content)
    if _bytes + size > MAX_BYTES:
        raise ConfigError("sample.file made copies of more than %d GiB for one batch: read the samples with "
                          "sample.open() or sample.bytes(), or make the batches smaller" % (MAX_BYTES >> 30))
    where = prepare()
    if where is None:
        raise ConfigError("sample.file has no folder for copies of samples that are no files of this host: make %s a "
                          "folder that this user may write, or name another one with the variable TMPDIR"
                          % (os.environ.get("TMPDIR") or "/tmp"))
    path = os.path.join(where, "%d-%d%s" % (os.getpid(), len(_made), suffix_of(content, suffix)))
    try:
        with open(path, "wb") as file:
            if isinstance(content, np.ndarray):
                np.save(file, content, allow_pickle=False)
            else:
                file.write(content)
    except BaseException:           # the disk is full
        with suppress(OSError):
            os.unlink(path)
        raise
    _made[key] = path
    _bytes += size
    return path


def suffix_of(content: Any, name: str = "") -> str:
    """The suffix by which programs know such ``content``. ``name``: of the part of a record, or a file."""
    if isinstance(content, np.ndarray) or content.startswith(_NPY):
        return ".npy"
    kind, match = headers.format_of(content), _SUFFIX.match(name)
    return _SUFFIXES.get(kind) or ("." + match.group(1) if match else _SHORT.get(kind, ""))


def remove_all() -> None:
    """The batch is done: no code needs its copies any more."""
    global _bytes
    if not _made:
        return
    _made.clear()
    _bytes = 0
    with suppress(OSError):         # also what a process of the quarantine left when it was killed
        for name in os.listdir(_folder or ""):
            with suppress(OSError):
                os.unlink(os.path.join(_folder or "", name))
