"""What ``stoker-top`` shows of a run, for a terminal of any size: lines and a table, whose texts have styles. Pure."""

import re
import textwrap
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from stoker.inspection.terminal.figures import Event, Figures, Worker
from stoker.pipeline.monitoring.throughput import milliseconds, percent

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"       # the lowest first
GRAPH_WIDTH = 40
SENTENCE_LINES = 3         # of the bottleneck, at most
MIN_ROWS = 3               # of the table: before it has fewer, less important lines are left out
GAP = 2                    # between two columns
MAX_CELL = 24
#: The states of a worker, those first that one wants to see first.
STATE_STYLES = {"set aside": "red", "silent": "yellow", "leaving": "yellow", "starting": "cyan", "idle": "dim",
                "works": "green"}
NAMES = {"works": "at work"}
KIND_STYLES = {"joined": "green", "left": "dim", "lost": "red", "silent": "yellow", "reassigned": "yellow",
               "set aside": "red", "refused": "red", "bad file": "yellow", "bottleneck": "cyan"}
SORTS = ("state", "rate", "name", "host")

Line = List[Tuple[str, str]]     # texts and their styles


class Table(NamedTuple):
    """Columns with their titles, and whether they are aligned at the right; rows of texts and their styles."""
    columns: List[Tuple[str, bool]]
    rows: List[Line]
    first: int                       # of all rows


class View(NamedTuple):
    """The state of the screen. ``height`` None: as many lines as there are."""
    address: str
    width: int
    height: Optional[int]
    sort: str = SORTS[0]
    first: int = 0                # row of the table
    has_keys: bool = True
    bars: str = BARS


def page(figures: Optional[Figures], problem: str, view: View, clock: Callable[[float], str]
         ) -> Sequence[Union[Line, Table]]:
    """The lines and tables; in a terminal of few lines, the first ``view.height`` are to be shown. ``problem``: why
    there are no new figures, in a sentence; ``clock``: tells the time of day of a unix time."""
    head: List[Tuple[int, Line]] = [(0, _title(figures, view))]      # importance, 0 is the highest
    head += [(0, [(line, "bold red")]) for line in _wrapped(problem, view.width, SENTENCE_LINES)]
    if figures is None:
        return [line for _, line in head]
    head += [(0, [("the run is over", "bold green")])] * figures.over + _figures(figures, view)
    if view.height is None:
        return [*[line for _, line in head], *_table(figures, view, len(figures.workers)), [],
                *[_line_of(event, clock) for event in figures.bad + figures.events]]
    keys = int(view.has_keys)
    left = view.height - keys - 1 - MIN_ROWS            # for other lines than the table's
    for importance in range(5, 0, -1):
        if len(head) > left:
            head = [line for line in head if line[0] < importance]
    lines = [line for _, line in head][:max(1, view.height - keys)]
    left = view.height - len(lines) - keys
    newest = min(left // 3, left - 1 - MIN_ROWS) if figures.workers else left - 1
    news = [_line_of(event, clock) for event in figures.events[-newest:]] if newest > 0 else []
    between: List[Line] = [[]] * (bool(news) and left >= 8)
    table = _table(figures, view, left - len(news) - len(between) - 1)
    return [*lines, *table, *between, *news, *[_keys(figures, view, table)] * keys]


def _title(figures: Optional[Figures], view: View) -> Line:
    title: Line = [("stoker-top ", "bold"), (view.address, "cyan")]
    if figures is None:
        return title
    for text in (figures.step is not None and "step %s of %s" % (count(figures.step), count(figures.steps)),
                 figures.epoch is not None and "epoch %s of %s" % (count(figures.epoch), count(figures.epochs)),
                 figures.elapsed_s is not None and duration(figures.elapsed_s)):
        title += [("  " + text, "bold")] if text else []
    return title


def _figures(figures: Figures, view: View) -> List[Tuple[int, Line]]:
    lines: List[Tuple[int, Line]] = []
    share = min(1.0, figures.step / figures.steps) if figures.step is not None and figures.steps else None
    if share is not None:
        left_s = _left_s(figures)
        ahead = "%5.1f%%" % (100 * share) + ("  about %s left" % duration(left_s) if left_s is not None else "")
        room = max(0, min(60, view.width - len(ahead) - 2))
        done = int(room * share)
        lines.append((3, [(view.bars[-1] * done, "green"), (view.bars[1] * (room - done), "dim"), ("  " + ahead, "")]))
    room = min(GRAPH_WIDTH, view.width - 40)
    for importance, name, value, history, most in (
            (1, "rate", "%s %s/s" % (rate(figures.samples_per_s), figures.unit), figures.rates, None),
            (1, "waiting", "unknown" if figures.waiting_share is None else
             percent(figures.waiting_share) + " of the time", figures.waiting, 1.0)):
        lines.append((importance, [(name.ljust(9), "dim"), (value.ljust(22), "bold"),
                                   (graph(history, room, view.bars, most), "cyan")]))
    lines += [(2, [(line, "yellow" if not figures.bottleneck.startswith("trainer") else "green")])
              for line in _wrapped("bottleneck: " * bool(figures.bottleneck) + figures.bottleneck, view.width,
                                   SENTENCE_LINES)]
    stages = ["%s %s" % (name, percent(share)) for name, share in figures.stages.items() if share is not None]
    times = ["%s %s ms%s" % (text, milliseconds(value / 1000), " (%s)" % ", ".join(stages) if stages and more else "")
             for text, value, more in (("step", figures.times_ms["step_ms"], False),
                                       ("batch on a worker", figures.times_ms["produce_ms"], True),
                                       ("wire", figures.times_ms["wire_ms"], False)) if value is not None]
    states = figures.states
    counts = ["workers: " + (", ".join("%s %s" % (count(states[state]), NAMES.get(state, state))
                                       for state in sorted(states, key=_state_order)) or "none")]
    able = sum(states.get(state, 0) for state in ("idle", "works"))
    is_short = figures.needed is not None and figures.needed > able      # else it wants its least number all the same
    counts += ["%s %s" % (count(value), text) for value, text in (
        (figures.needed, "needed"), (figures.wanted if is_short else None, "wanted elsewhere")) if value is not None]
    if figures.window["size"] is not None:
        counts.append("window of %s: %s ready, %s leased" % tuple(
            count(figures.window[name]) for name in ("size", "ready", "leased")))
    if figures.memory_mb is not None:
        counts.append("memory %s MB" % count(figures.memory_mb))
    for importance, parts in ((4, times), (2, counts)):
        lines += [(importance, [(line, "")]) for line in _wrapped(", ".join(parts), view.width, 2)]
    if figures.bad_files:
        newest = "".join(", the newest: " + bad.text for bad in figures.bad[-1:])
        lines.append((3, [("%s bad file%s" % (count(figures.bad_files), "s" * (figures.bad_files != 1)), "yellow"),
                          (newest, "")]))
    return lines


def _left_s(figures: Figures) -> Optional[float]:
    step_ms, waiting = figures.times_ms["step_ms"], figures.waiting_share
    if step_ms is None or waiting is None or not waiting < 0.999 or figures.step is None or figures.steps is None:
        return None
    return max(0.0, figures.steps - figures.step) * step_ms / 1000 / (1 - waiting)


#: title -> how important the column is (1: always there), aligned at the right, text of a worker
COLUMNS: Dict[str, Tuple[int, bool, Callable[[Worker], str]]] = {
    "worker": (1, False, lambda worker: worker.name),
    "state": (1, False, lambda worker: worker.state + (
        "" if worker.silent_s is None else " " + duration(worker.silent_s))),
    "host": (6, False, lambda worker: worker.host),
    "pid": (8, True, lambda worker: "" if worker.pid is None else "%d" % worker.pid),
    "rate": (2, True, lambda worker: rate(worker.samples_per_s)),
    "batches": (4, True, lambda worker: count(worker.batches)),
    "storage": (7, True, lambda worker: _ms(worker, "storage")),
    "decode": (5, True, lambda worker: _ms(worker, "decode")),
    "augment": (7, True, lambda worker: _ms(worker, "augment")),
    "generator": (7, True, lambda worker: _ms(worker, "generator")),
    "restarts": (5, True, lambda worker: count(worker.restarts) if worker.restarts else ""),
    "versions": (9, False, lambda worker: worker.versions),
    "why": (3, False, lambda worker: worker.why),
}


def _table(figures: Figures, view: View, most: int) -> List[Table]:
    """The table of workers, with ``most`` rows from ``view.first`` on, in as many columns as there is room for."""
    if not figures.workers or most <= 0:
        return []
    workers = sorted_workers(figures.workers, view.sort)
    first = max(0, min(view.first, len(workers) - most))
    shown = workers[first:first + most]
    cells = {title: [text(worker) for worker in shown] for title, (_, _, text) in COLUMNS.items()}
    left = view.width
    chosen = set()
    for title in sorted(COLUMNS, key=lambda title: COLUMNS[title][0]):
        needed = max(len(title), min(MAX_CELL, max(map(len, cells[title])))) + GAP
        if COLUMNS[title][0] == 1 or needed <= left and any(cells[title]):
            chosen.add(title)
            left -= needed
    titles = [title for title in COLUMNS if title in chosen]
    return [Table([(title, COLUMNS[title][1]) for title in titles], [
        [(cells[title][i], STATE_STYLES.get(worker.state, "") if title == "state" else "") for title in titles]
        for i, worker in enumerate(shown)], first)]


def sorted_workers(workers: Sequence[Worker], sort: str) -> List[Worker]:
    """``sort``: one of SORTS. By state: those in trouble first; by rate: the slowest first."""
    keys: Dict[str, Callable[[Worker], Tuple[Any, ...]]] = {
        "state": lambda worker: (_state_order(worker.state),),
        "rate": lambda worker: (worker.samples_per_s is None, worker.samples_per_s or 0.0),
        "name": lambda worker: (), "host": lambda worker: (_natural(worker.host),)}
    return sorted(workers, key=lambda worker: keys[sort](worker) + (_natural(worker.name),))


def _natural(name: str) -> Tuple[Tuple[str, int], ...]:
    """So that worker-10 comes after worker-9."""
    return tuple((text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]{0,15})", name))


def _state_order(state: str) -> int:
    order = list(STATE_STYLES)
    return order.index(state) if state in order else -1


def _line_of(event: Event, clock: Callable[[float], str]) -> Line:
    when = "" if event.s is None else clock(event.s)
    return [(when.ljust(9), "dim"), (event.kind.ljust(11) + " ", KIND_STYLES.get(event.kind, "")), (event.text, "")]


def _keys(figures: Figures, view: View, tables: Sequence[Table]) -> Line:
    keys: Line = [("q", "bold"), (" quit", "dim")]
    for table in tables:
        keys += [("   s", "bold"), (" sort, now by %s" % view.sort, "dim"), ("   arrows", "bold"),
                 (" scroll, now %d to %d of %d workers" % (
                     table.first + 1, table.first + len(table.rows), len(figures.workers)), "dim")]
    return keys


def graph(values: Sequence[Optional[float]], width: int, bars: str, most: Optional[float] = None) -> str:
    """The newest ``width`` of ``values`` as bars, of which the highest is ``most``, or the largest of them."""
    shown = values[-width:] if width > 0 else []
    top = most or max([value for value in shown if value is not None] or [0.0]) or 1.0
    return "".join(" " if value is None else bars[max(0, min(len(bars) - 1, int(value / top * len(bars))))]
                   for value in shown)


def _wrapped(text: str, width: int, most: int) -> List[str]:
    lines = textwrap.wrap(text, max(1, width), max_lines=most, placeholder=" ...") if text and width > 8 else []
    return lines or [text][:bool(text)]


def _ms(worker: Worker, stage: str) -> str:
    value = worker.stages_ms[stage]
    return "" if value is None else milliseconds(value / 1000)


def count(value: Optional[float]) -> str:
    """'12,345'; '?' if it is not known."""
    return "?" if value is None else format(int(value), ",")


def rate(value: Optional[float]) -> str:
    """'2,310', '0.37'; '?' if it is not known."""
    return "?" if value is None else "%.2f" % value if 0 < value < 10 else format(int(value), ",")


def duration(seconds: float) -> str:
    """'0:12:03', '49:00:00'."""
    return "%d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)
