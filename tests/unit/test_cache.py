"""The cache, through the generators that use it: it gives the same pixels as decoding, whatever happens to the files.

The tests that need processes or time are in tests/integration/test_cache_processes.py."""

import fcntl
import glob
import grp
import os
import pwd
import shutil
import threading
import time

import lmdb
import pytest

from stoker.pipeline.errors import ConfigError, ProtocolError
from stoker.pipeline.storage import folder as storage, safe_files
from stoker.pipeline.storage.folder import LINK_OUT
from stoker.workers import cache as cache_module, cache_entry, cache_folder, formats, images, limits
from stoker.workers.cache_file import CacheFile
from tests.support.caching import SIZE, Host, batch, draw, draw_photos, file_of, job, kind, same
from tests.support.other_user import OTHER, as_other_user, shared_folder

COUNT = 20


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_RACY_S", 0.0)       # the files of a test are made the moment before
    host = Host(tmp_path / "cache")
    yield host
    host.end()


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos", COUNT)


def test_what_was_decoded_is_copied_and_no_file_read(host, photos, monkeypatch):
    wanted = host.decoded(photos)
    assert host.batch(photos)[1] == 0
    monkeypatch.setattr(images, "read", None)
    found, hits = host.batch(photos)
    assert hits == COUNT and same(found, wanted)
    assert host.logged(": %d samples of this kind" % COUNT)


def test_a_batch_that_is_there_is_copied_at_once(host, photos, monkeypatch):
    wanted = host.decoded(photos)
    host.batch(photos)
    monkeypatch.setattr(cache_module.CachedKind, "get", None)
    found, hits = host.batch(photos)
    assert hits == COUNT and same(found, wanted)


def test_a_batch_of_which_a_part_is_there(host, photos):
    names = sorted(os.listdir(str(photos)))
    wanted = host.decoded(photos)
    host.batch(photos, names[3:9] + names[12:13])
    found, hits = host.batch(photos)
    assert hits == 7 and same(found, wanted)
    (photos / "sub").mkdir()
    draw(photos / "sub" / "a..b.png", 77)               # such names are looked for one by one
    wanted = host.decoded(photos, names + ["sub/a..b.png"])
    for hits in (COUNT, COUNT + 1):
        found = host.batch(photos, names + ["sub/a..b.png"])
        assert found[1] == hits and same(found[0], wanted)


def test_a_bad_path_among_those_that_are_there(host, photos):
    host.batch(photos)
    host.worker()
    for name in ("../00.png", "/00.png", "", "00.png\0"):
        with pytest.raises(ProtocolError, match="a lease names the file"):
            batch(photos, ["00.png", name])


def test_augmented_is_the_same_with_and_without(host, photos):
    host.batch(photos)
    for seed in range(30):
        wanted = host.decoded(photos, generator="augmented", seed=seed, epoch=seed)
        found, hits = host.batch(photos, generator="augmented", seed=seed, epoch=seed)
        assert hits == COUNT and same(found, wanted)


# ----------------------------------------------------------------------------------------- files that are not the same

def test_changed_file_of_the_same_size_and_time(host, photos):
    host.batch(photos)
    path = photos / "07.png"
    before = os.stat(str(path))
    draw(path, 1007)
    os.utime(str(path), ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(str(path))
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    wanted = host.decoded(photos)
    found, hits = host.batch(photos)
    assert hits == COUNT - 1 and same(found, wanted)
    found, hits = host.batch(photos)                 # its entry was replaced
    assert hits == COUNT and same(found, wanted)


def test_replaced_file(host, photos):
    host.batch(photos)
    status = os.stat(str(photos / "07.png"))
    draw(photos / "new", 1007)
    os.utime(str(photos / "new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(str(photos / "new"), str(photos / "07.png"))
    wanted = host.decoded(photos)
    found, hits = host.batch(photos)
    assert hits == COUNT - 1 and same(found, wanted)


def test_two_files_that_change_places(host, photos):
    host.batch(photos)
    one, other = str(photos / "00.png"), str(photos / "01.png")
    os.rename(one, one + ".tmp")
    os.rename(other, one)
    os.rename(one + ".tmp", other)
    wanted = host.decoded(photos)
    assert same(host.batch(photos)[0], wanted)


def test_file_that_is_gone_is_gone(host, photos):
    host.batch(photos)
    names = sorted(os.listdir(str(photos)))
    os.remove(str(photos / "07.png"))
    host.worker()
    found, bad = batch(photos, names)
    assert bad == {"07.png": "FileNotFoundError: no such file"} and len(found) == COUNT - 1


def test_bad_files_are_not_kept(host, photos):
    (photos / "text.png").write_text("no picture")
    host.batch(photos)
    cache = host.worker()
    assert list(batch(photos)[1]) == ["text.png"] and (cache.hits, cache.gets) == (COUNT, COUNT + 1)


def test_other_sizes_ways_and_folders_are_apart(host, photos, tmp_path):
    shutil.copytree(str(photos), str(tmp_path / "others"))
    for number in range(COUNT):
        draw(tmp_path / "others" / ("%02d.png" % number), 500 + number)
    kinds = [dict(), dict(size=(32, 24)), dict(decode="exact"), dict(exif_rotate=True)]
    for options in kinds:
        for root in (photos, tmp_path / "others"):
            assert host.batch(root, **options)[1] == 0
    assert len(glob.glob(os.path.join(host.folder, "*.lmdb"))) == len(kinds)
    for options in kinds:
        for root in (photos, tmp_path / "others"):
            wanted = host.decoded(root, **options)
            found, hits = host.batch(root, **options)
            assert hits == COUNT and same(found, wanted)


def test_another_decoder_has_another_file(monkeypatch):
    from PIL import features
    functions = cache_entry.file_name, cache_entry.decoder_digest
    name = cache_entry.file_name(SIZE, "fast", False)
    real = features.version
    monkeypatch.setattr(features, "version", lambda feature: "0.1" if feature == "jpg" else real(feature))
    for function in functions:
        function.cache_clear()
    other = cache_entry.file_name(SIZE, "fast", False)
    for function in functions:
        function.cache_clear()
    assert name != other and name.split("-")[:2] == other.split("-")[:2]


@pytest.mark.parametrize("year, seconds", [(1965, -157766400), (2050, 2524608000), (2300, 10413792000)])
def test_file_of_any_time(host, photos, year, seconds):
    path = str(photos / "03.png")
    os.utime(path, (seconds, seconds))
    wanted = host.decoded(photos)
    host.batch(photos)
    found, hits = host.batch(photos)
    assert hits == COUNT and same(found, wanted)


# ------------------------------------------------------------------------------------------------------------- links

@pytest.fixture
def linked(photos, tmp_path):
    """The photos, and beside them links: to one of them, and out of the folder."""
    (tmp_path / "elsewhere").mkdir()
    draw(tmp_path / "elsewhere" / "secret.png", 99)
    os.symlink("00.png", str(photos / "within.png"))
    os.symlink(str(tmp_path / "elsewhere" / "secret.png"), str(photos / "out.png"))
    return photos


def test_link_out_that_was_followed_is_refused_to_others(host, linked):
    allowed = host.decoded(linked, follow_links=True)
    assert "out.png" in allowed
    host.batch(linked, follow_links=True)
    found, hits = host.batch(linked, follow_links=True)
    assert hits == COUNT + 2 and same(found, allowed)
    cache = host.worker()
    found, bad = batch(linked)
    assert bad == {"out.png": LINK_OUT}
    assert "within.png" in found and cache.hits == COUNT + 1


def test_file_that_was_moved_out_of_the_folder(host, photos, tmp_path):
    (photos / "sub").mkdir()
    draw(photos / "sub" / "picture.png", 5)
    names = ["00.png", "sub/picture.png"]
    host.batch(photos, names)
    assert host.batch(photos, names)[1] == 2
    # the file itself does not change by this, neither do its times
    os.rename(str(photos / "sub"), str(tmp_path / "sub"))
    os.symlink(str(tmp_path / "sub"), str(photos / "sub"))
    host.worker()
    assert batch(photos, names)[1] == {"sub/picture.png": LINK_OUT}


# ------------------------------------------------------------------------------------------------------------ damage

def test_damaged_entries_are_decoded_again(host, photos):
    wanted, _ = host.batch(photos)
    host.end()
    content = bytearray(open(host.file, "rb").read())
    for pixels in wanted.values():
        content[content.index(pixels.tobytes()) + 100] ^= 4
    with open(host.file, "wb") as file:
        file.write(content)
    found, hits = host.batch(photos)
    assert hits == 0 and same(found, wanted)
    assert same(host.batch(photos)[0], wanted)       # into a new file
    assert len(host.logged("may be damaged: an entry has another checksum")) == 1
    found, hits = host.batch(photos)
    assert hits == COUNT and same(found, wanted)


@pytest.mark.parametrize("left", [0, 100, 5000, 9000, 0.5, 0.9])
def test_truncated_file(host, photos, left):
    wanted, _ = host.batch(photos)
    host.end()
    os.truncate(host.file, int(left * os.path.getsize(host.file)) if left < 1 else left)
    for _ in range(3):
        assert same(host.batch(photos)[0], wanted)
    assert host.batch(photos)[1] == COUNT


# ------------------------------------------------------------------------------------------------------------- limits

def test_full_cache_stays_within_its_limit_and_logs_it_once(host, photos):
    limit = 200 << 10
    wanted, gb = host.decoded(photos), limit / 2**30
    for _ in range(4):
        found, hits = host.batch(photos, gb=gb)
        assert same(found, wanted) and host.bytes <= limit
        host.end()
        assert host.bytes <= limit
    assert 5 < hits < COUNT
    full = host.logged("full: ")
    assert 1 <= len(full) <= 4 and ": 0 samples" not in full[0]


def test_the_geometry_not_used_for_longest_makes_room(host, photos):
    gb = (1 << 20) / 2**30
    sizes = [(60, 60), (62, 60), (64, 60)]
    for size in sizes[:2]:
        host.batch(photos, size=size, gb=gb)
        host.end()
    first, second = sorted(glob.glob(os.path.join(host.folder, "*.lmdb")))
    for age, path in ((50, second), (100, first)):
        os.utime(path, (time.time() - age,) * 2)
    with open(first, "rb") as used:                   # by another process
        fcntl.flock(used, fcntl.LOCK_SH)
        host.batch(photos, size=sizes[2], gb=gb)
        host.end()
        assert os.path.exists(first) and not os.path.exists(second)
        assert host.bytes <= 1 << 20


def test_other_files_in_the_folder_stay(host, photos):
    os.mkdir(host.folder)
    others = [os.path.join(host.folder, name) for name in ("precious.lmdb", "24x32-mine.lmdb", "notes.txt")]
    for path in others:
        with open(path, "wb") as file:
            file.write(bytes(4 << 20))
        os.utime(path, (1, 1))
    os.mkdir(os.path.join(host.folder, "mine.lmdb"))
    for size in ((60, 60), (62, 60), (64, 60)):
        host.batch(photos, size=size, gb=(1 << 20) / 2**30)
        assert host.batch(photos, size=size, gb=(1 << 20) / 2**30)[1] > 0
        host.end()
    assert [os.path.getsize(path) for path in others] == [4 << 20] * 3
    assert host.logged("cannot write") == []


# -------------------------------------------------------------------------------------------------- several sizes

def test_sizes_that_take_turns_are_all_kept(host, photos, monkeypatch):
    sizes = [(8 + number, 12) for number in range(cache_module.MAX_KINDS)]
    wanted = {size: host.decoded(photos, size=size) for size in sizes}
    for hits in (0, COUNT * len(sizes)):
        cache = host.worker()
        for name in sorted(wanted[sizes[0]]):
            for size in sizes:
                assert same(batch(photos, [name], size=size)[0], {name: wanted[size][name]})
        assert cache.hits == hits
        assert len(host.logged(" samples of this kind")) == len(sizes)      # each file was opened once
        del host.notes[:]
    host.end()
    assert sorted(host.notes) == ["cache %dx%d: %d samples copied, 0 decoded" % (size + (COUNT,))
                                  for size in sorted(sizes, key=str)]


def test_more_sizes_than_may_be_open_are_decoded_until_one_is_idle(host, photos):
    sizes = [(8 + number, 12) for number in range(cache_module.MAX_KINDS + 2)]
    wanted = {size: host.decoded(photos, size=size) for size in sizes}
    cache = host.worker()
    for _ in range(2):
        for size in sizes:
            assert same(batch(photos, size=size)[0], wanted[size])
    assert len(glob.glob(os.path.join(host.folder, "*.lmdb"))) == cache_module.MAX_KINDS
    assert len(host.logged("more than %d sizes at a time" % cache_module.MAX_KINDS)) == 1
    first = cache._kinds[sizes[0], "fast", False, limits.in_force() + formats.in_force()]
    thread = first._file
    first.used_s -= 2 * cache_module.IDLE_S
    cache._end_idle_at_s = 0.0
    kind(cache, job(photos, size=sizes[-1]))        # ends it, which takes its thread a moment
    thread.join()
    cache._end_idle_at_s = 0.0
    assert kind(cache, job(photos, size=sizes[-1])) and not kind(cache, job(photos, size=sizes[0]))


def test_what_waits_to_be_written_is_bounded_for_all_sizes_together(host, photos, monkeypatch):
    monkeypatch.setattr(CacheFile, "_store", lambda file: None)     # a disk that hangs
    monkeypatch.setattr(cache_module, "CLOSE_S", 0.0)
    monkeypatch.setattr(cache_module, "MAX_PENDING_BYTES", 100000)
    cache = host.worker()
    for size in ((24, 32), (32, 24), (30, 30)):
        batch(photos, size=size)
    waiting = sum(each.pending_bytes for each in cache._kinds.values())
    assert 100000 <= waiting <= 100000 + 3000


# ----------------------------------------------------------------------------------------------------------- problems

def may_open(cache):
    """As if enough time had passed since the last attempt."""
    for each in cache._kinds.values():
        each._open_at_s = 0.0


def test_files_of_the_cache_that_cannot_be_used_leave_no_descriptor(host, photos):
    host.batch(photos)
    host.end()
    with open(host.file, "rb") as held:              # as a backup program does
        fcntl.flock(held, fcntl.LOCK_EX)
        cache = host.worker()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            may_open(cache)
            batch(photos, ["00.png"])
        assert len(os.listdir("/proc/self/fd")) <= before + 1       # lmdb's own table of processes


@pytest.mark.parametrize("fault, removed", [(FileNotFoundError("test"), False), (lmdb.CorruptedError("test"), True)])
def test_file_with_a_fault_is_opened_again_later(host, photos, fault, removed):
    wanted, _ = host.batch(photos)
    cache = host.worker()
    assert same(batch(photos)[0], wanted) and cache.hits == COUNT
    file = file_of(cache)
    file.fault = fault
    kind(cache, job(photos))                         # does not wait for the thread
    file.join()
    assert not kind(cache, job(photos)) and bool(glob.glob(os.path.join(host.folder, "*.lmdb"))) != removed
    assert same(batch(photos)[0], wanted) and cache.hits == COUNT
    may_open(cache)
    assert kind(cache, job(photos)) and len(host.logged("damaged")) == removed


def test_no_file_is_opened_while_a_thread_may_have_it_open(host, photos, monkeypatch):
    """LMDB must not open a file twice in one process."""
    monkeypatch.setattr(cache_module, "CLOSE_S", 0.01)
    may_close, close = threading.Event(), CacheFile._close

    def slow_close(file):
        may_close.wait()
        close(file)
    monkeypatch.setattr(CacheFile, "_close", slow_close)
    cache = host.worker()
    assert kind(cache, job(photos))
    file = file_of(cache)
    cache.close()
    for _ in range(2):
        assert not kind(cache, job(photos))
        cache._end_idle(time.monotonic() + 1000)     # it is not forgotten by that
    assert kind(cache, job(photos, size=(32, 24)))   # another file
    may_close.set()
    file.join()
    may_open(cache)
    assert kind(cache, job(photos)) and len(host.notes) == 3      # the note of each opening


def test_after_a_crash_a_new_file_replaces_the_old_one(host, photos):
    wanted, _ = host.batch(photos)
    cache = host.worker(distrusted=True)
    for hits in (0, COUNT):
        assert same(batch(photos)[0], wanted) and cache.hits == hits
        cache.close()
    assert len(host.logged("which may be damaged: a worker that used it has crashed")) == 1


def test_folder_that_cannot_be_written(host, photos, tmp_path):
    wanted = host.decoded(photos)
    (tmp_path / "file").write_text("")
    host.folder = str(tmp_path / "file" / "cache")
    cache = host.worker()
    for _ in range(3):
        may_open(cache)                               # else it would not even try again
        assert same(batch(photos)[0], wanted)
    assert len(host.notes) == 1 and "Not a directory" in host.notes[0]
    with pytest.raises(OSError):
        cache_folder.check(host.folder, 1.0)


def test_folders_that_cannot_be_a_cache(tmp_path, monkeypatch):
    for gb in (0, -1, 2000, float("nan")):
        with pytest.raises(ConfigError, match="--cache-gb"):
            cache_folder.check(str(tmp_path), gb)
    with pytest.raises(ConfigError, match="must name a folder"):
        cache_folder.check("", 1)
    cache_folder.check(str(tmp_path), 1)
    assert cache_folder._filesystem("/proc") == "proc"
    monkeypatch.setattr(cache_folder, "NETWORK", ("proc", cache_folder._filesystem(str(tmp_path))))
    with pytest.raises(ConfigError, match="network filesystem"):
        cache_folder.check(str(tmp_path / "not" / "yet"), 1)
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("mode, words", [
    (0o777, r"other users can put files into it \(its mode is 777; chmod go-w takes that from them\)"),
    (0o2775, "other users can put files into it .its mode is 2775.*")])
def test_folder_that_others_may_write_is_refused_with_the_remedy(tmp_path, monkeypatch, mode, words):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setattr(safe_files, "_is_private_group", lambda gid: False)
    with pytest.raises(ConfigError, match="--cache .*/cache is not safe .*%s; name .*/cache/stoker-cache, wh" % words):
        cache_folder.check(str(folder), 1)
    cache_folder.check(str(folder / "stoker-cache"), 1)
    assert os.stat(str(folder / "stoker-cache")).st_mode & 0o777 == 0o700
    monkeypatch.setattr(safe_files, "_is_private_group", lambda gid: True)      # as many systems make for each user
    folder.chmod(0o775)
    cache_folder.check(str(folder), 1)
    folder.chmod(0o1777)                                                        # as /tmp, or the volume of a container
    cache_folder.check(str(folder), 1)


def test_the_group_of_a_single_user(monkeypatch):
    me = pwd.getpwuid(os.geteuid())
    for gid, name, members, is_private in ((me.pw_gid, me.pw_name, [], True), (me.pw_gid, me.pw_name, ["eve"], False),
                                           (me.pw_gid, "team", [], False), (me.pw_gid + 1, me.pw_name, [], False)):
        found = grp.struct_group((name, "x", gid, members))
        monkeypatch.setattr(grp, "getgrgid", lambda _, found=found: found)
        assert safe_files._is_private_group(gid) is is_private
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])                   # in a container
    assert not safe_files._is_private_group(me.pw_gid)


def test_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(str(folder), OTHER, OTHER)
    os.chmod(str(folder), 0o700)
    with pytest.raises(ConfigError, match="a folder of another user .number 65534.; name .*/cache-0, which"):
        cache_folder.check(str(folder), 1)


@pytest.mark.parametrize("made", ["lock", "link", "file", "lock of LMDB", "pipe"])
def test_files_of_others_in_a_folder_like_tmp(host, photos, made, monkeypatch):
    with shared_folder() as folder:
        host.folder = folder
        host.batch(photos)                                # knows the name
        name = os.path.basename(host.file)
        host.end()
        for each in os.listdir(folder):
            os.remove(os.path.join(folder, each))
        precious = str(photos / "00.png")
        before = os.stat(precious)
        path = os.path.join(folder, {"lock": "lock", "lock of LMDB": name + "-lock"}.get(made, name))
        if made == "pipe":
            os.mkfifo(path)
        else:
            as_other_user(lambda: os.symlink(precious, path) if made == "link" else open(path, "w").close())
        if made == "lock":
            with pytest.raises(ConfigError, match="of another user"):
                cache_folder.check(folder, 1)
        pixels, hits = host.batch(photos)
        assert same(pixels, host.decoded(photos)) and not hits
        assert host.logged("of another user") or made in ("link", "pipe", "lock of LMDB") and host.notes[-1:]
        assert os.stat(precious) == before
        assert os.path.lexists(path)
        host.end()


def test_making_room_passes_over_what_is_no_file_of_the_cache(tmp_path):
    folder = cache_folder.CacheFolder(str(tmp_path))
    names = ["8x8-fast-%016x.lmdb" % number for number in range(4)]
    os.mkfifo(str(tmp_path / names[0]))
    (tmp_path / "precious").write_text("precious")
    os.symlink("precious", str(tmp_path / names[1]))
    os.mkdir(str(tmp_path / names[2]))
    (tmp_path / names[3]).write_text("an old cache")
    with folder.locked():
        assert folder.remove_least_recently_used("") and not folder.remove_least_recently_used("")
    assert (tmp_path / "precious").exists() and not (tmp_path / names[3]).exists()
