"""Declared arrays, decorators, and how a function is found by its name."""

import code
import copy
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

import stoker
from stoker.pipeline.arrays import ArraySpec, UpTo, declared, framed
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import (IN_WORKER, BatchFunction, GeneratorFunction, NestedStream, SampleFunction,
                                       files_of, load_function, loaded_module, name_of, refuse_nested)
from stoker.trainer.local_workers import LocalWorkers
from tests.support.documents import ROOT


@stoker.sample({"x": "float32"})
def alone(sample, random):
    return {"x": 1.0}


def _plain(sample, random):
    return {"x": 1.0}


def _yields(leases, job):
    yield 1


other_name = stoker.sample({"x": "float32"})(_plain)


def test_arrays_are_declared_by_dtype_or_dtype_and_shape():
    specs = declared({"a": "float32", "b": ("uint8", (4, 5)), "c": ("int32", 3), "d": (np.float16, ()),
                      "e": np.dtype("bool"), "f": ("int16", [UpTo(9, pad=-1), 2])})
    assert specs == (ArraySpec("a", "float32", ()), ArraySpec("b", "uint8", (4, 5)), ArraySpec("c", "int32", (3,)),
                     ArraySpec("d", "float16", ()), ArraySpec("e", "bool", ()),
                     ArraySpec("f", "int16", (UpTo(9, pad=-1), 2)))
    assert specs[5].upto == (0,) and specs[5].pad == -1 and specs[5].sample_bytes == 36
    assert framed(specs) == specs + (ArraySpec("f.sizes", "int32", ()),)


def test_two_sides_that_differ_have_two_sizes():
    specs = declared({"image": ("uint8", (UpTo(64), UpTo(48), 3))})
    assert framed(specs)[1] == ArraySpec("image.sizes", "int32", (2,))


@pytest.mark.parametrize("arrays, says", [
    ({}, "1 to 32 arrays"), ([], "must be a dict"), ("float32", "must be a dict"), ({"": "int32"}, "the name"),
    ({3: "int32"}, "the name"), ({"x.sizes": "int32"}, "the name"), ({"x\n": "int32"}, "the name"),
    ({"x": "string"}, "'x': the dtype"), ({"x": "uint32"}, "'x': the dtype"), ({"x": None}, "'x': the dtype"),
    ({"x": ("float32", (0,))}, "'x': the shape"), ({"x": ("float32", (None,))}, "'x': the shape"),
    ({"x": ("float32", (-1, 3))}, "'x': the shape"), ({"x": ("float32", (True,))}, "'x': the shape"),
    ({"x": ("float32", (1,) * 9)}, "'x': the shape"), ({"x": ("float32", (1 << 20, 1 << 20))}, "bytes"),
    ({"x": ("uint8", (UpTo(3, pad=-1),))}, "pad=-1"), ({"x": ("int32", (UpTo(3, pad=0.5),))}, "pad=0.5"),
    ({"x": ("float32", (UpTo(3, pad=1 << 64),))}, "pad=18446744073709551616"),
    ({"x": ("int32", (UpTo(3, pad=1), UpTo(3)))}, "pad=0"), ({"x": ("int32", (UpTo(0),))}, "'x': the shape")])
def test_a_bad_declaration_is_one_sentence(arrays, says):
    with pytest.raises(ConfigError, match=says) as error:
        declared(arrays)
    assert "\n" not in str(error.value)


def test_up_to_is_an_int_but_equals_only_its_like():
    assert int(UpTo(4)) == 4 and UpTo(4) == UpTo(4) and UpTo(4) != 4 and 4 != UpTo(4)
    assert UpTo(4) != UpTo(5) and UpTo(4) != UpTo(4, pad=1) and hash(UpTo(4)) == hash(UpTo(4))
    assert copy.deepcopy((UpTo(4, pad=2),)) == (UpTo(4, pad=2),)
    assert repr(UpTo(4)) == "UpTo(4)" and repr(UpTo(4, pad=2)) == "UpTo(4, pad=2)"


def test_a_decorated_function_can_be_called_and_knows_what_it_declares():
    assert isinstance(alone, SampleFunction) and alone(None, None) == {"x": 1.0} and alone.__name__ == "alone"
    batch = stoker.batch({"x": "int8"}, may_skip=True)(_plain)
    assert isinstance(batch, BatchFunction) and batch.may_skip
    assert isinstance(stoker.generator({"x": "int8"})(_yields), GeneratorFunction)
    for wrong in (lambda: stoker.sample({"x": "int8"})(3), lambda: stoker.sample({"x": "int8"}, rows=0)(_plain),
                  lambda: stoker.sample({"x": "int8"})(alone), lambda: stoker.sample({"x": "int8"}, setup=7),
                  lambda: stoker.sample(_plain),
                  lambda: stoker.generator({"x": "int8"})(_plain), lambda: stoker.batch({"x": "int8"})(_yields),
                  lambda: stoker.sample({"x": "int8"})(lambda sample: 1)):
        with pytest.raises(ConfigError):
            wrong()


def test_a_decorated_function_is_printed_with_its_arrays():
    def drive(sample, random):
        return 1
    made = stoker.sample({"x": ("uint8", (4, UpTo(3))), "y": "float32"})(drive)
    assert repr(made) == ("<stoker.sample test_a_decorated_function_is_printed_with_its_arrays.<locals>.drive: x uint8 "
                          "(4, UpTo(3)), y float32 ()>")


def test_a_function_is_found_by_its_name():
    assert name_of(alone) == __name__ + ":alone" and load_function(name_of(alone)) is alone
    assert name_of(other_name) == __name__ + ":other_name"


@pytest.mark.parametrize("function", [3, None, lambda sample, random: None, stoker.sample({"x": "int8"})(_plain)])
def test_a_function_without_a_name_is_refused(function):
    with pytest.raises(ConfigError, match="function"):
        name_of(function)


@pytest.mark.parametrize("name, says", [
    ("no_such_module_anywhere:f", "ModuleNotFoundError"), ("os:nothing_like_it", "has no"), ("os", "module:function"),
    ("/no/such/file.py:f", "no such file"), ("os:", "module:function"), (":f", "module:function")])
def test_a_name_that_leads_nowhere_is_an_error(name, says):
    with pytest.raises(ConfigError, match=says):
        load_function(name)


def test_a_function_of_the_program_is_found_by_its_file(tmp_path, monkeypatch):
    path = str(tmp_path / "train.py")
    with open(path, "w") as file:
        file.write("import stoker\n@stoker.sample({'x': 'int8'})\ndef f(sample, random):\n    return 1\n")
    main = types.ModuleType("__main__")
    main.__file__, main.__spec__ = path, None
    with open(path) as file:
        exec(compile(file.read(), path, "exec"), main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert name_of(main.f) == path + ":f" and load_function(path + ":f") is main.f
    main.__file__ = "another.py"                        # as in a worker
    try:
        found = load_function(path + ":f")
        assert found is not main.f and found.arrays == main.f.arrays and load_function(path + ":f") is found
    finally:
        del sys.modules["__stoker_program__"]
    main.__file__ = None                                # typed into an interpreter
    with pytest.raises(ConfigError, match="interpreter or a notebook"):
        name_of(main.f)


@pytest.mark.parametrize("body, says", [
    ("import no_such_module.inner", "install it for .*python.*, or move the function into a module that does not "),
    ("raise SystemExit(1)", "__name__ =="), ("1 / 0", "ZeroDivisionError"),
    ("import stoker; stoker.open_stream(3, 'numerical')", "__name__ ==")])
def test_a_program_that_starts_at_its_import_is_an_error(tmp_path, body, says):
    path = str(tmp_path / "train.py")
    with open(path, "w") as file:
        file.write(body)
    with pytest.raises(ConfigError, match=says):
        load_function(path + ":f")
    assert "__stoker_program__" not in sys.modules and os.path.exists(path)


@pytest.mark.parametrize("body, ends", [
    ("1 + 'one'", r"TypeError: unsupported operand .* \(failing.py, line 1\)"),
    ("def f(:", r"SyntaxError: invalid syntax \(failing.py, line 1\)"),
    ("from os import no_such_name", r"ImportError: cannot import name 'no_such_name'[^:]*"),
    ("raise ModuleNotFoundError('without a name')", r"ModuleNotFoundError: without a name \(failing.py, line 1\)"),
    ("raise OSError(2, 'no file', 'config.json')", r"FileNotFoundError: [^:]*: 'config.json' \(failing.py, line 1\)"),
])
@pytest.mark.parametrize("here", ["", " on this worker"])
def test_a_module_that_is_there_and_fails_gets_no_advice_on_folders(tmp_path, monkeypatch, body, ends, here):
    (tmp_path / "failing.py").write_text(body + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    with pytest.raises(ConfigError, match="^'failing:f': importing failing%s failed: %s$" % (here, ends)) as caught:
        load_function("failing:f", here)
    assert "None" not in str(caught.value) and "PYTHONPATH" not in str(caught.value)


@pytest.mark.parametrize("body", ["stoker.open_stream(3, 'numerical', workers=1)",
                                  "from stoker.trainer.__main__ import main; main()"])
def test_a_stream_that_its_own_import_opens_ends_the_opening_one_at_once(tmp_path, body):
    """The trainer does not go on without the function, which would be for modules that only workers have."""
    path = str(tmp_path / "train.py")
    with open(path, "w") as file:
        file.write("import stoker, stoker.trainer.run\ndef f(leases, job):\n    yield\n\n\n%s\n" % body)
    with pytest.raises(NestedStream, match="was imported to find a function in it.* __name__ =="):
        stoker.open_stream(3, path + ":f", workers=0)
    assert IN_WORKER not in os.environ and "__stoker_program__" not in sys.modules


def test_what_is_started_while_a_module_is_imported_may_open_no_stream(tmp_path, monkeypatch):
    path = str(tmp_path / "starts.py")
    with open(path, "w") as file:
        file.write("import os\nf = dict(os.environ)\n")
    try:
        inherited = load_function(path + ":f")[IN_WORKER]
    finally:
        sys.modules.pop("__stoker_program__")
    monkeypatch.setenv(IN_WORKER, inherited)
    refuse_nested()                                     # this process itself: another thread of it may import
    monkeypatch.setattr(os, "getpid", lambda: 1)        # as in a child
    for opens in (refuse_nested, lambda: stoker.open_stream(3, "numerical", workers=0)):
        with pytest.raises(NestedStream, match="a program that one started"):
            opens()


def test_in_a_worker_process_nothing_starts_workers(monkeypatch):
    monkeypatch.setenv(IN_WORKER, "of a worker")
    job = stoker.JobOptions("numerical")
    for opens in (lambda: stoker.open_stream(3, "numerical", workers=0), lambda: LocalWorkers(None, 1),
                  lambda: stoker.BatchStream(None, None, job, stoker.StreamOptions())):
        with pytest.raises(NestedStream, match="let only the training program do it"):
            opens()
    found = load_function("os:environ")                 # importing there keeps the mark
    assert found[IN_WORKER] == "of a worker"


def test_a_function_below_the_guard_is_told_so(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("if __name__ == '__main__':\n    f = 1\n")
    try:
        with pytest.raises(ConfigError, match='has no f: define it above  if __name__ == "__main__":'):
            load_function("%s:f" % path)
    finally:
        del sys.modules["__stoker_program__"]


@pytest.mark.parametrize("arguments, function", [(["-m", "pkg.train"], "one"), (["pkg/train.py"], "'pkg.train:one'"),
                                                 (["pkg/train.py"], "one")])
def test_a_program_without_a_guard_is_a_sentence_not_processes_without_end(tmp_path, arguments, function):
    """However its function is given, and under whatever name the workers import it."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "train.py").write_text(
        "import stoker\nopen('imports', 'a').write(__name__ + ' ')\n\n\n@stoker.sample({'x': 'int8'})\n"
        "def one(sample, random):\n    return 1\n\n\n"
        "with stoker.open_stream(4, %s, arrays={'x': 'int8'}, workers=1, worker_timeout_s=60) as stream:\n"
        "    list(stream)\n" % function)
    ended = subprocess.run([sys.executable] + arguments, cwd=str(tmp_path), stderr=subprocess.PIPE, timeout=300,
                           env=dict(os.environ, PYTHONPATH=os.pathsep.join([ROOT, str(tmp_path)])),
                           universal_newlines=True)
    assert ended.returncode == 1 and "put what starts the training below  if __name__ ==" in ended.stderr, ended.stderr
    assert len((tmp_path / "imports").read_text().split()) <= 5      # one trainer's; a worker tries three times


def test_a_function_that_is_not_there_is_told_with_its_file_and_the_nearest_name(tmp_path, monkeypatch):
    (tmp_path / "spelled.py").write_text("def steering(leases, job):\n    yield\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        load_function("spelled:stering", " on this worker")
    assert str(caught.value) == ("'spelled:stering': the module spelled (%s) on this worker has no stering: did you "
                                 "mean steering?" % (tmp_path / "spelled.py"))


# ------------------------------------------------------------------------------- a module that another one hides

ONE = "def one(leases, job):\n    yield\n"


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """The file of a user's ``code.py``, which the standard library's ``code`` hides, as in a worker."""
    file = tmp_path / "code.py"
    file.write_text(ONE)
    yield str(file)
    sys.modules.pop("__stoker_module_code__", None)


def in_a_worker(monkeypatch, **files):
    monkeypatch.setenv("STOKER_PROGRAM_PATH", json.dumps({"files": files}))


def test_a_worker_loads_the_file_that_the_program_has_as_that_module(hidden, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        load_function("code:one", " on this worker")
    assert str(caught.value) == ("'code:one': the module code (%s) on this worker has no one: if this file is not "
                                 "yours, rename yours" % code.__file__)
    in_a_worker(monkeypatch, code=hidden)
    found = load_function("code:one", " on this worker")
    assert found.__code__.co_filename == hidden and load_function("code:one") is found
    assert sys.modules["code"] is code and loaded_module("code").__file__ == hidden      # it hides nothing in turn
    in_a_worker(monkeypatch, code=code.__file__)
    assert not hasattr(load_function("code:interact"), "no such")


def test_a_package_that_another_one_hides_is_named(monkeypatch, tmp_path):
    own = str(tmp_path / "json" / "__init__.py")
    in_a_worker(monkeypatch, json=own)
    for name in ("json:one", "json.fns:one"):
        with pytest.raises(ConfigError) as caught:
            load_function(name, " on this worker")
        assert str(caught.value).endswith(": the program's json is %s, and %s hides it on this worker: rename yours"
                                          % (own, json.__file__))
    monkeypatch.delenv("STOKER_PROGRAM_PATH")
    with pytest.raises(ConfigError) as caught:          # a worker that was started by hand
        load_function("json.fns:one", " on this worker")
    assert str(caught.value).endswith(": if %s, which is json on this worker, is not yours, rename yours"
                                      % json.__file__)


def test_the_files_of_functions_are_those_of_their_outermost_packages():
    assert files_of(["code:f", "json.decoder:f", "/the/program.py:f", "image", "no_such_module:f", "sys:f"]) == {
        "code": code.__file__, "json": json.__file__}
