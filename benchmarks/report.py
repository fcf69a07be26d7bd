"""docs/BENCHMARKS.md from the JSON that the scripts wrote. Pure: ``benchmarks.machine`` describes the machine."""

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from benchmarks.table import Goal, Table, as_sentence, shown


SUMMARY = "summary"         # the name of the table that comes first
#: How the rows begin that README shows.
README = ("a generator in", "tf.data of TF 1.9, full", "**Stoker with its defaults", "Stoker with pillow-simd")


class Script(NamedTuple):
    """The result of one script."""

    name: str
    seconds: float
    tables: Sequence[Table]
    error: str = ""
    date: str = ""
    commit: str = ""


def tables_of(document: Dict[str, Any]) -> List[Table]:
    """The tables of a script's JSON."""
    tables = []
    for fields in document["tables"]:
        fields = dict(fields)
        fields["goals"] = [Goal(**{key: goal[key] for key in Goal._fields}) for goal in fields["goals"]]
        tables.append(Table(**fields))
    return tables


def as_markdown(table: Table, plot: str = "") -> str:
    """A table with its goals, notes and plot, below a heading."""
    numeric = [all(cell is None or isinstance(cell, (int, float)) for cell in column) for column in zip(*table.rows)]
    lines = ["## " + table.title, "", _row(table.columns), _row(["--:" if right else "---" for right in numeric])]
    lines += [_row([shown(cell) for cell in row]) for row in table.rows]
    if table.goals:
        lines += ["", "| goal | reached | wanted | |", "| --- | --: | --: | --- |"]
        lines += [_row([goal.text, shown(goal.reached),
                        ("at most " if goal.at_most else "at least ") + shown(goal.wanted),
                        "holds" if goal.holds() else "**MISSED**"]) for goal in table.goals]
    for note in table.notes:
        lines += ["", note]
    if plot:
        lines += ["", "![%s](%s)" % (table.title, plot)]
    return "\n".join(lines)


def render(scripts: Sequence[Script], facts: Sequence[Tuple[str, str]], plots: Dict[str, str]) -> str:
    """The whole report: first the table that a user wants, and a line on goals. ``facts``: what to know about the run;
    ``plots``: table name -> file."""
    tables = [(script, table) for script in scripts for table in script.tables]
    goals = [goal for _, table in tables for goal in table.goals]
    missed = [goal for goal in goals if not goal.holds()]
    parts = ["# Benchmarks", "Written by `make bench`; change nothing here by hand. Rates compare within a table, not "
             "between runs or machines."]
    parts += [as_markdown(table, plots.get(table.name, "")) for _, table in tables if table.name == SUMMARY]
    parts += ["%d of %d goals hold.%s" % (len(goals) - len(missed), len(goals), " Missed:" if missed else "")]
    if missed:
        parts.append("\n".join("- " + as_sentence(goal) for goal in missed))
    parts.append("\n".join(["| | |", "| --- | --- |"] + [_row(fact) for fact in facts]))
    for script in scripts:
        if script.error:
            parts.append("**`benchmarks.%s` failed: %s**" % (script.name, script.error))
        for table in script.tables:
            if table.name != SUMMARY:
                if script.commit and script.commit != scripts[0].commit:
                    table = table._replace(notes=list(table.notes) + ["Measured apart from the tables above, at commit "
                                                                      "%s, on %s." % (script.commit, script.date)])
                parts.append(as_markdown(table, plots.get(table.name, "")))
    return "\n\n".join(parts) + "\n"


def readme_rows(scripts: Sequence[Script]) -> str:
    """README's table: four rows of the first one, at both sizes of ordinary photos."""
    for script in scripts:
        for table in script.tables:
            if table.name == SUMMARY:
                rows = [row for row in table.rows if str(row[0]).startswith(README)]
                lines = ["| images per second | 64 pixels | 224 pixels |", "|---|--:|--:|"]
                return "\n".join(lines + [_row([shown(cell) for cell in row[:3]]) for row in rows]) + "\n"
    return ""


def _row(cells: Sequence[str]) -> str:
    return "| %s |" % " | ".join(cell.replace("|", "\\|") for cell in cells)
