"""Numbers of numpy, as users have them, wherever the public API takes a number."""

import json
import os
from dataclasses import fields, replace

import numpy as np
import pytest

from stoker.pipeline.arrays import UpTo, declared
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.orders import balanced, weighted
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.codec import decode_from_trainer, encode
from stoker.pipeline.protocol.messages import Job, Lease, Sample, Skipped, Welcome
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.splits import open_splits
from stoker.pipeline.sources.table import Numbers
from stoker.workers.generators.output import Output, check

WHOLE = (np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64)
REAL = (np.float16, np.float32, np.float64) + WHOLE


@pytest.mark.parametrize("kind", WHOLE)
def test_a_number_of_samples(kind):
    assert len(open_source(kind(100), generator="numerical")) == 100
    assert len(open_source(kind(100))) == 100 and type(len(Numbers(kind(100)))) is int
    assert len(open_splits(Numbers(100), kind(9), 0).validation) == 9
    assert len(open_splits(Numbers(100), kind(0), 0).validation) == 0


@pytest.mark.parametrize("value", [True, np.bool_(True), np.float64(3.5), np.float32(3)])
@pytest.mark.parametrize("generator", ["numerical", "image"])
def test_a_truth_value_or_a_fraction_is_no_number_of_samples(value, generator):
    with pytest.raises(ConfigError):
        open_source(value, generator=generator)


@pytest.mark.parametrize("kind", REAL)
def test_seconds_and_megabytes(kind):
    names = ("prefetch_mb", "lease_s", "worker_timeout_s", "batch_timeout_s", "stall_s")
    options = StreamOptions(**dict.fromkeys(names, kind(100)))
    assert [type(getattr(options, name)) for name in names] == [float] * 5 and type(options.heartbeat_s) is float
    assert options == StreamOptions(**dict.fromkeys(names, 100))


@pytest.mark.parametrize("name", ["prefetch_mb", "lease_s"])
@pytest.mark.parametrize("value", [np.float32(0), np.float64("nan"), np.bool_(True), np.array([5.0, 6.0]), "5", None,
                                   1j])
def test_other_seconds_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        StreamOptions(**{name: value})


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_options(kind):
    job = JobOptions(image_size=(kind(8), kind(9)), batch_size=kind(4), seed=kind(3))
    plain = {field.name: getattr(job, field.name) for field in fields(JobOptions)}
    assert json.loads(json.dumps(plain))["image_size"] == [8, 9] and plain["seed"] == 3
    assert type(StreamOptions(prefetch=kind(3)).prefetch) is int
    plan = Plan(kind(100), kind(4), kind(2), kind(3), kind(8))
    assert (plan.steps, plan.position_of(kind(7)), plan.at(plan.position_of(kind(7))).step) == (50, 7, 7)
    assert (balanced(steps=kind(3)).steps, weighted([1, 2], steps=kind(3)).steps) == (3, 3)


def test_truth_values():
    names = ("exif_rotate", "follow_links", "labels", "may_skip")
    job = JobOptions(**dict.fromkeys(names, np.bool_(True)))
    assert [getattr(job, name) for name in names] == [True] * 4 and type(job.exif_rotate) is bool
    assert StreamOptions(insecure=np.bool_(True)).insecure is True
    for value in (1, "no", None):
        with pytest.raises(ConfigError, match="insecure must be True or False"):
            StreamOptions(insecure=value)


@pytest.mark.parametrize("step", [3.0, "3", None, True, np.float32(3), -1])
def test_a_step_that_is_no_step_is_refused(step):
    with pytest.raises(ConfigError, match="start_step|step -1"):
        Plan(100, 4, 1, 0).position_of(step)


@pytest.mark.parametrize("kind", WHOLE)
def test_shapes_and_pads_travel(kind):
    specs = declared({"x": (np.float32, (kind(2), UpTo(kind(5), pad=kind(1)))), "y": ("uint8", kind(3)),
                      "z": ("uint8", np.array([4, 5]))})
    assert specs == declared({"x": ("float32", (2, UpTo(5, pad=1))), "y": ("uint8", 3), "z": ("uint8", (4, 5))})
    job = Job("a:b", specs, 4, 0, "fast", "/data")
    assert decode_from_trainer(encode(Welcome("run", job, 1.0))[:1]).job == job


def test_a_fraction_of_a_pad_travels():
    specs = declared({"x": ("float32", (UpTo(5, pad=np.float32(0.5)),))})
    assert decode_from_trainer(encode(Welcome("r", Job("a:b", specs, 4, 0, "fast", ""), 1.0))).job.arrays == specs


@pytest.mark.parametrize("kind", WHOLE)
def test_what_a_users_generator_yields(kind):
    job = Job("a:b", declared({"x": "int64"}), 4, 0, "fast", "", rows=2, may_skip=True)
    lease = Lease(1, 0, 0, True, tuple(Sample(index, "", -1) for index in range(3)))
    checked = check(Output((np.zeros(3, np.int64),), (Skipped(kind(1), "bad"),), rows=(kind(1), kind(2))), lease, job)
    assert checked.rows == (1, 2) and checked.skipped == (Skipped(1, "bad"),)
    assert {type(number) for number in checked.rows + (checked.skipped[0].index,)} == {int}
    missing = check(Output((np.zeros(2, np.int64),), missing=kind(1)), lease, job).missing
    assert (missing, type(missing)) == (1, int)
    with pytest.raises(ValueError, match="skipped"):
        check(Output((np.zeros(3, np.int64),), (Skipped(np.float32(1), "bad"),)), lease, job)


def test_options_of_a_run_and_of_local_workers(tmp_path):
    from stoker.trainer.feed import LocalOptions
    from stoker.trainer.run import prepare
    plain = prepare(100, "numerical", image_size=(8, 9), batch_size=4, drop_last=True, validation_split=0.25,
                    partners=2, epochs=2)
    numbers = prepare(np.int64(100), "numerical", image_size=np.array([8, 9]), batch_size=np.int16(4),
                      drop_last=np.bool_(True), validation_split=np.float32(0.25), partners=np.uint8(2),
                      epochs=np.int64(2), labels=np.bool_(True), training=np.bool_(True))
    assert json.dumps(numbers.fingerprint(), sort_keys=True) == json.dumps(plain.fingerprint(), sort_keys=True)
    assert prepare(9, "numerical", validation_split=np.int64(0)).plan.validation_size == 0
    assert prepare(9, "numerical", training=np.bool_(False)).plan.training is False
    for name in ("drop_last", "labels", "training"):
        with pytest.raises(ConfigError, match=name + " must be True or False"):
            prepare(9, "numerical", **{name: "no"})
    local = LocalOptions(np.int64(2), cache=os.fspath(tmp_path), cache_gb=np.float32(2))
    assert json.loads(json.dumps([local.workers, local.cache_gb])) == [2, 2.0]
    with pytest.raises(ConfigError, match="workers"):
        replace(local, workers=np.float32(2))
