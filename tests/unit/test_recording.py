"""What a run was: to JSON and back, without a worker. Records that are old, damaged, hostile, or of another run."""

import json
import os
import random
import shutil
import sys
import threading
import zipfile

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import ConfigError, DatasetError, StokerError
from stoker.pipeline.monitoring.pace import Pace
from stoker.pipeline.options import StreamOptions
from stoker.trainer.record import files as records
from stoker.trainer.record.folder import RunFolder
from stoker.trainer.record.recording import Recording
from stoker.trainer.record.replay import Replay
from stoker.trainer.run import prepare

#: Values of JSON that no record has where they are put.
ODD = [None, True, False, 0, -1, 7, 1 << 70, 0.5, -1e300, "", "x", "a:b", "/", "\0", "\udcff", [], [[]], [1, "x"], {},
       {"a": 1}, {"path": "/nowhere"}, {"listed": ""}, {"function": "os:getcwd"}, {"nameless": "<lambda>"}, "x" * 1000]


def by_name(epoch, random):
    return [random.randrange(6) for _ in range(10)]


def some(index, random, source):
    return [(index + 1) % len(source)]


def side(row):
    return row["side"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with some classes of files that only look like pictures, and tables beside them."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("cat/1.jpg", "cat/2.png", "cat/x_copy.jpg", "dog/3.jpg", "dog/4.jpg_", "dog/5.jpg", "owl/6.jpg",
                 "owl/7.jpg", "held/cat/8.jpg", "held/dog/9.jpg"):
        path = folder / ("held" if name.startswith("held") else "all") / name.replace("held/", "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    rows = [{"file": "all/cat/1.jpg", "side": "ab"[number % 2], "x": number / 4} for number in range(6)]
    (folder / "log.csv").write_text("file,side,x\n" + "".join("%(file)s,%(side)s,%(x)g\n" % row for row in rows))
    (folder / "log.tsv").write_text("file;side;x\n" + "".join(
        "%s;%s;%s\n" % (row["file"], row["side"], ("%g" % row["x"]).replace(".", ",")) for row in rows))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "list.txt").write_text("all/cat/1.jpg\nall/dog/3.jpg\nall/dog/5.jpg\n")
    return folder


OWN = "tests.support.rank_functions:each_by_itself"
#: name -> (data, the other arguments), for a fold of ``photos`` as the current folder.
RUNS = {
    "folder": lambda: ("all", {}),
    "classes": lambda: ("all", dict(generator="augmented", classes=["dog", "cat"], validation=0.5, image_size=(3, 4))),
    "classes, once": lambda: ("all", dict(classes=iter(["dog", "cat"]))),
    "names": lambda: ("all", dict(exclude="*_copy*", suffixes=["jpg_"], on_bad_image="replace",
                                  formats=["jpeg", "png"])),
    "word": lambda: ("all", dict(label_word="o", exif_rotate=True, decode="exact", drop_last=True)),
    "no labels": lambda: ("all", dict(generator=OWN, labels=False, order="sequential", partners=2)),
    "validation folder": lambda: ("all", dict(classes=["dog", "cat"], validation="held", seed=-3, epochs=5)),
    "below a root": lambda: ("all", dict(root=".")),
    "pass": lambda: ("all", dict(training=False, epochs=1, truncated="use", max_pixels=77, max_text_mb=3)),
    "csv": lambda: ("log.csv", dict(generator=OWN, validation=0.34, order=stoker.balanced("side", steps=3))),
    "csv with options": lambda: (stoker.csv("log.tsv", "all", delimiter=";", decimal=","),
                                 dict(generator=OWN, order=stoker.weighted("x"))),
    "csv with columns": lambda: (stoker.csv("log.csv", columns=["a", "b", "c"]), dict(generator=OWN)),
    "jsonl": lambda: ("log.jsonl", dict(generator=OWN, root="all", validation="log.jsonl")),
    "list of paths": lambda: ("list.txt", {}),
    "paths": lambda: (["all/cat/1.jpg", "all/dog/3.jpg"], {}),
    "files": lambda: (stoker.files("all/**/*.jpg", exclude="x_*"), dict(validation=stoker.files("held/**/*.jpg"))),
    "scanned": lambda: (stoker.scan_folder("all"), dict(validation=0.25)),
    "rows": lambda: ([{"x": number} for number in range(9)], dict(generator=OWN, validation=[{"x": 1}, {"x": 2}])),
    "rows, once": lambda: (({"x": number, "b": b"\xff", "n": np.float32(1)} for number in range(9)),
                           dict(generator=OWN, root="all", order=stoker.weighted([1, 0, 2, 0, 0, 0, 3, 0.5, 1], 4))),
    "number": lambda: (np.int64(10), dict(generator=OWN, validation=4, batch_size=np.int32(3))),
    "numerical": lambda: (10, dict(generator="numerical", validation=0.2)),
    "functions": lambda: ("log.csv", dict(generator=OWN, order=by_name, partners=some)),
    "key": lambda: ("log.csv", dict(generator=OWN, order=stoker.balanced(side))),
    "generator": lambda: ("all", dict(generator="stoker.workers.generators.example:grayscale")),
    "arrays": lambda: ("all", dict(generator="not_installed_here:f", labels=False, arrays={
        "x": ("float32", (stoker.UpTo(5, pad=-1), 3)), "y": "bool"})),
    "ranks": lambda: ("all", dict(rank=1, ranks=2)),
}


class FirstBatch:
    """A stream that hands out its first batch, as far as it matters here."""
    decoders = frozenset()

    def __init__(self, recording, plan):
        self.plan, self.pace = plan, Pace(1, [], 0.0)
        recording.watch(self)

    def take(self):
        self.pace.observers[0].taken(None, None, None, 0.0)


def record(place, data, options, audit=None, is_used=True, **stream):
    """The run of these arguments, recorded in ``place``. ``is_used``: it hands out a batch."""
    options = dict({"batch_size": 2, "epochs": 2}, **options)
    run = prepare(data, **options)
    first = FirstBatch(Recording(str(place), run, StreamOptions(audit=audit, **stream)), run.plan)
    if is_used:
        first.take()
    return run


def planned(run, plan=None):
    """All batches: the samples, with what a worker gets of them."""
    found = []
    plan = plan or run.plan
    for position in range(plan.positions):
        batch = plan.at(position)
        source = run.datasets.of(batch.training or not run.plan.training)
        found.append((batch, source.samples(batch.indices), [plan.partners_of(batch.training, batch.epoch, index)
                                                             for index in batch.indices]))
    return found


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_run_is_the_same_from_its_record(photos, tmp_path, monkeypatch, name):
    monkeypatch.chdir(photos)
    data, options = RUNS[name]()
    run = record(tmp_path / "record", data, options)
    monkeypatch.chdir(tmp_path)
    with Replay(tmp_path / "record", rank=options.get("rank")) as again:
        assert again.notes == ()
        assert again.run.fingerprint() == run.fingerprint()
        assert again.run.job == run.job and again.run.datasets.training.root == run.datasets.training.root
        assert planned(again.run) == planned(run)
        assert again.audit is None and again.audited(0) is None
    assert os.listdir(str(tmp_path / "record" / "..")) == ["record"]


@pytest.mark.parametrize("name", sorted(set(RUNS) - {"number", "numerical", "functions"}))
def test_a_run_whose_data_lies_elsewhere(photos, tmp_path, monkeypatch, name):
    """The whole folder was moved; all that the record knows of places is old."""
    shutil.copytree(str(photos), str(tmp_path / "then"))
    monkeypatch.chdir(tmp_path / "then")
    data, options = RUNS[name]()
    run = record(tmp_path / "record", data, options)
    expected, root = planned(run), run.datasets.training.root
    monkeypatch.chdir(tmp_path)
    (tmp_path / "then").rename(tmp_path / "now")
    where = root.replace("/then", "/now")
    with Replay(tmp_path / "record", root=where) as again:
        assert again.run.datasets.training.root == where
        assert planned(again.run, run.plan) == expected


def test_record_files_elsewhere_are_read_with_the_options_of_the_run(tmp_path):
    with zipfile.ZipFile(str(tmp_path / "a.zip"), "w") as archive:
        for number in range(6):
            archive.writestr("top/%s/%d.jpg" % ("ab"[number % 2], number), b"picture")
    run = record(tmp_path / "record", stoker.zip(str(tmp_path / "*.zip"), folder="top"), {"validation": 0.5})
    (tmp_path / "now").mkdir()
    (tmp_path / "a.zip").rename(tmp_path / "now" / "a.zip")
    with pytest.raises(DatasetError, match=r"no file matches \*\.zip in .*; if the run.*--data"):
        Replay(tmp_path / "record")
    for where in ("*.zip", "*", "a.zip"):
        with Replay(tmp_path / "record", data=str(tmp_path / "now" / where)) as again:
            assert again.run.datasets.training.classes == ("a", "b") and planned(again.run) == planned(run)


def test_a_run_that_raises_at_a_bad_file_is_replayed_without_it(photos, tmp_path):
    record(tmp_path / "record", str(photos / "all"), {"on_bad_image": "raise"})
    with Replay(tmp_path / "record") as again:
        assert again.run.job.on_bad_image == "skip"


def test_validation_data_that_is_gone_can_be_left_out(photos, tmp_path):
    shutil.copytree(str(photos), str(tmp_path / "data"))
    options = dict(classes=["dog", "cat"])
    record(tmp_path / "record", str(tmp_path / "data" / "all"), dict(options, validation=str(tmp_path / "data/held")))
    record(tmp_path / "share", str(tmp_path / "data" / "all"), dict(options, validation=0.5))
    shutil.rmtree(str(tmp_path / "data" / "held"))
    with pytest.raises(ConfigError, match="its validation data is not at .*held any more: say where it is now "):
        Replay(tmp_path / "record")
    with Replay(tmp_path / "record", validation=None) as again:
        assert list(again.evaluation(1)) == [] and again.run.plan.validation_size == 0
    shutil.copytree(str(photos / "held"), str(tmp_path / "data" / "held"))
    with Replay(tmp_path / "record", validation=str(tmp_path / "data" / "held")) as again:
        assert again.run.plan.validation_size == 2
    with pytest.raises(ConfigError, match="its validation split was 0.5, and is 0.0 now"):
        Replay(tmp_path / "share", validation=None)


def test_limits_of_a_picture_and_the_killers_are_those_of_the_run(photos, tmp_path):
    killer = {"data": "training", "number": 1, "step": None, "cpu_s": 0.0, "sample": "cat/2.png", "reason": "kills"}
    record(tmp_path / "record", str(photos / "all"), {}, picture_cpu_s=0.5, picture_memory_mb=77)
    (tmp_path / "record" / "killers.jsonl").write_text(json.dumps(killer) + "\n")
    with Replay(tmp_path / "record") as again:
        assert (again._options.picture_cpu_s, again._options.picture_memory_mb) == (0.5, 77)
        assert json.loads(again._killers.decode()) == killer and again._options.killers is None


# --------------------------------------------------------------------------------------------------- the folder is used

def test_ranks_that_start_at_the_same_time(photos, tmp_path):
    """Each finds no record, and writes one."""
    runs = [prepare(str(photos / "all"), "image", image_size=(8, 8), batch_size=6, rank=rank, ranks=6)
            for rank in range(6)]
    barrier, errors = threading.Barrier(len(runs)), []

    def begin(run, place):
        barrier.wait(60)
        try:
            Recording(place, run, StreamOptions())
        except ConfigError as error:
            errors.append(str(error))

    for attempt in range(5):
        place = str(tmp_path / str(attempt))
        threads = [threading.Thread(target=begin, args=(run, place)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert sorted(os.listdir(place)) == sorted(
            [records.RUN, "stoker-samples.gz", "stoker.json"] + [records.RANK % rank for rank in range(6)])
        with Replay(place) as again:
            assert again.run.fingerprint() == runs[0].fingerprint()


def test_another_run_is_refused_and_the_record_stays(photos, tmp_path):
    record(tmp_path, str(photos / "all"), {})
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(str(tmp_path))}
    assert sorted(before) == ["stoker-run.json", "stoker-samples.gz", "stoker.json"]
    with pytest.raises(ConfigError, match="holds the record of another run: its decode was \"fastest\", and this run "
                                          "has \"exact\"; record this run in another folder"):
        record(tmp_path, str(photos / "all"), {"decode": "exact"})
    with pytest.raises(ConfigError, match="holds the record of another run: the data is another; record"):
        record(tmp_path, str(photos / "held"), {})
    record(tmp_path, str(photos / "all"), {})
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_run_that_handed_out_no_batch_makes_room_for_another(photos, tmp_path):
    """As one whose port was in use: its options are changed, and it is opened again."""
    record(tmp_path, str(photos / "all"), {"decode": "exact"}, is_used=False)
    record(tmp_path, str(photos / "held"), {"seed": 3, "rank": 0, "ranks": 2}, is_used=False)
    record(tmp_path, str(photos / "held"), {"seed": 3, "rank": 1, "ranks": 2}, is_used=False)
    run = record(tmp_path, str(photos / "all"), {}, is_used=False)
    with Replay(tmp_path) as again:
        assert planned(again.run) == planned(run)
        assert again.notes == ("the run has handed out no batch yet, and until then another one may take its place in "
                               "%s" % tmp_path,)
    record(tmp_path, str(photos / "all"), {})
    with Replay(tmp_path) as again:
        assert planned(again.run) == planned(run) and again.notes == ()
    for is_used in (False, True):
        record(tmp_path, str(photos / "all"), {}, is_used=is_used)
        with pytest.raises(ConfigError, match="holds the record of another run: its decode was \"fastest\""):
            record(tmp_path, str(photos / "all"), {"decode": "exact"})


def test_a_run_with_checkpoints_makes_no_room(photos, tmp_path):
    record(tmp_path, str(photos / "all"), {}, is_used=False)
    (tmp_path / "model.ckpt-3.index").write_bytes(b"x")
    with pytest.raises(ConfigError, match="holds the record of another run: its seed"):
        record(tmp_path, str(photos / "all"), {"seed": 1})


def test_of_two_runs_that_are_open_in_one_folder_only_the_recorded_one_goes_on(photos, tmp_path):
    runs = [prepare(str(photos / "all"), batch_size=2, seed=seed) for seed in (0, 1)]
    former, later = [FirstBatch(Recording(str(tmp_path), run, StreamOptions()), run.plan) for run in runs]
    for _ in range(2):
        with pytest.raises(ConfigError, match="holds the record of another run: its seed was 1, and this run has 0"):
            former.take()
    later.take()
    later.take()
    shutil.rmtree(str(tmp_path))
    FirstBatch(Recording(str(tmp_path), runs[0], StreamOptions()), runs[0].plan)
    former.take()
    shutil.rmtree(str(tmp_path))
    former.take()                         # what the user removed is not needed


def test_a_rank_that_opens_later_does_not_make_room(photos, tmp_path):
    options = dict(batch_size=2, ranks=2)
    record(tmp_path, str(photos / "all"), dict(options, rank=0))
    record(tmp_path, str(photos / "all"), dict(options, rank=1), is_used=False)
    with pytest.raises(ConfigError, match="holds the record of another run: its seed"):
        record(tmp_path, str(photos / "all"), dict(options, rank=1, seed=1))


def test_a_record_that_was_not_finished_is_no_record(photos, tmp_path):
    record(tmp_path, str(photos / "all"), {})
    (tmp_path / "stoker-run.json").unlink()
    with pytest.raises(ConfigError, match=r"no readable stoker-run.json \(it is gone\): a run is recorded by"):
        Replay(tmp_path)
    run = record(tmp_path, str(photos / "held"), {})
    with Replay(tmp_path) as again:
        assert planned(again.run) == planned(run)


def test_a_record_that_cannot_be_read_is_not_replaced(photos, tmp_path):
    record(tmp_path, str(photos / "all"), {})
    (tmp_path / "stoker.json").write_bytes(b"{")
    with pytest.raises(ConfigError, match="holds a stoker.json that cannot be read .*: remove that file, or record"):
        record(tmp_path, str(photos / "all"), {})


@pytest.mark.parametrize("what", [7, "", b"x", None])
def test_what_is_no_folder(photos, what):
    with pytest.raises(ConfigError, match="record must be the path of a folder, not "):
        Recording(what, prepare(str(photos / "all")), StreamOptions())


def test_a_folder_that_cannot_be_made(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="folder of the run '.*file/x' cannot be used: Not a directory; choose "):
        record(tmp_path / "file" / "x", str(photos / "all"), {})
    with pytest.raises(ConfigError, match="folder of the run '.*gone' cannot be used: No such file"):
        Replay(tmp_path / "gone")


@pytest.mark.parametrize("name", records.FILES)
def test_a_link_under_the_name_of_a_record(photos, tmp_path, name):
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "record").mkdir()
    os.symlink(str(tmp_path / "victim"), str(tmp_path / "record" / name))
    with pytest.raises(ConfigError, match="is a link, and Stoker needs that name"):
        record(tmp_path / "record", str(photos / "all"), {})
    assert (tmp_path / "victim").read_text() == "untouched"


# ------------------------------------------------------------------------------------------ records that cannot be used

def change(folder, name, do):
    content = json.loads((folder / name).read_text())
    content.pop("checksum")
    do(content)
    with RunFolder(str(folder)) as opened:
        records.write_json(opened, name, content)


def test_a_folder_of_an_older_release(photos, tmp_path):
    record(tmp_path, str(photos / "all"), {})
    change(tmp_path, "stoker-run.json", lambda content: content.pop("arguments"))
    with pytest.raises(ConfigError, match="is of an older release, which did not record DATA and all arguments: start "
                                          "stoker-train once more with the options of that run and --checkpoint-dir "):
        Replay(tmp_path)


def test_the_record_of_another_version(photos, tmp_path):
    record(tmp_path, str(photos / "all"), {})
    change(tmp_path, "stoker-run.json", lambda content: content.update(version=2))
    with pytest.raises(ConfigError, match="is damaged: it is of another version"):
        Replay(tmp_path)
    (tmp_path / "stoker-run.json").write_text('{"of": "another program"}')
    with pytest.raises(ConfigError, match="is damaged: it has no version"):
        Replay(tmp_path)
    record(tmp_path / "2", str(photos / "all"), {})
    change(tmp_path / "2", "stoker.json", lambda content: content.update(plan=99))
    with pytest.raises(ConfigError, match="cannot be made again: its plan was 99, and is 1 now"):
        Replay(tmp_path / "2")


def test_weights_that_are_gone_or_damaged(photos, tmp_path):
    data, options = [{"x": 1}] * 9, dict(generator=OWN, order=stoker.weighted(range(9)))
    record(tmp_path, data, options)
    weights = (tmp_path / "stoker-weights.npy").read_bytes()
    for content in (weights[:-8] + b"\0" * 8, weights[:40], b"", None):
        (tmp_path / "stoker-weights.npy").unlink()
        if content is not None:
            (tmp_path / "stoker-weights.npy").write_bytes(content)
        with pytest.raises(ConfigError, match="the weights of its order are gone or damaged"):
            Replay(tmp_path)
        if content is None:
            (tmp_path / "stoker-weights.npy").write_bytes(weights)
    with Replay(tmp_path):
        pass


def test_data_in_memory_without_its_list(tmp_path):
    data = [{"x": number} for number in range(9)]
    record(tmp_path, data, dict(generator=OWN))
    (tmp_path / "stoker-samples.gz").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="has no list of the samples .*: give the data again"):
        Replay(tmp_path)
    with Replay(tmp_path, data=data) as again:
        assert len(again.run.source) == 9
    with pytest.raises(ConfigError, match="the data has changed, .* put the former data back, or give the data of the"):
        Replay(tmp_path, data=data[1:])


class Own:
    """A source of a user's own class."""
    root, classes, columns, has_paths = "", (), (), False

    def __len__(self):
        return 5

    def samples(self, indices):
        return tuple(stoker.Sample(index, "", -1) for index in indices)

    def rows(self, indices):
        return [None] * len(indices)

    def probes(self, count):
        return ()

    def fingerprint(self):
        return "0123456789abcdef"

    def row_hashes(self):
        return np.zeros(0, np.uint32)

    def summary(self):
        return "own"


def test_a_source_of_a_users_own_class_is_given_again(tmp_path, caplog):
    record(tmp_path, Own(), dict(generator=OWN))
    assert "or of a class of your own, so the run in" in caplog.text
    with pytest.raises(ConfigError, match="give the data again"):
        Replay(tmp_path)
    with Replay(tmp_path, data=Own()) as again:
        assert len(again.run.source) == 5


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user")
def test_another_users_record_does_not_say_where_code_lies(photos, tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "only_there.py").write_text(
        "import stoker\n@stoker.sample({'x': 'int32'})\ndef f(sample, random):\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    import only_there
    record(tmp_path / "record", 9, dict(generator=only_there.f))
    monkeypatch.undo()
    del sys.modules["only_there"]
    with Replay(tmp_path / "record") as again:
        assert [spec.name for spec in again.run.job.arrays] == ["x"]
    assert "only_there" not in sys.modules
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    os.chown(str(tmp_path / "record" / "stoker-run.json"), 12345, -1)
    imported = []
    monkeypatch.setattr("stoker.trainer.run.load_function", lambda name: imported.append(list(sys.path)) or (
        _ for _ in ()).throw(ConfigError("not found")))
    with Replay(tmp_path / "record"):
        pass
    assert imported and str(tmp_path / "code") not in imported[0]


def odd(chance, value, depth=0):
    """``value`` with another value somewhere in it."""
    if depth < 6 and isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(sorted(value))
        changed = dict(value)
        if chance.random() < 0.15:
            del changed[key]
        else:
            changed[key] = odd(chance, value[key], depth + 1)
        return changed
    if depth < 6 and isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return value[:place] + [odd(chance, value[place], depth + 1)] + value[place + 1:]
    return chance.choice(ODD)


@pytest.mark.parametrize("name", ["validation folder", "rows, once", "csv with options", "functions", "key", "ranks"])
def test_records_with_odd_values_are_one_sentence_or_the_same_run(photos, tmp_path, monkeypatch, name):
    monkeypatch.chdir(photos)
    data, options = RUNS[name]()
    run = record(tmp_path, data, options)
    expected = run.fingerprint()
    saved = {each: json.loads((tmp_path / each).read_text()) for each in ("stoker-run.json", "stoker.json")}
    refused = 0
    for seed in range(100):
        chance = random.Random(seed)
        each = chance.choice(sorted(saved))
        content = {key: value for key, value in saved[each].items() if key != "checksum"}
        (tmp_path / each).write_text(json.dumps(odd(chance, content)))
        try:
            with Replay(tmp_path) as again:
                assert again.run.fingerprint() == expected or each == "stoker.json"
                again.audited(0)
        except StokerError as error:
            refused += bool(str(error))
        (tmp_path / each).write_text(json.dumps(saved[each]))
    assert refused > 25


@pytest.mark.parametrize("name", ["stoker-run.json", "stoker.json", "stoker-samples.gz", "stoker-weights.npy"])
def test_a_record_that_is_torn_or_changed_in_a_byte_is_one_sentence_or_the_same_run(tmp_path, name):
    data = [{"x": number} for number in range(9)]
    run = record(tmp_path, data, dict(generator=OWN, order=stoker.weighted(range(9))))
    content, expected, refused = (tmp_path / name).read_bytes(), planned(run), 0
    damaged = [content[:len(content) * part // 8] for part in range(8)]
    for place in range(0, len(content), 1 + len(content) // 40):
        damaged.append(content[:place] + bytes([content[place] ^ 4]) + content[place + 1:])
    for each in damaged:
        (tmp_path / name).write_bytes(each)
        try:
            with Replay(tmp_path) as again:
                assert planned(again.run) == expected
        except StokerError as error:
            refused += bool(str(error))
    assert refused > 30
