"""Rows from files: CSV, JSONL, lines; lists and patterns of files; and the errors, with file and line."""

import csv as python_csv
import io
import json
import os
import tempfile
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.protocol.messages import Job, Sample
from stoker.pipeline.sources import csv_file, text_file
from stoker.pipeline.sources.reading import csv, files, jsonl, lines


def written(folder, text, name="log.csv"):
    path = os.path.join(str(folder), name)
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def all_rows(data):
    return data.rows(range(len(data)))


def sentence_of(error, read, *arguments, **options):
    with pytest.raises(error) as caught:
        read(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.isprintable() and len(sentence) < 400
    return sentence


@pytest.fixture
def csv_error(tmp_path):
    """The error of a CSV file with this text."""
    return lambda text, **options: sentence_of(DatasetError, csv, written(tmp_path, text), **options)


# ------------------------------------------------------------------------------------------------ csv

def test_rows_are_dicts_and_travel_as_lists(tmp_path):
    data = csv(written(tmp_path, "center,steering,frame\na.jpg,-0.5,1\nb.jpg,0,2\n"))
    assert all_rows(data) == [{"center": "a.jpg", "steering": -0.5, "frame": 1},
                              {"center": "b.jpg", "steering": 0.0, "frame": 2}]
    assert data.samples([1]) == (Sample(1, "", -1, msgpack.packb(["b.jpg", 0.0, 2])),)
    job = Job("m:f", (), 1, 0, "exact", data.root, columns=data.columns)
    assert [job.row(sample) for sample in data.samples([0, 1])] == all_rows(data)
    assert data.columns == ("center", "steering", "frame") and data.root == str(tmp_path)
    told = "%s: 2 rows of 3 columns: center (text), steering (float), frame (int)" % (tmp_path / "log.csv")
    assert data.summary() == data.below("/").summary() == told and repr(data) == "<Table: %s>" % told


@pytest.mark.parametrize("cells, values", [
    (["1", "-2", "0"], [1, -2, 0]), (["1", "2.5"], [1.0, 2.5]), (["1e3", "-.5", "+1"], [1000.0, -0.5, 1.0]),
    (["1", ""], [1, None]), (["", "0.5"], [None, 0.5]), (["", ""], [None, None]), (["1", "x"], ["1", "x"]),
    (["a", ""], ["a", ""]), (["007", "8"], ["007", "8"]), (["-01", "8"], ["-01", "8"]),
    (["0.7", "00.8"], ["0.7", "00.8"]), (["0", "-0"], [0.0, -0.0]),
    (["1_000", "2"], ["1_000", "2"]), (["inf", "-1"], [float("inf"), -1.0]),
    (["True", "False"], ["True", "False"]), (["0x10", "1"], ["0x10", "1"]),
    (["9" * 18, "-" + "9" * 18], [10 ** 18 - 1, 1 - 10 ** 18]), (["1", "9" * 19], ["1", "9" * 19]),
    (["0.5", "9" * 19], ["0.5", "9" * 19]), (["0.1234567890123456789", "1"], [0.12345678901234568, 1.0]),
    (["é", "日"], ["é", "日"]), (["1 ", "2"], [1.0, 2.0]), (["1\n", "2"], [1.0, 2.0]), (["a\nb", " c"], ["a\nb", " c"]),
])
@pytest.mark.parametrize("between", [0, 5000])
def test_the_type_of_a_column(tmp_path, cells, values, between):
    # rows between put the cells into different pieces of the file: the type must not depend on that
    text = io.StringIO()
    writer = python_csv.writer(text, quoting=python_csv.QUOTE_ALL)
    middle = [""] * between if between and None not in values and "" not in values else []
    writer.writerows([["name"], [cells[0]]] + [[cell] for cell in middle] + [[cell] for cell in cells[1:]])
    found = all_rows(csv(written(tmp_path, text.getvalue())))
    found = [row["name"] for row in found]
    found = found[:1] + found[1 + len(middle):]
    assert found == values and list(map(type, found)) == list(map(type, values))
    assert list(map(str, found)) == list(map(str, values))          # -0.0 is not 0.0


cells_of = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=8)


@given(st.lists(st.tuples(st.just("text"), cells_of, st.integers(-10 ** 17, 10 ** 17), st.floats(allow_nan=False)),
                min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_python_writes_comes_back(rows, end):
    text = io.StringIO()
    writer = python_csv.writer(text, lineterminator=end, quoting=python_csv.QUOTE_NONNUMERIC)
    writer.writerows([("fixed", "text", "int", "float")] + [(fixed, "x" + cell, int_, repr(float_))
                                                            for fixed, cell, int_, float_ in rows])
    with text_in_memory(text.getvalue()) as path:
        found = all_rows(csv(path))
    assert found == [{"fixed": fixed, "text": "x" + cell, "int": int_, "float": float_}
                     for fixed, cell, int_, float_ in rows]
    assert all(type(row["int"]) is int and type(row["float"]) is float for row in found)


class text_in_memory(object):
    """A temporary file; hypothesis does not share pytest's fixtures between its examples."""

    def __init__(self, text):
        number, self.path = tempfile.mkstemp()
        with open(number, "wb") as file:
            file.write(text.encode("utf-8"))

    def __enter__(self):
        return self.path

    def __exit__(self, *unused):
        os.unlink(self.path)


@pytest.mark.parametrize("text, rows", [
    ("\ufeffa,b\n1,2\n", [{"a": 1, "b": 2}]), ("a,b\r\n1,2\r\n\r\n", [{"a": 1, "b": 2}]), ("\n\na\n\n1\n", [{"a": 1}]),
    ("a,b\r1,2\r", [{"a": 1, "b": 2}]), ("a, b\nx.jpg, IMG/y.jpg\n", [{"a": "x.jpg", "b": "IMG/y.jpg"}]),
    ('a,b\n"1,5","say ""hi"""\n', [{"a": "1,5", "b": 'say "hi"'}]), ("a\n1\n\n2\n", [{"a": 1}, {"a": 2}]),
    ('a,b\n"two\nlines",1\n', [{"a": "two\nlines", "b": 1}]), ("a,b\n1,2", [{"a": 1, "b": 2}]),
    ('a,b\nx,5" tall\n', [{"a": "x", "b": '5" tall'}]),
])
def test_kinds_of_text(tmp_path, text, rows):
    assert all_rows(csv(written(tmp_path, text))) == rows


def test_other_delimiters_and_encodings(tmp_path):
    assert all_rows(csv(written(tmp_path, "a;b\n1,5;é\n".encode("latin-1")), delimiter=";", encoding="latin-1")) == [
        {"a": "1,5", "b": "é"}]
    assert all_rows(csv(written(tmp_path, "a\tb\n x\t\n", "log.TSV"))) == [{"a": " x", "b": None}]
    assert all_rows(csv(written(tmp_path, "a,b\n1,日\n".encode("utf-16")), encoding="utf-16")) == [{"a": 1, "b": "日"}]


@pytest.mark.parametrize("between", [0, 5000])
def test_decimal_commas_and_missing_values(tmp_path, between):
    """In columns of numbers only, in whichever part of the file a cell is that makes a column text."""
    text = "Fl\u00e4che;n;name;thousands\n13,31;1;NA;1,5\n" + "2;2;b;2\n" * between + "k.A.;NA;k.A.;1.000\n;;b;3\n"
    options = dict(delimiter=";", encoding="latin-1", decimal=",")
    path = written(tmp_path, text.encode("latin-1"))
    data = csv(path, na_values=["NA", "k.A."], **options)
    first, *_, last, empty = all_rows(data)
    assert first == {"Fl\u00e4che": 13.31, "n": 1, "name": "NA", "thousands": "1,5"}
    assert last == {"Fl\u00e4che": None, "n": None, "name": "k.A.", "thousands": "1.000"}
    assert empty == {"Fl\u00e4che": None, "n": None, "name": "b", "thousands": "3"}
    assert data.types == ("float", "int", "text", "text")
    assert csv(path, **options).types == ("text",) * 4


@pytest.mark.parametrize("options", [
    dict(decimal=","), dict(decimal=";"), dict(decimal=None), dict(na_values="NA"), dict(na_values=[None])])
def test_other_decimals_and_missing_values_are_refused(tmp_path, options):
    assert next(iter(options)) in sentence_of(ConfigError, csv, written(tmp_path, "a\n1\n"), **options)


def test_columns_of_a_file_without_names(tmp_path):
    path = written(tmp_path, "x.jpg,0.5\ny.jpg,1\n")
    assert all_rows(csv(path, columns=["path", "y"])) == [{"path": "x.jpg", "y": 0.5}, {"path": "y.jpg", "y": 1.0}]
    assert "log.csv, line 1 has 2 cells, and 1 columns are named" in sentence_of(DatasetError, csv, path, columns=["a"])
    assert "columns must be a list of names, not 'ab'" in sentence_of(ConfigError, csv, path, columns="ab")
    assert "columns= has the name 'a' twice" in sentence_of(ConfigError, csv, path, columns=["a", "a"])
    assert "columns= has an empty name for column 2" in sentence_of(ConfigError, csv, path, columns=["a", ""])


def test_the_root(tmp_path, monkeypatch):
    os.mkdir(str(tmp_path / "runs"))
    written(tmp_path / "runs", "a\n1\n")
    monkeypatch.chdir(str(tmp_path))
    assert csv("runs/log.csv").root == str(tmp_path / "runs")
    assert csv(tmp_path / "runs" / "log.csv", root="pictures/").root == str(tmp_path / "pictures")
    for root in ("", 5, b"x"):
        assert "root must be the path of a folder" in sentence_of(ConfigError, csv, "runs/log.csv", root=root)


LONG = "a,b\n" + "x,1\n" * 9000


@pytest.mark.parametrize("text, words", [
    ("a,b\n1,2\n3\n", ["log.csv, line 3 has 1 cell, and 2 columns are named"]),
    ("a,b\n1,2,3\n", ["log.csv, line 2 has 3 cells", "delimiter ','"]),
    (LONG + "1,2,3\n" + LONG, ["line 9002 has 3 cells"]),
    ('a,b\n"x\ny",2\n\n\n3\n', ["line 6 has 1 cell"]),
    ("a,b\n1,2\n" + '"open,2\n' + LONG, ["line 3", "a quote that opens in this row is never closed"]),
    ('a,b\n1,2\n"x"y,2\n', ["log.csv, line 3 cannot be read as CSV"]),
    ("a,b\n1,2\nx\0y,2\n", ["line 3", "NUL byte"]), ("a,b\0\n1,2\n", ["line 1", "NUL byte"]),
    (LONG + "x\0y,2\n", ["line 9002", "NUL byte"]),
    ("", ["log.csv is empty", "column names"]), ("\n\n", ["is empty"]), ("\ufeff", ["is empty"]),
    ("a,b\n", ["log.csv: no row"]), ("a,b,a\n1,2,3\n", ["line 1 has the name 'a' twice", "columns=[...]"]),
    ("a,,b\n1,2,3\n", ["line 1 has an empty name for column 2"]),
    ("a,b\n" + "x" * 200000 + ",1\n", ["line 2", "field"]),
    ("a\n1\n".encode("utf-16"), ["log.csv, line 1 is not utf-8 (it begins as UTF-16 does)", "encoding='utf-16'"]),
    ("a,b\n1,2\n".encode("utf-16-le"), ["line 1", "NUL byte", "encoding='utf-16-le'"]),
    ("a;b\n1;2\n", ["log.csv, line 1 names the single column 'a;b': give delimiter=';'", "or delimiter=','"]),
    ("a\tb\n1\t2\n", ["delimiter='\\t'"]), ("a;b\n1,5;2\n", ["delimiter=';'"]),
    ("a,b\n1,2\n3,é\n".encode("latin-1"), ["log.csv, line 3 is not utf-8 (byte 0xe9)", "encoding='latin-1'"]),
    (LONG.encode() + "é,1\n".encode("latin-1") + LONG.encode(), ["line 9002 is not utf-8"]),
])
def test_the_error_names_file_and_line(csv_error, text, words):
    sentence = csv_error(text)
    assert all(word in sentence for word in words), sentence


def test_files_that_cannot_be_read(tmp_path):
    assert "no.csv cannot be read (No such file or directory)" in sentence_of(DatasetError, csv, tmp_path / "no.csv")
    assert "is a folder, and a file is needed" in sentence_of(DatasetError, csv, tmp_path)
    os.mkfifo(str(tmp_path / "pipe.csv"))                            # to open it would wait for a writer
    assert "pipe.csv is no regular file" in sentence_of(DatasetError, csv, tmp_path / "pipe.csv")
    for data in ("", b"log.csv", None, 5):
        assert "a file must be given as its path" in sentence_of(ConfigError, csv, data)
    path = written(tmp_path, "a\n1\n")
    for encoding in ("utf-9", "hex", 5):
        assert "there is no encoding %r" % encoding in sentence_of(ConfigError, csv, path, encoding=encoding)
    assert "line 1 is not utf-16 (" in sentence_of(DatasetError, csv, written(tmp_path, "ab\n1\n"), encoding="utf-16")
    assert csv(written(tmp_path, "a;b\n1\n"), delimiter=",").columns == ("a;b",)
    for delimiter in ("", ";;", "\n", 5):
        assert "delimiter must be a single character" in sentence_of(ConfigError, csv, path, delimiter=delimiter)


def test_a_file_that_changes_between_the_two_passes(tmp_path, monkeypatch):
    path, types = written(tmp_path, "a\n1\n2\n"), csv_file.CsvFile.types

    def then_changes(text):
        def first_pass(self):
            found = types(self)
            written(tmp_path, text)
            return found
        return first_pass
    for text in ("a\n1\n", "a\n1\nx\n"):
        written(tmp_path, "a\n1\n2\n")
        monkeypatch.setattr(csv_file.CsvFile, "types", then_changes(text))
        assert "log.csv changed while it was read" in sentence_of(DatasetError, csv, path)


def test_a_name_that_is_not_utf_8(tmp_path):
    name = str(tmp_path / "caf\udce9.csv")
    with open(name, "w") as file:
        file.write("a\n1,2\n")
    assert "caf\\xe9.csv, line 2 has 2 cells" in sentence_of(DatasetError, csv, name)


def test_memory_is_that_of_the_packed_rows(tmp_path):
    path = written(tmp_path, "path,a,b\n" + "".join("class%d/picture%06d.jpg,0.5,%r\n" % (i % 10, i, i / 7)
                                                     for i in range(40000)))
    tracemalloc.start()
    try:
        data = csv(path)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    packed = sum(len(sample.packed) for sample in data.samples(range(len(data))))
    assert kept <= packed + 16 * len(data) + 100000
    assert most <= kept + 5000000


@pytest.mark.parametrize("read", [csv, jsonl])
def test_progress_is_shown_on_a_terminal(tmp_path, monkeypatch, read):
    tqdm = pytest.importorskip("tqdm")
    shown = {}

    class Bar(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(file=io.StringIO(), **options)

        def close(self):
            shown.setdefault(id(self), (self.n, self.total, self.delay))     # tqdm closes twice
            super().close()
    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(text_file.sys, "stderr", Terminal())
    path = written(tmp_path, "1\n" * 10000)
    read(path)
    assert len(shown) == (2 if read is csv else 1)
    assert all(0 < done <= total == 20000 and delay >= 1 for done, total, delay in shown.values())
    monkeypatch.setattr(text_file.sys, "stderr", io.StringIO())
    read(path)
    assert len(shown) == (2 if read is csv else 1) and not text_file.sys.stderr.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


# ---------------------------------------------------------------------------------------------- jsonl

def test_jsonl(tmp_path):
    values = [{"path": "é.jpg", "boxes": [[1, 2.0]], "ok": True, "none": None}, [1], 2 ** 63, "text", -0.5, None]
    text = "\n\n".join(map(json.dumps, values)) + "\r\n \n"
    data = jsonl(written(tmp_path, "\ufeff" + text, "boxes.jsonl"))
    assert all_rows(data) == values and type(all_rows(data)[0]["boxes"][0][0]) is int
    assert data.root == str(tmp_path) and data.columns == () and data.name.endswith("boxes.jsonl")
    assert [sample.path for sample in data.samples([3])] == [""]
    assert jsonl(tmp_path / "boxes.jsonl", root="/data/").root == "/data"


@pytest.mark.parametrize("text, words", [
    ('{"a": 1}\n\n{"a": }\n', ["boxes.jsonl, line 3 is not JSON (Expecting value, column 7)"]),
    ('{"a": 1} {"a": 2}\n', ["line 1 is not JSON (Extra data, column 10)"]), ("", ["boxes.jsonl: no row"]),
    ('1\n{"id": %d}\n' % 2 ** 70, ["boxes.jsonl, line 2: 'id' is an int of more than 64 bits"]),
    ('1\n\n"\\ud800"\n', ["line 3: the row is the text '\\ud800'"]),
    ("[" * 100000 + "\n", ["line 1", "nested too deep"]),
    ("[" * 100 + "]" * 100, ["line 1: item 0 is nested deeper"]), ("1" * 5000, ["line 1"]),
    ("1\n\xff".encode("latin-1"), ["line 2 is not utf-8", "convert the file to UTF-8"]),
    ("1\n".encode("utf-16"), ["line 1 is not utf-8", "convert the file to UTF-8 from UTF-16"]),
    ('[\n{"a": 1},\n{"a": 2}\n]\n', ["line 1 is not JSON", "write each value on a line of its own"]),
    ('{\n"a": 1\n}\n', ["line 1 is not JSON", "write each value on a line of its own"]),
    ('[{"a": 1}, {"a": 2}]\n', ["boxes.jsonl is a single JSON list: write each of its items on a line of its own"]),
    ('["%s"]' % ("x" * (1 << 20)), ["line 1 has 1048582 bytes"]),
])
def test_the_error_of_jsonl_names_file_and_line(tmp_path, text, words):
    sentence = sentence_of(DatasetError, jsonl, written(tmp_path, text, "boxes.jsonl"))
    assert all(word in sentence for word in words), sentence


def test_rows_that_are_lists_need_two_lines(tmp_path):
    assert all_rows(jsonl(written(tmp_path, '[{"a": 1}]\n[{"a": 2}]\n', "boxes.jsonl"))) == [[{"a": 1}], [{"a": 2}]]
    assert all_rows(jsonl(written(tmp_path, "[1, 2]\n", "boxes.jsonl"))) == [[1, 2]]


# ---------------------------------------------------------------------------------------------- lines

def test_lines(tmp_path):
    path = written(tmp_path, "2\nname smiling hat\n\n000001.jpg  1 -1\r\n000002.jpg -1  1", "attributes.txt")

    def parse(line):
        cells = line.split()
        if not cells[0].endswith(".jpg"):
            return None
        return {"path": cells[0], "attributes": tuple(map(int, cells[1:]))}
    data = lines(path, parse)
    assert all_rows(data) == [{"path": "000001.jpg", "attributes": [1, -1]},
                              {"path": "000002.jpg", "attributes": [-1, 1]}]
    assert data.root == str(tmp_path) and lines(path, parse, root="/data").root == "/data"
    assert all_rows(lines(path, str))[1:3] == ["name smiling hat", "000001.jpg  1 -1"]
    assert all_rows(lines(written(tmp_path, "é".encode("latin-1")), list, encoding="latin-1")) == [["é"]]


def test_the_errors_of_lines(tmp_path):
    path = written(tmp_path, "1\n\n2\nx\n", "numbers.txt")

    def parse(line):
        return int(line)
    sentence = sentence_of(DatasetError, lines, path, parse)
    assert "numbers.txt, line 4: parse: ValueError: invalid literal" in sentence
    assert sentence.endswith("(test_reading.py, line %d)" % (parse.__code__.co_firstlineno + 1))
    assert "line 3: the row is a complex" in sentence_of(DatasetError, lines, path,
                                                         lambda line: 1 if line == "1" else 1j)
    assert "numbers.txt: no row" in sentence_of(DatasetError, lines, path, lambda line: None)
    assert "parse must be a function" in sentence_of(ConfigError, lines, path, "/data")

    def stops(line):
        raise StopIteration("here")
    assert "line 1: stops: a StopIteration came out of it" in sentence_of(DatasetError, lines, path, stops)


# ---------------------------------------------------------------------------------------------- files

def tree(root, *paths):
    for path in paths:
        whole = os.path.join(os.fsencode(str(root)), path.encode("utf-8", "surrogateescape"))
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        open(whole, "wb").close()
    return str(root)


def test_files_that_match_a_pattern(tmp_path, monkeypatch):
    tree(tmp_path, "gan/b.jpg", "gan/a/x.jpg", "gan/a/b/é.jpg", "gan/B.jpg", "gan/\udcff.jpg", "gan/a/x.png",
         "x.jpg", "gan/folder.jpg/in.jpg", "gan/.hidden/1.jpg")
    monkeypatch.chdir(str(tmp_path))
    data = files("gan/**/*.jpg")
    assert data.root == str(tmp_path / "gan") and data.classes == () and data.has_paths
    assert data.paths == ("B.jpg", "a/b/é.jpg", "a/x.jpg", "b.jpg", "folder.jpg/in.jpg", "\udcff.jpg")
    assert data.samples([1]) == (Sample(1, "a/b/é.jpg", -1),) and data.rows([1]) == ["a/b/é.jpg"]
    assert files(str(tmp_path / "gan" / "a" / "*.jpg")).paths == ("x.jpg",)
    assert files("gan/*/*.jpg").root == str(tmp_path / "gan") and files("*.jpg").root == str(tmp_path)
    assert files("./gan/../gan//?.jpg").paths == ("B.jpg", "b.jpg", "\udcff.jpg")
    rooted = files("a/*.jpg", root="gan")
    assert (rooted.root, rooted.paths) == (str(tmp_path / "gan"), ("a/x.jpg",))
    assert files(tmp_path / "gan" / "[b]*").paths == ("b.jpg",)
    assert data.summary() == "%s: 6 files" % (tmp_path / "gan")


def test_a_folder_with_signs_of_a_pattern_in_its_name(tmp_path, monkeypatch):
    tree(tmp_path, "set[1]*/x.jpg", "set1a/y.jpg")
    monkeypatch.chdir(str(tmp_path / "set[1]*"))
    assert files("*.jpg").paths == files("*.jpg", root=str(tmp_path / "set[1]*")).paths == ("x.jpg",)


def test_patterns_without_files(tmp_path, monkeypatch):
    tree(tmp_path, "gan/x.jpg/y.png", "gan/z.png")
    monkeypatch.chdir(str(tmp_path))
    assert "no file matches *.jpg in %s" % (tmp_path / "gan") in sentence_of(DatasetError, files, "gan/*.jpg")
    for path in ("gan", "gan/z.png", ""):
        assert "files needs a pattern with * or ?" in sentence_of(ConfigError, files, path)
    for data in (b"gan/*", 5, {"a": 1}):
        assert "files needs a pattern such as" in sentence_of(ConfigError, files, data)


def test_a_list_of_paths_keeps_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    data = files(["train/b.jpg", "./train//x/../a.jpg", str(tmp_path / "train" / "c" / "\udcff.jpg"), "train/b.jpg"])
    assert (data.root, data.paths) == (str(tmp_path / "train"), ("b.jpg", "a.jpg", "c/\udcff.jpg", "b.jpg"))
    assert data.labels == (-1,) * 4 and data.classes == ()
    assert files(iter([tmp_path / "a" / "x.jpg"])).root == str(tmp_path / "a")
    assert files(["/a/b1/x", "/a/b2/x"]).root == "/a" and files(["/a/b/x", "/a/b/x2"]).root == "/a/b"
    data = files(["/x.jpg", "/data/y.jpg"], root="/")
    assert (data.root, data.paths) == ("/", ("x.jpg", "data/y.jpg"))
    data = files(["b.jpg", "/data/c.jpg"], root="/data")
    assert (data.root, data.paths) == ("/data", ("b.jpg", "c.jpg"))


@pytest.mark.parametrize("paths, words", [
    (["a.jpg", {"path": "b.jpg"}], ["row 1 is {'path': 'b.jpg'}, which is no path"]), ([], ["is empty"]),
    (["a.jpg", ""], ["row 1 is '', which is no path"]), (["a\0.jpg"], ["row 0 is 'a\\x00.jpg', which is no path"]),
    (["a.jpg", "/other/b.jpg"], ["row 1, /other/b.jpg, is not below the root /data"]),
    (["../b.jpg"], ["row 0, /b.jpg, is not below the root"]), (["."], ["not below the root"]),
    (["a.jpg", "\ud800.jpg"], ["row 1 is the path '\\ud800.jpg', which is no file name"]), ([b"a.jpg"], ["no path"]),
])
def test_lists_that_are_no_lists_of_paths(paths, words):
    sentence = sentence_of(DatasetError, files, paths, root="/data")
    assert all(word in sentence for word in words), sentence
