"""The command line of ``python -m workers``: options in, WorkerOptions out."""

import os
import platform
from typing import Optional, Sequence

import configargparse

from stoker.pipeline.checks import AUTO, MAX_READ_AHEAD, MAX_WAITING_MB, check_read_ahead
from stoker.pipeline.cores import cores
from stoker.pipeline.environment import warnings
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import DEFAULT_CACHE_GB, MAX_BATCH_MB, SANDBOX, SANDBOX_AUTO, WorkerOptions
from stoker.pipeline.storage.urls import is_url, normal
from stoker.pipeline.transport.keys import advice, load_worker
from stoker.workers.host import note, run

EPILOG = """\
examples:
  stoker-worker --connect tcp://trainer:5555 --data /mnt/photos --keys keys/workers/NAME
  stoker-worker --connect tcp://127.0.0.1:5555 --processes 4 --cache /var/tmp/stoker
  stoker-worker --connect tcp://trainer:5555 --data /mnt/photos --allow-generator my_module:my_generator
  stoker-worker --connect tcp://trainer:5555-5558 --data /mnt/photos --keys keys/workers/NAME    (four ranks)

Ctrl-C or SIGTERM: each process finishes the batch in work, then all leave. A second one: they leave at once.
A process that dies is restarted; the trainer gives its batch to another one. Exit codes: 0 the run is over, or asked to
stop; 1 an error; 2 wrong options; 3 the trainer refuses this worker for good, such as one of another Stoker version.
"""


def make_parser() -> configargparse.ArgumentParser:
    """The command line. A launcher on another host checks options with it."""
    parser = configargparse.ArgumentParser(
        prog="stoker-worker", auto_env_var_prefix="STOKER_",
        formatter_class=configargparse.RawDescriptionHelpFormatter, epilog=EPILOG,
        description="Decodes images for a Stoker trainer. Start it before or after the trainer, on any host that has "
                    "the images.\nIt needs no TensorFlow. The trainer decides what is decoded, and how.")
    add = parser.add_argument
    add("--connect", action="append", required=True, metavar="tcp://HOST:PORT",
        help="address of the trainer: the one that it prints, or its --bind. Workers may serve several trainers, such "
             "as the ranks of one run, and make the batch that is needed first: repeat the option, or name several "
             "ports, tcp://HOST:5555-5558 (in STOKER_CONNECT also several addresses with commas between)")
    add("--processes", type=int, default=cores(), metavar="N",
        help="number of worker processes (default: one per core, here %(default)s)")
    add("--keys", metavar="DIR", help="folder with this worker's keys: a copy of the folder workers/NAME that "
        "stoker-keys made on the trainer's host. Needed if the trainer has --keys")
    add("--data", metavar="DIR",
        help="folder of the images on this host, or a URL such as s3://bucket/photos, the only one that the trainer "
             "may read. Needed for a trainer on another host, unless there is --allow-data, and for every URL: it is "
             "read with the credentials that this host has (default for a trainer on this host: the same folder as "
             "there)")
    add("--allow-data", action="append", default=[], metavar="DIR",
        help="instead of --data: the folder of the images has the same path as on the trainer's host, and is DIR or "
             "below it; or they are at the same URL, and DIR is that URL or one above it. Repeat the option for "
             "several")
    add("--allow-generator", action="append", default=[], metavar="MODULE:FUNCTION",
        help="a generator of your own that the trainer may use here. Its module is searched among the installed "
             "packages, then in the current folder. Repeat the option for several")
    add("--follow-links", action="store_true", help="permit the trainer's --follow-links: read files outside of the "
        "data folder that links in it lead to")
    add("--sandbox", choices=SANDBOX, default=SANDBOX_AUTO,
        help="a worker gives up all rights but to read its data and Python, to write its cache, and to connect to the "
             "trainer, where the kernel has Landlock. auto: unless --allow-generator permits code of your own; on: "
             "always, and a kernel without it is an error; off: never")
    add("--allow-read", action="append", default=[], metavar="DIR",
        help="a further folder that a worker in its sandbox may read. Repeat it for several")
    add("--cache", metavar="DIR",
        help="keep decoded images in this folder, so that each is decoded once per size for all epochs and runs. It "
             "must be on a local disk (no network filesystem) and needs the package lmdb. Used by the generators "
             "image and augmented, and by your own that call them. Of what is read from a bucket or a web server and "
             "cannot be kept decoded, it keeps the bytes")
    add("--cache-gb", type=float, default=DEFAULT_CACHE_GB, metavar="N",
        help="size limit of the cache folder, in 2**30 bytes (default: %(default)g)")
    add("--read-ahead", default=AUTO, metavar="N|auto",
        help="while a process decodes, so many threads of it fetch the files that its next samples need, at most %d, "
             "with at most %d MB of their bytes waiting. auto: none where files are read fast, as from a local disk, "
             "else as many as the reads take. 0: never. No batch depends on it" % (MAX_READ_AHEAD, MAX_WAITING_MB))
    add("--no-shared-memory", action="store_true",
        help="send batches over the connection to a trainer on this host too. By default such a trainer shares memory "
             "with each process, which writes batches there; the trainer must be of the same user")
    add("--shared-memory-folder", metavar="DIR",
        help="for a trainer on this host in another container: a folder that both have, where the processes meet the "
             "trainer to share memory; it has the same option, with its own path of the folder. Empty files of "
             "sockets are there for moments; memory takes none of its space")
    add("--max-batch-mb", type=float, default=MAX_BATCH_MB, metavar="MB",
        help="most memory that one batch of the trainer's job may take here, in 2**20 bytes, and two of its leases "
             "together, of which a worker that reads ahead or has short steps holds up to four (default: "
             "%(default)g). A job of larger batches is refused")
    add("--health-file", metavar="FILE",
        help="touch this file once a second while a trainer is connected. For the health check of a container: "
             "python -m stoker.pipeline.monitoring.health FILE fails if the file is old")
    add("--once", action="store_true",
        help="end when the run is over, of several trainers when all are (default: wait for the next trainer at this "
             "address)")
    add("--lifeline", action="store_true",
        help="end at once when standard input ends: for a program that starts workers and holds the other end of a "
             "pipe, so that they end however it ends")
    add("--quiet", action="store_true", help="print errors only")
    return parser


def _root(text: str) -> str:
    """The absolute folder, or the URL in its normal form. Raises ConfigError."""
    return normal(text) if is_url(text) else os.path.abspath(text)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Exits with code 2 if an option is wrong."""
    parser = make_parser()
    for sentence in warnings(os.environ) if argv is None or "--quiet" not in argv else ():
        note("warning: " + sentence)
    args = parser.parse_args(argv)
    if args.processes < 1:
        parser.error("--processes must be at least 1, not %d" % args.processes)
    keys, cache, health_file, meeting_folder = (
        os.path.abspath(path) if path else None
        for path in (args.keys, args.cache, args.health_file, args.shared_memory_folder))
    try:
        data, allow_data = _root(args.data) if args.data else None, tuple(map(_root, args.allow_data))
        if args.keys is not None:
            load_worker(args.keys)
        options = WorkerOptions(tuple(args.connect), keys, data, tuple(args.allow_generator), args.follow_links, cache,
                                args.cache_gb, health_file, args.once, args.quiet,
                                allow_data, args.max_batch_mb, sandbox=args.sandbox,
                                allow_read=tuple(map(os.path.abspath, args.allow_read)),
                                read_ahead=check_read_ahead("--read-ahead", args.read_ahead),
                                shared_memory=not args.no_shared_memory, shared_memory_folder=meeting_folder)
    except ConfigError as error:
        parser.error(str(error))
    for option, folder in [("--data", args.data)] + [("--allow-data", one) for one in args.allow_data]:
        if folder is not None and not is_url(folder) and not os.path.isdir(folder):
            parser.error("%s: there is no folder %r on this host" % (option, folder))
    if args.data is None and not options.data_folders:
        parser.error("--data DIR says which folder the trainer at %s may read: on another host, it must not choose "
                     "that. DIR is the folder of its images here (if they have the same path as there, --allow-data "
                     "DIR may name one above it; if its data are no files, DIR may be empty). A trainer on this host "
                     "needs none at --connect tcp://127.0.0.1:PORT" % ", ".join(args.connect))
    if args.data is not None and args.allow_data:
        parser.error("--data and --allow-data exclude each other: --data is the one folder that the trainer may read")
    if not options.quiet:
        note("%d process%s (python %s) for %s" % (args.processes, "es" * (args.processes > 1),
                                                  platform.python_version(), ", ".join(args.connect)))
        if options.keys is not None and advice():
            note(advice())
    return run(options, args.processes, lifeline=args.lifeline)
