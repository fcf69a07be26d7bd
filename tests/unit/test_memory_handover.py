"""How a worker gets the descriptor of shared memory: names, users, what strangers send, and that nothing is left."""

import array
import os
import resource
import socket

import pytest

from stoker.pipeline.transport import memory_handover
from stoker.pipeline.transport.memory import NoSharedMemory, create
from stoker.pipeline.transport.memory_handover import BACKLOG, HEADER, MAGIC, NAME, Offer, _address, hand_over
from stoker.pipeline.transport.memory_handover import remove_stale
from tests.support.other_user import as_other_user, shared_folder

BYTES, SLOTS, RUN = 4096, 3, "0a1b2c3d"
NO_NAME = b"?" * 33


@pytest.fixture(params=["abstract", "folder", "long folder"])
def folder(request, tmp_path):
    if request.param == "abstract":
        return None
    path = tmp_path / ("x" * 120 if "long" in request.param else "x")
    path.mkdir()
    return str(path)


@pytest.fixture
def made():
    """(the trainer's segment, its descriptor)."""
    segment, fd = create(SLOTS, BYTES)
    yield segment, fd
    os.close(fd)


@pytest.fixture(autouse=True)
def nothing_is_left_open():
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


def file_of(name):
    with _address(name, "/") as path:
        return os.path.basename(path)


def connect(one, name):
    with _address(name, None) as address:
        one.connect(address)


def send(name, data, fds=(), folder=None):
    """``data``: NO_NAME in it stands for the socket's."""
    with socket.socket(socket.AF_UNIX) as stranger, _address(name, folder) as address:
        stranger.connect(address)
        data = data.replace(NO_NAME, name.encode())
        if data:
            stranger.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


def test_the_worker_gets_the_memory_and_nothing_is_left(folder, made):
    segment, fd = made
    offer = Offer(folder)
    assert NAME.match(offer.name) and offer.name.startswith("@") == (folder is None)
    if folder:
        assert os.listdir(folder) == [file_of(offer.name)]
    hand_over(offer.name, folder, fd, RUN, SLOTS, BYTES)
    assert not folder or not os.listdir(folder)         # already now: the worker may be killed
    theirs = offer.take(RUN, BYTES)
    theirs.slot(2)[:] = 7
    assert theirs.slots == SLOTS and segment.slot(2).sum() == 7 * BYTES
    with pytest.raises(NoSharedMemory, match="elsewhere|another"):
        hand_over(offer.name, folder, fd, RUN, SLOTS, BYTES)     # it is closed
    offer.close()


def test_an_offer_that_is_not_used_leaves_nothing(folder):
    offer = Offer(folder)
    offer.close()
    offer.close()
    assert not folder or not os.listdir(folder)
    with pytest.raises(NoSharedMemory, match="sent no memory"):
        offer.take(RUN, BYTES)
    with pytest.raises(NoSharedMemory, match="sent no memory"):
        Offer(folder).take(RUN, BYTES)
    assert not folder or not os.listdir(folder)


def test_an_offer_knows_when_somebody_has_connected(made):
    offer = Offer()
    assert not offer.was_answered()
    hand_over(offer.name, None, made[1], RUN, SLOTS, BYTES)
    assert offer.was_answered() and offer.take(RUN, BYTES).slots == SLOTS and not offer.was_answered()


def test_who_hangs_up_or_sends_nothing_does_not_keep_the_trainer_out(made):
    offer = Offer()
    send(offer.name, b"")
    send(offer.name, b"GET / HTTP/1.1\r\n\r\n")
    with socket.socket(socket.AF_UNIX) as silent:
        connect(silent, offer.name)
        hand_over(offer.name, None, made[1], RUN, SLOTS, BYTES)
        assert offer.take(RUN, BYTES).slots == SLOTS


def header(run=RUN, slots=SLOTS, slot_bytes=BYTES, magic=MAGIC, name=NO_NAME):
    return HEADER.pack(magic, name, run.encode(), slots, slot_bytes)


@pytest.mark.parametrize("data, count, problem", [
    (header(), 0, "0 descriptors"), (header(), 2, "2 descriptors"), (header(), 253, "2 descriptors"),
    (header()[:-1], 1, "128 bytes"), (header() + b"x", 1, "130 bytes"), (header(run="other"), 1, "another run"),
    (header(name=b"@" + b"0" * 32), 1, "not of this worker's trainer"), (header(name=b""), 1, "not of this"),
    (header(run=RUN[:-1]), 1, "another run"), (header(magic=b"x" * 16), 1, "another run"),
    (header(slots=SLOTS - 1), 1, "has 12288 bytes"), (header(slots=1 << 62), 1, "no possible size"),
    (header(slots=0), 1, "no possible size"), (header(slot_bytes=2 * BYTES), 1, "8192 bytes, not 4096")])
def test_wrong_messages_are_refused_and_their_descriptors_closed(made, data, count, problem):
    offer = Offer()
    send(offer.name, data, [made[1]] * count)
    with pytest.raises(NoSharedMemory, match=problem):
        offer.take(RUN, BYTES)


def test_a_run_with_a_strange_name_has_no_memory(made):
    """The codec lets it pass."""
    offer = Offer()
    send(offer.name, header(), [made[1]])
    with pytest.raises(NoSharedMemory, match="another run"):
        offer.take("\udcff", BYTES)


def test_a_descriptor_of_something_else_is_refused(made):
    for path in ("/dev/null", "/"):
        offer = Offer()
        fd = os.open(path, os.O_RDONLY)
        send(offer.name, header(), [fd])
        os.close(fd)
        with pytest.raises(NoSharedMemory, match="not one of memory"):
            offer.take(RUN, BYTES)


def test_where_the_worker_cannot_be_reached_the_reason_says_so(made, tmp_path):
    absent = "0" * 32
    for name, folder, problem in [
            ("@" + absent, None, "on another host, or in a container"), (absent, None, "and the trainer has not"),
            (absent, str(tmp_path), "another --shared-memory-folder"), ("@" + absent, str(tmp_path), "another host"),
            (absent, str(tmp_path / "absent"), "another host"), ("", None, "no possible one"),
            ("@../" + absent[3:], None, "no possible one"), (absent + "\n", str(tmp_path), "no possible one"),
            ("../" + absent[3:], str(tmp_path), "no possible one")]:
        with pytest.raises(NoSharedMemory, match=problem):
            hand_over(name, folder, made[1], RUN, SLOTS, BYTES)
    with pytest.raises(NoSharedMemory, match="in the folder of --shared-memory-folder: No such file"):
        Offer(str(tmp_path / "absent"))


def test_a_full_queue_does_not_make_the_trainer_wait(made):
    offer = Offer()
    waiting = []
    for _ in range(BACKLOG + 1):
        waiting.append(socket.socket(socket.AF_UNIX))
        connect(waiting[-1], offer.name)
    with pytest.raises(NoSharedMemory, match="too many connections wait"):
        hand_over(offer.name, None, made[1], RUN, SLOTS, BYTES)
    for one in waiting:
        one.close()
    with pytest.raises(NoSharedMemory, match="0 bytes and 0 descriptors"):
        offer.take(RUN, BYTES)


def test_without_descriptors_both_sides_have_a_reason(made):
    offer = Offer()
    hand_over(offer.name, None, made[1], RUN, SLOTS, BYTES)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))
    try:
        for call, problem in [(lambda: create(SLOTS, BYTES), "Too many open files"), (Offer, "Too many open files"),
                              (lambda: hand_over(offer.name, None, made[1], RUN, SLOTS, BYTES), "Too many open files"),
                              (lambda: offer.take(RUN, BYTES), "Too many open files")]:
            with pytest.raises(NoSharedMemory, match=problem):
                call()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    offer = Offer()
    hand_over(offer.name, None, made[1], RUN, SLOTS, BYTES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, before[1]))      # for the connection, not for the memory
    try:
        with pytest.raises(NoSharedMemory, match="0 descriptors, not 129 and 1: is the limit of open files reached"):
            offer.take(RUN, BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_only_sockets_of_ended_workers_are_removed_and_living_ones_not_disturbed(made, tmp_path):
    living, other = Offer(str(tmp_path)), Offer(str(tmp_path))
    dead = Offer(str(tmp_path))
    dead._socket.close()                  # as at the end of its process
    dead._socket = None
    for name in ("notes.txt", "x.socket", "0" * 32 + ".socket.bak"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ("1" * 32 + ".socket")).write_text("no socket")
    assert remove_stale(str(tmp_path)) == 2 and remove_stale(str(tmp_path)) == 0
    assert sorted(os.listdir(str(tmp_path))) == sorted(["notes.txt", "x.socket", "0" * 32 + ".socket.bak",
                                                        file_of(living.name), file_of(other.name)])
    hand_over(living.name, str(tmp_path), made[1], RUN, SLOTS, BYTES)
    assert living.take(RUN, BYTES).slots == SLOTS
    other.close()
    with pytest.raises(NoSharedMemory, match="cannot be read: No such file"):
        remove_stale(str(tmp_path / "absent"))


def test_another_user_gets_no_memory_and_gives_none(made):
    """In both directions, and by a name of each kind."""
    offer = Offer()
    as_other_user(lambda: send(offer.name, header(), [made[1]]))
    with pytest.raises(NoSharedMemory, match="is of user 65534, not of user 0"):
        offer.take(RUN, BYTES)
    with shared_folder() as folder:
        listening = socket.socket(socket.AF_UNIX)
        kept = []

        def listen():
            with _address("@" + "5" * 32, None) as address:
                listening.bind(address)
            listening.listen(1)
        as_other_user(listen)
        kept.append(listening)
        with pytest.raises(NoSharedMemory, match="is of user 65534, not of user 0"):
            hand_over("@" + "5" * 32, folder, made[1], RUN, SLOTS, BYTES)
        listening.close()


def test_the_name_of_a_socket_cannot_be_guessed(monkeypatch):
    with_names = [Offer() for _ in range(3)]
    assert len({offer.name for offer in with_names}) == 3
    for offer in with_names:
        offer.close()
    monkeypatch.setattr(memory_handover.os, "urandom", lambda count: bytes(count))
    first = Offer()
    with pytest.raises(NoSharedMemory, match="in use"):
        Offer()
    first.close()


@pytest.mark.parametrize("does", ["replaces", "passes it on"])
def test_another_worker_cannot_take_a_file_in_the_folder_for_its_own(made, tmp_path, does):
    """As one that a picture took over could: it is of the same user, and may do there what the sandbox permits."""
    folder, offer = str(tmp_path), Offer(str(tmp_path))
    path = tmp_path / file_of(offer.name)
    assert offer.name not in str(os.listdir(folder))            # it does not learn the name
    path.rename(tmp_path / "hidden")
    with socket.socket(socket.AF_UNIX) as between:
        between.bind(str(path))
        between.listen(1)
        between.settimeout(0)
        with pytest.raises(NoSharedMemory, match="was replaced"):
            hand_over(offer.name, folder, made[1], RUN, SLOTS, BYTES)
        with pytest.raises(BlockingIOError):
            between.accept()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(tmp_path / "hidden"))
        if does == "passes it on":                              # memory of its own, that the trainer does not read
            stranger.sendmsg([header(name=file_of(offer.name)[:32].encode())],
                             [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made[1]]))])
        problem = "not of this worker's trainer" if does == "passes it on" else "0 bytes|sent no"
        with pytest.raises(NoSharedMemory, match=problem):
            offer.take(RUN, BYTES)


def test_a_file_that_is_another_one_from_the_beginning_is_not_offered(tmp_path, monkeypatch):
    """Between bind and the look at it, another process puts its own socket there."""
    others = socket.socket(socket.AF_UNIX)

    class Bound(socket.socket):
        def listen(self, backlog):
            super().listen(backlog)
            (path,) = tmp_path.iterdir()
            path.unlink()
            others.bind(str(path))
            others.listen(1)

    def made(kind=socket.SOCK_STREAM):
        one = Bound(socket.AF_UNIX, kind)
        one.setblocking(False)
        return one
    monkeypatch.setattr(memory_handover, "_unix_socket", made)
    with others, pytest.raises(NoSharedMemory, match="no socket can be made in the folder"):
        Offer(str(tmp_path))
