"""Parquet files, read by pyarrow: a column with the bytes of pictures, or of structs {bytes, path} as Hugging Face has
them, a column with labels, and others. Rows come some at a time, so that memory stays bounded."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from stoker.packing.inputs.files import SourceFile, is_of_disk
from stoker.packing.samples import Found, LeftOut
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.storage import checked_json
from stoker.pipeline.text import name_list, printable

IMAGE, LABEL = "image", "label"
_ROWS = 64                    # that are converted at once
_MAX_METADATA = 1 << 22       # bytes of the Hugging Face description


class Columns(NamedTuple):
    """The columns to take. ``label``: '' for none; ``others`` None: none."""
    image: str
    label: str
    others: Optional[Tuple[str, ...]]


def library() -> Any:
    """The module pyarrow.parquet. Raises ConfigError."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet files need the package pyarrow: pip install 'stoker[parquet]' (%s)" % error
                          ) from error
    return pyarrow.parquet


class ParquetReader:
    """The samples of Parquet files."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._library = library()

    def class_names(self, file: SourceFile, raw: Any) -> Optional[Tuple[str, ...]]:
        """The names that Hugging Face's description has for the numbers of the label column; None without them."""
        metadata = self._opened(file, raw).schema_arrow.metadata or {}
        text = metadata.get(b"huggingface", b"")
        if not text or len(text) > _MAX_METADATA:
            return None
        try:
            names = checked_json.loads(text)["info"]["features"][self._columns.label]["names"]
        except (ValueError, KeyError, TypeError):
            return None
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
        return None

    def _opened(self, file: SourceFile, raw: Any) -> Any:
        import pyarrow
        try:
            return self._library.ParquetFile(raw)
        except (pyarrow.ArrowException, ValueError, OSError) as error:
            if is_of_disk(error):
                raise
            raise DatasetError("%s is no Parquet file that can be read: %s" % (file.shown, _line(error))) from error

    def records(self, file: SourceFile, raw: Any, start: int, labels_only: bool) -> Iterator[Union[Found, LeftOut]]:
        """The rows of ``file`` from row ``start`` on."""
        import pyarrow
        parquet = self._opened(file, raw)
        there = parquet.schema_arrow.names
        image, label, others = self._columns
        wanted = [name for name in [image] * (not labels_only) + [label] + list(others or ()) * (not labels_only)
                  if name]
        missing = [name for name in wanted if name not in there]
        if missing:
            raise DatasetError("%s has no column %s, and has %s: name the right ones with --image-field, "
                               "--label-field (none: no labels) and --columns" % (
                                   file.shown, name_list(missing), name_list(there, 20)))
        row = 0
        for group in range(parquet.metadata.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if row + rows <= start:
                row += rows
                continue
            try:
                for batch in parquet.iter_batches(_ROWS, row_groups=[group], columns=wanted):
                    values = {name: batch.column(batch.schema.names.index(name)) for name in wanted}
                    for place in range(batch.num_rows):
                        if row >= start:
                            yield self._sample({name: column[place].as_py() for name, column in values.items()},
                                               "%s, row %d" % (file.shown, row), labels_only)
                        row += 1
            except (pyarrow.ArrowException, ValueError, OSError) as error:
                if is_of_disk(error):
                    raise
                yield LeftOut("%s, row %d" % (file.shown, row), "the file is damaged: %s; the rows behind it in this "
                              "file are lost" % _line(error))
                return

    def _sample(self, values: Dict[str, Any], where: str, labels_only: bool) -> Union[Found, LeftOut]:
        image, label, others = self._columns
        number = values[label] if label else None
        if label and (type(number) not in (int, str)):
            return LeftOut(where, "its label is %.80r, and must be a whole number or a text" % (number,),
                           "name the right column with --label-field, or give --label-field none")
        if labels_only:
            return Found(where, None, number, b"", "")
        data, path = values[image], ""
        if isinstance(data, dict):
            path = data.get("path") or ""
            data = data.get("bytes")
        if not isinstance(data, bytes):
            return LeftOut(where, "it has no picture in the column %s%s" % (
                printable(image), ", only the path of a file elsewhere" if path else ""),
                "name the column with the bytes of pictures with --image-field")
        columns = None if others is None else {name: values[name] for name in others}
        return Found(where, None, number, data, path.rpartition(".")[2] if "." in path else "", columns)


def _line(error: BaseException) -> str:
    lines: List[str] = str(error).splitlines() or [""]
    return printable(lines[0][:200])
