"""How many cores this process may use: those that it may run on, and no more than its CPU quota is worth; and how much
memory.

A container with ``--cpus 2`` on a host of 64 cores sees all of them, and the kernel stops its processes for the rest of
each tenth of a second when they have used two. So a quota counts as cores, in cgroups of version 1 and 2; of a process
in nested groups, the tightest one. The same holds for limits of memory.
"""

import math
import os
import re
from typing import Callable, Iterator, List, Optional, Tuple

Read = Callable[[str], Optional[str]]      # the text of a file; None if it is not there


def cores() -> int:
    """The number of cores that this process may use, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return count(affinity, quota(_text))


def count(affinity: int, quota_cores: float) -> int:
    """The cores to use of ``affinity``: a part of a core is rounded up, as it could not be used otherwise."""
    return max(1, min(affinity, math.ceil(min(quota_cores, affinity) - 1e-6)))


def quota(read: Read) -> float:
    """The CPU quota of this process in cores, such as 0.5; infinite without one. ``read`` gives the text of a file of
    /proc and of the cgroup file systems."""
    return min((_quota_of(read, *group) for group in _groups(read, "cpu")), default=math.inf)


def memory_bytes() -> float:
    """The most memory that this process and all others of its cgroup, such as a container, may have together; infinite
    without a limit."""
    return memory_limit(_text)


def memory_limit(read: Read) -> float:
    """The same; ``read`` as for ``quota``."""
    return min((_memory_of(read, *group) for group in _groups(read, "memory")), default=math.inf)


def _groups(read: Read, controller: str) -> Iterator[Tuple[str, bool]]:
    """The folder of each group that limits this process with ``controller``, and whether it is of version 2."""
    memberships = [line.split(":", 2) for line in (read("/proc/self/cgroup") or "").splitlines() if line.count(":") > 1]
    for mount, root, controllers in _mounts(read("/proc/self/mountinfo") or ""):
        for _, names, path in memberships:
            if (names == "") if controllers is None else (controller in names.split(",") and controller in controllers):
                for folder in _folders(mount, root, path):
                    yield folder, controllers is None


def _mounts(mountinfo: str) -> List[Tuple[str, str, Optional[List[str]]]]:
    """(mount point, the group that is its root, controllers; None: version 2) of each cgroup file system."""
    found = []
    for line in mountinfo.splitlines():
        mount, _, file_system = line.partition(" - ")
        fields, kind = mount.split(" "), file_system.split(" ")
        if len(fields) > 4 and kind[0] in ("cgroup", "cgroup2"):
            found.append((_unescaped(fields[4]), _unescaped(fields[3]),
                          None if kind[0] == "cgroup2" else kind[-1].split(",")))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _folders(mount: str, root: str, path: str) -> List[str]:
    """The folders of the group ``path`` and of all groups around it, as far as they can be seen here."""
    # in a container, the file system may begin at the container's own group, or the path at that of the host
    below = path[len(root.rstrip("/")):] if (path + "/").startswith(root.rstrip("/") + "/") else ""
    names = [name for name in below.split("/") if name]
    if ".." in names:
        names = []
    return ["/".join([mount.rstrip("/")] + names[:depth]) for depth in range(len(names), -1, -1)]


def _quota_of(read: Read, folder: str, is_second: bool) -> float:
    """Of one group, in cores."""
    if is_second:
        words = (read(folder + "/cpu.max") or "").split()
    else:
        words = [(read(folder + name) or "").strip() for name in ("/cpu.cfs_quota_us", "/cpu.cfs_period_us")]
    try:
        allowed, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):         # "max", or the root group, which has no quota
        return math.inf
    return allowed / period if allowed > 0 and period > 0 else math.inf      # -1: none


def _memory_of(read: Read, folder: str, is_second: bool) -> float:
    """Of one group, in bytes."""
    try:
        return int(read(folder + ("/memory.max" if is_second else "/memory.limit_in_bytes")) or "")
    except ValueError:                       # "max", or the root group, which has none
        return math.inf


def _text(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None
