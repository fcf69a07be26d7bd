"""Runs the benchmark scripts one after the other, and writes the report.

    make bench                       docs/BENCHMARKS.md and its plots, in less than 40 minutes
    make bench ARGS="wire small"     only these, of those and of others
    make bench ARGS=--report         docs/BENCHMARKS.md from what the last run of each script measured
    make bench ARGS=--rows           prints README's table from it
    make bench QUICK=1               the same in minutes, into the output folder: to see that it runs

Each script is a module of this package with a ``run``, and also runs alone: python -m benchmarks.end_to_end --help.
The output of a script is shown; its tables are kept as JSON in the output folder. If a script fails, the report says
so, the others still run, and the exit code is 1. Ctrl-C stops everything.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from typing import Dict, List, Sequence, Tuple

from benchmarks import machine
from benchmarks.contenders.protocol import marked
from benchmarks.machine import Others
from benchmarks.report import Script, readme_rows, render, tables_of
from benchmarks.table import DISTURBED_CORES, ends_in_order

HERE = os.path.dirname(os.path.abspath(__file__))
PLOTTING = os.path.join(".venv", "bench-pictures", "bin", "python")
RUN_MARK = "BENCHMARK_RUN"      # in the environment of all processes that a script starts
LIMIT_S = 1500.0                # for one script: after that it counts as hanging
REPEATED_S = 150.0              # a script that took longer is not repeated because of other work
#: The scripts of the report, in its order. The others are run by their names.
REPORT = ("end_to_end", "wire", "small", "cache", "composed", "own", "adapters", "sources", "feed", "latency", "scale",
          "quality", "memory")
UNMARKED = ("composed", "sources")      # whose servers or containers are other work


def scripts() -> List[str]:
    """The names of the modules that are benchmark scripts: the one that most readers want comes first."""
    found = []
    for name in sorted(os.listdir(HERE)):
        if name.endswith(".py"):
            with open(os.path.join(HERE, name), encoding="utf-8") as file:
                if re.search(r"^def run\(", file.read(), re.MULTILINE):
                    found.append(name[:-3])
    return sorted(found, key=lambda name: name != "end_to_end")


def run_script(name: str, quick: bool, out: str) -> Tuple[Script, float]:
    """Runs one script; and how many cores other work kept busy. Afterwards no process of it is left, however it
    ends."""
    path = os.path.join(out, name + ".json")
    if os.path.exists(path):
        os.remove(path)
    mark = "%s=%s" % (RUN_MARK, uuid.uuid4().hex)
    begin, watch, others = time.monotonic(), Others(mark), 0.0
    process = subprocess.Popen([sys.executable, "-m", "benchmarks." + name, "--out", out] + ["--quick"] * quick,
                               env=dict(os.environ, **dict([mark.split("=")])), stdin=subprocess.DEVNULL)
    error = ""
    try:
        code = process.wait(LIMIT_S)
        others = watch.cores()
        error = "exit code %d" % code if code else ""
    except subprocess.TimeoutExpired:
        error = "was not done after %g s" % LIMIT_S
    finally:
        _kill(mark)
        process.wait()
    found = read_script(name, out)
    found = found._replace(seconds=time.monotonic() - begin, error=error or found.error)
    if others > DISTURBED_CORES:
        print("bench: DISTURBED: other work kept %.2f cores busy during %s" % (others, name), file=sys.stderr)
    return found, others


def read_script(name: str, out: str) -> Script:
    """What the last run of a script wrote."""
    try:
        with open(os.path.join(out, name + ".json")) as file:
            document = json.load(file)
            return Script(name, document["seconds"], tables_of(document), "", document["date"], document["commit"])
    except (OSError, ValueError, KeyError) as failure:
        return Script(name, 0.0, [], "no tables: %s" % failure)


def _kill(mark: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = marked(mark)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.02)


def plots(folder: str, out: str, done: Sequence[Script]) -> Dict[str, str]:
    """Draws the tables; their names -> their files in ``folder``. None where there is no matplotlib."""
    if not os.path.exists(PLOTTING):
        print("bench: no plots: there is no environment .venv/bench-pictures", file=sys.stderr)
        return {}
    paths = [os.path.join(out, each.name + ".json") for each in done if each.tables]
    answer = subprocess.run([PLOTTING, "-m", "benchmarks.plots", folder] + paths, stdout=subprocess.PIPE,
                            stdin=subprocess.DEVNULL, universal_newlines=True, check=True)
    return dict(line.split(" ", 1) for line in answer.stdout.splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", nargs="*", help="only these, of: %s" % ", ".join(scripts()))
    parser.add_argument("--quick", action="store_true", help="few and short rounds: not for claims")
    parser.add_argument("--report", action="store_true", help="write docs/BENCHMARKS.md from the last run of each of "
                        "its scripts, after running those that are named")
    parser.add_argument("--rows", action="store_true", help="only print README's table, from the last run")
    parser.add_argument("--out", default=os.path.join("runs", "bench"), metavar="FOLDER",
                        help="for JSON, and for the report if it is quick or not of all scripts; default %(default)s")
    args = parser.parse_args()
    unknown = sorted(set(args.script) - set(scripts()))
    if unknown:
        parser.error("there is no benchmark %s; there are %s" % (", ".join(unknown), ", ".join(scripts())))
    if args.rows:
        print(readme_rows([read_script("end_to_end", args.out)]), end="")
        return 0
    ends_in_order()
    os.makedirs(args.out, exist_ok=True)
    names = args.script or ([] if args.report else list(REPORT))
    done = [_run(name, number, names, args.quick, args.out) for number, name in enumerate(names)]
    of_all = args.report or not args.quick and not args.script
    if args.report:
        done = [read_script(name, args.out) for name in REPORT
                if os.path.exists(os.path.join(args.out, name + ".json"))]
    _write("docs" if of_all else args.out, args.out, done, "make bench" + " QUICK=1" * args.quick
           if of_all or not args.script else "python -m benchmarks %s" % " ".join(args.script))
    return 1 if any(each.error for each in done) else 0


def _run(name: str, number: int, names: Sequence[str], quick: bool, out: str) -> Script:
    """Runs a script, a second time if other work disturbed the first."""
    print("bench: %s, %d of %d" % (name, number + 1, len(names)), file=sys.stderr, flush=True)
    found, others = run_script(name, quick, out)
    if others > DISTURBED_CORES and found.seconds < REPEATED_S and not quick and name not in UNMARKED:
        found, others = run_script(name, quick, out)
    if found.error:
        print("bench: %s failed: %s" % (name, found.error), file=sys.stderr, flush=True)
    return found


def _write(folder: str, out: str, done: Sequence[Script], command: str) -> None:
    """The report of these scripts, with its plots."""
    drawn = plots(os.path.join(folder, "benchmarks"), out, done)
    dates = [each.date for each in done if each.date] or [time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())]
    seconds = sum(each.seconds for each in done)
    facts = [fact for fact in machine.facts() if fact[0] != "commit"] + [
        ("commit", next((each.commit for each in done if each.commit), machine.commit())),
        ("command", "`%s`" % command), ("date", dates[0]),
        ("took", "%d min %d s: %s" % (seconds // 60, seconds % 60, ", ".join("%s %d s" % (each.name, each.seconds)
                                                                            for each in done if each.tables)))]
    text = render(done, facts, {name: "benchmarks/" + file for name, file in drawn.items()})
    path = os.path.join(folder, "BENCHMARKS.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(os.getcwd() + "/", ""))
    print("bench: %s is written" % path, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
