"""Pauses of the trainer: its interpreter is busy in one C call, or its process is stopped, while workers work.

    .venv/trainer/bin/python -m tests.faults.pauses --seconds 60 --runs 25 --workers 2 4

Each run is a training of its own (no TensorFlow). It ends as one without a pause: exit code 0, the same audit. After a
busy interpreter the workers are the same members as before, and no step was reassigned. After a stopped process they
have come back. Prints one line per number of workers; the exit code is 1 if a run was not so.
"""

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time

from tests.integration.conftest import draw
from tests.support.processes import Program, interpreter

AT_STEP = 20
LIMIT_S = 120.0         # of a run, besides its pause

#: Its argument: the arguments of open_stream, and "pause_s". A negative pause: the process stops itself.
TRAINER = """
import ctypes, json, logging, os, sys, time
import stoker
logging.basicConfig(format="log %(message)s")
logging.getLogger("stoker").setLevel(logging.DEBUG)
options = json.loads(sys.argv[1])
pause_s = options.pop("pause_s")
with stoker.open_stream(**options) as stream:
    for batch in stream:
        if batch.step == AT_STEP and pause_s:
            while stream._coordinator.fleet.workers < options["workers"]:
                time.sleep(0.05)
            print("pause", flush=True)
            if pause_s < 0:
                os.kill(os.getpid(), 19)
            else:
                ctypes.PyDLL(None).poll(None, 0, int(1000 * pause_s))      # keeps the GIL, as a long sum() does
            end_s = time.monotonic()
        elif batch.step == AT_STEP + 4 * options["prefetch"] and pause_s:
            print("back after %.3f s with %d workers" % (time.monotonic() - end_s, stream._coordinator.fleet.workers),
                  flush=True)
print("end", flush=True)
""".replace("AT_STEP", str(AT_STEP))


class Outcome:
    """What a run came to. ``trouble``: sentences; [] if all was as it should be."""

    def __init__(self, code, lines, content, reference, workers, seconds):
        text = "\n".join(lines)
        back = re.search(r"^back after ([0-9.]+) s with (\d+) workers$", text, re.MULTILINE)
        self.back_s = float(back.group(1)) if back else float("inf")
        self.joined = len([line for line in lines if " joined (" in line])
        self.text, self.trouble = text, []
        forbidden = ["Traceback", "Assertion", "cut off", "rejected connections", "handshake"]
        if seconds >= 0:
            forbidden += ["said Hello again", "lost the connection"]
            if self.joined != workers:
                self.trouble.append("%d workers joined" % self.joined)
            reassigned = re.search(r"leases: (\d+) steps reassigned", text)
            if reassigned and reassigned.group(1) != "0":
                self.trouble.append("%s steps were reassigned" % reassigned.group(1))
        self.trouble += ["the log has %r" % words for words in forbidden if words in text]
        if code != 0 or "end" not in lines:
            self.trouble.append("exit code %s" % code)
        if content != reference:
            self.trouble.append("another audit")


def run(data, folder, name, workers, seconds, reference=None, **options):
    """One training with a pause of so many seconds: an Outcome. Without a ``reference``: its audit's content."""
    audit = os.path.join(str(folder), name)
    options = dict({"data": data, "image_size": 8, "batch_size": 8, "epochs": 8, "seed": 3, "workers": workers,
                    "prefetch": 2 * workers, "worker_python": interpreter("STOKER_TEST_WORKER_PYTHON"), "audit": audit,
                    "pause_s": seconds}, **options)
    with Program(["-c", TRAINER, json.dumps(options)]) as program:
        if seconds < 0:
            program.wait_for_line("^pause")
            time.sleep(-seconds)
            program.send_signal(signal.SIGCONT)
        code = program.wait(abs(seconds) + LIMIT_S)
        lines = list(program.lines)
    with open(audit) as file:
        entries = [json.loads(line) for line in file]
    content = [(entry["step"], entry["epoch"], entry["indices"], entry["crc32"]) for entry in entries]
    if reference is None:
        assert code == 0, "\n".join(lines)
        return content
    return Outcome(code, lines, content, reference, workers, seconds)


def pauses(seconds, runs, workers, at_once):
    """Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="stoker-pauses-") as folder:
        data = os.path.join(folder, "pictures")
        draw(data, "jpg", 120, (30, 40))
        failed = 0
        for count in workers:
            reference = run(data, folder, "reference-%d" % count, count, 0)
            numbers, outcomes = iter(range(runs)), []

            def work(count=count, reference=reference, numbers=numbers, outcomes=outcomes):
                for number in numbers:
                    outcomes.append(run(data, folder, "%d-%d" % (count, number), count, seconds, reference))

            threads = [threading.Thread(target=work) for _ in range(min(at_once, runs))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            bad = [outcome for outcome in outcomes if outcome.trouble]
            failed += len(bad) + runs - len(outcomes)
            backs_s = sorted(outcome.back_s for outcome in outcomes)
            print("%d workers, %g s %s: %d of %d runs as without a pause; %d batches after it: median %.2f s, at most "
                  "%.2f s" % (count, abs(seconds), "stopped" if seconds < 0 else "busy", runs - len(bad), runs,
                              8 * count, backs_s[len(backs_s) // 2], backs_s[-1]), flush=True)
            for outcome in bad[:3]:
                print("%s\n%s" % ("; ".join(outcome.trouble), outcome.text))
        return 1 if failed else 0


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.faults.pauses", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--at-once", type=int, default=6, metavar="N", help="they sleep for most of the time")
    parser.add_argument("--stop", action="store_true", help="SIGSTOP and SIGCONT instead of a busy interpreter")
    args = parser.parse_args()
    return pauses(-args.seconds if args.stop else args.seconds, args.runs, args.workers, args.at_once)


if __name__ == "__main__":
    sys.exit(main())
