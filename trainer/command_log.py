"""The log of a command line, on standard error. Its warnings name options where those of a program name arguments, as
errors do: see ``program.Program``."""

import copy
import logging

from stoker.pipeline.environment import as_options


class _Formatter(logging.Formatter):
    """Only Stoker's own words are changed: names of files come as arguments of a message, and tracebacks of users as
    lines."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == "stoker" and record.levelno >= logging.WARNING and isinstance(record.msg, str):
            record = copy.copy(record)
            if record.msg == "%s" and "\n" not in record.getMessage():
                record.msg, record.args = record.getMessage(), ()
            record.msg = as_options(record.msg)
        return super().format(record)


def start_log(level: int) -> None:
    """Logs from now on what has ``level`` or more, unless the process has a log already."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter("stoker: %(message)s"))
        root.addHandler(handler)
        root.setLevel(level)
