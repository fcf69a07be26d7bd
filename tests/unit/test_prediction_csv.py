"""The CSV file of predictions: columns, order, alignment with the samples."""

import csv
import io

import numpy as np
import pytest

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.protocol.messages import Skipped
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.table import Numbers, Table
from stoker.trainer.prediction_csv import MAX_VALUES, PredictionLines, check_columns

FILES = Dataset("/data", (), tuple("%d.jpg" % number for number in range(6)), (-1,) * 6, ())
ROWS = Table.of([{"file": "%d.jpg" % number, "x": number / 2} for number in range(6)], "/data")


def batch(indices, used=None, skipped=(), source=FILES):
    used = tuple(indices) if used is None else tuple(used)
    arrays = (np.zeros(len(used)),)
    return Batch(0, 0, False, tuple(indices), arrays, tuple(skipped), "w", 1, 0.1, used, source=source)


class Writing:
    def __init__(self, source=FILES, classes=(), fields=None):
        self._file = io.StringIO()
        self._lines = PredictionLines(self._file, source, classes, fields)

    def write(self, *arguments, predictions=None, **named):
        return self._lines.write(batch(*arguments, **named), predictions)

    @property
    def lines(self):
        return list(csv.reader(io.StringIO(self._file.getvalue())))


def test_scores_of_classes():
    writing = Writing(classes=("cat", "a,b", 'quo"te'))
    counts = writing.write((0, 1), predictions=np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32))
    assert writing.lines == [["path", "class", "score_cat", "score_a,b", 'score_quo"te', "error"],
                             ["0.jpg", "a,b", "0.1", "0.7", "0.2", ""], ["1.jpg", "cat", "0.5", "0.25", "0.25", ""]]
    assert counts == (2, 0, "none")


def test_scores_have_all_their_digits():
    writing, values = Writing(classes=("a", "b")), np.random.RandomState(0).uniform(size=(6, 2)).astype(np.float32)
    writing.write(range(6), predictions=values)
    written = np.array([line[2:4] for line in writing.lines[1:]]).astype(np.float32)
    np.testing.assert_array_equal(written, values)


@pytest.mark.parametrize("classes, predictions, columns, cells", [
    (("cat", "dog"), np.array([1, 0]), ["class"], [["dog"], ["cat"]]),
    (("cat", "dog"), np.array([[1], [7]]), ["class"], [["dog"], ["7"]]),
    (("cat", "dog"), np.array([0.5, 2.0]), ["prediction"], [["0.5"], ["2.0"]]),
    ((), np.array([[1, 2, 3], [4, 5, 6]]), ["prediction_0", "prediction_1", "prediction_2"],
     [["1", "2", "3"], ["4", "5", "6"]]),
    ((), np.arange(8.0).reshape(2, 2, 2), ["prediction_%d" % number for number in range(4)],
     [["0.0", "1.0", "2.0", "3.0"], ["4.0", "5.0", "6.0", "7.0"]]),
    ((), np.array([b"yes", "n\u00f6".encode("utf-8")], object), ["prediction"], [["yes"], ["n\u00f6"]]),
    ((), np.array([True, False]), ["prediction"], [["True"], ["False"]]),
])
def test_the_columns_of_other_predictions(classes, predictions, columns, cells):
    writing = Writing(classes=classes)
    writing.write((3, 4), predictions=predictions)
    assert writing.lines == [["path"] + columns + ["error"], ["3.jpg"] + cells[0] + [""], ["4.jpg"] + cells[1] + [""]]


def test_what_is_missing_has_its_line_and_reason_in_its_place():
    writing = Writing()
    skipped = [Skipped(0, "gone"), Skipped(2, "no face", chosen=True), Skipped(3, "torn", "masks/3.png")]
    counts = writing.write(range(4), used=[1], skipped=skipped, predictions=np.array([0.5]))
    assert writing.lines[1:] == [["0.jpg", "", "gone"], ["1.jpg", "0.5", ""], ["2.jpg", "", "no face"],
                                 ["3.jpg", "", "masks/3.png: torn"]]
    assert counts == (1, 3, "0.jpg: gone")


def test_lines_before_the_first_prediction_wait_for_the_columns():
    writing = Writing()
    assert writing.write((0, 1), used=(), skipped=[Skipped(0, "gone"), Skipped(1, "torn")]) == (0, 2, "0.jpg: gone")
    assert writing.lines == []
    assert writing.write((2, 3), used=(2,), skipped=[Skipped(3, "empty")],
                         predictions=np.array([[1, 2]])) == (1, 3, "0.jpg: gone")
    assert writing.lines == [["path", "prediction_0", "prediction_1", "error"], ["0.jpg", "", "", "gone"],
                             ["1.jpg", "", "", "torn"], ["2.jpg", "1", "2", ""], ["3.jpg", "", "", "empty"]]


def test_a_sample_with_several_rows_has_several_lines():
    writing = Writing()
    counts = writing.write((0, 1, 2), used=(0, 0, 2), predictions=np.array([1, 2, 3]))
    assert [line[:2] for line in writing.lines[1:]] == [["0.jpg", "1"], ["0.jpg", "2"], ["1.jpg", ""], ["2.jpg", "3"]]
    assert counts == (2, 1, "1.jpg: the function returned no row for it")


def test_rows_have_their_columns_or_else_their_number(tmp_path):
    (tmp_path / "log.csv").write_text("file,x\n0.jpg,0.5\n1.jpg,\n")
    from stoker.pipeline.sources.reading import csv as read_csv
    writing = Writing(read_csv(str(tmp_path / "log.csv")))
    writing.write((0, 1), used=(0,), skipped=[Skipped(1, "gone")], predictions=np.array([7]))
    assert writing.lines[0] == ["file", "x", "prediction", "error"]
    assert writing.lines[1] == ["0.jpg", "0.5", "7", ""] and writing.lines[2][::3] == ["1.jpg", "gone"]
    for source in (ROWS, Numbers(6)):
        writing = Writing(source)
        assert writing.write((4, 5), used=(5,), skipped=[Skipped(4, "gone")],
                             predictions=np.array([7])).first_error == "sample 4: gone"
        assert writing.lines == [["sample", "prediction", "error"], ["4", "", "gone"], ["5", "7", ""]]


def test_a_column_of_the_rows_is_not_mistaken_for_a_prediction(tmp_path):
    (tmp_path / "log.csv").write_text("file,class,error\n0.jpg,cat,0.5\n")
    from stoker.pipeline.sources.reading import csv as read_csv
    writing = Writing(read_csv(str(tmp_path / "log.csv")), ("cat", "dog"))
    writing.write((0,), predictions=np.array([1]))
    assert writing.lines == [["file", "row_class", "row_error", "class", "error"], ["0.jpg", "cat", "0.5", "dog", ""]]


def test_chosen_fields_of_rows(tmp_path):
    rows = [{"x": 1}, {"x": [1, "a"], "name": "b"}, {"x": None}] + [{"x": 0}] * 2000
    source = Table.of(rows, "/data")
    check_columns(source, ["name", "x"])
    writing = Writing(source, fields=["name", "x"])
    writing.write((0, 1, 2), predictions=np.array([7, 8, 9]))
    assert writing.lines == [["name", "x", "prediction", "error"], ["", "1", "7", ""], ["b", '[1, "a"]', "8", ""],
                             ["", "", "9", ""]]
    check_columns(FILES, None)
    for data, fields, word in ((source, ["x", "y"], "names y, and no row"), (FILES, ["x"], "are files"),
                               (Table.of([{"\u00f6": 1}], "/data"), ["o\u0308"], "but one in another"),
                               (Numbers(3), ["x"], "other rows"), (Table.of([[1]], "/data"), ["x"], "other rows")):
        with pytest.raises(ConfigError, match=word):
            check_columns(data, fields)


@pytest.mark.parametrize("predictions, source, sentence", [
    (np.zeros((1, MAX_VALUES + 1)), FILES, "has %d values, and a line at most" % (MAX_VALUES + 1)),
    (np.zeros(1), None, "declared by stoker.batch may return its samples in any order"),
])
def test_what_cannot_be_written_is_one_sentence(predictions, source, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Writing().write((0,), predictions=predictions, source=source)
