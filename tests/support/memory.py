"""What a process holds: memory, open files, threads, mappings. All are 0 for a process that is gone."""

import psutil


def rss_kb(pid):
    """Resident memory of a process in KB."""
    return _of(pid, lambda process: process.memory_info().rss // 1024)


def threads(pid):
    """How many threads a process has."""
    return _of(pid, psutil.Process.num_threads)


def open_files(pid):
    """How many files, pipes and sockets a process has open."""
    return _of(pid, psutil.Process.num_fds)


def mappings(pid, name=""):
    """How many parts of its memory are mapped; with a ``name``: those of files with it in their names."""
    try:
        with open("/proc/%d/maps" % pid, errors="replace") as lines:
            return sum(name in line for line in lines)
    except OSError:
        return 0


def _of(pid, count):
    try:
        return count(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return 0
