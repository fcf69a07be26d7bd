"""Worker processes on the trainer's own host: ``python -m workers`` as a child, like any other supervisor of workers.

The child reads from a pipe whose other end this process holds: however this process dies, the pipe ends, and the
workers with it.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Optional, Sequence

import stoker
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.throughput import Window
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.transport.keys import WorkerKeys, to_environment
from stoker.trainer.autoscaler import Autoscaler

log = logging.getLogger("stoker")

STOP_S = 1.2    # for the workers to finish what they do after Stop; then they are killed
KILL_S = 0.5    # for the supervisor to collect the dead


class LocalWorkers:
    """``processes`` workers under one supervisor. Started at once; ``stop`` ends them. Raises ConfigError.

    ``crew`` decides how many they are from then on; None: nobody, they stay as many.
    ``keys`` travel in their environment: on the command line everybody on this host could read them.
    """

    def __init__(self, address: str, processes: int, python: Optional[str] = None,
                 allow_generators: Sequence[str] = (), follow_links: bool = False,
                 keys: Optional[WorkerKeys] = None, autoscaler: Optional[Autoscaler] = None, cache: Optional[str] = None,
                 cache_gb: float = 0.0) -> None:
        self._autoscaler = autoscaler
        self._python = python or sys.executable
        command = [self._python, "-m", "stoker.workers", "--connect", address, "--processes", str(processes),
                   "--once", "--quiet", "--lifeline"]
        for name in allow_generators:
            command += ["--allow-generator", name]
        command += ["--follow-links"] * follow_links
        if cache is not None:
            command += ["--cache", os.path.abspath(cache), "--cache-gb", repr(float(cache_gb))]
        environment = dict(_environment(), **(to_environment(keys) if keys is not None else {}))
        try:
            # a session of its own: the terminal's Ctrl-C is for the trainer, which stops the workers in good order
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment,
                                             start_new_session=True)
        except OSError as error:
            raise ConfigError("cannot start workers with %r: %s" % (self._python, error.strerror)) from error
        self._stopped = False

    def trouble(self) -> Optional[str]:
        """Why no batch can come from here any more, or None."""
        returncode = self._process.poll()
        if returncode is None or self._stopped:
            return None
        how = "exit code %d" % returncode if returncode >= 0 else signal.Signals(-returncode).name
        return "the local workers (%s -m stoker.workers) ended with %s; what they said stands above" % (self._python, how)

    def adjust(self, sums: Window, fleet: Fleet) -> bool:
        """Has the crew look at the figures of late. True: there will be another number of workers."""
        if self._autoscaler is None:
            return False
        own = fleet.by_supervisor.get("%s:%d" % (socket.gethostname(), self._process.pid), 0)
        decision = self._autoscaler.decide(sums, own, fleet.workers - own)
        if decision is None:
            return False
        log.info("%s", decision.sentence)
        if decision.workers is None:
            return False
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), b"%d\n" % decision.workers)
        except BrokenPipeError:        # ``trouble`` tells
            pass
        return True

    def stop(self) -> None:
        """Ends them: in good order if they are quick, in any case within ``STOP_S + KILL_S``. Once more is harmless."""
        self._stopped = True
        try:
            self._process.send_signal(signal.SIGTERM)   # for those that had not yet joined when Stop was said
            self._wait(STOP_S)
        finally:                                # also if a second Ctrl-C comes while we wait
            if self._process.stdin is not None and not self._process.stdin.closed:
                self._process.stdin.close()     # the lifeline: the supervisor kills its workers and leaves
            self._wait(KILL_S)
            if self._process.poll() is None:
                self._process.kill()            # and the kernel kills its workers
                self._process.wait()

    def _wait(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)


def _environment() -> "dict[str, str]":
    """The child's environment: it must find ``workers`` where this process runs from a checkout.

    Not from site-packages: those belong to this interpreter's version, the workers' may be another.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    root = os.path.dirname(os.path.dirname(os.path.abspath(stoker.__file__)))
    if os.path.basename(root) not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join([root] + [environment["PYTHONPATH"]]
                                                    if environment.get("PYTHONPATH") else [root])
    return environment
