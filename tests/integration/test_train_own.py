"""The command line with rows, a sample function and a model of the user's own: ``--sample`` and ``--model``."""

import json
import re
import shutil
import signal

import numpy as np
import pytest

from tests.support import own_model
from tests.support.processes import interpreter, workers_program
from tests.support.training import Trainer, arguments, audit, consumed, finished

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.filterwarnings("ignore:inspect.getargspec")     # TensorFlow's own, in tf.contrib

ROWS, BATCH_SIZE, EPOCHS = 200, 4, 3
STEPS = 40          # of an epoch: 160 rows
FAILS_AT = own_model.MODELS[:own_model.MODELS.index("    odd =")].count("\n") + 1
OWN = ["log.csv", "--sample", "functions:drive", "--model", "models:model"]


def options(data, **changed):
    named = dict(batch_size=BATCH_SIZE, epochs=EPOCHS, workers=1, checkpoint_dir="run", checkpoint_secs=0.2,
                 audit="audit.jsonl")
    if interpreter("STOKER_TEST_WORKER_PYTHON"):
        named["worker_python"] = interpreter("STOKER_TEST_WORKER_PYTHON")
    return data + arguments(dict(named, **changed))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(folder, how its run ended) of a run from the first step to the last. Not to be changed."""
    folder = tmp_path_factory.mktemp("own") / "here"
    own_model.write(folder, ROWS)
    return folder, finished(folder, *options(OWN), TMPDIR=str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def here(undisturbed, tmp_path):
    """The data and functions of a run, without what it left."""
    shutil.copytree(str(undisturbed[0]), str(tmp_path / "here"), ignore=shutil.ignore_patterns("run", "audit*"))
    return tmp_path / "here"


def variables(folder):
    reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(folder)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def same_variables(folder, other):
    ours, theirs = variables(folder), variables(other)
    assert sorted(ours) == sorted(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], name)


def test_the_output_of_a_run(undisturbed):
    folder, run = undisturbed
    assert run.code == 0, run
    assert "log.csv: 200 rows of 3 columns: picture (text), value (float), side (text)" in run.stdout
    assert "160 samples to train on, 40 held out; 120 steps in 3 epochs" in run.stdout
    said = re.findall(r"^epoch (\d): validation error (\d\.\d+), most marks (\d\.\d+), loss (\d\.\d+) \(40 samples\)$",
                      run.stdout, re.MULTILINE)
    assert [line[0] for line in said] == ["1", "2", "3"], run
    assert float(said[-1][1]) < float(said[0][1]), "it learns"
    closing = run.stdout.splitlines()[-3:]
    assert re.match(r"done after step 120: validation error %s, most marks \d\.\d+; no bad files; checkpoint in run$"
                    % said[-1][1], closing[0]), run
    assert re.match(r"speed: \d+ samples/s; .* a worker takes \d+\.\d\d ms per sample$", closing[1]), run
    assert re.search(r"epoch 3/3: 100%.* 160/160 .*loss=\d\.\d+, error=\d\.\d+, most marks=\d\.\d+, waiting=\d+%",
                     run.stderr), run


def test_metrics_are_in_the_events(undisturbed):
    folder, run = undisturbed
    tags = {}
    for path in (folder / "run").glob("events.out.*"):
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags.setdefault(value.tag, {})[event.step] = value.simple_value
    for tag in ("train/loss", "train/error", "train/most marks", "feed/samples_per_s"):
        assert sorted(tags[tag]) == list(range(9, STEPS * EPOCHS, 10)), tag
    shown = [value for _, value in sorted(tags["validation/error"].items())]
    said = [float(text) for text in re.findall("validation error ([0-9.]+), most", run.stdout)]
    np.testing.assert_allclose(shown, said[:EPOCHS], atol=1e-4)
    assert all(0 <= value <= 4 for value in tags["train/most marks"].values())


def test_the_evaluation_is_the_mean_over_the_samples_and_without_training(undisturbed):
    """The moving averages of the batch normalization are used, and the last batch, if it is short, counts less."""
    folder, run = undisturbed
    values = variables(folder / "run")
    assert values["global_step"] == STEPS * EPOCHS
    assert (values["batch_normalization/moving_mean"] != 0).all()


def test_a_killed_run_resumes_staged_to_the_same_bits(undisturbed, here):
    def in_mid_epoch():
        step = max((int(path.stem.split("-")[1]) for path in (here / "run").glob("model.ckpt-*.index")), default=0)
        return step > STEPS and step % STEPS and len(audit(here / "audit.jsonl")) > step
    for _ in range(9):                               # a run of half a second may be over before it is caught
        with Trainer(here, *options(OWN, feed="staged")) as trainer:
            try:
                trainer.wait_until(in_mid_epoch, "a checkpoint in mid-epoch and some steps behind it")
            except AssertionError:
                assert trainer.wait_gone() == 0
            else:
                trainer.send_signal(signal.SIGKILL)
                if trainer.wait_gone() == -signal.SIGKILL:
                    break
        shutil.rmtree(str(here / "run"))
        (here / "audit.jsonl").unlink()
    run = finished(here, *options(OWN, feed="staged"))
    assert run.code == 0 and "going on from step" in run.stdout, run
    assert consumed(audit(here / "audit.jsonl")) == consumed(audit(undisturbed[0] / "audit.jsonl"))
    same_variables(here / "run", undisturbed[0] / "run")


def ends_with_one_sentence(run):
    assert run.code in (1, 2) and "Traceback" not in run.stderr + run.stdout, run
    last = run.stderr.splitlines()[-1]
    assert last.startswith("stoker-train: error: "), run
    return last


@pytest.mark.parametrize("change, sentence", [
    (lambda lines: lines[:5] + ["pictures/000.png,0.5,left"] + lines[6:],
     r"1 is gone: row 4, .*; 1 is new: row 4, .*0\.5"),
    (lambda lines: lines + ["pictures/000.png,0.5,left"], "200 -> 201 samples; 1 is new: row 200, "),
    (lambda lines: ["picture,value,where"] + lines[1:], "'side' is gone, 'where' is new"),
], ids=["changed", "longer", "column"])
def test_a_refused_resume_says_which_rows_differ(undisturbed, here, change, sentence):
    shutil.copytree(str(undisturbed[0] / "run"), str(here / "run"))
    lines = (here / "log.csv").read_text().splitlines()
    (here / "log.csv").write_text("\n".join(change(lines)) + "\n")
    last = ends_with_one_sentence(finished(here, *options(OWN)))
    assert re.search(sentence, last), last


def test_workers_started_by_the_printed_command(undisturbed, here):
    with Trainer(here, *options(OWN, workers=0)) as trainer:
        trainer.wait_until(lambda: "waiting for workers: " in trainer.stdout, "the command for the workers")
        command = re.search("waiting for workers: python -m workers --connect (.*)", trainer.stdout).group(1).split()
        assert command[1:] == ["--allow-generator", "functions:drive"]
        with workers_program(*(command + ["--once", "--processes", "2"]), cwd=str(here),
                             python=interpreter("STOKER_TEST_WORKER_PYTHON")) as program:
            assert trainer.wait_gone() == 0, trainer.stderr
            assert program.wait() == 0
    assert consumed(audit(here / "audit.jsonl")) == consumed(audit(undisturbed[0] / "audit.jsonl"))
    same_variables(here / "run", undisturbed[0] / "run")


def test_a_checkpoint_of_another_model(undisturbed, here):
    shutil.copytree(str(undisturbed[0] / "run"), str(here / "run"))
    last = ends_with_one_sentence(finished(here, *options(OWN[:-1] + ["models:brightness"], epochs=EPOCHS + 1)))
    assert "does not fit the model models:brightness (Key count not found in checkpoint" in last, last


def test_the_records_of_older_runs_may_be_missing(undisturbed, here):
    shutil.copytree(str(undisturbed[0] / "run"), str(here / "run"))
    (here / "run" / "stoker-rows.npy").unlink()
    (here / "run" / "stoker-run.json").unlink()
    run = finished(here, *options(OWN))
    assert run.code == 0 and "nothing left to train" in run.stdout, run
    assert json.loads((here / "run" / "stoker-run.json").read_text())["model"] == "models:model"
    (here / "run" / "stoker-run.json").unlink()
    with open(str(here / "log.csv"), "a") as file:
        file.write("pictures/000.png,0.5,left\n")
    assert "the data has changed since the checkpoint in " in ends_with_one_sentence(finished(here, *options(OWN)))


def test_validation_order_partners_and_full_batches(here):
    lines = (here / "log.csv").read_text().splitlines()
    (here / "held.csv").write_text("\n".join(lines[:1] + lines[-10:]) + "\n")
    run = finished(here, *options(OWN + ["--drop-last"], validation="held.csv", order="balanced:side", partners=2,
                                  batch_size=7, epochs=2))
    assert run.code == 0, run
    assert "200 samples to train on, 7 held out" in run.stdout
    assert len(re.findall(r"^epoch \d: validation .* \(7 samples\)$", run.stdout, re.MULTILINE)) == 2, run
    steps = audit(here / "audit.jsonl")
    assert steps and all(len(line["indices"]) == 7 for line in steps)
    rights = sum(index % 4 == 0 for line in steps for index in line["indices"])     # a quarter of the rows
    assert abs(rights / (7 * len(steps)) - 0.5) < 0.05


def test_functions_that_need_no_model_or_make_whole_batches(here):
    """Images and labels of a sample function are for the built-in model; a batch function is a --sample too."""
    for name in ("a", "b", "left-out"):
        shutil.copytree(str(here / "pictures"), str(here / "photos" / name), ignore=shutil.ignore_patterns("?[3-9]?.*"))
    run = finished(here, *options(["photos", "--sample", "functions:pictures", "--classes", "b,a"], epochs=1))
    assert run.code == 0 and "validation accuracy" in run.stdout and "of 2 classes" not in run.stdout, run
    assert json.loads((here / "run" / "stoker-run.json").read_text())["data"]["classes"] == ["b", "a"]
    run = finished(here, *options(["photos", "--augment", "functions:darker"], epochs=1, image_size="8x8",
                                  checkpoint_dir="augmented", audit="augmented.jsonl"))
    assert run.code == 0 and "validation accuracy" in run.stdout, run
    run = finished(here, *options(["log.csv", "--sample", "functions:old", "--model", "models:brightness"], epochs=1,
                                  checkpoint_dir="old", audit="old.jsonl"))
    assert run.code == 0 and "done after step 40: validation loss 0." in run.stdout, run
    assert variables(here / "old")["count"] == variables(here / "old")["global_step"] == 40


def test_a_csv_of_another_kind_and_a_loss_that_is_no_number(here):
    lines = (here / "log.csv").read_text().splitlines()
    german = [line.replace(",", ";").replace(".", ",").replace(",png", ".png") for line in lines]
    german[0] = "picture;value;Fl\u00e4che"
    for name, part in (("german.csv", german[:41]), ("held.csv", german[:1] + german[41:51])):
        (here / name).write_bytes("\n".join(part).replace("left", "-").encode("latin-1"))
    csv = ["--encoding", "latin-1", "--delimiter", ";", "--decimal", ",", "--na-values", "NA,-"]
    run = finished(here, *options(["german.csv"] + OWN[1:-1] + ["models:divides", "--validation", "held.csv"] + csv,
                                  epochs=2))
    assert run.code == 0, run
    assert "40 samples to train on, 10 held out" in run.stdout and "validation loss nan" in run.stdout
    assert re.findall("loss is .* at step .*, in epoch .:", run.stderr) == ["loss is nan at step 0, in epoch 1:"], run


@pytest.mark.parametrize("arguments, word", [
    (["pictures", "--delimiter", ";"], "--delimiter is for a CSV file, and DATA is pictures"),
    (OWN + ["--decimal", ","], "decimal"),
    (["log.csv", "--sample", "functions:drive"], "add --model module:function"),
    (["log.csv"], "opens the file of each sample"),
    (["log.csv", "--sample", "nosuch:drive", "--model", "models:model"], "importing nosuch failed"),
    (["log.csv", "--sample", "functions:nothing", "--model", "models:model"], "declares no arrays"),
    (OWN + ["--generator", "augmented"], "exclude each other"),
    (OWN[:-1] + ["models:nosuch"], "has no nosuch"),
    (OWN[:-1] + ["models:constant"], "constant is no function"),
    (OWN[:-1] + ["models:mean"], "failed in its call model(arrays, training): TypeError"),
    (OWN[:-1] + ["models:twice"], "has left global_step at 2"),
    (OWN[:-1] + ["models:fails"], "models.py, line %d: InvalidArgumentError: " % FAILS_AT),
    (OWN + ["--validation", "0.1", "--validation-split", "0.2"], "exclude each other"),
    (OWN + ["--validation", "nowhere.csv"], "nowhere.csv"),
    (OWN + ["--order", "sorted"], "balanced:COLUMN"),
    (OWN + ["--order", "balanced:nosuch"], "nosuch"),
    (OWN + ["--partners", "-1"], "partners"),
    (OWN + ["--augment", "functions:darker"], "augment"),
    (["pictures", "--no-labels"], "add --model module:function"),
], ids=lambda value: "_".join(value[:5]).replace("/", "|") if isinstance(value, list) else "")
def test_an_error_of_the_user_is_one_sentence(here, arguments, word):
    assert word in ends_with_one_sentence(finished(here, *options(arguments))), word
