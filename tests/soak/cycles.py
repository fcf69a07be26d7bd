"""Start/kill cycles: a trainer with its workers is started, and one of its processes is killed at a random moment.
Nothing may be left: no process, no listening port, no file. Exit code 1 if anything is.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import psutil

from stoker.pipeline.transport.memory_handover import remove_stale
from tests.integration.conftest import draw
from tests.support.memory import mappings
from tests.support.processes import (CONSUMER, ROOT, command_line, free_port, interpreter, kill, supervisor_pids,
                                     with_environment, worker_pids)

MOMENT_S = 1.2         # until something is killed: from before the imports to well into the training
GONE_WITHIN_S = 10.0   # all processes, after that
AFTERWARDS_S = 0.3     # how long a trainer goes on when a worker of its was killed, before it is killed itself
AT_ONCE = 2            # cycles side by side

#: Signal, target, and how often it is chosen. If there is no supervisor or worker yet, the trainer gets the signal.
ENDS = (("SIGKILL", "trainer", 3), ("SIGTERM", "trainer", 2), ("SIGINT", "trainer", 3), ("SIGINT", "trainer twice", 1),
        ("SIGKILL", "supervisor", 1), ("SIGKILL", "worker", 2))


def listens(port):
    """A process of this host listens on this TCP port."""
    return any(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
               for connection in psutil.net_connections("tcp"))


def cycle(seed, pictures, program=CONSUMER):
    """One cycle, without shared memory, with it, or with it and a folder for its sockets, by the seed. Returns (kind of
    end, seconds until all was gone, what was left as lines)."""
    chance = random.Random(seed)
    signum, whom = chance.choice([(name, whom) for name, whom, weight in ENDS for _ in range(weight)])
    moment_s, port, left = chance.uniform(0, MOMENT_S), free_port(), []
    with tempfile.TemporaryDirectory(prefix="stoker-cycle-") as folder:
        mark = "TMPDIR=%s" % folder
        environment = dict(os.environ, TMPDIR=folder, PYTHONPATH=ROOT, PYTHONUNBUFFERED="1")
        sockets = os.path.join(folder, "sockets")
        os.mkdir(sockets)
        options = dict(data=pictures, image_size=16, batch_size=4, epochs=1000000, workers=1 + chance.randrange(2),
                       worker_python=interpreter("STOKER_TEST_WORKER_PYTHON"), bind="tcp://127.0.0.1:%d" % port,
                       **({"shared_memory": False}, {}, {"shared_memory_folder": sockets})[seed % 3])
        trainer = subprocess.Popen([sys.executable, "-c", program, json.dumps(options)], cwd=ROOT, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(moment_s)
            hit = _end(trainer, signum, whom)
            start = time.monotonic()
            while (trainer.poll() is None or with_environment(mark)) and time.monotonic() < start + GONE_WITHIN_S:
                time.sleep(0.01)
            gone_s = time.monotonic() - start
        finally:
            if trainer.poll() is None:
                left.append("the trainer, %d s after the end" % GONE_WITHIN_S)
            for pid in with_environment(mark):
                left.append("process %d: %s" % (pid, command_line(pid)))
                kill(pid)
            trainer.kill()
            trainer.wait()
        left += ["port %d" % port] * listens(port)
        remove_stale(sockets)               # as the next worker does: what killed ones may leave
        left += ["file %s" % name for name in os.listdir(folder) + os.listdir(sockets) if name != "sockets"]
    return "%s to %s" % (signum, hit), gone_s, ["seed %d: %s" % (seed, what) for what in left]


def _end(trainer, name, whom):
    """Sends the signal. Returns the target."""
    signum = getattr(signal, name)
    workers = worker_pids(trainer.pid)
    targets = {"worker": workers, "supervisor": supervisor_pids(trainer.pid)}.get(whom, [])
    if targets:
        try:
            os.kill(targets[0], signum)
        except ProcessLookupError:
            pass
        if whom == "worker":
            time.sleep(AFTERWARDS_S)
            trainer.send_signal(signum)
        return whom
    trainer.send_signal(signum)
    if whom == "trainer twice":
        time.sleep(0.05)
        trainer.send_signal(signum)
        return whom
    return "trainer"


def cycles(count, seed, program=CONSUMER):
    """Returns the exit code."""
    from tqdm import tqdm
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:      # as a shell's background jobs have it, and would pass on
        signal.signal(signal.SIGINT, signal.default_int_handler)
    taken, left = collections.defaultdict(list), []
    shared = set(os.listdir("/dev/shm"))
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stoker-cycles-") as pictures, ThreadPoolExecutor(AT_ONCE) as pool:
        draw(pictures, "jpg", 16, (24, 24))
        jobs = [pool.submit(cycle, seed + number, pictures, program) for number in range(count)]
        for job in tqdm(as_completed(jobs), total=count, unit="cycle", disable=None):
            end, gone_s, more = job.result()
            taken[end].append(gone_s)
            left += more
    left += ["/dev/shm/%s" % name for name in _left_in("/dev/shm", shared)]
    print("cycles: %d in %.0f s, %d at a time, killed 0 to %g s after the start"
          % (count, time.monotonic() - start, AT_ONCE, MOMENT_S))
    print("  %-26s %7s %12s %12s" % ("end", "cycles", "median s", "slowest s"))
    for end, seconds in sorted(taken.items()):
        print("  %-26s %7d %12.2f %12.2f" % (end, len(seconds), sorted(seconds)[len(seconds) // 2], max(seconds)))
    print("  left behind: %s" % ("\n    ".join([""] + left) if left else "nothing"))
    return 1 if left else 0


def _left_in(folder, before):
    """The names that a folder has since then. Those of other programs, which come and go meanwhile, or which a process
    uses now that no process of a cycle runs, are not meant."""
    left = set(os.listdir(folder)) - before
    for _ in range(20 if left else 0):
        time.sleep(0.1)
        left &= set(os.listdir(folder))
    return sorted(name for name in left if not any(mappings(pid, os.path.join(folder, name)) for pid in psutil.pids()))


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.soak.cycles", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    return cycles(args.cycles, args.seed)


if __name__ == "__main__":
    sys.exit(main())
