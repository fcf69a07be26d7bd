"""Runs over folders in which hostile pictures lie among good ones, and what the runs cost."""

import os
import re
import threading
import time

import psutil

from stoker.pipeline.formats import FORMATS
from stoker.pipeline.options import MAX_PIXELS
from tests.support import hostile_pictures
from tests.support.bad_pictures import jpeg, photo
from tests.support.hostile_pictures import BAD, HOSTILE, LARGE, MEMORY, PIXELS, SLOW, SPARSE
from tests.support.processes import descendants, opened

SAMPLE_S = 0.05
ALL = tuple(HOSTILE) + tuple(SPARSE)
DISTINCT = 8             # good pictures; the others are further links to these


def make(root, good, size=(240, 320), hostile=ALL):
    """A folder without classes: ``good`` pictures of ``size`` (height, width), and those of HOSTILE and SPARSE whose
    names are in ``hostile`` between them."""
    os.makedirs(root)
    first = [os.path.join(root, "good-%06d.jpg" % number) for number in range(min(good, DISTINCT))]
    for number, path in enumerate(first):
        jpeg(path, photo(number, size))
    for number in range(len(first), good):
        os.link(first[number % DISTINCT], os.path.join(root, "good-%06d.jpg" % number))
    for name in hostile:
        path = os.path.join(root, name)
        if name in SPARSE:
            hostile_pictures.write_sparse(path, SPARSE[name])
        else:
            hostile_pictures.write(path, name)
    return root


def bad_names(is_old, max_pixels=MAX_PIXELS, memory_mb=1024):
    """The hostile pictures that are bad with the newest Pillow, or with Pillow 8 (``is_old``): name -> pattern of the
    reason. The limit of CPU time must be far below ten seconds, and the run must name all formats."""
    bad = dict.fromkeys(SPARSE, "a file of more than")
    for name, each in HOSTILE.items():
        fate = each.of(is_old)
        if is_old and each.bytes()[:4] == b"RIFF":
            bad[name] = "WebP, not opened, for libwebp .* has CVE-2023-4863"
            continue
        if fate in (BAD, PIXELS) or fate == LARGE and max_pixels < hostile_pictures.USUAL_PIXELS // 4:
            bad[name] = each.reason
        elif fate == SLOW:
            bad[name] = "takes more than .* s of CPU time"
        elif fate == MEMORY and memory_mb < 80:
            bad[name] = "takes more than .* MB of memory"
    return bad


class Memory(threading.Thread):
    """Samples the memory of all processes below this one. ``peak_mb``: the most of all together, each page that
    several share counted once; ``most``: so many processes at that time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak_mb, self.most, self._over = 0.0, 0, threading.Event()

    def run(self):
        while not self._over.wait(SAMPLE_S):
            found = [mb for mb in map(_pss_mb, descendants(os.getpid())) if mb]
            if sum(found) > self.peak_mb:
                self.peak_mb, self.most = sum(found), len(found)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc_info):
        self._over.set()
        self.join()


def _pss_mb(pid):
    try:
        with open("/proc/%d/smaps_rollup" % pid) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration):
        return 0.0           # it has ended


class Outcome:
    """One pass over a folder: ``bad``: name -> reason; ``count``: of the samples that came; ``seconds``, and
    ``cpu_s`` of all processes below this one; ``peak_mb`` of them; ``text``: the log and what the processes wrote."""

    def __init__(self, root, audit, workers, python=None, **options):
        names = sorted(os.listdir(root))
        start_s, start_cpu_s = time.monotonic(), _children_cpu_s()
        with Memory() as memory, opened(root, audit, workers=workers, worker_python=python, labels=False,
                                        training=False, formats=FORMATS, bad_samples=str(audit) + ".bad",
                                        **options) as run:
            self.bad, self.count = {}, 0
            for batch in run.stream:
                self.count += len(batch)
                self.bad.update((names[skip.index], skip.reason) for skip in batch.skipped)
            self.seconds = time.monotonic() - start_s
            self.text = "\n".join(run.log.lines) + run.printed()
        self.cpu_s, self.peak_mb, self.processes = _children_cpu_s() - start_cpu_s, memory.peak_mb, memory.most
        with open(str(audit) + ".bad", "rb") as file:
            self.listed = file.read()

    def check(self, expected, files):
        """Whether exactly the ``expected`` ones of so many files are bad, each for its reason."""
        assert not set(self.bad) - set(expected), {name: self.bad[name] for name in set(self.bad) - set(expected)}
        assert not set(expected) - set(self.bad), sorted(set(expected) - set(self.bad))
        for name, reason in expected.items():
            assert re.match(reason, self.bad[name]), (name, self.bad[name])
        assert self.count == files - len(expected)


def _children_cpu_s():
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system
