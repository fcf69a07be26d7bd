"""``python -m workers``, also ``stoker-worker``: decode for a trainer, here or on another host."""

import os
import platform
import sys
from typing import Callable, Optional, Sequence

try:
    import configargparse

    from stoker.pipeline.options import check_address
    from stoker.pipeline.errors import ConfigError
    from stoker.pipeline.transport.keys import advice, load_worker
    from stoker.workers.cache_folder import DEFAULT_GB, check, reason
    from stoker.workers.supervisor import cores, supervise
except ImportError as error:   # usually the wrong interpreter: say so, where a traceback would not
    sys.exit("stoker-worker: error: %s cannot run workers (%s): pip install Stoker there, or name another interpreter"
             % (sys.executable, error))

DRAIN_S = 10.0


def _parser() -> configargparse.ArgumentParser:
    parser = configargparse.ArgumentParser(
        prog="stoker-worker", auto_env_var_prefix="STOKER_",
        description="Decodes images for a Stoker trainer. Start it before or after the trainer, on any host that sees "
                    "the images; it needs no TensorFlow. What to do, the trainer tells it.",
        epilog="Ctrl-C or SIGTERM once: finish the steps in work, then leave. Twice: leave now.")
    parser.add_argument("--connect", required=True, metavar="tcp://HOST:PORT",
                        help="where the trainer listens (its --bind)")
    parser.add_argument("--processes", type=int, default=cores(), metavar="N",
                        help="worker processes (default: one per core, here %(default)s)")
    parser.add_argument("--keys", metavar="DIR",
                        help="this worker's keys: a copy of the folder workers/NAME that stoker-keys made on the "
                             "trainer's host")
    parser.add_argument("--data", metavar="DIR",
                        help="where the images are on this host (default: where the trainer says they are)")
    parser.add_argument("--allow-generator", action="append", default=[], metavar="MODULE:FUNCTION",
                        help="your own generator that the trainer may ask for; may be given several times")
    parser.add_argument("--follow-links", action="store_true",
                        help="permit runs that follow links out of the data folder (the trainer's --follow-links)")
    parser.add_argument("--cache", metavar="DIR",
                        help="keep decoded samples in this folder, on a disk of this host (no network filesystem); "
                             "wants the package lmdb. What fits is then decoded once for all runs of the same size; "
                             "for the generators image and augmented, and your own that call them")
    parser.add_argument("--cache-gb", type=float, default=DEFAULT_GB, metavar="N",
                        help="most that the cache may grow to, in 2**30 bytes (default: %(default)g)")
    parser.add_argument("--health-file", metavar="FILE",
                        help="touch this file once a second while a trainer is connected: python -m stoker.pipeline.monitoring.health "
                             "FILE, for the health check of a container, says whether that is so")
    parser.add_argument("--once", action="store_true", help="end with the run instead of waiting for the next trainer")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--lifeline", action="store_true",
                        help="stop at once when standard input ends: for a parent process that holds its other end; "
                             "a line with a number in there is how many processes there are to be from now on")
    return parser


def _usable(folder: str, gb: float, note: Callable[[str], None]) -> Optional[str]:
    """The cache's folder, absolute; None, and a line for the user, if it cannot be written to. Raises ConfigError."""
    try:
        check(folder, gb)
        return os.path.abspath(folder)
    except BlockingIOError:                  # busy: the workers try again
        return os.path.abspath(folder)
    except OSError as error:
        note("no cache: %s: %s; samples are decoded every time" % (folder, reason(error)))
        return None


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)

    def note(text: str) -> None:
        print("stoker-worker: %s" % text, file=sys.stderr, flush=True)

    if args.processes < 1:
        parser.error("--processes must be at least 1, not %d" % args.processes)
    try:
        check_address("--connect", args.connect)
        if args.keys is not None:
            load_worker(args.keys)
        if args.cache:
            args.cache = _usable(args.cache, args.cache_gb, note)
    except ConfigError as error:
        parser.error(str(error))
    if args.data is not None and not os.path.isdir(args.data):
        parser.error("--data: there is no folder %r on this host" % args.data)
    worker_args = ["--connect", args.connect]
    if args.keys is not None:
        worker_args += ["--keys", os.path.abspath(args.keys)]
    if args.data is not None:
        worker_args += ["--data", os.path.abspath(args.data)]
    for name in args.allow_generator:
        worker_args += ["--allow-generator", name]
    worker_args += ["--follow-links"] * args.follow_links
    if args.cache:
        worker_args += ["--cache", args.cache, "--cache-gb", repr(args.cache_gb)]
    if args.health_file:
        worker_args += ["--health-file", os.path.abspath(args.health_file)]
    worker_args += ["--once"] * args.once + ["--quiet"] * args.quiet

    if not args.quiet:
        note("%d process%s (python %s) for %s" % (args.processes, "es" * (args.processes > 1),
                                                  platform.python_version(), args.connect))
        if args.keys is not None and advice():
            note(advice())
    return supervise(args.processes, worker_args, args.once, DRAIN_S, args.lifeline, note)


if __name__ == "__main__":
    sys.exit(main())
