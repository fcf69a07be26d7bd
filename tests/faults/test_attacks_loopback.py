"""Other users of the host, at a trainer and at workers that have no keys: they are refused, and the run is as without
them."""

import os
import re
import time

import numpy as np
import pytest
import zmq

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.protocol.codec import decode_from_trainer, decode_from_worker, encode
from stoker.pipeline.protocol.messages import Alive, Hello, Job, Lease, Produced, Ready, Sample, Welcome
from stoker.pipeline.transport.connection import Connection
from stoker.pipeline.transport.sockets import Waker
from tests.support.processes import free_port, opened, workers_program
from tests.support.strangers import STRANGER, as_stranger, needs_root

pytestmark = needs_root
OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}      # 120 pictures: 15 steps an epoch
SLOW = "user_generators:slow"


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of the undisturbed run of four epochs."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=4, **OPTIONS) as run:
        run.take_all()
    return run.content()


def poison(address, seconds):
    """Plays a worker that answers each lease with black pictures, for so long."""
    end = time.monotonic() + seconds
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        run = ""
        while time.monotonic() < end:
            if not run:
                socket.send_multipart(encode(Hello("neighbour", 1, "none", 2, "")))
            if not socket.poll(50):
                continue
            message = decode_from_trainer(socket.recv_multipart())
            if isinstance(message, Welcome):
                run = message.run
                socket.send_multipart(encode(Ready(run)))
            elif isinstance(message, Lease):
                count = len(message.samples)
                black = np.zeros((count, 32, 32, 3), np.uint8), np.zeros((count, 1), np.int32)
                socket.send_multipart(encode(Produced(run, message.lease, message.position, count, (), 0.1, black)))
            elif isinstance(message, Alive) and run:
                socket.send_multipart(encode(Alive(run)))


def test_another_user_of_the_host_is_no_worker(reference, pictures, tmp_path, own_generators, attacks):
    with opened(pictures, tmp_path / "audit", workers=1, generator=SLOW, epochs=4, **OPTIONS) as run:
        with as_stranger(poison, run.stream.address, 60):
            run.log.wait_for("refused a connection of user %d at 127.0.0.1" % STRANGER)
            run.take_all()
        run.stream.close()
    assert run.content() == reference
    assert len(run.log.having(" joined (")) == 1
    assert len(run.log.having("refused a connection of user")) == 1          # not once per try
    assert re.search(r"\d connections of other users of this host refused", run.log.having("rejected connections: ")[0])
    attacks("another user of the trainer's host, no keys", "connects to the trainer's loopback port as a worker that "
            "answers leases with black pictures", "each connection is refused, logged once and counted; no message of "
            "it is read; the run's bytes are those of an undisturbed one")


def offer_job(port, folder, heard):
    """Plays a trainer that offers each worker a job on the pictures in ``folder``, and notes what it hears."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind("tcp://127.0.0.1:%d" % port)
        job = Job("image", (ArraySpec("images", "uint8", (8, 8, 3)),), 1, 0, "fastest", folder, image_size=(8, 8))
        while True:
            peer, *frames = socket.recv_multipart()
            message = decode_from_worker(frames)
            heard.write(type(message).__name__ + "\n")
            heard.flush()
            if isinstance(message, Hello):
                socket.send_multipart([peer] + encode(Welcome("f00d", job, 0.25)))
                socket.send_multipart([peer] + encode(Lease(1, 0, 0, True, (Sample(0, "a.jpg", -1, b"", 0, ()),), (),
                                                            False, False)))


def test_another_user_of_the_host_is_no_trainer(pictures, tmp_path, attacks):
    port = free_port()
    with open(str(tmp_path / "heard"), "w+") as heard, as_stranger(offer_job, port, str(pictures), heard), \
            workers_program("tcp://127.0.0.1:%d" % port, "--processes", "1") as worker:
        worker.wait_for_line("it is a process of user %d, and this worker of user %d" % (STRANGER, os.geteuid()))
        assert not re.search("connected to run|Traceback|restart", worker.text) and worker.running()
        heard.seek(0)
        assert set(heard.read().split()) <= {"Hello"}
    attacks("another user of a worker's host, no keys", "listens at the loopback port that a worker connects to, and "
            "gives it leases on the user's pictures", "the worker reads no message of it, sends it no picture, and "
            "says whose process it is")


def refusal_of(address):
    """Connects as a worker does, until the worker would tell why it is refused."""
    waker = Waker()
    connection = Connection(address, waker, 1 << 20)
    end = time.monotonic() + 60
    while not connection.refusal():
        connection.poll(time.monotonic())
        connection.send(encode(Hello("neighbour", 1, "none", 2, "")))
        assert connection.receive() is None and time.monotonic() < end
        connection.wait(0.1)
    assert re.search("this worker (of user )?.?%d" % STRANGER, connection.refusal()), connection.refusal()
    connection.close()
    waker.close()


def test_a_worker_of_another_user_is_told_why(pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=1, generator=SLOW, **OPTIONS) as run:
        with as_stranger(refusal_of, run.stream.address) as has_ended_well:
            assert has_ended_well()
        run.take(3)
    assert len(run.log.having(" joined (")) == 1


def test_insecure_permits_other_users(pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=0, insecure=True, **OPTIONS) as run:
        with as_stranger(poison, run.stream.address, 60):
            run.take(2)
        assert not run.batches[0].images.any()
