"""Open pages for tests: clients in a process of their own, which ask as the page's script does."""

import json
import os
from contextlib import contextmanager

from benchmarks.looked_at import thread_ids
from benchmarks.looking import Visitor, thread_cpu_s


@contextmanager
def visiting(url, pages=1, scrapers=0):
    """A Visitor that looks from now on; ``got`` has what it got, when it has ended."""
    visitor = Visitor(url, "--pages", str(pages), "--scrapers", str(scrapers))
    visitor.got = None
    try:
        visitor.look()
        yield visitor
    finally:
        visitor.got = visitor.end()


def codes(got, path):
    """HTTP's status codes of the answers for ``path``, with their numbers: what a Visitor got."""
    return got.get(path, {"codes": {}})["codes"]


def status_cpu_s():
    """CPU seconds of the thread of this process that serves the status address."""
    return thread_cpu_s(os.getpid(), thread_ids()["stoker-status"])


def strict(body):
    """What JSON of a page says. Fails where it is not that of the standard: NaN, a key twice, bytes that are no
    UTF-8."""
    def no_constant(name):
        raise AssertionError("%s is no JSON" % name)

    def once(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), pairs
        return dict(pairs)
    return json.loads(body.decode("utf-8"), parse_constant=no_constant, object_pairs_hook=once)


def texts_of(value):
    """All strings in what JSON said."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from texts_of(below)
    elif isinstance(value, list):
        for below in value:
            yield from texts_of(below)
