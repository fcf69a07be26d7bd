"""Mistakes with own data, on real workers: each is a sentence that names the place, and nothing hangs."""

import re
import sys
import threading
from decimal import Decimal

import numpy as np
import pytest

import stoker
from tests.support import bad_functions
from tests.support.processes import wait_for

ROWS = [{"a": number, "b": "text"} for number in range(6)]


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A folder with the module ``bad_functions``, which trainer and workers can import; it is the current one."""
    folder = tmp_path / "program"
    folder.mkdir()
    with open(bad_functions.__file__) as source:
        (folder / "bad_functions.py").write_text(source.read())
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "bad_functions", raising=False)
    return folder


@pytest.fixture
def batches_of(functions, worker_python):
    """A function that opens a stream and returns its batches, or puts them into a list."""
    def batches(function="good", data=ROWS, into=None, **options):
        taken = [] if into is None else into
        with stoker.open_stream(data, "bad_functions:" + function, batch_size=3, workers=1, worker_python=worker_python,
                                worker_timeout_s=60, batch_timeout_s=60, **options) as stream:
            taken.extend(stream)
        return taken
    return batches


def sentence(caught):
    """The error's text, which is one line without anything of Python's own around it."""
    text = str(caught.value)
    assert "\n" not in text and "Traceback" not in text and " object at 0x" not in text, text
    assert text.encode("utf-8")
    return text


# ------------------------------------------------------------------------------------------------ what a function does

WRONG = {      # function: what its sentence has, besides the function's name and a sample
    "undeclared": ["'z'", "'x'", "'y'"],
    "missing": ["'y'"],
    "too_few": ["1", "2", "'x'", "'y'"],
    "wrong_shape": ["'y'", r"\[3\]", r"\[2\]"],
    "too_long": ["'x'", r"\[4\]", r"UpTo\(3\)"],
    "ragged": ["'y'", "list"],
    "loses_a_fraction": ["'y'", r"1\.5", "int32"],
    "text": ["'x'", "the text 'abc'"],
    "none_in_it": ["'x'", "None"],
    "out_of_range": ["'x'", "300", "uint8"],
    "too_large": ["'x'", r"1e\+300", "float32"],
    "too_many_rows": ["3", "2"],
    "returns_none": ["None", "'x'"],
    "leaves_a_thread": ["'mine'"],
}


@pytest.mark.parametrize("function", sorted(WRONG))
def test_a_sample_function_that_breaks_a_rule(batches_of, function):
    with pytest.raises(stoker.RunFailed) as caught:
        batches_of(function)
    text = sentence(caught)
    for part in WRONG[function]:
        assert re.search(part, text), text
    assert "bad_functions:" + function in text and re.search(r"sample \d", text), text


@pytest.mark.parametrize("function, part", [
    ("column", r"sample \d: KeyError: 'nope': the row of sample \d has 'a', 'b'"),
    ("no_partners", r"sample \d: IndexError: .* partners="), ("exits", r"sample \d: it called sys.exit\(3\)")])
def test_an_exception_of_the_users_code(batches_of, function, part):
    """A sentence that names its line, and below it the traceback, which begins in the user's file."""
    with pytest.raises(stoker.RunFailed) as caught:
        batches_of(function)
    first, head, *traceback = str(caught.value).splitlines()
    assert re.search(r": function 'bad_functions:%s', %s.* \(bad_functions\.py, line \d+\)(;|$)"
                     % (function, part), first), first
    assert head.startswith("Traceback") and "bad_functions.py" in traceback[0]


def test_a_setup_that_fails_is_a_fault_of_its_worker(batches_of, caplog):
    """On another host it may find what it loads. The traceback is in the log, once."""
    with pytest.raises(stoker.RunFailed) as caught:
        batches_of("setup_fails")
    text = str(caught.value)
    assert re.match(r"none of the local workers can do this job: function 'bad_functions:setup_fails', its setup "
                    r"fails: ValueError: no vocabulary \(bad_functions.py, line \d+\)$", text), text
    line, = [message for message in caplog.messages if "set aside" in message]
    assert re.search('\nTraceback .*\n  File ".*bad_functions.py", line', line) and caplog.text.count("Traceback") == 1


def test_a_batch_function_that_returns_fewer(batches_of):
    with pytest.raises(stoker.RunFailed) as caught:
        batches_of("returns_fewer")
    assert re.search("'bad_functions:returns_fewer', .*2 rows for 3 samples.* may_skip", sentence(caught))


def test_not_a_number_is_a_number(batches_of):
    assert all(np.isnan(batch["x"]).all() and len(batch) == 3 for batch in batches_of("nan"))


@pytest.mark.parametrize("function", ["undecorated", "no_function"])
def test_what_is_no_declared_function(batches_of, function):
    with pytest.raises(stoker.ConfigError) as caught:
        batches_of(function)
    assert "bad_functions:" + function in sentence(caught) and "@stoker.sample" in sentence(caught)


@pytest.mark.parametrize("name, part", [("bad_functions:nope", "nope"), ("no_such_module:f", "no_such_module"),
                                        ("bad_functions", "module:function")])
def test_a_name_that_names_nothing(functions, worker_python, name, part):
    with pytest.raises(stoker.StokerError) as caught:
        with stoker.open_stream(ROWS, name, workers=1, worker_python=worker_python) as stream:
            list(stream)
    assert part in sentence(caught)


# ------------------------------------------------------------------------------------------------------ order, partners

ORDERS = [
    (lambda epoch, random: [0, 6], r"place 1 .*0 to 5, not 6"),
    (lambda epoch, random: [0, -1], r"place 1 .*0 to 5, not -1"),
    (lambda epoch, random: [], "no index"),
    (lambda epoch, random: None, "NoneType"),
    (lambda epoch, random: [0.5], r"0\.5"),
    (lambda epoch, random: 1 // 0, "ZeroDivisionError"),
    (lambda epoch: [1], "2 were given"),
    ("shufled", "'shufled'"),
    (stoker.balanced, r"stoker\.balanced\(\.\.\.\)"),
    (stoker.balanced("c"), "'c'.*'a'"),
    (stoker.weighted([1, 2]), "2 weights for 6"),
]


@pytest.mark.parametrize("order, part", ORDERS)
def test_a_bad_order(batches_of, order, part):
    with pytest.raises(stoker.ConfigError) as caught:
        batches_of(order=order)
    assert re.search(part, sentence(caught))


def test_an_order_that_changes_its_length(batches_of):
    taken = []
    with pytest.raises(stoker.RunFailed) as caught:
        batches_of(order=lambda epoch, random: range(5 + epoch // 2), epochs=3, into=taken)
    assert re.search("epoch 2 returned 6 indices, and 5 for epoch 0", sentence(caught))
    assert [batch.step for batch in taken] == list(range(len(taken))) and len(taken) <= 4


@pytest.mark.parametrize("partners, part", [
    (lambda index, random: [6], "0 to 5, not 6"),
    (lambda index, random: None, "NoneType"),
    (lambda index, random: [0] * 65, "65.* 64"),
    (-1, "-1"),
])
def test_bad_partners(batches_of, partners, part):
    with pytest.raises(stoker.StokerError) as caught:
        batches_of(partners=partners)
    assert "partners" in sentence(caught) and re.search(part, sentence(caught))


# ------------------------------------------------------------------------------------------------------------ the data

ROWS_THAT_CANNOT_TRAVEL = [
    ([{"a": 1}, {"a": Decimal(1)}], "row 1: 'a' is a Decimal"),
    ([{"a": {1, 2}}], "row 0: 'a' is a set"),
    ([2 ** 70], "row 0.*64 bits"),
    ([{1: 2}], "row 0.*key 1"),
    ([{"a": [{"b": object}]}], r"row 0: 'a'\[0\]\['b'\]"),
    ([], "nothing to train on"),
    ({"a": 1}, "dict"),
    (0, "0"),
    ("nowhere", "nowhere"),
]


@pytest.mark.parametrize("data, part", ROWS_THAT_CANNOT_TRAVEL)
def test_data_that_cannot_be_opened(batches_of, data, part):
    with pytest.raises((stoker.ConfigError, stoker.DatasetError)) as caught:
        batches_of(data=data)
    assert re.search(part, sentence(caught))


FILES = {      # name: (content, what the sentence has besides the name; or the rows)
    "ragged.csv": (b"a,b\n1,2\n3\n", "line 3 has 1 cell"),
    "long.csv": (b"a,b\n1,2,3\n", "line 2 has 3 cells"),
    "latin.csv": (b"a,b\n1,caf\xe9\n", "line 2.*utf-8"),
    "twice.csv": (b"a,a\n1,2\n", "line 1.*'a' twice"),
    "header.csv": (b"a,b\n", "no row"),
    "quote.csv": (b'a,b\n1,"2\n3,4\n', "line 2.*never closed"),
    "broken.jsonl": (b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
    "latin.jsonl": (b'{"a": "\xe9"}\n', "line 1.*utf-8"),
    "bom-and-crlf.csv": (b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y\r\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    "bom-and-crlf.jsonl": (b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n', [{"a": 1}, {"a": 2}]),
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_files(batches_of, name):
    content, expected = FILES[name]
    with open(name, "wb") as file:
        file.write(content)
    if isinstance(expected, list):
        batch, = batches_of(data=name, order="sequential")
        assert batch.rows == expected
    else:
        with pytest.raises(stoker.DatasetError) as caught:
            batches_of(data=name)
        assert name in sentence(caught) and re.search(expected, sentence(caught))


def test_rows_of_a_batch_function_that_the_trainer_cannot_import(functions, batches_of):
    """Only the workers know that it may mix its samples; rows that might be others' are not given."""
    (functions / "only_there.py").write_text(
        "import os\nimport stoker\nos.environ['STOKER_PROGRAM_PATH']      # only workers have it\n\n\n"
        "@stoker.batch({'x': 'int32'})\ndef mixed(samples, random):\n"
        "    return [sample.row['a'] for sample in samples][::-1]\n\n\n"
        "@stoker.sample({'x': 'int32'})\ndef plain(sample, random):\n    return sample.row['a']\n")
    for function in ("mixed", "plain"):
        with stoker.open_stream(ROWS, "only_there:" + function, arrays={"x": "int32"}, order="sequential", workers=1,
                                batch_size=3, worker_timeout_s=60, batch_timeout_s=60) as stream:
            batch = next(stream)
        if function == "plain":
            assert batch["x"].tolist() == [row["a"] for row in batch.rows] == [0, 1, 2]
            continue
        assert batch["x"].tolist() == [2, 1, 0]
        with pytest.raises(stoker.ConfigError, match="may return its samples in any order"):
            assert batch.rows


def test_hashes_of_texts_are_the_same_in_all_workers(functions, batches_of):
    """So is the order of a set of texts: with Python's default, each process would draw another one."""
    (functions / "sets.py").write_text(
        "import stoker\n\n\n@stoker.sample({'x': 'int64'})\ndef drawn(sample, random):\n    return hash('text')\n")
    found = set()
    for _ in range(2):
        with stoker.open_stream(ROWS, "sets:drawn", workers=1, worker_timeout_s=60) as stream:
            found.update(next(stream)["x"].tolist())
    assert len(found) == 1


def test_files_of_rows_that_are_nowhere(batches_of):
    """With a wrong root=, all files are bad: the first epoch is the last one."""
    taken = []
    with pytest.raises(stoker.DatasetError) as caught:
        batches_of("reads", epochs=3, root="..", into=taken)
    assert re.search("epoch 1 .*'text'.* no such file", sentence(caught))
    assert [len(batch) for batch in taken] == [0, 0]


# ---------------------------------------------------------------------------------------------------------- two threads

def test_two_threads_in_one_iterator(functions):
    """One of them gets the error at once, while the other one waits."""
    ended = []

    def take(stream):
        try:
            ended.append(list(stream))
        except RuntimeError as error:
            ended.append(error)
    with stoker.open_stream(6, "bad_functions:good", workers=0) as stream:
        threads = [threading.Thread(target=take, args=(stream,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: ended, "the end of one thread")
        assert "two threads" in str(ended[0])
        stream.interrupt()
        for thread in threads:
            thread.join(60)
    assert ended[1:] == [[]]
