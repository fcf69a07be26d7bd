"""Runs the benchmark scripts one after the other, and writes the report.

    make bench                       docs/BENCHMARKS.md and its plots, in less than half an hour
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
from typing import Dict, List, Sequence

from benchmarks import machine
from benchmarks.contenders.protocol import marked
from benchmarks.report import Script, render, tables_of
from benchmarks.table import ends_in_order

HERE = os.path.dirname(os.path.abspath(__file__))
PLOTTING = os.path.join(".venv", "bench-pictures", "bin", "python")
RUN_MARK = "BENCHMARK_RUN"      # in the environment of all processes that a script starts
LIMIT_S = 1500.0                # for one script: after that it counts as hanging


def scripts() -> List[str]:
    """The names of the modules that are benchmark scripts: the one that most readers want comes first."""
    found = []
    for name in sorted(os.listdir(HERE)):
        if name.endswith(".py"):
            with open(os.path.join(HERE, name), encoding="utf-8") as file:
                if re.search(r"^def run\(", file.read(), re.MULTILINE):
                    found.append(name[:-3])
    return sorted(found, key=lambda name: name != "end_to_end")


def run_script(name: str, quick: bool, out: str) -> Script:
    """Runs one script. Afterwards no process of it is left, however it ends."""
    path = os.path.join(out, name + ".json")
    if os.path.exists(path):
        os.remove(path)
    mark = "%s=%s" % (RUN_MARK, uuid.uuid4().hex)
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks." + name, "--out", out] + ["--quick"] * quick,
                               env=dict(os.environ, **dict([mark.split("=")])), stdin=subprocess.DEVNULL)
    error = ""
    try:
        code = process.wait(LIMIT_S)
        error = "exit code %d" % code if code else ""
    except subprocess.TimeoutExpired:
        error = "was not done after %g s" % LIMIT_S
    finally:
        _kill(mark)
        process.wait()
    seconds = time.monotonic() - begin
    try:
        with open(path) as file:
            tables = tables_of(json.load(file))
    except (OSError, ValueError) as failure:
        return Script(name, seconds, [], error or "no tables: %s" % failure)
    return Script(name, seconds, tables, error)


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
    parser.add_argument("script", nargs="*", help="only these, of: %s; the report goes to the output folder then"
                                                  % ", ".join(scripts()))
    parser.add_argument("--quick", action="store_true", help="few and short rounds: not for claims")
    parser.add_argument("--out", default=os.path.join("runs", "bench"), metavar="FOLDER",
                        help="for JSON, and for the report if it is quick or not of all scripts; default %(default)s")
    args = parser.parse_args()
    unknown = sorted(set(args.script) - set(scripts()))
    if unknown:
        parser.error("there is no benchmark %s; there are %s" % (", ".join(unknown), ", ".join(scripts())))
    ends_in_order()
    os.makedirs(args.out, exist_ok=True)
    begin = time.monotonic()
    done = []
    for number, name in enumerate(args.script or scripts()):
        print("bench: %s, %d of %d, %d s so far" % (name, number + 1, len(args.script or scripts()),
                                                  time.monotonic() - begin), file=sys.stderr, flush=True)
        done.append(run_script(name, args.quick, args.out))
        if done[-1].error:
            print("bench: %s failed: %s" % (name, done[-1].error), file=sys.stderr, flush=True)
    of_all = not args.quick and not args.script
    folder = "docs" if of_all else args.out
    drawn = plots(os.path.join(folder, "benchmarks"), args.out, done)
    seconds = time.monotonic() - begin
    facts = machine.facts() + [
        ("command", "`make bench%s`" % (" QUICK=1" if args.quick else "") if not args.script else
         "`python -m benchmarks %s`" % " ".join(args.script + ["--quick"] * args.quick)),
        ("date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())),
        ("took", "%d min %d s: %s" % (seconds // 60, seconds % 60,
                                     ", ".join("%s %d s" % (each.name, each.seconds) for each in done)))]
    text = render(done, facts, {name: "benchmarks/" + file for name, file in drawn.items()})
    path = os.path.join(folder, "BENCHMARKS.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(os.getcwd() + "/", ""))
    print("bench: %s is written" % path, file=sys.stderr)
    return 1 if any(each.error for each in done) else 0


if __name__ == "__main__":
    sys.exit(main())
