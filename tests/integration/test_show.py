"""stoker-show as its users run it: on recorded runs of real workers, with hostile names of files, and with Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image

import stoker
from stoker.trainer.record.replay import Replay
from tests.integration.conftest import draw
from tests.support.documents import ROOT, block
from tests.support.training import Finished, Trainer, finished

HOSTILE = b"left/<script>alert(1)<!-- \n\x1b[31m \xff.png"


class Show(Trainer):
    """One run of ``stoker-show``."""
    module = "stoker.inspection.show"


def shown(folder, *options, **environment):
    """Runs it to its end."""
    with Show(folder, *options, **environment) as program:
        return Finished(program)


def recorded(folder, data, generator="augmented", name="run", audit=True, **options):
    """A finished run, recorded below ``folder``; the path of its record."""
    path = str(folder / name)
    options = dict(dict(image_size=32, batch_size=16, epochs=3, workers=2), **options)
    with stoker.open_stream(data, generator, record=path, audit=path + ".jsonl" if audit else None,
                            **options) as stream:
        for _ in stream:
            pass
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 pictures; one with a hostile name, one of a single pixel, and one that is bad. Not to be changed."""
    root = str(tmp_path_factory.mktemp("photos"))
    draw(root, "png", 21, (48, 64))
    os.rename(os.path.join(root, "left/000.png").encode(), os.path.join(root.encode(), HOSTILE))
    Image.new("RGB", (1, 1), (9, 200, 30)).save(os.path.join(root, "right", "pixel.png"))
    with open(os.path.join(root, "right", "bad.png"), "wb") as file:
        file.write(b"no picture")
    return root


@pytest.fixture
def run(tmp_path, photos):
    return recorded(tmp_path, photos, on_bad_image="replace", validation=0.2)


def test_a_step(run, tmp_path):
    result = shown(tmp_path, run, "--step", 1)
    assert result.code == 0, result
    assert "step 1, epoch 0" in result.stdout and "as in the audit" in result.stdout
    assert Image.open(str(tmp_path / "step-1.png")).size[0] >= 1200
    assert result.stdout.endswith("in step-1.png\n") and "Traceback" not in result.stderr


def test_all_steps_by_another_python(run, tmp_path, worker_python):
    """PNG files of the size that is used: the same bytes with any Pillow. The pages tell of what was replaced."""
    result = shown(tmp_path, run, "--step", "0:6", "-o", "all.html", "--workers", 3,
                   *["--worker-python", worker_python] if worker_python else [])
    assert result.stdout.count("as in the audit") == 6 and result.code == 0, result
    page = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert page.count("replaced by #") == 3 and page.count("in place of #") == 3
    assert "&lt;script&gt;alert(1)&lt;!-- \\n\\x1b[31m \\xff.png" in page and "<script" not in page
    assert "\x1b" not in result.stdout and "\\x1b[31m" in result.stdout + page


def test_a_run_of_stoker_train(photos, tmp_path):
    """Its checkpoint folder is enough; the data has moved since."""
    data = tmp_path / "data"
    shutil.copytree(photos, str(data))
    trained = finished(tmp_path, data, "--image-size", 32, "--batch-size", 8, "--checkpoint-dir", "run",
                       "--audit", "audit.jsonl", "--generator", "augmented", "--workers", 1)
    assert trained.code == 0, trained
    data.rename(tmp_path / "moved")
    result = shown(tmp_path, "run", "--step", "0:2")
    assert result.code == 2 and "--root" in result.stderr, result
    result = shown(tmp_path, "run", "--step", "0:2", "--root", "moved", "-o", "train.png")
    assert result.code == 0 and result.stdout.count("as in the audit") == 2, result


def test_a_changed_file(run, photos, tmp_path):
    """It is no other data by its name, so the batch is made, and is another one."""
    moved = tmp_path / "moved"
    shutil.copytree(photos, str(moved))
    line = json.loads(open(run + ".jsonl").readline())
    for name in os.listdir(str(moved / "right")):
        if name != "bad.png":
            Image.new("RGB", (64, 48), (200, 0, 0)).save(str(moved / "right" / name))
    result = shown(tmp_path, run, "--step", 0, "--root", moved)
    assert result.code == 1, result
    assert "but the audit" in result.stdout and "%d: these are not the bytes" % line["crc32"] in result.stdout
    assert "a file or row of it has changed" in result.stdout
    assert "the batch of step 0 is not the one that the run had" in result.stderr


def test_variations_of_a_sample(run, tmp_path):
    result = shown(tmp_path, run, "--sample", "right/pixel.png", "--epochs", "0:3")
    assert result.code == 0, result
    number = int(re.match(r"#(\d+) right/pixel.png", result.stdout).group(1))
    assert re.findall(r"    (stored|epoch \d)", result.stdout) == ["stored", "epoch 0", "epoch 1", "epoch 2"]
    assert "PNG, 1 x 1 pixels, mode RGB" in result.stdout
    assert Image.open(str(tmp_path / ("sample-%d.png" % number))).size[0] >= 1200


def test_evaluations(run, tmp_path):
    result = shown(tmp_path, run, "--validation", 1, "-o", "validation.png")
    assert result.code == 0 and "evaluation after epoch 1" in result.stdout, result


def test_two_runs(run, photos, tmp_path):
    same = recorded(tmp_path, photos, name="same", on_bad_image="replace", validation=0.2, workers=1)
    result = shown(tmp_path, "--diff", run, same)
    assert result.code == 0 and "no difference in 6 steps, by the checksums of both audits" in result.stdout, result
    seeded = recorded(tmp_path, photos, name="seeded", on_bad_image="replace", validation=0.2, seed=5, audit=False)
    result = shown(tmp_path, "--diff", run, seeded, "-o", "seeds.png")
    assert result.code == 1 and "seed: 0 and 5" in result.stdout, result
    assert "the first step with other samples is 0" in result.stdout and (tmp_path / "seeds.png").exists()


def test_bytes_may_differ_before_samples_do(photos, tmp_path):
    """A file has another name in the second run, and is used in a late step; all bytes are others."""
    first = recorded(tmp_path, photos, "image", epochs=1, batch_size=4, drop_last=True)
    with Replay(first) as run:
        last = run.run.plan.steps - 1
        late = run.run.plan.training_indices(last)[0]
        path = os.fsencode(run.run.datasets.training.samples([late])[0].path)
    shutil.copytree(photos, str(tmp_path / "renamed"))
    os.rename(os.path.join(os.fsencode(str(tmp_path / "renamed")), path),
              os.path.join(os.fsencode(str(tmp_path / "renamed")), path[:-4] + b"-.png"))
    second = recorded(tmp_path, str(tmp_path / "renamed"), "image", name="second", epochs=1, batch_size=4,
                      drop_last=True, image_size=16)
    result = shown(tmp_path, "--diff", first, second)
    assert result.code == 1 and last > 0 and "the first step with other samples is %d," % last in result.stdout, result
    assert "the first step with other bytes is 0, by the checksums of both audits" in result.stdout, result
    assert "the runs differ from step 0 on" in result.stdout


def test_two_runs_without_audits(photos, tmp_path):
    """They have the same samples, and other bytes; only some of their steps are made again."""
    runs = [recorded(tmp_path, photos, "image", name=name, audit=False, decode=name) for name in ("exact", "sampled")]
    result = shown(tmp_path, "--diff", *runs, "-o", "bytes.html", "--steps", 2)
    assert result.code == 1 and 'decode: "exact" and "sampled"' in result.stdout, result
    assert "the first step with other bytes is 0, made again now" in result.stdout
    assert "differs in" in (tmp_path / "bytes.html").read_text(encoding="utf-8")
    result = shown(tmp_path, "--diff", runs[0], runs[0], "--steps", 2)
    assert result.code == 0 and re.search(
        r"no difference in the first 2 of \d+ steps, made again now; --steps N compares more", result.stdout), result


OWN = """
import numpy as np
import stoker

@stoker.sample({"picture": ("float32", (16, 16, 3)), "mask": ("uint8", (16, 16)),
                "boxes": ("float32", (stoker.UpTo(5), 4)), "sound": ("float64", (300,)), "left": "bool"})
def made(sample, random):
    if sample.index % 5 == 0:
        raise stoker.Skip("a multiple of five")
    count = sample.index % 4
    return {"picture": np.full((16, 16, 3), random.random() - 0.5), "mask": np.eye(16, dtype=np.uint8) * count,
            "boxes": np.sort(np.random.rand(count, 4)), "sound": np.sin(np.arange(300) / (3. + count)),
            "left": sample.index % 2 == 0}

@stoker.sample({"x": "float32"})
def none(sample, random):
    if sample.index >= 4:
        raise stoker.Skip("all of them")
    return {"x": 1}

@stoker.batch({"x": ("float32", (2,))})
def rows(samples, random):
    return {"x": np.arange(2 * len(samples), dtype=np.float32).reshape(-1, 2)}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_for_show.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_for_show", raising=False)
    return tmp_path


def test_arrays_of_ones_own(own):
    path = recorded(own, [{"n": number} for number in range(12)], "own_for_show:made", batch_size=6)
    elsewhere = own / "elsewhere"
    elsewhere.mkdir()
    result = shown(elsewhere, path, "--step", "0:6", "-o", "own.html", "--path", own)
    assert result.code == 0 and result.stdout.count("as in the audit") == 6, result
    assert "left out by the function: #5 n=5: a multiple of five" in result.stdout
    page = (elsewhere / "own.html").read_text(encoding="utf-8")
    for text in ("picture: float32, -1..1", "mask: 0 black: ", "read as left, top", "sound: float64 300", "left: True"):
        assert text in page


@pytest.mark.parametrize("function, text", [("none", "0 samples: x float32 ()"), ("rows", "row 1; x 2 3")])
def test_batches_without_samples_and_of_batch_functions(own, function, text):
    path = recorded(own, 8, "own_for_show:" + function, batch_size=4, epochs=1, order="sequential")
    result = shown(own, path, "--step", 1)
    assert result.code == 0 and text in result.stdout and "as in the audit" in result.stdout, result
    result = shown(own, path, "--sample", 1)
    assert (result.code, "which row is of which sample" in result.stderr) == (
        (2, True) if function == "rows" else (0, False)), result


@pytest.mark.parametrize("options, text", [
    (["--step", 99], "the run has no step 99: its last one is 5"),
    (["--sample", 99], "there is no sample 99"), (["--sample", 1, "--epochs", "2:4"], "the run has no epoch 3"),
    (["--step", 1, "-o", "missing/step.png"], "cannot write 'missing/step.png': No such file or directory"),
    (["--step", 1, "-o", "/proc/step.png"], "cannot write '/proc/step.png': "),
    (["--step", 1, "--worker-python", "/no/such/python"], "/no/such/python"),
    (["--step", 1, "--audit", "no-audit.jsonl"], "no-audit.jsonl"),
    (["--step", 1, "--sample", 1], "say what to show"), ([], "say what to show"),
    (["--diff", "a", "b"], "--diff names both runs"), (["--step", "x"], "needs a number")])
def test_what_cannot_be_shown(run, tmp_path, options, text):
    result = shown(tmp_path, run, *options)
    assert result.code in (1, 2) and text in result.stderr and "Traceback" not in result.stderr, result
    assert not list(tmp_path.glob("*.png"))


def test_a_folder_without_a_run(tmp_path):
    for folder in ("missing", "."):
        result = shown(tmp_path, folder, "--step", 1)
        assert result.code == 2 and "Traceback" not in result.stderr, result


@pytest.mark.parametrize("signum, code, text", [
    (signal.SIGINT, 130, "stopped by Ctrl-C; no file was written"), (signal.SIGTERM, 143, "")])
def test_ctrl_c_leaves_nothing(tmp_path, photos, signum, code, text):
    """Amid many steps: no file, no process (``nothing_left`` looks for them), and a sentence."""
    path = recorded(tmp_path, photos, epochs=40, workers=2, audit=False)
    (tmp_path / "here").mkdir()
    with Show(tmp_path / "here", path, "--step", "0:80", "--samples", 1) as program:
        program.wait_until(lambda: "made again" in program.stderr, "its first step")
        program.send_signal(signum)
        result = Finished(program)
    assert result.code == code and text in result.stderr and "Traceback" not in result.stderr, result
    assert os.listdir(str(tmp_path / "here")) == []


def test_the_document(tmp_path, pictures):
    """The programs and commands of docs/REPLAY.md, word for word, with the installed names as ``python -m``."""
    os.symlink(pictures, str(tmp_path / "photos"))
    environment = dict(os.environ, PYTHONPATH=ROOT)

    def program(mark, *changes):
        text = block("docs/REPLAY.md", "replay: " + mark)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "program.py").write_text(text)
        return subprocess.run([sys.executable, "program.py"], cwd=str(tmp_path), env=environment, timeout=120,
                              stdout=subprocess.PIPE, check=True).stdout.decode()

    def command(mark):
        text = block("docs/REPLAY.md", "replay: " + mark).replace(
            "stoker-show", sys.executable + " -m stoker.inspection.show")
        return subprocess.run(["sh", "-c", text], cwd=str(tmp_path), env=environment, timeout=120,
                              stdout=subprocess.PIPE)

    program("train")
    program("train", ("runs/photos", "runs/other"), ("audit.jsonl", "other.jsonl"), ("epochs=4", "epochs=4, seed=1"))
    assert b"as in the audit" in command("step").stdout
    assert command("steps").returncode == command("sample").returncode == 0
    diff = command("diff")
    assert diff.returncode == 1 and b"seed: 0 and 1" in diff.stdout
    assert program("program").startswith("<Batch: step=3, epoch=1, ")
    for name in ("step-3.png", "steps.html", "sample.png", "difference.png"):
        assert (tmp_path / name).stat().st_size > 1000
