"""Each client of stores against a real server and each fault of one, on the Pythons that it is for."""

import os
import re
import threading

import pytest

from stoker.pipeline.storage.retries import NOTE_AFTER_S
from tests.stores.servers import OTHER, Web
from tests.support.faulty_proxy import FaultyProxy
from tests.support.processes import LIMIT_S, interpreter, wait_for
from tests.support.store_probe import Probe, digest

pytestmark = [pytest.mark.needs("environment stores", "nginx")]
LARGE = os.urandom(3 << 20) + b"the end"
FILES = {"a.txt": b"a", "a-b/x": b"x", "a/b/c": b"c", "a/z": b"z" * 70000, "empty": b"", "large.tar": LARGE,
         "train/\u00fc b%+&=,;'()~@.jpg": b"odd"}
AWAY_S = 2.5


@pytest.fixture(scope="module", params=["3.6", "newest"])
def probe(request):
    found = Probe(interpreter("STOKER_TEST_PYTHON36" if request.param == "3.6" else "STOKER_TEST_WORKER_PYTHON"))
    yield found
    found.stop()


class Place:
    """The files at one server behind a proxy: ``root`` is their URL, ``environment`` what a client needs."""

    def __init__(self, kind, server, proxy):
        self.kind, self.server, self.proxy = kind, server, proxy
        self.bucket = "files-" + kind
        if kind == "http":
            self.root, self.environment = "%s/%s" % (proxy.url, self.bucket), {}
        else:
            self.root = "%s://%s" % (kind, self.bucket)
            self.environment = dict(server.environment)
            self.environment["AWS_ENDPOINT_URL" if kind == "s3" else "STORAGE_EMULATOR_HOST"] = proxy.url


@pytest.fixture(scope="module", params=["s3", "gs", "http"])
def place(request, s3, gcs, web, tmp_path_factory):
    server = {"s3": s3, "gs": gcs, "http": web}[request.param]
    with FaultyProxy("127.0.0.1", server.port) as proxy:
        found = Place(request.param, server, proxy)
        (server.folder if request.param == "http" else server.bucket)(found.bucket)
        for key, data in FILES.items():
            server.put(found.bucket, key, data)
        yield found


@pytest.fixture(autouse=True)
def no_fault(place):
    yield
    place.proxy.set(None)


@pytest.fixture
def ask(probe, place):
    def asked(do, path="", *arguments, root=None, **settings):
        settings.setdefault("environment", place.environment)
        return probe.ask(do, root or place.root, path, *arguments, **settings)
    return asked


def value(answer):
    assert "value" in answer, answer
    return answer["value"]


def failure(answer, kind, pattern):
    assert answer.get("error") == kind, answer
    assert re.search(pattern, answer["text"]), answer["text"]
    assert "\n" not in answer["text"] and len(answer["text"]) < 900


def test_files_are_read_whole_and_in_parts(ask):
    for path, data in FILES.items():
        size, found, version = value(ask("read", path))
        assert (size, found) == (len(data), digest(data)), path
        assert version[0] == len(data)
        assert value(ask("size", path)) == version, "one version of a file, however it is asked for"
    for offset, length in ((0, 1), (1000, 50000), (len(LARGE) - 7, 7), (5, 0), (len(LARGE), 0)):
        assert value(ask("read", "large.tar", offset, length))[:2] == [length, digest(LARGE[offset:offset + length])]
    assert value(ask("read", "large.tar", 100))[:2] == [len(LARGE) - 100, digest(LARGE[100:])]
    assert value(ask("lines", "large.tar")) == [len(LARGE), digest(LARGE)]


def test_lists(ask, place):
    if place.kind == "http":
        return failure(ask("listed"), "Refused", "no list of its files: name them")
    found = value(ask("listed"))
    assert [path for path, _ in found] == sorted(FILES, key=lambda path: path.encode())
    for path, version in found:
        assert value(ask("size", path)) == version
    for prefix in ("a", "a/", "a/b", "train/", "none"):
        assert [path for path, _ in value(ask("listed", prefix))] == sorted(
            (path for path in FILES if path.startswith(prefix)), key=lambda path: path.encode())
    assert [path for path, _ in value(ask("listed", root=place.root + "/a"))] == ["b/c", "z"]


def test_what_is_not_there(ask, place):
    for do in ("read", "size", "lines"):
        failure(ask(do, "none"), "Gone", re.escape(place.root) + "/none is not there")
    failure(ask("read", "large.tar", len(LARGE) - 5, 6), "TooShort", "3,145,735 bytes, and 6 were asked for")
    failure(ask("read", "large.tar", len(LARGE) + 5, 6), "TooShort", "bytes")
    failure(ask("read", "large.tar", 0, None, 5000), "TooLarge", "5,000 are the limit")
    failure(ask("read", "../a.txt"), "Gone", "'..'")
    if place.kind == "s3":
        failure(ask("read", "a", root="s3://no-such-bucket"), "Refused", "no such bucket")
        failure(ask("listed", root="s3://no-such-bucket"), "Refused", "no such bucket")


@pytest.mark.parametrize("fault", ["429", "500", "503", "slow", "cut", "wrong length"])
def test_a_fault_that_passes_changes_nothing(ask, place, fault):
    place.proxy.set(fault, 3)
    before = place.proxy.faults
    assert value(ask("read", "a/z", 10, 60000))[:2] == [60000, digest(FILES["a/z"][10:60010])]
    assert value(ask("read", "a/z"))[:2] == [70000, digest(FILES["a/z"])]
    assert value(ask("lines", "large.tar")) == [len(LARGE), digest(LARGE)]
    assert place.proxy.faults - before == 3
    if place.kind != "http":
        place.proxy.set(fault, 3)
        assert len(value(ask("listed"))) == len(FILES)


@pytest.mark.parametrize("fault, kind", [("429", "Unavailable"), ("500", "Unavailable"), ("503", "Unavailable"),
                                         ("cut", "Unavailable"), ("wrong length", "Damaged"), ("gone", "Gone"),
                                         ("refused", "Refused"), ("expired", "Refused")])
def test_a_fault_that_stays_is_one_sentence(ask, place, fault, kind):
    place.proxy.set(fault)
    noted = fault == "503"                       # a note comes after one second
    for _ in range(3):
        answer = ask("read", "a/z", 10, 60000, limit_s=2.5 if noted else 0.3)
        if len(answer["notes"]) == noted:        # none either if the probe stood still until the limit
            break
    failure(answer, kind, "expired" if fault == "expired" and place.kind == "s3" else re.escape(place.root) + "/a/z")
    assert len(answer["notes"]) == noted


def test_a_server_that_is_away_costs_the_time_that_it_is_away(ask, place):
    value(ask("size", "a.txt"))
    gone, noted, back = threading.Event(), threading.Event(), threading.Event()

    def stay_away():
        """Until the client has said that it waits, however late it asked, and for a while more."""
        with place.proxy.away():
            gone.set()
            noted.wait(LIMIT_S)
            back.wait(AWAY_S - NOTE_AFTER_S)

    thread = threading.Thread(target=stay_away)
    thread.start()
    wait_for(gone.is_set, "the server to be away")
    try:
        answer = ask("read", "a/z", noted=lambda text: noted.set())
    finally:
        noted.set()
        back.set()
        thread.join()
    assert value(answer)[:2] == [70000, digest(FILES["a/z"])]
    assert answer["took_s"] > AWAY_S / 2
    assert len(answer["notes"]) == 1 and "is tried again for 60 s" in answer["notes"][0]


def test_a_file_that_is_replaced_is_of_one_version(ask, place):
    before = value(ask("read", "a.txt"))
    place.server.put(place.bucket, "a.txt", b"other")
    try:
        after = value(ask("read", "a.txt"))
        assert after[1] == digest(b"other") and after[2] != before[2]
        assert value(ask("size", "a.txt")) == after[2]
    finally:
        place.server.put(place.bucket, "a.txt", b"a")


def test_credentials(ask, place, tmp_path, probe):
    nowhere = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    if place.kind == "s3":
        for wrong, said in (({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
                            ({"AWS_ACCESS_KEY_ID": "none"}, "InvalidAccessKeyId"), (OTHER, "AccessDenied")):
            environment = dict(place.environment, **wrong)
            failure(ask("read", "a.txt", environment=environment), "Refused", said)
            failure(ask("listed", environment=environment), "Refused", said)
            failure(ask("size", "a.txt", environment=environment), "Refused", "403")
        keys = {name: place.environment.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        try:
            (tmp_path / ".aws").mkdir()
            file = tmp_path / ".aws" / "credentials"
            file.write_text("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n" % tuple(keys.values()))
            assert value(ask("read", "a.txt", environment=dict(place.environment, **nowhere)))[0] == 1
            file.write_text(file.read_text().replace("default", "work"))
            work = dict(place.environment, AWS_PROFILE="work", **nowhere)
            assert value(ask("read", "a.txt", environment=work))[0] == 1
            failure(ask("read", "a.txt", environment=dict(place.environment, AWS_PROFILE="none", **nowhere)),
                    "ConfigError", "no profile")
            file.unlink()
            failure(ask("read", "a.txt", limit_s=3, environment=dict(place.environment, **nowhere)), "Refused",
                    "no credentials")
        finally:
            place.environment.update(keys)
    if place.kind == "http":
        place.server.put("private", "a", b"secret")
        root = place.proxy.url + "/private"
        failure(ask("read", "a", root=root, environment=nowhere), "Refused", r"401 .*~/\.netrc")
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login %s password %s\n" % Web.USER)
        assert value(ask("read", "a", root=root, environment=dict(nowhere, AGAIN="1")))[0] == 6


def test_a_web_server_that_ignores_range(ask, place):
    if place.kind != "http":
        pytest.skip("web servers only")
    place.server.put("whole", "large.tar", LARGE * 4)
    root = place.proxy.url + "/whole"
    assert value(ask("read", "large.tar", 1000, 5000, root=root))[:2] == [5000, digest(LARGE[1000:6000])]
    failure(ask("read", "large.tar", 9 << 20, 5000, root=root), "Refused", "ignores Range")
