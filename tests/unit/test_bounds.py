"""What a job may read and cost on a worker's host: by the worker's options, whatever the trainer says."""

import os
from dataclasses import replace

import pytest

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import MAX_BATCH, MAX_BATCH_MB, JobOptions, StreamOptions, WorkerOptions
from stoker.pipeline.protocol.messages import Job
from stoker.workers.bounds import check

REMOTE = WorkerOptions("tcp://trainer:5555")
JOB = Job("image", (ArraySpec("images", "uint8", (64, 64, 3)),), 32, 0, "fast", "")


@pytest.fixture
def folders(tmp_path):
    """``allowed`` with ``inner``, a link ``out`` that leads out of it to ``other``, and ``allowed-not`` beside it."""
    for name in ("allowed/inner", "other", "allowed-not"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "allowed" / "out").symlink_to(tmp_path / "other")
    return tmp_path


def check_folder(options, root):
    check(replace(JOB, data_root=str(root)), options)


@pytest.mark.parametrize("name", ["allowed", "allowed/", "allowed/inner", "allowed/./inner/..", "allowed/no-such"])
def test_folders_below_an_allowed_one(folders, name):
    options = replace(REMOTE, allow_data=(str(folders / "other"), str(folders / "allowed")))
    check_folder(options, "%s/%s" % (folders, name))


@pytest.mark.parametrize("name", ["other", ".", "allowed-not", "allowed/..", "allowed/out", "allowed/../other", "/",
                                  "a\0b", "\ud800"])
def test_other_folders(folders, name):
    with pytest.raises(ConfigError, match="reads files in .*, which this worker on .* may not: .*--data DIR"):
        check_folder(replace(REMOTE, allow_data=(str(folders / "allowed"),)), os.path.join(str(folders), name))


def test_without_a_folder_a_trainer_on_another_host_may_read_none(tmp_path):
    with pytest.raises(ConfigError, match="--data DIR"):
        check_folder(REMOTE, tmp_path)
    check_folder(REMOTE, "")                                                # the job opens no files
    check_folder(replace(REMOTE, data=str(tmp_path)), tmp_path)             # what the worker has put in its place


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "[::1]"])
def test_a_trainer_of_this_host_is_of_this_user_and_may_read_any(address, tmp_path):
    check_folder(WorkerOptions("tcp://%s:5555" % address), tmp_path)
    with pytest.raises(ConfigError, match="--data DIR"):
        check_folder(WorkerOptions("tcp://%s:5555" % address, allow_data=(str(tmp_path),)), "/")


@pytest.mark.parametrize("options", [
    dict(data="s3://bucket/photos"), dict(allow_data=("/mnt", "s3://bucket/photos")), dict(allow_data=("s3://bucket",)),
    dict(allow_data=("/",), roots=("/mnt", "s3://bucket/photos"))])
def test_a_url_that_the_workers_options_name(options):
    check_folder(replace(REMOTE, **options), "s3://bucket/photos")


@pytest.mark.parametrize("options", [
    {}, dict(allow_data=("/",)), dict(allow_data=("s3://bucket/pho",)), dict(allow_data=("s3://bucket/photos/train",)),
    dict(allow_data=("gs://bucket",)), dict(roots=("/mnt",)), dict(connect="tcp://127.0.0.1:5555"),
    dict(connect="tcp://127.0.0.1:5555", allow_data=("/",)), dict(allow_data=("s3://other",))])
def test_a_url_that_they_do_not_name_is_not_read_even_for_a_trainer_of_this_host(options):
    """It would be read with this user's credentials."""
    with pytest.raises(ConfigError, match="reads files in s3://bucket/photos, which this worker on .* --data URL"):
        check_folder(replace(REMOTE, **options), "s3://bucket/photos")


@pytest.mark.parametrize("url", [
    "https://h/a/../b", "https://h/a/%2e%2e/b", "https://h/a//x", "https://u:p@h/a", "https://h/a?x=1", "https://h/a/./b",
    "https://H/a", "https://h/a/", "https://h/a/%2f..%2f..", "https://h.other/a", "https://h@other/a", "http://h/a",
    "https://h/ab", "https://h/a\\..\\b/../..", "https://h:444/a"])
def test_tricks_with_urls(url):
    """Only the normal form is read, and only below what is named."""
    with pytest.raises(ConfigError, match="reads files in "):
        check_folder(replace(REMOTE, allow_data=("https://h/a",)), url)


def test_folders_and_urls_do_not_stand_for_each_other(folders):
    with pytest.raises(ConfigError, match="--data DIR"):
        check_folder(replace(REMOTE, allow_data=("s3://bucket",)), folders)
    check_folder(replace(REMOTE, allow_data=("s3://bucket", str(folders))), folders)


@pytest.mark.parametrize("job", [
    replace(JOB, image_size=(16384, 16384), batch_size=12),                 # of its pictures, whatever its arrays are
    replace(JOB, batch_size=MAX_BATCH),
    replace(JOB, rows=1 << 15), replace(JOB, arrays=(ArraySpec("x", "float64", (UpTo(1 << 20), 8)),)),
    replace(JOB, arrays=tuple(ArraySpec("x%d" % number, "uint8", (1 << 22,)) for number in range(16)))],
    ids=["pictures", "samples", "rows", "padded", "arrays"])
def test_a_job_of_too_large_batches(job):
    with pytest.raises(ConfigError, match="a batch of the run may take [0-9]+ MB, and this worker on .* permits 1024: "
                                          "start it with --max-batch-mb"):
        check(job, REMOTE)
    check(job, replace(REMOTE, max_batch_mb=1e6))


def test_every_batch_that_fits_into_the_default_prefetch_is_permitted():
    assert StreamOptions.prefetch_mb == MAX_BATCH_MB
    options = JobOptions("image", (1024, 1024), 341)
    assert StreamOptions().prefetch_of(options) == 1
    check(replace(JOB, arrays=options.arrays, image_size=options.image_size, batch_size=341), REMOTE)
    check(replace(JOB, generator="numerical", arrays=(ArraySpec("x", "float32", (10,)),), batch_size=MAX_BATCH), REMOTE)
