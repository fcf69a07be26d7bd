"""Draws the tables of the JSON files: .venv/bench-pictures/bin/python -m benchmarks.plots TO JSON...

Prints a line for each picture: the table's name and the file.
"""

import json
import os
import sys
from typing import Any, Dict

import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot

OURS, LIMIT, PEER = "#d1495b", "#b8b8b8", "#4a7c9d"


def bars(table: Dict[str, Any], axes: Any) -> None:
    """A bar for each row, with whiskers from the least to the most."""
    columns = table["columns"]
    place = columns.index(table["value_column"])
    rows = [row for row in table["rows"] if isinstance(row[place], (int, float))][::-1]
    values = [row[place] for row in rows]
    names = [str(row[0]) for row in rows]
    colours = [OURS if name.startswith("Stoker") else LIMIT if name.startswith("limit") else PEER for name in names]
    whiskers = None
    if table["spread_columns"]:
        least, most = (columns.index(column) for column in table["spread_columns"])
        whiskers = [[max(0, row[place] - row[least]) for row in rows], [max(0, row[most] - row[place]) for row in rows]]
    axes.barh(range(len(rows)), values, color=colours, xerr=whiskers, error_kw={"elinewidth": 1, "ecolor": "#444444"})
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlabel(table["value_column"])
    axes.figure.set_size_inches(8, 1.2 + 0.24 * len(rows))


def lines(table: Dict[str, Any], axes: Any) -> None:
    """The numeric columns over the first."""
    columns = table["columns"]
    for place in range(1, len(columns)):
        if columns[place] in table["spread_columns"] or table["value_column"] not in ("", columns[place]):
            continue
        points = [(row[0], row[place]) for row in table["rows"] if isinstance(row[0], (int, float))
                  and isinstance(row[place], (int, float))]
        if points:
            axes.plot(*zip(*points), marker="o", markersize=3, label=columns[place])
    numbers = [row[0] for row in table["rows"] if isinstance(row[0], (int, float))]
    if numbers and min(numbers) > 0 and max(numbers) > 20 * min(numbers):
        axes.set_xscale("log")
    axes.set_xlabel(columns[0])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.figure.set_size_inches(7, 3.5)


def main() -> None:
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for path in sys.argv[2:]:
        with open(path) as file:
            tables = json.load(file)["tables"]
        for table in tables:
            draw = {"bars": bars, "lines": lines}.get(table["plot"])
            if draw is None:
                continue
            figure, axes = pyplot.subplots()
            draw(table, axes)
            axes.set_title(table["title"], fontsize=9)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            name = table["name"] + ".png"
            figure.savefig(os.path.join(folder, name), dpi=90, bbox_inches="tight", metadata={"Software": None})
            pyplot.close(figure)
            print(table["name"], name)


if __name__ == "__main__":
    main()
