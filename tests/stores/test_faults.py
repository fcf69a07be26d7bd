"""The fault table of stores: what goes wrong while a run reads from a bucket or a web server ends in the same audit, or
in one sentence.

A proxy between the workers and the real server makes the faults, from the third step on.
"""

import time
from typing import Any, Callable, NamedTuple

import pytest

import stoker
from tests.support import stored
from tests.support.agreement import OPTIONS, consumed
from tests.support.faulty_proxy import FaultyProxy
from tests.support.processes import opened

SAME = "the same audit"
ALWAYS = 1 << 30
AWAY_S = 4.0
REFUSED = {"http": r"http://\S+ may not be read by this host \(403 Forbidden\): .*~/\.netrc",
           "s3": r"s3://\S+ may not be read by this host .*(?i:credentials|rights)"}
#: (fault, how many answers have it, the outcome or a pattern of the sentence by store)
FAULTS = [
    ("429", 12, SAME),
    ("500", 12, SAME),
    ("503", 12, SAME),
    ("slow", 12, SAME),
    ("cut", 12, SAME),
    ("wrong length", 3, SAME),
    ("away", 1, SAME),
    ("expired", ALWAYS, REFUSED),
    ("refused", ALWAYS, REFUSED),
]


class Place(NamedTuple):
    """The pictures at one server, behind a proxy."""
    name: str
    proxy: FaultyProxy
    open: Callable[[], Any]     # the data


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The folder of pictures, the one of record files, and the content of the audit of a run."""
    files, records = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("records")
    pictures = stored.drawn(files)
    stored.write_tars(records, pictures)
    audit = tmp_path_factory.mktemp("reference") / "audit"
    return str(files), str(records), consumed(str(files), audit).content()


@pytest.fixture(params=["http", "s3"])
def place(request, local, monkeypatch):
    """Tars on the web server; files in the bucket."""
    files, records, _ = local
    server = request.getfixturevalue("web" if request.param == "http" else "s3")
    with FaultyProxy("127.0.0.1", server.port) as proxy:
        name = "faults-%d" % proxy.port             # a client is kept by the name
        if request.param == "http":
            folder = server.folder(name, records)
            yield Place("http", proxy, lambda: stoker.tar("%s/%s/train-{000..002}.tar" % (proxy.url, folder)))
        else:
            url = "s3://" + server.bucket(name, files)
            for key, value in dict(server.environment, AWS_ENDPOINT_URL=proxy.url).items():
                monkeypatch.setenv(key, value)
            yield Place("s3", proxy, lambda: url)


def run(place, fault, count, audit):
    """A run that meets the fault from its third step on. Returns it, or the exception that ended it."""
    with opened(place.open(), audit, workers=2, prefetch=2, **OPTIONS) as found:
        found.joined(2)
        found.take(2)
        if fault == "away":
            asked = len(place.proxy.asked)
            with place.proxy.away():
                time.sleep(AWAY_S)
            assert len(place.proxy.asked) == asked
        else:
            place.proxy.set(fault, count)
        found.take_all()
    return found


@pytest.mark.parametrize("fault, count, outcome", FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_fault(place, local, tmp_path, fault, count, outcome):
    begun_s = time.monotonic()
    if outcome == SAME:
        found = run(place, fault, count, tmp_path / "audit")
        assert found.content() == local[2]
        assert fault == "away" or place.proxy.faults == count
        assert time.monotonic() - begun_s < 60
    else:
        with pytest.raises(stoker.StokerError) as caught:
            run(place, fault, count, tmp_path / "audit")
        caught.match(outcome[place.name])
        assert "\n" not in str(caught.value)
