"""What it costs to look at a run: images per second, end to end at 64 pixels, while its page is open and Prometheus
reads /metrics every second, by those while no client asks for anything.

It is one run, with one worker process for each core, into a placeholder of TensorFlow 1.9. What looks at it are
processes of their own, which are suspended in every other stretch of time: ``benchmarks/visitor.py`` asks as the page's
script does, and Prometheus is Debian's, or else a client that reads /metrics as often. Stretches come in fours: not
looked at, looked at twice, not looked at. So what becomes slowly faster or slower counts on both sides.

Rates are noisy; CPU times are not. So there are two ratios: of images per second, in which the CPU time of what looks
counts as well, since it runs on the same cores; and of images per CPU second of the run's own processes, as with a
browser and a Prometheus on other hosts. The CPU time of the thread that answers is exact also on a busy machine.

A second table has what a status address costs the consumer while no client asks: it notes a little of each batch.
"""

import json
import math
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import psutil

from stoker.pipeline.cores import cores
from stoker.pipeline.sources import sample_data
from benchmarks.looked_at import BATCH, Times
from benchmarks.pictures import FOLDER
from benchmarks.table import Goal, Say, Table, main
from benchmarks.unseen import unseen
from benchmarks.wire import ROOT, worker_python

SIZE = 64
PICTURES = 1000               # that are made where those of the other benchmarks are not there
ROUNDS, FOURS = 5, 3          # so many rounds of so many fours of stretches
STRETCH_S, SETTLE_S = 3.0, 0.4     # a stretch is measured after it has settled
START_S, WARM_UP_S = 120.0, 5.0
END_S = 20.0
LEAST = 0.995
SCRAPE = """global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: stoker, static_configs: [{targets: ['%s']}]}]
"""


class Stretch(NamedTuple):
    """What was measured in one stretch of time; CPU seconds are per second."""

    images_s: float
    run_cpu: float                   # of the trainer's process and its workers
    threads_cpu: Dict[str, float]    # of the trainer's threads, by name
    visitors_cpu: float              # of what looks at the run
    others_cpu: float                # of all else on this machine: should be 0

    @property
    def images_per_cpu_s(self) -> float:
        return self.images_s / max(1e-9, self.run_cpu)


class Ratio(NamedTuple):
    """The median of ratios, and between which two their true median lies with 95 % confidence, whatever their
    distribution is."""

    median: float
    least: float
    most: float


def ratio_of(values: Sequence[float]) -> Ratio:
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    while rank < count // 2:         # how many of the smallest and of the largest may be left out
        outside += 2 * _choices(count, rank) / 2.0 ** count
        if outside > 0.05:
            break
        rank += 1
    rank = max(0, rank - 1)
    return Ratio(statistics.median(ordered), ordered[rank], ordered[-1 - rank])


def _choices(count: int, chosen: int) -> int:
    return math.factorial(count) // math.factorial(chosen) // math.factorial(count - chosen)


def process_cpu_s(pid: int) -> float:
    """CPU seconds of a process, those of threads that have ended too; 0 if it has."""
    try:
        return time.clock_gettime(~pid << 3 | 2)        # the clock of a process, as clock_getcpuclockid makes it
    except OSError:
        return 0.0


def thread_cpu_s(pid: int, thread: int) -> float:
    """CPU seconds of a thread; 0 if it has ended."""
    try:
        with open("/proc/%d/task/%d/schedstat" % (pid, thread)) as file:
            return int(file.read().split()[0]) / 1e9
    except OSError:
        return 0.0


class Run:
    """``looked_at``, in its process."""

    def __init__(self, folder: str, temporary: str, workers: int) -> None:
        path = os.path.join(temporary, "times")
        self._times = Times(path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.looked_at", folder, str(SIZE), str(workers), worker_python(), path],
            cwd=ROOT, env=dict(os.environ, PYTHONPATH=ROOT, TF_CPP_MIN_LOG_LEVEL="2"), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        try:
            self._begin(workers)
        except BaseException:       # Ctrl-C, too
            self.end()
            raise

    def _begin(self, workers: int) -> None:
        """Waits until it makes batches."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], START_S)[0]:
            raise RuntimeError("the run did not begin within %g s: see above" % START_S)
        told = json.loads(self._process.stdout.readline().decode() or "{}")
        if not told:
            raise RuntimeError("the run did not begin: see above")
        self.url: str = told["url"]
        self.threads: Dict[str, int] = {name: number for name, number in told["threads"].items() if name != "input"}
        warm = time.monotonic() + WARM_UP_S
        while time.monotonic() < warm or len(self._times) < 20 * workers:
            if self._process.poll() is not None or time.monotonic() > warm + START_S:
                raise RuntimeError("the run ended, or makes no batches")
            time.sleep(0.1)
        pid = self._process.pid
        self.pids = [pid] + [child.pid for child in psutil.Process(pid).children(recursive=True)]

    def cpu_s(self) -> Tuple[float, Dict[str, float]]:
        """So far: of all its processes, and of the trainer's threads."""
        return (sum(process_cpu_s(pid) for pid in self.pids),
                {name: thread_cpu_s(self.pids[0], number) for name, number in self.threads.items()})

    def images_s(self, begin_s: float, end_s: float) -> float:
        return BATCH * self._times.rate(begin_s, end_s)

    def end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Visitor:
    """``visitor``, in its process: looks only between ``look`` and ``rest``."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.visitor", url] + list(arguments), cwd=ROOT,
                                         env=dict(os.environ, PYTHONPATH=ROOT), stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        self.pid = self._process.pid

    def look(self) -> None:
        self._say(b"look\n")

    def rest(self) -> None:
        self._say(b"rest\n")

    def end(self) -> Dict[str, Any]:
        """What it got; {} if it has ended before."""
        if self._process.returncode is not None:
            return {}
        try:
            answer, _ = self._process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            answer, _ = self._process.communicate()
        found: Dict[str, Any] = json.loads(answer.decode() or "{}")
        return found

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()


class Prometheus:
    """The real one, suspended between ``rest`` and ``look``."""

    def __init__(self, program: str, url: str, folder: str) -> None:
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w") as file:
            file.write(SCRAPE % url.rpartition("/")[2])
        self._said = open(os.path.join(folder, "prometheus.log"), "wb")
        self._process = subprocess.Popen([program, "--config.file=" + config, "--web.listen-address=127.0.0.1:0",
                                          "--storage.tsdb.path=" + os.path.join(folder, "tsdb")],
                                         stdout=self._said, stderr=self._said)
        self.pid = self._process.pid
        time.sleep(WARM_UP_S)
        if self._process.poll() is not None:
            raise RuntimeError("Prometheus ended: see %s" % self._said.name)
        self.rest()

    def look(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def rest(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> Dict[str, Any]:
        self._process.kill()
        self._process.wait()
        self._said.close()
        return {}


def prometheus_program() -> Optional[str]:
    """Its path: installed, or unpacked for the tests by ``.setup/debian-programs.sh``; None."""
    folder = os.environ.get("STOKER_TEST_PROMETHEUS")
    found = shutil.which("prometheus") or (shutil.which("prometheus", path=os.path.join(folder, "usr", "bin"))
                                           if folder else None)
    if found:
        return found
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stoker")
    for name in sorted(os.listdir(cache)) if os.path.isdir(cache) else []:
        path = os.path.join(cache, name, "usr", "bin", "prometheus")
        if name.startswith("prometheus") and os.access(path, os.X_OK):
            return path
    return None


def stretch(run: Run, visitors: Sequence[Any], looks: bool, seconds: float) -> Stretch:
    """Measures one."""
    for visitor in visitors:
        visitor.look() if looks else visitor.rest()
    time.sleep(SETTLE_S)
    begin, (cpu, threads), busy = time.monotonic(), run.cpu_s(), busy_s()
    visiting = sum(process_cpu_s(visitor.pid) for visitor in visitors)
    time.sleep(seconds)
    end, (cpu_after, threads_after) = time.monotonic(), run.cpu_s()
    passed = end - begin
    visiting = (sum(process_cpu_s(visitor.pid) for visitor in visitors) - visiting) / passed
    run_cpu = (cpu_after - cpu) / passed
    others = max(0.0, (busy_s() - busy) / passed - run_cpu - visiting)
    return Stretch(run.images_s(begin, end), run_cpu,
                   {name: (threads_after[name] - threads[name]) / passed for name in threads}, visiting, others)


def busy_s() -> float:
    """CPU seconds that all processes of this machine have used, waiting for the disk left out."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


@contextmanager
def pictures(say: Say) -> Iterator[Tuple[str, str]]:
    """A folder of pictures, those of the other benchmarks where they are made, and a sentence about them."""
    photos = os.path.join(ROOT, FOLDER, "photos")
    if os.path.exists(photos):
        yield photos, "JPEGs of 500x375 pixels"
        return
    with tempfile.TemporaryDirectory() as folder:
        say("making sample pictures, as those of the other benchmarks are not there (sh .setup/bench.sh)")
        sample_data.write(os.path.join(folder, "pictures"), PICTURES)
        yield os.path.join(folder, "pictures"), "sample pictures of about 140x140 pixels"


def run(quick: bool, say: Say) -> List[Table]:
    rounds, fours, seconds = (2, 1, 0.8) if quick else (ROUNDS, FOURS, STRETCH_S)
    with ExitStack() as ends:
        folder, sort = ends.enter_context(pictures(say))
        temporary = ends.enter_context(tempfile.TemporaryDirectory())
        say("starting the run")
        looked_at = Run(folder, temporary, cores())
        ends.callback(looked_at.end)
        program = prometheus_program()
        visitors: List[Any] = [Visitor(looked_at.url, "--scrapers", "0" if program else "1")]
        ends.callback(visitors[0].end)
        if program:
            visitors.append(Prometheus(program, looked_at.url, temporary))
            ends.callback(visitors[1].end)
        stretch(looked_at, visitors, True, WARM_UP_S)       # the first page imports what it needs
        found: List[List[Stretch]] = []
        for number in range(rounds):
            say("round %d of %d" % (number + 1, rounds))
            for _ in range(fours):
                found.append([stretch(looked_at, visitors, looks, seconds) for looks in (False, True, True, False)])
        answers = visitors[0].end()
    return [table(found, rounds, seconds, answers, "Prometheus" if program else "a client in Prometheus' place",
                  sort, cores()), unseen(quick, say)]


def ratio(found: Sequence[Sequence[Stretch]], value: Callable[[Stretch], float]) -> Ratio:
    """Of ``value`` while looked at, by the value else, of each four."""
    return ratio_of([(value(four[1]) + value(four[2])) / max(1e-9, value(four[0]) + value(four[3])) for four in found])


def table(found: Sequence[Sequence[Stretch]], rounds: int, seconds: float, answers: Dict[str, Any], scraper: str,
          sort: str, machine_cores: int) -> Table:
    """``found``: fours of stretches; ``answers``: what the page got; ``sort``: of the pictures."""
    sides = {"not looked at": [one for four in found for one in (four[0], four[3])],
             "page open, %s every second" % scraper: [one for four in found for one in four[1:3]]}
    rates, work = ratio(found, lambda one: one.images_s), ratio(found, lambda one: one.images_per_cpu_s)
    rows = []           # type: List[List[Any]]
    for name, side in sides.items():
        threads = [statistics.mean(one.threads_cpu.get(thread, 0.0) for one in side)
                   for thread in ("stoker-status", "MainThread", "stoker-coordinator")]
        rows.append([name, statistics.median(one.images_s for one in side), min(one.images_s for one in side),
                     max(one.images_s for one in side), statistics.median(one.images_per_cpu_s for one in side)]
                    + [1000 * cpu for cpu in threads] + [1000 * statistics.mean(one.visitors_cpu for one in side)])
    looked_at = list(sides.values())[1]
    share = statistics.mean(one.threads_cpu.get("stoker-status", 0.0) for one in looked_at) / machine_cores
    others = statistics.median(one.others_cpu for side in sides.values() for one in side)
    notes = ["%s, %d fours of stretches of %g s in %d rounds. CPU ms are per second, of the trainer's threads, and of "
             "what looks. Images/CPU s: of the run's own processes." % (sort, len(found), seconds, rounds),
             "Ratios, with intervals of 95 %% confidence: images/s %s, images/CPU s %s." % (
                 _shown(rates), _shown(work)),
             "The page's answers: %s." % "; ".join(
                 "%s %s, %d KB each, the slowest %.0f ms" % (
                     path, " ".join("%sx %s" % (count, code) for code, count in sorted(got["codes"].items())),
                     got["bytes"] / sum(got["codes"].values()) / 1000, 1000 * got["slowest_s"])
                 for path, got in sorted(answers.items()))]
    if others > 0.1:
        notes.append("DISTURBED: other work kept %.2f cores busy meanwhile, so images/s are not valid." % others)
    failed = [path for path, got in answers.items() if set(got["codes"]) != {"200"}]
    return Table("looking", "What looking at a run costs, end to end at %dx%d" % (SIZE, SIZE),
                 ["", "images/s", "least", "most", "images/CPU s", "status thread ms", "consumer ms", "coordinator ms",
                  "what looks ms"], rows, notes,
                 [Goal("images/s while looked at, by those else", rates.median, LEAST),
                  Goal("images per CPU second of the run, by those else", work.median, LEAST),
                  Goal("share of all cores that the thread takes that answers", share, 1 - LEAST, at_most=True),
                  Goal("pages with another answer than 200", len(failed), 0, at_most=True)])


def _shown(found: Ratio) -> str:
    return "%.4f (%.4f to %.4f)" % found


if __name__ == "__main__":
    main(run, __doc__)
