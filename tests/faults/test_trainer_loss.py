"""The trainer dies: workers outlive it, and serve the next one at the same address, whatever its job."""

import os
import signal
import time

import pytest

from tests.support.processes import (consumer_program, diary, free_port, opened, wait_for, worker_pids,
                                     workers_program)

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_trainer_is_served_at_once_with_its_own_job(signum, pictures, tmp_path, own_generators, figures):
    """Its first batch must come long before the workers would have called the old trainer silent."""
    address = "tcp://127.0.0.1:%d" % free_port()
    slower = "user_generators:slower"
    with opened(pictures, tmp_path / "reference", workers=1, epochs=2, image_size=(16, 24), batch_size=5) as run:
        run.take_all()
    reference = run.content()
    with workers_program(address, "--processes", "2", "--allow-generator", slower) as workers:
        with consumer_program(data=pictures, workers=0, bind=address, generator=slower, epochs=9, **OPTIONS) as first:
            first.wait_for_line("^step 1$")
            pids = wait_for(lambda: len(worker_pids(workers.pid)) == 2 and worker_pids(workers.pid), "both workers")
            wait_for(lambda: len(diary(own_generators, "begin")) > len(diary(own_generators, "end")),
                     "somebody at work when the trainer dies")
            first.send_signal(signum)
            first.wait()
        with opened(pictures, tmp_path / "audit", workers=0, bind=address, epochs=2, image_size=(16, 24),
                    batch_size=5) as run:
            start = time.monotonic()
            run.take(1)
            waited_s = time.monotonic() - start
            run.take_all()
        assert run.content() == reference and run.reassigned == 0
        assert worker_pids(workers.pid) == pids                 # the same processes
        assert run.log.having("names the run") == []            # messages of the old run break no rule
        figures("trainer killed: the next one's first batch %.2f s after its bind" % waited_s)


def test_batches_of_the_old_run_are_not_taken_for_the_new_one_s(pictures, tmp_path, own_generators):
    """A worker that was suspended while one trainer followed the other wakes up with a batch of the old run."""
    address = "tcp://127.0.0.1:%d" % free_port()
    slower = "user_generators:slower"
    options = dict(OPTIONS, workers=0, bind=address, generator=slower, lease_s=1.0)
    with opened(pictures, tmp_path / "reference", workers=1, **OPTIONS) as run:
        run.take_all()
    reference = run.content()
    with workers_program(address, "--processes", "1", "--allow-generator", slower) as workers:
        with consumer_program(data=pictures, epochs=9, **options) as first:
            wait_for(lambda: diary(own_generators, "begin"), "a worker at work")
            pid, = worker_pids(workers.pid)
            os.kill(pid, signal.SIGSTOP)
            first.send_signal(signal.SIGKILL)
            first.wait()
        with opened(pictures, tmp_path / "audit", **options) as run:
            os.kill(pid, signal.SIGCONT)
            run.take_all()
    assert run.content() == reference
