"""The result of a benchmark script: tables with goals, printed on the terminal and kept as JSON for the report.

A script is a module of this package with a ``run(quick, say) -> List[Table]`` and, at its end,
``if __name__ == "__main__": main(run, __doc__)``. It runs on the trainer's Python 3.6, from the repository's root.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
from typing import Any, Callable, List, NamedTuple, Sequence

from benchmarks.machine import commit

#: Prints one line of progress on the terminal, at once.
Say = Callable[[str], None]
#: Cores that other work keeps busy: more than this, and a measurement is repeated, or is not valid.
DISTURBED_CORES = 0.1


class Goal(NamedTuple):
    """One claim that a table has to prove: it holds if ``reached`` is at least ``wanted`` (or at most)."""

    text: str                   # 'at least 9x the tutorial's generator at 64 pixels'
    reached: float
    wanted: float
    at_most: bool = False

    def holds(self) -> bool:
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted


class Table(NamedTuple):
    """One table of the report. A cell is a str, an int, a float (three digits are shown) or None ('-')."""

    name: str                   # short and unique, for file names: 'end-to-end-64'
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()   # sentences below the table
    goals: Sequence[Goal] = ()
    plot: str = ""              # 'bars' of 'value_column', 'lines' over the first column, 'panels', or ''
    value_column: str = ""      # what is plotted; of 'lines' every numeric column if ''
    spread_columns: Sequence[str] = ()  # the two columns with the least and the most, for error bars
    name_column: str = ""       # what names a bar; the first column if ''
    group_column: str = ""      # bars with the same value there stand together, with their limits drawn into them


class Spread(NamedTuple):
    """The rounds of one measurement."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def shown(cell: Any) -> str:
    """A cell as people read it: thousands with a comma, otherwise three significant digits."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        if cell != 0 and abs(cell) < 0.001:
            return "%.1e" % cell
        digits = 0 if abs(cell) >= 100 else 1 if abs(cell) >= 10 else 2 if abs(cell) >= 1 else 3
        return "{:,.{}f}".format(cell, digits)
    return "{:,}".format(cell) if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def as_text(table: Table) -> str:
    """The table for a terminal."""
    rows = [[shown(cell) for cell in row] for row in table.rows]
    widths = [max(len(row[i]) for row in [list(table.columns)] + rows) for i in range(len(table.columns))]
    numeric = [all(cell is None or isinstance(cell, (int, float)) for cell in column) for column in zip(*table.rows)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) if right else cell.ljust(width)
                         for cell, width, right in zip(cells, widths, numeric)).rstrip()

    lines = ["", table.title, "", line(table.columns), line(["-" * width for width in widths])]
    lines += [line(row) for row in rows]
    lines += [""] * bool(table.notes) + list(table.notes)
    lines += [""] * bool(table.goals) + [as_sentence(goal) for goal in table.goals]
    return "\n".join(lines)


def as_sentence(goal: Goal) -> str:
    return "%s  %s: %s (%s %s)" % ("holds " if goal.holds() else "MISSED", goal.text, shown(goal.reached),
                                   "at most" if goal.at_most else "at least", shown(goal.wanted))


def ends_in_order() -> None:
    """Ctrl-C and SIGTERM become SystemExit, so that all processes that were started end; also in a background job, for
    which the shell ignores Ctrl-C."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: sys.exit(128 + number))


def main(run: Callable[[bool, Say], List[Table]], doc: str) -> None:
    """The command line of a script: runs it, prints its tables and, with --out, writes FOLDER/SCRIPT.json."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds and short ones: to see that it runs, and "
                                                             "roughly where things stand; not for claims")
    parser.add_argument("--out", metavar="FOLDER", help="write the tables to FOLDER/%s.json too" % _script())
    args = parser.parse_args()
    ends_in_order()
    started_s = time.monotonic()
    tables = run(args.quick, lambda text: print("bench %s, %d s: %s" % (
        _script(), time.monotonic() - started_s, text), file=sys.stderr, flush=True))
    seconds = time.monotonic() - started_s
    for table in tables:
        print(as_text(table), flush=True)
    if args.out:
        os.makedirs(args.out, exist_ok=True)
        with open(os.path.join(args.out, _script() + ".json"), "w") as file:
            json.dump({"script": _script(), "quick": args.quick, "seconds": seconds,
                       "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "commit": commit(),
                       "tables": [dict(table._asdict(), goals=[dict(goal._asdict(), holds=goal.holds())
                                                               for goal in table.goals]) for table in tables]},
                      file, indent=1, sort_keys=True)
            file.write("\n")


def _script() -> str:
    return os.path.splitext(os.path.basename(sys.argv[0]))[0]
