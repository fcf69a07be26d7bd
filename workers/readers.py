"""Readers: what a sample function reads its files with. They read below the data folder only, and know bad files.

A path comes from a user's row. It may be absolute, as in many CSV files, if it lies below the data folder as the
trainer or as this worker names it. BadFile means that the file is bad on every host: the sample is left out. Any other
error fails the step: a problem of this host, or an argument that cannot be right.
"""

import builtins
import io
import os
from contextlib import suppress
from typing import Any, BinaryIO, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage import urls
from stoker.pipeline.storage.folder import (
    BadFile, SamplePath, check_access, check_file, is_relative, is_store, resolve)
from stoker.pipeline.storage.place import MARK, place_of
from stoker.pipeline.text import printable_path
from stoker.workers import copies, fetching, images, npy, raw, remarks
from stoker.workers.cache import Cache
from stoker.workers.stopwatch import timed

_MARK = MARK.encode("ascii")
_check_file = timed("storage")(check_file)
_LOADED = ("RGB", "L")      # modes that are made of what the generator 'image' makes


class Readers:
    """The readers of one job. ``cache`` serves ``image`` with a size."""

    def __init__(self, job: Job, cache: Optional[Cache] = None) -> None:
        self._job, self._cache = job, cache
        self._folder, self._is_store = job.data_root.encode("utf-8", "surrogateescape"), is_store(job.data_root)
        self._has_urls = self._is_store or is_store(job.trainer_root)
        self._prefix = os.path.join(self._folder, b"")
        self._root = None if job.follow_links else self._folder
        self._roots: List[builtins.bytes] = []      # what absolute paths may begin with; filled for the first one

    def image(self, path: str, size: Union[None, int, Sequence[int]] = None, mode: Optional[str] = "RGB",
              resample: Union[None, str, int] = None) -> Image.Image:
        """The picture in the file, a PIL image. Example: ``np.asarray(sample.image(size=(66, 200)))``.

        - ``size``: (height, width), or one number for a square; None: as it is. The aspect ratio is not kept.
        - ``mode``: PIL's name of what a pixel is, one of 'RGB', 'RGBA', 'L', 'LA', 'CMYK', 'YCbCr', 'HSV', 'P', '1',
          'I', 'I;16', 'F'; None: as it is stored, with 16 bits ('I;16') and a palette's numbers ('P') kept. Of more
          than 8 bits, 'I', 'I;16' and 'F' have all, the others the upper 8 (or what PIL makes, where ``decode`` is
          'exact' and makes the picture).
        - ``resample``: 'nearest', 'box', 'bilinear', 'hamming', 'bicubic' or 'lanczos'. None, for 'RGB' and 'L': what
          the generator 'image' does with the job's ``decode``, as fast and through the cache; for other colours
          'bicubic'; for mode None, 'P', '1', 'I', 'I;16' and 'F' 'nearest'.

        A mask whose values are classes: ``sample.image(sample.row["mask"], (66, 200), mode=None)``: no value is changed
        or made up.

        With the job's ``exif_rotate``, the picture is made upright. Raises BadFile, or ValueError for an argument.
        """
        file = self.locate(path)
        try:
            if size is None or resample is not None or mode not in _LOADED:
                wanted = None if size is None else images.height_width(size)
                return images.converted(images.read(file)[0], wanted, mode, resample, self._job.exif_rotate,
                                        self._below(file))
            picture = self._sized(file, images.height_width(size))
            return picture if mode == "RGB" else picture.convert(mode)
        except BadFile as error:
            self._blame(error, file)
            raise

    def _sized(self, file: SamplePath, size: Tuple[int, int]) -> Image.Image:
        job = self._job
        kind = None if self._cache is None else self._cache.kind(size, job.decode, job.exif_rotate)
        if kind is None:
            return images.load(file, size, job.decode, job.exif_rotate)
        pixels = np.empty(size + (3,), np.uint8)
        if kind.get(file, pixels):
            return Image.frombytes("RGB", size[::-1], pixels)
        data, status = images.read(file, keep=False)
        before = remarks.count()
        picture = images.decoded(data, size, job.decode, job.exif_rotate, self._below(file))
        if remarks.count() == before:
            kind.put(file, status, picture.tobytes())
        return picture

    def numpy(self, path: str, key: Optional[str] = None) -> np.ndarray:
        """The array in an npy file, or the one called ``key`` in an npz file; ``key`` may be left out if it has only
        one. Arrays of Python objects, which would need pickle, are bad files. Where ``path`` is a place with raw
        numbers, they are the array, in this host's byte order. Raises BadFile; ValueError if there is no such key."""
        file = self.locate(path)
        try:
            if raw.is_raw(file):
                array = raw.read(file)[0]
                if isinstance(array, builtins.bytes):
                    return npy.array_of(array, key)
                if key is not None:
                    raise ValueError("raw numbers have no keys, not %r" % key)
                return array
            return npy.array_of(fetching.read(file)[0], key)
        except BadFile as error:
            self._blame(error, file)
            raise
        except ValueError as error:
            raise ValueError("%s: %s" % (path, error)) from error

    def bytes(self, path: str) -> builtins.bytes:
        """The content of the file, or of the place in it, at most 1 GiB. Raises BadFile."""
        file = self.locate(path)
        try:
            if file.place is not None and file.place.dataset:
                item = raw.read(file)[0]
                return item if isinstance(item, builtins.bytes) else item.tobytes()
            return fetching.read(file)[0]
        except BadFile as error:
            self._blame(error, file)
            raise

    def open(self, path: str) -> BinaryIO:
        """The file's content as a binary file that is open for reading. Raises BadFile."""
        return io.BytesIO(self.bytes(path))

    def file(self, path: str, name: str = "") -> str:
        """The file's absolute path on this host, for code that opens it itself. What is no file of this host, but lies
        in a record file or in a store, is copied to a temporary one, which is there until the batch is done. ``name``:
        its part in the record, for the suffix. Raises BadFile if it cannot be read."""
        file = self.locate(path)
        try:
            if file.place is not None or file.store:
                if file.place is None:
                    name = os.path.splitext(file.name)[1]
                content = raw.read(file)[0] if raw.is_raw(file) else fetching.read(file)[0]
                return copies.copy_of(file.key, content, name)
            _check_file(file)
        except BadFile as error:
            self._blame(error, file)
            raise
        return os.fsdecode(os.path.join(os.getcwdb(), file))

    def relative(self, path: str) -> str:
        """The path of a file from the data folder on. Raises ConfigError if it is not below it."""
        return self._below(self.locate(path))

    def locate(self, path: Any) -> SamplePath:
        """Where the bytes are that a reader gets for ``path``: as ``resolve`` gives it, without a look at the disk.
        Raises ConfigError if it is not below the data's root, TypeError if it is no path."""
        try:
            name = path.encode("utf-8", "surrogateescape")
        except (AttributeError, UnicodeEncodeError):
            name = _name(path)
        place = place_of(name.decode("utf-8", "surrogateescape")) if _MARK in name else None
        if place is not None:
            name = place.path.encode("utf-8", "surrogateescape")
        if name[:1] == b"/":
            name = self._relative(name)
        elif self._has_urls and b"://" in name:
            name = self._relative_url(name)
        if not is_relative(name) or not self._folder:
            raise self._not_below(path)
        if self._is_store:
            relative = name.decode("utf-8", "surrogateescape")
            return resolve(self._job.data_root, relative if place is None else str(place._replace(path=relative)))
        found = SamplePath(self._prefix + name)
        found.root = self._root
        if place is not None:
            found.place = place
        return found

    def _relative(self, name: builtins.bytes) -> builtins.bytes:
        """An absolute path below the data folder as a relative one; other paths as they are."""
        if not self._roots:
            own, trainers = self._folder, self._job.trainer_root.encode("utf-8", "surrogateescape")
            named = (trainers,) if self._is_store else (own, os.path.realpath(own), trainers)
            self._roots = [os.path.join(os.path.normpath(each), b"") for each in named if each[:1] == b"/"]
        if b".." not in name.split(b"/"):
            plain = os.path.normpath(b"/" + name.lstrip(b"/"))
            for root in self._roots:
                if plain.startswith(root):
                    return plain[len(root):]
        return name

    def _relative_url(self, name: builtins.bytes) -> builtins.bytes:
        """A URL below the data's root as a relative path; others as b''."""
        with suppress(ConfigError):
            url = urls.normal(name.decode("utf-8", "surrogateescape"))
            for root in filter(is_store, (self._job.data_root, self._job.trainer_root)):
                if urls.is_below(url, root):
                    below = urls.split(url).path[len(urls.split(root).path):]
                    return below.lstrip("/").encode("utf-8", "surrogateescape")
        return b""

    def _not_below(self, path: Any) -> ConfigError:
        if not self._folder:
            return ConfigError("the file %.300r cannot be read, for the run has no data folder: open the stream with "
                               "root=" % (path,))
        return ConfigError("the file %.300r is not below the data folder %s, the only one that workers read from: name "
                           "it by a path relative to that folder and without '..', or open the stream with another "
                           "root=" % (path, printable_path(self._job.data_root)))

    def _blame(self, error: BadFile, file: SamplePath) -> None:
        """Completes ``error``. Raises ConfigError if not the file but the whole folder is missing."""
        check_access(self._job.data_root)
        name = self._below(file)
        if "\\" in name and not self._is_store and not os.path.lexists(file):
            error.args = ("%s; the path has backslashes, and this host takes only '/'" % error,)
        error.path = name

    def _below(self, file: SamplePath) -> str:
        """The path of ``file`` below the data folder, with its place."""
        if file.store:
            return file.name if file.place is None else str(file.place._replace(path=file.name))
        return file.key[len(self._prefix):].decode("utf-8", "surrogateescape")


def _name(path: Any) -> builtins.bytes:
    """The bytes of a path that is no text; b'' of text that cannot be a path. Raises TypeError."""
    if isinstance(path, str):
        return b""
    if not isinstance(path, (bytes, os.PathLike)):
        raise TypeError("the path of a file to read is %.300r, of type %s: it must be a str"
                        % (path, type(path).__name__))
    return os.fsencode(path)
