"""Loading pictures in processes of their own: another locale, and the memory that bad pictures take."""

import os
import subprocess
import sys

from stoker.pipeline.storage import folder
from tests.support import bad_pictures
from tests.support.processes import ROOT


def test_foreign_names_open_in_the_c_locale(tmp_path):
    """On Python 3.6, LANG=C means ASCII: opening the str would fail there."""
    bad_pictures.photo().save(str(tmp_path / "x.jpg"))
    os.rename(str(tmp_path / "x.jpg").encode(), folder.resolve(str(tmp_path), "caf\u00e9.jpg"))
    code = ("import sys; from stoker.workers import images; from stoker.pipeline.storage import folder; "
            "print(images.load(folder.resolve(sys.argv[1], 'caf\\u00e9.jpg'), (8, 12), 'exact').size)")
    environment = dict(os.environ, LC_ALL="C", PYTHONPATH=ROOT, PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    output = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], env=environment, cwd=ROOT)
    assert output.decode().strip() == "(12, 8)"


def test_a_bomb_takes_no_memory(tmp_path):
    """Measured as the peak of a process that loads nothing else."""
    (tmp_path / "bomb.png").write_bytes(bad_pictures.png(30000, 30000))
    (tmp_path / "text.png").write_bytes(bad_pictures.png(8, 8, *[bad_pictures.text_chunk(16 << 20)] * 4))
    bad_pictures.photo().save(str(tmp_path / "small.jpg"))
    code = ("import resource, sys; from stoker.workers import images\n"
            "from stoker.pipeline.storage.folder import BadFile\n"
            "def peak():\n return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
            "images.load(sys.argv[1] + '/small.jpg', (8, 8), 'fast'); before = peak()\n"
            "for name in ('/bomb.png', '/text.png'):\n"
            " for decode in ('fast', 'fastest', 'sampled', 'exact'):\n"
            "  try: images.load(sys.argv[1] + name, (8, 8), decode)\n"
            "  except BadFile: print(peak() - before)")
    output = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    mebibytes = [int(word) for word in output.split()]
    assert len(mebibytes) == 8 and max(mebibytes) < 40      # of 900 and 64
