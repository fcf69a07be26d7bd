"""Fuzzes the decoding of pictures, on both Pythons: mutations of small files of each format, in expendable processes.

Each picture is decoded as a worker decodes it, with a worker's limits of CPU time and memory. One that ends its process
is kept in a file and given to the quarantine, which must name it as a bad file. It is a fault if it does not, if a
picture is neither good nor bad, or takes more memory than the limit. Seed and number reproduce a picture:

    python -m tests.fuzz.fuzz_pictures --seed 0 --first 1234 --runs 1
"""

import argparse
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

import numpy as np
from PIL import Image

from stoker.pipeline.cores import cores
from stoker.workers.supervisor import explain_exit
from tests.fuzz.picture_child import HOSTILE, corpus_in
from tests.fuzz.picture_mutation import PictureMutator
from tests.support import bad_pictures, hostile_pictures
from tests.support.processes import ROOT, interpreter

CHUNK = 250                  # pictures that a process is given at a time
OF_ONE_PROCESS = 5000        # pictures, then comes another one
SLACK_KB = 64 << 10          # of a process, above its limit: what its libraries keep, and the pictures themselves
SMALL = 4096                 # bytes of a hostile picture that the corpus takes in
HANG_S = 60.0                # of real time, beyond the CPU limit: on a busy machine, a process may get little of it
#: mode -> formats, with the options of each, in which the corpus has a picture of it.
SAVED = {
    "RGB": [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"subsampling": 0, "quality": 99}),
            ("JPEG", {"exif": bad_pictures.exif(6)}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}),
            ("BMP", {}), ("PPM", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}), ("TIFF", {"compression": "packbits"}),
            ("TIFF", {"compression": "jpeg"})],
    "RGBA": [("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})],
    "L": [("JPEG", {}), ("PNG", {}), ("GIF", {}), ("BMP", {}), ("PPM", {}), ("TIFF", {})],
    "P": [("PNG", {"transparency": 3}), ("GIF", {"interlace": 1}), ("BMP", {}),
          ("TIFF", {"compression": "tiff_lzw"})],
    "1": [("PNG", {}), ("BMP", {}), ("PPM", {}), ("TIFF", {"compression": "group4"}),
          ("TIFF", {"compression": "group3"}), ("TIFF", {"compression": "tiff_ccitt"})],
    "CMYK": [("JPEG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_adobe_deflate"})],
    "LA": [("PNG", {}), ("TIFF", {})],
    "I": [("PNG", {}), ("TIFF", {})],
    "F": [("TIFF", {})],
    "I;16": [("PNG", {}), ("TIFF", {})],
}


def write_corpus(folder):
    """Small files of every format."""
    picture = bad_pictures.photo(3, (18, 24))
    for mode, ways in SAVED.items():
        image = (Image.fromarray(np.arange(432, dtype=np.uint16).reshape(18, 24) * 150) if mode == "I;16"
                 else picture.convert("L").convert(mode) if mode in ("LA", "I", "F") else picture.convert(mode))
        for number, (form, options) in enumerate(ways):
            image.save(os.path.join(folder, "%s-%d.%s" % (mode.replace(";", ""), number, form.lower())), form,
                       **options)
    for suffix, options in (("gif", {}), ("png", {}), ("webp", {"lossless": True, "duration": 100})):
        bad_pictures.photo(0, (8, 8)).save(os.path.join(folder, "animated." + suffix), save_all=True,
                                           append_images=[bad_pictures.photo(1, (8, 8))], **options)
    for name, hostile in hostile_pictures.HOSTILE.items():
        data = b"" if name in hostile_pictures.NAMES else hostile.bytes()
        if 0 < len(data) <= SMALL and not name.startswith(("below", "above")):
            with open(os.path.join(folder, HOSTILE + name), "wb") as file:
                file.write(data)


class Findings:
    """What came of the pictures on one Python. ``lock`` guards it."""

    def __init__(self, name):
        self.name, self.lock = name, threading.Lock()
        self.outcomes, self.reasons, self.deaths, self.faults = Counter(), Counter(), Counter(), []
        self.slowest, self.peak = (0.0, ""), (0, "")

    def add(self, number, name, outcome, reason, spent_ms, grown_kb):
        with self.lock:
            self.outcomes[outcome] += 1
            if outcome == "raised":
                self.faults.append("picture %d (%s) raised %s" % (number, name, reason))
            elif outcome == "bad":
                self.reasons[reason.partition(":")[0][:40].rstrip("0123456789")] += 1
            which = "picture %d, %s" % (number, name)
            self.slowest, self.peak = max(self.slowest, (spent_ms, which)), max(self.peak, (grown_kb, which))


class Fuzz:
    """The pictures first to last of a seed, decoded by ``python``. ``run`` is for a thread of its own."""

    def __init__(self, python, given, chunks, findings, found, done):
        self._python, self._given, self._chunks = python, given, chunks
        self._findings, self._found, self._done = findings, found, done
        self._corpus = corpus_in(given["corpus"])

    def run(self):
        try:
            child = None
            while True:
                try:
                    begin, end = self._chunks.get_nowait()
                except queue.Empty:
                    break
                while begin < end:
                    child = child or Child(self._python, self._given)
                    begin = self._chunk(child, begin, end)
                    if child.ended or child.taken >= OF_ONE_PROCESS:
                        child = child.close()
            if child is not None:
                child.close()
        except Exception as error:       # a bug of the fuzzer: without it, the pictures would be missing
            with self._findings.lock:
                self._findings.faults.append("the fuzzer: %s" % error)

    def _chunk(self, child, begin, end):
        """Where to go on: at ``end``, or behind the picture that ended the process."""
        child.ask(begin, end)
        for number in range(begin, end):
            line = child.line(self._given["cpu_s"] * 4 + HANG_S)
            if not line:
                self._died(number, child)
                self._done(number + 1 - begin)
                return number + 1
            _, name, outcome, reason, spent_ms, kb = json.loads(line)
            self._findings.add(number, name, outcome, reason, spent_ms, child.grown_kb(kb))
        self._done(end - begin)
        return end

    def _died(self, number, child):
        name, data = PictureMutator(self._corpus, self._given["seed"], number).picture()
        how = "hangs" if child.running() else explain_exit(child.wait())
        if how.startswith("exit code"):
            raise RuntimeError("its process ended with %s at picture %d:\n%s" % (how, number, child.errors()))
        path = os.path.join(self._found, "%s-%d-%d-%s" % (self._findings.name, self._given["seed"], number, name))
        with open(path, "wb") as file:
            file.write(data)
        reason = self._named_by_quarantine(number, path)
        with self._findings.lock:
            self._findings.outcomes["died"] += 1
            self._findings.deaths["%s: %s" % (how, reason or "NOT NAMED")] += 1
            if not reason:
                self._findings.faults.append("picture %d (%s) ended its process with %s, and the quarantine finds it "
                                             "good: %s" % (number, name, how, path))

    def _named_by_quarantine(self, number, path):
        """Why it is a bad file, by the quarantine of a worker; '' if it is not."""
        given = dict(self._given, root=os.path.dirname(path), named=os.path.basename(path), number=number)
        done = subprocess.run(_command(self._python, given), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              cwd=ROOT, env=_environment())
        reasons = json.loads(done.stdout.decode()) if done.returncode == 0 else []
        return reasons[0] if reasons else ""


class Child:
    """A process that decodes pictures."""

    def __init__(self, python, given):
        self._folder = tempfile.TemporaryDirectory(prefix="stoker-fuzz-")
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(_command(python, dict(given, root=self._folder.name)), stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._errors, cwd=ROOT, env=_environment())
        self._text, self._idle_kb, self.taken, self.ended = b"", 0, 0, False

    def ask(self, begin, end):
        self._process.stdin.write(b"%d %d\n" % (begin, end))
        self._process.stdin.flush()

    def line(self, limit_s):
        """The next line; b'' if the process ended, or says nothing for so long."""
        pipe, deadline = self._process.stdout, time.monotonic() + limit_s
        while b"\n" not in self._text:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(pipe.fileno(), 1 << 16) if ready else b""
            if not part:
                self.ended = True
                return b""
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        self.taken += 1
        return line

    def grown_kb(self, kb):
        """How much more memory it has had than after its first picture."""
        self._idle_kb = self._idle_kb or kb
        return kb - self._idle_kb

    def running(self):
        """It has not ended, though its output did not come; an ended one closes its output first."""
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            return True
        return False

    def wait(self):
        return self._process.wait()

    def errors(self):
        """The end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:]

    def close(self):
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except OSError:          # it did not read all
                pass
        self._errors.close()
        self._folder.cleanup()


def _command(python, given):
    return [python, "-m", "tests.fuzz.picture_child", json.dumps(given)]


def _environment():
    return dict(os.environ, PYTHONPATH=ROOT, PYTHONDONTWRITEBYTECODE="1")


def fuzz(pythons, first, runs, given, found):
    """Decodes ``runs`` pictures on each of ``pythons``. Returns a list of Findings."""
    from tqdm import tqdm
    results, lock = [], threading.Lock()
    with tempfile.TemporaryDirectory(prefix="stoker-fuzz-") as corpus, tqdm(
            total=runs * len(pythons), unit="picture", disable=None) as bar:
        write_corpus(corpus)
        given = dict(given, corpus=corpus)

        def done(count):
            with lock:
                bar.update(count)
        for name, python in pythons:
            findings, chunks = Findings(name), queue.Queue()
            for begin in range(first, first + runs, CHUNK):
                chunks.put((begin, min(begin + CHUNK, first + runs)))
            threads = [threading.Thread(target=Fuzz(python, given, chunks, findings, found, done).run)
                       for _ in range(min(cores(), chunks.qsize()))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            results.append(findings)
    return results


def report(results, memory_mb, seconds):
    """Prints what came of it. Returns how many faults there are."""
    faults = 0
    for each in results:
        count = sum(each.outcomes.values())
        peak_kb, peaked = each.peak
        print("pictures, %s: %d in all: %s" % (each.name, count, ", ".join(
            "%d %s" % (number, outcome) for outcome, number in each.outcomes.most_common())))
        print("  bad: %s" % ", ".join("%s %d" % item for item in each.reasons.most_common(8)))
        for death, number in each.deaths.most_common():
            print("  %d ended their process with %s" % (number, death))
        print("  most memory %d MB above an idle process, limit %d MB (%s); slowest %.0f ms (%s)"
              % (peak_kb >> 10, memory_mb, peaked, each.slowest[0], each.slowest[1]))
        if peak_kb > (memory_mb << 10) + SLACK_KB:
            each.faults.append("a process took %d MB, limit %d MB" % (peak_kb >> 10, memory_mb))
        for fault in each.faults:
            print("stoker: fuzz_pictures: %s: %s" % (each.name, fault))
        faults += len(each.faults)
    print("  all in %.0f s" % seconds)
    return faults


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.fuzz_pictures", description=__doc__)
    parser.add_argument("--runs", type=int, default=20000, help="pictures in all, half of them on each Python")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first picture")
    parser.add_argument("--cpu-s", type=float, default=5.0, help="CPU limit of a picture")
    parser.add_argument("--memory-mb", type=int, default=1024, help="memory limit of a picture")
    parser.add_argument("--found", default="", help="folder for pictures that end their process")
    args = parser.parse_args()
    newest = interpreter("STOKER_TEST_WORKER_PYTHON")
    pythons = [("this-python", sys.executable)] + ([("workers-python", newest)] if newest else [])
    found = args.found or tempfile.mkdtemp(prefix="stoker-fuzz-found-")
    os.makedirs(found, exist_ok=True)
    start_s = time.monotonic()
    given = {"seed": args.seed, "cpu_s": args.cpu_s, "memory_mb": args.memory_mb}
    results = fuzz(pythons, args.first, -(-args.runs // len(pythons)), given, found)
    faults = report(results, args.memory_mb, time.monotonic() - start_s)
    if os.listdir(found):
        print("  the pictures that ended their process are in %s" % found)
    else:
        os.rmdir(found)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
