"""Warnings of a command line name its options; those of a program, its arguments."""

import io
import logging

import pytest

from stoker.trainer.command_log import start_log


@pytest.fixture
def log(monkeypatch):
    """What the log of a command line has written so far."""
    written, root = io.StringIO(), logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr("sys.stderr", written)
    start_log(logging.INFO)
    return written.getvalue


def test_warnings_name_options(log):
    logger = logging.getLogger("stoker")
    logger.warning("%s has no labels: label='folder' takes folders", "label='x'.tar")
    logger.warning("no record has the label %s, which classes= names", "batch_size")
    logger.warning("%s", "a.tar: left out, name them in columns=")
    logger.warning("%s", "ValueError: bad\n  label=None in the user's line")
    logger.info("batch_size is %d", 3)
    logging.getLogger("other").warning("label=None")
    assert log().splitlines() == [
        "stoker: label='x'.tar has no labels: --label-field folder takes folders",
        "stoker: no record has the label batch_size, which --classes names",
        "stoker: a.tar: left out, name them in --columns",
        "stoker: ValueError: bad", "  label=None in the user's line", "stoker: batch_size is 3", "stoker: label=None"]


def test_a_process_that_has_a_log_keeps_it(log):
    before = list(logging.getLogger().handlers)
    start_log(logging.DEBUG)
    assert logging.getLogger().handlers == before and logging.getLogger().level == logging.INFO
