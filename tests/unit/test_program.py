"""What ends a program: its exit code, a sentence, or Ctrl-C in whatever form it arrives."""

import sys
import types

import pytest

from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.trainer.program import Program


@pytest.fixture
def ends(monkeypatch):
    """A function that runs a program whose module has the given ``run``, without its signal handler and thread."""
    monkeypatch.setattr("signal.signal", lambda *arguments: None)
    monkeypatch.setattr("signal.set_wakeup_fd", lambda fd: None)
    monkeypatch.setattr("threading.Thread.start", lambda thread: None)

    def end(run):
        monkeypatch.setitem(sys.modules, "test_program_module", types.SimpleNamespace(run=run))
        return Program("stoker-test", "test_program_module", "nothing happened").end()
    return end


def interrupted():
    raise KeyboardInterrupt


def interrupted_in_c():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raise SystemError("<built-in function> returned a result with an error set") from error


def interrupted_then_failed():
    try:
        raise KeyboardInterrupt
    finally:
        raise RunFailed("the workers are gone")


def refused():
    raise ConfigError("--epochs must be more")


@pytest.mark.parametrize("run, code, said", [
    (lambda: 143, 143, ""),
    (refused, 2, "stoker-test: error: --epochs must be more\n"),
    (interrupted, 130, "\nstoker-test: stopped by Ctrl-C; nothing happened\n"),
    (interrupted_in_c, 130, "\nstoker-test: stopped by Ctrl-C; nothing happened\n"),
    (interrupted_then_failed, 130, "\nstoker-test: stopped by Ctrl-C; nothing happened\n"),
], ids=["code", "error", "interrupt", "system-error", "cleanup"])
def test_how_it_ends(ends, capsys, run, code, said):
    assert ends(run) == code
    assert capsys.readouterr().err == said


def test_an_error_of_stoker_itself_has_its_traceback(ends):
    with pytest.raises(ZeroDivisionError):
        ends(lambda: 1 / 0)
