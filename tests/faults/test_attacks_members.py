"""Members with a valid key that hold up a run, end it, or fill the trainer's memory: they cost their own places."""

import os
import struct
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
import zmq

from stoker.pipeline.protocol.codec import decode_from_trainer, encode
from stoker.pipeline.protocol.messages import Alive, Hello, Ready, Welcome
from stoker.pipeline.transport import keys
from tests.faults.test_access import MB, content_of, frame, resident, shaken
from tests.support.processes import consumer_program, opened, workers_program

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}      # 120 pictures: 15 steps an epoch
SLOW, FAILING = "user_generators:slow", "user_generators:failing"
MEMBER = "a member with a valid key"
EPOCHS = 8


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of the undisturbed run of eight epochs: a shorter run is its beginning."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=EPOCHS, **OPTIONS) as run:
        run.take_all()
    return run.content()


@pytest.fixture
def folder(tmp_path):
    """Keys of a trainer and of a member that does harm."""
    keys.make(str(tmp_path / "keys"), ["evil"])
    return str(tmp_path / "keys")


@contextmanager
def idle_members(address, own, count):
    """So many connections that become members, hold four leases each, and only say Alive."""
    context, ends = zmq.Context(), threading.Event()
    sockets = [context.socket(zmq.DEALER) for _ in range(count)]
    for peer in sockets:
        peer.setsockopt(zmq.LINGER, 0)
        peer.curve_serverkey, peer.curve_publickey, peer.curve_secretkey = own
        peer.connect(address)
        peer.send_multipart(encode(Hello("idle", 1, "none", 4, "")))
    ready = set()

    def go_on():
        runs, said_s = {}, time.monotonic()
        while not ends.wait(0.02):
            for peer in sockets:
                while peer.poll(0):
                    message = decode_from_trainer(peer.recv_multipart())
                    if isinstance(message, Welcome):
                        runs[peer] = message.run
                        peer.send_multipart(encode(Ready(message.run)))
                        ready.add(peer)
            if time.monotonic() > said_s + 0.5:
                said_s = time.monotonic()
                for peer, run in runs.items():
                    peer.send_multipart(encode(Alive(run)))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield ready
    finally:
        ends.set()
        thread.join()
        for peer in sockets:
            peer.close()
        context.term()


def seconds_of(run, steps):
    """How long the next steps take."""
    start = time.monotonic()
    run.take(steps)
    return time.monotonic() - start


def test_forty_members_of_one_key_that_only_say_alive_hold_nothing_up(reference, pictures, tmp_path, folder,
                                                                      own_generators, attacks, figures):
    lease_s = 2.0
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, epochs=EPOCHS, keys=folder, lease_s=lease_s,
                batch_timeout_s=60.0, **OPTIONS) as run:
        run.joined(2)
        run.take(15)                                     # the pace is known
        alone_s = seconds_of(run, 30)
        with idle_members(run.stream.address, keys.load_worker(os.path.join(folder, "workers", "evil")), 40):
            run.log.wait_for("idle joined", 40)
            beside_s = seconds_of(run, 60) / 2
            run.take_all()
    assert run.content() == reference
    figures("40 idle members of one key: 30 steps in %.2f s, without them in %.2f s" % (beside_s, alone_s))
    assert beside_s < 3 * alone_s + 2 * lease_s
    attacks(MEMBER, "40 connections that take four leases each, and only say Alive",
            "once they are late, the key keeps one place, ever more rarely, and others do its steps at once; content "
            "and, after a second, pace are those without them")


def test_members_of_one_key_that_fail_on_purpose_do_not_end_the_run(reference, pictures, tmp_path, folder,
                                                                    own_generators, attacks):
    with opened(pictures, tmp_path / "audit", workers=1, generator=FAILING, epochs=EPOCHS, keys=folder,
                **OPTIONS) as run:
        run.joined(1)
        with workers_program(run.stream.address, "--keys", os.path.join(folder, "workers", "evil"), "--processes", "3",
                             "--allow-generator", FAILING, STOKER_TEST_FAILS="1"):
            run.joined(4)
            run.take_all()
    assert run.content() == reference and run.log.having("ValueError: on purpose")
    attacks(MEMBER, "three workers that fail at each step after one good batch",
            "each step goes to another party, whose batch is used; failures of one key end no run that others can do")


def test_members_with_an_endless_frame_each_do_not_fill_the_memory(pictures, tmp_path, attacks, figures):
    """120 of them: by the same rule, 600 take no more."""
    options = {"image_size": (512, 512), "batch_size": 8, "seed": 3, "prefetch": 4}
    with opened(pictures, tmp_path / "reference", workers=1, epochs=1, **options) as run:
        run.take_all()
    audit = tmp_path / "audit"
    with consumer_program(data=pictures, audit=str(audit), workers=1, epochs=1000, **options) as program:
        address = program.wait_for_line("address")[0].split()[1]
        program.wait_for_line("step 2$")
        before = resident(program.pid)
        hello = [bytes(part) for part in encode(Hello("endless", 1, "none", 1, ""))]
        with ExitStack() as stack:
            sent = 0
            for _ in range(120):
                peer = stack.enter_context(shaken(address))
                try:
                    peer.sendall(b"".join(frame(part, more=part is not hello[-1]) for part in hello))
                    peer.recv(100)                       # Welcome
                    peer.sendall(bytes([2]) + struct.pack(">Q", 6 * MB) + bytes(5 * MB))     # 6 MB never come
                    sent += 5 * MB
                except OSError:                          # it was cut off
                    pass
            program.wait_for_line("cut off 127.0.0.1: it sent more than")
            peak = resident(program.pid, "VmHWM")
        program.wait_for_line("step %d$" % len(run.batches))
    assert content_of(audit)[:len(run.batches)] == run.content()
    figures("120 members with an endless frame each: %d MB sent, the trainer grew by %d MB" % (
        sent // MB, (peak - before) // MB))
    assert sent > 400 * MB and peak - before < 300 * MB
    attacks(MEMBER, "a frame that does not end on each of 120 connections, 600 MB in all",
            "two windows and 64 MB in all; beyond that, connections without a lease are cut off, those with most bytes "
            "first")
