"""What the tests of the cache share: batches of a generator, and programs that use a cache as a worker does."""

import os
import types
import zlib

import numpy as np
from PIL import Image

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage import folder as storage
from stoker.workers.cache import Cache
from stoker.workers.generators import pictures

SIZE = (24, 32)

#: ``cache``: the one that ``batch`` uses, or None
in_use = types.SimpleNamespace(cache=None)

#: A worker of its own: what it copies or decodes, and a line for each thing that it notes.
WORKER = """
import sys
from tests.support import caching
caching.play_worker(*sys.argv[1:])
"""

#: Opens the file of the cache as a worker does, and stops amid a transaction.
IN_TRANSACTION = """
import os, sys, time
from stoker.workers.cache import Cache
from tests.support.caching import job
cache = Cache(sys.argv[1], 1.0, lambda text, error: print(text, flush=True))
assert cache.use(job(sys.argv[2]))
with cache._folder.locked(), cache._file.env.begin(write=True) as transaction:
    for number in range(200):
        transaction.put(b"%d" % number, bytes(20000))
    reader = cache._file.env.begin()
    print("amid", flush=True)
    time.sleep(600)
"""


def draw(path, seed):
    """A PNG without compression: of one size in bytes, whatever it shows."""
    pixels = np.random.RandomState(seed).randint(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(str(path), "PNG", compress_level=0)


def job(root, generator="image", size=SIZE, **options):
    arrays = ArraySpec("images", "uint8", size + (3,)), ArraySpec("labels", "int32", (1,))
    return Job(generator, arrays, 32, options.pop("seed", 3), options.pop("decode", "fast"), str(root), **options)


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
    """A worker in a process of its own: says the samples that it copied, and what all of them are."""
    storage._RACY_S = 0.0
    in_use.cache = Cache(folder, 1.0, lambda text, error: print(text), crashed=bool(crashed))
    pixels, _ = batch(root)
    hits = in_use.cache.hits
    in_use.cache.close()
    print(hits)
    print(digest(pixels).decode())


def entries(cache):
    return cache._file.env.stat()["entries"] if cache._file is not None else 0
