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
    assert set(environment.OPTIONS) == names(train_parser()) | names(cli._parser())
    assert set(environment.PREDICT_OPTIONS) == names(predict_parser())


@pytest.mark.parametrize("name, like", [
    ("STOKER_EPOCH", "STOKER_EPOCHS"), ("STOKER_BATCHSIZE", "STOKER_BATCH_SIZE"), ("STOKER_WOKERS", "STOKER_WORKERS"),
    ("STOKER_CHECKPOINTS_DIR", "STOKER_CHECKPOINT_DIR"), ("STOKER_PREDICT_OUTPUTS", "STOKER_PREDICT_OUTPUT"),
    ("STOKER_PROCESES", "STOKER_PROCESSES")])
def test_a_misspelt_variable(name, like):
    assert environment.warnings([name, "PATH"]) == [
        "the environment variable %s has no effect: did you mean %s?" % (name, like)]


def test_a_variable_that_is_like_none():
    sentence, = environment.warnings(["STOKER_COFFEE\n", "stoker_epochs", "STOKEREPOCHS", "MY_STOKER_EPOCH"])
    assert sentence == "the environment variable STOKER_COFFEE\\n has no effect: docs/OPTIONS.md has those of Stoker"


def test_no_warning_about_what_is_right():
    """Of the trainer, the workers, docker-compose, Stoker's own processes, and its tests."""
    assert environment.warnings(["STOKER_EPOCHS", "STOKER_PROCESSES", "STOKER_USER", "STOKER_PROGRAM_PATH", "PATH",
                                 "STOKER_IN_WORKER", "STOKER_LOCAL_KEYS", "STOKER_TEST_ANYTHING",
                                 "STOKER_PREDICT_BATCH_SIZE"]) == []
