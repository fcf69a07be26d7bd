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

AWAY_S = 2.0
HTTP_REFUSED = r"http://\S+ may not be read by this host \(403 Forbidden\): .*~/\.netrc"
EXPIRED = {"http": HTTP_REFUSED, "s3": r"s3://\S+: the credentials of this host have expired \(.*\): renew them"}
REFUSED = {"http": HTTP_REFUSED, "s3": r"s3://\S+: this host may not read it \(.*\): give its account the rights"}
#: Faults that pass, which one run meets one after the other: how many answers have it.
PASSING = {"429": 4, "500": 4, "503": 4, "slow": 4, "cut": 4, "wrong length": 3}
#: Faults that stay -> a pattern of the sentence by store.
STAYING = {"expired": EXPIRED, "refused": REFUSED}


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


@pytest.fixture(scope="module", params=["http", "obstore", "boto"])
def place(request):
    """Each of them. Not asked for within a test, for which its servers would be processes that the test leaves."""
    return request.getfixturevalue(request.param + "_place")


class Met(NamedTuple):
    """What a run found that met all faults that pass."""
    faults: Dict[str, int]          # by fault: how many answers had it
    content: list                   # of its audit, or the exception that ended it as text
    took_s: float


def met(place, audit, monkeypatch=None):
    """One run that meets each of the faults that pass, from its third step on, and then a server that is away."""
    enter(place, monkeypatch)
    found_faults, begun_s = {}, time.monotonic()
    try:
        with opened(place.open(), audit, workers=2, prefetch=2, worker_python=place.python, **OPTIONS) as found:
            found.joined(2)
            found.take(2)
            for fault, count in PASSING.items():
                before = place.proxy.faults
                place.proxy.set(fault, count)
                for _ in range(5):
                    found.take(place.proxy.faults - before < count)
                place.proxy.set(None)
                found_faults[fault] = place.proxy.faults - before
            with place.proxy.away():
                time.sleep(AWAY_S / 2)
                asked = len(place.proxy.asked)
                time.sleep(AWAY_S / 2)
                found_faults["away"] = int(len(place.proxy.asked) == asked)
            found.take_all()
            content = found.content()
    except stoker.StokerError as error:
        content = [str(error)]
    return Met(found_faults, content, time.monotonic() - begun_s)


@pytest.fixture(scope="module")
def all_met(place, tmp_path_factory):
    """A ``Met`` of each client."""
    patch = pytest.MonkeyPatch()
    try:
        yield met(place, tmp_path_factory.mktemp("met") / "audit", patch)
    finally:
        patch.undo()


@pytest.mark.parametrize("fault", sorted(PASSING) + ["away"])
def test_a_run_meets_the_fault(all_met, fault):
    """Otherwise the next test proves nothing."""
    assert all_met.faults.get(fault) == PASSING.get(fault, 1), all_met.content[:1]


def test_faults_that_pass_change_nothing(all_met, local):
    assert all_met.content == local[2]
    assert all_met.took_s < 120


@pytest.mark.parametrize("fault", sorted(STAYING))
def test_a_fault_that_stays_is_a_sentence(place, tmp_path, monkeypatch, fault):
    enter(place, monkeypatch)
    with pytest.raises(stoker.StokerError) as caught:
        with opened(place.open(), tmp_path / "audit", workers=2, prefetch=2, worker_python=place.python,
                    **OPTIONS) as found:
            found.joined(2)
            found.take(2)
            place.proxy.set(fault)
            found.take_all()
    caught.match(STAYING[fault][place.name])
    assert "\n" not in str(caught.value)


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
