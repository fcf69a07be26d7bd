"""What a process holds: memory, open files, threads. All are 0 for a process that is gone."""

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


def _of(pid, count):
    try:
        return count(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return 0
