"""One fault in one worker process, put in from outside: imported by every interpreter that has this folder on its
PYTHONPATH (``processes.python_with_path``), before any of its own code. Python 3.6 and newer; on 3.6 there is no
sys.argv yet.

FAULT_WHERE, FAULT_HOW and FAULT_STEP say what is wanted, FAULT_FOLDER takes the proof: the file ``struck`` with pid and
name of the worker that was hit. It is made once and for all, so no other worker and no successor is hit again.
Where no step is named, the worker in place 0 is hit.
"""

import os
import signal
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
EXIT = 7                       # of the how 'os._exit': none of Stoker's own
FORWARDED = 8000               # bytes of a batch that are on the wire when 'pushing' is hit: the header, some pixels
IDLE_S = 0.3                   # without a lease for so long: the window is full
WAIT_S = 30.0                  # a limit for a broken test
PATTERN = 0xee                 # what is written to a slot


def strike():
    """Does it, the first time that it is called in any process. May come back: from SIGSTOP, SIGTERM."""
    try:
        fd = os.open(os.path.join(FOLDER, "struck"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    os.write(fd, ("%d %s\n" % (os.getpid(), NAME)).encode("ascii"))
    os.close(fd)
    if HOW == "exception":
        raise RuntimeError("injected")
    if HOW == "os._exit":
        os._exit(EXIT)
    if HOW == "memory":
        import resource
        with open("/proc/self/statm") as pages:
            used = int(pages.read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), before[1]))
        try:
            bytearray(1 << 30)
        finally:               # others let go of some: trouble of the moment
            resource.setrlimit(resource.RLIMIT_AS, before)
    elif HOW == "OOM kill":
        with open(os.path.join(os.environ["FAULT_CGROUP"], "cgroup.procs"), "w") as group:
            group.write(str(os.getpid()))
        b"x" * (1 << 28)
    else:
        os.kill(os.getpid(), getattr(signal, HOW))
        if HOW == "SIGSTOP":
            time.sleep(2.0)    # the main thread takes the signal, when it has a core; until then this one would run on


def _struck():
    return os.path.exists(os.path.join(FOLDER, "struck"))


def _wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def _around(owner, name):
    """A decorator: the function is called in place of ``owner.name``, with that one first."""
    def replace(function):
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: function(original, *args, **kwargs))
    return replace


# --------------------------------------------------------------------------------------------------------------- where

def starting():
    """The socket is there, "started" was not yet written."""
    from stoker.pipeline.transport.connection import Connection

    @_around(Connection, "__init__")
    def connect(original, *args):
        original(*args)
        if NAME.endswith("/0"):
            strike()


def handshake():
    """The trainer's Welcome has come, and was not yet read."""
    from stoker.pipeline.protocol.messages import Welcome
    _before("receive", lambda message: isinstance(message, Welcome))


def joining():
    """The worker has said Ready, and its first leases have come, of which none was read."""
    from stoker.pipeline.protocol.messages import Lease
    _before("receive", lambda message: isinstance(message, Lease))


def _before(method, is_it):
    """Worker 0 is hit before it reads a message. The other workers start later, so this one gets the first leases."""
    from stoker.workers.session import WorkerSession

    if not NAME.endswith("/0"):
        _wait_until(_struck)

    @_around(WorkerSession, method)
    def receive(original, session, message, now):
        if is_it(message) and NAME.endswith("/0"):
            strike()
        return original(session, message, now)


def loading():
    """In the generator, at the fourth picture of the step."""
    from stoker.workers import images
    from stoker.workers.generators import pictures as module

    at = []                    # position, pictures begun

    @_around(module, "_pictures")
    def pictures(original, lease, *args, **kwargs):
        at[:] = lease.position, 0
        return original(lease, *args, **kwargs)

    @_around(images, "load")
    def load(original, *args):
        at[1] += 1
        if at == [STEP, 4]:
            strike()
        return original(*args)


def writing():
    """As ``loading``, if the arrays are made in a slot of shared memory: a part of the slot is written. After it wakes,
    it writes to all of the slot, and goes on."""
    from stoker.workers import images
    from stoker.workers.batch_memory import memory_of
    from stoker.workers.generators import pictures as module

    at = []                    # position, pictures begun, the slot

    @_around(module, "_pictures")
    def pictures(original, lease, *args, **kwargs):
        memory = memory_of(lease)
        at[:] = lease.position, 0, memory and memory.segment.slot(memory.slot)
        return original(lease, *args, **kwargs)

    @_around(images, "load")
    def load(original, *args):
        at[1] += 1
        if at[:2] == [STEP, 4] and at[2] is not None and not _struck():
            at[2][:len(at[2]) // 2] = PATTERN
            strike()
            at[2][:] = PATTERN
        return original(*args)


def function():
    """In the user's sample function, at the fourth sample of the step."""
    from stoker.workers.generators import sample as module

    at = []                    # position, samples begun

    @_around(module._Run, "output")
    def output(original, run, lease):
        at[:] = lease.position, 0
        return original(run, lease)

    @_around(module._Run, "__init__")
    def init(original, run, *args):
        original(run, *args)
        users = run._function

        def struck(sample, random):
            at[1] += 1
            if at == [STEP, 4]:
                strike()
            return users(sample, random)
        run._function = struck


def pushing():
    """A part of the step's batch is on the wire, in the trainer's hands already, and the rest is not.

    Whoever raises does it where the worker hands the batch to ZeroMQ, the others where its bytes pass a relay inside
    the worker's process.
    """
    import zmq

    from stoker.pipeline.transport.connection import Connection
    from stoker.workers.session import WorkerSession

    armed = threading.Event()

    @_around(WorkerSession, "produced")
    def produced(original, session, lease, *args, **kwargs):
        if lease.position == STEP and not _struck():
            armed.set()
        return original(session, lease, *args, **kwargs)

    if HOW in ("exception", "memory"):
        @_around(Connection, "send")
        def send(original, connection, frames):
            if armed.is_set() and len(frames) > 1:
                connection._socket.send(frames[0], zmq.SNDMORE)
                strike()
            return original(connection, frames)
    else:
        @_around(Connection, "__init__")
        def connect(original, connection, address, *args):
            original(connection, _relay(address, armed), *args)


def idle():
    """Holds no lease, and has not for a while."""
    from stoker.workers.session import SessionState, WorkerSession

    since = [None]

    @_around(WorkerSession, "tick")
    def tick(original, session, now, *more):
        if session.state is not SessionState.SERVING or session._work is not None or session._waiting:
            since[0] = None
        elif since[0] is None:
            since[0] = now
        elif now - since[0] > IDLE_S and NAME.endswith("/0"):
            strike()
        return original(session, now, *more)


def draining():
    """SIGTERM has come and the trainer was told; the generator is at the step."""
    from stoker.workers.generators import pictures as module
    from stoker.workers.session import SessionState, WorkerSession

    sessions = []

    @_around(WorkerSession, "__init__")
    def init(original, session, *args):
        original(session, *args)
        sessions.append(session)

    @_around(module, "_pictures")
    def pictures(original, lease, *args, **kwargs):
        if lease.position == STEP and not _struck():
            os.kill(os.getpid(), signal.SIGTERM)
            _wait_until(lambda: sessions[0].state is SessionState.DRAINING)
            strike()
        return original(lease, *args, **kwargs)


def _relay(address, armed):
    """The address of a relay to ``address`` in this process. Once ``armed``, it strikes when it has forwarded FORWARDED
    bytes more."""
    left = [FORWARDED]

    def forward(data, sink, outward):
        before = len(data)
        if outward and armed.is_set():
            before = min(before, left[0])
            left[0] -= before
        sink.sendall(data[:before])
        if left[0] == 0:
            strike()
        sink.sendall(data[before:])

    sys.path.append(ROOT)
    from tests.support.relay import Relay
    sys.path.remove(ROOT)
    return Relay(address, forward=forward).address


def _arguments():
    with open("/proc/self/cmdline", "rb") as line:
        return line.read().decode("utf-8", "replace").split("\0")


if "stoker.workers.process" in _arguments():
    NAME = _arguments()[_arguments().index("stoker.workers.process") + 1]
    HOW, FOLDER, STEP = os.environ["FAULT_HOW"], os.environ["FAULT_FOLDER"], int(os.environ["FAULT_STEP"])
    globals()[os.environ["FAULT_WHERE"]]()
