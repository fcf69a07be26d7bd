"""One fleet of workers for several trainers, as real processes: one that hangs, dies or starts again, and workers that
are killed, hold up none of the others, and change no byte."""

import json
import signal

import pytest

from tests.support.processes import Program, free_port, kill, suspended, wait_for, worker_pids

#: Its argument: the arguments of open_stream, how long it uses a batch, and a file without which it does not go beyond
#: step 60, or null, as JSON.
TRAINER = """
import json, os, sys, time
import stoker
arguments, step_s, gate = json.loads(sys.argv[1])
with stoker.open_stream(**arguments) as stream:
    for batch in stream:
        print("step", batch.step, flush=True)
        time.sleep(step_s)
        while batch.step == 60 and gate is not None and not os.path.exists(gate):
            time.sleep(step_s)
print("end", flush=True)
"""
STEPS = 120                 # 120 pictures, 8 epochs of batches of 8
STEP_S = 0.02


class Fleet:
    """Trainers at two ports, which train with other seeds each, and workers for both."""

    def __init__(self, pictures, folder, worker_python):
        self.pictures, self.folder, self.worker_python = pictures, folder, worker_python
        self.ports = [free_port(), free_port()]
        self.gate, self.trainers = folder / "gate", [None, None]
        self.programs = []

    def arguments(self, number, **others):
        return dict(data=self.pictures, image_size=32, batch_size=8, epochs=8, seed=number, prefetch=4,
                    audit=str(self.folder / ("audit-%d" % number)), **others)

    def start(self, number):
        """The trainer at this port. The first one comes to its end only when ``gate`` is there."""
        arguments = self.arguments(number, workers=0, bind="tcp://127.0.0.1:%d" % self.ports[number])
        gate = None if number else str(self.gate)
        self.trainers[number] = Program(["-c", TRAINER, json.dumps([arguments, STEP_S, gate])])
        self.programs.append(self.trainers[number])

    def start_all(self, *options, is_open=True):
        """Both trainers, and two workers. ``is_open``: the first trainer may come to its end."""
        if is_open:
            self.gate.touch()
        self.workers = Program(["-m", "workers", "--processes", "2"] + list(options), python=self.worker_python,
                               STOKER_CONNECT="tcp://127.0.0.1:%d, tcp://127.0.0.1:%d" % tuple(self.ports))
        self.programs.append(self.workers)
        self.start(0)
        self.start(1)
        for trainer in self.trainers:
            trainer.wait_for_line("step 10$")

    def step(self, number):
        """The last one of this trainer."""
        return max([int(line.split()[1]) for line in self.trainers[number].lines if line.startswith("step ")] + [-1])

    def steps(self, number):
        """How many lines the audit of this trainer has; what it printed may not have been read yet."""
        return (self.folder / ("audit-%d" % number)).read_bytes().count(b"\n")

    def audit(self, number):
        with open(str(self.folder / ("audit-%d" % number))) as file:
            return [[line[key] for key in ("step", "epoch", "indices", "crc32")] for line in map(json.loads, file)]


@pytest.fixture
def fleet(pictures, tmp_path, worker_python):
    made = Fleet(pictures, tmp_path, worker_python)
    yield made
    for program in reversed(made.programs):
        program.__exit__(None, None, None)


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory, worker_python):
    """The audits of both runs, each with a worker of its own."""
    made = Fleet(pictures, tmp_path_factory.mktemp("undisturbed"), worker_python)
    for number in range(2):
        arguments = made.arguments(number, workers=1, **({"worker_python": worker_python} if worker_python else {}))
        with Program(["-c", TRAINER, json.dumps([arguments, 0.0, None])]) as trainer:
            assert trainer.wait() == 0, trainer.text
    return [made.audit(number) for number in range(2)]


def assert_undisturbed(fleet, undisturbed):
    for number, trainer in enumerate(fleet.trainers):
        assert trainer.wait() == 0, trainer.text
        assert fleet.audit(number) == undisturbed[number] and len(undisturbed[number]) == STEPS


def test_both_runs_have_their_batches_and_once_ends_the_workers_when_both_are_over(fleet, undisturbed):
    fleet.start_all("--once")
    assert_undisturbed(fleet, undisturbed)
    assert fleet.workers.wait() == 0
    assert "2 processes" in fleet.workers.text and "tcp://127.0.0.1:%d: connected to run" % fleet.ports[1] in (
        fleet.workers.text)


def test_a_trainer_that_hangs_does_not_hold_up_the_other(fleet, undisturbed):
    fleet.start_all(is_open=False)
    fleet.trainers[0].send_signal(signal.SIGSTOP)
    wait_for(lambda: suspended(fleet.trainers[0].pid), "its suspension")
    stopped_at = fleet.steps(0)
    fleet.gate.touch()
    fleet.trainers[1].wait_for_line("^end$")
    assert fleet.steps(0) == stopped_at < STEPS, "it was not stopped"
    fleet.trainers[0].send_signal(signal.SIGCONT)
    assert_undisturbed(fleet, undisturbed)
    assert fleet.workers.running() and "left run" not in fleet.workers.text


def test_a_trainer_that_is_killed_and_started_again_goes_on_with_the_same_workers(fleet, undisturbed):
    fleet.start_all()
    fleet.trainers[0].send_signal(signal.SIGKILL)
    step = fleet.step(1)
    fleet.trainers[1].wait_for_line("step %d$" % min(STEPS - 1, step + 20))      # there is no trainer at the other port
    fleet.start(0)
    fleet.trainers[0].wait_for_line("step 10$")
    assert_undisturbed(fleet, undisturbed)
    assert fleet.workers.running()


def test_a_worker_that_is_killed_is_replaced_for_both(fleet, undisturbed):
    fleet.start_all()
    for _ in range(3):
        step = fleet.step(0)
        kill(wait_for(lambda: worker_pids(fleet.workers.pid), "workers")[0])
        fleet.trainers[0].wait_for_line("step %d$" % min(STEPS - 1, step + 10))
    assert_undisturbed(fleet, undisturbed)


def test_a_drained_worker_leaves_both(fleet, undisturbed):
    fleet.start_all()
    fleet.workers.send_signal(signal.SIGTERM)
    assert fleet.workers.wait() == 0, fleet.workers.text
    addresses = ["tcp://127.0.0.1:%d" % port for port in fleet.ports]
    fleet.programs.append(Program(["-m", "workers", "--processes", "1", "--connect", addresses[0], "--connect",
                                   addresses[1]], python=fleet.worker_python))
    assert_undisturbed(fleet, undisturbed)
