"""What ends a program: its exit code, a sentence, or Ctrl-C in whatever form it arrives."""

import signal
import sys
import types

import pytest

from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.trainer.program import EXIT_WITHIN_S, STOP_WITHIN_S, Action, Program, Stopping


@pytest.fixture
def ends(monkeypatch):
    """A function that runs a program whose module has the given ``run``, without its signal handler and thread."""
    monkeypatch.setattr("signal.signal", lambda *arguments: None)
    monkeypatch.setattr("signal.set_wakeup_fd", lambda fd: None)
    monkeypatch.setattr("threading.Thread.start", lambda thread: None)

    def end(run):
        monkeypatch.setitem(sys.modules, "test_program_module", types.SimpleNamespace(run=lambda program: run()))
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


# ------------------------------------------------------------------------------------------------- what signals do

INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize("saves, signals, actions, by, deadline", [
    (True, [INT], [Action.STOP], INT, STOP_WITHIN_S),
    (True, [INT, INT], [Action.STOP, Action.END], INT, STOP_WITHIN_S),
    (True, [TERM], [Action.STOP], TERM, STOP_WITHIN_S),
    (True, [TERM, TERM, TERM], [Action.STOP, Action.NONE, Action.NONE], TERM, STOP_WITHIN_S),
    (True, [TERM, INT], [Action.STOP, Action.END], TERM, STOP_WITHIN_S),
    (True, [INT, TERM, INT], [Action.STOP, Action.NONE, Action.END], INT, STOP_WITHIN_S),
    (True, [signal.SIGHUP, signal.SIGCHLD], [Action.NONE] * 2, None, None),
    (False, [INT], [Action.NONE], None, EXIT_WITHIN_S),
    (False, [INT, INT, INT], [Action.NONE] * 3, None, EXIT_WITHIN_S),
    (False, [TERM], [Action.NONE], None, None),
])
def test_what_a_signal_does(saves, signals, actions, by, deadline):
    """Later signals do not move the time at which the process ends whatever it does."""
    stopping = Stopping()
    assert [stopping.received(signum, 100.0 + i, saves) for i, signum in enumerate(signals)] == actions
    assert stopping.by == by and stopping.deadline_s == (deadline and 100.0 + deadline)
