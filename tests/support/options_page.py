"""docs/OPTIONS.md, made from the parsers of all command lines and from the arguments of ``open_stream``.

    .venv/trainer/bin/python -m tests.support.options_page > docs/OPTIONS.md
"""

import argparse
import dataclasses
import inspect
import sys

from stoker.inspection.checking.options import check_parser
from stoker.inspection.showing import options as show_parser
from stoker.inspection.terminal import program as top_program
from stoker.packing import options as pack_parser
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.trainer.feed import open_stream
from stoker.trainer.fleet_options import FleetOptions
from stoker.trainer.parser import predict_parser, train_parser
from stoker.workers import cli as workers_cli, ray_launcher

HEAD = """# Options

Made from the command lines by `python -m tests.support.options_page > docs/OPTIONS.md`; a test checks that it is up to
date.

Each option is also an environment variable: `--batch-size` is `STOKER_BATCH_SIZE`. An option on the command line
overrides the variable. Variables of the trainer do not reach the workers that it starts itself, and `open_stream` in a
program of your own reads none. Options of `stoker-predict` are `STOKER_PREDICT_...`. Options of `stoker-ray`,
`stoker-show`, `stoker-check` and `stoker-pack` have no variables; of `stoker-top`, only `--token-file` has one.
A variable `STOKER_...` that is none of these gets a warning with the nearest name.
"""

OPEN_STREAM = """
## open_stream

`stoker.open_stream(data, ...)` takes these keyword arguments. One with the name of an option of the trainer means the
same, but some defaults differ. `start_step` is the `global_step` to resume from. After a wait of `stall_s` for a batch,
the log gets a line. `bad_samples` is a file that gets one line per bad file.

| argument | default |
|---|---|
"""


def _default(action):
    """The default as a reader types it, or the words of the help text for it; '' if there is none."""
    if "default:" in action.help:
        words = action.help.partition("(default: ")[2].rpartition(")")[0].replace(", here %(default)s", "")
        if "%(default)" not in words:
            return words
    if action.default is None or action.default == [] or isinstance(action.default, bool):
        return ""
    return "`%s`" % ("%g" % action.default if isinstance(action.default, float) else action.default)


def _row(action):
    name = action.option_strings[-1] if action.option_strings else action.dest.upper()
    value = action.metavar or ("|".join(action.choices) if action.choices else "")
    if action.option_strings and action.nargs != 0 and value:
        name += " " + (value if isinstance(value, str) else " ".join(value))
    meaning = " ".join(action.help.split()).partition(" (default: ")[0] % {"default": action.default}
    return "| `%s` | %s | %s |\n" % tuple(text.replace("|", "\\|") for text in (name, _default(action), meaning))


def _table(parser):
    """Markdown: one row for each option of ``parser``, in the order of its help."""
    actions = [action for group in parser._action_groups for action in group._group_actions
               if not isinstance(action, argparse._HelpAction)]
    return "| option | default | meaning |\n|---|---|---|\n" + "".join(map(_row, actions))


def _arguments():
    rows = [(parameter.name, parameter.default) for parameter in inspect.signature(open_stream).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    taken = {name for name, _ in rows}
    rows += [(field.name, field.default) for cls in (StreamOptions, FleetOptions) for field in dataclasses.fields(cls)
             if field.name not in taken]
    derived = {"generator", "declared", "rows", "may_skip"}  # of the function, ``generator``
    assert taken >= {field.name for field in dataclasses.fields(JobOptions)} - derived
    return "".join("| `%s` | `%r` |\n" % row for row in rows)


def page():
    """The whole document."""
    sections = [
        ("Trainer", "`python -m trainer [OPTIONS] [DATA]`, installed: `stoker-train`.", train_parser()),
        ("Workers", "`python -m workers [OPTIONS]`, installed: `stoker-worker`.", workers_cli.make_parser()),
        ("Workers on Ray", "`stoker-ray --status HOST:PORT [OPTIONS] [-- OPTIONS OF WORKERS]`: [Ray](RAY.md).",
         ray_launcher.make_parser()),
        ("Prediction", "`stoker-predict [OPTIONS] RUN DATA`, in a checkout `python -m trainer.predict`.",
         predict_parser()),
        ("Showing batches", "`stoker-show [OPTIONS] RUN`, in a checkout `python -m stoker.inspection.show`: "
         "[See what the model saw](REPLAY.md).", show_parser.make_parser()),
        ("Checking a dataset", "`stoker-check [OPTIONS] DATA`, in a checkout `python -m stoker.inspection.check`: "
         "[Checking a dataset](CHECK.md).", check_parser()),
        ("Packing a dataset", "`stoker-pack [OPTIONS] SOURCE... OUT_FOLDER`, in a checkout "
         "`python -m stoker.packing.pack`.", pack_parser.make_parser()),
        ("Watching a run", "`stoker-top [OPTIONS] [URL]`, in a checkout `python -m stoker.inspection.top`: "
         "[What a run does](STATUS.md).", top_program.make_parser())]
    return HEAD + "".join("\n## %s\n\n%s\n\n%s" % (title, usage, _table(parser))
                          for title, usage, parser in sections) + OPEN_STREAM + _arguments()


if __name__ == "__main__":
    sys.stdout.write(page())
