"""The ``Input`` of the sources on the command line."""

import glob
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

from stoker.packing.inputs.files import SourceFile, found
from stoker.packing.options import Options
from stoker.packing.samples import Found, Input, LeftOut
from stoker.pipeline.errors import ConfigError, DatasetError, RunFailed
from stoker.pipeline.sources.data_files import OF_MEMBERS
from stoker.pipeline.storage.opening import is_url, open_store
from stoker.pipeline.storage.store import Gone, StoreError
from stoker.pipeline.storage.urls import WEB, parent
from stoker.pipeline.text import native, printable_path

MEGA = 10 ** 6
_WEB = tuple(scheme + "://" for scheme in WEB)


def open_input(options: Options) -> Input:
    """The samples of ``options.sources``. Raises ConfigError, DatasetError."""
    folders = [source for source in options.sources if _is_folder(source)]
    if folders:
        if len(options.sources) > 1:
            raise ConfigError("%s is a folder: give one folder of pictures, or files of one kind" % (
                printable_path(folders[0])))
        return _folder(options)
    files = found(options.sources)
    kinds = sorted({file.kind for file in files})
    if len(kinds) > 1:
        raise ConfigError("the sources are of different kinds, %s: pack each kind into a folder of its own"
                          % " and ".join(kinds))
    return FilesInput(files, _reader(kinds[0], files, options), options.names == "number")


def _is_folder(source: str) -> bool:
    """Whether it is a folder, here or in a store, which has no folders but what names begin with."""
    if not is_url(source):
        return os.path.isdir(native(source))
    if source.endswith("/"):
        return True
    if glob.has_magic(source) or "{" in source:
        return False
    try:
        root, name = parent(source)
        open_store(root).size(name)
        return False
    except Gone as error:
        if not root.lower().startswith(_WEB):
            return True
        if os.path.splitext(name)[1]:
            return False         # a file, by its name, and reading it says that it is not there
        raise DatasetError("%s: check its name; if it is a folder, name its files, as in %s, for a web server does not "
                           "list its folders" % (error, printable_path(source + "/train-{000..099}.tar"))) from error
    except ConfigError:          # of a whole bucket, which is no file
        return True
    except StoreError as error:
        raise DatasetError(str(error)) from error


def _folder(options: Options) -> Input:
    from stoker.packing.inputs.folder import FolderInput
    from stoker.pipeline.sources.folder import scan_folder
    refuse_for("a folder", options, "image_field", "label_field", "folder", "columns")
    dataset = scan_folder(options.sources[0], options.label_word, options.follow_links, options.classes,
                          not options.no_labels, exclude=options.exclude, suffixes=options.suffix)
    return FolderInput(dataset, options.follow_links, options.names == "number")


def _reader(kind: str, files: List[SourceFile], options: Options) -> Any:
    refuse_for("files with samples", options, "label_word", "exclude", "suffix", "follow_links", "no_labels")
    if kind not in OF_MEMBERS:
        refuse_for("%s files: it is for tar and zip files" % kind, options, "folder")
    if kind == "tfrecord":
        from stoker.packing.inputs import tfrecords
        return tfrecords.TFRecordReader(tfrecords.Fields(
            options.image_field or tfrecords.IMAGE, options.label(tfrecords.LABEL), options.columns))
    if kind == "parquet":
        from stoker.packing.inputs import parquet
        return parquet.ParquetReader(parquet.Columns(
            options.image_field or parquet.IMAGE, options.label(parquet.LABEL), options.columns))
    from stoker.packing.inputs import archives
    return archives.ArchiveReader(archives.Members(
        options.image_field, options.label(archives.FOLDER if kind == "zip" else archives.CLS), options.columns,
        options.folder), len(files) > 1)


def refuse_for(what: str, options: Options, *names: str) -> None:
    """Raises ConfigError if one of these options is given."""
    for name in names:
        if getattr(options, name) not in (None, (), False):
            raise ConfigError("--%s is not for %s" % (name.replace("_", "-"), what))


class FilesInput:
    """The samples that ``reader`` finds in files, one after the other."""
    is_light = False
    threads = 1
    unit_name = "MB"

    def __init__(self, files: Sequence[SourceFile], reader: Any, numbers: bool) -> None:
        self._files, self._reader, self._numbers = files, reader, numbers
        self.units = len(files)
        self.not_taken: Dict[str, int] = getattr(reader, "not_taken", {})
        self.bytes = sum(file.size for file in files)
        self.total = max(1, self.bytes // MEGA)
        self.facts: List[Any] = [file.facts for file in files]
        self._read_bytes = 0
        self._ends = [0]
        for file in files:
            self._ends.append(self._ends[-1] + file.size)
        self.by_folder: bool = getattr(reader, "by_folder", False)
        self.class_names: Optional[Tuple[str, ...]] = None
        if hasattr(reader, "class_names"):
            with self._open(files[0]) as raw:
                self.class_names = reader.class_names(files[0], raw)

    def _open(self, file: SourceFile) -> Any:
        try:
            return file.open()
        except StoreError as error:
            raise RunFailed("%s; the same command goes on after the last complete shard" % error) from error
        except OSError as error:
            raise DatasetError("%s cannot be read: %s" % (file.place, error.strerror)) from error

    def records(self, unit: int, start: int, labels_only: bool = False) -> Iterator[Any]:
        """The samples of a file."""
        file = self._files[unit]
        with self._open(file) as raw:
            try:
                for sample in self._reader.records(file, raw, start, labels_only):
                    if not labels_only:
                        self._read_bytes = self._ends[unit] + raw.tell()
                    yield sample._replace(key=None) if self._numbers and isinstance(sample, Found) else sample
            except StoreError as error:
                raise RunFailed("%s; the same command goes on after the last complete shard" % error) from error
            except OSError as error:
                raise RunFailed("%s cannot be read: %s; check its disk, then run the same command again, which goes on "
                                "after the last complete shard" % (file.place, error.strerror or error)) from error

    def load(self, item: Any) -> Union[Found, LeftOut]:
        """The item itself."""
        return item

    def size_of(self, item: Any) -> int:
        """Nothing more than it has."""
        return 0

    def done(self, unit: int, record: int) -> int:
        """The MB of all files before ``unit``, and so much of it as is read."""
        return min(max(self._ends[min(unit, self.units)], self._read_bytes) // MEGA, self.total)


def label_of_first(source: Input, skip: bool) -> Any:
    """The label of the first sample that has none of the flaws for which samples are left out."""
    for unit in range(source.units):
        for sample in source.records(unit, 0, labels_only=True):
            if isinstance(sample, Found):
                return sample.label
            if not skip:
                return None
    return None


def text_labels(source: Input, tick: Callable[[int], None]) -> Tuple[str, ...]:
    """All texts that are labels, in the order of their bytes. ``tick`` is called with the number of each file."""
    names: Set[str] = set()
    for unit in range(source.units):
        names.update(sample.label for sample in source.records(unit, 0, labels_only=True)
                     if isinstance(sample, Found) and isinstance(sample.label, str))
        tick(unit + 1)
    return tuple(sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape")))
