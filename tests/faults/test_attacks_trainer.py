"""A lying trainer, at workers: it reads no file that the worker's user did not name, and takes no memory beyond the
limits."""

import socket
import struct
import threading
from contextlib import contextmanager

import msgpack
import pytest
import zmq

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.protocol.codec import decode_from_worker, encode
from stoker.pipeline.protocol.messages import PROTOCOL_VERSION, Hello, Job, Lease, Produced, Ready, Sample, Unfit
from stoker.pipeline.protocol.messages import Welcome
from tests.faults.test_access import GREETING, ended, frame
from tests.support.memory import rss_kb
from tests.support.processes import Program, descendants, wait_for, workers_program

ARRAYS = (ArraySpec("images", "uint8", (8, 8, 3)),)
ATTACKER = "a lying trainer"
GROWTH_KB = 400 << 10        # far below what each attack took, far above what a worker needs


class LyingTrainer:
    """A trainer that sends what the test says. ``heard``: what workers said."""

    def __init__(self):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind("tcp://127.0.0.1:*")
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.peer, self.heard = None, []

    def say(self, *frames):
        """To the worker that was heard last."""
        self._socket.send_multipart([self.peer] + list(frames))

    def hear(self, kind):
        """The next message of this kind."""
        def heard():
            while self._socket.poll(0):
                self.peer, *frames = self._socket.recv_multipart()
                self.heard.append(decode_from_worker(frames))
                if isinstance(self.heard[-1], kind):
                    return self.heard[-1]
        return wait_for(heard, kind.__name__)

    def welcome(self, job, run="f00d"):
        """Waits for Hello, and offers ``job``."""
        self.hear(Hello)
        self.say(*encode(Welcome(run, job, 0.25)))

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._socket.close()
        self._context.term()


def job(folder="", **changes):
    fields = dict(generator="image", arrays=ARRAYS, batch_size=1, seed=0, decode="fastest", data_root=folder,
                  image_size=(8, 8))
    return Job(**dict(fields, **changes))


@contextmanager
def peak_growth(program):
    """Yields a list, to which the most memory that the program's worker process took meanwhile is added in the end."""
    pid, = [pid for pid in descendants(program.pid) if rss_kb(pid) > 20 << 10]
    before, peak, stop = rss_kb(pid), [0], threading.Event()

    def watch():
        while not stop.wait(0.005):
            peak[0] = max(peak[0], rss_kb(pid))
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    found = []
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        found.append(peak[0] - before)


def test_a_trainer_on_another_host_reads_no_folder_of_its_choice(pictures, tmp_path, attacks):
    for name in ("trainer-7", "10.0.0.5"):
        with Program(["-m", "workers", "--connect", "tcp://%s:5555" % name]) as workers:
            assert workers.wait() == 2
        assert "--data DIR says which folder the trainer at tcp://%s:5555 may read" % name in workers.text
    with LyingTrainer() as liar, workers_program(liar.address, "--processes", "1", "--allow-data",
                                                 str(tmp_path)) as workers:
        liar.welcome(job("/", probes=(str(pictures)[1:],)))
        assert "reads files in /, which this worker on " in liar.hear(Unfit).reason
        assert workers.running()
    assert not [one for one in liar.heard if isinstance(one, (Ready, Produced))]
    attacks(ATTACKER, "on another host, names / as the dataset's folder, to read any picture of a worker's host",
            "without --data (or --allow-data) the worker does not start; another folder than that is refused: Unfit")


def test_a_job_of_huge_pictures_takes_no_memory(attacks):
    with LyingTrainer() as liar, workers_program(liar.address, "--processes", "1") as workers:
        liar.hear(Hello)
        with peak_growth(workers) as growth:
            liar.say(*encode(Welcome("f00d", job(image_size=(16384, 16384), batch_size=12), 0.25)))
            assert "may take 9216 MB, and this worker on" in liar.hear(Unfit).reason
            liar.say(*encode(Lease(1, 0, 0, True, (Sample(0, "a.jpg", -1),))))
            liar.say(*encode(Welcome("beef", job(batch_size=1 << 20, arrays=(
                ArraySpec("x", "float64", (1 << 10,)),), generator="numerical"), 0.25)))
            assert "may take 8192 MB" in liar.hear(Unfit).reason
    assert growth[0] < GROWTH_KB
    attacks(ATTACKER, "a job of 12 pictures of 16,384 x 16,384 pixels (9.8 GB), or of a million rows of 8 KB",
            "refused: a batch may take 1 GiB, or --max-batch-mb")


@pytest.mark.parametrize("attempt", ["many leases", "long lease", "hostile lease", "many jobs"])
def test_leases_and_jobs_beyond_the_limits_take_no_memory(attempt, attacks):
    samples = tuple(Sample(number, "x" * 20000, -1) for number in range(32))
    with LyingTrainer() as liar, workers_program(liar.address, "--processes", "1") as workers:
        numbers = job(generator="numerical", arrays=(ArraySpec("features", "float32", (10,)),), batch_size=32)
        liar.welcome(numbers)
        liar.hear(Ready)
        with peak_growth(workers) as growth:
            if attempt == "many leases":
                sent = [encode(Lease(number, number, 0, True, samples)) for number in range(1500)]     # 1 GB
                says = "it sent more leases than this worker can hold"
            elif attempt == "long lease":
                sent = [encode(Lease(1, 0, 0, True, samples + samples[:1]))]
                says = "it sent a lease of more samples than a batch of its job has"
            elif attempt == "hostile lease":        # 64 MB that would become 4 GB
                sent = [[msgpack.packb([PROTOCOL_VERSION, "lease", [1, 0, 0, True, [[]] * (64 << 20), [], False,
                                                                    False, [], 0, 0.0]])]]
                says = "cannot do this job: it cannot read a message of the trainer"
            else:
                sent = [encode(Welcome("%d" % number, numbers, 0.25)) for number in range(20000)]
                says = "it sent one job after the other|connected to run 19999"
            for frames in sent:
                try:
                    liar.say(*frames)
                except zmq.ZMQError:                # it has hung up
                    break
            del sent
            workers.wait_for_line(says)
        assert workers.running() and "restart" not in workers.text
    assert growth[0] < GROWTH_KB
    if attempt == "hostile lease":
        attacks(ATTACKER, "more leases than a worker can hold; samples beyond the batch; 64 MB of empty lists (4 GB as "
                "objects); one job after the other", "the worker hangs up for 10 s (a worker of several "
                "trainers gives surplus leases back), or refuses the job; what a lease "
                "would take is counted before it is built")


def test_a_message_without_end_takes_no_memory(attacks):
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"ROUTER"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        with workers_program("tcp://127.0.0.1:%d" % server.getsockname()[1], "--processes", "1") as workers:
            peer, _ = server.accept()
            with peer:
                peer.sendall(GREETING + b"\x04" + bytes([len(ready)]) + ready)
                workers_pid = wait_for(lambda: [pid for pid in descendants(workers.pid) if rss_kb(pid) > 20 << 10],
                                       "its process")[0]
                data, sent = frame(bytes(1 << 20), more=True), 0
                try:
                    while sent < 4 << 30 and not ended(peer):
                        peer.sendall(data)
                        sent += len(data)
                except OSError:                     # it has hung up
                    pass
                assert sent < 4 << 30
                assert rss_kb(workers_pid) < 3 << 20
            assert workers.running() and "restart" not in workers.text
    attacks(ATTACKER, "a message that does not end", "the worker hangs up when 576 MB wait to be read, and frees them")
