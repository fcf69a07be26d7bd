"""What stoker-top shows: of whole, partial and hostile answers, in terminals of any size."""

import json
import os
import random
import sys

import pytest

from stoker.inspection.terminal import figures as top_figures
from stoker.inspection.terminal.figures import MAX_CHARS, parse
from stoker.inspection.terminal.page import (ASCII_BARS, BARS, SORTS, Table, View, count, duration, graph, page, rate,
                                             sorted_workers)

TABLE = [{"name": "worker-%d" % number, "host": "host-%d" % (number % 2), "pid": 4000 + number, "state": state,
          "versions": "python 3.13.0, pillow 13.0.0", "joined_s": 700.0, "silent_s": silent_s, "batches": 100 * number,
          "samples_per_s": 300.0 - number, "restarts": 0, "why": why,
          "stages_ms": {"storage": 3.25, "decode": 33.0, "augment": 8.0, "generator": 0.5}}
         for number, (state, silent_s, why) in enumerate([
             ("works", None, ""), ("works", None, ""), ("silent", 42.0, ""),
             ("set aside", None, "it has no such folder"), ("idle", None, "")])]
ANSWER = {
    "stoker": "0.1.0", "run": "ab12", "connect": "tcp://127.0.0.1:5555", "step": 1234, "steps": 9000, "over": False,
    "workers": {"wanted": 2, "min": 0, "max": 4, "alive": 2, "ready": 2, "why": "x"}, "unit": "images",
    "samples_per_s": 2310.4, "waiting_share": 0.5, "workers_needed": 4, "memory_mb": 812.3, "bad_files": 3, "epoch": 2,
    "bottleneck": {"name": "decode", "sentence": "decode: the trainer waits 50% of the time; workers spend 70% of "
                   "their time decoding. What helps: more worker hosts, a faster --decode, smaller files or --cache"},
    "window": {"size": 16, "ready": 12, "leased": 4}, "epochs": 10, "elapsed_s": 723.0, "since_last_batch_s": 0.01,
    "now_s": 1.0, "next_s": 2.5, "speed": {"step_ms": 27.1, "produce_ms": 57.2, "wire_ms": 0.82},
    "stages": {"storage": 0.1, "decode": 0.7, "augment": 0.15, "generator": 0.05},
    "history": {"interval_s": 2.0, "samples_per_s": [None, 1000.0, 2000.0], "waiting_share": [0.0, 0.5, 1.0]},
    "states": {"works": 2, "silent": 1, "set aside": 1, "idle": 1}, "worker_table": TABLE, "bottlenecks": [],
    "bad": {"count": 3, "newest": [{"s": 50.0, "path": "left/7.jpg", "why": "broken", "step": 3}]},
    "events": [{"s": 100.0 + number, "kind": kind, "text": "worker-%d" % number}
               for number, kind in enumerate(["joined", "joined", "lost", "no such kind"])]}


def figures(**changes):
    return parse(json.dumps(dict(ANSWER, **changes)).encode())


def text_of(parts):
    lines = []
    for part in parts:
        if isinstance(part, Table):
            lines.append("  ".join(title for title, _ in part.columns))
            lines += ["  ".join(text for text, _ in row) for row in part.rows]
        else:
            lines.append("".join(text for text, _ in part))
    return lines


def clock(unix_s):
    return "at %d" % unix_s


def shown(said, width=80, height=24, problem="", **view):
    return text_of(page(said, problem, View("127.0.0.1:8265", width, height, **view), clock))


# --------------------------------------------------------------------------------------------------------- whole ones

def test_a_terminal_of_the_usual_size():
    assert shown(figures()) == [
        "stoker-top 127.0.0.1:8265  step 1,234 of 9,000  epoch 2 of 10  0:12:03",
        "█" * 7 + "▂" * 45 + "   13.7%  about 0:07:00 left",
        "rate     2,310 images/s         ▅█",
        "waiting  50% of the time       ▁▅█",
        "bottleneck: decode: the trainer waits 50% of the time; workers spend 70% of",
        "their time decoding. What helps: more worker hosts, a faster --decode, smaller",
        "files or --cache",
        "step 27.1 ms, batch on a worker 57.2 ms (storage 10%, decode 70%, augment 15%,",
        "generator 5.0%), wire 0.82 ms",
        "workers: 1 set aside, 1 silent, 1 idle, 2 at work, 4 needed, 2 wanted elsewhere,",
        "window of 16: 12 ready, 4 leased, memory 812 MB",
        "3 bad files, the newest: left/7.jpg: broken",
        "worker  state  host  rate  batches  decode  why",
        "worker-3  set aside  host-1  297  300  33  it has no such folder",
        "worker-2  silent 0:00:42  host-0  298  200  33  ",
        "worker-4  idle  host-0  296  400  33  ",
        "worker-0  works  host-0  300  0  33  ",
        "worker-1  works  host-1  299  100  33  ",
        "",
        "at 101   joined      worker-1",
        "at 102   lost        worker-2",
        "at 103   no such kind worker-3",
        "q quit   s sort, now by state   arrows scroll, now 1 to 5 of 5 workers"]


def test_as_text_it_is_all_there():
    lines = shown(figures(), 200, None, has_keys=False)
    assert len([line for line in lines if line.startswith("worker-")]) == 5 and "q quit" not in "\n".join(lines)
    assert lines[-5:] == ["at 50    bad file    left/7.jpg: broken"] + [
        "at %d   %s%s" % (100 + number, event["kind"].ljust(11) + " ", event["text"])
        for number, event in enumerate(ANSWER["events"])]
    assert "worker  state  host  pid  rate  batches  storage  decode  augment  generator  versions  why" in lines


def test_a_bad_file_is_said_once():
    """Also if its event goes on with how many there are; others, and those that have no room above, stay."""
    events = [{"s": 1.0, "kind": "bad file", "text": "left/%d.jpg: broken" % number} for number in (6, 7)]
    events[1]["text"] += " (16 bad files so far)"
    said = figures(events=events, worker_table=[])
    for height in (24, None):
        text = "\n".join(shown(said, 80, height))
        assert text.count("left/7.jpg") == (2 if height is None else 1) and text.count("left/6.jpg") == 1


@pytest.mark.parametrize("height", [1, 2, 3, 5, 8, 12, 23, 60])
def test_any_size_has_the_title_and_the_rows_that_fit(height):
    for width in (1, 8, 20, 40, 79, 200):
        lines = shown(figures(worker_table=TABLE * 20), width, height)
        assert lines[0].startswith("stoker-top 127.0.0.1:8265") and len(lines) <= max(height, 2)
        rows = len([line for line in lines if line.startswith("worker-")])
        assert rows >= (3 if height >= 8 else 0)
        if height >= 12 and width >= 40:
            assert lines[-1].startswith("q quit") and "of 100 workers" in lines[-1]


def test_scrolling_stops_at_the_last_worker():
    table = [dict(TABLE[0], name="worker-%d" % number) for number in range(100)]
    for first, expected in ((0, 0), (40, 40), (10 ** 6, None)):
        parts = page(figures(worker_table=table), "", View("a:1", 80, 24, "name", first), clock)
        found, = [part for part in parts if isinstance(part, Table)]
        assert found.first == (100 - len(found.rows) if expected is None else expected)
        assert [row[0][0] for row in found.rows] == [
            "worker-%d" % number for number in range(found.first, found.first + len(found.rows))]


@pytest.mark.parametrize("sort, order", list(zip(SORTS, (
    [3, 2, 4, 0, 1], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4], [0, 2, 4, 1, 3]))))
def test_the_table_is_sorted(sort, order):
    assert [worker.name for worker in sorted_workers(figures().workers, sort)] == ["worker-%d" % n for n in order]


def test_names_are_sorted_by_their_numbers():
    table = [dict(TABLE[0], name=name) for name in ("w-10", "w-9", "w", "", "10", "9w")]
    assert [one.name for one in sorted_workers(figures(worker_table=table).workers, "name")] == [
        "", "9w", "10", "w", "w-9", "w-10"]


def test_the_end_of_a_run_and_what_is_wrong_are_said():
    assert shown(figures(over=True))[1] == "the run is over"
    assert shown(None, problem="no answer since 12:03:01, for 7 s: Connection refused")[1].startswith("no answer since")
    lines = shown(figures(), problem="no answer since 12:03:01, for 7 s: Connection refused")
    assert lines[1] == "no answer since 12:03:01, for 7 s: Connection refused" and "step 1,234" in lines[0]


def test_since_when_there_is_no_answer():
    from stoker.inspection.terminal.program import SLOW_S, State, sentence
    assert sentence(State(None, "", 100.0), 101.0) == "it asks for the first time ..."
    assert sentence(State(figures(), "", 100.0), 102.0) == ""
    assert "for 7 s: Connection refused. It asks" in sentence(State(figures(), "Connection refused", 100.0), 107.0)
    for known in (None, figures()):
        assert "for 60 s: the last question is not answered yet" in sentence(State(known, "", 100.0), 160.0)
    assert sentence(State(figures(next_s=60), "", 100.0), 100.0 + 60.0 + SLOW_S) == ""       # the trainer asked for it
    assert "for 0 s" in sentence(State(None, "x", 100.0), 50.0)        # the clock was set back


def test_workers_elsewhere_are_wanted_only_if_those_that_are_there_are_too_few():
    assert any("4 needed, 2 wanted elsewhere" in line for line in shown(figures()))
    assert not any("wanted elsewhere" in line for line in shown(figures(workers_needed=3)))


def test_figures_in_words():
    assert [count(None), count(0), count(12345.7)] == ["?", "0", "12,345"]
    assert [rate(None), rate(0), rate(0.5), rate(12.7)] == ["?", "0", "0.50", "12"]
    assert [duration(0), duration(723), duration(176400)] == ["0:00:00", "0:12:03", "49:00:00"]
    assert graph([0.0, 1.0, None, 2.0], 3, ASCII_BARS) == "= #".replace("=", ASCII_BARS[4]).replace("#", ASCII_BARS[7])
    assert graph([], 5, BARS) == graph([1.0], 0, BARS) == graph([1.0], -5, BARS) == ""
    assert graph([0.0, 0.0], 5, BARS) == BARS[0] * 2


# ----------------------------------------------------------------------------------------------------------- partial

def test_an_answer_of_hardly_anything_is_shown():
    bare = parse(b'{"stoker": "0.1.0", "step": null}')
    lines = shown(bare)
    assert lines == ["stoker-top 127.0.0.1:8265", "rate     ? samples/s           ", "waiting  unknown               ",
                     "workers: none", "q quit"]


@pytest.mark.parametrize("key", sorted(ANSWER))
def test_a_figure_of_another_type_counts_as_unknown(key):
    for value in (None, 7, -1, 1e300, 10 ** 39, "x", "", True, [], [[]], [None, 7, "x"], {}, {"x": 1}, [{}],
                  {"newest": 7}, {"newest": [7, {}]}, {"samples_per_s": ["x", {}]}):
        for width, height in ((80, 24), (200, None), (20, 5)):
            assert shown(figures(**{key: value}), width, height)[0].startswith("stoker-top"), value


@pytest.mark.parametrize("key", sorted(TABLE[0]))
def test_a_cell_of_another_type_counts_as_unknown(key):
    for value in (None, 7, -1, 1e300, "x", True, [], {}, {"decode": "x"}):
        said = figures(worker_table=[dict(TABLE[0], **{key: value}), 7, None, "x", {}])
        assert len(said.workers) == 2 and len(shown(said, 200, None)) > 5, value


def test_answers_at_random():
    """Parts of an answer exchanged for others: never an exception but ValueError."""
    draw = random.Random(0)
    values = [None, 0, -1, 1.5, 10 ** 30, True, "", "x" * 1000, "\x1b[2J", [], {}]

    def mutated(value, depth=0):
        if draw.random() < 0.1:
            return draw.choice(values + list(ANSWER.values()))
        if isinstance(value, dict):
            return {key: mutated(one) for key, one in value.items() if draw.random() < 0.95}
        return [mutated(one) for one in value] if isinstance(value, list) else value
    shown_ones = 0
    for _ in range(300):
        try:
            said = parse(json.dumps(mutated(ANSWER)).encode())
        except ValueError:
            continue
        shown_ones += 1
        for line in shown(said, draw.randint(1, 200), draw.choice([None, draw.randint(1, 60)])):
            assert line.isprintable()
    assert shown_ones > 100


# ----------------------------------------------------------------------------------------------------------- hostile

@pytest.mark.parametrize("body", [
    b"", b"\xff", b"[]", b"null", b'"x"', b"{}", b"[" * 100000, b'{"step": 3}', b'{"stoker": 1}',
    b'{"stoker": 1, "step": NaN}', b'{"stoker": 1, "step": 1e999}', b'{"stoker": 1, "step": ' + b"9" * 100000 + b"}",
    b'{"stoker": 1, "step": 1, "step": 2}', b"<html>"], ids=lambda body: repr(body[:20]))
def test_what_is_no_answer_is_refused_with_a_sentence(body):
    with pytest.raises(ValueError, match="that is no answer of a Stoker trainer") as caught:
        parse(body)
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


NASTY = ["\x1b]0;owned\x07\x1b[2J\x1b[31m", "\u202egpj.exe", "[red]markup[/red] [/]", ":smiley:", "a\nb\rc\td",
         "\x9b2J", "\ud800", "x" * 100000, "\u2028", "表" * 400, "<script>alert(1)</script>", "%s %d {0}",
         "e\u0301" * 200]


@pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: ascii(nasty[:12]))
def test_hostile_texts_stay_text(nasty):
    table = [dict(TABLE[0], name=nasty, host=nasty, state=nasty, versions=nasty, why=nasty)]
    said = figures(worker_table=table, unit=nasty, run=nasty, bottleneck={"name": nasty, "sentence": nasty},
                   events=[{"s": 1.0, "kind": nasty, "text": nasty}],
                   bad={"count": 1, "newest": [{"s": 1.0, "path": nasty, "why": nasty, "step": 1}]})
    for worker in said.workers:
        assert max(map(len, (worker.name, worker.host, worker.state, worker.versions, worker.why))) <= MAX_CHARS
    for width, height in ((80, 24), (200, None), (30, 10)):
        lines = shown(said, width, height)
        assert all(line.isprintable() for line in lines)
    pytest.importorskip("rich")
    from stoker.inspection.terminal.screen import rendered
    drawn = rendered(page(said, "", View("a:1", 80, None), clock), 80, True)
    assert all(line.isprintable() for line in drawn)
    from rich.cells import cell_len
    assert max(map(cell_len, drawn)) <= 80
    if nasty.isprintable() and len(nasty) < 20:
        assert nasty in "\n".join(rendered(page(said, "", View("a:1", 400, None), clock), 400, True))


def test_lists_without_end_are_cut():
    said = figures(worker_table=TABLE[:1] * 5000, events=ANSWER["events"] * 5000,
                   history={"samples_per_s": [1.0] * 5000, "waiting_share": [1.0] * 5000})
    assert len(said.workers) == len(said.events) == len(said.rates) == top_figures.MAX_ENTRIES


@pytest.mark.parametrize("next_s, kept", [(2.5, 2.5), (0, 1.0), (0.001, 0.5), (-5, 1.0), (1e9, 60.0), ("x", 1.0)])
def test_the_trainer_asks_for_patience_within_limits(next_s, kept):
    assert figures(next_s=next_s).next_s == kept


# ---------------------------------------------------------------------------------------------------------- the drawing

def test_colours_are_drawn_unless_it_is_text_or_no_colour_is_asked_for(monkeypatch):
    pytest.importorskip("rich")
    from stoker.inspection.terminal.screen import rendered
    parts = page(figures(), "", View("a:1", 80, 24), clock)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLORTERM", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = "\n".join(rendered(parts, 80, False))
    assert "\x1b[36m" in coloured and "\x1b[31m" in coloured
    assert "\x1b" not in "\n".join(rendered(parts, 80, True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any("\x1b[3%dm" % colour in "\n".join(rendered(parts, 80, False)) for colour in range(8))


def test_a_missing_rich_is_a_sentence(monkeypatch, capsys):
    from stoker.inspection.terminal import program as top_program
    monkeypatch.setitem(sys.modules, "rich", None)
    assert top_program.main([]) == 2
    assert "the package rich is missing in %s" % sys.executable in capsys.readouterr().err


def test_the_token_file_of_a_container_is_found(monkeypatch):
    from stoker.inspection.terminal import program as top_program
    monkeypatch.setitem(os.environ, "STOKER_STATUS_TOKEN_FILE", "/status/token")
    assert top_program.make_parser().parse_args([]).token_file == "/status/token"
    monkeypatch.setitem(os.environ, "STOKER_STATUS_TOKEN_FILE", "")
    assert top_program.make_parser().parse_args([]).token_file is None
