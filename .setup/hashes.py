"""Writes .setup/hashes/NAME.txt: each pin of .setup/NAME.txt, with the hashes of all files of that release.

    .venv/workers/bin/python .setup/hashes.py [NAME...]      from the repository's root, after a change of the pins

``pip install --require-hashes`` then takes no other file, whatever the package index, a mirror or a proxy serves. The
hashes are those that the index has now: look at what changes for a version that was there before (nothing should).
"""

import os
import re
import subprocess
import sys
import tempfile
import venv

UV = "uv==0.13.9"           # lists the hashes of all files of a release, for every Python and platform
#: Pins -> the Pythons that they are for, by their minor versions. Not those of the benchmarks, which no user runs on
#: data of others.
PYTHONS = {"build": (6,), "fuzz": range(11, 15), "horovod": (6,), "kube": range(11, 15),
           "lint": range(11, 15), "metrics": (6,), "ray": range(11, 15), "same-pillow": range(7, 11),
           "storage": range(6, 15), "stores": range(11, 15),
           "tests": range(6, 15), "trainer": (6,), "workers": range(7, 15), "workers-simd": range(11, 15)}
#: Pins -> those among them that must be there before the others, which they build.
TOOLS = {"trainer": ("pip", "setuptools", "wheel"), "workers-simd": ("pybind11", "setuptools")}
HEAD = "# Made of ../%s.txt by ../hashes.py: do not edit.\n"


def hashes_of(uv, name):
    """(package, version) -> the hashes of its files, for any of the Pythons."""
    found = {}
    for minor in PYTHONS[name]:
        python = "3.6.15" if minor == 6 else "3.%d" % minor
        text = subprocess.run([uv, "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-header",
                               "--no-annotate", "--python-version", python, ".setup/%s.txt" % name],
                              stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
        for requirement in re.split(r"\n(?=\w)", text):
            package, version = re.match(r"([\w.-]+)==([^\s;]+)", requirement).groups()
            found[package, version] = sorted(set(re.findall(r"sha256:[0-9a-f]{64}", requirement)))
    return found


def main(names):
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        subprocess.run([os.path.join(folder, "bin", "python"), "-m", "pip", "install", "--quiet", UV], check=True)
        os.makedirs(".setup/hashes", exist_ok=True)
        for name in names or sorted(PYTHONS):
            write(name, hashes_of(os.path.join(folder, "bin", "uv"), name))


def write(name, hashes):
    with open(".setup/%s.txt" % name) as file:
        pins = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    lines = {}
    for pin in pins:
        package, version = re.match(r"([\w.-]+)==([^\s;]+)", pin).groups()
        lines[pin] = " \\\n    ".join([pin] + ["--hash=" + each for each in hashes[package.lower(), version]]) + "\n"
    parts = {name: lines.values()}
    if name in TOOLS:
        parts[name + "-tools"] = [lines[pin] for pin in lines if pin.split("==")[0] in TOOLS[name]]
    for part, found in parts.items():
        with open(".setup/hashes/%s.txt" % part, "w") as file:
            file.write(HEAD % name + "".join(found))
        print("%s: %d pins" % (part, len(found)))


if __name__ == "__main__":
    main(sys.argv[1:])
