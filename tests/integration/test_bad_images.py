"""Runs of the real command line over a folder with every kind of picture and of bad file, among four times as many
ordinary pictures."""

import os
import re

import pytest

from stoker.pipeline.errors import RunFailed
from stoker.pipeline.formats import FORMATS
from stoker.pipeline.monitoring.bad_samples import escaped
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.folder import scan_folder
from tests.support.bad_pictures import BAD, LATE, ODD, Folder, photo
from tests.support.formats import WEBP_IS_SAFE
from tests.support.processes import interpreter, opened, workers_program
from tests.support.training import Finished, Trainer, audit, finished

pytest.importorskip("tensorflow")

WEBPS = sum(name.endswith(".webp") for name in ODD)
BATCH, EPOCHS, SEED, SPLIT = 8, 2, 19, 0.2     # by this seed, steps 0, 1 and 2 have no file of BAD


class Run:
    """How a run over a ``Folder`` ended, its audit, and its list of bad files as {path: (class, reason, step)}."""

    def __init__(self, tmp_path, name, *more, workers=2, python=None, late=True):
        here = tmp_path / name
        here.mkdir()
        self.folder = Folder(here, WEBP_IS_SAFE or python is not None)
        self.dataset = scan_folder(self.folder.root)
        self.options = [self.folder.root, "--image-size", 16, "--batch-size", BATCH, "--epochs", EPOCHS, "--seed", SEED,
                        "--validation-split", SPLIT, "--workers", 0, "--audit", here / "audit", "--checkpoint-dir",
                        here / "checkpoints", "--formats", ",".join(FORMATS)]
        with Trainer(here / "cwd", *(self.options + list(more))) as trainer:
            trainer.wait_until(lambda: "waiting for workers: " in trainer.stdout, "the address for the workers")
            if late:
                self.folder.after_the_scan()
            address = re.search(r"--connect (\S+)", trainer.stdout).group(1)
            with workers_program(address, "--once", "--processes", str(workers), python=python) as program:
                self.ended = Finished(trainer)
                assert program.wait() == 0, program.text
        self.audit = audit(here / "audit")
        self.content = [{name: line[name] for name in line if name not in ("worker", "attempt")} for line in self.audit]
        self.path = here / "checkpoints" / "bad-samples.tsv"
        self.listed = {line[0]: line[1:] for line in self.lines()}
        self.bad = {escaped(path): reason for path, reason in self.folder.bad.items()}

    def lines(self):
        """Of the list, as fields, without the header."""
        lines = [line.split("\t") for line in self.path.read_bytes().decode().splitlines()]
        assert lines[0] == ["path", "class", "reason", "step"]
        assert len({line[0] for line in lines}) == len(lines)
        return lines[1:]

    def plan(self):
        """(the plan, training paths that are bad, by index)."""
        training, validation = self.dataset.split(SPLIT, SEED)
        return (Plan(len(training), BATCH, EPOCHS, SEED, len(validation)),
                {index for index, path in enumerate(training.paths) if path in self.folder.bad})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs by name: each is made once."""
    made, folder = {}, tmp_path_factory.mktemp("runs")

    def run(name, *options, **more):
        if name not in made:
            made[name] = Run(folder, name, *options, **more)
        return made[name]
    return run


def skipping(runs, workers=2):
    return runs("skip-%d" % workers, "--decode", "exact", workers=workers)


def replacing(runs, workers=2):
    return runs("replace-%d" % workers, "--on-bad-image", "replace", "--exif-rotate", "--generator", "augmented",
                workers=workers)


def lists_every_bad_file(run):
    assert set(run.listed) == set(run.bad)
    for path, (name, reason, step) in run.listed.items():
        assert name == path.split("/")[0] and re.match(run.bad[path], reason), (path, reason)
        assert 0 <= int(step) <= len(run.audit)
    steps = [int(line[3]) for line in run.lines()]
    assert steps == sorted(steps)
    assert "%d bad files (listed in %s)" % (len(run.bad), run.path) in run.ended.stdout.splitlines()[-3], run.ended


def test_the_folder_holds_what_it_should(tmp_path):
    folder = Folder(tmp_path)
    dataset = scan_folder(folder.root)
    folder.after_the_scan()
    assert len(folder.bad) == len(BAD) + len(LATE) + WEBPS * (not WEBP_IS_SAFE)
    assert set(folder.bad) <= set(dataset.paths)
    assert len(dataset) == 5 * (len(ODD) + len(BAD) + len(LATE)) + 2       # one in a folder named .jpg, and a link
    assert "left/folder.jpg/inside.png" in dataset.paths
    assert "right/empty.png" in dict(dataset.left_out)


def test_skip_shrinks_each_batch_by_its_bad_files(runs):
    run = skipping(runs)
    assert run.ended.code == 0, run.ended
    lists_every_bad_file(run)
    plan, bad = run.plan()
    assert [line["step"] for line in run.audit] == list(range(plan.steps))
    for line in run.audit:
        assert line["indices"] == list(plan.training_indices(line["step"]))
        assert line["skipped"] == [index for index in line["indices"] if index in bad]
        assert line.get("used", line["indices"]) == [index for index in line["indices"] if index not in bad]
    assert any(line["skipped"] for line in run.audit) and not all(line["skipped"] for line in run.audit)


def test_replace_keeps_each_batch_of_training_whole(runs):
    run = replacing(runs)
    assert run.ended.code == 0, run.ended
    lists_every_bad_file(run)
    plan, bad = run.plan()
    for line in run.audit:
        used = line.get("used", line["indices"])
        assert len(used) == len(set(used)) == len(line["indices"])
        assert not bad & set(used)
        kept = [(place, index) for place, index in enumerate(line["indices"]) if index not in bad]
        assert [(place, used[place]) for place, _ in kept] == kept         # each in its own place
        replacements = [batch.replacements for batch in map(plan.at, range(plan.positions))
                  if batch.training and batch.step == line["step"]][0]
        good = [index for index in replacements if index not in bad]
        replacements = [index for index in used if index not in line["indices"]]
        assert replacements == good[:len(line["indices"]) - len(kept)]
    # evaluation shrinks: no sample may count twice
    held_out = len([path for path in run.dataset.split(SPLIT, SEED)[1].paths if path not in run.folder.bad])
    assert run.ended.stdout.count("(%d samples)" % held_out) == EPOCHS, run.ended


@pytest.mark.parametrize("policy", [skipping, replacing])
def test_any_number_of_workers(runs, policy):
    one, three = policy(runs, 1), policy(runs, 3)
    assert one.content == three.content == policy(runs).content
    assert one.lines() == three.lines() == policy(runs).lines()


def test_raise_ends_at_the_first_bad_file_and_skip_goes_on(tmp_path):
    # without the files that change later: a scan that left them out would make it another dataset
    run = Run(tmp_path, "raise", "--on-bad-image", "raise", late=False)
    plan, bad = run.plan()
    first = next(step for step in range(plan.steps) if bad & set(plan.training_indices(step)))
    indices = [index for index in plan.training_indices(first) if index in bad]
    paths = [run.dataset.split(SPLIT, SEED)[0].paths[index] for index in indices]
    assert run.ended.code == 1, run.ended
    last = run.ended.stderr.splitlines()[-1]
    assert last.startswith("stoker-train: error: %r, in step %d of epoch 1, is a bad file" % (paths[0], first)), last
    assert re.search(run.folder.bad[paths[0]], last) and "--on-bad-image skip" in last
    assert "Traceback" not in run.ended.stderr, run.ended
    assert first > 0 and [line["step"] for line in run.audit] == list(range(first))
    assert [line[0] for line in run.lines()] == [escaped(path) for path in paths]

    again = finished(tmp_path / "again", *run.options + ["--workers", 2, "--on-bad-image", "skip"])
    assert again.code == 0, again
    assert [line["step"] for line in audit(tmp_path / "raise" / "audit")] == list(range(plan.steps))
    assert {line[0] for line in run.lines()} == set(run.bad)
    refused = finished(tmp_path / "refused", *run.options + ["--workers", 1, "--on-bad-image", "replace"])
    assert refused.code == 2 and 'has "replace"' in refused.stderr, refused


def test_old_and_new_workers_name_the_same_files(runs, tmp_path, python36):
    if interpreter("STOKER_TEST_WORKER_PYTHON") is None:
        pytest.skip("STOKER_TEST_WORKER_PYTHON names no newer Python")
    old = runs("skip-1", "--decode", "exact", workers=1)
    new = Run(tmp_path, "new", "--decode", "exact", python=interpreter("STOKER_TEST_WORKER_PYTHON"))
    assert new.ended.code == 0, new.ended
    lists_every_bad_file(new)
    # WebPs are bad only where libwebp is old, and their reason says so
    assert sum(path.endswith(".webp") for path in old.listed) == WEBPS * (not WEBP_IS_SAFE)
    differ = {path for path in new.listed if old.listed[path] != new.listed[path]}
    assert [line[::3] for line in old.lines() if not line[0].endswith(".webp")] == [line[::3] for line in new.lines()]
    # Pillow's own words changed
    assert {os.path.basename(path) for path in differ} <= {"huge-text.png", "header-only.jpg", "truncated.png"}


def linked(tmp_path):
    """Good pictures, half of them links to somewhere else."""
    root = tmp_path / "linked"
    for number in range(8):
        folder = root / ("a", "b")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        place = tmp_path / ("%d.png" % number) if number < 4 else folder / ("%d.png" % number)
        ODD["one-pixel.png"](str(place))
        if number < 4:
            (folder / ("%d.png" % number)).symlink_to(str(place))
    return str(root)


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_out_are_followed_if_the_job_wants_it(tmp_path, follow_links):
    with opened(linked(tmp_path), tmp_path / "audit", workers=1, batch_size=8, follow_links=follow_links,
                bad_samples=str(tmp_path / "bad")) as run:
        run.take_all()
    batch, = run.batches
    assert len(batch) == (8 if follow_links else 4)
    assert not batch.skipped and len((tmp_path / "bad").read_text().splitlines()) == 1


def test_a_worker_that_may_not_follow_links_reports_it_and_makes_no_other_batches(tmp_path):
    options = {"batch_size": 8, "follow_links": True, "worker_timeout_s": 3.0}
    with opened(linked(tmp_path), tmp_path / "audit", workers=0, **options) as run:
        with workers_program(run.stream.address, "--processes", "2"):
            with pytest.raises(RunFailed, match="may not: start it with --follow-links"):
                run.take_all()


def test_a_worker_with_the_wrong_folder_skips_nothing(pictures, tmp_path):
    options = {"image_size": 16, "batch_size": 8, "epochs": 10, "prefetch": 4}
    with opened(pictures, tmp_path / "reference", workers=1, **options) as run:
        run.take_all()
    reference = run.content()
    with opened(pictures, tmp_path / "audit", workers=0, **options) as run, \
            workers_program(run.stream.address, "--processes", "1"):
        run.joined(1)
        with workers_program(run.stream.address, "--processes", "1", "--data", str(tmp_path)) as wrong:
            wrong.wait_for_line("is not the dataset's folder")
            run.take_all()
    assert run.content() == reference and not run.stream.skipped


# ------------------------------------------------------------------------------------------------ through the library

@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path)
    made.dataset = scan_folder(made.root)
    made.after_the_scan()
    return made


STREAM = {"formats": FORMATS, "image_size": 16, "batch_size": BATCH, "epochs": EPOCHS, "seed": SEED,
          "validation_split": SPLIT}


@pytest.mark.parametrize("policy, done, step", [("skip", 9, 4), ("replace", 24, 21), ("skip", 40, 30)])
def test_the_list_does_not_show_an_interruption(folder, tmp_path, policy, done, step):
    """``done`` batches are taken, but the checkpoint is of ``step``."""
    def run(name, count=None, start_step=0):
        with opened(folder.dataset, tmp_path / ("audit-" + name), workers=2, start_step=start_step, on_bad_image=policy,
                    bad_samples=str(tmp_path / name), **STREAM) as run:
            assert count is None or run.stream.plan.position_of(step) <= count
            run.take_all() if count is None else run.take(count)
        return run.stream.bad_files
    whole = run("whole")
    run("parts", done)
    assert run("parts", start_step=step) == whole == len(folder.bad)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert len((tmp_path / "whole").read_bytes().splitlines()) == 1 + whole


def test_raise_comes_in_order_in_an_evaluation_too_and_again(folder, tmp_path):
    training, validation = folder.dataset.split(SPLIT, SEED)
    for index, path in enumerate(training.paths):        # leave the bad ones to the evaluation
        if path in folder.bad:
            place = os.path.join(folder.root, path)
            if os.path.lexists(place):
                (os.rmdir if os.path.isdir(place) else os.remove)(place)
            photo(index).save(place, "PNG")         # whatever its name: WebPs may be bad
    with opened(folder.dataset, tmp_path / "audit", workers=2, on_bad_image="raise", bad_samples=str(tmp_path / "bad"),
                **STREAM) as run:
        for _ in range(2):
            with pytest.raises(RunFailed, match="^'.*', in the evaluation before step %d, after epoch 1, is a bad file"
                               % run.stream.plan.steps_per_epoch):
                run.take_all()
        assert [batch.step for batch in run.batches if batch.training] == list(range(run.stream.plan.steps_per_epoch))
    assert 2 <= len((tmp_path / "bad").read_text().splitlines()) <= 1 + BATCH
