"""Clients of the status address, in a process of their own: open pages, which ask as the page's script does, and
scrapers, which read /metrics every second.

    python -m benchmarks.visitor URL [--pages 1] [--scrapers 0]

Reads lines from standard input: ``look`` (ask from now on), ``rest`` (do not). At the end of its input it writes a line
of JSON: for each path, how many answers there were by HTTP's status code (0: none), their bytes, and the slowest one.
It imports little and looks into no answer, so that it takes little of the cores that it shares with the run.
"""

import argparse
import json
import re
import socket
import sys
import threading
import time
from typing import Any, Dict, List, Sequence, Tuple

BATCH_S = 2.0         # a page asks for the batch so often, ...
WAITING_S = 0.5       # ... or so often while the server waits for one,
DETAILS_S = 1.0       # and for the details as often as they say, or else so often
SCRAPE_S = 1.0
ANSWER_S = 20.0       # an answer takes so long at most
_NEXT = re.compile(rb'"next_s": ?([0-9.]+)')
_NO_BATCH = re.compile(rb'"step": ?null')
_CODE = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Visits:
    """What the clients got so far. Several threads add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: Dict[str, Dict[str, Any]] = {}

    def add(self, path: str, code: int, size: int, took_s: float) -> None:
        with self._lock:
            seen = self._paths.setdefault(path, {"codes": {}, "bytes": 0, "slowest_s": 0.0})
            seen["codes"][str(code)] = seen["codes"].get(str(code), 0) + 1
            seen["bytes"] += size
            seen["slowest_s"] = max(seen["slowest_s"], took_s)

    def as_json(self) -> str:
        with self._lock:
            return json.dumps(self._paths, sort_keys=True)


def answer(address: Tuple[str, int], path: str) -> bytes:
    """All bytes of the answer; b"" if there is none."""
    request = "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: visitor\r\n\r\n" % ((path,) + address)
    parts: List[bytes] = []
    try:
        with socket.create_connection(address, ANSWER_S) as sock:
            sock.sendall(request.encode("ascii"))
            while True:
                part = sock.recv(1 << 18)
                if not part:
                    break
                parts.append(part)
    except OSError:
        return b""
    return b"".join(parts)


def following_s(path: str, got: bytes, every_s: float) -> float:
    """After so many seconds, a client asks for the path again."""
    if path == "/batch.json":
        return WAITING_S if _NO_BATCH.search(got[:1024]) else every_s
    says = _NEXT.search(got) if path == "/details.json" else None
    return float(says.group(1)) if says else every_s


def visit(address: Tuple[str, int], paths: Sequence[Tuple[str, float]], begin_s: float, looks: threading.Event,
          visits: Visits) -> None:
    """Asks for each of ``paths`` (path, seconds from one answer to the next question), one after the other, while
    ``looks`` is set."""
    due = {path: begin_s for path, _ in paths}
    while True:
        if not looks.is_set():
            looks.wait()
            due = dict.fromkeys(due, time.monotonic())
        path, every_s = min(paths, key=lambda one: due[one[0]])
        time.sleep(max(0.0, due[path] - time.monotonic()))
        if not looks.is_set():
            continue
        asked_s = time.monotonic()
        got = answer(address, path)
        now = time.monotonic()
        code = _CODE.match(got)
        visits.add(path, int(code.group(1)) if code else 0, len(got), now - asked_s)
        due[path] = now + following_s(path, got, every_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="http://HOST:PORT")
    parser.add_argument("--pages", type=int, default=1)
    parser.add_argument("--scrapers", type=int, default=0)
    args = parser.parse_args()
    host, _, port = args.url.rpartition("/")[2].rpartition(":")
    looks, visits = threading.Event(), Visits()
    clients = [((("/details.json", DETAILS_S), ("/batch.json", BATCH_S)), args.pages),
               ((("/metrics", SCRAPE_S),), args.scrapers)]
    for paths, count in clients:
        for number in range(count):
            threading.Thread(target=visit, daemon=True, args=(
                (host, int(port)), paths, time.monotonic() + number / count, looks, visits)).start()
    for line in sys.stdin:
        if line.strip() == "look":
            looks.set()
        else:
            looks.clear()
    print(visits.as_json(), flush=True)


if __name__ == "__main__":
    main()
