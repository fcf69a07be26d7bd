"""The pure part of stoker-pack: keys, labels, which shard a sample goes into, where a run goes on, and its manifest."""

import io
import itertools
import os
import tarfile

import pytest

from stoker.packing import manifest as manifests
from stoker.packing import plan, samples
from stoker.packing.manifest import Manifest
from stoker.packing.output import OutFolder
from stoker.packing.plan import Cursor
from stoker.packing.samples import Found, Labels, LeftOut
from stoker.packing.shard import Member, ShardWriter, header, read_back
from stoker.pipeline.errors import ConfigError, DatasetError, RunFailed
from stoker.pipeline.sources.records.patterns import find_files


@pytest.mark.parametrize("path, key", [
    ("cat/a", "cat/a"), ("v1.0/a.b", "v1%2E0/a%2Eb"), ("100%/a", "100%25/a"), ("a\nb", "a%0Ab"), ("/a//b", "a/b"),
    ("..", "%2E%2E"), ("__meta__/a", "%5F_meta__/a"), ("_a/é", "_a/é"), ("\udcff", "\udcff")])
def test_keys_have_no_dots_and_nothing_that_a_reader_skips(path, key):
    assert samples.escaped(path) == key


def test_files_that_differ_in_their_suffix_only_keep_it_in_their_keys():
    paths = ["a/1.jpg", "a/1.png", "a/2.jpg", "b/1.jpg", "b/1", "c/.x"]
    keys = samples.path_keys(paths)
    assert [keys(path) for path in paths] == ["a/1%2Ejpg", "a/1%2Epng", "a/2", "b/1%2Ejpg", "b/1", "c/%2Ex"]


@pytest.mark.parametrize("content, source, extension", [
    (b"\xff\xd8\xff\xe0", ".png", "jpg"), (b"\x89PNG\r\n\x1a\n", ".jpg", "png"), (b"RIFF1234WEBP", "", "webp"),
    (b"no picture", ".PNG", "png"), (b"no picture", ".xyz", "jpg"), (b"", "", "jpg")])
def test_the_extension_follows_the_content(content, source, extension):
    assert samples.extension_of(content, source) == extension


def test_a_sample_becomes_members_of_a_tar():
    found = Found("here", None, 7, b"\xff\xd8\xff", "", {"b": b"text", "a": [1, 2.5, float("nan")], "c": b"\xff"}, (
        ("txt", b"x"),))
    assert samples.parts_of(found, 7) == [
        ("jpg", b"\xff\xd8\xff"), ("cls", b"7"), ("json", b'{"a":[1,2.5,null],"b":"text","c":{"base64":"/w=="}}'),
        ("txt", b"x")]
    assert samples.parts_of(found._replace(columns=None, others=()), None) == [("jpg", b"\xff\xd8\xff")]


def test_labels_become_numbers_or_a_sentence():
    texts, numbers = Labels(["cat", "dog"], True), Labels([], False)
    assert texts.number("dog") == 1 and numbers.number(7) == 7 and numbers.number(None) is None
    assert texts.number("cow") == "its class cow is not among those of --classes"
    assert texts.number(1) == "its label is the number 1, and labels before are texts"
    assert numbers.number("cat") == "its label is the text cat, and labels before are numbers"
    assert numbers.number(-1) == "its label is -1, and class numbers begin with 0"
    assert Labels(["a"], False).number(1) == "its label is 1, and there are names of 1 classes"
    with pytest.raises(DatasetError, match="has no place in classes.txt"):
        samples.checked_names(["a", "b\nc"])


@pytest.mark.parametrize("name, size", [
    (b"a.jpg", 0), (b"a.jpg", 1), (b"a.jpg", 512), (b"k" * 96 + b".jpg", 513), (b"k" * 97 + b".jpg", 5),
    (b"k" * 700 + b".jpg", 3), ("é/\udcff.jpg".encode("utf-8", "surrogateescape"), 9)])
def test_tarfile_reads_the_headers_and_their_sizes_are_as_planned(name, size):
    content = header(name, size) + bytes(plan.padded(size))
    assert len(content) == plan.member_bytes(name, size)
    with tarfile.open(fileobj=io.BytesIO(content + bytes(1024)), encoding="utf-8", errors="surrogateescape") as tar:
        member, = tar.getmembers()
    assert member.name.encode("utf-8", "surrogateescape") == name and member.size == size and member.isreg()
    assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)


def test_a_shard_ends_before_it_is_larger_than_its_limit():
    sample = plan.sample_bytes("k", [("jpg", bytes(1000)), ("cls", b"1")])
    assert sample == 512 + 1024 + 512 + 512
    limit = 10240
    assert not plan.is_full(0, 10 * limit, limit)            # a large sample has a shard of its own
    assert not plan.is_full(limit - 1024 - sample, sample, limit)
    assert plan.is_full(limit - 1024 - sample + 512, sample, limit)
    assert plan.tar_bytes(limit - 1024) == limit and plan.tar_bytes(limit - 512) == 2 * limit


class Letters:
    """Three files of samples."""
    units = 3

    def records(self, unit, start, labels_only=False):
        for number in range(start, 5):
            yield Found("", "%d%d" % (unit, number), None, bytes(10), "") if number != 2 else LeftOut("", "bad")


def order(seed=None, cursor=plan.BEGIN, block=70):
    return [(item.key if isinstance(item, Found) else "bad", behind)
            for item, behind in plan.in_order(Letters(), cursor, seed, block)]


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_a_run_that_goes_on_anywhere_has_the_rest_in_the_same_order(seed):
    whole = order(seed)
    keys = ["%d%d" % pair for pair in itertools.product(range(3), (0, 1, 3, 4))]
    assert sorted(key for key, _ in whole) == sorted(keys + ["bad"] * 3)
    for number, (_, behind) in enumerate(whole):
        assert order(seed, behind) == whole[number + 1:]


def test_shuffling_depends_on_the_seed_and_stays_the_same():
    keys = {seed: [key for key, _ in order(seed)] for seed in (None, 1, 2)}
    assert len(set(map(tuple, keys.values()))) == 3
    # pinned: shards that were begun by another release must go on the same
    assert " ".join(keys[1]) == (
        "10 13 14 11 20 bad 23 bad 21 bad 00 03 04 01 24")


def manifest():
    made = Manifest([{"name": "a.tar", "bytes": 5}], {"shard_mb": 1, "columns": None})
    made.leave_out("a.tar, x", "it is cut")
    made.add("train-00000.tar", 3, 10240, "ab", Cursor(0, 4, 0))
    made.leave_out("a.tar, y", "it is cut")
    made.classes = ("é", "\udcff")
    return made


def test_a_manifest_is_read_as_it_was_written():
    again = manifests.loads(manifest().dumps())
    assert again.dumps() == manifest().dumps()
    assert again.cursor == Cursor(0, 4, 0) and again.samples == 3 and again.left_out == {"it is cut": 2}
    again.forget(0)
    assert again.cursor == Cursor() and again.left_out == {}


@pytest.mark.parametrize("data, problem", [
    (b"", "torn or damaged"), (b"[]", "not of stoker-pack"), (b"{}", "not of stoker-pack"),
    (b'{"stoker_pack": 2}', "another release"), (b'{"stoker_pack": 1}', "torn or damaged"),
    (manifest().dumps().replace(b'"train-00000.tar"', b'"../x"'), "torn or damaged"),
    (manifest().dumps().replace(b"10240", b"-1"), "torn or damaged")])
def test_a_file_that_is_no_manifest_is_a_clause(data, problem):
    with pytest.raises(ValueError, match=problem):
        manifests.loads(data)


def test_other_options_or_sources_are_refused():
    manifests.check_same(manifests.loads(manifest().dumps()), manifest(), "out")
    other = manifest()
    other.options = {"shard_mb": 2, "columns": None}
    with pytest.raises(ConfigError, match="out holds shards that were packed with --shard-mb 1"):
        manifests.check_same(manifest(), other, "out")
    other = manifest()
    other.sources = [{"name": "a.tar", "bytes": 6}]
    with pytest.raises(ConfigError, match="out holds shards of other sources, or a.tar changed since"):
        manifests.check_same(manifest(), other, "out")


def test_a_run_that_ends_before_its_first_manifest_goes_on(tmp_path, monkeypatch):
    parts = [("jpg", b"picture")]
    finish = ShardWriter.finish

    def dying(*args):
        finish(*args)
        raise KeyboardInterrupt         # or a full disk, or a kill
    monkeypatch.setattr(ShardWriter, "finish", dying)
    made = Manifest([{"name": "a.tar", "bytes": 5}], {"shard_mb": 1})
    made.leave_out("a.tar, x", "it is cut")
    with pytest.raises(KeyboardInterrupt), OutFolder(str(tmp_path), "train", True, lambda: None) as folder:
        folder.add(0, "1", parts, "a.tar, 1")
        folder.finish(made, Cursor(0, 1))
    assert (tmp_path / "train-00000.tar").exists()
    with OutFolder(str(tmp_path), "train", True, lambda: None) as folder:
        again = folder.earlier(Manifest(made.sources, made.options))
    assert again is None or not again.shards and again.left_out == {} and not again.is_finished


def test_each_byte_that_the_disk_changes_is_found():
    import zlib
    contents = {b"a.jpg": b"picture" * 100, b"k" * 120 + b".cls": b"1"}
    data = b"".join(header(name, len(content)) + content + bytes(-len(content) % 512)
                    for name, content in contents.items())
    data += bytes(plan.tar_bytes(len(data)) - len(data))
    members = [Member(name, len(content), zlib.crc32(content)) for name, content in contents.items()]
    read_back(io.BytesIO(data), members, len(data), "x", int)
    for place in list(range(0, 4600, 37)) + [len(data) - 1]:
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]
        with pytest.raises(RunFailed, match="other bytes than were written"):
            read_back(io.BytesIO(changed), members, len(data), "x", int)
    for changed in (data[:-1], data + b"\0", data[:700]):
        with pytest.raises(RunFailed, match="other bytes than were written"):
            read_back(io.BytesIO(changed), members, len(data), "x", int)


def test_shards_of_an_unfinished_pack_are_refused_as_data(tmp_path):
    manifest = Manifest([], {"prefix": "train"})
    place = tmp_path / "out" / "stoker-pack.json"
    for folder in ("out", "other"):
        (tmp_path / folder).mkdir()
        for name in ("train-00000.tar", "val-00000.tar"):
            (tmp_path / folder / name).write_bytes(b"")

    def files(pattern):
        return [entry.path for entry in find_files(str(tmp_path / pattern)).files]
    place.write_bytes(manifest.dumps())
    for pattern in ("out/train-*.tar", "out/train-00000.tar", "*/*.tar"):
        with pytest.raises(DatasetError, match="out/train-00000.tar is a shard of a pack that is not finished, so "
                                               "samples are missing: run the same stoker-pack command again"):
            files(pattern)
    assert files("out/val-*.tar") == ["val-00000.tar"] and files("other/train-*.tar") == ["train-00000.tar"]
    manifest.is_finished = True
    place.write_bytes(manifest.dumps())
    assert files("out/train-*.tar") == ["train-00000.tar"]


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"{}", b"\xff", b"[" * 5000, b'{"finished": false}', b'{"stoker_pack": 1, "finished": 0}',
    b'{"stoker_pack": 1, "finished": false, "options": 3}', b'{"stoker_pack": 1, "finished": false, "options": {}}'])
def test_what_is_no_manifest_beside_record_files_is_ignored(tmp_path, content):
    (tmp_path / "train-00000.tar").write_bytes(b"")
    (tmp_path / "stoker-pack.json").write_bytes(content)
    assert len(find_files(str(tmp_path / "train-*.tar")).files) == 1


def test_a_manifest_that_is_no_file_or_too_large_is_ignored(tmp_path):
    (tmp_path / "train-00000.tar").write_bytes(b"")
    place = tmp_path / "stoker-pack.json"
    os.mkfifo(str(place))           # opening it would wait for ever
    assert len(find_files(str(tmp_path / "train-*.tar")).files) == 1
    place.unlink()
    place.write_bytes(Manifest([], {"prefix": "train"}).dumps())
    os.truncate(str(place), 1 << 40)
    assert len(find_files(str(tmp_path / "train-*.tar")).files) == 1
