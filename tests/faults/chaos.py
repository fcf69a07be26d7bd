"""Chaos, from one seed: a training on several hosts, whose processes and lines are killed, frozen, cut and restored.
It must still give the same batches as an undisturbed run.

``python -m tests.faults.chaos --seconds 600 --seed 7``. docs/RELIABILITY.md describes the run and its table. The faults
and their times are a pure function of (seconds, seed). Which process is hit depends on the processes that exist then,
and so differs from run to run. Every other trainer shares memory with the workers of its host. With ``--own``, the data
are a table, and a sample function makes three arrays of its rows, one of which has a side that differs.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from tests.integration.conftest import GENERATORS, draw
from tests.support.fake_trainer import read_checkpoint
from tests.support.network import Network, missing
from tests.support.own_functions import write_table
from tests.support.processes import (Program, alive, command_line, interpreter, kill, wait_for, with_environment,
                                     worker_pids)

PORT = 5555              # in the trainer's own network namespace
PICTURES, SIZE = 100, (48, 64)
BATCH = 9                # its pixels are sent without a copy; those of an epoch's last batch, of 3, are copied
CHECKPOINT_STEPS = 10
PAUSE_S = 0.01           # time of a training step
STALLED_S = 60.0         # without a checkpoint for so long, the training counts as stuck
END_S = 60.0             # limit for a process that was asked to leave
POLL_INTERVAL_S = 0.02
WORKERS_INTERVAL_S = 0.2 # a search for them reads all of /proc
REPORT_INTERVAL_S = 5.0
SETTLED_S = 1.5          # a worker of this age has started, and looks for a trainer
MAX_TEMPORARY = 3        # supervisors that joined for a while
LOGGED = ("steps reassigned", "slow steps also given to a second worker", "second batches dropped")  # by trainers
SHARES = " come through shared memory"
CONTENT = ("step", "epoch", "indices", "skipped", "crc32")
MORE_CONTENT = ("used", "missing")      # where it is not as usual
PICTURES_RUN = {"generator": "augmented"}
OWN_RUN = {"generator": "tests.support.own_functions:boxes", "partners": 1, "on_bad_image": "replace"}
#: Run -> the same with a twentieth of a second more for each batch.
SLOW = {"augmented": "user_generators:slow_augmented",
        "tests.support.own_functions:boxes": "tests.support.own_functions:slow_boxes"}
OWN_ORDERS = ("balanced", "kind"), ("weighted", "importance")     # by the seed; both repeat indices

#: Kind of fault -> how many in 600 s, and the shortest and longest time in seconds until it is undone: the process is
#: started again or woken, the line is restored.
FAULTS = {
    "kill worker": (330, 0.0, 0.0),
    "kill supervisor": (36, 0.0, 1.0),
    "freeze worker": (60, 0.1, 8.0),
    "freeze trainer": (12, 1.0, 6.0),
    "leave worker": (30, 0.0, 0.0),
    "leave supervisor": (15, 0.0, 1.0),
    "join": (15, 0.0, 0.0),
    "kill trainer": (14, 0.0, 3.0),
    "stop trainer": (12, 0.0, 3.0),
    "shape line": (40, 3.0, 15.0),
    "cut line": (10, 1.0, 8.0),
    "cut line for long": (2, 30.0, 30.0),
    "change address": (8, 0.0, 0.0),
}


class ChaosFailed(Exception):
    """The run is not as it should be. The message says why."""


class Fault(NamedTuple):
    """One fault of the schedule. ``pick``, in [0, 1), selects one of the possible targets."""

    at_s: float
    kind: str
    pick: float
    seconds: float
    delay_s: float
    loss: float


def schedule(seconds, seed):
    """The faults of a run of ``seconds``, by time: each kind evenly over the run, but at random moments."""
    chance = random.Random(seed)
    faults = []
    for kind, (count, least_s, most_s) in sorted(FAULTS.items()):
        count = -int(-count * seconds // 600)             # rounded up: each kind at least once
        if least_s > seconds / 4:                         # but this one would be most of a short run
            continue
        for number in range(count):
            faults.append(Fault((number + chance.random()) * seconds / count, kind, chance.random(),
                                chance.uniform(least_s, min(most_s, seconds / 4)), chance.uniform(0.02, 0.2),
                                chance.uniform(0.01, 0.1)))
    return sorted(faults)


def compare(entries, reference):
    """The first difference between an audit and that of an undisturbed run; None if they are equal."""
    for number, (entry, wanted) in enumerate(zip(entries, reference)):
        if entry["step"] != number:
            return "line %d of the audit is step %s" % (number, entry["step"])
        for field in CONTENT + tuple(field for field in MORE_CONTENT if field in entry or field in wanted):
            if entry.get(field) != wanted.get(field):
                return "step %d: %s is %r, undisturbed it is %r" % (number, field, entry.get(field), wanted.get(field))
    if len(entries) != len(reference):
        return "%d steps, undisturbed they are %d" % (len(entries), len(reference))
    return None


def read_audit(path):
    """Its lines."""
    with open(path) as lines:
        return [json.loads(line) for line in lines]


class Place:
    """A place where a supervisor with its workers is kept running. ``host``: None for the trainer's host."""

    def __init__(self, name, host, python, processes, temporary=False):
        self.name, self.host, self.python, self.processes = name, host, python, processes
        self.temporary = temporary       # started by "join", and not again
        self.program = None
        self.due_s = 0.0                 # when to start it
        self.ended_by = None             # the fault that ended it

    @property
    def runs(self):
        """There is a supervisor that was not asked to end."""
        return self.program is not None and self.ended_by is None


class Chaos:
    """One run, in ``folder``. ``say`` gets the lines of progress. ``own``: with a sample function and a table."""

    def __init__(self, seconds, seed, folder, say, own=False):
        self._seconds, self._folder, self._say = seconds, folder, say
        self._own, self._kind = own, OWN_RUN if own else PICTURES_RUN
        self._seed = seed
        self._schedule = collections.deque(schedule(seconds, seed))
        self._postponed = []             # faults without a possible target so far
        self._undo = []                  # (when, what): wakes, mends
        self._chance = random.Random(seed + 1)
        self._counts = collections.Counter()
        self._network = None
        self._wrong = []                 # sentences: what is not as it should be
        self._logs = {}                  # program -> file
        self._places = []
        self._supervisors = {}           # pid -> name of the place
        self._seen = {}                  # worker pid -> since when; as it was at
        self._looked_s = 0.0
        self._frozen = set()
        self._trainer = None
        self._trainers = 0               # that were started
        self._trainer_due_s = 0.0
        self._trainer_ended_by = None
        self._trainer_counts = False     # its time to the first batch is a figure of Stoker's
        self._firsts = []                # the times to the first batch of the restarts that count
        self._ended = False
        self._workers_python = interpreter("STOKER_TEST_WORKER_PYTHON") or sys.executable
        self._environment = {"TMPDIR": os.path.join(folder, "temporary-files"), "PYTHONDONTWRITEBYTECODE": "1",
                             "PYTHONPATH": folder}

    # --------------------------------------------------------------------------------------------------- the whole

    def run(self):
        """The result, as a dict; its ``verdict`` is 'passed' or says what is wrong."""
        result = {"seconds": self._seconds, "seed": self._seed, "data": "own" if self._own else "pictures"}
        self._attempt(self._train)
        self._attempt(self._check_logs)
        self._attempt(self._check_nothing_left)
        if not self._wrong:
            result.update(self._attempt(self._judge) or {})
        result.update(self._totals())
        result.update((kind, self._counts[kind]) for kind in FAULTS)
        result.update((name, self._counts[name]) for name in LOGGED + ("trainers that shared memory",))
        firsts = sorted(self._firsts)
        result.update({"first batch: restarts that count": len(firsts),
                       "first batch: median s": statistics.median(firsts) if firsts else None,
                       "first batch: longest s": firsts[-1] if firsts else None,
                       "verdict": "; ".join(self._wrong) or "passed"})
        return result

    def _totals(self):
        def of(*kinds):
            return sum(self._counts[kind] for kind in kinds)
        return {"kills": of("kill worker", "kill supervisor"), "freezes": of("freeze worker", "freeze trainer"),
                "leaves": of("leave worker", "leave supervisor"), "joins": of("join"),
                "trainer restarts": of("trainer restarts"), "network cuts": of("cut line", "cut line for long"),
                "line changes": of("shape line"), "address changes": of("change address")}

    def _attempt(self, part, *arguments):
        """The result of ``part``. An error is noted, so that the other parts can still run."""
        try:
            return part(*arguments)
        except (ChaosFailed, AssertionError, RuntimeError, OSError) as error:
            self._wrong.append(str(error))
            return None

    def _prepare(self):
        os.mkdir(self._environment["TMPDIR"])
        os.mkdir(self._path("logs"))
        data = self._path("data")
        draw(data, "png", PICTURES, SIZE)
        for name in ("left/broken.png", "right/empty.png"):       # skipped, always
            with open(os.path.join(data, name), "wb") as file:
                file.write(b"\x89PNG\r\n\x1a\n" * (name == "left/broken.png"))
        if self._own:
            write_table(data)
        shutil.copy(GENERATORS, self._path("user_generators.py"))
        subprocess.check_call([sys.executable, "-m", "stoker.pipeline.transport.keys", self._path("keys")],
                              stdout=subprocess.DEVNULL)

    def _train(self):
        self._prepare()
        try:
            with Network(self._seed) as self._network:
                try:
                    self._attempt(self._disturb, self._network)
                finally:
                    self._stop_all()
                ports = self._network.centre.listening()
        finally:
            left = self._network.left() if self._network else []
        if ports or left:
            raise ChaosFailed("left: ports %s, namespaces and interfaces %s" % (ports, left))

    def _disturb(self, network):
        places = [("trainer host", None, self._workers_python, 2)]
        for python, processes in ((self._workers_python, 2), (self._workers_python, 2), (sys.executable, 1)):
            host = network.add_host()
            places.append(("host %d" % len(network.hosts), host, python, processes))
        self._places = [Place(*place) for place in places]
        begun_s = reported_s = stepped_s = time.monotonic()
        step = 0
        while not self._ended:
            now = time.monotonic()
            self._keep_alive(now)
            done, _ = read_checkpoint(self._path("checkpoint"))
            if done != step:
                stepped_s = now
            if step == 0 and done:                    # it has begun: now the clock counts
                begun_s = now
            step = done
            if step and (now - begun_s < self._seconds or self._schedule):      # also what was due while it slept
                self._strike(now - begun_s, now)
            elif step:
                open(self._path("end"), "w").close()
            for entry in [entry for entry in self._undo if entry[0] <= now]:
                self._undo.remove(entry)
                entry[1]()
            if now - stepped_s > STALLED_S:
                raise ChaosFailed("no checkpoint for %.0f s after step %d" % (now - stepped_s, step))
            if now - reported_s >= REPORT_INTERVAL_S:
                reported_s = now
                self._say("%4.0f s: step %d, %d workers; %s" % (
                    now - begun_s, step, len(self._seen),
                    ", ".join("%s %d" % pair for pair in self._totals().items())))
            time.sleep(POLL_INTERVAL_S)

    def _judge(self):
        audit = self._path("audit")
        steps, weights = read_checkpoint(self._path("checkpoint"))
        self._say("%d steps are done; the same without a disturbance ..." % steps)
        reference = self._path("reference")
        begun_s = time.monotonic()
        program = self._start("reference", self._fake_trainer(
            dict(self._kind, audit=reference, workers=1, worker_python=self._workers_python, shared_memory=False),
            checkpoint=reference + "-checkpoint", pause_s=0, steps=steps))
        code = self._finish(program, END_S + steps)
        if code != 0:
            raise ChaosFailed("the undisturbed run ended with code %d: %s" % (code, program.text[-2000:]))
        entries = read_audit(audit)
        wrong = compare(entries, read_audit(reference))
        if wrong:
            raise ChaosFailed(wrong)
        if (steps, weights) != read_checkpoint(reference + "-checkpoint"):
            raise ChaosFailed("the audits are the same, but the weights are not")
        return {"steps": steps, "reference_s": round(time.monotonic() - begun_s, 1),
                "steps by place": self._by_place(entries),
                "steps from a second lease": sum(entry["attempt"] > 1 for entry in entries),
                "skipped samples": sum(len(entry["skipped"]) for entry in entries)}

    def _by_place(self, entries):
        """How many steps each place produced; a worker's name holds the pid of its supervisor."""
        counts = collections.Counter(self._supervisors.get(int(re.search(r":(\d+)/", entry["worker"]).group(1)), "?")
                                     for entry in entries)
        return ", ".join("%s %d" % pair for pair in sorted(counts.items()))

    # ----------------------------------------------------------------------------------------------- what must live

    def _keep_alive(self, now):
        self._keep_trainer(now)
        for place in list(self._places):
            program = place.program
            if program is not None and not program.running():
                code = self._finish(program)
                if place.ended_by is None:
                    raise ChaosFailed("the supervisor of %s ended by itself with code %d: %s"
                                      % (place.name, code, program.text[-2000:]))
                place.program = place.ended_by = None
                if place.temporary:
                    self._places.remove(place)
                    continue
            if place.program is None and now >= place.due_s:
                self._start_place(place)
        if now >= self._looked_s + WORKERS_INTERVAL_S:
            self._looked_s = now
            self._seen = {pid: self._seen.get(pid, now) for pid in worker_pids()}

    def _keep_trainer(self, now):
        if self._trainer is None:
            if now >= self._trainer_due_s:
                self._start_trainer(now)
        elif not self._trainer.running():
            program, ended_by = self._trainer, self._trainer_ended_by
            code = self._finish(program)
            self._trainer = None
            self._read_trainer(program.text)
            self._ended = "end" in program.lines
            allowed = {"kill trainer": (-signal.SIGKILL, 0), "stop trainer": (0,)}.get(ended_by, (0,) * self._ended)
            if ended_by == "stop trainer" and "started" not in program.lines:
                allowed = (-signal.SIGTERM,)          # its handler of the signal was not yet there
            if code not in allowed:
                raise ChaosFailed("the trainer ended with code %d: %s" % (code, program.text[-4000:]))

    def _start_trainer(self, now):
        settled = [pid for place in self._places if place.host is None or place.host.reachable
                   if place.program is not None for pid in worker_pids(place.program.pid)
                   if pid not in self._frozen and now - self._seen.get(pid, now) > SETTLED_S]
        self._trainer_counts = bool(settled) and self._trainer_ended_by is not None
        self._counts["trainer restarts"] += self._trainer_ended_by is not None
        self._trainer_ended_by = None
        self._trainers += 1
        self._trainer = self._start("trainer", self._network.centre.command(self._fake_trainer(
            dict(self._kind, generator=SLOW[self._kind["generator"]], audit=self._path("audit"),
                 bind="tcp://0.0.0.0:%d" % PORT, workers=0, shared_memory=self._trainers % 2 == 1),
            checkpoint=self._path("checkpoint"), pause_s=PAUSE_S, until=self._path("end"))))

    def _fake_trainer(self, stream, **more):
        data = self._path("data/log.csv" if self._own else "data")
        arguments = dict(more, every=CHECKPOINT_STEPS, stream=dict(
            stream, keys=self._path("keys"), data=data, batch_size=BATCH, epochs=1 << 20, seed=self._seed,
            image_size=SIZE))
        if self._own:
            arguments["order"] = OWN_ORDERS[self._seed % 2]
        return [sys.executable, "-m", "tests.support.fake_trainer", json.dumps(arguments)]

    def _read_trainer(self, text):
        self._counts["trainers that shared memory"] += SHARES in text
        first = re.search(r"^first ([\d.]+)$", text, re.MULTILINE)
        if first and self._trainer_counts:
            self._firsts.append(float(first.group(1)))
        for redone, backups, duplicates in re.findall(
                r"leases: (\d+) steps reassigned .*, (\d+) slow steps .*, (\d+) second batches", text):
            for name, count in zip(LOGGED, (redone, backups, duplicates)):
                self._counts[name] += int(count)

    def _start_place(self, place):
        namespace, centre = place.host or self._network.centre, place.host.centre if place.host else "127.0.0.1"
        place.program = self._start(place.name, namespace.command(
            [place.python, "-m", "workers", "--connect", "tcp://%s:%d" % (centre, PORT), "--processes",
             str(place.processes), "--data", self._path("data"), "--allow-generator",
             SLOW[self._kind["generator"]], "--keys", self._path("keys/workers/worker")]))
        self._supervisors[place.program.pid] = place.name

    def _start(self, name, command):
        program = Program(command[1:], command[0], **self._environment)
        self._logs[program] = self._path("logs/%04d-%s" % (len(self._logs), name.replace(" ", "-")))
        return program

    def _finish(self, program, limit_s=END_S):
        """Its exit code; writes its log."""
        with program:
            try:
                return program.wait(limit_s)
            finally:
                with open(self._logs[program], "w") as file:
                    file.write(program.text + "\n")

    def _path(self, name):
        return os.path.join(self._folder, name)

    def _stop_all(self):
        for _, undo in self._undo:
            undo()
        if self._trainer is not None:                 # only when something is wrong
            self._trainer.send_signal(signal.SIGKILL)
            self._attempt(self._finish, self._trainer)
        places = [place for place in self._places if place.program is not None]
        for place in places:
            place.program.send_signal(signal.SIGTERM)
        for place in places:
            code = self._attempt(self._finish, place.program)
            if code == -signal.SIGTERM and not place.program.lines:
                continue                              # it had just begun: its handler of the signal was not yet there
            if code and place.runs:
                self._wrong.append("the supervisor of %s, asked to stop, ended with code %d" % (place.name, code))

    def _check_logs(self):
        """The logs may show only the errors that the faults cause."""
        for path in self._logs.values():
            with open(path) as lines:
                text = lines.read()
            trouble = re.search(r"Traceback|stoker-worker: worker \d+ ended with (?!SIGKILL|SIGTERM)| failed ", text)
            if trouble:
                self._wrong.append("%s says: %s" % (path, text[trouble.start():][:2000]))

    def _check_nothing_left(self):
        mark = "TMPDIR=" + self._environment["TMPDIR"]
        try:
            wait_for(lambda: not with_environment(mark), "the end of all processes")
        except AssertionError:
            left = [(pid, command_line(pid)) for pid in with_environment(mark)]
            for pid, _ in left:
                kill(pid)
            raise ChaosFailed("processes are left: %s" % "; ".join("%d %s" % pair for pair in left)) from None
        files = os.listdir(self._environment["TMPDIR"])
        if files:
            raise ChaosFailed("temporary files are left: %s" % files)

    # ------------------------------------------------------------------------------------------------------- faults

    def _strike(self, elapsed_s, now):
        faults, self._postponed = self._postponed, []
        while self._schedule and self._schedule[0].at_s <= elapsed_s:
            faults.append(self._schedule.popleft())
        for fault in faults:
            if self._carry_out(fault, now):
                self._counts[fault.kind] += 1
            else:
                self._postponed.append(fault)

    def _carry_out(self, fault, now):
        """False: there is no possible target."""
        what, _, whom = fault.kind.partition(" ")
        return {"worker": self._hit_worker, "supervisor": self._hit_supervisor, "trainer": self._hit_trainer,
                "": self._join, "line": self._hit_line, "line for long": self._hit_line,
                "address": self._change_address}[whom](fault, what, now)

    def _pick(self, fault, among):
        return among[int(fault.pick * len(among))] if among else None

    def _hit_worker(self, fault, what, now):
        pid = self._pick(fault, sorted(set(self._seen) - (self._frozen if what == "freeze" else set())))
        if pid is None or not alive(pid):
            return False
        if what == "freeze":
            self._freeze(pid, now + fault.seconds)
        else:
            os.kill(pid, signal.SIGKILL if what == "kill" else signal.SIGTERM)
            if what == "kill":
                self._seen.pop(pid)                   # not again
        return True

    def _freeze(self, pid, until_s):
        os.kill(pid, signal.SIGSTOP)
        self._frozen.add(pid)
        self._undo.append((until_s, lambda: self._wake(pid)))

    def _wake(self, pid):
        self._frozen.discard(pid)
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:                    # killed in its sleep
            pass

    def _hit_supervisor(self, fault, what, now):
        place = self._pick(fault, [place for place in self._places if place.runs])
        if place is None:
            return False
        self._end_place(place, what, now + fault.seconds)
        return True

    def _end_place(self, place, what, due_s):
        place.ended_by, place.due_s = what, due_s
        place.program.send_signal(signal.SIGKILL if what == "kill" else signal.SIGTERM)

    def _hit_trainer(self, fault, what, now):
        if self._trainer is None or not self._trainer.running() or self._trainer_ended_by is not None:
            return False
        if what == "freeze":
            if not any(line.startswith("first ") for line in self._trainer.lines):
                self._trainer_counts = False
            self._freeze(self._trainer.pid, now + fault.seconds)
            return True
        self._trainer_ended_by, self._trainer_due_s = fault.kind, now + fault.seconds
        self._trainer.send_signal(signal.SIGKILL if what == "kill" else signal.SIGTERM)
        return True

    def _join(self, fault, what, now):
        guests = [place for place in self._places if place.temporary]
        if len(guests) >= MAX_TEMPORARY:
            if guests[0].runs:
                self._end_place(guests[0], "leave", now)
                self._counts["leave supervisor"] += 1
            return False                              # when it is gone
        self._places.append(Place("guest", self._pick(fault, [None] + self._network.hosts), self._workers_python, 1,
                                  temporary=True))
        return True

    def _hit_line(self, fault, what, now):
        host = self._pick(fault, self._network.hosts)
        if what == "shape":
            host.shape(fault.delay_s, fault.delay_s / 4, fault.loss)
            undo = host.shape
        elif self._chance.random() < 0.5:
            host.cut()
            undo = host.mend
        else:
            host.link_down()
            undo = host.link_up
        self._undo.append((now + fault.seconds, undo))
        return True

    def _change_address(self, fault, what, now):
        hosts = [host for host in self._network.hosts if host.reachable]
        if not hosts:
            return False
        self._pick(fault, hosts).change_address()
        return True


def table(result):
    """The result as text."""
    return "\n".join("%-34s %s" % (name, "%.3g" % value if isinstance(value, float) else value)
                     for name, value in result.items())


def run(seconds, seed, say=print, own=False):
    """The result of one run, as ``Chaos.run``. Its files are kept if it failed, and the verdict says where."""
    folder = tempfile.mkdtemp(prefix="stoker-chaos-")
    result = {"verdict": "interrupted"}
    try:
        result = Chaos(seconds, seed, folder, say, own).run()
    finally:
        if result["verdict"] in ("passed", "interrupted"):
            shutil.rmtree(folder)
        else:
            result["verdict"] += " [logs, audit and reference: %s]" % folder
    return result


def main():
    """The command line; the exit code is 0, 1 (failed) or 77 (cannot run here)."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--own", action="store_true", help="with a table and a sample function")
    args = parser.parse_args()
    why = missing()
    if why:
        print("chaos: skipped: %s" % why)
        return 77
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))     # in good order
    result = run(args.seconds, args.seed, lambda line: print(line, flush=True), args.own)
    print(table(result))
    print(json.dumps(result), flush=True)
    return int(result["verdict"] != "passed")


if __name__ == "__main__":
    sys.exit(main())
