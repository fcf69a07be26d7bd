"""The shared parts of the tests of the cache: batches of a generator, programs that use a cache as a worker does."""

import contextlib
import glob
import os
import threading
import types
import zlib

import numpy as np
from PIL import Image

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.formats import FORMATS
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage import folder as storage
from stoker.workers.cache import Cache
from stoker.workers.generators import pictures

SIZE = (24, 32)

#: ``cache``: the one that ``batch`` uses, or None
in_use = types.SimpleNamespace(cache=None)

#: A worker process: prints the lines that it logs, and the arguments of ``play_worker`` are its own.
WORKER = """
import sys
from tests.support import caching
caching.play_worker(*sys.argv[1:])
"""

#: Opens the cache's file as a worker does, and stops in the middle of a transaction.
IN_TRANSACTION = """
import os, sys, time
from stoker.workers.cache import Cache
from tests.support.caching import job, kind
cache = Cache(sys.argv[1], 1.0, lambda text, error: print(text, flush=True))
file = kind(cache, job(sys.argv[2]))._file
with cache.folder.locked(), file.env.begin(write=True) as transaction:
    for number in range(200):
        transaction.put(b"%d" % number, bytes(20000))
    reader = file.env.begin()
    print("amid", flush=True)
    time.sleep(600)
"""


def draw(path, seed):
    """A PNG without compression: of one size in bytes, whatever it shows."""
    pixels = np.random.RandomState(seed).randint(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(str(path), "PNG", compress_level=0)


def draw_photos(root, count):
    """Makes the folder ``root`` with so many pictures."""
    root.mkdir()
    for number in range(count):
        draw(root / ("%02d.png" % number), number)
    return root


def job(root, generator="image", size=SIZE, **options):
    arrays = ArraySpec("images", "uint8", size + (3,)), ArraySpec("labels", "int32", (1,))
    options.setdefault("formats", FORMATS)        # TIFF, too, with an old libtiff
    return Job(generator, arrays, 32, options.pop("seed", 3), options.pop("decode", "fast"), str(root), image_size=size,
               **options)


def batch(root, names=None, epoch=0, **options):
    """(pixels by name, reasons of those skipped) of a lease with these files; by default all below the root."""
    names = sorted(os.listdir(str(root))) if names is None else names
    a_job = pictures.with_cache(job(root, **options), in_use.cache)
    samples = tuple(Sample(index, name, 0) for index, name in enumerate(names))
    output, = getattr(pictures, a_job.generator)(iter([Lease(1, 0, epoch, True, samples)]), a_job)
    bad = {names[each.index]: each.reason for each in output.skipped}
    return dict(zip([name for name in names if name not in bad], output.arrays[0])), bad


def same(one, other):
    return sorted(one) == sorted(other) and all(np.array_equal(one[name], other[name]) for name in one)


def digest(pixels):
    return b"%d" % zlib.crc32(b"".join(pixels[name].tobytes() for name in sorted(pixels)))


def play_worker(folder, root, crashed):
    """One batch of one worker: prints the number of samples that were copied, and the digest of all pixels.
    ``crashed``: not '' if the worker before it has crashed."""
    storage._RACY_S = 0.0
    in_use.cache = Cache(folder, 1.0, lambda text, error: print(text), distrusted=bool(crashed))
    pixels, _ = batch(root)
    hits = in_use.cache.hits
    in_use.cache.close()
    print(hits)
    print(digest(pixels).decode())


def kind(cache, a_job):
    """The part of ``cache`` for the pictures of ``a_job``; None if it cannot be used now."""
    return cache.kind(a_job.height_width, a_job.decode, a_job.exif_rotate)


def file_of(cache):
    """The one CacheFile that is open, or None."""
    files = [each._file for each in cache._kinds.values() if each._file is not None]
    assert len(files) < 2
    return files[0] if files else None


def entries(cache):
    file = file_of(cache)
    return file.env.stat()["entries"] if file is not None else 0


def closed(cache):
    """Closes the cache, and waits for its threads, which end with their process, but here the process goes on."""
    cache.close()
    for thread in threading.enumerate():
        if thread.name == "stoker-cache":
            thread.join(60)
            assert not thread.is_alive()


@contextlib.contextmanager
def looking(folder, root, size):
    """A function that counts the samples of pictures below ``root`` that are in the cache, whoever stores them."""
    cache = Cache(str(folder), 1.0, lambda text, error: None)
    try:
        assert kind(cache, job(root, size=size))
        yield lambda: entries(cache)
    finally:
        closed(cache)


class Host:
    """One worker after the other, with one folder for their cache. Each is a new ``Cache`` in this process."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.notes = []

    def worker(self, gb=1.0, distrusted=False):
        """The cache of the next worker; the worker before it has ended in good order."""
        self.end()
        storage.close_kept()                                    # so do the folders that it has open
        in_use.cache = Cache(self.folder, gb, lambda text, error: self.notes.append(text), distrusted=distrusted)
        return in_use.cache

    def end(self):
        if in_use.cache is not None:
            closed(in_use.cache)
            in_use.cache = None

    def batch(self, root, names=None, **options):
        """(pixels by name, number of samples that were copied) by a fresh worker. What it decodes is stored."""
        cache = self.worker(options.pop("gb", 1.0))
        found, bad = batch(root, names, **options)
        return found, cache.hits

    def decoded(self, root, names=None, **options):
        """The pixels by name, without a cache."""
        self.end()
        return batch(root, names, **options)[0]

    @property
    def file(self):
        path, = glob.glob(os.path.join(self.folder, "*.lmdb"))
        return path

    @property
    def bytes(self):
        return sum(os.path.getsize(os.path.join(self.folder, name)) for name in os.listdir(self.folder))

    def logged(self, text):
        return [note for note in self.notes if text in note]
