"""Facts for the report: the machine, the software and the commit that its figures come from."""

import glob
import os
import platform
import re
import subprocess
import time
from typing import List, Tuple

import psutil

from stoker.pipeline.cores import cores

#: CPU features that decoders and resizers have code for.
FLAGS = ("sse4_1", "avx2", "avx512f", "avx512bw")
#: environment -> the packages whose versions matter to its figures
PACKAGES = (("trainer", ("tensorflow", "numpy", "pillow", "pyzmq", "msgpack")),
            ("workers", ("pillow", "numpy", "pyzmq", "msgpack", "lmdb")),
            ("workers-simd", ("pillow_simd", "numpy")),
            ("bench-tensorpack", ("tensorpack", "tensorflow", "opencv_python_headless", "pillow")),
            ("bench-torch", ("torch", "pillow")), ("bench-grain", ("grain", "pillow")),
            ("bench-tensorflow", ("tensorflow_cpu",)), ("bench-limit", ("simplejpeg", "opencv_python_headless")))


def facts() -> List[Tuple[str, str]]:
    """Pairs of a name and its value."""
    model = _of("/proc/cpuinfo", r"model name\s*: (.*)")
    found = [("machine", "%s, %d cores, %s, %.1f GB of memory" % (model, cores(), _flags(),
                                                                  psutil.virtual_memory().total / 2**30)),
             ("system", "%s, Linux %s" % (_of("/etc/os-release", r'PRETTY_NAME="(.*)"'), platform.release()))]
    found += [(".venv/" + name, versions) for name, packages in PACKAGES for versions in [_versions(name, packages)]
              if versions]
    return found + [("commit", commit())]


class Others:
    """What of this machine processes use that do not belong to a measurement, from now on; and what its host takes."""

    def __init__(self, mark: str) -> None:
        """``mark``: NAME=value, in the environment of all processes of the measurement."""
        self._mark = mark.encode()
        self._begun_s, self._stolen_s, self._cpu_s = time.monotonic(), psutil.cpu_times().steal, self._of_all()

    def cores(self) -> float:
        """That they kept busy since then."""
        used = max(0.0, self._of_all() - self._cpu_s)
        stolen = psutil.cpu_times().steal - self._stolen_s
        return float(used + max(0.0, stolen)) / max(1e-3, time.monotonic() - self._begun_s)

    def _of_all(self) -> float:
        """The CPU seconds of all of them. Those of one that has ended are its parent's then, and the sum remains."""
        ticks = 0
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    with open("/proc/%s/environ" % name, "rb") as file:
                        if self._mark in file.read().split(b"\0"):
                            continue
                    with open("/proc/%s/stat" % name) as file:
                        fields = file.read().rpartition(")")[2].split()
                except OSError:
                    continue
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


def commit() -> str:
    """The commit that is checked out, and whether files were changed since."""
    def git(*arguments: str) -> str:
        return subprocess.run(("git",) + arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              universal_newlines=True).stdout.strip()
    try:
        head = git("rev-parse", "--short", "HEAD")
        # the report itself is no change
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/BENCHMARKS.md",
                      ":!docs/benchmarks")
    except OSError:
        return "unknown"
    return (head or "unknown") + " with changes" * bool(changed)


def _versions(name: str, packages: Tuple[str, ...]) -> str:
    folders = glob.glob(os.path.join(".venv", name, "lib", "python3*"))
    if not folders:
        return ""
    found = ["Python " + os.path.basename(folders[0])[len("python"):]]
    installed = {match.group(1).lower(): match.group(2) for each in glob.glob(folders[0] + "/site-packages/*.dist-info")
                 for match in [re.match(r"(.+?)-(.+)\.dist-info$", os.path.basename(each))] if match}
    return ", ".join(found + ["%s %s" % (package.replace("_", "-"), installed[package]) for package in packages
                              if package in installed])


def _flags() -> str:
    flags = _of("/proc/cpuinfo", r"flags\s*: (.*)").split()
    return " ".join(flag for flag in FLAGS if flag in flags) or "no SIMD that is known here"


def _of(path: str, pattern: str) -> str:
    try:
        with open(path) as file:
            match = re.search(pattern, file.read())
    except OSError:
        match = None
    return match.group(1).strip() if match else "unknown"
