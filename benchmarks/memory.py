"""What one picture costs a worker at most: the dearest of each format that the usual limits permit.

64 million pixels, the usual ``max_pixels``, of one colour, so that the files are small and made at once. Each is
decoded in a process of its own, by 'fastest' and by 'exact' with ``exif_rotate``; the dearer one counts.
"""

import json
import os
import subprocess
import tempfile
from typing import Any, Callable, Dict, List, Tuple

from benchmarks.end_to_end import PYTHONS
from benchmarks.table import Goal, Say, Table, main
from stoker.pipeline.options import JobOptions, StreamOptions
from tests.support import hostile_pictures as made

W = H = 8000
#: What it is -> its file. No file is larger than the usual ``max_file_mb``.
PICTURES: Dict[str, Callable[[], bytes]] = {
    "JPEG, baseline": lambda: made.jpeg(W, H),
    "JPEG, baseline, CMYK": lambda: made.jpeg(W, H, 4),
    "JPEG, progressive": lambda: made.slow_jpeg(1, W),
    "JPEG, progressive, CMYK": lambda: made.slow_jpeg(1, W, 4),
    "PNG, RGBA": lambda: made.png(W, H),
    "PNG, RGBA, 16 bits": lambda: made.png(W, H, 6, 16),
    "PNG, grey, 16 bits": lambda: made.png(W, H, 0, 16),
    "PNG, palette": lambda: made.png(W, H, 3, 8, before=made.chunk(b"PLTE", bytes(768))),
    "PNG, 1 bit": lambda: made.png(W, H, 0, 1),
    "WebP, lossless": lambda: made.webp(W, H),
    "WebP, animated": lambda: made.webp_canvas(W, H),
    "GIF": lambda: made.gif((W, H), (W, H), made.lzw(W * H)),
    "BMP, palette": lambda: made.bmp(W, H, 8, 0, bytes(W * H)),
    "BMP, run-length": lambda: made.bmp_runs(W, H),
    "BMP, 16 bits": lambda: made.bmp(W, H, 16, 0, bytes(2 * W * H)),
    "TIFF, RGBA, deflated": lambda: made.tiff_packed(W, H),
    "TIFF, RGBA, 16 bits, deflated": lambda: made.tiff_packed(W, H, 4, 16),
    "TIFF, floating-point, deflated": lambda: made.tiff_packed(W, H, 1, 32, 3),
    "TIFF, grey, 32 bits, deflated": lambda: made.tiff_packed(W, H, 1, 32),
    "PPM, grey": lambda: made.ppm(W, H, b"P5", b"255", bytes(W * H)),
    "PPM, grey, 16 bits": lambda: made.ppm(W, H, b"P5", b"65535", bytes(2 * W * H)),
}
QUICK = ("PNG, RGBA", "WebP, lossless")
WAYS = (("fastest", "0"), ("exact", "1"))
LIMIT_S = 300.0
MEMORY_MB = StreamOptions().memory_mb_of(JobOptions())       # the usual picture_memory_mb


def run(quick: bool, say: Say) -> List[Table]:
    pythons = {name: os.path.join(".venv", environment, "bin", "python") for environment, name in PYTHONS.items()
               if environment != "workers-simd"}
    rows, most = [], 0.0
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        for suffix, data in made.tiny().items():
            _write(os.path.join(folder, "tiny." + suffix), data)
        for what in QUICK if quick else PICTURES:
            data = PICTURES[what]()
            _write(os.path.join(folder, "picture"), data)
            row: List[Any] = [what, "%.1f" % (len(data) / 1e3)]
            for name, python in pythons.items():
                say("%s, %s" % (what, name))
                mb, cpu_s, way, bad = max(_cost(python, folder, *way) for way in WAYS)
                row += ["bad: %s" % bad.split(";")[0] if bad else way, None if bad else mb, None if bad else cpu_s]
                most = max(most, mb)
            rows.append(row)
    columns = ["picture of %d x %d" % (W, H), "KB of the file"]
    for name in pythons:
        columns += ["dearest, " + name, "MB, " + name, "CPU s, " + name]
    notes = ["MB: the most memory above that of an idle worker. One colour takes the least CPU time: files with more "
             "content take more, and picture_cpu_s bounds it.",
             "Limits: max_pixels 64 million, max_file_mb 128, picture_memory_mb %d." % MEMORY_MB]
    return [Table("memory", "What one picture costs a worker at most, by format", columns, rows, notes,
                  [Goal("MB of any picture", most, MEMORY_MB, at_most=True)])]


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _cost(python: str, folder: str, decode: str, exif_rotate: str) -> Tuple[float, float, str, str]:
    """MB, CPU seconds, the way, and why it is bad, or ''."""
    output = subprocess.run([python, "-m", "benchmarks.contenders.one_picture", folder, "picture", decode, exif_rotate],
                            stdout=subprocess.PIPE, check=True, timeout=LIMIT_S).stdout
    found = json.loads(output.decode())
    return found["mb"], found["cpu_s"], decode + ", exif_rotate" * int(exif_rotate), found["bad"]


if __name__ == "__main__":
    main(run, __doc__)
