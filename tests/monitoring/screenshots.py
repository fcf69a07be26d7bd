"""Makes the pictures of the status page in README.md and docs/STATUS.md, of a real training on the sample data:

    make screenshots

The training is the usual one; its data also has two damaged files, and one of its workers is killed.
"""

import os
import re
import shutil
import sys
import tempfile
import time

from PIL import Image

from stoker.pipeline.sources import sample_data
from tests.support.browser import Browser
from tests.support.documents import read
from tests.support.processes import Program, free_port, kill, wait_for, worker_pids

COUNT, WORKERS = 2000, 3
BEFORE_S, AFTER_S = 35.0, 45.0        # of training, before and after the worker is killed
MAX_BYTES = 200 << 10
EPOCHS = 20
LIMIT_S = 300.0


def make_data(folder):
    """The sample data, and two files as they are found in real folders."""
    sample_data.main([folder, "--count", str(COUNT)])
    first = os.path.join(folder, "positive", sorted(os.listdir(os.path.join(folder, "positive")))[0])
    with open(first, "rb") as file:
        half = file.read()[:1500]
    for name, content in (("negative/fish (copy).jpg", half), ("positive/IMG_0412.jpg", b"<html>404 Not Found</html>")):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)


def shoot(page, path, whole=True):
    """A picture of the page; with a palette, if it is too large without one."""
    page.screenshot(path, whole=whole)
    picture = Image.open(path).convert("RGB")
    picture.save(path, optimize=True)
    if os.path.getsize(path) > MAX_BYTES:
        picture.quantize(palette=palette_of(picture), dither=Image.NONE).save(path, optimize=True)
    print("%s: %d x %d, %d KB" % (path, *picture.size, os.path.getsize(path) // 1024))


def palette_of(picture):
    """The colours of the page's styles, and its most frequent ones, stay as they are; the rest is for the pictures."""
    own = [tuple(int(colour[at:at + 2], 16) for at in (0, 2, 4))
           for colour in re.findall(r"#([0-9a-f]{6})\b", read("trainer/status/page/page.css"))]
    own.append((255, 255, 255))
    most = [colour for _, colour in sorted(picture.getcolors(1 << 24), reverse=True)[:128 - len(own)]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in own + most for value in colour]
                       + picture.quantize(128, method=Image.MEDIANCUT).getpalette()[:3 * 128])
    return palette


def main(out):
    os.makedirs(out, exist_ok=True)
    folder = tempfile.mkdtemp()
    try:
        data, status = os.path.join(folder, "sample-data"), "127.0.0.1:%d" % free_port()
        make_data(data)
        with Program(["-m", "trainer", data, "--epochs", str(EPOCHS), "--workers", str(WORKERS), "--status", status,
                      "--image-size", "64x64", "--checkpoint-dir", os.path.join(folder, "run"), "--generator",
                      "augmented"]) as trainer, \
                Browser(os.environ["STOKER_TEST_CHROMIUM"]) as browser:
            page = browser.page(1240, 900)
            wait_for(lambda: "status: " in trainer.text or not trainer.running(), "the status page")
            page.goto("http://%s/" % status)
            page.wait_for("document.querySelectorAll('#workers tbody tr').length == %d" % WORKERS)
            time.sleep(BEFORE_S)
            kill(worker_pids(trainer.pid)[0])
            time.sleep(AFTER_S)
            page.wait_for("(document.querySelector('#verdict b') || {}).textContent", LIMIT_S)
            page.evaluate("document.getElementById('next').click()")
            page.wait_for("document.getElementById('next').getAttribute('aria-disabled') == 'false'")
            shoot(page, os.path.join(out, "status.png"))
            page.prefer(color_scheme="dark")
            shoot(page, os.path.join(out, "status-dark.png"))
            page.prefer(color_scheme="light")
            page.resize(360, 720, scale=1, mobile=True)
            shoot(page, os.path.join(out, "status-phone.png"), whole=False)
            kill(trainer.pid)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1])
