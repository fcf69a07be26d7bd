"""A CSV file as packed rows, in two passes: the first finds the type of each column, the second converts and packs.

Both read a few thousand rows at a time and treat each column of them at once: a row costs a few microseconds, and
memory holds no more than these rows beside the packed ones.
"""

import csv
import re
from array import array
from itertools import islice
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError, ContentError, DatasetError
from stoker.pipeline.protocol.codec import MAX_COLUMNS
from stoker.pipeline.protocol.columns import MAX_ROW_BYTES
from stoker.pipeline.protocol.messages import MAX_TEXT
from stoker.pipeline.sources.fields import fault_of
from stoker.pipeline.sources.packing import ROWS_AT_ONCE, Blob, packer
from stoker.pipeline.sources.text_file import TextFile
from stoker.pipeline.text import quoted

Columns = List[Sequence[str]]      # the cells of some rows, by column
INT, FLOAT, TEXT = "int", "float", "text"
NUL = "a NUL byte: if it is a text file, give its encoding, such as encoding='utf-16-le'"
#: A cell with a decimal comma becomes a number of Python, and one with a point becomes none.
_SWAPPED = str.maketrans(",.", ".,")
_MOST = 10 ** 18                   # of more digits, a float loses some, and an int may not be one of 64 bits
#: In cells of numbers, joined with commas: a number that begins with a needless 0, or a whole one of 19 digits or more.
_CODE = re.compile(r",\s*[+-]?(?:0[0-9]|[0-9]{19,}\s*(?:,|$))")


class CsvFile:
    """The rows of a CSV file. ``columns``: their names, or None if the first row has them. ``na_values``: cells that
    are empty in a column of numbers. ``decimal``: the sign before their fractions. Raises ConfigError, DatasetError."""

    def __init__(self, file: TextFile, delimiter: str, columns: Optional[Sequence[str]],
                 na_values: Sequence[str] = (), decimal: str = ".") -> None:
        self._file = file
        if isinstance(na_values, str) or not all(isinstance(cell, str) for cell in na_values):
            raise ConfigError("na_values must be a list of texts, such as ['NA', '-'], not %.80r" % (na_values,))
        if decimal not in (".", ",") or decimal == delimiter:
            raise ConfigError("decimal must be '.' or ',', and not the delimiter, here %.80r and %.80r: give another "
                              "delimiter=" % (decimal, delimiter))
        self._missing = frozenset(na_values)
        self._is_comma = decimal == ","
        if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in "\r\n\"\0":
            raise ConfigError("delimiter must be a single character, such as ',' or ';', not %.80r" % (delimiter,))
        self._options = dict(delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)    # type: Any
        self._has_header = columns is None
        self.columns: Tuple[str, ...] = ()
        self.found: Tuple[str, ...] = ()        # the type of each column, once ``packed`` was called
        if columns is None:
            with file.opened(newline="") as text:
                try:
                    columns = next(filter(None, csv.reader(text, **self._options)), None)
                except csv.Error as error:
                    raise self._fault(error) from None
                if columns and "\0" in "".join(columns):
                    raise self._fault()
                if columns is None:
                    raise ContentError("%s is empty: it should begin with a line of column names" % file.name)
            self.columns = tuple(columns)
            self._check_columns("%s has" % file.at(1), DatasetError)
        else:
            if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
                raise ConfigError("columns must be a list of names, not %.80r" % (columns,))
            self.columns = tuple(columns)
            self._check_columns("columns= has", ConfigError)

    def _check_columns(self, place: str, error: Any) -> None:
        """Raises ``error`` if a name is empty or there twice."""
        if not 1 <= len(self.columns) <= MAX_COLUMNS:
            raise error("%s %d names: a table has 1 to %d columns" % (place, len(self.columns), MAX_COLUMNS))
        for number, name in enumerate(self.columns):
            if not name.strip() or len(name) > MAX_TEXT:
                raise error("%s %s name for column %d: name each column, and if the file has no line of names, give "
                            "stoker.csv(..., columns=[...])" % (
                                place, "too long a" if name.strip() else "an empty", number + 1))
            if fault_of(name):
                raise error("%s the name %s, which %s" % (place, quoted(name), fault_of(name)))
            if name in self.columns[:number]:
                raise error("%s the name %s twice: rename one, and if the file has no line of names, give "
                            "stoker.csv(..., columns=[...])" % (place, quoted(name)))

    def types(self) -> Tuple[List[str], int]:
        """INT, FLOAT or TEXT for each column, and the number of rows."""
        types, count = [INT] * len(self.columns), 0
        for columns in self._pieces():
            types = [TEXT if known == TEXT else _type_of(self._numbers(cells), known)
                     for cells, known in zip(columns, types)]
            if any(known == TEXT and "\0" in "".join(cells) for cells, known in zip(columns, types)):
                raise self._fault()        # newer versions of Python read it like any other character
            count += len(columns[0])
        return types, count

    def packed(self) -> Tuple[bytes, "array[int]"]:
        """The packed rows and their n + 1 offsets."""
        types, count = self.types()
        self.found = tuple(types)
        pack, blob, rows = packer(), Blob(), 0
        for columns in self._pieces():
            try:
                packed = list(map(pack, zip(*[cells if known == TEXT else _converted(self._numbers(cells), known)
                                              for cells, known in zip(columns, types)])))
            except ValueError:
                break
            if max(map(len, packed)) > MAX_ROW_BYTES:
                raise DatasetError("%s has a row of more than %d bytes: put large values into files, and give their "
                                   "paths" % (self._file.name, MAX_ROW_BYTES))
            blob.extend(packed)
            rows += len(packed)
        if rows != count:
            raise self._changed()
        return blob.finished()

    def _pieces(self) -> Iterator[Columns]:
        """All rows below the header, some thousand at a time. Raises DatasetError with the line at fault."""
        with self._file.opened(newline="") as text, self._file.progress(text) as report:
            reader = filter(None, csv.reader(text, **self._options))       # a blank line is a row of no cells
            try:
                if self._has_header:
                    next(reader, None)
                while True:
                    rows = list(islice(reader, ROWS_AT_ONCE))
                    if not rows:
                        return
                    if set(map(len, rows)) != {len(self.columns)}:
                        raise self._fault()
                    yield list(zip(*rows))
                    report()
            except csv.Error as error:
                raise self._fault(error) from None

    def _numbers(self, cells: Sequence[str]) -> Sequence[str]:
        """The cells of a column of numbers as Python writes numbers; "" for a missing one."""
        if self._missing and not self._missing.isdisjoint(cells):
            cells = ["" if cell in self._missing else cell for cell in cells]
        return [cell.translate(_SWAPPED) for cell in cells] if self._is_comma else cells

    def _changed(self) -> DatasetError:
        return DatasetError("%s changed while it was read: open it again" % self._file.name)

    def _fault(self, problem: Optional[csv.Error] = None) -> DatasetError:
        """The error of the first line that is at fault: found by reading the file again, row by row."""
        with self._file.opened(newline="") as text:
            reader, line, is_header = csv.reader(text, **self._options), 1, self._has_header
            try:
                while True:
                    line = reader.line_num + 1                 # where the row begins
                    row = next(reader, None)
                    if row is None:
                        break
                    if "\0" in "".join(row):
                        return DatasetError("%s has %s" % (self._file.at(line), NUL))
                    if row and not is_header and len(row) != len(self.columns):
                        return DatasetError("%s has %d cell%s, and %d columns are named: quote cells that hold the "
                                            "delimiter %s, or give another delimiter=" % (
                                                self._file.at(line), len(row), "s" * (len(row) > 1), len(self.columns),
                                                quoted(self._options["delimiter"])))
                    is_header = is_header and not row
            except csv.Error as error:
                problem = error
        if problem is None:
            return self._changed()
        fact = str(problem)
        if "NUL" in fact:
            fact = "it has " + NUL
        elif "unexpected end" in fact:
            fact = "a quote that opens in this row is never closed"
        return DatasetError("%s cannot be read as CSV: %s" % (self._file.at(line), fact))


def _type_of(cells: Sequence[str], known: str) -> str:
    """The type of a column, which has ``known``, INT or FLOAT, in the rows before. So it does not depend on the order
    of the rows."""
    if "" in cells:
        cells = list(filter(None, cells))
    if known == INT:
        try:
            numbers = list(map(int, cells))
        except ValueError:
            pass
        else:
            if list(map(str, numbers)) == list(cells):
                return INT if not numbers or (max(numbers) < _MOST and min(numbers) > -_MOST) else TEXT
    joined = "," + ",".join(cells)
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return TEXT
    return TEXT if "_" in joined or _CODE.search(joined) else FLOAT


def _converted(cells: Sequence[str], known: str) -> Sequence[Any]:
    """The values of a column of numbers. Raises ValueError if a cell is not of its type."""
    convert = int if known == INT else float       # type: Any
    if "" in cells:
        return [convert(cell) if cell else None for cell in cells]
    return list(map(convert, cells))
