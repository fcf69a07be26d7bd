"""An index of packages, or a mirror or proxy of one, that serves another file for a version that is pinned."""

import os
import subprocess
import sys
import zipfile

from tests.support.processes import ROOT

NAME, VERSION = "configargparse", "1.9.0"


def forged_wheel(folder):
    """A wheel of the name and version of a pin, with another module."""
    folder.mkdir()
    path = str(folder / ("%s-%s-py3-none-any.whl" % (NAME, VERSION)))
    info = "%s-%s.dist-info/" % (NAME, VERSION)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(NAME + ".py", "raise SystemExit('the code of a stranger')\n")
        file.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (NAME, VERSION))
        file.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(info + "RECORD", "")


def installed(target, links, *arguments):
    """What ``pip install`` says that finds only the files in ``links``, and what it installs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(links),
                           "--no-deps", "--target", str(target)] + list(arguments), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                          env=dict(environment, PIP_CONFIG_FILE=os.devnull))
    return done.stdout, sorted(os.listdir(str(target))) if target.exists() else []


def test_another_file_for_a_pinned_version_is_not_installed(tmp_path, attacks):
    forged_wheel(tmp_path / "index")
    with open(os.path.join(ROOT, ".setup", "hashes", "workers.txt")) as file:
        pin = next(part for part in file.read().replace(" \\\n", " ").splitlines() if part.startswith(NAME + "=="))
    (tmp_path / "pins.txt").write_text(pin + "\n")
    said, there = installed(tmp_path / "without", tmp_path / "index", "%s==%s" % (NAME, VERSION))
    assert NAME + ".py" in there, said               # by its name and version alone, pip takes it
    said, there = installed(tmp_path / "with", tmp_path / "index", "--require-hashes", "-r", str(tmp_path / "pins.txt"))
    assert there == [] and "DO NOT MATCH THE HASHES" in said, said
    attacks("the package index, or a mirror of it", "another file for a version that is pinned",
            "`make setup` and the Docker images do not install it: each pin has the hashes of its files")
