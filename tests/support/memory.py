"""What a process holds, read from /proc: memory, open files, threads."""

import os


def rss_kb(pid):
    """Resident memory of a process in KB, 0 if it is gone."""
    return _status(pid).get("VmRSS", 0)


def threads(pid):
    """How many threads a process has, 0 if it is gone."""
    return _status(pid).get("Threads", 0)


def open_files(pid):
    """How many files, pipes and sockets a process has open, 0 if it is gone."""
    try:
        return len(os.listdir("/proc/%d/fd" % pid))
    except OSError:
        return 0


def _status(pid):
    try:
        with open("/proc/%d/status" % pid) as lines:
            fields = (line.split() for line in lines)
            return {words[0][:-1]: int(words[1]) for words in fields if words[0] in ("VmRSS:", "Threads:")}
    except OSError:
        return {}
