"""The cache, through the generators that use it: what is served is what decoding gives, whatever became of the files,
of the cache's own file, and of the processes that had it open."""

import fcntl
import glob
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage import folder as storage
from stoker.workers import cache_folder, images
from stoker.workers.cache import CLOSE_S, Cache
from tests.support.caching import IN_TRANSACTION, SIZE, WORKER, batch, digest, draw, entries, in_use, job, same
from tests.support.processes import LIMIT_S, ROOT, wait_for

COUNT = 20


class Host:
    """One worker after the other, with one folder for their cache."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.notes = []

    def worker(self, gb=1.0, **options):
        """The next one; the last one has left in good order."""
        self.end()
        in_use.cache = Cache(self.folder, gb, lambda text, error: self.notes.append(text), **options)
        return in_use.cache

    def end(self):
        if in_use.cache is not None:
            in_use.cache.close()
            in_use.cache = None

    def batch(self, root, names=None, **options):
        """(pixels by name, samples that were copied) by a fresh worker; what it decoded is stored."""
        cache = self.worker(options.pop("gb", 1.0), crashed=options.pop("crashed", False))
        found, bad = batch(root, names, **options)
        return found, cache.hits

    def decoded(self, root, names=None, **options):
        """The same without a cache."""
        self.end()
        return batch(root, names, **options)[0]

    @property
    def file(self):
        path, = glob.glob(os.path.join(self.folder, "*.lmdb"))
        return path

    @property
    def bytes(self):
        return sum(os.path.getsize(os.path.join(self.folder, name)) for name in os.listdir(self.folder))

    def said(self, text):
        return [note for note in self.notes if text in note]


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_RACY_S", 0.0)       # the files of a test are made the moment before
    host = Host(tmp_path / "cache")
    yield host
    host.end()


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(COUNT):
        draw(root / ("%02d.png" % number), number)
    return root


def test_what_was_decoded_is_copied_and_no_file_read(host, photos, monkeypatch):
    wanted = host.decoded(photos)
    assert host.batch(photos)[1] == 0
    monkeypatch.setattr(images, "read", None)
    found, hits = host.batch(photos)
    assert hits == COUNT and same(found, wanted)
    assert host.said(": %d samples of this kind" % COUNT)


def test_within_one_process_too(host, photos):
    wanted, cache = host.decoded(photos), host.worker()
    deadline = time.monotonic() + LIMIT_S
    while cache.hits < COUNT and time.monotonic() < deadline:    # the writer takes its time
        assert same(batch(photos)[0], wanted)
    assert cache.hits >= COUNT


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
    assert list(batch(photos)[1]) == ["text.png"] and (cache.hits, cache.misses) == (COUNT, 1)


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


def test_another_decoder_has_another_file(photos, host, monkeypatch):
    from PIL import features
    from stoker.workers import cache as module
    name = module._name(SIZE, "fast", False)
    real = features.version
    monkeypatch.setattr(features, "version", lambda feature: "0.1" if feature == "jpg" else real(feature))
    for function in (module._name, module._decoder):
        function.cache_clear()
    other = module._name(SIZE, "fast", False)
    for function in (module._name, module._decoder):
        function.cache_clear()
    assert name != other and name.split("-")[:2] == other.split("-")[:2]


def test_file_changed_just_now_is_not_kept(photos, tmp_path):
    host = Host(tmp_path / "cache")
    draw(photos / "07.png", 7)
    host.batch(photos)
    assert host.batch(photos)[1] < COUNT              # the others may be old enough by now
    deadline = time.monotonic() + LIMIT_S
    while host.batch(photos)[1] < COUNT:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert time.time() - os.stat(str(photos / "07.png")).st_ctime > 2
    host.end()


def test_file_that_changes_while_it_is_read_is_not_relied_on(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_RACY_S", -1e9)
    path = str(tmp_path / "growing")
    with open(path, "wb") as file:
        file.write(bytes(64 << 20))
    assert storage.read(path)[1] is not None
    ended = threading.Event()

    def change():
        with open(path, "r+b", 0) as file:
            while not ended.is_set():
                file.write(b"1")
                os.utime(path)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        # nearly always; but on a busy machine a read may find the other thread asleep
        assert None in [storage.read(path)[1] for _ in range(10)]
    finally:
        ended.set()
        thread.join()


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
    assert bad == {"out.png": "a link that leads out of the data folder"}
    assert "within.png" in found and cache.hits == COUNT + 1


def test_file_that_lies_elsewhere_by_now(host, photos, tmp_path):
    (photos / "sub").mkdir()
    draw(photos / "sub" / "picture.png", 5)
    names = ["00.png", "sub/picture.png"]
    host.batch(photos, names)
    assert host.batch(photos, names)[1] == 2
    # the file itself does not change by this, neither do its times
    os.rename(str(photos / "sub"), str(tmp_path / "sub"))
    os.symlink(str(tmp_path / "sub"), str(photos / "sub"))
    host.worker()
    assert batch(photos, names)[1] == {"sub/picture.png": "a link that leads out of the data folder"}


# ------------------------------------------------------------------------------------------------------------ damage

def test_damaged_entries_are_decoded_anew(host, photos):
    wanted, _ = host.batch(photos)
    host.end()
    content = bytearray(open(host.file, "rb").read())
    for pixels in wanted.values():
        content[content.index(pixels.tobytes()) + 100] ^= 4
    with open(host.file, "wb") as file:
        file.write(content)
    found, hits = host.batch(photos)
    assert hits == 0 and same(found, wanted)
    assert len(host.said("an entry is damaged")) == 1
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


@pytest.mark.parametrize("seed", range(4))
def test_garbage_in_the_file(host, photos, seed):
    """A process may die of it; those after it may not, and none may give another picture."""
    wanted, _ = host.batch(photos)
    host.end()
    choice = random.Random(seed)
    with open(host.file, "r+b") as file:
        pages = os.path.getsize(host.file) // 4096
        small = [page for page in range(2, pages) if _page(file, page)[10] & 3]     # branches and leaves, no pixels
        for page in small + choice.sample(range(pages), pages // 4):
            file.seek(page * 4096 + choice.choice([0, 8, 12, 16]) + choice.randrange(60))
            file.write(bytes(choice.randrange(256) for _ in range(choice.choice([1, 8, 200]))))
    crashed = False
    for _ in range(6):
        worker = subprocess.run([sys.executable, "-c", WORKER, host.folder, str(photos), "crashed" * crashed], cwd=ROOT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        assert worker.returncode in (0, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT), worker.stderr.decode()
        crashed = worker.returncode != 0
        if worker.returncode == 0:
            assert worker.stdout.splitlines()[-1] == digest(wanted), worker.stdout.decode()
    assert not crashed and int(worker.stdout.split()[-2]) == COUNT


def _page(file, number):
    file.seek(number * 4096)
    return file.read(4096)


def test_file_that_somebody_threw_away(host, photos):
    wanted, cache = host.decoded(photos), host.worker()
    batch(photos, ["00.png"])
    wait_for(lambda: entries(cache) == 1, "the first entry")
    for path in glob.glob(os.path.join(host.folder, "*.lmdb*")):
        os.remove(path)
    deadline = time.monotonic() + LIMIT_S
    while entries(cache) < COUNT:                    # in the new one
        assert same(batch(photos)[0], wanted) and time.monotonic() < deadline
    assert os.path.exists(host.file)


# ------------------------------------------------------------------------------------------------------------- limits

def test_full_cache_stays_within_its_limit_and_says_so_once(host, photos):
    limit = 200 << 10
    wanted, gb = host.decoded(photos), limit / 2**30
    for _ in range(4):
        found, hits = host.batch(photos, gb=gb)
        assert same(found, wanted) and host.bytes <= limit
        host.end()
        assert host.bytes <= limit
    assert 5 < hits < COUNT
    assert len(host.said("full: ")) <= 4 and "all 20 or more of the dataset about" in host.said("full: ")[0]


def test_changed_files_are_kept_by_a_full_cache(host, photos):
    gb = (1 << 19) / 2**30
    many = ["%02d.png" % number for number in range(COUNT)]
    sizes = dict(size=(100, 100))
    hits = [host.batch(photos, many, gb=gb, **sizes)[1] for _ in range(2)][-1]
    assert host.said("full: ") and hits < COUNT
    kept = [name for name in many if host.batch(photos, [name], gb=gb, **sizes)[1]]
    draw(photos / kept[0], 777)
    wanted = host.decoded(photos, kept, **sizes)
    assert host.batch(photos, kept, gb=gb, **sizes)[1] == len(kept) - 1
    found, hits = host.batch(photos, kept, gb=gb, **sizes)
    assert hits == len(kept) and same(found, wanted)


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


def test_what_is_not_the_caches_own_stays(host, photos):
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
    assert host.said("cannot write") == []


# ------------------------------------------------------------------------------------------------------------ trouble

@pytest.mark.parametrize("name", ["caf\u00e9", "caf\udce9"])
def test_folder_with_any_name(photos, tmp_path, name):
    """As bytes, for not every name is text in every locale."""
    folder = os.path.join(os.fsencode(str(tmp_path)), name.encode("utf-8", "surrogateescape"))
    script = "import os, sys\nsys.argv[1] = os.fsdecode(%r)\n" % folder + WORKER
    for hits in (0, COUNT):
        worker = subprocess.run([sys.executable, "-c", script, "", str(photos), ""], cwd=ROOT, timeout=LIMIT_S,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, LC_ALL="C"))
        assert worker.returncode == 0, worker.stderr.decode()
        assert int(worker.stdout.split()[-2]) == hits


def test_a_look_through_that_was_killed_is_no_damage(host, photos):
    host.batch(photos)
    host.end()
    open(cache_folder.trial(host.file), "wb").close()
    assert host.batch(photos)[1] == COUNT and host.said("damaged") == []


def test_files_of_the_cache_that_cannot_be_used_leave_no_descriptor(host, photos):
    host.batch(photos)
    host.end()
    with open(host.file, "rb") as held:              # as a backup program does
        fcntl.flock(held, fcntl.LOCK_EX)
        cache = host.worker()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            cache._open_at_s = 0.0
            batch(photos, ["00.png"])
        assert len(os.listdir("/proc/self/fd")) <= before + 1       # lmdb's own table of processes


def test_a_fault_found_while_the_writer_is_busy_holds_up_nobody(host, photos):
    host.batch(photos)
    cache = host.worker()
    wanted = batch(photos)[0]
    assert cache.hits == COUNT
    with cache._using:
        cache._fault = FileNotFoundError("somebody threw it away")
        before_s = time.monotonic()
        for _ in range(200):
            assert not cache.use(job(photos))
        assert time.monotonic() - before_s < 100 * CLOSE_S
    assert same(batch(photos)[0], wanted)
    assert same(batch(photos)[0], wanted) and cache.hits >= COUNT

def test_folder_that_cannot_be_written(host, photos, tmp_path):
    wanted = host.decoded(photos)
    (tmp_path / "file").write_text("")
    host.folder = str(tmp_path / "file" / "cache")
    cache = host.worker()
    for _ in range(3):
        cache._open_at_s = 0.0                        # else it would not even try again
        assert same(batch(photos)[0], wanted)
    assert len(host.notes) == 1 and "Not a directory" in host.notes[0]
    with pytest.raises(OSError):
        cache_folder.check(host.folder, 1.0)


def test_disk_that_is_full(host, photos):
    """A limit on the size of files is what a test can have of it."""
    script = ("import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
              "resource.setrlimit(resource.RLIMIT_FSIZE, (90000, 90000))\n") + WORKER
    wanted = host.decoded(photos)
    for _ in range(2):
        worker = subprocess.run([sys.executable, "-c", script, host.folder, str(photos), ""], cwd=ROOT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        assert worker.returncode == 0, worker.stderr.decode()
        lines = worker.stdout.splitlines()
        assert lines[-1] == digest(wanted) and len([line for line in lines if b"cannot write: " in line]) == 1
    assert same(host.batch(photos)[0], wanted) and host.batch(photos)[1] == COUNT


def _stopped_amid_a_transaction(host, photos):
    process = subprocess.Popen([sys.executable, "-c", IN_TRANSACTION, host.folder, str(photos)], cwd=ROOT,
                               stdout=subprocess.PIPE)
    for line in process.stdout:
        if line == b"amid\n":
            return process
    raise AssertionError("it ended")


def test_process_killed_amid_a_transaction(host, photos):
    host.batch(photos, ["%02d.png" % number for number in range(10)])
    host.end()
    for _ in range(3):
        process = _stopped_amid_a_transaction(host, photos)
        process.kill()
        process.wait()
        process.stdout.close()
    wanted = host.decoded(photos)
    found, hits = host.batch(photos)
    assert hits == 10 and same(found, wanted)
    cache = host.worker()
    assert same(batch(photos)[0], wanted) and cache.hits == COUNT
    assert entries(cache) == COUNT                   # and nothing of what was not committed
    assert not [line for line in cache._file.env.readers().splitlines() if str(process.pid) in line]
    assert host.said("damaged") == []


def test_process_suspended_amid_a_transaction_holds_up_nobody(host, photos):
    wanted = host.decoded(photos)
    host.batch(photos, ["%02d.png" % number for number in range(10)])
    cache = host.worker()
    batch(photos, ["00.png"])
    process = _stopped_amid_a_transaction(host, photos)
    try:
        process.send_signal(signal.SIGSTOP)
        before_s = time.monotonic()
        for _ in range(20):
            assert same(batch(photos)[0], wanted)
        assert cache.hits >= 10 * 20 + 1
        host.end()
        assert time.monotonic() - before_s < LIMIT_S
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert same(host.decoded(photos), wanted)
    host.batch(photos)
    assert host.batch(photos)[1] == COUNT


def test_without_lmdb_the_error_names_the_command(tmp_path):
    script = ("import sys; sys.modules['lmdb'] = None\nfrom stoker.workers.__main__ import main\n"
              "sys.exit(main(['--connect', 'tcp://127.0.0.1:1', '--cache', %r]))" % str(tmp_path / "cache"))
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, timeout=LIMIT_S)
    assert run.returncode == 2 and b"%s -m pip install lmdb" % sys.executable.encode() in run.stderr
    assert b"Traceback" not in run.stderr


def test_without_the_option_lmdb_is_not_imported():
    script = "import sys, stoker.workers.process, stoker.workers.__main__\nassert 'lmdb' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=LIMIT_S)


def test_what_cannot_be_a_cache(tmp_path, monkeypatch):
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
