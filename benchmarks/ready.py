"""The senders of the wire benchmarks: workers that have nothing to decode, and bare ZeroMQ sockets.

Programs of their own, started by wire.py, small.py, scale.py and latency.py with the workers' Python:

    python -m benchmarks.ready worker ADDRESS [elsewhere]   one real worker process, whose generator has its batch ready
    python -m benchmarks.ready bare KIND ADDRESS BYTES [CURVE keys]   PUSH or DEALER, as fast as possible
    python -m benchmarks.ready sleepers ADDRESS COUNT SECONDS   COUNT sessions and sockets in one process
"""

from __future__ import generator_stop

import heapq
import itertools
import os
import sys
import time
from typing import Any, Dict, Iterable, Iterator, List, Tuple

import numpy as np
import zmq

from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Hello, Job, Lease, Timings
from stoker.pipeline.transport.connection import CONNECT_TIMEOUT_S
from stoker.pipeline.transport.keys import from_environment
from stoker.workers import process
from stoker.workers.batch_memory import memory_of
from stoker.workers.generators import registry
from stoker.workers.generators.output import Output
from stoker.workers.host import die_with_parent
from stoker.workers.effects import Check, End, Say, Work
from stoker.workers.session import SessionState, WorkerSession

HWM = 64     # messages that may wait at a bare socket: as many as at Stoker's own


def ready(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """A generator that yields the same arrays again and again; in a slot of shared memory, as it was left, so that
    nothing is copied: where a batch is made in its slot, moving it is all that is left to do."""
    arrays = tuple(np.ones((job.batch_size,) + tuple(spec.shape), spec.dtype) for spec in job.arrays)
    for lease in leases:
        count, memory = len(lease.samples), memory_of(lease)
        yield Output(tuple(array[:count] for array in arrays) if memory is None else tuple(
            memory.empty(spec.name, (count,) + tuple(spec.shape), spec.dtype) for spec in job.arrays))


def elsewhere(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """The same as a user's generator, which makes its arrays in memory of its own: they are copied once."""
    arrays = tuple(np.ones((job.batch_size,) + tuple(spec.shape), spec.dtype) for spec in job.arrays)
    for lease in leases:
        yield Output(tuple(array[:len(lease.samples)] for array in arrays))


def be_worker(address: str, kind: str) -> int:
    """A worker as the supervisor starts it, except that its generator ``image`` is ``ready`` (or ``elsewhere``)."""
    registry._FUNCTIONS["image"] = elsewhere if kind == "elsewhere" else ready
    registry._MAKE_FRESH += (ready,)    # type: ignore[assignment]
    read_fd, write_fd = os.pipe()        # the worker reports its start there; not read here
    options = WorkerOptions(address, once=True, quiet=True)
    return process.main(["ready:%d" % os.getpid(), "", str(os.getppid()), str(write_fd), options.to_json()])


def send_bare(kind: str, address: str, size: int) -> int:
    """Sends one message again and again, without copying it, until it is killed."""
    die_with_parent()
    socket = zmq.Context().socket(getattr(zmq, kind))
    socket.setsockopt(zmq.SNDHWM, HWM)
    socket.setsockopt(zmq.LINGER, 0)
    _use_keys(socket)
    socket.connect(address)
    data = np.ones(size, np.uint8).data
    while True:
        socket.send(data, copy=False)


def _use_keys(socket: Any) -> None:
    """Those of this process, if it has any."""
    keys = from_environment(os.environ)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.trainer)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)


class _Sleepers:
    """Workers that hold one lease each, wait some seconds, and deliver zeros. One thread runs all of them."""

    def __init__(self, address: str, count: int, seconds: float) -> None:
        self._seconds = seconds
        self._context = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, count + 10)
        self._poller = zmq.Poller()
        self._due: List[Tuple[float, int, int, Any]] = []     # (when, order, number, lease to answer; None: a tick)
        self._order = itertools.count()     # of those that are due at the same time
        self._sockets: Dict[Any, int] = {}
        self._ends: List[Tuple[Any, WorkerSession]] = []
        self._arrays: Tuple[np.ndarray, ...] = ()
        self._ended = 0
        now = time.monotonic()
        for number in range(count):
            socket = self._context.socket(zmq.DEALER)
            for option, value in ((zmq.IMMEDIATE, 1), (zmq.SNDHWM, 0), (zmq.LINGER, 0),
                                  (zmq.CONNECT_TIMEOUT, int(CONNECT_TIMEOUT_S * 1000))):
                socket.setsockopt(option, value)
            _use_keys(socket)
            socket.connect(address)
            self._poller.register(socket, zmq.POLLIN)
            self._sockets[socket] = number
            hello = Hello("sleeper:%d/%d" % (os.getpid(), number), os.getpid(), "none", 1, "")
            self._ends.append((socket, WorkerSession(hello, True, now)))
            self._add_due(now, number)

    def _add_due(self, when_s: float, number: int, lease: Any = None) -> None:
        heapq.heappush(self._due, (when_s, next(self._order), number, lease))

    def run(self) -> None:
        while self._ended < len(self._ends):
            timeout_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 1.0
            for socket, _ in self._poller.poll(int(timeout_s * 1000 + 0.999)):
                number = self._sockets[socket]
                while True:
                    try:
                        frames = socket.recv_multipart(zmq.NOBLOCK)
                    except zmq.Again:
                        break
                    now = time.monotonic()
                    self._carry_out(number, self._ends[number][1].receive(codec.decode_from_trainer(frames), now), now)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, number, lease = heapq.heappop(self._due)
                session = self._ends[number][1]
                if lease is not None:
                    arrays = tuple(array[:len(lease.samples)] for array in self._arrays)
                    effects = session.produced(lease, len(lease.samples), (), arrays, self._seconds, Timings(),
                                               now)
                    self._carry_out(number, effects, now)
                    continue
                self._carry_out(number, session.tick(now), now)
                if session.state is not SessionState.ENDED:
                    self._add_due(max(session.next_deadline(), now + 0.01), number)

    def _carry_out(self, number: int, effects: List[Any], now: float) -> None:
        socket, session = self._ends[number]
        for effect in effects:
            if isinstance(effect, Say):
                try:
                    socket.send_multipart(codec.encode(effect.message), zmq.NOBLOCK)
                except zmq.Again:
                    self._carry_out(number, session.disconnected(now), now)
            elif isinstance(effect, Check):
                self._carry_out(number, session.checked(effect.run, "", "", now), now)
            elif isinstance(effect, Work):
                if not self._arrays:
                    self._arrays = tuple(np.zeros((effect.job.batch_size,) + tuple(spec.shape), spec.dtype)
                                         for spec in effect.job.arrays)
                self._add_due(now + self._seconds, number, effect.lease)
            elif isinstance(effect, End):
                self._ended += 1


def main(arguments: List[str]) -> int:
    """The program. wire.py and scale.py start it."""
    if arguments[0] == "worker":
        return be_worker(arguments[1], arguments[2] if len(arguments) > 2 else "ready")
    if arguments[0] == "bare":
        return send_bare(arguments[1], arguments[2], int(arguments[3]))
    die_with_parent()
    _Sleepers(arguments[1], int(arguments[2]), float(arguments[3])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
