"""Leases that no worker would read are an error when the stream is opened; long ones are read."""

import gc
import re
from dataclasses import replace

import numpy as np
import pytest

from stoker.pipeline.coordinator import lease_size
from stoker.pipeline.coordinator.lease_size import FIELDS_BYTES, check_leases
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import JobOptions
from stoker.pipeline.partners import open_partners
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec, unpacking
from stoker.pipeline.protocol.messages import Lease
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.table import Numbers, Table

LIMIT = 1 << 22           # instead of codec.MAX_LEASE_BYTES
PATHS = 10000


def files(length, count=PATHS, letter="x"):
    return Dataset("/data", (), tuple("%05d" % number + letter * (length - 5) for number in range(count)),
                   (-1,) * count, ())


def check(monkeypatch, training, batch_size=PATHS, validation=None, partners=0, **options):
    monkeypatch.setattr(lease_size, "MAX_LEASE_BYTES", LIMIT)
    splits = Splits(training) if validation is None else Splits(training, validation)
    plan = Plan(len(training), batch_size, 1, 0, len(splits.validation),
                partners=(open_partners(partners, training), open_partners(partners, splits.validation)))
    check_leases(plan, splits, JobOptions(batch_size=batch_size, **options))


def test_a_lease_is_as_long_as_its_batch_needs():
    """60,000 paths of 290 characters, on any Python: a part of the numbers looks like msgpack's timestamps."""
    lease = Lease(1, 0, 0, True, files(290, 60000).samples(range(60000)))
    frames = codec.encode(lease)
    assert len(frames[0]) > 17000000 and unpacking._TIMESTAMP.search(frames[0])
    assert codec.decode_from_trainer(frames) == lease and gc.isenabled()


def test_what_a_worker_takes_from_a_trainer_has_a_limit():
    with pytest.raises(codec.ProtocolError, match="the header has 268435457 bytes"):
        codec.decode_from_trainer([np.zeros(codec.MAX_LEASE_BYTES + 1, np.uint8).data])
    assert gc.isenabled()


@pytest.mark.parametrize("letter, length", [("x", LIMIT // PATHS - FIELDS_BYTES), ("\u00e9", 180), ("\udcff", 360)])
def test_paths_that_fit(monkeypatch, letter, length):
    check(monkeypatch, files(length, letter=letter))


@pytest.mark.parametrize("letter, length", [("x", LIMIT // PATHS), ("\u00e9", 220), ("\udcff", 430)])
def test_paths_that_do_not_fit(monkeypatch, letter, length):
    with pytest.raises(ConfigError) as caught:
        check(monkeypatch, files(length, letter=letter))
    text = str(caught.value)
    assert re.match("the paths and rows of one batch have 4[0-9]{6} bytes when they are packed, and a lease has", text)
    assert "smaller batch_size" in text and "the largest sample has 4" in text and text.isprintable()


def test_the_largest_samples_may_come_together(monkeypatch):
    """In one epoch of many they do."""
    data = replace(files(100), paths=files(100).paths[:-1] + ("y" * 60000,))
    check(monkeypatch, data, 10000)
    rows = Table.of([b"x" * 100000] * 50 + [b""] * 5000, "")
    check(monkeypatch, rows, 40)
    with pytest.raises(ConfigError, match="100[0-9]{3}: sample [0-9]+\\)$"):
        check(monkeypatch, rows, 42)


def test_what_else_travels_counts(monkeypatch):
    data = files(250)
    check(monkeypatch, data, 5000)
    check(monkeypatch, data, 5000, partners=1)
    for batch_size, options in ((5000, {"partners": 3}), (5000, {"partners": lambda index, random: [index] * 3}),
                                (10000, {"on_bad_image": "replace"}), (10000, {"validation": files(450)})):
        if options.get("on_bad_image"):
            check(monkeypatch, files(250, 2 * PATHS), batch_size)
            data = files(250, 2 * PATHS)
        with pytest.raises(ConfigError, match="smaller batch_size"):
            check(monkeypatch, data, batch_size, **options)


def test_what_needs_no_look_at_the_samples(monkeypatch):
    monkeypatch.setattr(lease_size, "_sizes", None)
    check_leases(Plan(PATHS, 128, 1, 0), Splits(files(10)), JobOptions(batch_size=128))
    check(monkeypatch, Numbers(1 << 39), 1 << 20, generator="numerical")
