"""``import stoker``: the names that users may rely on, and what importing it loads."""

import ast
import importlib
import inspect
import re
import textwrap

import pytest

import stoker


def test_the_names_for_mypy_and_those_at_run_time_are_the_public_ones():
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(stoker))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("stoker."):
            assert not any(name.asname for name in node.names)
            found[node.module] = tuple(sorted(name.name for name in node.names))
    assert found == {home: tuple(sorted(names)) for home, names in stoker._HOMES.items()}
    names = [name for home in sorted(found) for name in found[home]]
    assert sorted(names) == sorted(stoker.__all__) and len(set(names)) == len(names)


def public(name):
    """The object of this name. Some need TensorFlow, which only the trainer's Python has."""
    try:
        return getattr(stoker, name)
    except ImportError as error:
        if error.name != "tensorflow":
            raise
        return pytest.skip("%s needs TensorFlow" % name)


@pytest.mark.parametrize("name", stoker.__all__)
def test_a_public_name_is_the_object_of_its_home(name):
    home, = [home for home, names in stoker._HOMES.items() if name in names]
    assert public(name) is getattr(importlib.import_module(home), name)
    assert public(name).__module__ == home, "%s is only imported there" % name


@pytest.mark.parametrize("name", stoker.__all__)
def test_a_public_name_is_documented_with_an_example(name):
    named = public(name)
    text = inspect.cleandoc((vars(named).get("__doc__") if inspect.isclass(named) else named.__doc__) or "")
    code = re.findall(r"``([^`]+)``", text.replace("\n", " "))
    code += [textwrap.dedent(block) for block in re.findall(r"(?m)(?:^ {4}.*\n?)+", text)]
    assert [each for each in code if is_example(each)], "no example in %r" % text


def is_example(code):
    """Python code with a call, or that takes something apart."""
    try:
        nodes = list(ast.walk(ast.parse("try: pass\n" * code.startswith("except ") + code)))
    except SyntaxError:
        return False
    return any(isinstance(node, (ast.Call, ast.Subscript, ast.Assign, ast.ListComp)) for node in nodes)


def test_dir_lists_the_public_names_and_others_are_an_attribute_error():
    assert set(stoker.__all__) <= set(dir(stoker))
    with pytest.raises(AttributeError, match="module 'stoker' has no attribute 'no_such_name'"):
        getattr(stoker, "no_such_name")  # noqa: B009
