"""Draws the tables of the JSON files: .venv/bench-pictures/bin/python -m benchmarks.plots TO JSON...

Prints a line for each picture: the table's name and the file.
"""

import json
import os
import sys
from typing import Any, Dict, List

import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot

OURS, LIMIT, PEER = "#d1495b", "#b8b8b8", "#4a7c9d"


def bars(table: Dict[str, Any], axes: Any) -> None:
    """A bar for each row, with whiskers from the least to the most. Groups stand apart, below their names, and the
    limits of a group are lines through its bars."""
    columns = table["columns"]
    place, named = columns.index(table["value_column"]), _column(table, "name_column", 0)
    grouped = _column(table, "group_column", -1)
    least, most = (columns.index(column) for column in table["spread_columns"] or [table["value_column"]] * 2)
    height, ticks, names, last = 0.0, [], [], None
    bounds: Dict[Any, List[float]] = {}
    limits: List[Any] = []
    for row in table["rows"]:
        if not isinstance(row[place], (int, float)):
            continue
        group = row[grouped] if grouped >= 0 else ""
        if grouped >= 0 and group != last:
            height -= 1.3 if last is not None else 0
            axes.text(0, height, group, fontsize=9, fontweight="bold", va="center")
            height -= 1
        last, name = group, str(row[named])
        limited = name.startswith("limit")
        if limited and grouped >= 0:
            limits.append((group, row[place]))
        axes.barh(height, row[place], color=OURS if name.startswith("Stoker") else LIMIT if limited else PEER,
                  xerr=[[max(0, row[place] - row[least])], [max(0, row[most] - row[place])]],
                  error_kw={"elinewidth": 1, "ecolor": "#444444"})
        bounds.setdefault(group, [height, height])[0] = height
        ticks.append(height)
        names.append(name)
        height -= 1
    for group, value in limits:
        axes.vlines(value, bounds[group][0] - 0.5, bounds[group][1] + 0.5, color="#555555", linestyle=":", linewidth=1)
    axes.set_yticks(ticks, names)
    axes.set_ylim(height + 0.4, 0.6)
    axes.set_xlabel(table["value_column"])
    axes.figure.set_size_inches(8, 1.2 + 0.24 * -height)


def _column(table: Dict[str, Any], key: str, default: int) -> int:
    name = table.get(key)
    return table["columns"].index(name) if name else default


def panels(table: Dict[str, Any], figure: Any) -> None:
    """Bars of the rows, a panel for each column."""
    rows = table["rows"][::-1]
    for number, column in enumerate(table["columns"][1:]):
        axes = figure.add_subplot(1, len(table["columns"]) - 1, number + 1)
        values = [row[number + 1] or 0 for row in rows]
        axes.barh(range(len(rows)), values, color=[OURS if "Stoker" in row[0] else PEER for row in rows])
        for place, row in enumerate(rows):
            value = row[number + 1]
            axes.text(value or 0, place, " {:,.0f}".format(value) if value else " -", va="center", fontsize=7)
        axes.set_yticks(range(len(rows)), [row[0].replace("*", "").replace("`", "") for row in rows] if number == 0 else
                        [""] * len(rows))
        axes.set_xlim(0, 1.25 * max(values + [1]))
        axes.set_xticks([])
        axes.set_title(column.replace(" to ", "\nto "), fontsize=8)
        axes.tick_params(labelsize=8, length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.set_size_inches(11, 0.9 + 0.28 * len(rows))


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
            if table["plot"] == "panels":
                figure = pyplot.figure()
                panels(table, figure)
            elif table["plot"]:
                figure, axes = pyplot.subplots()
                {"bars": bars, "lines": lines}[table["plot"]](table, axes)
                axes.set_title(table["title"], fontsize=9)
                axes.tick_params(labelsize=8)
                axes.spines[["top", "right"]].set_visible(False)
            else:
                continue
            name = table["name"] + ".png"
            figure.savefig(os.path.join(folder, name), dpi=90, bbox_inches="tight", metadata={"Software": None})
            pyplot.close(figure)
            print(table["name"], name)


if __name__ == "__main__":
    main()
