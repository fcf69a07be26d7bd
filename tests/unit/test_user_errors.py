"""The sentences and tracebacks of exceptions in users' code."""

import sys
import textwrap

import pytest

from stoker.pipeline import user_errors
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.functions import load_function
from stoker.pipeline.orders import indices_from
from stoker.pipeline.user_errors import a_type, sentence_of, traceback_of


class Rude(Exception):
    def __str__(self):
        raise OSError


def caught(function, *arguments):
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def raises(error):
    raise error


LINE = raises.__code__.co_firstlineno + 1


@pytest.mark.parametrize("error, text", [
    (KeyError("nope"), "KeyError: 'nope'"), (ValueError(), "ValueError"), (ValueError("a\n  b\n"), "ValueError: a b"),
    (ConfigError("give it"), "give it"), (SystemExit(3), "it called sys.exit(3): let it raise an error"),
    (SystemExit(), "it called sys.exit(): let it raise an error"), (Rude(), "Rude: its text raises OSError"),
    (ValueError("\udcff \x1b[0m \u00e9"), "ValueError: \\udcff \\x1b[0m \u00e9"),
    (ValueError("x" * 2000), "ValueError: %s..." % ("x" * user_errors.MAX_TEXT))])
def test_a_sentence_is_one_printable_line_with_the_place(error, text):
    sentence = sentence_of(caught(raises, error))
    assert sentence == "%s (test_user_errors.py, line %d)" % (text, LINE)
    assert sentence.isprintable() and sentence.encode("utf-8")
    assert sentence_of(error, ": do that").startswith(text + ": do that (test_")


def module(folder, name, code):
    path = folder / (name + ".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code))
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return scope


def test_the_place_is_the_deepest_line_of_the_users_own_code(tmp_path):
    library = module(tmp_path / "site-packages" / "numbers", "library", "def fails():\n    return 1 // 0\n")
    helper = module(tmp_path, "helper", "def helps(function):\n    return function()\n")
    assert sentence_of(caught(helper["helps"], library["fails"])).endswith("by zero (helper.py, line 2)")
    line = test_the_place_is_the_deepest_line_of_the_users_own_code.__code__.co_firstlineno + 5
    assert sentence_of(caught(helper["helps"], lambda: textwrap.dedent(3))).endswith("errors.py, line %d)" % line)
    bare = caught(library["fails"])
    bare.__traceback__ = bare.__traceback__.tb_next            # without this file: an installed function's own line
    assert sentence_of(bare).endswith("by zero (library.py, line 2)")


def test_stokers_own_lines_are_no_place():
    error = caught(load_function, "no name")
    error.__traceback__ = error.__traceback__.tb_next
    assert sentence_of(error) == "'no name' is no function: write module:function"
    assert "functions.py" in traceback_of(error), "without a user's frame, all are shown"


def test_a_traceback_begins_with_the_users_first_frame():
    def order(number, random):
        raise KeyError("nope")
    error = caught(indices_from, order, 0, None, 4, "order")
    assert isinstance(error, RunFailed)
    first, second, *_ = traceback_of(error.__cause__).splitlines()
    assert first == "Traceback (most recent call last):"
    assert "test_user_errors.py" in second and second.endswith("in order")


def recurse():
    return len((recurse(),))


def test_a_long_traceback_shows_its_beginning_and_its_end():
    lines = traceback_of(caught(recurse)).splitlines()
    assert len(lines) <= 2 * user_errors.MAX_LINES + 1 and lines[-1].startswith("RecursionError")
    assert "in caught" in lines[1] and any("in recurse" in line for line in lines[3:5])
    error = caught(raises, ValueError("\n".join(["x" * 10 ** 6] * 300)))
    lines = traceback_of(error).splitlines()
    assert lines[0].startswith("Traceback") and len(lines) == 2 * user_errors.MAX_LINES + 1
    assert max(map(len, lines)) == user_errors.MAX_TEXT + 3 and traceback_of(error).endswith("...\n")


def test_a_module_that_fails_names_its_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stoker_broken_module.py").write_text("import os\n\nnot_defined\n")
    (tmp_path / "stoker_lacking_module.py").write_text("import no_such_module_at_all\n")
    assert str(caught(load_function, "stoker_broken_module:f")).endswith(
        "failed: NameError: name 'not_defined' is not defined (stoker_broken_module.py, line 3)")
    assert str(caught(load_function, "stoker_lacking_module:f")).endswith("(stoker_lacking_module.py, line 1)")
    assert str(caught(load_function, "no_such_module_at_all:f")).endswith("No module named 'no_such_module_at_all'")
    assert "stoker_broken_module" not in sys.modules


def test_types_have_their_article():
    assert [a_type(value) for value in (1, "", None, [])] == ["an int", "a str", "a NoneType", "a list"]
