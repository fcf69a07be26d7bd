"""The command line of ``stoker-check``."""

import json
import logging
import signal
import time
from contextlib import ExitStack
from typing import IO, Optional, Sequence

from stoker.inspection.checking import page, report, text
from stoker.inspection.checking.data import Options, open_data
from stoker.inspection.checking.findings import Settings, find
from stoker.inspection.checking.options import check_parser, strict_kinds
from stoker.inspection.checking.passes import Passes, Quiet
from stoker.pipeline.progress import open_bar
from stoker.pipeline.cores import cores
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import AUTO, check_whole
from stoker.trainer.command_log import start_log
from stoker.trainer.data_options import opened
from stoker.trainer.files import output_file
from stoker.trainer.program import Program

EXIT_STRICT = 1           # with --strict: something was found
EXIT_PIPE = 128 + signal.SIGPIPE
PICTURES = ("image_size", "decode", "exif_rotate", "follow_links", "max_text_mb", "truncated", "picture_cpu_s",
            "picture_memory_mb", "formats", "max_pixels", "max_file_mb")


def run(program: Program, argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Raises StokerError."""
    try:
        return _run(program, argv)
    except BrokenPipeError:        # of standard output: its reader, such as head, has enough
        return EXIT_PIPE


def _run(program: Program, argv: Optional[Sequence[str]]) -> int:
    start_log(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Quiet())
    args = check_parser().parse_args(argv)
    program.raise_on_ctrl_c()
    start_s = time.monotonic()
    check_whole("--batch-size", args.batch_size, 1, 1 << 20)
    options = {name: getattr(args, name) for name in PICTURES if getattr(args, name) is not None}
    passes = Passes(options, None if args.workers == AUTO else check_whole("--workers", args.workers, 1, 1000),
                    args.worker_python, args.sandbox)
    with ExitStack() as files:
        # opened first: a file that cannot be written is found out before the work
        html, as_json = (files.enter_context(output_file(path)) if path else None for path in (args.html, args.json))
        if args.html == "-" or args.html is not None and args.html == args.json:
            raise ConfigError("--html needs the name of a file of its own")
        given = opened(args.data, args, True, args.classes, not args.no_labels)
        classes = getattr(given, "classes", args.classes)
        validation = None if args.validation is None else opened(args.validation, args, False, classes, classes != ())
        data = open_data(given, validation, Options(
            args.root, args.classes, args.label_word, not args.no_labels, args.follow_links, args.exclude or (),
            args.suffix or (), args.column, args.label))
        with open_bar(len(data.paths), "files", "check") as bar:
            collected = passes.look(data, bar.update)
        settings = Settings(args.image_size, args.decode, args.exif_rotate)
        found = find(data, collected, settings)
        made = report.make(data, collected, found, settings, args.batch_size, args.step_ms, cores(),
                           time.monotonic() - start_s)
        if html is not None:
            _write(html, args.html, page.page(made, data, passes.thumbnails(data, page.pictures_of(found))))
        if as_json is not None:
            _write(as_json, args.json, json.dumps(made.content, indent=1) + "\n")
        if args.json != "-":
            print(text.text(made.content), flush=True)
    strict = strict_kinds(args)
    return EXIT_STRICT if any(finding.kind in strict for finding in found) else 0


def _write(file: IO[str], path: str, content: str) -> None:
    try:
        file.write(content)
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError("cannot write %s: %s" % (
            "to standard output" if path == "-" else repr(path), error.strerror)) from error
