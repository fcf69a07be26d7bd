"""Environment variables that look like options: which are known, and the warning about the others."""

import pytest

from stoker.pipeline import environment
from stoker.trainer.parser import predict_parser, train_parser
from stoker.workers import cli


def names(parser):
    return {option[2:].replace("-", "_").upper() for action in parser._actions for option in action.option_strings
            if option.startswith("--")} - {"HELP"}


def test_the_lists_are_those_of_the_parsers():
    """A new option of a command line belongs to the list in pipeline/environment.py, too."""
    assert set(environment.OPTIONS) == names(train_parser()) | names(cli.make_parser())
    assert set(environment.PREDICT_OPTIONS) == names(predict_parser())


@pytest.mark.parametrize("name, like", [
    ("STOKER_EPOCH", "STOKER_EPOCHS"), ("STOKER_BATCHSIZE", "STOKER_BATCH_SIZE"), ("STOKER_WOKERS", "STOKER_WORKERS"),
    ("STOKER_CHECKPOINTS_DIR", "STOKER_CHECKPOINT_DIR"), ("STOKER_PREDICT_OUTPUTS", "STOKER_PREDICT_OUTPUT"),
    ("STOKER_PROCESES", "STOKER_PROCESSES")])
def test_a_misspelt_variable(name, like):
    assert environment.warnings([name, "PATH"]) == [
        "the environment variable %s has no effect: did you mean %s?" % (name, like)]


@pytest.mark.parametrize("text, shown", [
    ("batch_size must be a whole number from 1 to 9, not 0", "--batch-size must be a whole number from 1 to 9, not 0"),
    ("drop_last leaves no batch, batch_size is 4;", "--drop-last leaves no batch, --batch-size is 4;"),
    ("row 3 is not below: give a root= that holds it", "row 3 is not below: give a --root that holds it"),
    ("'batch_size/1.jpg' is a bad file in /data/label_word", "'batch_size/1.jpg' is a bad file in /data/label_word"),
    ("on_bad_image='skip' (--on-bad-image skip)", "on_bad_image='skip' (--on-bad-image skip)"),
    ("record 0 has no label 'a': name its label with label=, or give label=None",
     "record 0 has no label 'a': name its label with --label-field, or give --label-field none"),
    ("if each picture is a sample, give label='folder'", "if each picture is a sample, give --label-field folder"),
    ("the folders are the classes, give folder='photos'; or give label=None",
     "the folders are the classes, give --folder photos; or give --label-field none"),
    ("which classes= names; give label=None and the feature in columns=[...], which",
     "which --classes names; give --label-field none and the feature in --columns, which"),
    ("write it again (tar --sort=name), or give label='folder'",
     "write it again (tar --sort=name), or give --label-field folder"),
    ("leave it out (columns=)", "leave it out (--columns)"),
    ("give stoker.csv(..., columns=[...]) then", "give stoker.csv(..., columns=[...]) then"),
    ("only one of label_word, classes= and labels=False:", "only one of --label-word, --classes and --no-labels:"),
    ("give folder='Hunde & Katzen/a'", "give --folder 'Hunde & Katzen/a'"),
    ("give folder=\"it's\", or", "give --folder 'it'\"'\"'s', or"),
    ("name the one with the samples (array=)", "name the one with the samples (--image-field)"),
    ("no dataset 'x', which labels= names", "no dataset 'x', which --label-field names"),
    ("the file /data/label=None/a.tar", "the file /data/label=None/a.tar"),
    ("start_step 9, epochs and the root of the data", "start_step 9, epochs and the root of the data")])
def test_an_error_for_the_user_of_a_command_line(text, shown):
    assert environment.as_options(text) == shown


def test_a_variable_that_is_like_none():
    sentence, = environment.warnings(["STOKER_COFFEE\n", "stoker_epochs", "STOKEREPOCHS", "MY_STOKER_EPOCH"])
    assert sentence == "the environment variable STOKER_COFFEE\\n has no effect: docs/OPTIONS.md has those of Stoker"


def test_no_warning_about_what_is_right():
    """Of the trainer, the workers, docker-compose, Stoker's own processes, and its tests."""
    assert environment.warnings(["STOKER_EPOCHS", "STOKER_PROCESSES", "STOKER_USER", "STOKER_PROGRAM_PATH", "PATH",
                                 "STOKER_IN_WORKER", "STOKER_LOCAL_KEYS", "STOKER_TEST_ANYTHING",
                                 "STOKER_PREDICT_BATCH_SIZE"]) == []
