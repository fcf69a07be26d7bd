"""The fault table of stores: what goes wrong while a run reads from a bucket or a web server ends in the same audit, or
in one sentence.

A proxy between the workers and the real server makes the faults, from the third step on.
"""

import io
import os
import shutil
import tarfile
import time
from typing import Any, Callable, Dict, NamedTuple, Optional

import pytest

import stoker
from tests.support import stored
from tests.support.agreement import OPTIONS, consumed
from tests.support.faulty_proxy import FaultyProxy
from tests.support.processes import opened

SAME = "the same audit"
ALWAYS = 1 << 30
AWAY_S = 4.0
HTTP_REFUSED = r"http://\S+ may not be read by this host \(403 Forbidden\): .*~/\.netrc"
EXPIRED = {"http": HTTP_REFUSED, "s3": r"s3://\S+: the credentials of this host have expired \(.*\): renew them"}
REFUSED = {"http": HTTP_REFUSED, "s3": r"s3://\S+: this host may not read it \(.*\): give its account the rights"}
#: (fault, how many answers have it, the outcome or a pattern of the sentence by store)
FAULTS = [
    ("429", 8, SAME),
    ("500", 8, SAME),
    ("503", 8, SAME),
    ("slow", 8, SAME),
    ("cut", 8, SAME),
    ("wrong length", 3, SAME),
    ("away", 1, SAME),
    ("expired", ALWAYS, EXPIRED),
    ("refused", ALWAYS, REFUSED),
]
BY_BOTO3 = ("500", "cut", "wrong length", "expired")      # what the clients of S3 tell in other ways


class Place(NamedTuple):
    """The pictures at one server, behind a proxy."""
    name: str
    python: Optional[str]           # of its workers
    proxy: FaultyProxy
    environment: Dict[str, str]     # what its clients need
    open: Callable[[], Any]         # the data


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The folder of pictures, the one of record files, and the content of the audit of a run."""
    files, records = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("records")
    pictures = stored.drawn(files, "png")           # the same with every Pillow
    stored.write_tars(records, pictures)
    audit = tmp_path_factory.mktemp("reference") / "audit"
    return str(files), str(records), consumed(str(files), audit).content()


@pytest.fixture(scope="module")
def http_place(web, local, python36):
    """Tars on the web server."""
    with FaultyProxy("127.0.0.1", web.port) as proxy:
        pattern = "%s/%s/train-{000..002}.tar" % (proxy.url, web.folder("faults", local[1]))
        yield Place("http", python36, proxy, {}, lambda: stoker.tar(pattern))


def s3_place(s3, files, name, python):
    """Files in a bucket, for workers of ``python``. A client is kept, by the bucket, with the proxy that it knows."""
    with FaultyProxy("127.0.0.1", s3.port) as proxy:
        url = "s3://" + s3.bucket(name, files)
        yield Place("s3", python, proxy, dict(s3.environment, AWS_ENDPOINT_URL=proxy.url), lambda: url)


@pytest.fixture(scope="module")
def obstore_place(s3, local, worker_python):
    yield from s3_place(s3, local[0], "faults", worker_python)


@pytest.fixture(scope="module")
def boto_place(s3, local, python36):
    yield from s3_place(s3, local[0], "faults-of-boto3", python36)


def run(place, fault, count, audit):
    """A run that meets the fault from its third step on. Returns it, or the exception that ended it."""
    with opened(place.open(), audit, workers=2, prefetch=2, worker_python=place.python, **OPTIONS) as found:
        found.joined(2)
        found.take(2)
        if fault == "away":
            with place.proxy.away():
                time.sleep(AWAY_S / 2)
                asked = len(place.proxy.asked)
                time.sleep(AWAY_S / 2)
                assert len(place.proxy.asked) == asked
        else:
            place.proxy.set(fault, count)
        found.take_all()
    return found


@pytest.mark.parametrize("fault, count, outcome", FAULTS, ids=[fault for fault, _, _ in FAULTS])
class TestFault:
    def test_http(self, http_place, local, tmp_path, fault, count, outcome):
        check(http_place, local, tmp_path, fault, count, outcome)

    def test_s3_by_obstore(self, obstore_place, local, tmp_path, monkeypatch, fault, count, outcome):
        check(obstore_place, local, tmp_path, fault, count, outcome, monkeypatch)


@pytest.mark.parametrize("fault, count, outcome", [case for case in FAULTS if case[0] in BY_BOTO3], ids=BY_BOTO3)
def test_s3_by_boto3(boto_place, local, tmp_path, monkeypatch, fault, count, outcome):
    check(boto_place, local, tmp_path, fault, count, outcome, monkeypatch)


def test_a_picture_that_is_gone_is_a_bad_sample_as_in_a_folder(obstore_place, local, tmp_path, monkeypatch):
    gone = "left/006.png"
    enter(obstore_place, monkeypatch)
    obstore_place.proxy.set("gone", of=gone)
    reference = tmp_path / "pictures"
    shutil.copytree(local[0], str(reference))
    data = stoker.scan_folder(str(reference))
    os.remove(str(reference / gone))
    runs = []
    for number, source in enumerate((data, obstore_place.open())):
        with opened(source, tmp_path / str(number), workers=1, worker_python=obstore_place.python, **OPTIONS) as found:
            found.take_all()
        runs.append([(entry["indices"], entry["crc32"], entry["skipped"]) for entry in found.entries()])
    assert runs[0] == runs[1] and any(skipped for _, _, skipped in runs[1])


def test_a_record_file_that_is_replaced_ends_the_run_with_a_sentence(http_place, local, web, tmp_path):
    enter(http_place)
    with open(os.path.join(local[1], "train-001.tar"), "rb") as file:
        before = file.read()
    try:
        with pytest.raises(stoker.RunFailed) as caught:
            with opened(http_place.open(), tmp_path / "audit", workers=2, worker_python=http_place.python,
                        prefetch=2, **OPTIONS) as found:
                found.take(2)
                web.put("faults", "train-001.tar", tar_of(20, b"another picture"))
                found.take_all()
        caught.match(r"^train-001\.tar has changed since it was indexed at \d\d:\d\d:\d\d \([\d,]+ bytes then, "
                     r"[\d,]+ now\): .*open the stream again$")
        web.put("faults", "train-001.tar", tar_of(25, before[512:1600]))
        assert len(http_place.open()) == 65             # and no index of before is used
    finally:
        web.put("faults", "train-001.tar", before)
    assert len(http_place.open()) == 60


def tar_of(count, content):
    """A tar with so many samples."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for number in range(count):
            for end, data in (("png", content), ("cls", b"1")):
                member = tarfile.TarInfo("%06d.%s" % (number, end))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return written.getvalue()


def enter(place, monkeypatch=None):
    """What clients of the place need; no fault yet."""
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    place.proxy.set(None)
    place.proxy.faults = 0


def check(place, local, tmp_path, fault, count, outcome, monkeypatch=None):
    """Runs, and compares with the outcome."""
    enter(place, monkeypatch)
    begun_s = time.monotonic()
    if outcome == SAME:
        found = run(place, fault, count, tmp_path / "audit")
        assert found.content() == local[2]
        assert fault == "away" or place.proxy.faults == count
        assert time.monotonic() - begun_s < 60
        return
    with pytest.raises(stoker.StokerError) as caught:
        run(place, fault, count, tmp_path / "audit")
    caught.match(outcome[place.name])
    assert "\n" not in str(caught.value)
