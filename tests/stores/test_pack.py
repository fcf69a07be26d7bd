"""stoker-pack reads folders and record files from buckets and web servers, and makes the same shards as from a disk."""

import os
import subprocess

import pytest

from tests.integration.test_pack import PYTHONS, ROOT, command, make_folder, make_tar, shards
from tests.support.processes import LIMIT_S


def pack(source, out, *options, python=None, environment=None, code=0):
    done = subprocess.run(command(python, source, out, *options), cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT_S,
                          env=dict(os.environ, **(environment or {})))
    assert done.returncode == code and "Traceback" not in done.stderr, done
    return done.stdout + done.stderr


@pytest.fixture
def local(tmp_path):
    """A folder of pictures and a compressed tar, with their shards."""
    make_folder(tmp_path / "data" / "photos", 60)
    make_tar(tmp_path / "data" / "a.tgz", "w:gz")
    pack(tmp_path / "data" / "photos", tmp_path / "of-photos", "--shard-mb", 1)
    pack(tmp_path / "data" / "a.tgz", tmp_path / "of-tar")
    return tmp_path


@PYTHONS
def test_a_bucket(local, s3, python):
    bucket = s3.bucket("packing-%s" % ("old" if python is None else "new"), str(local / "data"))
    given = dict(python=python, environment=s3.environment)
    pack("s3://%s/photos" % bucket, local / "out", "--shard-mb", 1, **given)
    assert shards(local / "out") == shards(local / "of-photos")
    assert "all is packed already" in pack("s3://%s/photos" % bucket, local / "out", "--shard-mb", 1, **given)
    pack("s3://%s/a.tgz" % bucket, local / "tar", **given)
    assert shards(local / "tar") == shards(local / "of-tar")
    s3.put(bucket, "photos/cat/000.v2.jpg", b"\xff\xd8\xffother")
    assert "holds shards of other sources, or s3://%s/photos changed since" % bucket in pack(
        "s3://%s/photos" % bucket, local / "out", "--shard-mb", 1, code=2, **given)
    text = pack("s3://%s/nothing" % bucket, local / "no", code=2, **given)
    assert text.startswith("stoker-pack: error: ") and text.count("\n") == 1


@PYTHONS
def test_a_web_server(local, web, python):
    name = web.folder("packing-%s" % ("old" if python is None else "new"), str(local / "data"))
    pack("%s/%s/a.tgz" % (web.url, name), local / "tar", python=python)
    assert shards(local / "tar") == shards(local / "of-tar")
    assert "web server, which does not list its folders" in pack(
        "%s/%s/photos/" % (web.url, name), local / "out", python=python, code=2)
